//! The restore function, killed in the middle of each of its steps: nothing is ever claimed that is not so, and the
//! step, or the next restore, goes on from there.

use std::process::Child;
use std::time::Duration;

use localcloud::{Execution, Fault, FaultAction};
use reqwest::Method;
use serde_json::{Value, json};

use super::interruptions::{comment_of, processes, slow_to_index};
use super::rescue::{Asked, Rescue, standby, target};
use crate::faults::clouds;
use crate::faults::subject::wait_until;

/// Longer than it takes to kill whoever waits for it.
const HELD: Duration = Duration::from_secs(60);

fn kill_all(rescue: &Rescue) {
    for pid in processes(rescue.subject.cloud) {
        let killed = std::process::Command::new("kill")
            .args(["-KILL", &pid.to_string()])
            .status();
        assert!(killed.unwrap().success());
    }
}

/// Holds requests to the bucket, for this long.
fn hold(rescue: &Rescue, method: Method, path: &str, pause: Duration) {
    rescue.subject.cloud.faults().add(Fault {
        method: Some(method),
        path: path.into(),
        times: 1,
        action: FaultAction::Delay(pause),
        ..Fault::default()
    });
}

fn is_held(rescue: &Rescue) -> bool {
    let matches = rescue.subject.cloud.faults().matches();
    matches.first().is_some_and(|it| *it > 0)
}

/// Kills the function while a request to the bucket is held.
fn kill_when_held(rescue: &Rescue, what: &str) {
    wait_until(|| is_held(rescue), what);
    kill_all(rescue);
    rescue.subject.cloud.faults().clear();
}

/// A session in the copy that does this and stays.
fn stay(database: &str, sql: &str) -> Child {
    let sql = format!("BEGIN; {sql}; SELECT pg_sleep(600)");
    let mut psql = standby().client("psql", database).unwrap();
    psql.args(["-Xqc", &sql]).spawn().unwrap()
}

/// Ends every session in the copy.
fn clear_out(database: &str, mut child: Child) {
    let sql = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"
    );
    standby().psql("postgres", &sql).unwrap();
    child.wait().unwrap();
}

/// Whether a session of ours waits for the one that stays.
fn waits(database: &str) -> bool {
    let sql = format!(
        "SELECT count(*) > 0 FROM pg_stat_activity
         WHERE datname = '{database}' AND wait_event_type = 'Lock' AND application_name = 'lifeboat'"
    );
    standby().psql("postgres", &sql).unwrap() == "t"
}

async fn approved(rescue: &Rescue, into: &str) -> Asked {
    let asked = rescue.ask(&rescue.request(into)).await;
    let typed = format!("standby/{into}");
    rescue.approve(&asked, &typed).await.unwrap();
    asked
}

async fn killed(rescue: &Rescue, execution: &str) -> Execution {
    let ended = rescue.subject.wait(execution).await;
    rescue.assert_failed(&ended, "Runtime.ExitError", &["signal: killed"]);
    rescue.assert_no_secret(&ended).await;
    ended
}

#[tokio::test]
#[ignore = "minutes: make slow"]
async fn a_function_that_is_killed_at_any_step_claims_nothing_that_is_not_so() {
    let alone = clouds::alone().await;
    let rescue = Rescue::of(alone.cloud, "killed-steps", &slow_to_index(1, 2.0)).await;
    while_planning(&rescue).await;
    while_approving(&rescue).await;
    while_proving(&rescue).await;
    while_finishing(&rescue).await;
    while_reporting(&rescue).await;
    while_comparing(&rescue).await;
}

async fn while_planning(rescue: &Rescue) {
    hold(rescue, Method::PUT, "/plan.json", HELD);
    let cloud = rescue.subject.cloud;
    let request = rescue.request("killed_plan");
    let execution = cloud
        .start_execution("RestoreMachine", &request)
        .await
        .unwrap();
    kill_when_held(rescue, "the plan");
    killed(rescue, &execution).await;
    assert_eq!(comment_of("killed_plan"), "");
}

async fn while_approving(rescue: &Rescue) {
    let asked = rescue.ask(&rescue.request("killed_approval")).await;
    // The decision is written, and nobody was told.
    hold(rescue, Method::GET, "/token-", HELD);
    let typed = "standby/killed_approval";
    let (answer, ()) = tokio::join!(rescue.approve(&asked, typed), async {
        while !is_held(rescue) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        kill_all(rescue);
    });
    rescue.subject.cloud.faults().clear();
    assert_eq!(answer.unwrap_err().0, "Runtime.ExitError");
    rescue.approve(&asked, typed).await.unwrap();
    let ended = rescue.subject.wait(&asked.execution).await;
    assert_eq!(rescue.assert_restored(&ended)["verdict"], "proven");
}

