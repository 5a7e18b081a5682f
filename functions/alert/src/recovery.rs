//! The message about a restore or a drill that failed: what, of which database, what state
//! the target is in, what to do now.

use jiff::Timestamp;
use shared::backup::{BackupId, DatabaseName};
use shared::words;

use crate::cause::Cause;
use crate::execution::Execution;
use crate::message::{ANOTHER_MAY_FOLLOW, Message, Vault, last_verified, one_line_of_ascii};
use crate::redact::redact;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Restore,
    Drill,
}

/// All that is known when the message is written.
#[derive(Clone, Debug)]
pub struct Recovery<'a> {
    pub kind: Kind,
    /// Of the plan, or of the drill.
    pub id: Option<&'a str>,
    pub database: Option<&'a DatabaseName>,
    pub backup_id: Option<BackupId>,
    pub target: Option<&'a str>,
    /// None when nobody could look.
    pub target_state: Option<&'a str>,
    pub error: &'a str,
    pub cause: Option<&'a str>,
    pub execution: &'a str,
    pub noticed_at: Timestamp,
    pub vault: Vault,
}

pub fn compose(recovery: &Recovery<'_>) -> Message {
    let execution = Execution::read(recovery.execution);
    let cause = Cause::read(recovery.cause);
    let error = if recovery.error.is_empty() {
        "an error without a name".to_owned()
    } else {
        redact(recovery.error)
    };
    let headline = headline(recovery);
    let mut blocks = vec![format!("Lifeboat: {headline}.")];
    blocks.push(if cause.text.is_empty() {
        format!("What failed: {error}. No cause was given.")
    } else {
        format!("What failed: {error}\n{}", cause.text)
    });
    blocks.push(facts(recovery));
    blocks.push(format!("What it means: {}", meaning(recovery)));
    blocks.push(format!("The target: {}", target_state(recovery)));
    blocks.push(last_verified(&recovery.vault, recovery.noticed_at));
    blocks.push(format!("What to do now: {}", do_now(recovery)));
    blocks.push(format!(
        "Then start again:\n    {}",
        again(recovery, &execution)
    ));
    blocks.push(format!("The execution: {}", execution.link()));
    blocks.push(ANOTHER_MAY_FOLLOW.to_owned());
    Message {
        subject: one_line_of_ascii(&format!("Lifeboat: {headline} - {error}")),
        body: blocks.join("\n\n") + "\n",
    }
}

impl Recovery<'_> {
    fn database(&self) -> &str {
        self.database
            .map_or("a database", |database| database.as_str())
    }
}

fn headline(recovery: &Recovery<'_>) -> String {
    let database = recovery.database();
    match (recovery.kind, recovery.error) {
        (Kind::Restore, "NotProven") => format!("the restore of {database} is NOT PROVEN"),
        (Kind::Restore, _) => format!("the restore of {database} FAILED"),
        (Kind::Drill, _) => format!("the restore drill of {database} FAILED"),
    }
}

fn facts(recovery: &Recovery<'_>) -> String {
    let id = match recovery.kind {
        Kind::Restore => "Plan",
        Kind::Drill => "Drill",
    };
    let known = [
        ("Database", recovery.database.map(ToString::to_string)),
        (id, recovery.id.map(redact)),
        ("Backup", recovery.backup_id.map(|it| it.to_string())),
        ("Into", recovery.target.map(redact)),
        ("Noticed", Some(words::time(recovery.noticed_at))),
    ];
    let lines = known
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name}: {}", value?)));
    lines.collect::<Vec<_>>().join("\n")
}

