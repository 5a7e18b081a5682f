//! The message about how a recovery of production ended: well, or not, and then first of all
//! whether production was changed.

use jiff::Timestamp;
use serde::Deserialize;
use shared::backup::DatabaseName;
use shared::redact::redact;
use shared::words;

use crate::Failure;
use crate::cause::Cause;
use crate::execution::Execution;
use crate::message::{Message, one_line_of_ascii};

/// The machine's name for a hook that failed, whatever came of production.
const UNFREEZE_FAILED: &str = "UnfreezeFailed";

/// A recovery of production, well or not; how much of it is known depends on how far it came.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecoveryEnded {
    #[serde(default)]
    database: Option<DatabaseName>,
    #[serde(default)]
    plan_id: Option<String>,
    /// Absent: it ended well.
    #[serde(default)]
    pub(crate) failure: Option<Failure>,
    #[serde(default)]
    words: Option<String>,
    #[serde(default)]
    production: Option<String>,
    /// `no`, `yes` or `unknown`.
    #[serde(default)]
    change: Option<String>,
    /// Of the steps before, where nobody could say more of them.
    #[serde(default)]
    earlier_failure: Option<Failure>,
    #[serde(default)]
    unfreeze_failure: Option<Failure>,
    /// The ARN of the state machine's execution.
    execution: String,
}

/// All that is known when the message is written.
#[derive(Clone, Debug)]
pub struct Production<'a> {
    pub database: Option<&'a DatabaseName>,
    pub plan_id: Option<&'a str>,
    /// None: production was put back, and is good.
    pub error: Option<&'a str>,
    pub cause: Option<&'a str>,
    /// Error and cause of a step before, and of the unfreeze hook, where there is no report.
    pub earlier: Option<(&'a str, Option<&'a str>)>,
    pub unfreeze: Option<(&'a str, Option<&'a str>)>,
    /// The whole report; none when nobody could look.
    pub words: Option<&'a str>,
    /// What became of production.
    pub production: Option<&'a str>,
    /// Whether it was changed: `no`, `yes`; anything else says that nobody knows.
    pub change: Option<&'a str>,
    pub execution: &'a str,
    pub noticed_at: Timestamp,
}

pub(crate) fn of(ended: &RecoveryEnded, now: Timestamp) -> Message {
    let failure = ended.failure.as_ref();
    compose(&Production {
        database: ended.database.as_ref(),
        plan_id: ended.plan_id.as_deref(),
        error: failure.map(|it| it.error.as_str()),
        cause: failure.and_then(|it| it.cause.as_deref()),
        earlier: told(ended.earlier_failure.as_ref()),
        unfreeze: told(ended.unfreeze_failure.as_ref()),
        words: ended.words.as_deref(),
        production: ended.production.as_deref(),
        change: ended.change.as_deref(),
        execution: &ended.execution,
        noticed_at: now,
    })
}

fn told(failure: Option<&Failure>) -> Option<(&str, Option<&str>)> {
    let failure = failure.filter(|it| !it.error.is_empty())?;
    Some((&failure.error, failure.cause.as_deref()))
}

pub fn compose(ended: &Production<'_>) -> Message {
    let execution = Execution::read(ended.execution);
    let cause = Cause::read(ended.cause);
    let headline = headline(ended);
    let mut blocks = vec![format!("Lifeboat: {headline}.")];
    if let Some(error) = ended.error {
        blocks.push(format!("What failed: {}\n{}", redact(error), cause.text));
    }
    for (what, failed) in [
        ("What failed before", ended.earlier),
        (
            "WRITES MAY STILL BE STOPPED, the unfreeze hook failed",
            ended.unfreeze,
        ),
    ] {
        if let Some((error, cause)) = failed {
            let cause = Cause::read(cause).text;
            blocks.push(format!("{what}: {}\n{cause}", redact(error)));
        }
    }
    blocks.push(facts(ended));
    blocks.push(format!("Production: {}.", production(ended)));
    blocks.extend(ended.words.map(redact));
    blocks.push(format!("What to do now: {}", do_now(ended)));
    if ended.error.is_some() && is_unchanged(ended) {
        let again = execution.start_command("<the input that the execution shows>");
        blocks.push(format!("To plan again:\n    {again}"));
    }
    blocks.push(format!("The execution: {}", execution.link()));
    Message {
        subject: one_line_of_ascii(&format!("Lifeboat: {headline}")),
        body: blocks.join("\n\n") + "\n",
    }
}

fn headline(ended: &Production<'_>) -> String {
    let database = ended.database.map_or("a database", |it| it.as_str());
    match ended.error {
        None => format!("production of {database} was put back"),
        Some(_) if ended.unfreeze.is_some() => {
            format!("writes to {database} may STILL BE STOPPED")
        }
        Some(UNFREEZE_FAILED) => format!("writes to {database} may STILL BE STOPPED"),
        Some(_) => format!("the recovery of production of {database} FAILED"),
    }
}

fn facts(ended: &Production<'_>) -> String {
    let known = [
        ("Database", ended.database.map(ToString::to_string)),
        ("Plan", ended.plan_id.map(redact)),
        ("Noticed", Some(words::time(ended.noticed_at))),
    ];
    let lines = known
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name}: {}", value?)));
    lines.collect::<Vec<_>>().join("\n")
}

