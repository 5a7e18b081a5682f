//! Which pieces the copy is cut into. Values in, values out.

use std::collections::HashMap;

use shared::archive::{CopyStatement, Data, Entry, TableOfContents, lossy, quote_ident};
use shared::manifest::QualifiedName;

use crate::catalog::Relation;
use crate::error::DumpError;
use crate::names::Names;

/// One piece: what one connection copies in one transaction into one stored object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    Slice(Slice),
    LargeObjects {
        dump_id: u32,
        oids: Vec<u32>,
        list_name: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    pub dump_id: u32,
    /// `schema.table`, for messages.
    pub table: String,
    /// `LOCK TABLE ONLY …`, in the database's encoding.
    pub lock: Vec<u8>,
    /// `COPY … TO STDOUT`, in the database's encoding.
    pub copy: Vec<u8>,
    pub index: u32,
    /// The archive's terminator follows the rows of the last slice.
    pub is_last: bool,
    /// Its share of the table's bytes on disk.
    pub weight: u64,
}

/// One table of the archive, before it is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedTable {
    pub dump_id: u32,
    pub oid: u32,
    pub copy_columns: Vec<String>,
    pub load_via: Option<QualifiedName>,
    pub slices: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub tables: Vec<PlannedTable>,
    /// The smallest first: connections take from the end.
    pub jobs: Vec<Job>,
    /// Bytes on disk of everything.
    pub weight: u64,
}

impl Job {
    pub fn weight(&self) -> u64 {
        match self {
            Self::Slice(slice) => slice.weight,
            Self::LargeObjects { .. } => 0,
        }
    }
}

/// The oids of all tables whose rows are in the archive.
pub fn table_oids(toc: &TableOfContents) -> Result<Vec<u32>, DumpError> {
    let mut oids = Vec::new();
    for entry in &toc.entries {
        if entry.data()? == Some(Data::Table) {
            oids.push(entry.oid_number());
        }
    }
    Ok(oids)
}

/// Cuts everything with data into jobs of about `slice_bytes` on disk.
pub fn plan(
    toc: &TableOfContents,
    relations: &HashMap<u32, Relation>,
    names: &Names,
    slice_bytes: u64,
) -> Result<Plan, DumpError> {
    let mut plan = Plan::default();
    let mut large_objects = Vec::new();
    for entry in &toc.entries {
        let dump_id = u32::try_from(entry.dump_id).unwrap_or_default();
        match entry.data()? {
            None => {}
            Some(Data::LargeObjects) => large_objects.push(Job::LargeObjects {
                dump_id,
                oids: toc.large_objects_of(entry),
                list_name: toc.file_name(entry)?.unwrap_or_default(),
            }),
            Some(Data::Table) => {
                let oid = entry.oid_number();
                let relation = relations.get(&oid).ok_or_else(|| DumpError::UnknownTable {
                    table: display_name(entry),
                    oid,
                })?;
                let (table, slices) = plan_table(entry, relation, names, slice_bytes)?;
                plan.weight += relation.bytes;
                plan.tables.push(table);
                plan.jobs.extend(slices.into_iter().map(Job::Slice));
            }
        }
    }
    plan.jobs.sort_by_key(Job::weight);
    // Of unknown size and serial each: begun first, so that none runs alone at the end.
    plan.jobs.append(&mut large_objects);
    Ok(plan)
}

fn plan_table(
    entry: &Entry,
    relation: &Relation,
    names: &Names,
    slice_bytes: u64,
) -> Result<(PlannedTable, Vec<Slice>), DumpError> {
    let unreadable = || DumpError::CopyStatement {
        table: display_name(entry),
    };
    let dump_id = u32::try_from(entry.dump_id).unwrap_or_default();
    let statement = entry.copy_statement.as_deref().unwrap_or_default();
    let statement = CopyStatement::parse(statement).ok_or_else(unreadable)?;
    let load_via = entry.loads_via_partition_root().then(|| QualifiedName {
        schema: names.text(&statement.schema),
        name: names.text(&statement.table),
    });
    let slices = slices(entry, dump_id, relation, &statement.columns, slice_bytes);
    let table = PlannedTable {
        dump_id,
        oid: relation.oid,
        copy_columns: statement.columns.iter().map(|it| names.text(it)).collect(),
        load_via,
        slices: u32::try_from(slices.len()).unwrap_or(u32::MAX),
    };
    Ok((table, slices))
}

/// Equal ranges of the heap's blocks. The last has no upper end: what was appended between
/// the snapshot and the measurement is visible or not, but never out of range.
fn slices(
    entry: &Entry,
    dump_id: u32,
    relation: &Relation,
    columns: &[Vec<u8>],
    slice_bytes: u64,
) -> Vec<Slice> {
    // The table that is read is the entry's own; its copy statement may load the root.
    let name = qualified(entry);
    let columns: Vec<Vec<u8>> = columns.iter().map(|it| quote_ident(it)).collect();
    let columns = columns.join(&b", "[..]);
    let can_cut = relation.is_heap && relation.condition.is_none();
    let count = match relation.bytes.div_ceil(slice_bytes.max(1)) {
        n if can_cut => n.min(relation.blocks).max(1),
        _ => 1,
    };
    (0..count)
        .map(|index| Slice {
            dump_id,
            table: display_name(entry),
            lock: [
                b"LOCK TABLE ONLY ",
                &name[..],
                b" IN ACCESS SHARE MODE NOWAIT",
            ]
            .concat(),
            copy: match &relation.condition {
                Some(condition) => copy_query(&name, &columns, condition.as_bytes()),
                None if count == 1 => copy_table(&name, &columns),
                None => {
                    let from = index * relation.blocks / count;
                    let to = (index + 1) * relation.blocks / count;
                    let mut range = format!("WHERE ctid >= '({from},0)'");
                    if index + 1 < count {
                        range.push_str(&format!(" AND ctid < '({to},0)'"));
                    }
                    copy_query(&name, &columns, range.as_bytes())
                }
            },
            index: u32::try_from(index).unwrap_or(u32::MAX),
            is_last: index + 1 == count,
            weight: relation.bytes / count,
        })
        .collect()
}

