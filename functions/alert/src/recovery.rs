//! The message about a restore or a drill that failed: what, of which database, what state
//! the target is in, what to do now.

use jiff::Timestamp;
use shared::backup::{BackupId, DatabaseName};
use shared::redact::redact;
use shared::words;

use crate::cause::{Cause, Report};
use crate::drill::{Drilled, NOT_DESTROYED, NOT_PROVEN};
use crate::execution::Execution;
use crate::message::{ANOTHER_MAY_FOLLOW, Message, Vault, last_verified, one_line_of_ascii};

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
    /// Of a drill that came as far as writing one.
    pub report: Option<Report>,
    pub execution: &'a str,
    /// The bucket's name.
    pub vault_name: &'a str,
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
    let drilled = recovery.drilled();
    let report = recovery.report.as_ref();
    blocks.extend(report.map(|it| redact(&it.in_words())));
    blocks.extend(drilled.missed());
    blocks.push(facts(recovery));
    blocks.push(format!("What it means: {}", meaning(recovery)));
    blocks.push(format!("The target: {}", target_state(recovery)));
    blocks.push(last_verified(&recovery.vault, recovery.noticed_at));
    blocks.extend(drilled.page(recovery.vault_name));
    blocks.push(format!("What to do now: {}", do_now(recovery, &execution)));
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

    fn drilled(&self) -> Drilled<'_> {
        Drilled {
            database: self.database,
            backup_id: self.backup_id,
            report: self.report.as_ref(),
        }
    }
}

/// The message about a drill that proved its backup, and took longer or reached back farther
/// than was promised.
pub fn compose_missed(recovery: &Recovery<'_>) -> Message {
    let execution = Execution::read(recovery.execution);
    let (database, drilled) = (recovery.database(), recovery.drilled());
    let headline = format!("the restore drill of {database} missed what was promised");
    let mut blocks = vec![format!("Lifeboat: {headline}.")];
    blocks.extend(drilled.missed());
    blocks.push(facts(recovery));
    blocks.push("What it means: the backup is proven. Getting it back would take longer, or lose more, than [database.drill] in lifeboat.toml promises.".to_owned());
    blocks.extend(drilled.page(recovery.vault_name));
    blocks.push("What to do now: nothing tonight. See in the report which step takes the time; give the function or the server more, back up more often, or promise less.".to_owned());
    blocks.push(format!("The execution: {}", execution.link()));
    Message {
        subject: one_line_of_ascii(&format!("Lifeboat: {headline}")),
        body: blocks.join("\n\n") + "\n",
    }
}

fn headline(recovery: &Recovery<'_>) -> String {
    let database = recovery.database();
    match (recovery.kind, recovery.error) {
        (Kind::Restore, "NotProven") => format!("the restore of {database} is NOT PROVEN"),
        (Kind::Restore, _) => format!("the restore of {database} FAILED"),
        (Kind::Drill, NOT_DESTROYED) => {
            format!("the restore drill of {database} left its copy behind")
        }
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
        (Kind::Drill, error) => recovery.drilled().meaning(error),
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
        (None, Kind::Drill, _) => recovery.drilled().target_state(),
    }
}

fn do_now(recovery: &Recovery<'_>, execution: &Execution<'_>) -> String {
    match (recovery.kind, recovery.error) {
        (Kind::Drill, NOT_PROVEN | NOT_DESTROYED) => {
            return recovery.drilled().do_now(recovery.error, execution);
        }
        (Kind::Restore | Kind::Drill, _) => {}
    }
    advice(recovery.kind, recovery.error).to_owned()
}

