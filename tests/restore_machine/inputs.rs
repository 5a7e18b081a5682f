//! What people type, and what they are answered.

use serde_json::{Value, json};

use super::rescue::{Rescue, SHOP};

#[tokio::test]
async fn a_wrong_input_gets_an_answer_that_a_person_understands() {
    let rescue = Rescue::new("inputs", SHOP).await;
    let with = |name: &str, value: Value| {
        let mut request = rescue.request("inputs_copy");
        request[name] = value;
        request
    };
    for (input, expected) in [
        (
            json!({}),
            vec![
                "`database` is missing",
                "`target` is missing",
                "For example",
            ],
        ),
        (
            json!("restore please"),
            vec!["has to be an object", "for example"],
        ),
        (
            with("database", json!("nobody")),
            vec!["knows no database \"nobody\"", "inputs"],
        ),
        (with("database", json!(7)), vec!["`database`"]),
        (
            with(
                "target",
                json!({"new_database": {"target": "nowhere", "database": "x"}}),
            ),
            vec!["knows no target \"nowhere\"", "standby"],
        ),
        (
            with("target", json!("standby")),
            vec!["`target`", "new_database"],
        ),
        (
            with("point", json!("yesterday")),
            vec!["`point`", "backup_id", "2026-11-21T02:30:00Z"],
        ),
        (
            with("point", json!({"backup_id": "20260101T010000Z-nightly"})),
            vec!["20260101T010000Z-nightly of inputs is not verified, or there is none"],
        ),
        (
            with("point", json!({"time": "2020-01-01T00:00:00Z"})),
            vec!["no verified backup whose data is from before 2020-01-01 00:00 UTC"],
        ),
        (
            with("scope", json!({"tables": ["items"]})),
            vec!["`scope`", "schema.table"],
        ),
        (with("clean", json!(true)), vec!["`clean` is not a field"]),
        (with("unverified", json!(true)), vec!["names a backup_id"]),
    ] {
        let ended = rescue.run(&input).await;
        rescue.assert_failed(&ended, "NotPlanned", &expected);
    }
    let woken = rescue.subject.cloud.published_messages().await.unwrap();
    assert!(
        !woken.iter().any(|it| it.text.contains("inputs")),
        "{woken:#?}"
    );
}

#[tokio::test]
async fn a_point_in_time_is_the_last_verified_backup_before_it() {
    let rescue = Rescue::new("points", SHOP).await;
    // Scheduled long ago, its data is of today: nothing before it is restorable.
    let snapshot = rescue.subject.manifests().await[0]["snapshot_at"].clone();
    let ended = rescue.subject.back_up_at("2026-02-02T01:00:00Z").await;
    rescue.subject.assert_verified(&ended).await;
    let manifests = rescue.subject.manifests().await;
    let plan = async |point: Value| {
        let mut request = rescue.request("points_copy");
        request["point"] = point;
        rescue.call(&json!({"plan": request})).await
    };
    let latest = plan(json!("latest")).await.unwrap();
    assert_eq!(latest["backup_id"], manifests[1]["backup_id"]);
    let between = manifests[1]["snapshot_at"].clone();
    let before = plan(json!({"time": between})).await.unwrap();
    assert_eq!(before["backup_id"], manifests[0]["backup_id"]);
    let (name, _) = plan(json!({"time": snapshot})).await.unwrap_err();
    assert_eq!(name, "Refused");
}

#[tokio::test]
async fn an_unverified_backup_is_restored_only_by_name_and_flag_and_says_so() {
    let rescue = Rescue::new("unverified", SHOP).await;
    let cloud = rescue.subject.cloud;
    for key in cloud.objects("VaultBucket").await.unwrap().into_keys() {
        if key.starts_with("verdicts/unverified/") {
            cloud.remove("VaultBucket", &key).await.unwrap();
        }
    }
    let mut request = rescue.request("unverified_copy");
    let (_, message) = rescue.call(&json!({"plan": request})).await.unwrap_err();
    assert!(message.contains("has no verified backup"), "{message}");
    request["point"] = json!({"backup_id": "20260102T010000Z-on-demand"});
    let (_, message) = rescue.call(&json!({"plan": request})).await.unwrap_err();
    assert!(message.contains("is not verified"), "{message}");
    request["unverified"] = json!(true);
    let plan = rescue.call(&json!({"plan": request})).await.unwrap();
    assert_eq!(plan["verified"], false);
    assert!(plan["words"].as_str().unwrap().contains("NOT VERIFIED"));
    assert_eq!(plan["can_be_done"], true);
}

#[tokio::test]
async fn a_manifest_that_changed_since_its_verdict_is_not_restored() {
    let rescue = Rescue::new("manifest-changed", "CREATE TABLE t AS SELECT 1 AS i").await;
    let cloud = rescue.subject.cloud;
    let objects = cloud.objects("VaultBucket").await.unwrap();
    let manifest = objects
        .into_keys()
        .find(|key| key.starts_with("backups/manifest-changed/") && key.ends_with("/manifest.json"))
        .unwrap();
    let json = cloud.object("VaultBucket", &manifest).await.unwrap();
    // The same to every reader, and another to its hash.
    let changed = [&json[..], b"\n"].concat();
    cloud
        .overwrite("VaultBucket", &manifest, changed)
        .await
        .unwrap();
    let plan = json!({"plan": rescue.request("manifest_changed_copy")});
    let (name, message) = rescue.call(&plan).await.unwrap_err();
    assert_eq!(name, "Failed", "{message}");
    assert!(
        message.contains("not the one that its verdict is about"),
        "{message}"
    );
}