fn copy_table(name: &[u8], columns: &[u8]) -> Vec<u8> {
    let columns = if columns.is_empty() {
        Vec::new()
    } else {
        [b" (", columns, b")"].concat()
    };
    [b"COPY ", name, &columns, b" TO STDOUT"].concat()
}

fn copy_query(name: &[u8], columns: &[u8], condition: &[u8]) -> Vec<u8> {
    let from: &[u8] = b" FROM ONLY ";
    [
        b"COPY (SELECT ",
        columns,
        from,
        name,
        b" ",
        condition,
        b") TO STDOUT",
    ]
    .concat()
}

fn qualified(entry: &Entry) -> Vec<u8> {
    let part = |text: &Option<Vec<u8>>| quote_ident(text.as_deref().unwrap_or_default());
    [part(&entry.namespace), part(&entry.tag)].join(&b'.')
}

fn display_name(entry: &Entry) -> String {
    format!("{}.{}", lossy(&entry.namespace), lossy(&entry.tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn table(dump_id: i32, oid: &str, copy: &str, definition: &str) -> Entry {
        let text = |it: &str| Some(it.as_bytes().to_vec());
        Entry {
            dump_id,
            has_data: true,
            oid: text(oid),
            desc: text("TABLE DATA"),
            namespace: text("app"),
            tag: text("t\"1"),
            copy_statement: text(copy),
            definition: text(definition),
            ..Entry::default()
        }
    }

    fn relation(bytes: u64, blocks: u64) -> Relation {
        Relation {
            oid: 7,
            schema: "app".to_owned(),
            name: "t\"1".to_owned(),
            is_heap: true,
            unlogged: false,
            blocks,
            bytes,
            condition: None,
            is_rewritten: false,
        }
    }

    fn check(entry: Entry, relation: Relation, expected: &[&str]) {
        let toc = TableOfContents {
            version: (1, 14, 0),
            int_size: 4,
            offset_size: 8,
            created: [0; 7],
            database: None,
            server_version: None,
            pg_dump_version: None,
            entries: vec![entry],
        };
        let plan = plan(
            &toc,
            &HashMap::from([(7, relation)]),
            &Names::default(),
            256 * MIB,
        )
        .unwrap();
        let statements: Vec<String> = plan
            .jobs
            .iter()
            .map(|job| match job {
                Job::Slice(slice) => String::from_utf8_lossy(&slice.copy).into_owned(),
                Job::LargeObjects { oids, .. } => format!("{oids:?}"),
            })
            .collect();
        assert_eq!(statements, expected);
    }

    #[test]
    fn a_table_up_to_the_slice_size_is_a_plain_copy() {
        check(
            table(
                1,
                "7",
                "COPY app.\"t\"\"1\" (id, \"B c\") FROM stdin;\n",
                "",
            ),
            relation(256 * MIB, 30_000),
            &["COPY \"app\".\"t\"\"1\" (\"id\", \"B c\") TO STDOUT"],
        );
    }

    #[test]
    fn a_large_table_is_cut_without_gap_overlap_or_upper_end() {
        check(
            table(1, "7", "COPY app.\"t\"\"1\" (id) FROM stdin;\n", ""),
            relation(600 * MIB, 100),
            &[
                "COPY (SELECT \"id\" FROM ONLY \"app\".\"t\"\"1\" WHERE ctid >= '(0,0)' AND ctid < '(33,0)') TO STDOUT",
                "COPY (SELECT \"id\" FROM ONLY \"app\".\"t\"\"1\" WHERE ctid >= '(33,0)' AND ctid < '(66,0)') TO STDOUT",
                "COPY (SELECT \"id\" FROM ONLY \"app\".\"t\"\"1\" WHERE ctid >= '(66,0)') TO STDOUT",
            ],
        );
    }

    #[test]
    fn a_wide_row_in_one_block_is_not_cut() {
        let plain = ["COPY \"app\".\"t\"\"1\" TO STDOUT"];
        check(
            table(1, "7", "COPY app.\"t\"\"1\"  FROM stdin;\n", ""),
            relation(900 * MIB, 1),
            &plain,
        );
    }

    #[test]
    fn other_access_methods_and_conditions_are_never_cut() {
        let columnar = Relation {
            is_heap: false,
            ..relation(900 * MIB, 90)
        };
        let entry = || table(1, "7", "COPY app.\"t\"\"1\" (id) FROM stdin;\n", "");
        check(
            entry(),
            columnar,
            &["COPY \"app\".\"t\"\"1\" (\"id\") TO STDOUT"],
        );
        let condition = Some("WHERE NOT standard".to_owned());
        let partial = Relation {
            condition,
            ..relation(900 * MIB, 90)
        };
        check(
            entry(),
            partial,
            &["COPY (SELECT \"id\" FROM ONLY \"app\".\"t\"\"1\" WHERE NOT standard) TO STDOUT"],
        );
    }

    #[test]
    fn a_partition_loaded_through_its_root_is_read_itself() {
        check(
            table(
                1,
                "7",
                "COPY app.root (id) FROM stdin;\n",
                "-- load via partition root app.root",
            ),
            relation(1, 1),
            &["COPY \"app\".\"t\"\"1\" (\"id\") TO STDOUT"],
        );
    }
}
