//! The one-page report, as a phone's browser shows it.

use std::path::Path;
use std::process::{Command, Stdio};

use ::drill::evidence::Evidence;
use serde_json::Value;

use crate::harness::scratch;

/// A small phone; the narrowest that people still carry.
const WIDTHS: [u32; 3] = [320, 390, 1_280];

/// Looks at every text that is drawn: is it inside of the screen, and is its contrast enough
/// for its size? Put into a copy of the page; the page itself has no script.
const LOOK: &str = r#"
const rgb = (text) => (text.match(/[\d.]+/g) || []).map(Number);
const light = (c) => { const f = (v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
  return 0.2126 * f(c[0]) + 0.7152 * f(c[1]) + 0.0722 * f(c[2]); };
const look = (frame) => {
  const page = frame.contentDocument, view = frame.contentWindow;
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
  return {name: frame.name, scroll: page.documentElement.scrollWidth, width: view.innerWidth, texts, faint, outside,
    heading: page.querySelector('h1').getBoundingClientRect().top, text: page.body.innerText};
};
window.onload = () => {
  const found = [...document.querySelectorAll('iframe')].map(look);
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

fn chromium(profile: &Path, arguments: &[String]) -> String {
    let output = Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--disable-dev-shm-usage",
            "--allow-file-access-from-files",
            "--virtual-time-budget=5000",
        ])
        .arg(format!("--user-data-dir={}", profile.display()))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("`make test` installs chromium");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

const VERDICTS: [(&str, &str); 3] = [
    ("passed", "Proven"),
    ("failed", "Not proven"),
    ("inconclusive", "Could not be told"),
];

/// Every page in frames of their widths: a window has a least width of its own.
fn framed(folder: &Path, widths: &[u32], script: &str) -> String {
    let mut frames = String::new();
    for (verdict, _) in VERDICTS {
        let page = ::drill::report::page(&evidence(verdict));
        for (scheme, page) in [("light", page.clone()), ("dark", darkened(&page))] {
            let file = format!("{verdict}-{scheme}.html");
            std::fs::write(folder.join(&file), page).unwrap();
            for width in widths {
                frames.push_str(&format!(
                    "<iframe name='{verdict}-{scheme}-{width}' src='{file}' style='border:0;width:{width}px;height:3600px'></iframe>"
                ));
            }
        }
    }
    let outer = folder.join("frames.html");
    let html = format!(
        "<!doctype html><body style='margin:0;white-space:nowrap'>{frames}<script>{script}</script>"
    );
    std::fs::write(&outer, html).unwrap();
    format!("file://{}", outer.display())
}

#[test]
fn the_page_is_readable_on_every_screen_in_both_schemes() {
    let folder = scratch().join("page");
    std::fs::create_dir_all(&folder).unwrap();
    let frames = framed(&folder, &WIDTHS, LOOK);
    let dom = chromium(&folder.join("profile"), &["--dump-dom".into(), frames]);
    let found = dom
        .split("FOUND")
        .nth(1)
        .and_then(|it| it.split("END").next());
    let found = found.unwrap_or_else(|| panic!("the page was not looked at: {dom}"));
    let found = found
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&");
    let looks: Vec<Value> = serde_json::from_str(&found).unwrap();
    assert_eq!(looks.len(), VERDICTS.len() * 2 * WIDTHS.len());
    for look in looks {
        let name = look["name"].as_str().unwrap();
        let width: u64 = name.rsplit('-').next().unwrap().parse().unwrap();
        assert_eq!(look["width"], width, "{name}");
        assert!(
            look["scroll"].as_u64().unwrap() <= width,
            "{name} scrolls sideways"
        );
        assert_eq!(look["faint"], serde_json::json!([]), "{name}");
        assert_eq!(look["outside"], serde_json::json!([]), "{name}");
        assert!(look["texts"].as_u64().unwrap() > 100, "{name}: {look}");
        assert!(
            look["heading"].as_f64().unwrap() < 150.0,
            "the verdict comes first"
        );
        let text = look["text"].as_str().unwrap();
        let (_, word) = VERDICTS
            .iter()
            .find(|(it, _)| name.starts_with(it))
            .unwrap();
        for expected in [*word, "harbour", "20261122T010000Z-nightly", "Tear down"] {
            assert!(text.contains(expected), "{name}: {expected}");
        }
    }
}

/// For people, who look at it before a release.
#[test]
fn the_page_is_photographed() {
    let folder = scratch().parent().unwrap().join("report");
    std::fs::create_dir_all(&folder).unwrap();
    let frames = framed(&folder, &[390], "");
    let picture = folder.join("report.png");
    let profile = scratch().join("photographer");
    chromium(
        &profile,
        &[
            format!("--screenshot={}", picture.display()),
            "--window-size=2340,3600".into(),
            frames,
        ],
    );
    let bytes = std::fs::metadata(&picture).unwrap().len();
    assert!(bytes > 100_000, "an empty picture");
}
