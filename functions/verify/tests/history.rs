//! What verify makes of the history in a real vault: the plan and the watch.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "history/proofs.rs"]
mod proofs;
#[path = "../../../tests/s3_folder.rs"]
mod s3_folder;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use lambda_runtime::Diagnostic;
use s3_folder::S3Folder;
use serde_json::{Value, json};
use shared::backup::{BackupId, DatabaseName};
use shared::key::Key;
use shared::manifest::Totals;
use shared::secret::Secrets;
use shared::store::Bucket;
use shared::verdict::{Check, FORMAT, Finding, Verdict, VerdictRecord};
use verify::{Config, Function, Invocation};

const RECIPIENTS: &str =
    "recipients = [\"age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p\",
    \"age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj\"]\n";

/// A vault, and the function that looks into it.
struct World {
    s3: S3Folder,
    layer: tempfile::TempDir,
    function: Function,
}

impl World {
    async fn new(databases: &[&str]) -> Self {
        Self::with(databases, "").await
    }

    /// `more` stands in the block of every database.
    async fn with(databases: &[&str], more: &str) -> Self {
        Self::of("postgres", databases, more).await
    }

    async fn of(provider: &str, databases: &[&str], more: &str) -> Self {
        let s3 = S3Folder::start().await;
        let layer = tempfile::tempdir().unwrap();
        let blocks = databases.iter().map(|name| {
            format!("[[database]]\nname = \"{name}\"\nprovider = \"{provider}\"\n{more}")
        });
        let target = "[[target]]\nname = \"standby\"\n";
        let text = RECIPIENTS.to_owned() + &blocks.collect::<String>() + target;
        std::fs::write(layer.path().join("lifeboat.toml"), text).unwrap();
        let config = Config::read(|name| match name {
            "LAYER_ROOT" => Some(layer.path().to_str()?.to_owned()),
            "VAULT_BUCKET" => Some("vault".to_owned()),
            "NIGHTLY_SCHEDULE" => Some("cron(0 1 * * ? *)".to_owned()),
            "TIME_ZONE" => Some("UTC".to_owned()),
            "WORK_BUCKET" => Some("work".to_owned()),
            _ => None,
        });
        let aws = s3_folder::aws_at(s3.endpoint()).await;
        let function = Function {
            config: config.unwrap(),
            vault: Bucket::new(&aws, "vault".to_owned()),
            work: Bucket::new(&aws, "work".to_owned()),
            secrets: Secrets::new(&aws),
        };
        Self {
            s3,
            layer,
            function,
        }
    }

    /// Objects of an attempt, without a manifest.
    fn begun(&self, database: &str, id: &str) {
        self.s3.write(
            Key::Archive {
                database: &name(database),
                id: parsed(id),
                attempt: "k3",
                object: "toc.dat.00000.age",
            },
            "x",
        );
    }

    fn committed(&self, database: &str, id: &str) {
        self.begun(database, id);
        let manifest = Key::Manifest(&name(database), parsed(id));
        self.s3.write(manifest, format!("manifest of {id}"));
    }

    fn judged(&self, database: &str, id: &str, verdict: Verdict, at: &str) {
        self.found((database, id), (Check::Verify, verdict), at, vec![]);
    }

    fn found(
        &self,
        (database, id): (&str, &str),
        (check, verdict): (Check, Verdict),
        at: &str,
        findings: Vec<Finding>,
    ) {
        let (database, at): (DatabaseName, Timestamp) = (name(database), at.parse().unwrap());
        let record = VerdictRecord {
            format: FORMAT,
            check,
            database: database.clone(),
            backup_id: parsed(id),
            verdict,
            started_at: at,
            finished_at: at,
            snapshot_at: Some(parsed(id).scheduled_at()),
            manifest_sha256: None,
            manifest_version_id: None,
            totals: Totals::default(),
            findings,
            lifeboat: "0.1.0".to_owned(),
        };
        self.s3.write(
            Key::Verdict {
                database: &database,
                id: parsed(id),
                at,
                nonce: "7f",
                check,
            },
            serde_json::to_vec(&record).unwrap(),
        );
    }

    fn verified(&self, database: &str, id: &str) {
        self.committed(database, id);
        self.judged(database, id, Verdict::Passed, "2026-11-21T01:10:00Z");
    }

    async fn ask(&self, now: &str, event: Value) -> Result<Value, Diagnostic> {
        let invocation = Invocation {
            request_id: "r1".to_owned(),
            started_at: now.parse().unwrap(),
            deadline: Instant::now() + Duration::from_secs(60),
        };
        self.function.handle(&invocation, event).await
    }

