//! What each function's role may do, with IAM enforced: who writes where is decided by the first path segment.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use localcloud::Cloud;
use reqwest::Method;
use serde_json::json;

use crate::faults::clouds;
use crate::faults::subject::Subject;
use crate::neon::stage::enforced;

/// An S3 request as a role.
pub(crate) struct Try<'a> {
    method: Method,
    /// Below the vault.
    path: &'a str,
    once: bool,
}

pub(crate) fn read(path: &str) -> Try<'_> {
    Try {
        method: Method::GET,
        path,
        once: false,
    }
}

pub(crate) fn write(path: &str) -> Try<'_> {
    Try {
        method: Method::PUT,
        path,
        once: true,
    }
}

pub(crate) fn delete(path: &str) -> Try<'_> {
    Try {
        method: Method::DELETE,
        path,
        once: false,
    }
}

async fn status(cloud: &Cloud, role: &str, request: &Try<'_>) -> u16 {
    let credentials = cloud.role_credentials(role).unwrap();
    let path = format!(
        "/{}{}",
        cloud.physical("VaultBucket").unwrap(),
        request.path
    );
    let once = [
        ("if-none-match", "*"),
        ("x-amz-sdk-checksum-algorithm", "CRC32"),
    ];
    let headers = if request.once { &once[..] } else { &[] };
    let body = if request.method == Method::PUT {
        "forged"
    } else {
        ""
    };
    let reply = cloud
        .s3_as(
            credentials,
            request.method.clone(),
            &path,
            headers,
            body.into(),
        )
        .await
        .unwrap();
    reply.status.as_u16()
}

