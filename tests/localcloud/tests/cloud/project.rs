//! The project's own template, with programs that do nothing.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use localcloud::{Cloud, Options, S3Backend};
use serde_json::json;
use tempfile::TempDir;

async fn deployed(backend: S3Backend) -> (Cloud, TempDir) {
    let home = tempfile::tempdir().unwrap();
    let artifacts = home.path().join("artifacts");
    std::fs::create_dir(&artifacts).unwrap();
    for program in [
        "dump",
        "verify",
        "alert",
        "restore",
        "drill",
        "snapshot-branch",
    ] {
        let path = artifacts.join(program);
        std::fs::write(&path, "#!/bin/sh\nexit 0\n").unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut options = Options::new(home.path().join("home"));
    (options.artifacts, options.s3, options.iam_enforced) = (artifacts, backend, true);
    (Cloud::start(options).await.unwrap(), home)
}

#[tokio::test]
async fn the_projects_template_deploys_and_its_backstop_speaks_when_no_function_works() {
    let (cloud, _home) = deployed(S3Backend::Folder).await;
    let dump = cloud.function("dump").unwrap();
    assert_eq!(
        (dump.timeout, dump.memory_mib),
        (Duration::from_secs(900), 3538)
    );
    assert!(Path::new(&cloud.object_file("VaultBucket", "").unwrap()).is_dir());

    let (from, to) = ("2026-11-20T00:50:00Z", "2026-11-20T01:05:00Z");
    let due = cloud
        .due(from.parse().unwrap(), to.parse().unwrap())
        .unwrap();
    let nightly: Vec<_> = due
        .iter()
        .filter(|due| due.input.contains("nightly"))
        .collect();
    assert_eq!(nightly.len(), 1, "{due:?}");
    assert!(
        nightly[0].input.contains("\"2026-11-20T01:00:00Z\""),
        "{due:?}"
    );

    let run = cloud.run("BackupMachine", &json!({})).await.unwrap();
    assert_eq!(run.status, "FAILED");
    let messages = cloud.published_messages().await.unwrap();
    assert!(
        messages.len() == 1 && messages[0].text.starts_with("Backstop:"),
        "{messages:?}"
    );
    let now = jiff::Timestamp::try_from(std::time::SystemTime::now()).unwrap();
    let alarms = cloud.evaluate_alarms(now).await.unwrap();
    let went_off: Vec<_> = alarms
        .iter()
        .filter(|alarm| alarm.went_off)
        .map(|alarm| &alarm.logical_id)
        .collect();
    assert_eq!(went_off, ["BackupFailedAlarm"], "{alarms:?}");
}

#[tokio::test]
async fn the_projects_roles_hold_where_the_control_plane_checks_too() {
    let (cloud, _home) = deployed(S3Backend::Moto).await;
    let bucket = cloud.physical("VaultBucket").unwrap();
    let once = &[
        ("if-none-match", "*"),
        ("x-amz-sdk-checksum-algorithm", "CRC32"),
    ];
    for (role, path, status) in [
        ("DumpFunctionRole", "backups/app/1", 200),
        ("DumpFunctionRole", "verdicts/app/1", 403),
        ("VerifyFunctionRole", "verdicts/app/1", 200),
        ("VerifyFunctionRole", "backups/app/2", 403),
        ("AlertFunctionRole", "backups/app/2", 403),
    ] {
        let credentials = cloud.role_credentials(role).unwrap();
        let path = format!("/{bucket}/{path}");
        let put = cloud.s3_as(credentials, hyper::Method::PUT, &path, once, "x".into());
        let reply = put.await.unwrap();
        assert_eq!(
            reply.status.as_u16(),
            status,
            "{role} {path}: {:?}",
            reply.body
        );
    }
}
