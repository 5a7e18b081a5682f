//! Memory does not grow with the backup. Alone in its process, so that nothing else counts.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "the other tests use the rest")]
#[path = "../it/sample.rs"]
mod sample;

use std::io::{BufReader, Seek, Write};

use age::x25519::Identity;
use shared::fingerprint::RowScanner;
use shared::manifest::Content;
use shared::sealed::Sealer;
use verify::object::Claims;

use crate::sample::backup;

/// One row of 1 GiB, sealed into a file.
fn wide_row(identities: &[Identity; 2]) -> (std::fs::File, u64, String, RowScanner) {
    let recipients = identities.each_ref().map(Identity::to_public);
    let file = tempfile::tempfile().unwrap();
    let mut sealer = Sealer::new(file, &recipients, Some(1)).unwrap();
    let mut rows = RowScanner::default();
    let piece = [b'x'; 1 << 16];
    for _ in 0..(1 << 14) {
        sealer.write_all(&piece).unwrap();
        rows.push(&piece);
    }
    sealer.write_all(b"\n").unwrap();
    rows.push(b"\n");
    let sealed = sealer.finish().unwrap();
    (sealed.out, sealed.stored_bytes, sealed.sha256, rows)
}

fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|it| it.strip_prefix("VmHWM:"));
    let kib: u64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib >> 10
}

#[test]
fn a_row_of_a_gigabyte_needs_no_memory() {
    let mut backup = backup();
    let (mut file, stored_bytes, sha256, rows) = wide_row(&backup.identities);
    let totals = rows.finish().unwrap();
    assert!(totals.copy_bytes > 1 << 30);
    let object = &mut backup.manifest.objects[0];
    object.stored_bytes = stored_bytes;
    object.sha256 = sha256;
    object.content = Content::TableData {
        dump_id: 31,
        rows: totals.rows,
        copy_bytes: totals.copy_bytes,
        fingerprint: totals.fingerprint,
    };
    file.rewind().unwrap();
    let claims = Claims::new(backup.manifest.clone());
    let identities = &backup.identities[..1];
    let checked = claims.check(0, BufReader::new(file), stored_bytes, identities);
    let checked = checked.unwrap();
    assert_eq!(checked.findings, []);
    assert_eq!(checked.totals.copy_bytes, totals.copy_bytes);
    assert!(peak_mib() < 32, "{} MiB", peak_mib());
}
