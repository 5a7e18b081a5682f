//! What a failure means and what to do about it.

use jiff::Timestamp;
use serde_json::json;
use shared::backup::BackupItem;
use shared::verdict::Verdict;

/// What failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) backup: Option<&'a BackupItem>,
    /// None when it could not be told.
    pub(crate) committed: Option<bool>,
    pub(crate) is_watch: bool,
    pub(crate) verdict: Option<Verdict>,
}

#[derive(Clone, Debug)]
pub(crate) struct Advice {
    pub(crate) meaning: &'static str,
    pub(crate) do_first: &'static str,
    pub(crate) then_start: &'static str,
    /// JSON for the state machine.
    pub(crate) start_input: String,
}

pub(crate) fn advice(subject: &Subject<'_>, error: &str) -> Advice {
    let is_damaged = subject.verdict == Some(Verdict::Failed);
    let (then_start, start_input) = match subject.backup {
        Some(item) if is_damaged => (
            "Take another backup now:",
            json!({"databases": [item.database]}).to_string(),
        ),
        Some(item) => (
            "Then run this one again; what is done already is not repeated:",
            again(item),
        ),
        None if subject.is_watch => ("Then look again:", "{}".to_owned()),
        None => ("Then back up every database:", "{}".to_owned()),
    };
    Advice {
        meaning: meaning(subject),
        do_first: do_first(subject, error),
        then_start,
        start_input,
    }
}

fn again(item: &BackupItem) -> String {
    let scheduled = Timestamp::from_second(item.scheduled_time.as_second());
    json!({
        "kind": item.kind,
        "scheduled_time": scheduled.unwrap_or(item.scheduled_time),
        "databases": [item.database],
    })
    .to_string()
}

fn meaning(subject: &Subject<'_>) -> &'static str {
    match (subject.backup, subject.committed, subject.verdict) {
        (None, _, _) if subject.is_watch => {
            "nobody is looking for late or missing backups until this works again. The backups themselves are taken all the same."
        }
        (None, _, _) => {
            "assume that no database has a backup from this run. Earlier backups are not affected."
        }
        (Some(_), _, Some(Verdict::Failed)) => {
            "this backup exists and is DAMAGED, or is not what it says it is. Do not rely on it. Earlier backups are not affected."
        }
        (Some(_), _, Some(Verdict::Inconclusive)) => {
            "this backup exists, but could not be read back well enough to say whether it is whole. Do not rely on it yet."
        }
        (Some(_), Some(true), _) => {
            "this backup exists, but is not verified: nothing is known to be wrong with it, and nothing is known to be right. Do not rely on it yet."
        }
        (Some(_), Some(false), _) => {
            "this backup does not exist. Nothing of it can be restored. Earlier backups are not affected."
        }
        (Some(_), None, _) => {
            "this backup does not exist, or is not verified; which of the two could not be told. Do not rely on it. Earlier backups are not affected."
        }
    }
}

fn do_first(subject: &Subject<'_>, error: &str) -> &'static str {
    match subject.verdict {
        Some(Verdict::Failed) => {
            return "delete nothing: the damaged objects are the evidence, and they are locked. Find out who or what changed them.";
        }
        Some(Verdict::Inconclusive) => {
            return "remove what the findings name: rights of the verify function, the secret lifeboat/identity, or the storage.";
        }
        Some(Verdict::Passed) | None => {}
    }
    match error {
        "Refused" => {
            "change what the text above asks for. Without that it fails the same way every time, so nothing was tried twice."
        }
        "Transient" => {
            "see whether the database, the network and AWS are well; this was tried several times and did not recover."
        }
        "OutOfTime" => {
            "it does not fit into one invocation; the numbers are above. Give the function more memory (it brings more CPUs), allow more connections in lifeboat.toml, or start it when the database is less busy."
        }
        "Sandbox.Timedout" | "States.Timeout" => {
            "the function was stopped at its time limit. See in its log how far it came; give it more memory (it brings more CPUs), or start it when the database is less busy."
        }
        "Runtime.ExitError" | "Lambda.Unknown" => {
            "the function crashed or ran out of memory. Its log says which; give it more memory, and report a crash with that log."
        }
        "NotVerified" => {
            "open the execution below and see what verify answered; it gave no verdict."
        }
        name if name.starts_with("Lambda.") => {
            "AWS could not run the function: see its quota of concurrent executions and the state of AWS."
        }
        name if name.starts_with("States.") => {
            "the state machine itself failed, not one of the functions. Open the execution below; its last event says where."
        }
        _ => {
            "open the execution below and the log of the function that failed; nothing was retried, since nothing says that it would help."
        }
    }
}
