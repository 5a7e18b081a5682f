//! What is compared with the manifest: a table, or the partition root that the rows of its
//! leaves are loaded through. Pure.

use std::collections::{HashMap, HashSet};

use super::select::Selection;
use crate::archive::{CopyStatement, Entry, TableOfContents, quote_ident};
use crate::fingerprint::Fingerprint;
use crate::manifest::{Manifest, QualifiedName};

/// Tables above this much text are read in slices, by several connections.
const SLICE_BYTES: u64 = 96 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    /// Of its first entry of rows.
    pub(super) dump_id: u32,
    pub(super) display: QualifiedName,
    /// Quoted, in the archive's encoding.
    pub(super) relation: Vec<u8>,
    /// Quoted, separated by commas; empty for a table without columns.
    pub(super) columns: Vec<u8>,
    /// Its rows lie in its partitions.
    pub(super) is_root: bool,
    /// `WHERE …`: only these rows are the backup's.
    pub(super) condition: Option<String>,
    /// Of its text, where that is not the session's.
    pub(super) encoding: Option<String>,
    pub(super) rows: u64,
    pub(super) fingerprint: Fingerprint,
    pub(super) copy_bytes: u64,
    pub(super) slices: u32,
}

pub(super) fn units(
    toc: &TableOfContents,
    manifest: &Manifest,
    selection: &Selection,
) -> Vec<Unit> {
    let tables: HashMap<i32, _> = manifest
        .tables
        .iter()
        .filter_map(|it| Some((i32::try_from(it.dump_id).ok()?, it)))
        .collect();
    let heaps = heaps(toc);
    let mut units: Vec<Unit> = Vec::new();
    let mut roots: HashMap<Vec<u8>, usize> = HashMap::new();
    for (place, entry) in toc.entries.iter().enumerate() {
        let is_used = selection.uses[place].data;
        let (true, Some(table)) = (is_used, tables.get(&entry.dump_id)) else {
            continue;
        };
        let statement = entry.copy_statement.as_deref().unwrap_or_default();
        let Some(statement) = CopyStatement::parse(statement) else {
            continue;
        };
        let is_root = entry.loads_via_partition_root();
        let (schema, name) = if is_root {
            (statement.schema, statement.table)
        } else {
            (
                entry.namespace.clone().unwrap_or_default(),
                entry.tag.clone().unwrap_or_default(),
            )
        };
        let relation = [quote_ident(&schema), quote_ident(&name)].join(&b'.');
        if is_root && let Some(known) = roots.get(&relation) {
            let unit = &mut units[*known];
            unit.rows += table.rows;
            unit.fingerprint += table.fingerprint;
            unit.copy_bytes += table.copy_bytes;
            continue;
        }
        if is_root {
            roots.insert(relation.clone(), units.len());
        }
        let own = QualifiedName {
            schema: table.schema.clone(),
            name: table.name.clone(),
        };
        let columns: Vec<_> = statement.columns.iter().map(|it| quote_ident(it)).collect();
        let can_cut =
            !is_root && table.condition.is_none() && heaps.contains(&qualified_name(entry));
        units.push(Unit {
            dump_id: table.dump_id,
            display: table.load_via.clone().unwrap_or(own),
            relation,
            columns: columns.join(&b", "[..]),
            is_root,
            condition: table.condition.clone(),
            encoding: None,
            rows: table.rows,
            fingerprint: table.fingerprint,
            copy_bytes: table.copy_bytes,
            slices: slices(table.copy_bytes, can_cut),
        });
    }
    units
}

fn slices(copy_bytes: u64, can_cut: bool) -> u32 {
    if !can_cut {
        return 1;
    }
    u32::try_from(copy_bytes.div_ceil(SLICE_BYTES).max(1)).unwrap_or(u32::MAX)
}

/// Tables whose rows can be told by physical position: other access methods need not know
/// it. Those of extensions are unknown, and small.
fn heaps(toc: &TableOfContents) -> HashSet<(&[u8], &[u8])> {
    let tables = toc.entries.iter().filter(|it| it.is("TABLE"));
    let heaps = tables.filter(|it| {
        matches!(
            it.table_access_method.as_deref(),
            None | Some(b"" | b"heap")
        )
    });
    heaps.map(qualified_name).collect()
}

fn qualified_name(entry: &Entry) -> (&[u8], &[u8]) {
    (
        entry.namespace.as_deref().unwrap_or_default(),
        entry.tag.as_deref().unwrap_or_default(),
    )
}
