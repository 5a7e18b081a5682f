use super::*;
use crate::checks::CheckCode;
use crate::evidence::Evidence;

/// A drill with one of everything.
pub(crate) fn sample(verdict: &str) -> Evidence {
    let text = include_str!("../../tests/sample-evidence.json");
    let mut evidence: Evidence = serde_json::from_str(text).unwrap();
    evidence.verdict = serde_json::from_value(verdict.into()).unwrap();
    evidence
}

#[test]
fn the_verdict_comes_first_and_in_words() {
    for (verdict, word) in [
        ("passed", "Proven"),
        ("failed", "Not proven"),
        ("inconclusive", "Could not be told"),
    ] {
        let page = page(&sample(verdict));
        let heading = page.find("<h1>").unwrap();
        let first_section = page.find("<section").unwrap();
        assert!(heading < first_section);
        assert!(page[heading..first_section].contains(word), "{verdict}");
    }
}

#[test]
fn the_page_needs_nothing_from_outside() {
    let page = page(&sample("failed"));
    for outside in [
        "<script", "<link", "<img", "src=", "url(", "@import", "http://", "https://",
    ] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn what_a_name_holds_is_text() {
    let mut evidence = sample("failed");
    evidence.drill.started_by = "<script>alert(1)</script>".to_owned();
    evidence.checks[0].name = "\"><img src=x>".to_owned();
    let page = page(&evidence);
    assert!(!page.contains("<script") && !page.contains("<img"));
    assert!(page.contains("&lt;script&gt;"));
}

#[test]
fn every_check_has_a_tile_and_a_line() {
    let evidence = sample("failed");
    let page = page(&evidence);
    for check in &evidence.checks {
        assert!(
            page.matches(&super::tables::anchor(check)).count() >= 2,
            "{}",
            check.name
        );
    }
    assert!(
        evidence
            .checks
            .iter()
            .any(|it| it.code == CheckCode::CatalogPolicies)
    );
}

#[test]
fn durations_are_short() {
    for (seconds, expected) in [
        (0.0, "0"),
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (42.4, "42 s"),
        (60.0, "1 min"),
        (185.0, "3 min 5 s"),
        (7_440.0, "2 h 4 min"),
        (3_600.0, "1 h"),
    ] {
        assert_eq!(short_seconds(seconds), expected);
    }
}
