//! Compares what an object holds with what the manifest says about it. Pure.

use std::collections::BTreeMap;
use std::io;

use shared::archive::{CopyStatement, Data, Entry, ReadError, TableOfContents, Text, lossy};
use shared::fingerprint::RowTotals;
use shared::manifest::{Manifest, QualifiedName, Table};
use shared::verdict::Code;

use crate::large_objects::LargeObjectsRead;
use crate::rows::{RowsRead, Terminator};

/// A difference between an object and the manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mismatch {
    pub(crate) code: Code,
    pub(crate) message: String,
}

fn mismatch(code: Code, message: impl Into<String>) -> Mismatch {
    Mismatch {
        code,
        message: message.into(),
    }
}

pub(crate) fn compare_rows(claimed: &RowTotals, read: &RowsRead, is_last: bool) -> Vec<Mismatch> {
    let mut found = Vec::new();
    match (read.terminator, is_last) {
        (Terminator::AtEnd, true) | (Terminator::Nowhere, false) => {}
        (Terminator::Nowhere, true) => found.push(mismatch(
            Code::TerminatorMissing,
            "the text does not end with the archive's terminator: pg_restore would not see its end",
        )),
        (Terminator::AtEnd | Terminator::Early, false) | (Terminator::Early, true) => {
            found.push(mismatch(
                Code::TerminatorMissing,
                "the archive's terminator stands before the table's end: pg_restore would leave out the rest",
            ));
        }
    }
    let Some(totals) = read.totals else {
        found.push(mismatch(
            Code::RowsDiffer,
            "the text ends in the middle of a row",
        ));
        return found;
    };
    if totals.rows != claimed.rows {
        found.push(mismatch(
            Code::RowsDiffer,
            format!("{} rows, the manifest says {}", totals.rows, claimed.rows),
        ));
    }
    if totals.copy_bytes != claimed.copy_bytes {
        found.push(mismatch(
            Code::CopyBytesDiffer,
            format!(
                "{} bytes of COPY text, the manifest says {}",
                totals.copy_bytes, claimed.copy_bytes
            ),
        ));
    }
    if totals.fingerprint != claimed.fingerprint {
        found.push(mismatch(
            Code::FingerprintDiffers,
            format!(
                "the rows have fingerprint {}, the manifest says {}: these are other rows",
                totals.fingerprint, claimed.fingerprint
            ),
        ));
    }
    found
}

pub(crate) fn compare_large_objects(
    manifest: &Manifest,
    dump_id: u32,
    read: &LargeObjectsRead,
) -> Vec<Mismatch> {
    let differ = |message: String| vec![mismatch(Code::LargeObjectsDiffer, message)];
    if let Some(problem) = &read.problem {
        return differ(format!(
            "the tar stream is not what pg_restore reads: {problem}"
        ));
    }
    let claimed = manifest
        .large_objects
        .iter()
        .find(|it| it.dump_id == dump_id);
    let Some(claimed) = claimed else {
        // Reported where the manifest is checked against itself.
        return vec![];
    };
    if (read.count, read.bytes) != (claimed.count, claimed.bytes) {
        return differ(format!(
            "{} large objects with {} bytes, the manifest says {} with {}",
            read.count, read.bytes, claimed.count, claimed.bytes
        ));
    }
    if read.fingerprint != claimed.fingerprint {
        return differ(format!(
            "the large objects have fingerprint {}, the manifest says {}: these are other contents",
            read.fingerprint, claimed.fingerprint
        ));
    }
    vec![]
}

pub(crate) fn unreadable_tar(error: &io::Error) -> Mismatch {
    mismatch(
        Code::LargeObjectsDiffer,
        format!("this is not a whole tar stream: {error}"),
    )
}

pub(crate) fn unreadable_toc(error: &ReadError) -> Mismatch {
    mismatch(Code::TocUnreadable, error.to_string())
}

/// One to one: data entries with tables and large objects, sequence values with sequences.
pub(crate) fn compare_toc(manifest: &Manifest, toc: &TableOfContents) -> Vec<Mismatch> {
    let mut found = Differences::default();
    if toc.version_text() != manifest.archive_version {
        found.add(format!(
            "archive version {}, the manifest says {}",
            toc.version_text(),
            manifest.archive_version
        ));
    }
    let is_utf8 = manifest.settings.encoding.eq_ignore_ascii_case("UTF8");
    let names = Names { is_utf8 };
    let mut tables: BTreeMap<u32, &Table> =
        manifest.tables.iter().map(|it| (it.dump_id, it)).collect();
    let mut large_objects: BTreeMap<u32, u64> = manifest
        .large_objects
        .iter()
        .map(|it| (it.dump_id, it.count))
        .collect();
    for entry in &toc.entries {
        let dump_id = u32::try_from(entry.dump_id).unwrap_or(0);
        match entry.data() {
            Ok(None) => {}
            Ok(Some(Data::Table)) => match tables.remove(&dump_id) {
                Some(table) => compare_table(names, entry, table, &mut found),
                None => found.add(format!(
                    "the data of {}.{} (entry {dump_id}) is not in the manifest",
                    lossy(&entry.namespace),
                    lossy(&entry.tag)
                )),
            },
            Ok(Some(Data::LargeObjects)) => {
                let count = toc.large_objects_of(entry).len() as u64;
                if large_objects.remove(&dump_id) != Some(count) {
                    found.add(format!(
                        "entry {dump_id} has {count} large objects, the manifest says otherwise"
                    ));
                }
            }
            Err(unknown) => found.add(unknown.to_string()),
        }
    }
    for table in tables.values() {
        found.add(format!(
            "table {}.{} (entry {}) is in the manifest only",
            table.schema, table.name, table.dump_id
        ));
    }
    for dump_id in large_objects.keys() {
        found.add(format!(
            "large objects (entry {dump_id}) are in the manifest only"
        ));
    }
    compare_sequences(manifest, toc, &mut found);
    found.0
}

