use super::*;
use serde_json::json;

const EXECUTION: &str = "arn:aws:states:eu-central-1:123456789012:execution:lifeboat-backup:a-1";
const WATCH: &str = "arn:aws:states:eu-central-1:123456789012:execution:lifeboat-watch:a-1";

fn item(committed: bool) -> BackupItem {
    serde_json::from_value(
        json!({"database": "app", "kind": "nightly", "committed": committed,
        "scheduled_time": "2026-11-21T01:00:00Z", "backup_id": "20261121T010000Z-nightly"}),
    )
    .unwrap()
}

fn standing(database: &str, id: Option<&str>) -> Standing {
    let verified = id.map(|id| {
        let id: BackupId = id.parse().unwrap();
        let snapshot_at = id.scheduled_at() + jiff::SignedDuration::from_secs(5);
        VerifiedBackup {
            id,
            snapshot_at,
            manifest_sha256: None,
        }
    });
    Standing {
        database: database.parse().unwrap(),
        verified,
    }
}

/// The backup of app failed at 01:04; the one of the night before is verified.
fn situation(item: &BackupItem) -> Situation<'_> {
    Situation {
        backup: Some(item),
        error: "Refused",
        cause: Some(
            r#"{"errorType":"Refused","errorMessage":"the endpoint ep-x-pooler is pooled: write the direct host into the secret lifeboat/database/app"}"#,
        ),
        execution: EXECUTION,
        noticed_at: "2026-11-21T01:04:30Z".parse().unwrap(),
        vault: Vault::Known(Known {
            committed: Some(false),
            standings: vec![standing("app", Some("20261120T010000Z-nightly"))],
            databases_total: 1,
        }),
    }
}

#[test]
fn a_refused_backup_reads_so() {
    let message = compose(&situation(&item(false)));
    assert_eq!(
        message.subject,
        "Lifeboat: nightly backup of app FAILED - Refused"
    );
    assert_eq!(
        message.body,
        "\
Lifeboat: nightly backup of app FAILED.

What failed: Refused
the endpoint ep-x-pooler is pooled: write the direct host into the secret lifeboat/database/app

Database: app
Backup: 20261121T010000Z-nightly
Scheduled: 2026-11-21 01:00 UTC
Noticed: 2026-11-21 01:04 UTC, 4 minutes later

What it means: this backup does not exist. Nothing of it can be restored. Earlier backups are not affected.

Last verified backup, which can be restored:
- app: 20261120T010000Z-nightly, its data is of 2026-11-20 01:00 UTC (1 day old)

What to do now: change what the text above asks for. Without that it fails the same way every time, so nothing was tried twice.
Then run this one again; what is done already is not repeated:
    aws stepfunctions start-execution --state-machine-arn arn:aws:states:eu-central-1:123456789012:stateMachine:lifeboat-backup --region eu-central-1 --input '{\"databases\":[\"app\"],\"kind\":\"nightly\",\"scheduled_time\":\"2026-11-21T01:00:00Z\"}'

The execution: https://eu-central-1.console.aws.amazon.com/states/home?region=eu-central-1#/v2/executions/details/arn:aws:states:eu-central-1:123456789012:execution:lifeboat-backup:a-1

Another message about the same failure may follow: one that begins with \"Backstop:\" comes from the stack itself and does not depend on this one.
"
    );
}

/// Each of `expected` is in the subject or the body.
fn check(situation: &Situation<'_>, expected: &[&str]) {
    let message = compose(situation);
    let whole = format!("{}\n\n{}", message.subject, message.body);
    for expected in expected {
        assert!(whole.contains(expected), "{expected:?} is not in\n{whole}");
    }
    assert!(message.subject.is_ascii() && message.subject.len() < 100);
    assert!(message.body.len() < 256 << 10);
    assert!(!whole.contains("\n\n\n"), "{whole}");
}

#[test]
fn each_error_name_has_its_own_advice() {
    let item = item(false);
    for (error, expected) in [
        ("Refused", "change what the text above asks for"),
        ("Transient", "tried several times"),
        ("OutOfTime", "does not fit into one invocation"),
        ("Failed", "nothing was retried"),
        ("Sandbox.Timedout", "stopped at its time limit"),
        ("States.Timeout", "stopped at its time limit"),
        ("Runtime.ExitError", "crashed or ran out of memory"),
        (
            "Lambda.TooManyRequestsException",
            "quota of concurrent executions",
        ),
        (
            "States.DataLimitExceeded",
            "the state machine itself failed",
        ),
        ("", "FAILED - an error without a name"),
    ] {
        check(
            &Situation {
                error,
                ..situation(&item)
            },
            &[expected],
        );
    }
}

