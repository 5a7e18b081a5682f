//! Branches that runs have left, and their secrets, in the daily rotation.

use std::time::Duration;

use localcloud::neon::{NeonFault, NeonFaultAction, ProjectOptions};
use reqwest::Method;
use serde_json::{Value, json};

use super::stage::Stage;

fn project() -> ProjectOptions {
    ProjectOptions {
        // Old enough for a state of the past.
        age: Duration::from_secs(7_200),
        history_retention_seconds: Some(7 * 86_400),
        ..ProjectOptions::default()
    }
}

#[tokio::test]
async fn a_branch_that_expires_while_branches_are_rotated_leaves_no_secret() {
    let stage = Stage::new("neon-vanished", project(), "dump_compute = 0.25").await;
    let drill = json!({"database": stage.name, "drill_id": "2026-01-10T030000Z-0a1b2c3d"});
    let create = json!({"drill_source": {"create": drill}});
    let lent = stage.invoke(&create).await.unwrap();
    let of = |field: &str| lent[field].as_str().unwrap().to_owned();
    assert_eq!(stage.branch_secrets().await.len(), 1);
    stage.age(&of("branch"), 1);
    // Listed, and not there when it is looked at once more.
    stage.neon.faults().add(NeonFault {
        method: Some(Method::GET),
        path: format!("/branches/{}", of("branch_id")),
        action: NeonFaultAction::NotFound,
        ..NeonFault::default()
    });
    let rotate = json!({"rotate": {"database": stage.name}});
    stage.invoke(&rotate).await.unwrap();
    assert_eq!(stage.names(), [of("branch"), "main".to_owned()]);
    let nothing: [String; 0] = [];
    assert_eq!(stage.branch_secrets().await, nothing);
    // Its run is over, so it goes when it is seen again.
    stage.invoke(&rotate).await.unwrap();
    assert_eq!(stage.names(), ["main"]);
}

#[tokio::test]
async fn a_secret_that_cannot_be_deleted_keeps_its_own_branch_and_no_other() {
    let stage = Stage::new("neon-held", project(), "dump_compute = 0.25").await;
    for drill_id in ["2026-01-09T030000Z-0a1b2c3d", "2026-01-10T030000Z-0a1b2c3d"] {
        let drill = json!({"database": stage.name, "drill_id": drill_id});
        let create = json!({"drill_source": {"create": drill}});
        stage.invoke(&create).await.unwrap();
        stage.age(&format!("drill-{drill_id}"), 1);
    }
    let held = "drill-2026-01-09T030000Z-0a1b2c3d";
    let secret = format!("lifeboat/branch/{}/2026-01-09T030000Z-0a1b2c3d", stage.name);
    // Secrets Manager deletes none that is replicated.
    let replicate = async |action: &str, field: &str, regions: Value| {
        let target = format!("secretsmanager.{action}");
        let request = json!({"SecretId": secret, field: regions});
        let asked = stage.cloud.api("secretsmanager", &target, &request);
        asked.await.unwrap();
    };
    let regions = json!([{"Region": "eu-west-1"}]);
    replicate("ReplicateSecretToRegions", "AddReplicaRegions", regions).await;
    let rotate = json!({"rotate": {"database": stage.name}});
    let error = stage.invoke(&rotate).await.unwrap_err();
    let says = "1 of 2 branches could not be deleted";
    assert!(error.contains(says) && error.contains(&secret), "{error}");
    assert_eq!(stage.names(), [held, "main"]);

    let regions = json!(["eu-west-1"]);
    replicate(
        "RemoveRegionsFromReplication",
        "RemoveReplicaRegions",
        regions,
    )
    .await;
    stage.invoke(&rotate).await.unwrap();
    assert_eq!(stage.names(), ["main"]);
    assert_eq!(stage.branch_secrets().await, [""; 0]);
}
