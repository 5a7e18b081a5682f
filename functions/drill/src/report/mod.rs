//! The one page beside the evidence: the verdict first, then what a person would rather see
//! than read. One file without anything from outside, for a phone at night. Pure.

mod pictures;
mod style;
mod tables;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use shared::policy::Roles;
use shared::verdict::Verdict;
use shared::words;

use crate::evidence::Evidence;
use crate::timing::short_seconds;

/// The page, complete.
pub fn page(evidence: &Evidence) -> String {
    let title = format!("{} – drill of {}", word(evidence), evidence.drill.database);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="robots" content="noindex";
                title { (title) }
                style { (PreEscaped(style::CSS)) }
            }
            body {
                (verdict(evidence))
                main {
                    (findings(evidence))
                    (figures(evidence))
                    (pictures::timeline(evidence))
                    (pictures::budgets(evidence))
                    (tables::objectives(evidence))
                    (pictures::checks(evidence))
                    (tables::checks(evidence))
                    (tables::notes(evidence))
                    (tables::record(evidence))
                }
                footer { "Lifeboat " (evidence.versions.lifeboat) " · drill " (evidence.drill.drill_id) }
            }
        }
    }
    .into_string()
}

fn word(evidence: &Evidence) -> &'static str {
    match evidence.verdict {
        Verdict::Passed => "Proven",
        Verdict::Failed => "Not proven",
        Verdict::Inconclusive => "Could not be told",
    }
}

fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "good",
        Verdict::Failed => "bad",
        Verdict::Inconclusive => "open",
    }
}

fn verdict(evidence: &Evidence) -> Markup {
    let drill = &evidence.drill;
    let says = match evidence.verdict {
        Verdict::Passed => {
            "This backup was restored into a real PostgreSQL, and came out equal in every table."
        }
        Verdict::Failed => {
            "This backup was drilled, and is not what it should be. Do not rely on it before the findings below are understood."
        }
        Verdict::Inconclusive => {
            "The drill did not get far enough to say. Nothing is known to be wrong with this backup, and nothing is proven."
        }
    };
    html! {
        header class=(class(evidence.verdict)) {
            p.what { (drill.kind) " drill of " b { (drill.database) } }
            h1 { (mark(evidence.verdict)) (word(evidence)) }
            p.says { (says) }
            @if without_roles(evidence) {
                p.says { b { "Owners and grants were not compared" } ", as roles = \"ignore\" in lifeboat.toml says." }
            }
            p.which {
                @match drill.backup_id {
                    Some(id) => { "Backup " span.code { (id) } }
                    None => { "No backup" }
                }
                @if let Some(at) = evidence.snapshot_at { br; "data as of " (words::time(at)) }
            }
        }
    }
}

fn without_roles(evidence: &Evidence) -> bool {
    let plan = evidence.plan.as_ref();
    plan.is_some_and(|it| it.policy.roles == Roles::Ignore)
}

/// A shape beside the colour: not everybody sees the colour.
fn mark(verdict: Verdict) -> Markup {
    let path = match verdict {
        Verdict::Passed => "M5 13l5 5L20 7",
        Verdict::Failed => "M6 6l12 12M18 6L6 18",
        Verdict::Inconclusive => "M8.5 9a3.5 3.5 0 1 1 5 3.2c-1 .5-1.5 1.2-1.5 2.3M12 18.6v.1",
    };
    html! {
        svg.mark viewBox="0 0 24 24" aria-hidden="true" {
            path d=(path) fill="none" stroke="currentColor" stroke-width="3" stroke-linecap="round" stroke-linejoin="round" {}
        }
    }
}

fn findings(evidence: &Evidence) -> Markup {
    let missed = evidence.missed();
    html! {
        @if !evidence.findings.is_empty() {
            section.findings {
                h2 { "What was found" }
                ol {
                    @for finding in &evidence.findings {
                        li {
                            span.code { (code(finding.code)) }
                            p { (finding.message) }
                        }
                    }
                }
            }
        }
        @if !missed.is_empty() {
            section.missed {
                h2 { "Slower, or farther back, than promised" }
                ul { @for missed in &missed { li { (missed) } } }
            }
        }
    }
}

/// As JSON has it, so that a search for it finds the documentation.
fn code(code: impl serde::Serialize) -> String {
    let json = serde_json::to_value(code).unwrap_or_default();
    json.as_str().unwrap_or_default().to_owned()
}

fn figures(evidence: &Evidence) -> Markup {
    let totals = &evidence.totals;
    let recovery = evidence.timing.measured_rto_seconds;
    let figures = [
        (words::grouped(totals.tables), "tables read back"),
        (words::grouped(totals.rows), "rows compared"),
        (words::bytes(totals.copy_bytes), "of row text"),
        (
            recovery.map_or_else(|| "–".to_owned(), short_seconds),
            "from nothing to checked",
        ),
    ];
    html! {
        section.figures {
            @for (figure, what) in figures {
                div { strong { (figure) } span { (what) } }
            }
        }
    }
}

#[cfg(test)]
mod tests;
