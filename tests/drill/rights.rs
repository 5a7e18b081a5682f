//! What the drill function's role may do, with IAM enforced: all that a drill needs, and no more.

use localcloud::{Cloud, S3Backend};
use reqwest::Method;
use serde_json::json;

use super::rehearsal::Rehearsal;
use crate::faults::clouds;

const ROLE: &str = "DrillFunctionRole";

async fn asked(cloud: &Cloud, method: Method, bucket: &str, path: &str) -> (u16, String) {
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
    let reply = reply.await.unwrap();
    let content_type = reply.headers.get("content-type");
    let content_type = content_type.map(|it| it.to_str().unwrap().to_owned());
    (reply.status.as_u16(), content_type.unwrap_or_default())
}

#[tokio::test]
async fn a_drill_needs_no_more_than_its_role_gives_and_it_gives_no_more() {
    let enforced = clouds::start("drill-roles", |options| {
        options.s3 = S3Backend::Moto;
        options.iam_enforced = true;
    });
    let cloud: &'static _ = Box::leak(Box::new(enforced.await));
    let sql = "CREATE TABLE t AS SELECT generate_series(1, 100) AS i";
    let rehearsal = Rehearsal::of(cloud, "enforced-drill", sql, "").await;
    let ended = rehearsal.drill(&json!({})).await;
    rehearsal.assert_proven(&ended).await;

    let manifest = &rehearsal.subject.manifests().await[0];
    let data = manifest["objects"][0]["key"].as_str().unwrap();
    let output = ended.output.unwrap();
    let of = |key: &str| output["databases"][0][key].as_str().unwrap().to_owned();
    let (evidence, page) = (of("evidence_key"), of("report_key"));
    // What a browser is given is shown, not saved.
    let html = asked(cloud, Method::GET, "VaultBucket", &page).await;
    assert_eq!(html, (200, "text/html; charset=utf-8".to_owned()));
    let json = asked(cloud, Method::GET, "VaultBucket", &evidence).await;
    assert_eq!(json, (200, "application/json".to_owned()));

    let vault = "VaultBucket";
    for (method, bucket, path, expected) in [
        (Method::GET, vault, data, 200),
        (Method::PUT, vault, "evidence/enforced-drill/new.json", 200),
        (Method::PUT, vault, "verdicts/enforced-drill/new.json", 200),
        (Method::PUT, vault, &evidence, 412),
        (Method::PUT, vault, "backups/enforced-drill/forged", 403),
        (Method::PUT, vault, "elsewhere.json", 403),
        (Method::DELETE, vault, data, 403),
        (Method::DELETE, vault, &evidence, 403),
        (Method::PUT, "WorkBucket", "drills/x/forged.json", 200),
        (Method::PUT, "WorkBucket", "plans/forged.json", 403),
        (Method::GET, "WorkBucket", "plans/anything.json", 403),
        (Method::PUT, "WorkBucket", "verify/forged.json", 403),
    ] {
        let found = asked(cloud, method.clone(), bucket, path).await.0;
        assert_eq!(found, expected, "{method} {bucket}/{path}");
    }
    let credentials = cloud.role_credentials(ROLE).unwrap();
    for name in ["lifeboat/channel/drill-app", "lifeboat/channel/pager"] {
        cloud.put_secret(name, "X-Token: hidden").await.unwrap();
    }
    for (secret, allowed) in [
        ("lifeboat/identity", true),
        ("lifeboat/target/on-enforced-drill", true),
        ("lifeboat/channel/drill-app", true),
        ("lifeboat/channel/pager", false),
        ("lifeboat/database/enforced-drill", false),
    ] {
        let request = json!({"SecretId": secret});
        let target = "secretsmanager.GetSecretValue";
        let answer = cloud.api_as(credentials, "secretsmanager", target, &request);
        assert_eq!(answer.await.is_ok(), allowed, "{secret}");
    }
}
