//! What has to be read: each check with its remedy, the promises, and who did what.

use maud::{Markup, html};
use shared::words;

use super::code;
use crate::checks::{CheckResult, Status};
use crate::evidence::Evidence;
use crate::objectives::Objective;
use crate::timing::short_seconds;

pub(super) fn status_class(status: Status) -> &'static str {
    match status {
        Status::Passed => "passed",
        Status::Failed => "failed",
        Status::Inconclusive => "inconclusive",
        Status::Note => "note",
    }
}

pub(super) fn icon(status: Status) -> Markup {
    let (path, words) = match status {
        Status::Passed => ("M5 13l5 5L20 7", "passed"),
        Status::Failed => ("M6 6l12 12M18 6L6 18", "failed"),
        Status::Inconclusive => (
            "M8.5 9a3.5 3.5 0 1 1 5 3.2c-1 .5-1.5 1.2-1.5 2.3M12 18.6v.1",
            "could not be told",
        ),
        Status::Note => ("M12 7v.1M12 11v7", "for information"),
    };
    html! {
        svg viewBox="0 0 24 24" role="img" aria-label=(words) {
            path d=(path) fill="none" stroke="currentColor" stroke-width="3" stroke-linecap="round" stroke-linejoin="round" {}
        }
    }
}

pub(super) fn worst_first(evidence: &Evidence) -> Vec<&CheckResult> {
    let mut checks: Vec<&CheckResult> = evidence.checks.iter().collect();
    checks.sort_by_key(|it| match it.status {
        Status::Failed => 0,
        Status::Inconclusive => 1,
        Status::Passed | Status::Note => 2,
    });
    checks
}

/// `34 checks: 32 passed, 1 failed, 1 could not be told`
pub(super) fn counted(evidence: &Evidence) -> String {
    let of = |status| {
        evidence
            .checks
            .iter()
            .filter(|it| it.status == status)
            .count()
    };
    let parts = [
        (of(Status::Failed), "failed"),
        (of(Status::Inconclusive), "could not be told"),
        (of(Status::Passed), "passed"),
        (of(Status::Note), "for information"),
    ];
    let parts = parts.into_iter().filter(|(n, _)| *n > 0);
    let parts: Vec<String> = parts.map(|(n, what)| format!("{n} {what}")).collect();
    format!("{} checks: {}", evidence.checks.len(), parts.join(", "))
}

/// The same check of two tables has two places.
pub(super) fn anchor(check: &CheckResult) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = check.name.chars().map(plain).collect();
    format!("{}-{name}", code(check.code))
}

pub(super) fn checks(evidence: &Evidence) -> Markup {
    html! {
        @if !evidence.checks.is_empty() {
            section {
                h2 { "Every check" }
                ul.checks {
                    @for check in worst_first(evidence) { (one(check)) }
                }
            }
        }
    }
}

fn one(check: &CheckResult) -> Markup {
    html! {
        li class=(status_class(check.status)) id=(anchor(check)) {
            (icon(check.status))
            div {
                span.meta { (check.priority.as_str()) " · " (short_seconds(check.seconds)) }
                span.name { (check.name) }
                p.sum style="margin:0" { (check.summary) }
                @if let Some(remedy) = &check.remedy {
                    @if !remedy.is_empty() { p.remedy { b { "What to do: " } (remedy) } }
                }
                @if !check.details.is_empty() {
                    details open[check.status == Status::Failed && check.details.len() <= 3] {
                        summary { "Show " (words::counted(i64::try_from(check.details.len()).unwrap_or(i64::MAX), "difference")) }
                        pre { (check.details.join("\n")) }
                    }
                }
            }
        }
    }
}

pub(super) fn objectives(evidence: &Evidence) -> Markup {
    html! {
        section.promises {
            h2 { "What a disaster would cost" }
            @for objective in &evidence.objectives { (promise(objective)) }
        }
    }
}

fn promise(objective: &Objective) -> Markup {
    let (class, words) = match objective.kept {
        Some(true) => ("good", "kept"),
        Some(false) => ("bad", "missed"),
        None => ("none", "–"),
    };
    html! {
        div {
            em class=(class) { (words) }
            b { (objective.name.words()) }
            span {
                (objective.words)
                @if let Some(minutes) = objective.objective_minutes {
                    " (objective: " (short_seconds(f64::from(minutes) * 60.0)) ")"
                }
            }
        }
    }
}

pub(super) fn notes(evidence: &Evidence) -> Markup {
    html! {
        @if !evidence.notes.is_empty() {
            section {
                h2 { "Worth knowing" }
                ul { @for note in &evidence.notes { li { (note) } } }
            }
        }
    }
}

/// Who did what, with what, and what it rests on.
pub(super) fn record(evidence: &Evidence) -> Markup {
    let drill = &evidence.drill;
    let versions = &evidence.versions;
    let rests_on = &evidence.rests_on;
    let unknown = || "not known".to_owned();
    let teardown = match (&evidence.teardown.failure, evidence.teardown.is_destroyed) {
        (Some(failure), _) => format!("failed: {failure}"),
        (None, true) => "destroyed".to_owned(),
        (None, false) => {
            "not known to be destroyed; the next drill removes it after a day".to_owned()
        }
    };
    let source = evidence
        .source
        .as_ref()
        .map(|it| format!("{} on {}", it.database, it.host));
    let server = |version: &Option<String>| version.as_ref().map(|it| format!("PostgreSQL {it}"));
    let mut rows = vec![
        ("Started by", drill.started_by.clone()),
        ("Started", words::time(evidence.timing.begun_at)),
        ("Ended", words::time(evidence.finished_at)),
        ("Why this backup", drill.reason.clone()),
        ("Source", source.unwrap_or_else(unknown)),
        (
            "Its server",
            server(&versions.source_server).unwrap_or_else(unknown),
        ),
        ("Drilled on", drill.target.to_string()),
        (
            "Its server",
            server(&versions.target_server).unwrap_or_else(unknown),
        ),
        ("Scratch database", format!("{}: {teardown}", drill.scratch)),
        ("Execution", drill.execution.clone()),
    ];
    if let Some(seconds) = evidence.prediction.before_seconds.filter(|it| *it > 0.0) {
        let from = match evidence.prediction.is_from_measured {
            true => "from what earlier ones measured",
            false => "from assumed rates",
        };
        let predicted = format!("{}, {from}", short_seconds(seconds));
        rows.insert(3, ("Predicted", predicted));
    }
    let mut hashes: Vec<(&str, String)> = [
        ("Manifest", &rests_on.manifest_sha256),
        ("Contents", &rests_on.table_of_contents_sha256),
        ("Plan", &rests_on.plan_sha256),
    ]
    .into_iter()
    .filter_map(|(name, hash)| Some((name, hash.clone()?)))
    .collect();
    let verdicts = rests_on.verdicts.iter();
    hashes.extend(verdicts.map(|it| ("Verdict", format!("{} {}", it.sha256, it.key))));
    html! {
        section {
            h2 { "Record" }
            dl { @for (name, value) in &rows { dt { (name) } dd { (value) } } }
            @if !hashes.is_empty() {
                details {
                    summary { "What it rests on (SHA-256)" }
                    dl { @for (name, value) in &hashes { dt { (name) } dd.code { (value) } } }
                }
            }
        }
    }
}
