//! Drills of a branch: a state of a week ago, made, looked at, timed and deleted.

use std::time::Duration;

use jiff::Timestamp;
use localcloud::neon::{NeonFault, NeonFaultAction, ProjectOptions};
use localcloud::{Execution, Target};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::by_shell;
use super::stage::Stage;
use crate::faults::subject::wait_until;

const SEED: &str =
    "CREATE TABLE orders AS SELECT i, now() AS made_at FROM generate_series(1, 2000) i;
     CREATE TABLE nothing (i int)";
const NOTHING: [String; 0] = [];

/// One of them kills every drill function of the cloud.
static TURN: Mutex<()> = Mutex::const_new(());

pub(super) fn old_project() -> ProjectOptions {
    ProjectOptions {
        seed: SEED.to_owned(),
        age: Duration::from_secs(10 * 86_400),
        history_retention_seconds: Some(30 * 86_400),
        is_protected: true,
        ..ProjectOptions::default()
    }
}

/// A query of the drill's policy, and what it must give.
fn assertion(query: &str, expect: &str) -> String {
    format!(
        "[[database.drill.sql]]\nname = \"as it was\"\nquery = \"{query}\"\nexpect = \"{expect}\"\n"
    )
}

/// `neon` is further lines of `[database.neon]`, `drill` of `[database.drill]`.
pub(super) async fn configure(stage: &Stage, neon: &str, drill: &str) {
    let target = format!("on-{}", stage.name);
    let nobody = Target {
        name: target.clone(),
        url: "postgresql://nobody:CANARY@127.0.0.1:1/nothing".to_owned(),
        live: false,
    };
    stage.cloud.configure_targets(vec![nobody]).await.unwrap();
    let policy =
        format!("dump_compute = 0.25\n{neon}\n[database.drill]\ntarget = \"{target}\"\n{drill}");
    stage.configure(&policy).await;
}

fn input(stage: &Stage) -> Value {
    json!({"databases": [stage.name], "kind": "branch", "started_by": "Ada"})
}

async fn drill(stage: &Stage) -> Execution {
    stage
        .cloud
        .run("DrillMachine", &input(stage))
        .await
        .unwrap()
}

async fn evidence(stage: &Stage, outcome: &Value) -> Value {
    let key = outcome["evidence_key"].as_str().unwrap();
    assert!(key.ends_with("-branch.json"), "{key}");
    let evidence = stage.cloud.object("VaultBucket", key).await.unwrap();
    serde_json::from_slice(&evidence).unwrap()
}

fn outcome_of(ended: &Execution) -> Value {
    if let Some(output) = &ended.output {
        return output["databases"][0].clone();
    }
    let cause: Value = serde_json::from_str(ended.cause.as_deref().unwrap()).unwrap();
    cause[0].clone()
}

