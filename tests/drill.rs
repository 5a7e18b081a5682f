//! Drills: a backup restored into a scratch database by the state machine, compared, judged,
//! written down, and destroyed.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod altered;
mod application;
mod by_shell;
pub(crate) mod interrupted;
mod kinds;
mod late;
mod left_behind;
mod page;
mod planted;
mod rehearsal;
mod replication;
mod rights;
mod schedules;

use localcloud::cutting_proxy::CuttingProxy;
use localcloud::pgbouncer::{PgBouncer, PoolMode};
use localcloud::postgres::SUPERUSER;
use localcloud::sample;
use serde_json::{Value, json};

use rehearsal::{Rehearsal, standby};

#[tokio::test]
async fn a_drill_of_the_sample_is_proven_with_evidence_and_a_page() {
    let policy = "
        [[database.drill.table]]
        schema = 'core'
        name = 'users'
        min_rows = 1
        [[database.drill.sql]]
        name = 'one is one'
        query = 'SELECT 1 -- really'
        expect = '1'
        priority = 'P0'
        [[database.drill.sql]]
        name = 'nothing can be written'
        query = 'SELECT count(*) FROM pg_tables'
        expect = '-1'
        priority = 'P2'";
    let rehearsal = Rehearsal::with("drilled-sample", policy, |cluster, name| {
        sample::create_scaled(cluster, name, sample::SMALL).unwrap();
    })
    .await;
    let ended = rehearsal.drill(&json!({"started_by": "Ada"})).await;
    let evidence = rehearsal.assert_proven(&ended).await;

    assert_eq!(evidence["drill"]["started_by"], "Ada");
    assert_eq!(evidence["drill"]["kind"], "on-demand");
    assert_eq!(evidence["drill"]["reason"], "the latest verified backup");
    assert_eq!(evidence["teardown"]["is_destroyed"], true);
    let failed: Vec<&Value> = rehearsal::checks(&evidence, "failed");
    assert_eq!(failed.len(), 1, "{failed:#?}");
    assert_eq!(failed[0]["name"], "nothing can be written");
    let open = rehearsal::checks(&evidence, "inconclusive");
    assert!(open.is_empty(), "{open:#?}");
    for code in [
        "fingerprints",
        "catalog_grants",
        "catalog_owners",
        "catalog_policies",
        "sequences_ahead",
        "row_floor",
    ] {
        assert_eq!(
            rehearsal::check(&evidence, code)["status"],
            "passed",
            "{code}"
        );
    }
    let steps = evidence["timing"]["steps"].as_array().unwrap();
    for step in [
        "prepare",
        "pre_data",
        "data",
        "post_data",
        "proof",
        "check",
        "destroy",
    ] {
        assert!(
            steps.iter().any(|it| it["name"] == step),
            "{step}: {steps:#?}"
        );
    }
    assert_eq!(evidence["objectives"][0]["kept"], true);
    let rests_on = &evidence["rests_on"];
    for hash in [
        "manifest_sha256",
        "table_of_contents_sha256",
        "plan_sha256",
        "report_sha256",
    ] {
        assert_eq!(rests_on[hash].as_str().unwrap().len(), 64, "{hash}");
    }
    assert_eq!(rests_on["verdicts"].as_array().unwrap().len(), 1);

    let page = rehearsal.page().await;
    assert!(page.contains("Proven") && page.contains("drilled-sample"));
    let verdict = rehearsal.drill_verdicts().await.pop().unwrap();
    assert_eq!(verdict["verdict"], "passed");
    assert_eq!(verdict["totals"]["tables"], evidence["totals"]["tables"]);
    assert!(verdict["totals"]["rows"].as_u64().unwrap() > 1_000);
    rehearsal.subject.assert_no_secret(&ended).await;
    for server in [rehearsal.subject.cluster, standby()] {
        let password = server.password().unwrap();
        assert!(!page.contains(password) && !evidence.to_string().contains(password));
        rehearsal.subject.assert_nowhere(&ended, password).await;
    }

    let watched = rehearsal
        .subject
        .cloud
        .invoke("verify", &json!({"watch": {}}))
        .await
        .unwrap();
    let watched: Value = serde_json::from_slice(&watched.payload).unwrap();
    assert!(watched["databases"].is_array(), "{watched}");
}

#[tokio::test]
async fn a_second_drill_adds_to_the_evidence_and_changes_none_of_it() {
    let rehearsal = Rehearsal::new("drilled-twice", "CREATE TABLE t AS SELECT 1 AS i", "").await;
    let ended = rehearsal.drill(&json!({})).await;
    rehearsal.assert_proven(&ended).await;
    let first = rehearsal.evidence_keys().await;
    let ended = rehearsal.drill(&json!({})).await;
    rehearsal.assert_proven(&ended).await;
    let both = rehearsal.evidence_keys().await;
    assert_eq!((first.len(), both.len()), (1, 2));
    assert!(both.contains(&first[0]));
    // What the first has measured is what the second was predicted from.
    let of = |evidence: &Value| evidence["prediction"]["is_from_measured"].clone();
    let first = rehearsal.read(&first[0]).await;
    let first: Value = serde_json::from_slice(&first).unwrap();
    assert_eq!(
        (of(&first), of(&rehearsal.evidence().await)),
        (json!(false), json!(true))
    );
}

