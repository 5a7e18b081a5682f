//! Damage to the manifest, and manifests that do not belong.

use std::fs;

use serde_json::json;
use shared::backup::PreviousBackup;
use shared::key::Key;
use shared::manifest::Manifest;
use shared::sealed::sha256;
use shared::verdict::{Code, Finding, Verdict};
use verify::consistency::check_manifest;

use crate::sample::{Backup, backup, database, id};
use crate::vault::{Cloud, found};

async fn codes_of(backup: &Backup, json: &[u8]) -> (Option<Verdict>, Vec<Code>) {
    let cloud = Cloud::start().await;
    for (object, bytes) in backup.manifest.objects.iter().zip(&backup.objects) {
        let put = cloud.vault.put_once(&object.key, bytes.clone().into());
        put.await.unwrap();
    }
    cloud.put_manifest(json).await;
    let report = cloud.verify(backup).await;
    (
        report.verdict,
        report.findings.iter().map(|it| it.code).collect(),
    )
}

#[tokio::test]
async fn a_flipped_byte_of_the_stored_manifest_is_found() {
    let backup = backup();
    let json = backup.manifest.to_json().unwrap();
    let cloud = Cloud::with(&backup).await;
    for at in (0..json.len()).step_by(41) {
        let mut damaged = json.clone();
        damaged[at] ^= 1;
        fs::write(cloud.manifest_file(), &damaged).unwrap();
        let report = cloud.verify(&backup).await;
        assert_eq!(report.verdict, Some(Verdict::Failed), "{at}");
        let expected = (Code::ChecksumDiffers, "manifest.json".to_owned());
        assert_eq!(found(&report), [expected], "{at}");
    }
}

#[test]
fn no_flipped_byte_makes_the_reader_panic() {
    let json = backup().manifest.to_json().unwrap();
    for at in 0..json.len() {
        let mut damaged = json.clone();
        damaged[at] ^= 1 << (at % 7);
        if let Ok(manifest) = Manifest::parse(&damaged) {
            let _findings = check_manifest(&manifest, &database(), id());
        }
    }
}

#[tokio::test]
async fn a_manifest_that_is_missing_cut_or_empty_is_found() {
    let backup = backup();
    let cloud = Cloud::with(&backup).await;
    fs::remove_file(cloud.manifest_file()).unwrap();
    let report = cloud.verify(&backup).await;
    assert_eq!(report.verdict, Some(Verdict::Failed));
    assert_eq!(report.findings[0].code, Code::ManifestMissing);

    let json = backup.manifest.to_json().unwrap();
    for json in [&json[..json.len() / 2], b"", b"null", b"{}", b"\xff"] {
        let (verdict, codes) = codes_of(&backup, json).await;
        assert_eq!(verdict, Some(Verdict::Failed));
        assert_eq!(codes, [Code::ManifestUnreadable]);
    }
}

#[tokio::test]
async fn an_unknown_format_repeated_keys_and_deep_nesting_are_refused() {
    let backup = backup();
    let json = String::from_utf8(backup.manifest.to_json().unwrap()).unwrap();
    let unknown = json.replacen("\"format\": 1", "\"format\": 2", 1);
    let repeated = json.replacen("\"format\": 1", "\"attempt\": \"x\", \"format\": 1", 1);
    let nested = format!("{{\"format\": 1, \"x\": {}", "[".repeat(100_000));
    for json in [unknown, repeated, nested] {
        let (verdict, codes) = codes_of(&backup, json.as_bytes()).await;
        assert_eq!(verdict, Some(Verdict::Failed));
        assert_eq!(codes, [Code::ManifestUnreadable]);
    }
}

