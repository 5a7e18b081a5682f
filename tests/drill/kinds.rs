//! One object of every kind, drilled: what a backup brings back is also what a drill calls equal.

use localcloud::postgres::{Cluster, Major, SUPERUSER};
use serde_json::Value;
use serde_json::json;

use super::rehearsal::{Rehearsal, check, checks, standby};
use crate::faults::clouds;
use crate::faults::subject::Subject;
use crate::format::kinds;
use crate::harness::cluster;

async fn drilled(name: &'static str, major: Major, server: &'static Cluster) -> Value {
    let cluster = cluster(major);
    let database = tokio::task::spawn_blocking(move || kinds(major))
        .await
        .unwrap();
    let subject = Subject {
        cloud: clouds::shared().await,
        cluster,
        name,
    };
    let url = cluster.url(database, SUPERUSER);
    let rehearsal = Rehearsal::from(subject, &url, server).await;
    let ended = rehearsal.drill(&json!({})).await;
    let evidence = rehearsal.assert_proven(&ended).await;
    let nothing: Vec<&Value> = Vec::new();
    assert_eq!(checks(&evidence, "failed"), nothing);
    assert_eq!(checks(&evidence, "inconclusive"), nothing);
    evidence
}

#[tokio::test]
#[ignore = "half a minute: make slow"]
async fn every_kind_of_object_of_15_is_proven() {
    let server = tokio::task::spawn_blocking(standby).await.unwrap();
    drilled("kinds-drilled-15", Major::V15, server).await;
}

#[tokio::test]
async fn every_kind_of_object_of_18_is_proven_constraints_that_are_never_enforced_included() {
    let server = || &*Box::leak(Box::new(Cluster::temporary(Major::V18).unwrap()));
    let server = tokio::task::spawn_blocking(server).await.unwrap();
    let evidence = drilled("kinds-drilled-18", Major::V18, server).await;
    // Not yet validated at the source is no failure; never enforced is not even that.
    let valid = check(&evidence, "constraints_valid");
    assert_eq!(valid["status"], "note", "{valid:#}");
    assert!(
        valid["details"]
            .to_string()
            .contains("given_later of app.unchecked")
    );
    assert!(
        !valid["details"].to_string().contains("amount"),
        "{valid:#}"
    );
    server.stop().unwrap();
}
