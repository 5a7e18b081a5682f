//! Verdicts: written once for each verify, and about what was read.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use shared::key::verdicts_of_prefix;
use shared::verdict::{Check, Verdict};

use crate::sample::{backup, database, id};
use crate::vault::Cloud;

#[tokio::test]
async fn a_sound_backup_passes_and_the_verdict_says_what_was_read() {
    let backup = backup();
    let cloud = Cloud::with(&backup).await;
    let report = cloud.verify(&backup).await;
    assert_eq!(
        report.verdict,
        Some(Verdict::Passed),
        "{:#?}",
        report.findings
    );
    assert_eq!((report.remaining, report.next.as_ref()), (0, None));
    let verdict = cloud.verdict(&report).await;
    assert_eq!(verdict.verdict, Verdict::Passed);
    assert_eq!(verdict.check, Check::Verify);
    assert_eq!(verdict.totals, backup.manifest.totals);
    assert_eq!(verdict.snapshot_at, Some(backup.manifest.snapshot_at));
    let json = backup.manifest.to_json().unwrap();
    assert_eq!(verdict.manifest_sha256, Some(shared::sealed::sha256(&json)));
}

#[tokio::test]
async fn a_second_verify_appends_a_second_verdict() {
    let backup = backup();
    let cloud = Cloud::with(&backup).await;
    let first = cloud.verify(&backup).await;
    let before = cloud.verdict(&first).await;
    let second = cloud.verify(&backup).await;
    assert_ne!(first.verdict_key, second.verdict_key);
    let listed = cloud
        .vault
        .list(&verdicts_of_prefix(&database(), id()))
        .await;
    assert_eq!(listed.unwrap().len(), 2);
    assert_eq!(cloud.verdict(&first).await, before);
    assert_eq!(cloud.verdict(&second).await.verdict, Verdict::Passed);
}

#[tokio::test]
async fn an_answer_stays_small_and_the_verdict_has_every_finding() {
    let mut plain = crate::sample::plain();
    plain.truncate(1);
    for number in 1..60 {
        plain.push(crate::sample::slice(31, number, b"1\tx\n", number == 59));
    }
    plain.extend(crate::sample::plain().into_iter().skip(2));
    let backup = crate::sample::seal(plain);
    let cloud = Cloud::with(&backup).await;
    for object in &backup.manifest.objects {
        fs::write(cloud.file(&object.key), b"gone").unwrap();
    }
    let report = cloud.verify(&backup).await;
    assert_eq!(report.findings.len(), 10);
    assert_eq!(report.findings_total, backup.objects.len());
    assert!(serde_json::to_vec(&report).unwrap().len() < 32 << 10);
    let verdict = cloud.verdict(&report).await;
    assert_eq!(verdict.findings.len(), backup.objects.len());
}

#[tokio::test]
async fn an_object_that_cannot_be_read_is_a_doubt_never_a_pass() {
    let backup = backup();
    let cloud = Cloud::with(&backup).await;
    // A folder in its place makes the storage answer with an internal error.
    let file = cloud.file(&backup.manifest.objects[0].key);
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o700)).unwrap();
    let report = cloud.verify(&backup).await;
    assert_eq!(
        report.verdict,
        Some(Verdict::Inconclusive),
        "{:#?}",
        report.findings
    );
}
