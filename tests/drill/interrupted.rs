//! Drills that are killed, cut off and stopped: never proven, nothing left behind, and the next
//! one succeeds.

use std::time::{Duration, Instant};

use localcloud::cutting_proxy::{Cut, CuttingProxy, Rule};
use localcloud::postgres::{Cluster, Major, SUPERUSER};
use localcloud::{Cloud, Fault, FaultAction};
use reqwest::Method;
use serde_json::json;

use super::rehearsal::{Rehearsal, check, standby};
use crate::faults::clouds;
use crate::faults::subject::wait_until;

const WIDE: &str = "CREATE TABLE wide AS SELECT i, repeat(md5(i::text), 40) AS text FROM generate_series(1, 3000) i";
/// Beyond what loading says, and inside of what the proof reads.
const MID_PROOF: u64 = 1 << 20;

/// `n` materialized views that each take `seconds` to fill in a scratch database, and nothing at
/// the source. `tag` tells them from those of other tests on the same server.
pub(super) fn slow_to_fill(tag: &str, n: u32, seconds: f32) -> String {
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
    kill_functions(rehearsal.subject.cloud, "drill");
}

/// Every process of that function in that cloud.
pub(crate) fn kill_functions(cloud: &Cloud, function: &str) {
    let program = cloud
        .function(function)
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
async fn a_bucket_that_fails_is_told_as_what_may_pass_and_the_drill_goes_on_from_there() {
    let alone = clouds::alone().await;
    let sql = "CREATE TABLE t AS SELECT generate_series(1, 100) AS i";
    let rehearsal = Rehearsal::of(alone.cloud, "drill-no-bucket", sql, "").await;
    let drill = rehearsal.choose().await;
    let mut met = [
        ("restore", Method::GET, "/backups/drill-no-bucket/"),
        ("restore", Method::PUT, "/drills/drill-no-bucket/"),
        ("check", Method::GET, "/drills/drill-no-bucket/"),
        ("check", Method::GET, "/verdicts/drill-no-bucket/"),
        ("destroy", Method::PUT, "/drills/drill-no-bucket/"),
        ("record", Method::PUT, "-drill.json"),
        ("record", Method::PUT, "-drill.html"),
        ("record", Method::PUT, "/verdicts/drill-no-bucket/"),
    ]
    .into_iter()
    .peekable();
    while let Some((step, method, path)) = met.next() {
        alone.cloud.faults().add(failing(method.clone(), path));
        let (error, says) = rehearsal.step(step, &drill).await.unwrap_err();
        alone.cloud.faults().clear();
        assert_eq!(error, "Transient", "{step} {method} {path}: {says}");
        let verdicts = rehearsal.drill_verdicts().await;
        assert!(verdicts.is_empty(), "{step} {method} {path}");
        if met.peek().is_some_and(|(next, _, _)| *next != step) {
            rehearsal.step(step, &drill).await.unwrap();
        }
    }
    // By then nobody needs the backup itself: what was drilled is known.
    let backup = failing(Method::GET, "/backups/drill-no-bucket/");
    alone.cloud.faults().add(backup);
    let recorded = rehearsal.step("record", &drill).await.unwrap();
    alone.cloud.faults().clear();
    assert_eq!(recorded["verdict"], "passed", "{recorded:#}");
    let verdict = rehearsal.drill_verdicts().await.pop().unwrap();
    assert!(verdict["snapshot_at"].is_string(), "{verdict:#}");
    assert!(verdict["manifest_sha256"].is_string(), "{verdict:#}");
    rehearsal.assert_nothing_left();
    // The page shows what the evidence says, although they were written by two invocations.
    let evidence = rehearsal.evidence().await;
    let mut shown: ::drill::evidence::Evidence = serde_json::from_value(evidence).unwrap();
    let hash = shown.rests_on.report_sha256.take().unwrap();
    let page = rehearsal.page().await;
    assert!(
        page == ::drill::report::page(&shown),
        "the page is of another drill"
    );
    assert_eq!(hash, shared::sealed::sha256(page.as_bytes()));
}

/// Lets a request wait that the function makes, and kills the function there.
async fn killed_at(rehearsal: &Rehearsal, method: Method, path: &str) -> localcloud::Execution {
    let faults = rehearsal.subject.cloud.faults();
    faults.add(Fault {
        method: Some(method),
        path: path.into(),
        times: 1,
        action: FaultAction::Delay(Duration::from_secs(30)),
        ..Fault::default()
    });
    let execution = start(rehearsal).await;
    wait_until(|| faults.matches() != [0], path);
    kill_drill_functions(rehearsal);
    faults.clear();
    rehearsal.subject.wait(&execution).await
}

#[tokio::test]
#[ignore = "minutes: make slow"]
async fn a_drill_that_is_killed_while_it_chooses_tears_down_or_records_is_not_proven_and_told() {
    let alone = clouds::alone().await;
    let sql = "CREATE TABLE t AS SELECT 1 AS i";
    let rehearsal = Rehearsal::of(alone.cloud, "steps-killed", sql, "").await;
    let killed = "signal: killed";

    let ended = killed_at(&rehearsal, Method::GET, "/verdicts/steps-killed/").await;
    rehearsal.assert_not_proven(&ended, &[killed]).await;
    assert!(rehearsal.evidence_keys().await.is_empty());

    // The scratch database is gone by then, but nobody knows: the verdict on the backup stands.
    let ended = killed_at(&rehearsal, Method::PUT, "-destroy.json").await;
    assert_eq!(ended.status, "FAILED", "{ended:#?}");
    let told = ["left its copy behind", killed];
    rehearsal.assert_told(&ended, &told).await;
    assert_eq!(rehearsal.evidence().await["verdict"], "passed");
    let proven = rehearsal.drill_verdicts().await.len();

    let ended = killed_at(&rehearsal, Method::PUT, "/verdicts/steps-killed/").await;
    assert_eq!(ended.status, "FAILED", "{ended:#?}");
    rehearsal.assert_told(&ended, &[killed]).await;
    assert_eq!(rehearsal.drill_verdicts().await.len(), proven);
    rehearsal.assert_nothing_left();
    assert_the_next_one_is_proven(&rehearsal).await;
}

#[tokio::test]
#[ignore = "minutes: make slow"]
async fn a_drill_that_somebody_stops_is_told_proves_nothing_and_leaves_what_carries_its_mark() {
    let slow = slow_to_fill("stopped", 1, 2.0);
    let rehearsal = Rehearsal::new("drill-stopped", &slow, "").await;
    let execution = start(&rehearsal).await;
    wait_for_query(standby(), "%REFRESH MATERIALIZED VIEW%stopped_%");
    let cloud = rehearsal.subject.cloud;
    cloud.stop_execution(&execution).await.unwrap();
    let ended = rehearsal.subject.wait(&execution).await;
    // Where AWS says ABORTED, the control plane here may say FAILED.
    assert_ne!(ended.status, "SUCCEEDED");
    let told = rehearsal.messages(&ended, "PageTopic").await;
    assert!(
        told.iter().any(|it| it.starts_with("Backstop: ")),
        "{told:#?}"
    );
    assert!(rehearsal.drill_verdicts().await.is_empty());
    // No machine is there to destroy it: it carries its drill's mark, which the janitor knows.
    let left = format!(
        "SELECT datname FROM pg_database WHERE shobj_description(oid, 'pg_database') ~ '^lifeboat scratch [^ ]+ {}$'",
        drill_id_of(&rehearsal, &execution)
    );
    let scratch = standby().psql("postgres", &left).unwrap();
    assert!(scratch.starts_with("lifeboat_drill_"), "{scratch}");
    let drop = format!("DROP DATABASE {scratch} WITH (FORCE)");
    standby().psql("postgres", &drop).unwrap();
    assert_the_next_one_is_proven(&rehearsal).await;
}

/// As the function has logged what it chose.
fn drill_id_of(rehearsal: &Rehearsal, execution: &str) -> String {
    let log = rehearsal.subject.cloud.logs("drill");
    let line = log
        .lines()
        .find(|it| it.contains(execution) && it.contains("drill_ids"));
    let line = line.unwrap_or_else(|| panic!("{execution} chose nothing"));
    let ids = line.split("drill_ids").nth(1).unwrap();
    let is_id = |it: &&str| it.len() == 25 && it.contains("Z-");
    ids.split(['"', ',', ' ', '\\', '[', ']'])
        .find(is_id)
        .unwrap()
        .to_owned()
}
