//! Whether a manifest is the one it should be, and agrees with itself. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};

use shared::backup::{BackupId, DatabaseName};
use shared::fingerprint::RowTotals;
use shared::key::{Key, object_name};
use shared::manifest::{Content, Manifest, Object, Table, Totals};
use shared::verdict::{Code, Finding};

/// What is wrong with `manifest` as the one of this backup.
///
/// Objects that lie elsewhere than under the backup's own attempt are findings here, and must
/// not be read.
pub fn check_manifest(manifest: &Manifest, database: &DatabaseName, id: BackupId) -> Vec<Finding> {
    let mut found = Findings(Vec::new());
    check_identity(manifest, database, id, &mut found);
    check_objects(manifest, database, id, &mut found);
    check_tables(manifest, &mut found);
    check_large_objects(manifest, &mut found);
    check_totals(manifest, &mut found);
    found.0
}

/// Whether the object lies where this attempt of this backup writes.
pub fn is_own(manifest: &Manifest, database: &DatabaseName, id: BackupId, object: &Object) -> bool {
    let own = Key::Archive {
        database,
        id,
        attempt: &manifest.attempt,
        object: object_name(&object.key),
    };
    own.to_string() == object.key
}

struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, code: Code, object: Option<&str>, message: String) {
        self.0.push(Finding {
            code,
            object: object.map(str::to_owned),
            window: None,
            message,
        });
    }

    fn inconsistent(&mut self, message: String) {
        self.add(Code::ManifestInconsistent, None, message);
    }
}

fn check_identity(
    manifest: &Manifest,
    database: &DatabaseName,
    id: BackupId,
    found: &mut Findings,
) {
    if manifest.database != *database || manifest.backup_id != id {
        found.add(
            Code::ManifestForeign,
            None,
            format!(
                "this is the manifest of {} {}, not of {database} {id}: it was put here afterwards; do not restore from it",
                manifest.database, manifest.backup_id
            ),
        );
    }
    let made = BackupId::new(manifest.scheduled_at, manifest.kind);
    if made != manifest.backup_id {
        found.inconsistent(format!(
            "scheduled_at and kind make {made}, backup_id is {}",
            manifest.backup_id
        ));
    }
    if manifest.attempt.is_empty() || manifest.attempt.contains('/') {
        found.inconsistent(format!(
            "attempt {:?} is no attempt's name",
            manifest.attempt
        ));
    }
    if manifest.recipients.is_empty() {
        found.inconsistent("recipients is empty".to_owned());
    }
}

fn check_objects(manifest: &Manifest, database: &DatabaseName, id: BackupId, found: &mut Findings) {
    let mut keys = HashSet::new();
    let mut tables_of_contents = 0;
    let mut roles = 0;
    for object in &manifest.objects {
        if !keys.insert(&object.key) {
            let message = "the manifest lists it twice".to_owned();
            found.add(Code::ManifestInconsistent, Some(&object.key), message);
        }
        if !is_own(manifest, database, id, object) {
            let message = format!(
                "the manifest lists an object outside of archive-{} of {database} {id}: it was not read",
                manifest.attempt
            );
            found.add(Code::ManifestForeign, Some(&object.key), message);
        }
        match object.content {
            Content::TableOfContents => tables_of_contents += 1,
            Content::Roles => roles += 1,
            Content::TableData { .. } | Content::LargeObjects { .. } => {}
        }
    }
    if tables_of_contents != 1 {
        found.inconsistent(format!(
            "{tables_of_contents} tables of contents instead of one"
        ));
    }
    if roles > 1 {
        found.inconsistent(format!("{roles} objects with roles instead of one at most"));
    }
}

/// The data objects of one kind by name, to be claimed by their table or entry.
fn by_name<'a, T>(
    manifest: &'a Manifest,
    pick: impl Fn(&'a Content) -> Option<T>,
) -> HashMap<&'a str, T> {
    let objects = manifest.objects.iter();
    let picked = objects.filter_map(|it| Some((object_name(&it.key), pick(&it.content)?)));
    picked.collect()
}

