//! What is chosen to be drilled, with a real vault behind it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../../tests/s3_folder.rs"]
mod s3_folder;

use std::time::{Duration, Instant};

use drill::{Config, Function, Invocation};
use lambda_runtime::Diagnostic;
use s3_folder::S3Folder;
use serde_json::{Value, json};
use shared::backup::BackupId;
use shared::secret::Secrets;
use shared::store::Bucket;

const POLICY: &str = "
    recipients = ['age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p',
                  'age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj']
    holidays = ['2026-11-02', '2026-11-03']
    [[target]]
    name = 'standby'
    [[database]]
    name = 'app'
    provider = 'postgres'
    [database.drill]
    target = 'standby'";
const LATEST: &str = "20261121T010000Z-nightly";
const OLD: &str = "20260801T010000Z-nightly";

struct World {
    s3: S3Folder,
    _layer: tempfile::TempDir,
    function: Function,
}

impl World {
    async fn new() -> Self {
        let s3 = S3Folder::start().await;
        let layer = tempfile::tempdir().unwrap();
        std::fs::write(layer.path().join("lifeboat.toml"), POLICY).unwrap();
        let config = Config::read(|name| match name {
            "LAYER_ROOT" => Some(layer.path().to_str()?.to_owned()),
            "VAULT_BUCKET" => Some("vault".to_owned()),
            "WORK_BUCKET" => Some("work".to_owned()),
            "TIME_ZONE" => Some("UTC".to_owned()),
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
            _layer: layer,
            function,
        }
    }

    fn committed(&self, id: &str) {
        self.s3
            .write(format!("backups/app/{id}/manifest.json"), "{}");
    }

    /// `at`: the day of November, and the hour.
    fn judged(&self, id: &str, check: &str, at: &str, more: Value) {
        let scheduled: BackupId = id.parse().unwrap();
        let (day, hour) = at.split_once('T').unwrap();
        let mut verdict = json!({"format": 1, "check": check, "database": "app", "backup_id": id,
            "verdict": "passed", "finished_at": format!("2026-11-{day}T{hour}:10:00Z"),
            "snapshot_at": scheduled.scheduled_at(), "findings": []});
        for (name, value) in more.as_object().unwrap() {
            verdict[name] = value.clone();
        }
        let key = format!("verdicts/app/{id}/202611{day}T{hour}1000Z-7f-{check}.json");
        self.s3.write(key, verdict.to_string());
    }

    fn verified(&self, id: &str) {
        self.committed(id);
        self.judged(id, "verify", "21T01", json!({}));
    }

    async fn choose(&self, request: Value, started: &str) -> Result<Value, Diagnostic> {
        let invocation = Invocation {
            request_id: "r1".to_owned(),
            started_at: started.parse().unwrap(),
            begun: Instant::now(),
            deadline: Instant::now() + Duration::from_secs(60),
        };
        let event =
            json!({"choose": {"request": request, "execution": "arn:e", "started": started}});
        self.function.handle(&invocation, event).await
    }

    /// Ids and reasons.
    async fn monthly(&self) -> Vec<(String, String)> {
        let chosen = self.choose(json!({"kind": "monthly"}), "2026-11-21T03:00:00Z");
        let chosen = chosen.await.unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let drills = chosen["drills"].as_array().unwrap().iter();
        drills
            .map(|it| (text(&it["backup_id"]), text(&it["reason"])))
            .collect()
    }
}

#[tokio::test]
async fn the_one_old_backup_that_is_left_has_its_turn_however_many_are_gone() {
    let world = World::new().await;
    world.verified(LATEST);
    let first = "2026-03-01T01:00:00Z".parse::<jiff::Timestamp>().unwrap();
    for night in 0..130 {
        let at = first + jiff::SignedDuration::from_hours(24 * night);
        let id = format!("{}-nightly", at.strftime("%Y%m%dT%H%M%SZ"));
        if night % 2 == 0 {
            // Pruned: its verdicts outlive it.
            world.judged(&id, "verify", "20T01", json!({}));
        } else {
            // Begun, and never committed.
            let key = format!("backups/app/{id}/archive-k3/toc.dat.00000.age");
            world.s3.write(key, "x");
        }
        let key = format!("backups/app/{id}/archive-k3/toc.dat.00000.age");
        world.s3.write(key, "x");
    }
    world.verified(OLD);
    let ids: Vec<String> = world.monthly().await.into_iter().map(|it| it.0).collect();
    assert_eq!(ids, [LATEST, OLD]);
}

#[tokio::test]
async fn that_no_backup_is_old_or_none_of_the_old_is_verified_is_said() {
    let world = World::new().await;
    world.verified(LATEST);
    let reason = || async { world.monthly().await.remove(0).1 };
    assert_eq!(
        reason().await,
        "the latest verified backup; there is no other that is a week old or more"
    );
    world.committed(OLD);
    let said = reason().await;
    assert!(said.ends_with("none is still there and verified"), "{said}");
}

#[tokio::test]
async fn a_verdict_that_passes_and_does_not_say_as_of_when_changes_nothing() {
    let world = World::new().await;
    world.verified(OLD);
    world.verified(LATEST);
    let undated = json!({"snapshot_at": null});
    world.judged(LATEST, "drill", "21T02", undated);
    let chosen = world
        .choose(json!({}), "2026-11-21T03:00:00Z")
        .await
        .unwrap();
    assert_eq!(chosen["drills"][0]["backup_id"], LATEST);
}

#[tokio::test]
async fn rows_that_came_out_different_leave_a_backup_the_latest_until_verify_has_told() {
    for (check, code, expected) in [
        ("drill", "fingerprint_differs", LATEST),
        ("drill", "checksum_differs", OLD),
        ("verify", "fingerprint_differs", OLD),
    ] {
        let world = World::new().await;
        world.verified(OLD);
        world.verified(LATEST);
        let finding = json!({"code": code, "object": null, "window": null, "message": ""});
        let failed = json!({"verdict": "failed", "findings": [finding]});
        world.judged(LATEST, check, "21T02", failed);
        let chosen = world
            .choose(json!({}), "2026-11-21T03:00:00Z")
            .await
            .unwrap();
        assert_eq!(chosen["drills"][0]["backup_id"], expected, "{check} {code}");
    }
}

#[tokio::test]
async fn a_backup_that_does_not_exist_is_a_wrong_input() {
    let world = World::new().await;
    world.verified(LATEST);
    let request = json!({"databases": ["app"], "backup_id": OLD});
    let refused = world.choose(request, "2026-11-21T03:00:00Z").await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.error_type, "Refused");
    let says = refused.error_message;
    assert!(says.contains(&format!("app has no backup {OLD}")), "{says}");
}

#[tokio::test]
async fn on_a_holiday_the_schedules_run_is_to_be_asked_again_on_the_next_business_day() {
    let world = World::new().await;
    world.verified(LATEST);
    let scheduled = json!({"kind": "monthly", "scheduled_time": "2026-11-02T03:00:00Z"});
    let asked = async |request: &Value, started: &str| {
        let chosen = world.choose(request.clone(), started).await.unwrap();
        let n_drills = chosen["drills"].as_array().unwrap().len();
        (chosen["not_before"].clone(), n_drills)
    };
    let later = json!("2026-11-04T03:00:00Z");
    let first = asked(&scheduled, "2026-11-02T03:00:00Z").await;
    assert_eq!(first, (later, 0));
    // After the wait, it is the clock that counts and not what was scheduled.
    let second = asked(&scheduled, "2026-11-04T03:00:00Z").await;
    assert_eq!(second, (json!(null), 1));
    // Whoever starts one by hand means now.
    let by_hand = json!({"kind": "monthly"});
    let now = asked(&by_hand, "2026-11-02T03:00:00Z").await;
    assert_eq!(now, (json!(null), 1));
}