#[derive(Default)]
struct Differences(Vec<Mismatch>);

impl Differences {
    fn add(&mut self, message: String) {
        self.0.push(mismatch(Code::TocDiffers, message));
    }
}

/// The archive has names in the database's encoding, the manifest in Unicode.
#[derive(Clone, Copy)]
struct Names {
    is_utf8: bool,
}

impl Names {
    fn are_equal(self, bytes: &[u8], name: &str) -> bool {
        bytes == name.as_bytes()
            // Not converted here: the dump ids and oids still have to match.
            || (!self.is_utf8 && !bytes.is_ascii() && !name.is_ascii())
    }

    fn is_text(self, text: &Text, name: &str) -> bool {
        self.are_equal(text.as_deref().unwrap_or_default(), name)
    }
}

fn compare_table(names: Names, entry: &Entry, table: &Table, found: &mut Differences) {
    let what = format!("{}.{} (entry {})", table.schema, table.name, table.dump_id);
    if !names.is_text(&entry.namespace, &table.schema) || !names.is_text(&entry.tag, &table.name) {
        found.add(format!(
            "entry {} is {}.{}, the manifest says {}.{}",
            table.dump_id,
            lossy(&entry.namespace),
            lossy(&entry.tag),
            table.schema,
            table.name
        ));
        return;
    }
    if entry.oid_number() != table.oid {
        found.add(format!(
            "{what} has oid {}, the manifest says {}",
            entry.oid_number(),
            table.oid
        ));
    }
    let statement = entry
        .copy_statement
        .as_deref()
        .and_then(CopyStatement::parse);
    let Some(statement) = statement else {
        found.add(format!("{what} has no copy statement that can be read"));
        return;
    };
    let columns = statement.columns.iter().zip(&table.copy_columns);
    if statement.columns.len() != table.copy_columns.len()
        || columns
            .into_iter()
            .any(|(bytes, name)| !names.are_equal(bytes, name))
    {
        found.add(format!(
            "{what} is copied with other columns than the manifest says"
        ));
    }
    let own = QualifiedName {
        schema: table.schema.clone(),
        name: table.name.clone(),
    };
    let target = table.load_via.as_ref().unwrap_or(&own);
    if entry.loads_via_partition_root() != table.load_via.is_some()
        || !names.are_equal(&statement.schema, &target.schema)
        || !names.are_equal(&statement.table, &target.name)
    {
        found.add(format!(
            "{what} is loaded into {}.{}, the manifest says {}.{}",
            String::from_utf8_lossy(&statement.schema),
            String::from_utf8_lossy(&statement.table),
            target.schema,
            target.name
        ));
    }
}

/// Schema, name, last value, is called.
type Value = (String, String, i64, bool);

/// Both have the names as the archive has them, so they compare as they are.
fn compare_sequences(manifest: &Manifest, toc: &TableOfContents, found: &mut Differences) {
    let mut claimed: Vec<Value> = manifest
        .sequences
        .iter()
        .map(|it| {
            (
                it.schema.clone(),
                it.name.clone(),
                it.last_value,
                it.is_called,
            )
        })
        .collect();
    claimed.sort_unstable();
    let mut present: Vec<Value> = Vec::new();
    for entry in toc.entries.iter().filter(|it| it.is("SEQUENCE SET")) {
        let (schema, name) = (lossy(&entry.namespace), lossy(&entry.tag));
        match entry.sequence_value() {
            Some((value, is_called)) => {
                present.push((schema.into_owned(), name.into_owned(), value, is_called));
            }
            None => found.add(format!(
                "the value of sequence {schema}.{name} cannot be read"
            )),
        }
    }
    present.sort_unstable();
    let only_in = |these: &[Value], those: &[Value]| {
        let only = these.iter().find(|it| those.binary_search(it).is_err());
        only.map(|(schema, name, value, _)| format!("sequence {schema}.{name} at {value}"))
    };
    if let Some(sequence) = only_in(&claimed, &present) {
        found.add(format!("{sequence} is in the manifest only"));
    }
    if let Some(sequence) = only_in(&present, &claimed) {
        found.add(format!("{sequence} is not in the manifest"));
    }
    if claimed.len() != present.len() {
        found.add(format!(
            "{} sequence values, the manifest says {}",
            present.len(),
            claimed.len()
        ));
    }
}
