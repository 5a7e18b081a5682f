use bytes::Bytes;
use hyper::Method;
use localcloud::{Cloud, Credentials, Fault, FaultAction, S3Backend};
use serde_json::json;

use crate::start;

/// An S3 request as a role would make it, with headers; the status and the body of the answer.
async fn s3_as(
    cloud: &Cloud,
    credentials: &Credentials,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
) -> (u16, String) {
    let reply = cloud
        .s3_as(
            credentials,
            method,
            path,
            headers,
            Bytes::from_static(b"bytes"),
        )
        .await
        .unwrap();
    if reply.status == 500 {
        println!(
            "{}",
            std::fs::read_to_string(cloud.home().join("logs/control-plane.log")).unwrap()
        );
    }
    (
        reply.status.as_u16(),
        String::from_utf8_lossy(&reply.body).into_owned(),
    )
}

/// The second one is what a bucket with Object Lock asks of every write.
const ONCE: &[(&str, &str)] = &[
    ("if-none-match", "*"),
    ("x-amz-sdk-checksum-algorithm", "CRC32"),
];

async fn one_of_sixteen_wins(backend: S3Backend) {
    let (cloud, _home) = start(|options| options.s3 = backend).await;
    let bucket = cloud.physical("VaultBucket").unwrap();
    let admin = cloud.admin_credentials();
    for round in 0..5 {
        let path = format!("/{bucket}/backups/app/{round}");
        let put = || s3_as(&cloud, admin, Method::PUT, &path, ONCE);
        let (a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p) = tokio::join!(
            put(),
            put(),
            put(),
            put(),
            put(),
            put(),
            put(),
            put(),
            put(),
            put(),
            put(),
            put(),
            put(),
            put(),
            put(),
            put(),
        );
        let all = [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p];
        let won = all.iter().filter(|(status, _)| *status == 200).count();
        let lost = all
            .iter()
            .filter(|(status, body)| *status == 412 && body.contains("PreconditionFailed"))
            .count();
        assert_eq!((won, lost), (1, 15), "round {round}: {all:?}");
    }
}

#[tokio::test]
async fn one_of_sixteen_conditional_writes_into_the_folder_wins() {
    one_of_sixteen_wins(S3Backend::Folder).await;
}

