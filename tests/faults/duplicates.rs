//! The same event twice, one after the other and at once.

use serde_json::Value;

use super::subject::Subject;

const SOME_ROWS: &str =
    "CREATE TABLE rows AS SELECT i, md5(i::text) FROM generate_series(1, 20000) i";

#[tokio::test]
async fn the_same_event_again_succeeds_and_makes_nothing_new() {
    let subject = Subject::new("twice", SOME_ROWS).await;
    let first = subject.back_up().await;
    subject.assert_verified(&first).await;
    let keys = subject.archive_keys().await;
    let second = subject.back_up().await;
    assert_eq!(second.status, "SUCCEEDED");
    let already = second.output.as_ref().unwrap()["plan"]["already_verified"].to_string();
    assert!(already.contains("20260102T010000Z-on-demand"), "{second:?}");
    assert_eq!(subject.archive_keys().await, keys);
    assert_eq!(
        (
            subject.manifests().await.len(),
            subject.verdicts().await.len()
        ),
        (1, 1)
    );
    assert_eq!(subject.messages().await, []);
}

#[tokio::test]
async fn two_runs_of_one_event_at_once_make_one_backup_and_both_succeed() {
    let subject = Subject::new("at-once", SOME_ROWS).await;
    let executions = [subject.start().await, subject.start().await];
    let mut ended = Vec::new();
    for execution in &executions {
        ended.push(subject.wait(execution).await);
    }
    for ended in &ended {
        subject.assert_verified(ended).await;
    }
    let manifests = subject.manifests().await;
    let [manifest] = &manifests[..] else {
        panic!("{} manifests", manifests.len())
    };
    let own = format!("/archive-{}/", manifest["attempt"].as_str().unwrap());
    let objects: Vec<&Value> = manifest["objects"].as_array().unwrap().iter().collect();
    assert!(
        objects
            .iter()
            .all(|object| object["key"].as_str().unwrap().contains(&own))
    );
    let (winner, loser): (Vec<_>, Vec<_>) = subject
        .archive_keys()
        .await
        .into_iter()
        .partition(|key| key.contains(&own));
    assert_eq!(winner.len(), objects.len());
    assert!(!loser.is_empty(), "both runs dumped");
    let log = subject.cloud.logs("dump");
    let lost = log
        .lines()
        .filter(|line| line.contains("at-once") && line.contains("AlreadyCommitted"));
    assert_eq!(lost.count(), 1, "{}", subject.story());
    assert_eq!(subject.messages().await, []);
}

#[tokio::test]
async fn a_later_event_makes_another_backup_that_names_the_one_before() {
    let subject = Subject::new("in-a-row", SOME_ROWS).await;
    for scheduled in ["2026-01-03T01:00:00Z", "2026-01-04T01:00:00Z"] {
        let ended = subject.back_up_at(scheduled).await;
        subject.assert_verified(&ended).await;
    }
    let manifests = subject.manifests().await;
    assert_eq!(manifests.len(), 2);
    assert_eq!(manifests[0]["previous"], Value::Null);
    assert_eq!(
        manifests[1]["previous"]["backup_id"],
        "20260103T010000Z-on-demand"
    );
}
