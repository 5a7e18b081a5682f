//! Drills: a backup restored into a scratch database by the state machine, compared, judged,
//! written down, and destroyed.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod altered;
mod application;
mod interrupted;
mod page;
mod planted;
mod rehearsal;
mod replication;
mod schedules;

use localcloud::sample;
use serde_json::{Value, json};

use rehearsal::{Rehearsal, standby};

#[tokio::test]
async fn a_drill_of_the_sample_is_proven_with_evidence_and_a_page() {
    let policy = "roles = 'create'
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
    // Roles that were made for the drill are gone with it.
    let marked = "SELECT count(*) FROM pg_roles WHERE shobj_description(oid, 'pg_authid') LIKE 'lifeboat drill role %'";
    assert_eq!(standby().psql("postgres", marked).unwrap(), "0");
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
async fn without_the_roles_owners_and_grants_are_told_as_not_compared() {
    let sql =
        "DO $$ BEGIN CREATE ROLE drill_lacks_me; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
        CREATE TABLE t AS SELECT 1 AS i; GRANT SELECT ON t TO drill_lacks_me;";
    let rehearsal = Rehearsal::new("without-roles", sql, "").await;
    let ended = rehearsal.drill(&json!({})).await;
    let evidence = rehearsal.assert_proven(&ended).await;
    for code in ["catalog_grants", "catalog_owners"] {
        let check = rehearsal::check(&evidence, code);
        assert_eq!(
            (&check["status"], &check["priority"]),
            (&json!("inconclusive"), &json!("P2"))
        );
    }
    let notes = evidence["notes"].to_string();
    assert!(notes.contains("drill_lacks_me"), "{notes}");
}