#[tokio::test]
async fn one_of_sixteen_completions_of_uploads_wins() {
    let (cloud, home) = start(|_| {}).await;
    let bucket = cloud.physical("VaultBucket").unwrap().to_owned();
    let path = format!("/{bucket}/backups/app/{}", "long-name-".repeat(10));
    let mut uploads = Vec::new();
    for _ in 0..16 {
        let begun = cloud
            .s3(Method::POST, &format!("{path}?uploads"), Bytes::new())
            .await
            .unwrap();
        let text = String::from_utf8_lossy(&begun.body).into_owned();
        let id = text
            .split("<UploadId>")
            .nth(1)
            .unwrap()
            .split('<')
            .next()
            .unwrap()
            .to_owned();
        let part = cloud
            .s3(
                Method::PUT,
                &format!("{path}?partNumber=1&uploadId={id}"),
                "part".into(),
            )
            .await
            .unwrap();
        uploads.push((id, part.headers["etag"].to_str().unwrap().to_owned()));
    }
    let cloud = std::sync::Arc::new(cloud);
    let mut tasks = tokio::task::JoinSet::new();
    for (id, etag) in uploads.clone() {
        let (cloud, path) = (cloud.clone(), path.clone());
        tasks.spawn(async move {
            let parts = format!(
                "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
            );
            let path = format!("{path}?uploadId={id}");
            let admin = cloud.admin_credentials();
            cloud.s3_as(admin, Method::POST, &path, ONCE, parts.into()).await.unwrap().status.as_u16()
        });
    }
    let mut statuses = tasks.join_all().await;
    statuses.sort_unstable();
    assert_eq!(statuses, [vec![200], vec![412; 15]].concat());
    for (id, _) in uploads {
        // The winner's upload is gone; the others are aborted.
        let admin = cloud.admin_credentials();
        let path = format!("{path}?uploadId={id}");
        let reply = cloud
            .s3_as(admin, Method::DELETE, &path, &[], Bytes::new())
            .await
            .unwrap();
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        assert!(
            reply.status == 204 || text.contains("NoSuchUpload"),
            "{} {text}",
            reply.status
        );
    }
    let left: Vec<_> = std::fs::read_dir(home.path().join("s3"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("upload"))
        .collect();
    assert!(left.is_empty(), "uploads leave nothing: {left:?}");
}

#[tokio::test]
async fn objects_are_plain_files_and_listed_in_order() {
    let (cloud, _home) = start(|_| {}).await;
    cloud
        .overwrite("VaultBucket", "backups/app/b", "two")
        .await
        .unwrap();
    cloud
        .overwrite("VaultBucket", "backups/app/a b+", "one")
        .await
        .unwrap();
    let objects = cloud.objects("VaultBucket").await.unwrap();
    let listed: Vec<_> = objects
        .iter()
        .map(|(key, size)| (key.as_str(), *size))
        .collect();
    assert_eq!(listed, [("backups/app/a b+", 3), ("backups/app/b", 3)]);
    let file = cloud
        .object_file("VaultBucket", "backups/app/a b+")
        .unwrap();
    assert_eq!(std::fs::read(file).unwrap(), b"one");
    assert_eq!(
        cloud
            .object("VaultBucket", "backups/app/a b+")
            .await
            .unwrap(),
        "one"
    );
    cloud.remove("VaultBucket", "backups/app/b").await.unwrap();
    assert_eq!(cloud.objects("VaultBucket").await.unwrap().len(), 1);
}

async fn only_what_the_policies_allow(backend: S3Backend) {
    let (cloud, _home) =
        start(|options| (options.iam_enforced, options.s3) = (true, backend)).await;
    let bucket = cloud.physical("VaultBucket").unwrap();
    let role = cloud.role_credentials("ProbeRole").unwrap();
    let backup = format!("/{bucket}/backups/app/1");
    let verdict = format!("/{bucket}/verdicts/app/1");
    for (method, path, headers, status) in [
        (Method::PUT, &backup, &[][..], 403),
        (Method::PUT, &backup, ONCE, 200),
        (Method::PUT, &verdict, ONCE, 403),
        (Method::GET, &backup, &[], 403),
        (Method::HEAD, &backup, &[], 403),
        (Method::DELETE, &backup, &[], 403),
        (Method::GET, &format!("/{bucket}?list-type=2"), &[], 403),
    ] {
        let (answered, body) = s3_as(&cloud, role, method.clone(), path, headers).await;
        assert_eq!(answered, status, "{method} {path} {headers:?}: {body}");
    }
    let objects = cloud.objects("VaultBucket").await.unwrap();
    assert_eq!(objects.keys().collect::<Vec<_>>(), ["backups/app/1"]);

    cloud
        .put_secret("lifeboat/database/app", "open")
        .await
        .unwrap();
    let read = async |name: &str| {
        cloud
            .api_as(
                role,
                "secretsmanager",
                "secretsmanager.GetSecretValue",
                &json!({"SecretId": name}),
            )
            .await
    };
    assert_eq!(
        read("lifeboat/database/app").await.unwrap()["SecretString"],
        "open"
    );
    let refused = read("lifeboat/identity").await.unwrap_err().to_string();
    assert!(refused.contains("AccessDenied"), "{refused}");

    // The machine's role, with which the engine's own calls are made, may invoke the function.
    let run = cloud
        .run("ProbeMachine", &json!({"hello": 1}))
        .await
        .unwrap();
    assert_eq!(run.status, "SUCCEEDED", "{run:?}");
}

#[tokio::test]
async fn a_role_may_do_only_what_its_policies_and_the_buckets_allow() {
    only_what_the_policies_allow(S3Backend::Folder).await;
}

#[tokio::test]
async fn a_role_may_do_the_same_where_the_control_plane_checks_too() {
    only_what_the_policies_allow(S3Backend::Moto).await;
}

#[tokio::test]
async fn a_bucket_of_the_control_plane_is_versioned_and_locked_as_the_template_says() {
    let (cloud, _home) = start(|options| options.s3 = S3Backend::Moto).await;
    let bucket = cloud.physical("VaultBucket").unwrap();
    let get = async |what: &str| {
        let reply = cloud
            .s3(Method::GET, &format!("/{bucket}?{what}"), Bytes::new())
            .await
            .unwrap();
        String::from_utf8_lossy(&reply.body).into_owned()
    };
    assert!(get("versioning").await.contains("<Status>Enabled</Status>"));
    let lock = get("object-lock").await;
    assert!(
        lock.contains("GOVERNANCE") && lock.contains("<Days>7</Days>"),
        "{lock}"
    );
    one_of_sixteen_wins(S3Backend::Moto).await;
}

#[tokio::test]
async fn faults_meet_the_requests_they_are_meant_for() {
    let (cloud, _home) = start(|_| {}).await;
    let bucket = cloud.physical("VaultBucket").unwrap().to_owned();
    let (path, admin) = (format!("/{bucket}/backups/x"), cloud.admin_credentials());
    let fault = |action| Fault {
        method: Some(Method::PUT),
        path: "/backups/x".into(),
        action,
        ..Fault::default()
    };

    cloud.faults().add(fault(FaultAction::Status {
        status: 503,
        code: "SlowDown".into(),
    }));
    let (status, body) = s3_as(&cloud, admin, Method::PUT, &path, &[]).await;
    assert!(
        status == 503 && body.contains("<Code>SlowDown</Code>"),
        "{status} {body}"
    );
    assert!(cloud.objects("VaultBucket").await.unwrap().is_empty());

    cloud.faults().add(fault(FaultAction::Reset));
    assert!(
        cloud
            .overwrite("VaultBucket", "backups/x", "1")
            .await
            .is_err()
    );
    assert!(cloud.objects("VaultBucket").await.unwrap().is_empty());

    cloud.faults().add(fault(FaultAction::LoseAnswer));
    assert!(
        cloud
            .overwrite("VaultBucket", "backups/x", "1")
            .await
            .is_err()
    );
    assert_eq!(cloud.objects("VaultBucket").await.unwrap().len(), 1);

    cloud.faults().add(Fault {
        method: Some(Method::GET),
        action: FaultAction::CutAnswer(1),
        ..Fault::default()
    });
    cloud
        .overwrite("VaultBucket", "backups/x", "12345")
        .await
        .unwrap();
    assert!(cloud.object("VaultBucket", "backups/x").await.is_err());
    assert_eq!(
        cloud.object("VaultBucket", "backups/x").await.unwrap(),
        "12345"
    );
}
