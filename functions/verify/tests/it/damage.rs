//! Damage to stored objects: found, named, and located.

use std::fs;

use shared::manifest::{Content, Object};
use shared::verdict::{Code, Finding, Verdict};
use verify::object::Claims;

use crate::sample::{Backup, backup, noisy_rows, plain, seal, seal_to, slice};
use crate::vault::{Cloud, found};

fn check(backup: &Backup, index: usize, bytes: &[u8]) -> Vec<Finding> {
    check_with(&Claims::new(backup.manifest.clone()), backup, index, bytes)
}

fn check_with(claims: &Claims, backup: &Backup, index: usize, bytes: &[u8]) -> Vec<Finding> {
    let identities = &backup.identities[..1];
    let checked = claims.check(index, bytes, bytes.len() as u64, identities);
    checked.unwrap().findings
}

fn codes(findings: &[Finding]) -> Vec<Code> {
    findings.iter().map(|it| it.code).collect()
}

fn index_of(backup: &Backup, name: &str) -> usize {
    let is_it = |object: &Object| object.key.ends_with(name);
    backup.manifest.objects.iter().position(is_it).unwrap()
}

#[test]
fn every_flipped_byte_of_every_object_is_found_and_located() {
    let backup = backup();
    let claims = Claims::new(backup.manifest.clone());
    for (index, object) in backup.objects.iter().enumerate() {
        for at in 0..object.len() {
            let mut damaged = object.clone();
            damaged[at] ^= 1 << (at % 8);
            let findings = check_with(&claims, &backup, index, &damaged);
            let key = &backup.manifest.objects[index].key;
            assert_eq!(codes(&findings), [Code::ChecksumDiffers], "{key} {at}");
            assert_eq!(findings[0].object.as_ref(), Some(key));
            let (from, to) = findings[0].window.unwrap();
            assert!((from..to).contains(&(at as u64)), "{key} {at}: {from} {to}");
        }
    }
}

#[test]
fn every_truncation_of_every_object_is_found_at_its_point() {
    let backup = backup();
    let claims = Claims::new(backup.manifest.clone());
    for (index, object) in backup.objects.iter().enumerate() {
        for length in 0..object.len() {
            let findings = check_with(&claims, &backup, index, &object[..length]);
            assert_eq!(codes(&findings), [Code::ObjectTruncated], "{length}");
            let window = (length as u64, object.len() as u64);
            assert_eq!(findings[0].window, Some(window));
        }
    }
}

#[test]
fn bytes_beyond_the_end_are_found() {
    let backup = backup();
    for (index, object) in backup.objects.iter().enumerate() {
        let longer = [&**object, b"xyz"].concat();
        let findings = check(&backup, index, &longer);
        assert_eq!(codes(&findings), [Code::ObjectExtended]);
        let end = object.len() as u64;
        assert_eq!(findings[0].window, Some((end, end + 3)));
    }
}

#[test]
fn in_a_large_object_the_window_is_one_chunk() {
    let mut plain = plain();
    plain[0] = slice(31, 0, &noisy_rows(400_000), false);
    let backup = seal(plain);
    let object = &backup.objects[0];
    assert!(object.len() > 200_000, "{}", object.len());
    let claims = Claims::new(backup.manifest.clone());
    for at in (0..object.len()).step_by(9_973) {
        let mut damaged = object.clone();
        damaged[at] ^= 1;
        let findings = check_with(&claims, &backup, 0, &damaged);
        let (from, to) = findings[0].window.unwrap();
        assert!((from..to).contains(&(at as u64)), "{at}: {from} {to}");
        assert!(to - from <= 65_536 + 32, "{at}: {from} {to}");
        // Damaged and cut: both are told.
        if at + 140_000 < object.len() {
            let findings = check_with(&claims, &backup, 0, &damaged[..object.len() - 100]);
            let expected = [Code::ObjectTruncated, Code::ChecksumDiffers];
            assert_eq!(codes(&findings), expected, "{at}");
        }
    }
}