    async fn plan(&self, request: Value) -> Value {
        let started = "2026-11-21T01:20:00.123Z";
        let event =
            json!({"plan_backups": {"request": request, "execution": "arn", "started": started}});
        self.ask(started, event).await.unwrap()
    }

    async fn watch(&self, now: &str) -> Value {
        self.ask(now, json!({"watch": {}})).await.unwrap()
    }
}

fn name(database: &str) -> DatabaseName {
    database.parse().unwrap()
}

fn parsed(id: &str) -> BackupId {
    id.parse().unwrap()
}

const TONIGHT: &str = "20261121T010000Z-nightly";
const LAST_NIGHT: &str = "20261120T010000Z-nightly";

fn nightly() -> Value {
    json!({"kind": "nightly", "scheduled_time": "2026-11-21T01:00:00Z"})
}

#[tokio::test]
async fn an_empty_vault_has_everything_due_and_nothing_before_it() {
    let world = World::new(&["app", "shop"]).await;
    let item = |database: &str| {
        json!({"database": database, "kind": "nightly", "scheduled_time": "2026-11-21T01:00:00Z",
            "backup_id": TONIGHT, "committed": false, "previous": null, "from_branch": false,
            "source_branch": null})
    };
    assert_eq!(
        world.plan(nightly()).await,
        json!({"backups": [item("app"), item("shop")], "already_verified": []})
    );
}

