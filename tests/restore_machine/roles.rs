//! What the restore function's role may do, with IAM enforced: all that a restore needs, and no more.

use localcloud::{Cloud, S3Backend};
use reqwest::Method;
use serde_json::json;

use super::rescue::{Rescue, SHOP, target};
use crate::faults::clouds;

const ROLE: &str = "RestoreFunctionRole";

async fn status(cloud: &Cloud, method: Method, bucket: &str, path: &str) -> u16 {
    let credentials = cloud.role_credentials(ROLE).unwrap();
    let path = format!("/{}/{path}", cloud.physical(bucket).unwrap());
    let headers = [
        ("if-none-match", "*"),
        ("x-amz-sdk-checksum-algorithm", "CRC32"),
    ];
    let is_write = method == Method::PUT;
    let (headers, body) = if is_write {
        (&headers[..], "forged")
    } else {
        (&[][..], "")
    };
    let reply = cloud.s3_as(credentials, method, &path, headers, body.into());
    reply.await.unwrap().status.as_u16()
}

#[tokio::test]
async fn a_restore_needs_no_more_than_its_role_gives_and_it_gives_no_more() {
    let enforced = clouds::start("restore-roles", |options| {
        options.s3 = S3Backend::Moto;
        options.iam_enforced = true;
    });
    let cloud: &'static _ = Box::leak(Box::new(enforced.await));
    let rescue = Rescue::of(cloud, "enforced-restore", SHOP).await;
    let report = rescue
        .restore(&rescue.request("enforced_copy"), "standby/enforced_copy")
        .await;
    assert_eq!(report["verdict"], "proven");
    let asked = rescue.ask(&rescue.request("enforced_no")).await;
    rescue.refuse(&asked.plan_id).await.unwrap();
    let ended = rescue.subject.wait(&asked.execution).await;
    rescue.assert_failed(&ended, "ApprovalRefused", &[]);
    // The state of a live database, beside it.
    let live = target("live-enforced", &rescue.subject.url(), true);
    cloud.configure_targets(vec![live]).await.unwrap();
    let staged = json!({"database": "enforced-restore", "scope": {"tables": ["shop.items"]},
        "target": {"staging": {"target": "live-enforced", "schema": "lifeboat_enforced"}}});
    let typed = "live-enforced/enforced-restore/lifeboat_enforced";
    rescue.restore(&staged, typed).await;

    let manifest = &rescue.subject.manifests().await[0];
    let data = manifest["objects"][0]["key"].as_str().unwrap();
    let evidence = report["evidence_key"].as_str().unwrap();
    let vault = "VaultBucket";
    for (method, bucket, path, expected) in [
        (Method::GET, vault, data, 200),
        (Method::GET, vault, evidence, 200),
        (
            Method::PUT,
            vault,
            "evidence/enforced-restore/new.json",
            200,
        ),
        (Method::PUT, vault, evidence, 412),
        (Method::PUT, vault, "backups/enforced-restore/forged", 403),
        (
            Method::PUT,
            vault,
            "verdicts/enforced-restore/forged.json",
            403,
        ),
        (Method::PUT, vault, "elsewhere.json", 403),
        (Method::DELETE, vault, data, 403),
        (Method::DELETE, vault, evidence, 403),
        (Method::PUT, "WorkBucket", "plans/x/forged.json", 200),
        (Method::PUT, "WorkBucket", "verify/forged.json", 403),
        (Method::GET, "WorkBucket", "verify/anything.json", 403),
    ] {
        let found = status(cloud, method.clone(), bucket, path).await;
        assert_eq!(found, expected, "{method} {bucket}/{path}");
    }
    let credentials = cloud.role_credentials(ROLE).unwrap();
    for (secret, allowed) in [
        ("lifeboat/identity", true),
        ("lifeboat/target/standby", true),
        ("lifeboat/database/enforced-restore", false),
    ] {
        let request = json!({"SecretId": secret});
        let target = "secretsmanager.GetSecretValue";
        let answer = cloud.api_as(credentials, "secretsmanager", target, &request);
        assert_eq!(answer.await.is_ok(), allowed, "{secret}");
    }
    // Nobody else reads plans or answers for a person.
    for role in [
        "DumpFunctionRole",
        "VerifyFunctionRole",
        "AlertFunctionRole",
    ] {
        let credentials = cloud.role_credentials(role).unwrap();
        let token = json!({"taskToken": "x", "output": "{}"});
        let send = "AWSStepFunctions.SendTaskSuccess";
        let answer = cloud.api_as(credentials, "states", send, &token).await;
        let denied = format!("{:?}", answer.err().unwrap());
        assert!(denied.contains("AccessDenied"), "{role}: {denied}");
    }
}