fn production(ended: &Production<'_>) -> String {
    match (ended.production, ended.plan_id) {
        (Some(production), _) => redact(production),
        (None, None) => "it was not changed: it failed before there was a plan".to_owned(),
        (None, Some(_)) => "nobody could look whether it was changed. It was, if the Neon project has the branch that the plan names under \"Kept as\"; nothing is lost in either case".to_owned(),
    }
}

/// Certainly so; what failed before there was a plan has changed nothing.
fn is_unchanged(ended: &Production<'_>) -> bool {
    ended.change == Some("no") || ended.plan_id.is_none()
}

fn do_now(ended: &Production<'_>) -> &'static str {
    let is_unchanged = is_unchanged(ended);
    match ended.error {
        None => {
            "look at what changed since, above; rows that are missed are in the branch that was kept. Delete that branch when nobody needs it any more."
        }
        Some(UNFREEZE_FAILED) if is_unchanged || ended.change == Some("yes") => {
            "let writes go on by hand, as the unfreeze hook would, once production is as you want it; its log says why it failed."
        }
        Some(_) if ended.change == Some("yes") => {
            "look at production, and at what the text above says of it. If it is good, go on with it; if not, docs/RUNBOOK.md has the way back (\"Undo a recovery\"). Start no second recovery before you know."
        }
        Some(_) if !is_unchanged => {
            "look in the Neon console for the branch that the text above names, before you do anything else: production was put back if, and only if, it is there (docs/RUNBOOK.md, \"Put production on Neon back\")."
        }
        Some("Refused") => "change what the text above asks for, and plan again.",
        Some("Transient" | "OutOfTime") => {
            "see whether Neon is well (its status page) and what the project's operations in its console say. Then plan again, or do it by hand: docs/RUNBOOK.md, \"A: inside the provider's window\"."
        }
        Some(_) => {
            "open the execution below and the log of the function or the hook that failed. By hand: docs/RUNBOOK.md, \"A: inside the provider's window\"."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(error: Option<&str>, production: Option<&str>) -> String {
        let change = production.map(|it| if it.contains("NOT") { "no" } else { "yes" });
        let app: DatabaseName = "app".parse().unwrap();
        let message = compose(&Production {
            database: Some(&app),
            plan_id: Some("20261121T030501Z-8f3a2c19d0b4"),
            error,
            cause: Some(r#"{"errorType":"X","errorMessage":"no: postgres://u:CANARY@h/db"}"#),
            earlier: None,
            unfreeze: None,
            words: Some("FAILED: production of app"),
            production,
            change,
            execution: "arn:aws:states:eu-central-1:123456789012:execution:lifeboat-recover:a-1",
            noticed_at: "2026-11-21T03:25:30Z".parse().unwrap(),
        });
        assert!(!message.body.contains("CANARY"), "{}", message.body);
        assert!(message.subject.len() < 100);
        format!("{}\n{}", message.subject, message.body)
    }

    #[test]
    fn a_good_end_says_where_what_production_was_is_kept() {
        let text = body(None, Some("production WAS put back"));
        for words in [
            "Lifeboat: production of app was put back\n",
            "Production: production WAS put back.",
            "rows that are missed are in the branch",
        ] {
            assert!(text.contains(words), "{words}\n{text}");
        }
        assert!(!text.contains("start-execution"));
    }

    #[test]
    fn a_bad_end_says_first_whether_production_was_changed() {
        let text = body(Some("Refused"), Some("production was NOT changed"));
        for words in [
            "the recovery of production of app FAILED",
            "What failed: Refused\nno: postgres://u:***@h/db",
            "Production: production was NOT changed.",
            "stateMachine:lifeboat-recover",
        ] {
            assert!(text.contains(words), "{words}\n{text}");
        }
        let unknown = body(Some("Failed"), None);
        for words in ["nobody could look", "before you do anything else"] {
            assert!(unknown.contains(words), "{words}\n{unknown}");
        }
        let changed = body(Some("Refused"), Some("production WAS put back"));
        assert!(changed.contains("Undo a recovery"), "{changed}");
        // Whoever does not know, or has it already, is not told to do it once more.
        for text in [unknown, changed] {
            assert!(!text.contains("start-execution"), "{text}");
        }
    }

    #[test]
    fn where_nobody_could_look_what_failed_before_is_told_all_the_same() {
        let app: DatabaseName = "app".parse().unwrap();
        let message = compose(&Production {
            database: Some(&app),
            plan_id: Some("20261121T030501Z-8f3a2c19d0b4"),
            error: Some("Transient"),
            cause: None,
            earlier: Some(("Refused", Some("the branch is not good"))),
            unfreeze: Some(("HookFailed", None)),
            words: None,
            production: None,
            change: None,
            execution: "arn:x",
            noticed_at: "2026-11-21T03:25:30Z".parse().unwrap(),
        });
        assert_eq!(
            message.subject,
            "Lifeboat: writes to app may STILL BE STOPPED"
        );
        for words in [
            "What failed before: Refused\nthe branch is not good",
            "WRITES MAY STILL BE STOPPED, the unfreeze hook failed: HookFailed",
            "nobody could look",
        ] {
            assert!(message.body.contains(words), "{words}\n{}", message.body);
        }
    }

    #[test]
    fn writes_that_may_be_stopped_are_the_headline() {
        let text = body(Some("UnfreezeFailed"), Some("production was NOT changed"));
        assert!(
            text.starts_with("Lifeboat: writes to app may STILL BE STOPPED"),
            "{text}"
        );
    }
}