#[tokio::test]
async fn a_second_run_leaves_out_what_is_verified_and_only_verifies_what_is_committed() {
    let world = World::new(&["app", "blog", "shop"]).await;
    world.verified("app", TONIGHT);
    world.committed("blog", TONIGHT);
    world.begun("shop", TONIGHT);
    let plan = world.plan(nightly()).await;
    assert_eq!(plan["already_verified"], json!([TONIGHT]));
    let due: Vec<(Option<&str>, Option<bool>)> = plan["backups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| (item["database"].as_str(), item["committed"].as_bool()))
        .collect();
    assert_eq!(
        due,
        [(Some("blog"), Some(true)), (Some("shop"), Some(false))]
    );
}

#[tokio::test]
async fn the_previous_backup_is_the_newest_committed_one_of_the_same_kind_before() {
    let world = World::new(&["app"]).await;
    world.committed("app", "20261118T010000Z-nightly");
    world.committed("app", "20261119T010000Z-nightly");
    world.begun("app", LAST_NIGHT);
    world.committed("app", "20261120T120000Z-on-demand");
    world.committed("app", "20261122T010000Z-nightly");
    world.committed("app-2", LAST_NIGHT);
    let plan = world.plan(nightly()).await;
    assert_eq!(
        plan["backups"][0]["previous"],
        json!({
            "backup_id": "20261119T010000Z-nightly",
            // printf 'manifest of 20261119T010000Z-nightly' | sha256sum
            "manifest_sha256": "5584752363fcef9405e5448b064b1f12b0c99b298df8b4059e4dd4d83a940301",
        })
    );
}

#[tokio::test]
async fn a_verdict_counts_only_if_nothing_newer_contradicts_it() {
    for (verdicts, expected_due) in [
        (vec![Verdict::Failed], true),
        (vec![Verdict::Inconclusive], true),
        (vec![Verdict::Passed], false),
        (vec![Verdict::Passed, Verdict::Failed], true),
        (vec![Verdict::Failed, Verdict::Passed], false),
        (vec![Verdict::Passed, Verdict::Inconclusive], false),
    ] {
        let world = World::new(&["app"]).await;
        world.committed("app", TONIGHT);
        for (minute, verdict) in verdicts.iter().enumerate() {
            world.judged(
                "app",
                TONIGHT,
                *verdict,
                &format!("2026-11-21T01:1{minute}:00Z"),
            );
        }
        let plan = world.plan(nightly()).await;
        let is_due = plan["backups"].as_array().unwrap().len() == 1;
        assert_eq!(is_due, expected_due, "{verdicts:?}");
    }
}

#[tokio::test]
async fn a_verdict_that_cannot_be_read_or_is_about_another_backup_is_no_pass() {
    for foreign in [
        "{".to_owned(),
        json!({"format": 2, "verdict": "passed"}).to_string(),
        json!({"format": 1, "database": "shop", "backup_id": TONIGHT, "verdict": "passed",
            "snapshot_at": "2026-11-21T01:00:05Z"})
        .to_string(),
    ] {
        let world = World::new(&["app"]).await;
        world.verified("app", TONIGHT);
        let newer = format!("verdicts/app/{TONIGHT}/20261121T011500Z-aa-verify.json");
        world.s3.write(newer, &foreign);
        let plan = world.plan(nightly()).await;
        assert_eq!(plan["backups"][0]["committed"], json!(true), "{foreign}");
    }
}

#[tokio::test]
async fn a_configuration_that_is_not_there_is_refused() {
    let world = World::new(&["app"]).await;
    std::fs::remove_file(world.layer.path().join("lifeboat.toml")).unwrap();
    for event in [
        json!({"watch": {}}),
        json!({"plan_backups": {"request": {}, "started": "2026-11-21T01:20:00Z"}}),
    ] {
        let error = world.ask("2026-11-21T01:20:00Z", event).await.unwrap_err();
        assert_eq!(error.error_type, "Refused");
        assert!(
            error
                .error_message
                .contains("is the configuration layer attached"),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn two_hundred_databases_are_planned_in_one_answer() {
    let names: Vec<String> = (0..200).map(|n| format!("database-{n:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let world = World::new(&names).await;
    for name in &names {
        world.committed(name, LAST_NIGHT);
    }
    let plan = world.plan(nightly()).await;
    let planned: Vec<&str> = plan["backups"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|item| item["database"].as_str())
        .collect();
    assert_eq!(planned, names);
    assert!(plan.to_string().len() < 128 << 10);
}

#[tokio::test]
async fn a_database_with_tonights_verified_backup_is_not_overdue() {
    let world = World::new(&["app"]).await;
    world.verified("app", TONIGHT);
    assert_eq!(
        world.watch("2026-11-21T02:30:00Z").await,
        json!({
            "databases": [{"database": "app", "overdue_minutes": 0, "proof_overdue_minutes": null, "last_proven": null,
                "branch_drill_overdue_minutes": null, "last_branch_drill": null, "last_committed": TONIGHT, "last_verified": TONIGHT}],
            "databases_total": 1,
            "overdue_total": 0,
        })
    );
}

#[tokio::test]
async fn a_committed_backup_that_is_not_verified_is_overdue() {
    let world = World::new(&["app"]).await;
    world.verified("app", LAST_NIGHT);
    world.committed("app", TONIGHT);
    world.judged("app", TONIGHT, Verdict::Failed, "2026-11-21T01:10:00Z");
    let watched = world.watch("2026-11-21T02:30:00Z").await;
    assert_eq!(
        watched["databases"][0],
        json!({"database": "app", "overdue_minutes": 30, "proof_overdue_minutes": null, "last_proven": null,
            "branch_drill_overdue_minutes": null, "last_branch_drill": null, "last_committed": TONIGHT, "last_verified": LAST_NIGHT})
    );
}

#[tokio::test]
async fn a_backup_by_hand_stands_in_for_the_night_that_failed() {
    let world = World::new(&["app"]).await;
    world.verified("app", LAST_NIGHT);
    world.verified("app", "20261121T021000Z-on-demand");
    let watched = world.watch("2026-11-21T02:30:00Z").await;
    assert_eq!(watched["overdue_total"], json!(0));
}

#[tokio::test]
async fn neither_a_pruned_backup_nor_one_of_the_future_hides_that_none_is_there() {
    let world = World::new(&["app", "blog"]).await;
    world.judged("app", TONIGHT, Verdict::Passed, "2026-11-21T01:10:00Z");
    world.verified("blog", "20301121T010000Z-nightly");
    let watched = world.watch("2026-11-21T02:30:00Z").await;
    for n in [0, 1] {
        let database = &watched["databases"][n];
        assert_eq!(database["overdue_minutes"], json!(30), "{database}");
        assert_eq!(database["last_verified"], json!(null), "{database}");
    }
}

#[tokio::test]
async fn the_answer_holds_the_ten_worst_of_many() {
    let names: Vec<String> = (0..30).map(|n| format!("database-{n:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let world = World::new(&names).await;
    for name in &names[..29] {
        world.verified(name, TONIGHT);
    }
    let watched = world.watch("2026-11-21T02:30:00Z").await;
    assert_eq!(watched["databases"].as_array().unwrap().len(), 10);
    assert_eq!(watched["databases"][0]["database"], json!("database-29"));
    assert_eq!(watched["databases_total"], json!(30));
    assert_eq!(watched["overdue_total"], json!(1));
}
