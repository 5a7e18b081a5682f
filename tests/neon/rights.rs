//! What snapshot-branch's role may do, with IAM enforced: all that branches need, and no more.

use localcloud::Cloud;
use serde_json::{Value, json};

use super::drill::{configure, old_project};
use super::stage::{Stage, enforced};
use crate::roles::{assert_denied, assert_secret_denied, delete, read, write};

const ROLE: &str = "SnapshotBranchFunctionRole";
const NAME: &str = "enforced-neon";

/// As the role, about a secret.
async fn asked(cloud: &Cloud, action: &str, request: &Value) -> Result<Value, String> {
    let credentials = cloud.role_credentials(ROLE).unwrap();
    let target = format!("secretsmanager.{action}");
    let answer = cloud.api_as(credentials, "secretsmanager", &target, request);
    answer.await.map_err(|error| format!("{error:?}"))
}

#[tokio::test]
#[ignore = "a minute: make slow; that the roles are what they should be, tests/infra holds each time"]
async fn branches_need_no_more_than_their_role_gives_and_it_gives_no_more() {
    let world = enforced().await;
    let stage = Stage::of(world, NAME, old_project(), "").await;
    configure(&stage, "prove_freshness = true", "").await;
    let ended = stage.back_up("2026-01-10T01:00:00Z").await;
    let manifest = stage.subject().assert_verified(&ended).await;
    assert!(manifest["source"]["branch_id"].is_string(), "{manifest:#}");
    let sunday = stage.run_branches("2026-01-11T02:00:00Z").await;
    assert_eq!(sunday.status, "SUCCEEDED", "{sunday:?}\n{}", stage.story());
    let evidence = sunday.output.unwrap()["databases"][0]["evidence_key"].clone();
    let input = json!({"databases": [NAME], "kind": "branch", "started_by": "Ada"});
    let drill = stage.cloud.run("DrillMachine", &input).await.unwrap();
    assert_eq!(drill.status, "SUCCEEDED", "{drill:?}\n{}", stage.story());
    let migration = "CREATE TABLE rehearsed (i int)";
    let rehearse = json!({"rehearse": {"database": NAME, "by": "Ada", "sql": migration}});
    assert_eq!(stage.invoke(&rehearse).await.unwrap()["verdict"], "passed");
    let begin = json!({"rehearse_begin": {"database": NAME, "by": "Ada"}});
    let begun = stage.invoke(&begin).await.unwrap();
    let end = json!({"database": NAME, "branch": begun["branch"], "exit_status": 0});
    let end = json!({"rehearse_end": end});
    assert_eq!(stage.invoke(&end).await.unwrap()["notes"], json!([]));
    assert_eq!(
        stage.names(),
        ["backup-2026-01-11", "main", "weekly-2026-01-11"]
    );
    let nothing: [String; 0] = [];
    assert_eq!(stage.branch_secrets().await, nothing);

    let data = format!("/{}", manifest["objects"][0]["key"].as_str().unwrap());
    let id = manifest["backup_id"].as_str().unwrap();
    let record = format!("/backups/{NAME}/{id}/manifest.json");
    let evidence = format!("/{}", evidence.as_str().unwrap());
    let denied = [
        read(&data),
        read(&record),
        read(&evidence),
        read("?list-type=2"),
        read("?versions"),
        delete(&data),
        delete(&record),
        delete(&evidence),
        write("/backups/enforced-neon/forged"),
        write("/verdicts/enforced-neon/forged-verify.json"),
        write("/status.json"),
    ];
    assert_denied(stage.cloud, ROLE, &denied).await;
    assert_secrets_denied(&stage).await;
}

async fn assert_secrets_denied(stage: &Stage) {
    let cloud = stage.cloud;
    let of = |kind: &str, name: &str| format!("lifeboat/{kind}/{name}");
    let api_key = of("neon", &stage.seeded.project);
    let lent = of("branch", "enforced-neon/20260110T010000Z-nightly");
    cloud.put_secret(&lent, "hidden").await.unwrap();
    let rehearsed = of("rehearsal", "enforced-neon/rehearsal-x");
    cloud.put_secret(&rehearsed, "hidden").await.unwrap();
    // It keeps what leads to a branch, and does not read it back.
    for secret in [
        "lifeboat/identity",
        "lifeboat/database/enforced-neon",
        "lifeboat/target/standby",
        lent.as_str(),
        rehearsed.as_str(),
    ] {
        assert_secret_denied(cloud, ROLE, secret).await;
    }
    // Who reads a branch can make none.
    for role in [
        "DumpFunctionRole",
        "DrillFunctionRole",
        "VerifyFunctionRole",
    ] {
        assert_secret_denied(cloud, role, &api_key).await;
        assert_secret_denied(cloud, role, &rehearsed).await;
    }
    let get = json!({"SecretId": api_key});
    asked(cloud, "GetSecretValue", &get).await.unwrap();
    for secret in [
        api_key.as_str(),
        "lifeboat/identity",
        "lifeboat/database/enforced-neon",
        "lifeboat/target/standby",
    ] {
        let put = json!({"SecretId": secret, "SecretString": "forged", "ClientRequestToken": "0a1b2c3d-0a1b-4c3d-8a1b-0a1b2c3d4e5f"});
        let delete = json!({"SecretId": secret, "ForceDeleteWithoutRecovery": true});
        for (action, request) in [("PutSecretValue", put), ("DeleteSecret", delete)] {
            let error = asked(cloud, action, &request).await.unwrap_err();
            assert!(error.contains("AccessDenied"), "{action} {secret}: {error}");
        }
    }
    for secret in [lent, rehearsed] {
        let delete = json!({"SecretId": secret, "ForceDeleteWithoutRecovery": true});
        asked(cloud, "DeleteSecret", &delete).await.unwrap();
    }
}
