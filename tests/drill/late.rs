//! Drills that time is too short for: of an invocation, of a question, of the policy.

use localcloud::{Cloud, Override};
use serde_json::json;
use tokio::sync::OnceCell;

use super::application::Application;
use super::interrupted::slow_to_fill;
use super::rehearsal::Rehearsal;
use crate::faults::clouds;

const TIMEOUT_SECONDS: u64 = 10;

/// A cloud whose drill function is stopped after 10 seconds.
async fn brisk() -> &'static Cloud {
    static CLOUD: OnceCell<Cloud> = OnceCell::const_new();
    let start = || {
        clouds::start("brisk-drills", |options| {
            options.overrides.push(Override {
                logical_id: "DrillFunction".into(),
                property: "Timeout".into(),
                value: json!(TIMEOUT_SECONDS),
            });
        })
    };
    CLOUD.get_or_init(start).await
}

#[tokio::test]
#[ignore = "minutes: make slow"]
async fn a_restore_of_several_invocations_ends_proven() {
    let cloud = brisk().await;
    let policy = "connections = 1";
    let rehearsal = Rehearsal::of(
        cloud,
        "drill-continued",
        &slow_to_fill("continued", 7, 3.0),
        policy,
    )
    .await;
    let before = cloud.function_peak_rss("drill").len();
    let ended = rehearsal.drill(&json!({})).await;
    rehearsal.assert_proven(&ended).await;
    // Choosing, checking, destroying and recording are four more.
    let invocations = cloud.function_peak_rss("drill").len() - before - 4;
    assert!(invocations >= 4, "{invocations} invocations");
}

#[tokio::test]
#[ignore = "minutes: make slow"]
async fn a_job_that_fits_into_no_invocation_ends_the_drill_and_is_cleaned_up() {
    let cloud = brisk().await;
    let rehearsal =
        Rehearsal::of(cloud, "drill-too-long", &slow_to_fill("long", 1, 30.0), "").await;
    let ended = rehearsal.drill(&json!({})).await;
    rehearsal.assert_not_proven(&ended, &[]).await;
    let evidence = rehearsal.evidence().await;
    assert_eq!(
        evidence["verdict"], "inconclusive",
        "{:#}",
        evidence["findings"]
    );
}

#[tokio::test]
#[ignore = "minutes: make slow"]
async fn a_drill_that_takes_longer_than_its_policy_allows_is_ended_by_its_own_time() {
    let policy = "give_up_minutes = 5";
    let sql = "CREATE TABLE t AS SELECT 1 AS i";
    let rehearsal = Rehearsal::new("drill-given-up", sql, policy).await;
    // Its run began long ago, with others; this one begins now.
    let mut drill = rehearsal.choose().await;
    drill["started_at"] = json!("2026-01-02T02:00:00Z");
    rehearsal.step("restore", &drill).await.unwrap();
    rehearsal.step("check", &drill).await.unwrap();
    rehearsal.step("destroy", &drill).await.unwrap();
    let recorded = rehearsal.step("record", &drill).await.unwrap();
    assert_eq!(recorded["verdict"], "passed", "{recorded:#}");
    assert!(
        recorded["seconds"].as_f64().unwrap() < 300.0,
        "{recorded:#}"
    );

    let drill = rehearsal.choose().await;
    let cloud = rehearsal.subject.cloud;
    // As if its first invocation had been ten minutes ago.
    rehearsal.step("restore", &drill).await.unwrap();
    let prefix = format!(
        "drills/drill-given-up/{}/",
        drill["drill_id"].as_str().unwrap()
    );
    for key in cloud.objects("WorkBucket").await.unwrap().into_keys() {
        if !key.starts_with(&prefix) {
            continue;
        }
        if key.ends_with("-plan.json") {
            let plan = cloud.object("WorkBucket", &key).await.unwrap();
            let mut plan: serde_json::Value = serde_json::from_slice(&plan).unwrap();
            let begun_at: jiff::Timestamp = plan["begun_at"].as_str().unwrap().parse().unwrap();
            plan["begun_at"] = json!(begun_at - jiff::SignedDuration::from_mins(10));
            let plan = plan.to_string().into_bytes();
            cloud.overwrite("WorkBucket", &key, plan).await.unwrap();
        } else {
            cloud.remove("WorkBucket", &key).await.unwrap();
        }
    }
    let (error, says) = rehearsal.step("restore", &drill).await.unwrap_err();
    assert_eq!(error, "OutOfTime");
    assert!(says.contains("not done after 5 minutes"), "{says}");
    rehearsal.step("destroy", &drill).await.unwrap();
    let recorded = rehearsal.step("record", &drill).await.unwrap();
    assert_eq!(recorded["verdict"], "inconclusive");
    rehearsal.assert_nothing_left();
}

#[tokio::test]
#[ignore = "minutes: make slow"]
async fn what_answers_too_late_leaves_its_own_check_open_and_no_other() {
    let application = Application::start("too-late");
    let slow = application.check("slow", "/slow", "allow_private = true");
    let well = application.check("well", "/health", "allow_private = true");
    let policy = format!(
        "[[database.drill.sql]]
        name = 'one is one'
        query = 'SELECT 1'
        expect = '1'
        {well}{slow}"
    );
    // What a view calls is called when a query of it is planned, too.
    let sql = "CREATE TABLE t (id serial);
        CREATE FUNCTION dream() RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
            IF current_database() ~ '^lifeboat_drill_' THEN PERFORM pg_catalog.pg_sleep(60); END IF;
            RETURN 1;
        END $$;
        CREATE VIEW dreamt AS SELECT dream();";
    let rehearsal = Rehearsal::of(brisk().await, "drill-too-late", sql, &policy).await;
    let ended = rehearsal.drill(&json!({})).await;
    let says = ["no answer within", "it does not answer within"];
    rehearsal.assert_not_proven(&ended, &says).await;
    let evidence = rehearsal.evidence().await;
    assert_eq!(
        evidence["verdict"], "inconclusive",
        "{:#}",
        evidence["findings"]
    );
    let checks = evidence["checks"].as_array().unwrap();
    let open: Vec<&str> = checks
        .iter()
        .filter(|it| it["status"] == "inconclusive")
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    assert_eq!(open, ["Views can be queried", "slow"]);
    for (code, name) in [
        ("sql", "one is one"),
        ("http", "well"),
        ("sequences_ahead", ""),
    ] {
        let is_it =
            |it: &&serde_json::Value| it["code"] == code && (name.is_empty() || it["name"] == name);
        let found = checks.iter().find(is_it).unwrap();
        assert_eq!(found["status"], "passed", "{found:#}");
    }
}
