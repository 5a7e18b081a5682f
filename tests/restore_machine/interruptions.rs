//! Deadlines and deaths in the middle of a restore.

use std::path::Path;

use localcloud::cutting_proxy::{Cut, CuttingProxy};
use localcloud::postgres::{Cluster, Major, SUPERUSER};
use localcloud::{Cloud, Fault, FaultAction, Override};
use reqwest::Method;
use serde_json::json;
use tokio::sync::OnceCell;

use super::rescue::{Rescue, SHOP, standby, target};
use crate::faults::clouds;
use crate::faults::subject::wait_until;

/// The timeout of the restore function in the cloud of [`brisk`].
const TIMEOUT_SECONDS: u64 = 20;

/// A cloud whose restore function is stopped after 20 seconds, and whose plans live for 12.
pub(super) async fn brisk() -> &'static Cloud {
    static CLOUD: OnceCell<Cloud> = OnceCell::const_new();
    let start = || {
        clouds::start("brisk", |options| {
            options
                .parameters
                .insert("ApprovalMinutes".into(), "0.2".into());
            options.overrides.push(Override {
                logical_id: "RestoreFunction".into(),
                property: "Timeout".into(),
                value: json!(TIMEOUT_SECONDS),
            });
        })
    };
    CLOUD.get_or_init(start).await
}

/// `n` tables whose index takes `seconds` to build in a copy, and as long to analyze; nothing at the source.
pub(super) fn slow_to_index(n: u32, seconds: f32) -> String {
    let mut sql = format!(
        "CREATE FUNCTION slow(i int, n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
            IF current_database() ~ '_copy' THEN PERFORM pg_catalog.pg_sleep({seconds}); END IF;
            RETURN i + n;
         END $$;"
    );
    for index in 0..n {
        sql.push_str(&format!(
            "CREATE TABLE t_{index} AS SELECT 1 AS i; CREATE INDEX slow_{index} ON t_{index} (slow(i, {index}));"
        ));
    }
    sql
}

#[tokio::test]
#[ignore = "minutes: make slow"]
async fn a_restore_of_four_invocations_ends_proven() {
    let cloud = brisk().await;
    let rescue = Rescue::of(cloud, "four-invocations", &slow_to_index(8, 4.0)).await;
    rescue
        .subject
        .configure(&rescue.subject.url(), "connections = 1")
        .await;
    let before = cloud.function_peak_rss("restore").len();
    let report = rescue
        .restore(&rescue.request("four_copy"), "standby/four_copy")
        .await;
    assert_eq!(report["verdict"], "proven");
    // Planned, asked, approved and reported are four more.
    let invocations = cloud.function_peak_rss("restore").len() - before - 4;
    assert!(invocations >= 4, "{invocations} invocations");
    let indexes =
        "SELECT count(*) FROM pg_index WHERE indisvalid AND indexrelid::regclass::text ~ 'slow_'";
    assert_eq!(standby().psql("four_copy", indexes).unwrap(), "8");
}

#[tokio::test]
#[ignore = "minutes: make slow"]
async fn a_killed_restore_leaves_a_marked_target_and_the_next_one_is_clean() {
    let alone = clouds::alone().await;
    let rescue = Rescue::of(alone.cloud, "killed-restore", &slow_to_index(4, 2.0)).await;
    let asked = rescue.ask(&rescue.request("killed_copy")).await;
    rescue.approve(&asked, "standby/killed_copy").await.unwrap();
    let comment = || comment_of("killed_copy");
    let building = "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = 'killed_copy' AND query ~ 'slow_' AND state = 'active'";
    wait_until(
        || standby().psql("postgres", building).unwrap() == "t",
        "the middle of the restore",
    );
    assert_eq!(comment(), "Lifeboat: being restored, do not use");
    for pid in processes(rescue.subject.cloud) {
        let killed = std::process::Command::new("kill")
            .args(["-KILL", &pid.to_string()])
            .status();
        assert!(killed.unwrap().success());
    }
    let ended = rescue.subject.wait(&asked.execution).await;
    rescue.assert_failed(&ended, "Runtime.ExitError", &["signal: killed"]);
    rescue.assert_no_secret(&ended).await;
    assert!(comment().starts_with("Lifeboat: UNUSABLE"), "{}", comment());
    let record = rescue.newest_record().await;
    assert_eq!(record["verdict"], "failed");
    let state = record["target_state"].as_str().unwrap();
    assert!(
        state.contains("UNUSABLE") && state.contains("DROP DATABASE"),
        "{state}"
    );
    let messages = rescue.messages_about(&asked).await;
    let alert = messages
        .iter()
        .find(|it| it.text.contains("What to do now"));
    let alert = &alert.unwrap().text;
    for expected in [
        "the restore of killed-restore FAILED",
        &asked.plan_id,
        state,
    ] {
        assert!(alert.contains(expected), "{expected}: {alert}");
    }

    // Nobody gets into what it left.
    let plan = json!({"plan": rescue.request("killed_copy")});
    let plan = rescue.call(&plan).await.unwrap();
    assert_eq!(plan["can_be_done"], false, "{plan}");
    let report = rescue
        .restore(
            &rescue.request("killed_again_copy"),
            "standby/killed_again_copy",
        )
        .await;
    assert_eq!(report["verdict"], "proven");
}

/// What a person reads who looks at the database's name.
pub(super) fn comment_of(database: &str) -> String {
    let sql = format!(
        "SELECT coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database WHERE datname = '{database}'"
    );
    standby().psql("postgres", &sql).unwrap()
}