#[test]
fn a_damaged_backup_is_called_so_and_another_one_is_taken() {
    let item = item(false);
    let report = json!({"verdict": "failed", "findings_total": 1, "findings": [
        {"code": "rows_differ", "object": null, "window": null, "message": "public.orders: 9 rows, not 10"}]})
    .to_string();
    let damaged = Situation {
        error: "NotVerified",
        cause: Some(&report),
        ..situation(&item)
    };
    check(
        &damaged,
        &[
            "What failed: NotVerified\nThe verdict is failed, with 1 finding(s).\n- rows_differ: public.orders: 9 rows",
            "this backup exists and is DAMAGED",
            "delete nothing",
            "Take another backup now:",
            "--input '{\"databases\":[\"app\"]}'",
        ],
    );
}

#[test]
fn an_inconclusive_verdict_is_neither_damage_nor_a_pass() {
    let item = item(true);
    let report = json!({"verdict": "inconclusive", "findings": []}).to_string();
    let doubtful = Situation {
        error: "NotVerified",
        cause: Some(&report),
        ..situation(&item)
    };
    check(
        &doubtful,
        &[
            "could not be read back well enough",
            "lifeboat/identity",
            "Then run this one again",
        ],
    );
}

#[test]
fn what_exists_follows_from_the_vault_and_doubt_is_said() {
    let (planned_to_dump, planned_to_verify) = (item(false), item(true));
    let known = |committed| {
        Vault::Known(Known {
            committed,
            ..Known::default()
        })
    };
    let unknown = || Vault::Unknown {
        reason: "list backups/app/: access denied: AKIACANARY0123456789".to_owned(),
    };
    for (item, vault, expected) in [
        (
            &planned_to_dump,
            known(Some(false)),
            "this backup does not exist. Nothing",
        ),
        (
            &planned_to_dump,
            known(Some(true)),
            "this backup exists, but is not verified",
        ),
        (
            &planned_to_dump,
            unknown(),
            "which of the two could not be told",
        ),
        (
            &planned_to_verify,
            unknown(),
            "this backup exists, but is not verified",
        ),
        (
            &planned_to_dump,
            unknown(),
            "Last verified backup: could not be told, because the vault did not answer as it should:\nlist backups/app/: access denied: AKIA***",
        ),
    ] {
        check(
            &Situation {
                vault,
                ..situation(item)
            },
            &[expected],
        );
    }
}

#[test]
fn a_run_that_failed_as_a_whole_tells_of_every_database() {
    let item = item(false);
    let run = Situation {
        backup: None,
        vault: Vault::Known(Known {
            committed: None,
            standings: vec![
                standing("app", Some("20261119T010000Z-nightly")),
                standing("shop", None),
            ],
            databases_total: 5,
        }),
        ..situation(&item)
    };
    check(
        &run,
        &[
            "Lifeboat: the backup run FAILED - Refused",
            "assume that no database has a backup from this run",
            "- app: 20261119T010000Z-nightly, its data is of 2026-11-19 01:00 UTC (2 days old)",
            "- shop: NONE. There is nothing to restore from.",
            "- and 3 more databases",
            "stateMachine:lifeboat-backup --region eu-central-1 --input '{}'",
        ],
    );
    assert!(!compose(&run).body.contains("Database:"));
}

#[test]
fn a_vault_without_backups_is_said_loudly() {
    let item = item(false);
    let run = Situation {
        backup: None,
        vault: Vault::Known(Known::default()),
        ..situation(&item)
    };
    check(
        &run,
        &["- NONE, of any database. There is nothing to restore from."],
    );
}

#[test]
fn the_watch_is_told_from_a_backup_run() {
    let item = item(false);
    let watch = Situation {
        backup: None,
        execution: WATCH,
        ..situation(&item)
    };
    check(
        &watch,
        &[
            "Lifeboat: the watch for late backups FAILED - Refused",
            "nobody is looking for late or missing backups",
            "stateMachine:lifeboat-watch --region eu-central-1 --input '{}'",
        ],
    );
}

#[test]
fn a_subject_is_short_ascii_whatever_the_error_is_called() {
    let item = item(false);
    let error = "Größe\nüberschritten ".repeat(20);
    let long = Situation {
        error: &error,
        cause: None,
        ..situation(&item)
    };
    check(
        &long,
        &[
            "Lifeboat: nightly backup of app FAILED - Gr??e??berschritten",
            "No cause was given.",
        ],
    );
}

#[test]
fn no_secret_and_no_row_reach_the_message_and_a_huge_cause_fits() {
    let item = item(false);
    let cause = format!(
        "connect to postgres://app:CANARY@db/app; AGE-SECRET-KEY-1CANARY; AKIACANARY0123456789; \
         DETAIL: Failing row contains (CANARY).\n{}",
        "ä".repeat(300 << 10)
    );
    let leaky = Situation {
        error: "password=CANARY",
        cause: Some(&cause),
        execution: "postgres://x:CANARY@y",
        vault: Vault::Unknown {
            reason: "PGPASSWORD=CANARY".to_owned(),
        },
        ..situation(&item)
    };
    check(
        &leaky,
        &["postgres://app:***@db/app", "Failing row contains (***)"],
    );
    let message = compose(&leaky);
    assert!(!format!("{message:?}").contains("CANARY"), "{message:?}");
}
