//! Deadlines and deaths in the middle of a restore.

use std::path::Path;

use localcloud::{Cloud, Override};
use serde_json::json;
use tokio::sync::OnceCell;

use super::rescue::{Rescue, standby};
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
fn slow_to_index(n: u32, seconds: f32) -> String {
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
    let comment = || {
        let sql = "SELECT coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database WHERE datname = 'killed_copy'";
        standby().psql("postgres", sql).unwrap()
    };
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

/// Processes of the restore function of this cloud.
fn processes(cloud: &Cloud) -> Vec<i32> {
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