fn check_tables(manifest: &Manifest, found: &mut Findings) {
    let mut slices = by_name(manifest, |content| match content {
        Content::TableData {
            dump_id,
            rows,
            copy_bytes,
            fingerprint,
        } => Some((
            *dump_id,
            RowTotals {
                rows: *rows,
                copy_bytes: *copy_bytes,
                fingerprint: *fingerprint,
            },
        )),
        Content::TableOfContents | Content::LargeObjects { .. } | Content::Roles => None,
    });
    let mut dump_ids = HashSet::new();
    let mut oids = HashSet::new();
    for table in &manifest.tables {
        let is_new = dump_ids.insert(table.dump_id);
        if !oids.insert(table.oid) || !is_new {
            found.inconsistent(format!(
                "table {}.{} (entry {}) is there twice",
                table.schema, table.name, table.dump_id
            ));
            continue;
        }
        check_table(table, &mut slices, found);
    }
    let mut left: Vec<_> = slices.into_keys().collect();
    left.sort_unstable();
    for name in left {
        found.inconsistent(format!("no table has the object {name}"));
    }
}

fn check_table(table: &Table, slices: &mut HashMap<&str, (u32, RowTotals)>, found: &mut Findings) {
    let what = format!(
        "table {}.{} (entry {})",
        table.schema, table.name, table.dump_id
    );
    if table.objects.is_empty() {
        found.inconsistent(format!("{what} has no object"));
        return;
    }
    let mut sum = RowTotals::default();
    let mut number_before = None;
    for name in &table.objects {
        match slices.remove(name.as_str()) {
            Some((dump_id, totals)) if dump_id == table.dump_id => {
                sum.rows = sum.rows.saturating_add(totals.rows);
                sum.copy_bytes = sum.copy_bytes.saturating_add(totals.copy_bytes);
                sum.fingerprint += totals.fingerprint;
            }
            Some(_) | None => {
                found.inconsistent(format!(
                    "{what} names {name}, which is not listed as its own"
                ));
                return;
            }
        }
        let number = slice_number(name, &format!("{}.dat.zst", table.dump_id));
        if number.is_none() || number <= number_before {
            found.inconsistent(format!("{what} has {name} out of order or misnamed"));
            return;
        }
        number_before = number;
    }
    let claimed = RowTotals {
        rows: table.rows,
        copy_bytes: table.copy_bytes,
        fingerprint: table.fingerprint,
    };
    if sum != claimed {
        found.inconsistent(format!(
            "{what} has {} rows, {} bytes and fingerprint {}, its objects together {}, {} and {}",
            claimed.rows,
            claimed.copy_bytes,
            claimed.fingerprint,
            sum.rows,
            sum.copy_bytes,
            sum.fingerprint
        ));
    }
}

/// Of `<stem>.<number>.age`: stored objects are appended in this order.
fn slice_number(name: &str, stem: &str) -> Option<u64> {
    let number = name
        .strip_prefix(stem)?
        .strip_prefix('.')?
        .strip_suffix(".age")?;
    let is_number = number.len() >= 5 && number.bytes().all(|it| it.is_ascii_digit());
    is_number.then(|| number.parse().ok()).flatten()
}

fn check_large_objects(manifest: &Manifest, found: &mut Findings) {
    let mut streams: BTreeMap<&str, u32> = by_name(manifest, |content| match content {
        Content::LargeObjects { dump_id } => Some(*dump_id),
        Content::TableOfContents | Content::TableData { .. } | Content::Roles => None,
    })
    .into_iter()
    .collect();
    for entry in &manifest.large_objects {
        let what = format!("the large objects of entry {}", entry.dump_id);
        // In format 1 one tar stream is one object.
        let [name] = entry.objects.as_slice() else {
            found.inconsistent(format!(
                "{what} have {} objects instead of one",
                entry.objects.len()
            ));
            continue;
        };
        if streams.remove(name.as_str()) != Some(entry.dump_id)
            || slice_number(name, &format!("blobs_{}.tar.zst", entry.dump_id)) != Some(0)
        {
            found.inconsistent(format!(
                "{what} name {name}, which is not listed as their own"
            ));
        }
    }
    for name in streams.keys() {
        found.inconsistent(format!("no large objects have the object {name}"));
    }
}

fn check_totals(manifest: &Manifest, found: &mut Findings) {
    let sum = |values: &mut dyn Iterator<Item = u64>| values.fold(0, u64::saturating_add);
    let expected = Totals {
        tables: manifest.tables.len() as u64,
        rows: sum(&mut manifest.tables.iter().map(|it| it.rows)),
        copy_bytes: sum(&mut manifest.tables.iter().map(|it| it.copy_bytes)),
        objects: manifest.objects.len() as u64,
        stored_bytes: sum(&mut manifest.objects.iter().map(|it| it.stored_bytes)),
        large_objects: sum(&mut manifest.large_objects.iter().map(|it| it.count)),
    };
    if manifest.totals != expected {
        found.inconsistent(format!(
            "totals are {:?}, its parts add up to {expected:?}",
            manifest.totals
        ));
    }
}