#[tokio::test]
async fn the_manifest_of_another_backup_is_named_and_its_objects_are_not_read() {
    let backup = backup();
    let json = String::from_utf8(backup.manifest.to_json().unwrap()).unwrap();
    let later = json.replace("20261121T010000Z", "20261122T010000Z");
    let later = later.replace("2026-11-21T01:00:00Z", "2026-11-22T01:00:00Z");
    let other = json.replace("backups/app/", "backups/app-2/");
    let other = other.replace("\"database\": \"app\"", "\"database\": \"app-2\"");
    for json in [later, other] {
        let cloud = Cloud::with(&backup).await;
        fs::remove_file(cloud.manifest_file()).unwrap();
        cloud.put_manifest(json.as_bytes()).await;
        let report = cloud.verify(&backup).await;
        assert_eq!(report.verdict, Some(Verdict::Failed));
        assert_eq!(report.findings[0].code, Code::ManifestForeign);
        assert_eq!(report.totals.objects, 0);
    }
}

fn check(change: impl Fn(&mut Manifest)) -> Vec<Finding> {
    let mut manifest = backup().manifest;
    change(&mut manifest);
    check_manifest(&manifest, &database(), id())
}

fn check_inconsistent(change: impl Fn(&mut Manifest), expected: &str) {
    let findings = check(change);
    let is_told =
        |it: &Finding| it.code == Code::ManifestInconsistent && it.message.contains(expected);
    assert!(findings.iter().any(is_told), "{expected}: {findings:#?}");
}

#[test]
fn a_manifest_that_agrees_with_itself_has_no_finding() {
    assert_eq!(check(|_| ()), []);
}

#[test]
fn every_contradiction_of_a_manifest_is_told() {
    check_inconsistent(|it| it.totals.rows += 1, "add up to");
    check_inconsistent(|it| it.totals.stored_bytes += 1, "add up to");
    check_inconsistent(|it| it.tables[2].rows += 1, "its objects together");
    check_inconsistent(
        |it| it.tables[2].fingerprint = it.tables[1].fingerprint,
        "together",
    );
    check_inconsistent(|it| it.tables[2].objects.swap(0, 1), "out of order");
    check_inconsistent(
        |it| drop(it.tables[2].objects.pop()),
        "no table has the object",
    );
    check_inconsistent(|it| it.tables[0].objects.clear(), "has no object");
    check_inconsistent(
        |it| it.tables[0].objects = it.tables[1].objects.clone(),
        "not listed as its own",
    );
    check_inconsistent(|it| it.tables.push(it.tables[0].clone()), "is there twice");
    check_inconsistent(|it| drop(it.objects.pop()), "0 tables of contents");
    check_inconsistent(
        |it| it.objects.push(it.objects[0].clone()),
        "lists it twice",
    );
    check_inconsistent(|it| it.large_objects.clear(), "no large objects have");
    check_inconsistent(
        |it| it.large_objects[0].dump_id = 1,
        "not listed as their own",
    );
    check_inconsistent(
        |it| it.scheduled_at += jiff::SignedDuration::from_hours(1),
        "backup_id is",
    );
    check_inconsistent(|it| it.attempt = "a/b".to_owned(), "no attempt's name");
    check_inconsistent(|it| it.recipients.clear(), "recipients is empty");
}

#[test]
fn an_object_outside_of_the_attempt_is_foreign() {
    let findings = check(|it| it.attempt = "other".to_owned());
    assert!(findings.iter().all(|it| it.code == Code::ManifestForeign));
    assert_eq!(findings.len(), backup().objects.len());
}

async fn verify_after(previous: PreviousBackup, before: Option<&[u8]>) -> Vec<Code> {
    let mut backup = backup();
    let before_key = Key::Manifest(&database(), previous.backup_id).to_string();
    backup.manifest.previous = Some(previous);
    let cloud = Cloud::with(&backup).await;
    if let Some(json) = before {
        let put = cloud.vault.put_once(&before_key, json.to_vec().into());
        put.await.unwrap();
    }
    let report = cloud.verify(&backup).await;
    report.findings.iter().map(|it| it.code).collect()
}