#[test]
fn exchanged_objects_are_named() {
    let backup = backup();
    let (one, other) = (0, 1);
    let mut manifest = backup.manifest.clone();
    // Even where sizes match.
    manifest.objects[one].stored_bytes = backup.objects[other].len() as u64;
    let claims = Claims::new(manifest);
    let findings = check_with(&claims, &backup, one, &backup.objects[other]);
    assert_eq!(codes(&findings), [Code::ChecksumDiffers]);
    let message = &findings[0].message;
    assert!(message.contains("31.dat.zst.00001.age"), "{message}");
}

#[test]
fn the_same_rows_sealed_again_are_another_object() {
    let first = backup();
    let again = seal_to(first.identities.clone(), plain());
    for index in 0..first.objects.len() {
        let findings = check(&first, index, &again.objects[index]);
        assert!(!findings.is_empty());
        assert!(findings.iter().all(|it| !it.code.is_inconclusive()));
    }
}

/// What is wrong when object and manifest belong together, but `tamper` changed what was
/// sealed or what is claimed.
fn check_tampered(name: &str, tamper: impl Fn(&mut Backup, usize), expected: &[Code]) {
    let mut backup = backup();
    let index = index_of(&backup, name);
    tamper(&mut backup, index);
    let findings = check(&backup, index, &backup.objects[index]);
    assert_eq!(codes(&findings), expected, "{findings:#?}");
}

/// Seals other bytes under the same claims.
fn reseal(backup: &mut Backup, index: usize, bytes: &[u8]) {
    let mut plain = plain();
    plain[index].bytes = bytes.to_vec();
    let sealed = seal_to(backup.identities.clone(), plain);
    backup.objects[index] = sealed.objects[index].clone();
    let resealed = sealed.manifest.objects[index].clone();
    backup.manifest.objects[index] = resealed;
}

#[test]
fn rows_that_differ_from_the_manifest_are_found_behind_a_matching_checksum() {
    let slice = "31.dat.zst.00001.age";
    let with = |text: &'static [u8]| move |it: &mut Backup, at| reseal(it, at, text);
    check_tampered(slice, with(b"3\t\\N\n4\tfour\n\\.\n\n\n"), &[]);
    check_tampered(
        slice,
        with(b"3\t\\N\n4\tFour\n\\.\n\n\n"),
        &[Code::FingerprintDiffers],
    );
    check_tampered(
        slice,
        with(b"3\t\\N\n\\.\n\n\n"),
        &[
            Code::RowsDiffer,
            Code::CopyBytesDiffer,
            Code::FingerprintDiffers,
        ],
    );
    check_tampered(
        slice,
        with(b"3\t\\N\n4\tfour\n"),
        &[Code::TerminatorMissing],
    );
    check_tampered(
        slice,
        with(b"3\t\\N\n4\tfour"),
        &[Code::TerminatorMissing, Code::RowsDiffer],
    );
}

#[test]
fn a_terminator_before_a_tables_last_object_is_found() {
    check_tampered(
        "31.dat.zst.00000.age",
        |it, at| reseal(it, at, b"1\tone\n2\ttwo\\nlines\n\\.\n\n\n"),
        &[Code::TerminatorMissing],
    );
}

#[test]
fn large_objects_that_differ_are_found() {
    let name = "blobs_41.tar.zst.00000.age";
    check_tampered(
        name,
        |it, _| it.manifest.large_objects[0].count = 2,
        &[Code::LargeObjectsDiffer],
    );
    check_tampered(
        name,
        |it, _| {
            it.manifest.large_objects[0].fingerprint += shared::fingerprint::Fingerprint::of(b"x")
        },
        &[Code::LargeObjectsDiffer],
    );
    check_tampered(
        name,
        |it, at| reseal(it, at, b"not a tar stream"),
        &[Code::LargeObjectsDiffer],
    );
}