#[tokio::test]
async fn a_state_of_a_week_ago_is_looked_at_in_a_branch_and_production_is_not_touched() {
    let _turn = TURN.lock().await;
    let stage = Stage::new("neon-drill", old_project(), "").await;
    let younger = "[[database.drill.sql]]\nname = \"younger\"\nquery = \"SELECT count(*) FROM since\"\nexpect = \"0\"\n\
         [[database.drill.table]]\nschema = \"public\"\nname = \"since\"\nmin_rows = 1\n";
    let asked = assertion("SELECT count(*) FROM orders", "2000");
    configure(&stage, "", &format!("{asked}{younger}")).await;
    stage.sql("INSERT INTO orders VALUES (2001); CREATE TABLE since (i int)");
    let endpoint = &stage.seeded.endpoint;
    let traffic = || stage.neon.traffic(&stage.seeded.project, endpoint).unwrap();
    let before = traffic();

    let ended = by_shell::drill(&stage).await;
    assert_eq!(ended.status, "SUCCEEDED", "{ended:?}\n{}", stage.story());
    let outcome = outcome_of(&ended);
    assert_eq!(outcome["outcome"], "passed");
    let evidence = evidence(&stage, &outcome).await;
    assert_eq!(evidence["verdict"], "passed");
    assert_eq!(evidence["drill"]["started_by"], "Ada");
    let as_of: Timestamp = evidence["ended"]["lent"]["data_as_of"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let begun: Timestamp = evidence["ended"]["lent"]["begun_at"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(
        (begun.duration_since(as_of).as_mins() - 7 * 24 * 60).abs() <= 1,
        "{evidence:#}"
    );
    // Neither the row nor the table that came since is in it, and that is no fault of it.
    let checks = evidence["examined"]["checks"].as_array().unwrap();
    let said: Vec<(&str, &str)> = checks
        .iter()
        .map(|it| {
            let text = |field: &str| it[field].as_str().unwrap();
            (text("status"), text("summary"))
        })
        .collect();
    let not_there = |relation: &str| {
        format!("not there at that time: relation \"{relation}\" does not exist (SQLSTATE 42P01)")
    };
    assert_eq!(
        said[1..],
        [
            ("passed", "2 tables, 1 of them with rows"),
            ("note", &*not_there("public.since")),
            ("passed", "as expected"),
            ("note", &*not_there("since")),
        ]
    );
    let budgets = evidence["budgets"].as_array().unwrap();
    assert!(
        budgets.len() == 3 && budgets.iter().all(|it| it["kept"] == true),
        "{budgets:?}"
    );
    let steps = evidence["steps"].as_array().unwrap();
    let steps: Vec<&str> = steps
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    assert_eq!(steps, ["create", "connect", "check", "destroy"]);

    assert_eq!(stage.names(), ["main"], "{}", stage.story());
    assert_eq!(stage.branch_secrets().await, NOTHING);
    assert_eq!(traffic(), before, "somebody connected to production");
    assert_absent_is_told_by_day(&stage, &ended).await;
    let history = stage.subject().history(&ended).await;
    for secret in ["npg_", "napi_", "CANARY"] {
        assert!(
            !history.contains(secret),
            "{secret} travelled in the state machine"
        );
        assert!(!stage.cloud.logs("drill").contains(secret));
    }
}

/// The table may have been lost as well as be younger: that is for a person to tell.
async fn assert_absent_is_told_by_day(stage: &Stage, ended: &Execution) {
    let missed = outcome_of(ended)["missed"].clone();
    assert_eq!(missed.as_array().unwrap().len(), 2, "{missed:#}");
    let pages = stage.messages(ended, "PageTopic").await;
    assert!(pages.is_empty(), "{pages:?}");
    let notices = stage.messages(ended, "NoticeTopic").await;
    assert_eq!(notices.len(), 1, "{notices:?}");
    let says = "does not exist (SQLSTATE 42P01). It is younger than that, or was lost";
    for words in ["younger: not there at that time", says] {
        assert!(notices[0].text.contains(words), "{}", notices[0].text);
    }
}

#[tokio::test]
async fn what_was_promised_and_missed_is_told_by_day_and_what_fails_wakes_somebody() {
    let _turn = TURN.lock().await;
    let short = ProjectOptions {
        history_retention_seconds: Some(86_400),
        ..old_project()
    };
    let stage = Stage::new("neon-drill-missed", short, "").await;
    configure(&stage, "drill = { branch_seconds = 1 }", "").await;
    let project = &stage.seeded.project;
    let faults = stage.neon.faults();
    faults.add(NeonFault {
        path: format!("/projects/{project}/connection_uri"),
        action: NeonFaultAction::Delay(Duration::from_millis(1_500)),
        ..NeonFault::default()
    });
    faults.add(NeonFault {
        method: Some(Method::DELETE),
        path: format!("/projects/{project}/branches/"),
        action: NeonFaultAction::Limit("SOMETHING_OF_TOMORROW"),
        ..NeonFault::default()
    });
    let ended = drill(&stage).await;
    assert_eq!(ended.status, "SUCCEEDED", "{ended:?}\n{}", stage.story());
    assert!(stage.messages(&ended, "PageTopic").await.is_empty());
    let notices = stage.messages(&ended, "NoticeTopic").await;
    assert_eq!(notices.len(), 1, "{notices:?}");
    for words in [
        "the branch drill of neon-drill-missed missed what was promised",
        "the project's restore window is 1 day: lengthen it",
        "its budget is 1.0 s",
        "could not be deleted (Failed: delete a branch: Neon refuses",
    ] {
        assert!(
            notices[0].text.contains(words),
            "{words}\n{}",
            notices[0].text
        );
    }
    let left = outcome_of(&ended)["branch"].as_str().unwrap().to_owned();
    assert_eq!(stage.names(), [left.as_str(), "main"]);

    // The next one removes it, and finds something wrong.
    stage.age(&left, 1);
    configure(&stage, "", &assertion("SELECT count(*) FROM orders", "7")).await;
    let ended = drill(&stage).await;
    assert_eq!(
        (&*ended.status, ended.error.as_deref()),
        ("FAILED", Some("DrillFailed"))
    );
    let pages = stage.messages(&ended, "PageTopic").await;
    let told = |words: &str| pages.iter().any(|it| it.text.contains(words));
    assert!(
        told("the branch drill of neon-drill-missed FAILED"),
        "{pages:?}"
    );
    assert!(
        told("as it was: it is 2000, and another value was expected"),
        "{pages:?}"
    );
    assert_eq!(
        evidence(&stage, &outcome_of(&ended)).await["verdict"],
        "failed"
    );
    assert_eq!(stage.names(), ["main"], "{}", stage.story());
    assert_eq!(stage.branch_secrets().await, NOTHING);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drill_whose_function_is_killed_leaves_no_branch_and_shows_nothing() {
    let _turn = TURN.lock().await;
    let stage = Stage::new("neon-drill-killed", old_project(), "").await;
    configure(
        &stage,
        "",
        &assertion("SELECT count(*) FROM pg_sleep(600)", "1"),
    )
    .await;
    let input = input(&stage);
    let execution = stage.cloud.start_execution("DrillMachine", &input);
    let execution = execution.await.unwrap();
    tokio::task::block_in_place(|| {
        let is_asking = || {
            let branches = stage.branches();
            let branch = branches.iter().find(|it| it.name.starts_with("drill-"));
            let asks = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()";
            let ask = |name: &str| stage.neon.psql(&stage.seeded.project, name, "neondb", asks);
            branch.is_some_and(|it| ask(&it.name).is_ok_and(|it| it == "1"))
        };
        wait_until(is_asking, "a question to the branch");
    });
    crate::drill::interrupted::kill_functions(stage.cloud, "drill");
    let ended = stage.cloud.wait(&execution).await.unwrap();
    assert_eq!(
        (&*ended.status, ended.error.as_deref()),
        ("FAILED", Some("DrillFailed"))
    );
    let outcome = outcome_of(&ended);
    assert_eq!(outcome["verdict"], "inconclusive");
    let evidence = evidence(&stage, &outcome).await;
    assert_eq!(evidence["findings"][0]["code"], "drill_interrupted");
    assert_eq!(stage.names(), ["main"], "{}", stage.story());
    assert_eq!(stage.branch_secrets().await, NOTHING);
}