fn meaning(recovery: &Recovery<'_>) -> &'static str {
    match (recovery.kind, recovery.error) {
        (Kind::Restore, "NotProven") => {
            "what was restored is not what the backup holds. Do not use it. The backup itself and the source were only read."
        }
        (Kind::Restore, _) => {
            "the restore did not come about. The backup and the source are untouched: whatever can be restored is still there to be restored."
        }
        (Kind::Drill, _) => {
            "this backup is NOT proven: restoring it went wrong, came out different, or could not be tried. Production was not touched. Until it is understood, assume that this database cannot be restored as it should."
        }
    }
}

fn target_state(recovery: &Recovery<'_>) -> String {
    match (recovery.target_state, recovery.kind, recovery.id) {
        (Some(state), _, _) => format!("{}.", redact(state)),
        (None, Kind::Restore, None) => {
            "nothing was written yet: it failed before there was a plan.".to_owned()
        }
        (None, Kind::Restore, Some(_)) => {
            "could not be told. Take it for UNUSABLE: if it exists, its comment says that it is being restored. Drop it before you plan again under its name.".to_owned()
        }
        (None, Kind::Drill, _) => {
            "could not be told. A scratch database may be left; it carries our mark, and the next drill removes it after a day.".to_owned()
        }
    }
}

fn do_now(recovery: &Recovery<'_>) -> &'static str {
    match (recovery.kind, recovery.error) {
        (_, "NotProven") => {
            "see above which tables differ and how. Run verify on this backup; if it passes, somebody wrote into the target, or the target's server stores something else than it is given. Restore again, or restore the backup before it."
        }
        (Kind::Drill, "DrillFailed") => {
            "open the report: it names each check that failed, and its remedy. Take another backup now; if the next drill fails as well, treat it as an incident."
        }
        (_, "Refused") => {
            "change what the text above asks for. Without that it fails the same way every time, so nothing was tried twice."
        }
        (_, "Transient") => {
            "see whether the target's server, the network and AWS are well; this was tried several times and did not recover."
        }
        (_, "OutOfTime") => {
            "one part of it does not fit into an invocation; the text above names it. Restore on any machine that reaches the bucket, where there is no deadline: `make restore`, as docs/RUNBOOK.md says."
        }
        (_, "Sandbox.Timedout" | "States.Timeout") => {
            "the function was stopped at its time limit in the middle of one statement. See in its log which; restore on any machine that reaches the bucket, where there is no deadline: `make restore`, as docs/RUNBOOK.md says."
        }
        (_, "Runtime.ExitError" | "Lambda.Unknown") => {
            "the function crashed or ran out of memory. Its log says which; report a crash with that log."
        }
        (_, name) if name.starts_with("Lambda.") => {
            "AWS could not run the function: see its quota of concurrent executions and the state of AWS."
        }
        (_, name) if name.starts_with("States.") => {
            "the state machine itself failed, not one of the functions. Open the execution below; its last event says where."
        }
        _ => {
            "open the execution below and the log of the function that failed. In a hurry, restore by hand with stock tools: docs/FORMAT.md."
        }
    }
}

fn again(recovery: &Recovery<'_>, execution: &Execution<'_>) -> String {
    match recovery.kind {
        Kind::Restore => execution.start_command("<the input that the execution shows>"),
        Kind::Drill => {
            let input = match recovery.database {
                Some(database) => serde_json::json!({"databases": [database]}).to_string(),
                None => "{}".to_owned(),
            };
            execution.start_command(&input)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Known, Standing};
    use shared::history::VerifiedBackup;

    fn recovery<'a>(kind: Kind, database: &'a DatabaseName) -> Recovery<'a> {
        let id: BackupId = "20261121T010000Z-nightly".parse().unwrap();
        let snapshot_at = "2026-11-21T01:00:04Z".parse().unwrap();
        let verified = Some(VerifiedBackup {
            id,
            snapshot_at,
            manifest_sha256: None,
        });
        Recovery {
            kind,
            id: Some("20261121T030501Z-8f3a2c19d0b4"),
            database: Some(database),
            backup_id: Some(id),
            target: Some("standby/app_restored"),
            target_state: Some("standby/app_restored is UNUSABLE and its comment says so"),
            error: "Failed",
            cause: Some(
                r#"{"errorType":"Failed","errorMessage":"CREATE INDEX users_email: restore postgres://u:CANARY@h/db another way"}"#,
            ),
            execution: "arn:aws:states:eu-central-1:123456789012:execution:lifeboat-restore:a-1",
            noticed_at: "2026-11-21T03:25:30Z".parse().unwrap(),
            vault: Vault::Known(Known {
                committed: None,
                standings: vec![Standing {
                    database: database.clone(),
                    verified,
                }],
                databases_total: 1,
            }),
        }
    }

    fn app() -> DatabaseName {
        "app".parse().unwrap()
    }

    #[test]
    fn a_failed_restore_reads_so() {
        let app = app();
        let message = compose(&recovery(Kind::Restore, &app));
        assert_eq!(
            message.subject,
            "Lifeboat: the restore of app FAILED - Failed"
        );
        assert_eq!(
            message.body,
            "\
Lifeboat: the restore of app FAILED.

What failed: Failed
CREATE INDEX users_email: restore postgres://u:***@h/db another way

Database: app
Plan: 20261121T030501Z-8f3a2c19d0b4
Backup: 20261121T010000Z-nightly
Into: standby/app_restored
Noticed: 2026-11-21 03:25 UTC

What it means: the restore did not come about. The backup and the source are untouched: whatever can be restored is still there to be restored.

The target: standby/app_restored is UNUSABLE and its comment says so.

Last verified backup, which can be restored:
- app: 20261121T010000Z-nightly, its data is of 2026-11-21 01:00 UTC (2 hours 25 minutes old)

What to do now: open the execution below and the log of the function that failed. In a hurry, restore by hand with stock tools: docs/FORMAT.md.

Then start again:
    aws stepfunctions start-execution --state-machine-arn arn:aws:states:eu-central-1:123456789012:stateMachine:lifeboat-restore --region eu-central-1 --input '<the input that the execution shows>'

The execution: https://eu-central-1.console.aws.amazon.com/states/home?region=eu-central-1#/v2/executions/details/arn:aws:states:eu-central-1:123456789012:execution:lifeboat-restore:a-1

Another message about the same failure may follow: one that begins with \"Backstop:\" comes from the stack itself and does not depend on this one.
"
        );
    }

    #[test]
    fn a_failed_drill_says_that_nothing_is_proven() {
        let app = app();
        let message = compose(&Recovery {
            error: "DrillFailed",
            ..recovery(Kind::Drill, &app)
        });
        assert!(message.subject.contains("the restore drill of app FAILED"));
        for expected in [
            "Drill: 20261121T030501Z-8f3a2c19d0b4",
            "this backup is NOT proven",
            "Take another backup now",
            r#"--input '{"databases":["app"]}'"#,
        ] {
            assert!(
                message.body.contains(expected),
                "{expected}: {}",
                message.body
            );
        }
    }

    #[test]
    fn each_error_has_its_own_advice_whatever_is_unknown() {
        let app = app();
        for kind in [Kind::Restore, Kind::Drill] {
            for (error, expected) in [
                ("NotProven", "which tables differ"),
                ("Refused", "change what the text above asks for"),
                ("Transient", "tried several times"),
                ("OutOfTime", "`make restore`"),
                ("Sandbox.Timedout", "`make restore`"),
                ("Runtime.ExitError", "crashed or ran out of memory"),
                ("Lambda.TooManyRequestsException", "quota"),
                (
                    "States.DataLimitExceeded",
                    "the state machine itself failed",
                ),
                ("", "FAILED - an error without a name"),
            ] {
                let message = compose(&Recovery {
                    error,
                    id: None,
                    database: None,
                    backup_id: None,
                    target: None,
                    target_state: None,
                    ..recovery(kind, &app)
                });
                let whole = format!("{}\n{}", message.subject, message.body);
                assert!(
                    whole.contains(expected),
                    "{error}: {expected:?} is not in\n{whole}"
                );
                assert!(!whole.contains("\n\n\n"), "{whole}");
                assert!(message.subject.is_ascii() && message.subject.len() < 100);
            }
        }
    }
}