#[test]
fn a_table_of_contents_that_differs_is_found() {
    let name = "toc.dat.00000.age";
    let differs = &[Code::TocDiffers];
    check_tampered(
        name,
        |it, _| it.manifest.sequences[0].last_value = 5,
        &[Code::TocDiffers, Code::TocDiffers],
    );
    check_tampered(name, |it, _| it.manifest.tables[2].oid = 9, differs);
    check_tampered(name, |it, _| it.manifest.tables[2].name.push('x'), differs);
    check_tampered(
        name,
        |it, _| it.manifest.tables[2].copy_columns.swap(0, 1),
        differs,
    );
    check_tampered(name, |it, _| it.manifest.tables[1].load_via = None, differs);
    check_tampered(name, |it, _| drop(it.manifest.tables.pop()), differs);
    check_tampered(
        name,
        |it, _| it.manifest.archive_version = "1.15".to_owned(),
        differs,
    );
    check_tampered(
        name,
        |it, _| it.manifest.large_objects[0].count = 2,
        differs,
    );
    check_tampered(
        name,
        |it, at| reseal(it, at, b"PGDMP"),
        &[Code::TocUnreadable],
    );
    let short = |it: &mut Backup, at| {
        let mut toc = crate::sample::toc();
        toc.entries.remove(0);
        let bytes = shared::archive::write_directory(&toc).unwrap();
        reseal(it, at, &bytes);
    };
    check_tampered(name, short, differs);
}

#[test]
fn what_is_not_compressed_is_found_behind_a_matching_checksum() {
    // Sealed as a table of contents is, and listed as rows.
    let backup = backup();
    let toc = index_of(&backup, "toc.dat.00000.age");
    let mut manifest = backup.manifest.clone();
    manifest.objects[toc].content = Content::Roles;
    let claims = Claims::new(manifest);
    let findings = check_with(&claims, &backup, toc, &backup.objects[toc]);
    assert_eq!(codes(&findings), [Code::DecompressionFailed]);
}

#[test]
fn an_identity_that_opens_nothing_is_a_doubt() {
    let mut backup = backup();
    backup.identities[0] = age::x25519::Identity::generate();
    let findings = check(&backup, 0, &backup.objects[0]);
    assert_eq!(codes(&findings), [Code::IdentityUnusable]);
}

#[test]
fn a_recipient_less_than_the_manifest_names_is_a_doubt() {
    check_tampered(
        "roles.sql.zst.00000.age",
        |it, _| it.manifest.recipients.push("age1more".to_owned()),
        &[Code::IdentityUnusable],
    );
}

#[tokio::test]
async fn damage_to_stored_files_fails_the_verdict_and_names_the_object() {
    let backup = backup();
    for (index, object) in backup.manifest.objects.iter().enumerate() {
        let name = shared::key::object_name(&object.key).to_owned();
        let bytes = &backup.objects[index];
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 4;
        for (damaged, code) in [
            (flipped, Code::ChecksumDiffers),
            (bytes[..bytes.len() - 1].to_vec(), Code::ObjectTruncated),
            (vec![], Code::ObjectTruncated),
            ([&**bytes, b"x"].concat(), Code::ObjectExtended),
        ] {
            let cloud = Cloud::with(&backup).await;
            fs::write(cloud.file(&object.key), &damaged).unwrap();
            let report = cloud.verify(&backup).await;
            assert_eq!(report.verdict, Some(Verdict::Failed));
            assert_eq!(found(&report), [(code, name.clone())]);
        }
        let cloud = Cloud::with(&backup).await;
        fs::remove_file(cloud.file(&object.key)).unwrap();
        let report = cloud.verify(&backup).await;
        assert_eq!(report.verdict, Some(Verdict::Failed));
        assert_eq!(found(&report), [(Code::ObjectMissing, name)]);
    }
}

#[tokio::test]
async fn two_exchanged_files_are_both_named() {
    let backup = backup();
    let cloud = Cloud::with(&backup).await;
    let [a, b] = [0, 3].map(|it: usize| cloud.file(&backup.manifest.objects[it].key));
    fs::write(&a, &backup.objects[3]).unwrap();
    fs::write(&b, &backup.objects[0]).unwrap();
    let report = cloud.verify(&backup).await;
    assert_eq!(report.verdict, Some(Verdict::Failed));
    let names: Vec<_> = found(&report).into_iter().map(|(_, name)| name).collect();
    assert!(
        names.contains(&"31.dat.zst.00000.age".to_owned()),
        "{names:?}"
    );
    assert!(
        names.contains(&"33.dat.zst.00000.age".to_owned()),
        "{names:?}"
    );
}