#[tokio::test]
async fn a_chain_holds_while_the_backup_before_is_unchanged_or_pruned() {
    let previous = PreviousBackup {
        backup_id: "20261120T010000Z-nightly".parse().unwrap(),
        manifest_sha256: sha256(b"before"),
    };
    assert_eq!(verify_after(previous.clone(), Some(b"before")).await, []);
    assert_eq!(verify_after(previous.clone(), None).await, []);
    let changed = verify_after(previous.clone(), Some(b"other")).await;
    assert_eq!(changed, [Code::ChainBroken]);
    let later = PreviousBackup {
        backup_id: "20261122T010000Z-nightly".parse().unwrap(),
        ..previous
    };
    assert_eq!(verify_after(later, None).await, [Code::ChainBroken]);
}

#[tokio::test]
async fn a_manifest_that_changed_since_an_earlier_verdict_is_found() {
    let mut backup = backup();
    let cloud = Cloud::with(&backup).await;
    cloud.verify(&backup).await;
    backup.manifest.warnings.push("changed".to_owned());
    fs::remove_file(cloud.manifest_file()).unwrap();
    cloud
        .put_manifest(&backup.manifest.to_json().unwrap())
        .await;
    let report = cloud.verify(&backup).await;
    assert_eq!(report.verdict, Some(Verdict::Failed));
    assert_eq!(report.findings[0].code, Code::ManifestOverwritten);
}

#[tokio::test]
async fn an_event_that_contradicts_itself_is_refused() {
    let event = json!({"backup": {
        "database": "app", "kind": "nightly", "scheduled_time": "2026-11-21T01:00:00Z",
        "backup_id": "20261122T010000Z-nightly",
    }});
    let verify::Request::Backup { backup, .. } = verify::Request::parse(event).unwrap() else {
        panic!("not a backup");
    };
    assert!(backup.id().is_err());
}

const MANIFEST: &str = "backups/app/20261121T010000Z-nightly/manifest.json";

#[tokio::test]
async fn what_lies_on_top_of_the_manifest_is_found_and_the_first_version_is_judged() {
    let backup = backup();
    for (on_top, expected) in [
        (("v2", false), "1 later versions lie on top"),
        (("m1", true), "hidden by a delete marker"),
    ] {
        let cloud = Cloud::with(&backup).await;
        let versions = [(MANIFEST, on_top.0, on_top.1), (MANIFEST, "v1", false)];
        cloud.weather.list_versions(&versions);
        let report = cloud.verify(&backup).await;
        assert_eq!(report.verdict, Some(Verdict::Failed));
        assert_eq!(report.findings.len(), 1);
        assert_eq!(report.findings[0].code, Code::ManifestOverwritten);
        assert!(report.findings[0].message.contains(expected));
        let verdict = cloud.verdict(&report).await;
        assert_eq!(verdict.manifest_version_id.as_deref(), Some("v1"));
        assert_eq!(verdict.totals, backup.manifest.totals);
    }
}

#[tokio::test]
async fn an_object_that_is_hidden_from_who_reads_by_key_is_found() {
    let mut backup = backup();
    let keys: Vec<_> = backup
        .manifest
        .objects
        .iter()
        .map(|it| it.key.clone())
        .collect();
    backup.manifest.objects[1].version_id = Some("v1".to_owned());
    let cloud = Cloud::with(&backup).await;
    let listed = |on_top: &[(&str, bool)]| {
        let mut versions = vec![(MANIFEST, "v1", false)];
        for (id, is_delete_marker) in on_top {
            versions.push((&keys[1], id, *is_delete_marker));
        }
        for key in &keys {
            versions.push((key, "v1", false));
        }
        cloud.weather.list_versions(&versions);
    };
    listed(&[]);
    assert_eq!(cloud.verify(&backup).await.verdict, Some(Verdict::Passed));
    for on_top in [("v2", false), ("m1", true)] {
        listed(&[on_top]);
        let report = cloud.verify(&backup).await;
        assert_eq!(report.verdict, Some(Verdict::Failed));
        let expected = (Code::ObjectHidden, "31.dat.zst.00001.age".to_owned());
        assert_eq!(found(&report), [expected]);
    }
}