#[tokio::test]
async fn every_step_may_be_asked_for_twice() {
    let rehearsal = Rehearsal::new("steps-twice", "CREATE TABLE t AS SELECT 1 AS i", "").await;
    let drill = rehearsal.choose().await;
    for step in ["restore", "restore", "check", "check", "destroy", "destroy"] {
        rehearsal.step(step, &drill).await.unwrap();
    }
    let one = rehearsal.step("record", &drill).await.unwrap();
    let two = rehearsal.step("record", &drill).await.unwrap();
    assert_eq!(one["verdict"], "passed", "{one:#}");
    assert_eq!(one, two);
    assert_eq!(rehearsal.drill_verdicts().await.len(), 1);
    assert_eq!(rehearsal.evidence_keys().await.len(), 1);
}

#[tokio::test]
async fn without_the_roles_nothing_is_proven_unless_they_are_made_or_nobody_wants_them() {
    let sql =
        "DO $$ BEGIN CREATE ROLE drill_lacks_me; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
        CREATE TABLE t AS SELECT 1 AS i; GRANT SELECT ON t TO drill_lacks_me;";
    let mut rehearsal = Rehearsal::new("without-roles", sql, "roles = 'existing'").await;
    let grants = |evidence: &Value| {
        let check = rehearsal::check(evidence, "catalog_grants");
        (check["status"].clone(), check["priority"].clone())
    };
    let ended = rehearsal.drill(&json!({})).await;
    let says = [
        "Grants: not restored and not compared",
        "roles = \"create\"",
    ];
    rehearsal.assert_not_proven(&ended, &says).await;
    let evidence = rehearsal.evidence().await;
    assert_eq!(evidence["verdict"], "inconclusive");
    assert_eq!(grants(&evidence), (json!("inconclusive"), json!("P1")));
    let notes = evidence["notes"].to_string();
    assert!(notes.contains("drill_lacks_me"), "{notes}");

    let headline = "Owners and grants were not compared";
    rehearsal.change_policy("roles = 'ignore'").await;
    let ended = rehearsal.drill(&json!({})).await;
    let evidence = rehearsal.assert_proven(&ended).await;
    assert_eq!(grants(&evidence), (json!("note"), json!("P2")));
    assert!(rehearsal.page().await.contains(headline));

    // What is written nowhere is "create".
    rehearsal.change_policy("").await;
    let ended = rehearsal.drill(&json!({})).await;
    let evidence = rehearsal.assert_proven(&ended).await;
    assert_eq!(grants(&evidence), (json!("passed"), json!("P0")));
    assert!(!rehearsal.page().await.contains(headline));
}

#[tokio::test]
async fn a_policy_whose_roles_are_missing_is_refused_in_words_and_nothing_is_made() {
    let sql =
        "DO $$ BEGIN CREATE ROLE drill_policed; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
        CREATE TABLE t AS SELECT 1 AS i; CREATE POLICY p ON t TO drill_policed USING (true);";
    let rehearsal = Rehearsal::new("policed", sql, "roles = 'ignore'").await;
    let ended = rehearsal.drill(&json!({})).await;
    let says = ["Refused", "lacks: drill_policed", "roles = \"create\""];
    rehearsal.assert_not_proven(&ended, &says).await;
    assert_eq!(rehearsal.evidence().await["verdict"], "inconclusive");
}

/// Whatever leads to the source's own server.
#[tokio::test]
async fn no_drill_is_held_on_the_server_that_the_backup_is_of() {
    let rehearsal = Rehearsal::new("drill-at-home", "CREATE TABLE t AS SELECT 1 AS i", "").await;
    let cluster = rehearsal.subject.cluster;
    let server = cluster.url(SUPERUSER, SUPERUSER);
    let proxy = CuttingProxy::before_port(cluster.port()).unwrap();
    let pooler = PgBouncer::start(cluster, PoolMode::Session, 4).unwrap();
    let databases = "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database";
    for (what, url) in [
        ("itself", server.clone()),
        ("by the database's own name", rehearsal.subject.url()),
        (
            "by another name of its host",
            server.replace("127.0.0.1", "localhost"),
        ),
        (
            "by its socket",
            format!("{server}?host={}", cluster.socket_dir().display()),
        ),
        ("behind another port", proxy.url(&server, cluster.port())),
        ("behind a pooler", pooler.url(SUPERUSER)),
    ] {
        rehearsal.drill_on(&url).await;
        let drill = rehearsal.choose().await;
        let (error, says) = rehearsal.step("restore", &drill).await.unwrap_err();
        assert_eq!(error, "Refused", "{what}: {says}");
        assert!(
            says.contains("the one that the backup is of"),
            "{what}: {says}"
        );
        let made = cluster.psql("postgres", databases).unwrap();
        let scratch = drill["scratch"].as_str().unwrap();
        assert!(!made.contains(scratch), "{what}: {made}");
        // Nothing is there to destroy, and that is no failure.
        rehearsal.step("destroy", &drill).await.unwrap();
    }
    rehearsal.drill_on(&server).await;
    let ended = rehearsal.drill(&json!({})).await;
    rehearsal
        .assert_not_proven(&ended, &["name another server"])
        .await;
}