async fn while_proving(rescue: &Rescue) {
    let into = "killed_proof_copy";
    let asked = approved(rescue, into).await;
    // Somebody else seems to be at the proof of the only table.
    let manifest = &rescue.subject.manifests().await[0];
    let dump_id = &manifest["tables"][0]["dump_id"];
    let ledger = "SELECT to_regclass('lifeboat_restore.job') IS NOT NULL";
    let has_begun = || standby().psql(into, ledger).unwrap_or_default() == "t";
    wait_until(has_begun, "the ledger");
    let claim = format!(
        "INSERT INTO lifeboat_restore.job (id, phase) VALUES ('proof:{dump_id}:00000', 'proof')"
    );
    let child = stay(into, &claim);
    wait_until(|| waits(into), "the proof");
    kill_all(rescue);
    killed(rescue, &asked.execution).await;
    clear_out(into, child);
    let comment = comment_of(into);
    assert!(comment.starts_with("Lifeboat: UNUSABLE"), "{comment}");
    let record = rescue.record_of(&asked.plan_id).await;
    assert_eq!(record["plan_id"], asked.plan_id.as_str());
    assert_eq!(record["verdict"], "failed");
}

async fn while_finishing(rescue: &Rescue) {
    let into = "killed_finish";
    // Just long enough to get between the last job and the removal of the ledger.
    hold(rescue, Method::PUT, "/done.json", Duration::from_secs(3));
    let asked = approved(rescue, into).await;
    wait_until(|| is_held(rescue), "the end of all jobs");
    let child = stay(into, "LOCK TABLE lifeboat_restore.run IN ACCESS SHARE MODE");
    wait_until(|| waits(into), "the removal of the ledger");
    kill_all(rescue);
    clear_out(into, child);
    rescue.subject.cloud.faults().clear();
    killed(rescue, &asked.execution).await;
    // All of it is there, and the report lets go of it.
    let record = rescue.record_of(&asked.plan_id).await;
    assert_eq!(record["plan_id"], asked.plan_id.as_str());
    assert_eq!(record["verdict"], "proven");
    assert_eq!(record["failure"]["Error"], "Runtime.ExitError");
    let state = record["target_state"].as_str().unwrap();
    assert!(state.contains("is complete"), "{state}");
    assert_eq!(comment_of(into), "");
    let left = "SELECT count(*) FROM pg_namespace WHERE nspname = 'lifeboat_restore'";
    assert_eq!(standby().psql(into, left).unwrap(), "0");
}

async fn while_reporting(rescue: &Rescue) {
    let before = rescue.newest_record().await;
    hold(rescue, Method::PUT, "/evidence/", HELD);
    let asked = approved(rescue, "killed_report").await;
    kill_when_held(rescue, "the evidence");
    killed(rescue, &asked.execution).await;
    assert_eq!(rescue.newest_record().await, before);
    let report = json!({"report": {"plan_id": asked.plan_id, "outcome": "finished"}});
    let report: Value = rescue.call(&report).await.unwrap();
    assert_eq!(report["verdict"], "proven");
    assert_eq!(
        rescue.record(&report).await["plan_id"],
        asked.plan_id.as_str()
    );
}

/// What came of the restore is written down before anything is compared with live tables.
async fn while_comparing(rescue: &Rescue) {
    let (subject, cloud) = (&rescue.subject, rescue.subject.cloud);
    let live = target("live-killed", &subject.url(), true);
    cloud.configure_targets(vec![live]).await.unwrap();
    let request = json!({"database": subject.name, "scope": {"tables": ["public.t_0"]},
        "target": {"staging": {"target": "live-killed", "schema": "lifeboat_killed"}}});
    let asked = rescue.ask(&request).await;
    hold(rescue, Method::PUT, "restore-differences.json", HELD);
    let typed = "live-killed/killed-steps/lifeboat_killed";
    rescue.approve(&asked, typed).await.unwrap();
    kill_when_held(rescue, "the comparison");
    killed(rescue, &asked.execution).await;
    let record = rescue.record_of(&asked.plan_id).await;
    assert_eq!(record["plan_id"], asked.plan_id.as_str());
    assert_eq!(record["verdict"], "proven");
    // Asked again, it goes on where it was.
    let report = json!({"report": {"plan_id": asked.plan_id, "outcome": "finished"}});
    let report: Value = rescue.call(&report).await.unwrap();
    assert_eq!(report["difference_key"], record["difference_key"]);
    assert_eq!(rescue.record(&report).await, record);
    let key = report["difference_key"].as_str().unwrap();
    cloud.object("VaultBucket", key).await.unwrap();
}
