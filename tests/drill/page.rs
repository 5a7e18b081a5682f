//! The one-page report, as a phone's browser shows it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use drill::evidence::Evidence;
use serde_json::Value;

use crate::harness::scratch;

/// A small phone; the narrowest that people still carry.
const WIDTHS: [u32; 3] = [320, 390, 1_280];

/// Looks at every text that is drawn: is it inside of the screen, and is its contrast enough
/// for its size? Put into a copy of the page; the page itself has no script.
const LOOK: &str = r#"
const frame = document.querySelector('iframe');
frame.onload = () => {
  const page = frame.contentDocument, view = frame.contentWindow;
  const rgb = (text) => (text.match(/[\d.]+/g) || []).map(Number);
  const light = (c) => { const f = (v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
    return 0.2126 * f(c[0]) + 0.7152 * f(c[1]) + 0.0722 * f(c[2]); };
  const ground = (element) => { for (let e = element; e; e = e.parentElement) {
    const c = rgb(view.getComputedStyle(e).backgroundColor); if (c.length === 3 || c[3] === 1) return c; } return [255, 255, 255]; };
  const faint = [], outside = [];
  let texts = 0;
  for (const element of page.querySelectorAll('body *')) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    const box = element.getBoundingClientRect();
    if (!own || !box.width || !box.height) continue;
    texts += 1;
    const style = view.getComputedStyle(element);
    const ink = rgb(element.namespaceURI.endsWith('svg') ? style.fill : style.color);
    const [a, b] = [light(ink), light(ground(element))].sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < 4.5) faint.push(`${contrast.toFixed(2)} ${element.textContent.trim().slice(0, 60)}`);
    if (box.left < -0.5 || box.right > view.innerWidth + 0.5) outside.push(element.textContent.trim().slice(0, 60));
  }
  const found = {scroll: page.documentElement.scrollWidth, width: view.innerWidth, texts, faint, outside,
    heading: page.querySelector('h1').getBoundingClientRect().top, text: page.body.innerText};
  document.body.innerHTML = '<pre id="found"></pre>';
  document.getElementById('found').textContent = 'FOUND' + JSON.stringify(found) + 'END';
};
"#;

fn evidence(verdict: &str) -> Evidence {
    let json = include_str!("../../functions/drill/tests/sample-evidence.json");
    let mut evidence: Evidence = serde_json::from_str(json).unwrap();
    evidence.verdict = serde_json::from_value(verdict.into()).unwrap();
    if verdict == "passed" {
        evidence.findings.clear();
        evidence
            .checks
            .retain(|it| serde_json::to_value(it.status).unwrap() != "failed");
    }
    evidence
}

/// As a browser of somebody who prefers dark pages reads it.
fn darkened(page: &str) -> String {
    let dark = page.replace("@media (prefers-color-scheme: dark)", "@media all");
    assert_ne!(dark, page);
    dark
}

fn chromium(arguments: &[String]) -> String {
    let profile = scratch().join("chromium");
    let output = Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--disable-dev-shm-usage",
        ])
        .arg(format!("--user-data-dir={}", profile.display()))
        .args([
            "--allow-file-access-from-files",
            "--virtual-time-budget=5000",
        ])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("`make setup` installs chromium");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The page in a frame of that width: a window has a least width of its own.
fn framed(folder: &Path, name: &str, page: &str, width: u32, script: &str) -> PathBuf {
    let inner = folder.join(format!("{name}-inner.html"));
    std::fs::write(&inner, page).unwrap();
    let outer = folder.join(format!("{name}.html"));
    let frame = format!(
        "<!doctype html><body style='margin:0'><iframe src='{name}-inner.html' style='border:0;width:{width}px;height:6000px'></iframe><script>{script}</script>"
    );
    std::fs::write(&outer, frame).unwrap();
    outer
}

fn look(folder: &Path, name: &str, page: &str, width: u32) -> Value {
    let outer = framed(folder, name, page, width, LOOK);
    let dom = chromium(&["--dump-dom".into(), format!("file://{}", outer.display())]);
    let found = dom
        .split("FOUND")
        .nth(1)
        .and_then(|it| it.split("END").next());
    let found = found.unwrap_or_else(|| panic!("the page was not looked at: {dom}"));
    let found = found
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&");
    serde_json::from_str(&found).unwrap()
}

#[test]
fn the_page_is_readable_on_every_screen_in_both_schemes() {
    let folder = scratch().join("page");
    std::fs::create_dir_all(&folder).unwrap();
    for (verdict, word) in [
        ("passed", "Proven"),
        ("failed", "Not proven"),
        ("inconclusive", "Could not be told"),
    ] {
        let page = drill::report::page(&evidence(verdict));
        for (scheme, page) in [("light", page.clone()), ("dark", darkened(&page))] {
            for width in WIDTHS {
                let name = format!("{verdict}-{scheme}-{width}");
                let found = look(&folder, &name, &page, width);
                assert_eq!(found["width"], width, "{name}");
                assert!(
                    found["scroll"].as_u64().unwrap() <= u64::from(width),
                    "{name} scrolls sideways"
                );
                assert_eq!(found["faint"], serde_json::json!([]), "{name}");
                assert_eq!(found["outside"], serde_json::json!([]), "{name}");
                assert!(found["texts"].as_u64().unwrap() > 100, "{name}: {found}");
                assert!(
                    found["heading"].as_f64().unwrap() < 150.0,
                    "the verdict comes first"
                );
                let text = found["text"].as_str().unwrap();
                for expected in [
                    word,
                    "harbour",
                    "20261122T010000Z-nightly",
                    "Tear down",
                    "Row-level security",
                ] {
                    assert!(
                        text.contains(expected) || verdict == "passed",
                        "{name}: {expected}"
                    );
                }
            }
        }
    }
}

/// For people: the pictures lie where `cargo test` says, and are looked at before a release.
#[test]
fn the_page_is_photographed() {
    let folder = scratch().parent().unwrap().join("report-photographs");
    std::fs::create_dir_all(&folder).unwrap();
    for verdict in ["passed", "failed"] {
        let page = drill::report::page(&evidence(verdict));
        for (scheme, page) in [("light", page.clone()), ("dark", darkened(&page))] {
            let name = format!("{verdict}-{scheme}");
            let outer = framed(&folder, &name, &page, 390, "");
            let picture = folder.join(format!("{name}.png"));
            chromium(&[
                format!("--screenshot={}", picture.display()),
                "--window-size=390,3200".into(),
                format!("file://{}", outer.display()),
            ]);
            let bytes = std::fs::metadata(&picture).unwrap().len();
            assert!(bytes > 20_000, "{name}: an empty picture");
        }
    }
}
