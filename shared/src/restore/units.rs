//! What is compared with the manifest: a table, or the partition root that the rows of its
//! leaves are loaded through. Pure.

use std::collections::{HashMap, HashSet};

use super::families::Families;
use super::select::{Selection, dependencies};
use crate::archive::{CopyStatement, Entry, TableOfContents, quote_ident};
use crate::fingerprint::Fingerprint;
use crate::manifest::{Manifest, QualifiedName, Table};

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
    of_tables(toc, &manifest.tables, selection)
}

fn of_tables(toc: &TableOfContents, tables: &[Table], selection: &Selection) -> Vec<Unit> {
    let tables: HashMap<i32, _> = tables
        .iter()
        .filter_map(|it| Some((i32::try_from(it.dump_id).ok()?, it)))
        .collect();
    let heaps = heaps(toc);
    let families = Families::new(toc);
    let mut units: Vec<Unit> = Vec::new();
    let mut roots: HashMap<Vec<u8>, usize> = HashMap::new();
    // Tables that are loaded by themselves, with the top of their trees.
    let mut by_themselves: Vec<(usize, i32)> = Vec::new();
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
        } else if let Some(id) = dependencies(entry).find(|it| families.of(*it).is_some()) {
            by_themselves.push((units.len(), families.root_of(id)));
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
    add_to_roots(toc, &mut units, &roots, &by_themselves);
    units
}

/// A root is read whole, with the partitions of it that were not loaded through it.
fn add_to_roots(
    toc: &TableOfContents,
    units: &mut [Unit],
    roots: &HashMap<Vec<u8>, usize>,
    by_themselves: &[(usize, i32)],
) {
    let tables = toc.entries.iter().filter(|it| it.is("TABLE"));
    let roots: HashMap<i32, usize> = tables
        .filter_map(|it| {
            let (schema, name) = qualified_name(it);
            let relation = [quote_ident(schema), quote_ident(name)].join(&b'.');
            Some((it.dump_id, *roots.get(&relation)?))
        })
        .collect();
    for (unit, root) in by_themselves {
        if let Some(root) = roots.get(root) {
            let Unit {
                rows,
                fingerprint,
                copy_bytes,
                ..
            } = units[*unit].clone();
            let root = &mut units[*root];
            root.rows += rows;
            root.fingerprint += fingerprint;
            root.copy_bytes += copy_bytes;
        }
    }
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

#[cfg(test)]
mod tests {
    use super::super::Scope;
    use super::super::order::LeaveOut;
    use super::super::select::select;
    use super::super::select::tests::{entry, text, toc};
    use super::*;

    const PRE: (i32, i32) = (0, 2);

    fn table(dump_id: u32, name: &str, rows: u64) -> Table {
        Table {
            oid: dump_id,
            schema: "app".to_owned(),
            name: name.to_owned(),
            dump_id,
            columns: Vec::new(),
            copy_columns: Vec::new(),
            primary_key: Vec::new(),
            rows,
            copy_bytes: rows * 10,
            fingerprint: Fingerprint::default(),
            objects: Vec::new(),
            unlogged: false,
            load_via: None,
            condition: None,
        }
    }

    /// A root with one partition that is loaded through it, and one that is not.
    #[test]
    fn a_root_holds_the_partitions_that_are_loaded_by_themselves_too() {
        let id = |id: i32| (id, PRE.1);
        let data = |id: i32, of: i32, name: &str, into: &str| {
            let mut data = entry((id, 3), "TABLE DATA", ("app", name), "", &[of]);
            data.copy_statement = text(&format!("COPY app.{into} (i) FROM stdin;\n"));
            data
        };
        let mut by_root = data(21, 11, "leaf_by_root", "root");
        by_root.definition = text("-- load via partition root app.root");
        let toc = toc(vec![
            entry(id(10), "TABLE", ("app", "root"), "CREATE TABLE", &[]),
            entry(
                id(11),
                "TABLE",
                ("app", "leaf_by_root"),
                "CREATE TABLE",
                &[],
            ),
            entry(id(12), "TABLE", ("app", "middle"), "CREATE TABLE", &[]),
            entry(id(13), "TABLE", ("app", "leaf"), "CREATE TABLE", &[]),
            entry(
                id(14),
                "TABLE ATTACH",
                ("app", "leaf_by_root"),
                "ALTER",
                &[10, 11],
            ),
            entry(
                id(15),
                "TABLE ATTACH",
                ("app", "middle"),
                "ALTER",
                &[10, 12],
            ),
            entry(id(16), "TABLE ATTACH", ("app", "leaf"), "ALTER", &[12, 13]),
            by_root,
            data(22, 13, "leaf", "leaf"),
        ]);
        let selection = select(&toc, &Scope::Everything, &LeaveOut::default());
        let tables = [table(21, "leaf_by_root", 5), table(22, "leaf", 7)];
        let units = of_tables(&toc, &tables, &selection);
        let found: Vec<_> = units
            .iter()
            .map(|it| (it.display.name.as_str(), it.is_root, it.rows))
            .collect();
        assert_eq!(found, [("leaf_by_root", true, 12), ("leaf", false, 7)]);
    }
}