fn failing(method: Method, path: &str) -> Fault {
    Fault {
        method: Some(method),
        path: path.into(),
        times: 10_000,
        action: FaultAction::Status {
            status: 500,
            code: "InternalError".into(),
        },
        ..Fault::default()
    }
}

#[tokio::test]
#[ignore = "minutes: make slow"]
async fn a_bucket_that_fails_in_the_middle_marks_the_target_and_the_next_one_is_clean() {
    let alone = clouds::alone().await;
    let rescue = Rescue::of(alone.cloud, "bucket-gone", SHOP).await;
    let asked = rescue.ask(&rescue.request("bucket_copy")).await;
    // Manifest and table of contents are read, and the tables are made before the first row is missed.
    alone.cloud.faults().add(failing(Method::GET, ".dat.zst"));
    rescue.approve(&asked, "standby/bucket_copy").await.unwrap();
    let ended = rescue.subject.wait(&asked.execution).await;
    alone.cloud.faults().clear();
    rescue.assert_failed(&ended, "Transient", &[]);
    rescue.assert_no_secret(&ended).await;
    assert!(comment_of("bucket_copy").starts_with("Lifeboat: UNUSABLE"));
    assert_eq!(rescue.newest_record().await["verdict"], "failed");
    let messages = rescue.messages_about(&asked).await;
    assert!(
        messages
            .iter()
            .any(|it| it.text.contains("the restore of bucket-gone FAILED"))
    );

    // Its record cannot be read: then rates are assumed.
    alone.cloud.faults().add(failing(Method::GET, "/evidence/"));
    let plan = json!({"plan": rescue.request("bucket_plan")});
    let plan = rescue.call(&plan).await.unwrap();
    assert_eq!(plan["can_be_done"], true, "{plan}");
    assert_ne!(alone.cloud.faults().matches(), [0]);
    alone.cloud.faults().clear();

    let into = rescue.request("bucket_again_copy");
    let report = rescue.restore(&into, "standby/bucket_again_copy").await;
    assert_eq!(report["verdict"], "proven");
}

#[tokio::test]
#[ignore = "minutes: make slow"]
async fn evidence_that_cannot_be_written_is_told_although_the_copy_is_equal() {
    let alone = clouds::alone().await;
    let rescue = Rescue::of(alone.cloud, "no-evidence", SHOP).await;
    let asked = rescue.ask(&rescue.request("no_evidence_copy")).await;
    let path = "/evidence/no-evidence/";
    alone.cloud.faults().add(failing(Method::PUT, path));
    rescue
        .approve(&asked, "standby/no_evidence_copy")
        .await
        .unwrap();
    let ended = rescue.subject.wait(&asked.execution).await;
    alone.cloud.faults().clear();
    rescue.assert_failed(&ended, "Transient", &[]);
    let messages = rescue.messages_about(&asked).await;
    assert!(
        messages
            .iter()
            .any(|it| it.text.contains("the restore of no-evidence FAILED"))
    );
}

#[tokio::test]
async fn a_target_that_is_cut_off_and_then_crashes_is_restored_all_the_same() {
    let rescue = Rescue::new("target-crashes", &slow_to_index(3, 2.0)).await;
    let (own, proxy) = tokio::task::spawn_blocking(|| {
        let own = Cluster::temporary(Major::debian().unwrap()).unwrap();
        let proxy = CuttingProxy::before_port(own.port()).unwrap();
        (own, proxy)
    })
    .await
    .unwrap();
    let url = proxy.url(&own.url(SUPERUSER, SUPERUSER), own.port());
    let cloud = rescue.subject.cloud;
    cloud
        .configure_targets(vec![target("shaky", &url, false)])
        .await
        .unwrap();
    let request = json!({"database": rescue.subject.name,
        "target": {"new_database": {"target": "shaky", "database": "shaky_copy"}}});
    let asked = rescue.ask(&request).await;
    rescue.approve(&asked, "shaky/shaky_copy").await.unwrap();
    let building = "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = 'shaky_copy' AND query ~ 'INDEX slow_' AND state = 'active'";
    let is_building = || own.psql("postgres", building).unwrap() == "t";
    wait_until(is_building, "the first indexes");
    proxy.cut_all(Cut::Reset);
    // What was cut off is still at it for a while; then somebody else is.
    let done = "SELECT count(*) FROM lifeboat_restore.job WHERE id ~ '^post:'";
    let indexes = || own.psql("shaky_copy", done).unwrap();
    wait_until(|| indexes() != "0" && is_building(), "the next indexes");
    own.crash().unwrap();
    own.start_again().unwrap();
    let ended = rescue.subject.wait(&asked.execution).await;
    let report = rescue.assert_restored(&ended);
    assert_eq!(report["verdict"], "proven");
    let valid =
        "SELECT count(*) FROM pg_index WHERE indisvalid AND indexrelid::regclass::text ~ 'slow_'";
    assert_eq!(own.psql("shaky_copy", valid).unwrap(), "3");
    own.stop().unwrap();
}

/// Processes of the restore function of this cloud.
pub(super) fn processes(cloud: &Cloud) -> Vec<i32> {
    let program = cloud.function("restore").unwrap().program.canonicalize();
    let (program, layer) = (program.unwrap(), cloud.home().join("layer"));
    let processes = Path::new("/proc").read_dir().unwrap().flatten();
    let pids =
        processes.filter_map(|entry| entry.file_name().to_string_lossy().parse::<i32>().ok());
    let is_ours = |pid: &i32| {
        let link = |name: &str| std::fs::read_link(format!("/proc/{pid}/{name}")).ok();
        link("exe").is_some_and(|exe| exe == program) && link("cwd").is_some_and(|cwd| cwd == layer)
    };
    pids.filter(is_ours).collect()
}
