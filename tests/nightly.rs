//! The nightly backup as the schedule starts it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::SystemTime;

use serde_json::{Value, json};

use crate::faults::clouds;
use crate::faults::subject::{Subject, database, rows};

#[tokio::test]
async fn the_fired_schedule_backs_up_and_verifies_every_database_and_wakes_nobody() {
    let cloud: &'static _ = Box::leak(Box::new(clouds::start("nightly", |_| {}).await));
    let cluster = clouds::cluster();
    let orders =
        "CREATE TABLE orders AS SELECT i, md5(i::text) AS code FROM generate_series(1, 5000) i";
    let app = Subject::of(cloud, cluster, "nightly-app", orders).await;
    let shop = Subject::of(
        cloud,
        cluster,
        "nightly-shop",
        "CREATE TABLE carts AS SELECT 1 AS i",
    )
    .await;

    // The last night that is over.
    let day = day_before(SystemTime::now());
    let (from, to) = (format!("{day}T00:59:00Z"), format!("{day}T01:10:00Z"));
    let started = cloud
        .fire_due(from.parse().unwrap(), to.parse().unwrap())
        .await
        .unwrap();
    let machine = cloud
        .physical("BackupMachine")
        .unwrap()
        .rsplit(':')
        .next()
        .unwrap()
        .to_owned();
    let nightly: Vec<&String> = started
        .iter()
        .filter(|arn| arn.contains(&format!(":{machine}:")))
        .collect();
    assert_eq!(nightly.len(), 1, "{started:?}");
    let ended = cloud.wait(nightly[0]).await.unwrap();

    let manifest = app.assert_verified(&ended).await;
    assert_eq!(rows(&manifest, "orders"), 5000);
    shop.assert_verified(&ended).await;
    let id = format!("{}T010000Z-nightly", day.replace('-', ""));
    assert_eq!(manifest["backup_id"], id.as_str());
    assert_eq!(manifest["kind"], "nightly");
    let output = ended.output.unwrap();
    let outcomes = output["databases"].as_array().unwrap();
    let verified = |name: &str| json!({"database": name, "outcome": "verified"});
    assert_eq!(
        outcomes,
        &[verified("nightly-app"), verified("nightly-shop")]
    );
    assert_eq!(cloud.published_messages().await.unwrap(), []);

    // The scheduler delivers at least once.
    let again = cloud
        .fire_due(from.parse().unwrap(), to.parse().unwrap())
        .await
        .unwrap();
    let again = again
        .into_iter()
        .find(|arn| arn.contains(&format!(":{machine}:")))
        .unwrap();
    assert_eq!(cloud.wait(&again).await.unwrap().status, "SUCCEEDED");
    assert_eq!(
        (app.manifests().await.len(), shop.manifests().await.len()),
        (1, 1)
    );
}

#[tokio::test]
async fn one_databases_failure_leaves_the_others_verified_and_fails_the_run() {
    let well = Subject::new("one-of-two-well", "CREATE TABLE t AS SELECT 1 AS i").await;
    let ill = Subject {
        name: "one-of-two-ill",
        ..well
    };
    well.cloud
        .configure(vec![database(
            ill.name,
            &well.cluster.url("does-not-exist", "postgres"),
            "",
        )])
        .await
        .unwrap();
    let ended = well
        .cloud
        .run(
            "BackupMachine",
            &json!({"databases": [ill.name, well.name]}),
        )
        .await
        .unwrap();
    ill.assert_failed(
        &ended,
        "Refused",
        &["database \"does-not-exist\" does not exist"],
    )
    .await;
    let summary: Value = serde_json::from_str(ended.cause.as_deref().unwrap()).unwrap();
    let verified = json!({"database": well.name, "outcome": "verified"});
    assert!(summary.as_array().unwrap().contains(&verified), "{summary}");
    assert_eq!(well.verdicts().await[0]["verdict"], "passed");
    let nothing: [localcloud::Message; 0] = [];
    assert_eq!(well.messages().await, nothing);
}

#[tokio::test]
async fn an_alert_says_since_when_there_is_no_newer_backup_and_what_to_do() {
    let subject = Subject::new("alerted", "CREATE TABLE t AS SELECT 1 AS i").await;
    let never = subject.url().replace(subject.name, "gone");
    let right = subject.url();
    subject.configure(&never, "").await;
    let ended = subject.back_up_at("2026-01-05T01:00:00Z").await;
    let first = subject.assert_failed(&ended, "Refused", &["alerted"]).await;

    subject.configure(&right, "").await;
    let ended = subject.back_up_at("2026-01-06T01:00:00Z").await;
    subject.assert_verified(&ended).await;

    subject.configure(&never, "").await;
    let ended = subject.back_up_at("2026-01-07T01:00:00Z").await;
    subject.assert_run_failed(&ended, "Refused").await;
    let second = subject
        .assert_alert(&ended, &["20260106T010000Z-on-demand"])
        .await;
    assert!(!first.text.contains("20260106T010000Z-on-demand"));
    assert_ne!(first.text, second.text);
}

/// The day before `now`, in UTC, as `2026-11-20`.
fn day_before(now: SystemTime) -> String {
    let yesterday = jiff::Timestamp::try_from(now).unwrap() - jiff::SignedDuration::from_hours(24);
    yesterday.to_string()[..10].to_owned()
}
