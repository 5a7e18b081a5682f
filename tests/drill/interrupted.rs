//! Drills that are killed, cut off, starved and stopped: never proven, nothing left behind, and
//! the next one succeeds.

use std::time::{Duration, Instant};

use localcloud::cutting_proxy::{Cut, CuttingProxy, Rule};
use localcloud::postgres::{Cluster, Major, SUPERUSER};
use localcloud::{Cloud, Fault, FaultAction, Override};
use reqwest::Method;
use serde_json::json;
use tokio::sync::OnceCell;

use super::rehearsal::{Rehearsal, check, standby};
use crate::faults::clouds;

const WIDE: &str = "CREATE TABLE wide AS SELECT i, repeat(md5(i::text), 40) AS text FROM generate_series(1, 3000) i";
/// Beyond what loading says, and inside of what the proof reads.
const MID_PROOF: u64 = 1 << 20;
const TIMEOUT_SECONDS: u64 = 20;

/// A cloud whose drill function is stopped after 20 seconds.
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

/// `n` materialized views that each take `seconds` to fill in a scratch database, and nothing at
/// the source. `tag` tells them from those of other tests on the same server.
fn slow_to_fill(tag: &str, n: u32, seconds: f32) -> String {
    let mut sql = format!(
        "CREATE TABLE t AS SELECT 1 AS i;
         CREATE FUNCTION slow(n int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN
            IF current_database() ~ '^lifeboat_drill_' THEN PERFORM pg_catalog.pg_sleep({seconds}); END IF;
            RETURN n;
         END $$;"
    );
    for view in 0..n {
        sql.push_str(&format!(
            "CREATE MATERIALIZED VIEW {tag}_{view} AS SELECT slow({view});"
        ));
    }
    sql
}

/// Waits for a session in a scratch database whose query is like that.
fn wait_for_query(server: &Cluster, like: &str) {
    let sql = format!(
        "SELECT count(*) > 0 FROM pg_stat_activity
         WHERE datname LIKE 'lifeboat_drill_%' AND query LIKE '{like}' AND state = 'active'"
    );
    let deadline = Instant::now() + Duration::from_secs(60);
    while server.psql("postgres", &sql).unwrap() != "t" {
        assert!(Instant::now() < deadline, "no query like {like}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn kill_drill_functions(rehearsal: &Rehearsal) {
    let cloud = rehearsal.subject.cloud;
    let program = cloud
        .function("drill")
        .unwrap()
        .program
        .canonicalize()
        .unwrap();
    let layer = cloud.home().join("layer");
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let link = |name: &str| std::fs::read_link(entry.path().join(name)).ok();
        let is_ours = link("exe").is_some_and(|it| it == program)
            && link("cwd").is_some_and(|it| it == layer);
        if is_ours {
            let pid = entry.file_name();
            let killed = std::process::Command::new("kill")
                .arg("-KILL")
                .arg(pid)
                .status();
            assert!(killed.unwrap().success());
        }
    }
}

async fn start(rehearsal: &Rehearsal) -> String {
    let input = rehearsal.input(&json!({}));
    rehearsal
        .subject
        .cloud
        .start_execution("DrillMachine", &input)
        .await
        .unwrap()
}

async fn assert_the_next_one_is_proven(rehearsal: &Rehearsal) {
    let ended = rehearsal.drill(&json!({})).await;
    rehearsal.assert_proven(&ended).await;
}

#[tokio::test]
#[ignore = "minutes: make slow"]
async fn a_drill_that_is_killed_while_it_restores_is_told_as_interrupted() {
    let alone = clouds::alone().await;
    let rehearsal = Rehearsal::of(
        alone.cloud,
        "drill-killed",
        &slow_to_fill("killed", 2, 2.0),
        "",
    )
    .await;
    let execution = start(&rehearsal).await;
    wait_for_query(standby(), "%REFRESH MATERIALIZED VIEW%killed_%");
    kill_drill_functions(&rehearsal);
    let ended = rehearsal.subject.wait(&execution).await;
    rehearsal
        .assert_not_proven(&ended, &["signal: killed"])
        .await;
    let evidence = rehearsal.evidence().await;
    assert_eq!(evidence["verdict"], "inconclusive");
    assert_eq!(evidence["findings"][0]["code"], "drill_interrupted");
    assert_the_next_one_is_proven(&rehearsal).await;
}

#[tokio::test]
#[ignore = "minutes: make slow"]
async fn a_drill_that_is_killed_while_it_checks_is_told_as_interrupted() {
    let policy = "
        [[database.drill.sql]]
        name = 'takes its time'
        query = 'SELECT 1 FROM pg_sleep(3) AS waited'
        expect = '1'";
    let alone = clouds::alone().await;
    let sql = "CREATE TABLE t AS SELECT 1 AS i";
    let rehearsal = Rehearsal::of(alone.cloud, "check-killed", sql, policy).await;
    let execution = start(&rehearsal).await;
    wait_for_query(standby(), "%pg_sleep(3)%");
    kill_drill_functions(&rehearsal);
    let ended = rehearsal.subject.wait(&execution).await;
    rehearsal
        .assert_not_proven(&ended, &["signal: killed"])
        .await;
    // What the proof had shown is in the evidence all the same.
    let evidence = rehearsal.evidence().await;
    assert_eq!(check(&evidence, "fingerprints")["status"], "passed");
    assert_eq!(evidence["verdict"], "inconclusive");
    assert_the_next_one_is_proven(&rehearsal).await;
}

#[tokio::test]
#[ignore = "minutes: make slow"]
async fn a_restore_of_several_invocations_ends_proven() {
    let cloud = brisk().await;
    let policy = "connections = 1";
    let rehearsal = Rehearsal::of(
        cloud,
        "drill-continued",
        &slow_to_fill("continued", 12, 4.0),
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
        Rehearsal::of(cloud, "drill-too-long", &slow_to_fill("long", 1, 40.0), "").await;
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
async fn a_drill_that_takes_longer_than_its_policy_allows_is_ended() {
    let cloud = brisk().await;
    let policy = "connections = 1\ngive_up_minutes = 1";
    let rehearsal = Rehearsal::of(
        cloud,
        "drill-given-up",
        &slow_to_fill("given_up", 30, 4.0),
        policy,
    )
    .await;
    let ended = rehearsal.drill(&json!({})).await;
    rehearsal
        .assert_not_proven(&ended, &["not done after 1 minutes", "give_up_minutes"])
        .await;
    assert_eq!(rehearsal.evidence().await["verdict"], "inconclusive");
}

#[tokio::test]
#[ignore = "minutes: make slow"]
async fn a_network_that_is_cut_in_the_proof_ends_the_drill_as_interrupted() {
    let rehearsal = Rehearsal::new("drill-cut", WIDE, "").await;
    let port = standby().port();
    let proxy = CuttingProxy::before_port(port).unwrap();
    let url = standby().url(SUPERUSER, SUPERUSER);
    rehearsal.drill_on(&proxy.url(&url, port)).await;
    proxy.add_rule(Rule {
        connection: None,
        after_bytes: MID_PROOF,
        cut: Cut::Reset,
    });
    let ended = rehearsal.drill(&json!({})).await;
    rehearsal.assert_not_proven(&ended, &[]).await;
    let evidence = rehearsal.evidence().await;
    assert_eq!(
        evidence["verdict"], "inconclusive",
        "{:#}",
        evidence["findings"]
    );
    proxy.forget_rules();
    assert_the_next_one_is_proven(&rehearsal).await;
}

#[tokio::test]
#[ignore = "minutes: make slow"]
async fn a_server_that_restarts_is_survived_or_told_and_the_next_drill_is_proven() {
    let own: &'static Cluster = Box::leak(Box::new(
        Cluster::temporary(Major::debian().unwrap()).unwrap(),
    ));
    let rehearsal = Rehearsal::new("drill-restarted", &slow_to_fill("restarted", 3, 2.0), "").await;
    rehearsal.drill_on(&own.url(SUPERUSER, SUPERUSER)).await;
    let execution = start(&rehearsal).await;
    wait_for_query(own, "%REFRESH MATERIALIZED VIEW%restarted_%");
    own.crash().unwrap();
    own.start_again().unwrap();
    let ended = rehearsal.subject.wait(&execution).await;
    // Tried again, it goes on where it stopped; only what it says counts.
    let passed = rehearsal.drill_verdicts().await.pop().unwrap()["verdict"] == "passed";
    assert_eq!(
        passed,
        ended.status == "SUCCEEDED",
        "{ended:#?}\n{}",
        rehearsal.story()
    );
    let left = "SELECT count(*) FROM pg_database WHERE datname LIKE 'lifeboat%'";
    assert_eq!(own.psql("postgres", left).unwrap(), "0");
    assert_the_next_one_is_proven(&rehearsal).await;
    own.stop().unwrap();
}

#[tokio::test]
#[ignore = "minutes: make slow"]
async fn a_bucket_that_fails_ends_the_drill_whichever_step_it_meets() {
    let alone = clouds::alone().await;
    let sql = "CREATE TABLE t AS SELECT generate_series(1, 100) AS i";
    let rehearsal = Rehearsal::of(alone.cloud, "drill-no-bucket", sql, "").await;
    let failing = |method: Method, path: &str| Fault {
        method: Some(method),
        path: path.into(),
        times: 10_000,
        action: FaultAction::Status {
            status: 500,
            code: "InternalError".into(),
        },
        ..Fault::default()
    };
    for (method, path) in [
        (Method::GET, "/backups/drill-no-bucket/"),
        (Method::PUT, "/evidence/drill-no-bucket/"),
        (Method::PUT, "/verdicts/drill-no-bucket/"),
    ] {
        alone.cloud.faults().add(failing(method, path));
        let ended = rehearsal.drill(&json!({})).await;
        alone.cloud.faults().clear();
        rehearsal.assert_not_proven(&ended, &[]).await;
    }
    assert_the_next_one_is_proven(&rehearsal).await;
}

#[tokio::test]
#[ignore = "minutes: make slow"]
async fn a_teardown_that_fails_is_told_and_the_janitor_takes_what_it_left() {
    let rehearsal = Rehearsal::new("drill-torn", "CREATE TABLE t AS SELECT 1 AS i", "").await;
    let drill = rehearsal.choose().await;
    let scratch = drill["scratch"].as_str().unwrap();
    rehearsal.step("restore", &drill).await.unwrap();
    let mark = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = ";
    let mark = standby()
        .psql("postgres", &format!("{mark}'{scratch}'"))
        .unwrap();
    assert!(mark.starts_with("lifeboat scratch "), "{mark}");

    let recorded = rehearsal
        .invoke(&json!({"record": {"drill": drill,
            "failure": {"Error": "Runtime.ExitError", "Cause": "{\"errorMessage\": \"killed\"}"},
            "teardown_failure": {"Error": "Transient", "Cause": "the server is gone"}}}))
        .await
        .unwrap();
    assert_eq!(recorded["verdict"], "inconclusive");
    assert_eq!(recorded["is_destroyed"], false);
    assert!(rehearsal.page().await.contains("the server is gone"));

    // As if it had happened two days ago, beside one of a person and one of today.
    let old = jiff::Timestamp::try_from(std::time::SystemTime::now()).unwrap()
        - jiff::SignedDuration::from_hours(48);
    standby()
        .psql(
            "postgres",
            &format!("COMMENT ON DATABASE {scratch} IS 'lifeboat scratch {old} x'"),
        )
        .unwrap();
    standby()
        .psql("postgres", "CREATE DATABASE lifeboat_drill_of_a_person")
        .unwrap();
    standby()
        .psql("postgres", "CREATE DATABASE lifeboat_drill_of_today")
        .unwrap();
    let now = jiff::Timestamp::try_from(std::time::SystemTime::now()).unwrap();
    standby()
        .psql(
            "postgres",
            &format!("COMMENT ON DATABASE lifeboat_drill_of_today IS 'lifeboat scratch {now} x'"),
        )
        .unwrap();
    let next = rehearsal.choose().await;
    rehearsal.step("restore", &next).await.unwrap();
    rehearsal.step("destroy", &next).await.unwrap();
    let there = |name: &str| {
        let sql = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
        standby().psql("postgres", &sql).unwrap()
    };
    assert_eq!(there(scratch), "0");
    assert_eq!(there("lifeboat_drill_of_a_person"), "1");
    assert_eq!(there("lifeboat_drill_of_today"), "1");
    for name in ["lifeboat_drill_of_a_person", "lifeboat_drill_of_today"] {
        standby()
            .psql("postgres", &format!("DROP DATABASE {name}"))
            .unwrap();
    }
}