pub(crate) async fn assert_denied(cloud: &Cloud, role: &str, requests: &[Try<'_>]) {
    for request in requests {
        assert_eq!(
            status(cloud, role, request).await,
            403,
            "{role} {} {}",
            request.method,
            request.path
        );
    }
}

pub(crate) async fn assert_secret_denied(cloud: &Cloud, role: &str, secret: &str) {
    let credentials = cloud.role_credentials(role).unwrap();
    let request = json!({"SecretId": secret});
    let answer = cloud
        .api_as(
            credentials,
            "secretsmanager",
            "secretsmanager.GetSecretValue",
            &request,
        )
        .await;
    let denied = answer
        .as_ref()
        .is_err_and(|error| format!("{error:?}").contains("AccessDenied"));
    assert!(denied, "{role} {secret}: {:?}", answer.is_ok());
}

#[tokio::test]
async fn a_backup_needs_no_more_than_the_roles_give_and_they_give_no_more_than_it_needs() {
    let cloud = &enforced().await.cloud;
    let table = "CREATE TABLE t AS SELECT i, md5(i::text) FROM generate_series(1, 1000) i";
    let subject = Subject::of(cloud, clouds::cluster(), "enforced", table).await;
    let ended = subject.back_up().await;
    let manifest = subject.assert_verified(&ended).await;

    let data = format!("/{}", manifest["objects"][0]["key"].as_str().unwrap());
    let record = format!(
        "/backups/enforced/{}/manifest.json",
        manifest["backup_id"].as_str().unwrap()
    );
    assert_locked_for_35_days(cloud, &manifest, &record).await;
    dump_only_creates_backups(cloud, &data, &record).await;
    verify_reads_and_judges(cloud, &data).await;
    verify_locks_for_no_longer_than_the_stack_allows(cloud, &data).await;
    alert_reads_no_data(cloud, &data).await;
    for role in ["DumpFunctionRole", "AlertFunctionRole"] {
        assert_secret_denied(cloud, role, "lifeboat/identity").await;
    }
    for role in ["VerifyFunctionRole", "AlertFunctionRole"] {
        assert_secret_denied(cloud, role, "lifeboat/database/enforced").await;
    }
}

/// The bucket's own default is 7 days.
async fn assert_locked_for_35_days(cloud: &Cloud, manifest: &serde_json::Value, record: &str) {
    let objects = manifest["objects"].as_array().unwrap().iter();
    let mut keys: Vec<_> = objects
        .map(|it| format!("/{}", it["key"].as_str().unwrap()))
        .collect();
    keys.push(record.to_owned());
    let started: jiff::Timestamp = manifest["started_at"].as_str().unwrap().parse().unwrap();
    // Locks know whole seconds.
    let earliest = started + jiff::SignedDuration::from_secs(35 * 86_400 - 1);
    for key in keys {
        let path = format!("/{}{key}", cloud.physical("VaultBucket").unwrap());
        let admin = cloud.admin_credentials();
        let reply = cloud.s3_as(admin, Method::HEAD, &path, &[], "".into());
        let reply = reply.await.unwrap();
        let until = reply.headers.get("x-amz-object-lock-retain-until-date");
        let until = until.unwrap_or_else(|| panic!("{path} is not locked"));
        let until: jiff::Timestamp = until.to_str().unwrap().parse().unwrap();
        assert!(until >= earliest, "{path}: {until} < {earliest}");
    }
}

async fn dump_only_creates_backups(cloud: &Cloud, data: &str, record: &str) {
    assert_eq!(
        status(cloud, "DumpFunctionRole", &write("/backups/enforced/new")).await,
        200
    );
    let plain = Try {
        once: false,
        ..write("/backups/enforced/unconditional")
    };
    let denied = [
        read(data),
        read(record),
        read("?list-type=2"),
        read("?list-type=2&prefix=backups%2F"),
        read("?versions"),
        delete(data),
        delete(record),
        write("/verdicts/enforced/forged-verify.json"),
        write("/evidence/enforced/forged.json"),
        write("/status.json"),
        Try {
            method: Method::PUT,
            path: &format!("{data}?retention"),
            once: false,
        },
        plain,
    ];
    assert_denied(cloud, "DumpFunctionRole", &denied).await;
    // Taken is taken: the condition that is demanded holds.
    assert_eq!(status(cloud, "DumpFunctionRole", &write(record)).await, 412);
}

async fn verify_reads_and_judges(cloud: &Cloud, data: &str) {
    assert_eq!(status(cloud, "VerifyFunctionRole", &read(data)).await, 200);
    assert_eq!(
        status(
            cloud,
            "VerifyFunctionRole",
            &write("/verdicts/enforced/x/20260102T010000Z-a-verify.json")
        )
        .await,
        200
    );
    let denied = [
        write("/backups/enforced/forged"),
        delete(data),
        delete("/verdicts/enforced/x/20260102T010000Z-a-verify.json"),
    ];
    assert_denied(cloud, "VerifyFunctionRole", &denied).await;
}

/// Beyond what the stack allows a lock would stand in the way of erasing for years.
async fn verify_locks_for_no_longer_than_the_stack_allows(cloud: &Cloud, data: &str) {
    let credentials = cloud.role_credentials("VerifyFunctionRole").unwrap();
    let path = format!(
        "/{}{data}?retention",
        cloud.physical("VaultBucket").unwrap()
    );
    #[expect(
        clippy::disallowed_methods,
        reason = "the storage compares with the clock"
    )]
    let now = jiff::Timestamp::now();
    for (days, is_denied) in [(34, false), (37, true)] {
        let until = now + jiff::SignedDuration::from_hours(days * 24);
        let until = until.strftime("%Y-%m-%dT%H:%M:%SZ");
        let body = format!(
            "<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>{until}</RetainUntilDate></Retention>"
        );
        let reply = cloud.s3_as(credentials, Method::PUT, &path, &[], body.into());
        let status = reply.await.unwrap().status.as_u16();
        assert_eq!(status == 403, is_denied, "{days} days: {status}");
    }
}

async fn alert_reads_no_data(cloud: &Cloud, data: &str) {
    let denied = [
        read(data),
        delete(data),
        write("/backups/enforced/forged"),
        write("/verdicts/enforced/forged-verify.json"),
    ];
    assert_denied(cloud, "AlertFunctionRole", &denied).await;
}