fn advice(kind: Kind, error: &str) -> &'static str {
    match (kind, error) {
        (Kind::Restore, "NotProven") => {
            "see above which tables differ and how. Run verify on this backup; if it passes, somebody wrote into the target, or the target's server stores something else than it is given. Restore again, or restore the backup before it."
        }
        (Kind::Drill, "OutOfTime") => {
            "the text above says what took too long and where to allow more. On any machine that reaches the bucket there is no deadline: `make drill`."
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
        Kind::Drill => recovery.drilled().again(execution),
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
            report: None,
            execution: "arn:aws:states:eu-central-1:123456789012:execution:lifeboat-restore:a-1",
            vault_name: "lifeboat-vault",
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

    /// As the drill function answers, and the state machine hands on.
    fn report(verdict: &str, code: &str, more: &str) -> Report {
        let text = format!(
            r#"{{"database":"app","backup_id":"20261121T010000Z-nightly","verdict":"{verdict}",
                "findings":[{{"code":"{code}","object":null,"window":null,"message":"app.users: one row is missing"}}],
                "findings_total":1,"missed":["Restore took 9 min, its budget is 5 min"],"is_destroyed":true,
                "teardown_failure":null,"seconds":600.5,"verdict_key":"verdicts/app/x-drill.json",
                "evidence_key":"evidence/app/2026/11/x-drill.json","report_key":"evidence/app/2026/11/x-drill.html"{more}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn check(error: &str, report: Option<Report>, expected: &[&str]) -> String {
        let app = app();
        let message = compose(&Recovery {
            error,
            cause: Some("the drill came to its end"),
            target: Some("standby"),
            target_state: None,
            report,
            execution: "arn:aws:states:eu-central-1:123456789012:execution:lifeboat-drill:a-1",
            ..recovery(Kind::Drill, &app)
        });
        for expected in expected {
            let body = &message.body;
            assert!(body.contains(expected), "{expected:?} is not in:\n{body}");
        }
        message.body
    }

    const AGAIN: &str = r#"stateMachine:lifeboat-drill --region eu-central-1 --input '{"backup_id":"20261121T010000Z-nightly","databases":["app"]}'"#;

    #[test]
    fn a_backup_that_is_not_proven_has_the_report_and_what_the_findings_ask_for() {
        let verify = r#"aws lambda invoke --function-name lifeboat-verify --region eu-central-1 --cli-binary-format raw-in-base64-out --payload '{"backup":{"database":"app","kind":"nightly","scheduled_time":"2026-11-21T01:00:00Z"}}' /dev/stdout"#;
        let body = check(
            "NotProven",
            Some(report("failed", "fingerprint_differs", "")),
            &[
                "Lifeboat: the restore drill of app FAILED.",
                "- fingerprint_differs: app.users: one row is missing",
                "Missed:\n- Restore took 9 min",
                "Drill: 20261121T030501Z-8f3a2c19d0b4",
                "aws s3 presign 's3://lifeboat-vault/evidence/app/2026/11/x-drill.html'",
                "it still counts as verified",
                "The target: the scratch database is destroyed.",
                verify,
                AGAIN,
            ],
        );
        assert!(!body.contains("somebody wrote into the target"), "{body}");
        for (verdict, code, expected) in [
            ("failed", "checksum_differs", "no longer counts as verified"),
            ("failed", "checksum_differs", "Take another backup now"),
            ("failed", "catalog_differs", "is still what to restore"),
            ("inconclusive", "check_not_run", "then drill again"),
        ] {
            let body = check("NotProven", Some(report(verdict, code, "")), &[expected]);
            let is_for_verify = code == "checksum_differs";
            assert_eq!(body.contains("lambda invoke"), is_for_verify, "{body}");
        }
    }

    #[test]
    fn a_copy_that_was_left_behind_is_told_beside_what_was_found() {
        let mut left = report("failed", "checksum_differs", "");
        left.is_destroyed = Some(false);
        left.teardown_failure = Some("Transient: connect to postgres://u:CANARY@h/db".to_owned());
        let body = check(
            "NotProven",
            Some(left.clone()),
            &[
                "no longer counts as verified",
                "could NOT be destroyed: Transient: connect to postgres://u:***@h/db",
            ],
        );
        assert!(!body.contains("CANARY"), "{body}");
        left.verdict = shared::verdict::Verdict::Passed;
        left.findings.clear();
        check(
            "NotDestroyed",
            Some(left),
            &[
                "left its copy behind",
                "the backup is proven",
                "DROP DATABASE",
            ],
        );
    }

    #[test]
    fn a_drill_that_was_ended_early_says_what_ended_it() {
        for report in [None, Some(report("inconclusive", "drill_interrupted", ""))] {
            check(
                "Runtime.ExitError",
                report,
                &[
                    "this backup is NOT proven",
                    "crashed or ran out of memory",
                    AGAIN,
                ],
            );
        }
    }

    #[test]
    fn a_promise_that_was_missed_wakes_nobody_and_says_which() {
        let app = app();
        let message = compose_missed(&Recovery {
            report: Some(report("passed", "check_not_run", "")),
            target: Some("standby"),
            ..recovery(Kind::Drill, &app)
        });
        assert_eq!(
            message.subject,
            "Lifeboat: the restore drill of app missed what was promised"
        );
        for expected in ["- Restore took 9 min", "the backup is proven", "presign"] {
            assert!(message.body.contains(expected), "{}", message.body);
        }
    }

    #[test]
    fn each_error_has_its_own_advice_whatever_is_unknown() {
        let app = app();
        for kind in [Kind::Restore, Kind::Drill] {
            for (error, expected) in [
                ("Refused", "change what the text above asks for"),
                ("Transient", "tried several times"),
                ("OutOfTime", "there is no deadline"),
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
