//! Named tables in a schema of their own beside the live ones, built from the manifest alone:
//! their definitions need not exist any more, and nothing but their own objects is read.
//!
//! They are unlogged: a publication of all tables does not take them for its own, and the live
//! server's log does not grow. A crash of the server empties them, and they are staged again.

use std::collections::{BTreeMap, BTreeSet};

use super::ask::{Fields, literal, query};
use super::jobs::{Copy, Job, Program, Work};
use super::order::table_name;
use super::select::Stage;
use super::units::Unit;
use super::{Order, RestoreError};
use crate::archive::quote_ident;
use crate::fingerprint::Fingerprint;
use crate::manifest::{Column, Content, Manifest, QualifiedName, Table};
use crate::pg::Connection;

/// Types of the backup's columns, as `format_type` prints them, that columns of the target
/// can have. Any other becomes `text`: the rows' own form.
#[derive(Clone, Debug, Default)]
pub(super) struct Types(BTreeSet<String>);

/// One table to be.
#[derive(Clone, Debug)]
pub(super) struct Staged<'a> {
    /// As it was named in the order.
    pub(super) live: QualifiedName,
    /// Its name in the staging schema.
    pub(super) name: String,
    /// One, or the leaves whose rows are loaded through the named root.
    pub(super) tables: Vec<&'a Table>,
}

impl<'a> Staged<'a> {
    /// All of its tables have the same columns.
    pub(super) fn columns(&self) -> Vec<&'a Column> {
        let Some(table) = self.tables.first() else {
            return Vec::new();
        };
        let column = |name: &String| table.columns.iter().find(|it| it.name == *name);
        table.copy_columns.iter().filter_map(column).collect()
    }

    /// Quoted.
    pub(super) fn relation(&self, schema: &str) -> String {
        format!("{}.{}", quoted(schema), quoted(&self.name))
    }
}

pub(super) fn quoted(name: &str) -> String {
    String::from_utf8_lossy(&quote_ident(name.as_bytes())).into_owned()
}

/// The tables of the order in the manifest.
pub(super) fn find<'a>(
    manifest: &'a Manifest,
    tables: &[QualifiedName],
) -> Result<Vec<Staged<'a>>, RestoreError> {
    let mut found: Vec<Staged<'_>> = Vec::new();
    let mut missing = Vec::new();
    let wanted: BTreeSet<&QualifiedName> = tables.iter().collect();
    for live in wanted {
        let is_meant = |it: &&Table| {
            (it.schema == live.schema && it.name == live.name) || it.load_via.as_ref() == Some(live)
        };
        let tables: Vec<&Table> = manifest.tables.iter().filter(is_meant).collect();
        if tables.is_empty() {
            missing.push(table_name(live));
        }
        let is_taken = found.iter().any(|it| it.name == live.name);
        found.push(Staged {
            live: live.clone(),
            name: if is_taken {
                format!("{}.{}", live.schema, live.name)
            } else {
                live.name.clone()
            },
            tables,
        });
    }
    if missing.is_empty() {
        return Ok(found);
    }
    Err(RestoreError::Refused(format!(
        "the backup has no rows of {}: see \"tables\" in its manifest (of a partitioned table, name the partitions)",
        missing.join(", ")
    )))
}

/// Asks which types the target has.
///
/// Enums, domains and composites are not taken even where they exist: they may have changed
/// since, and then refuse the rows of the backup. So may types whose values are names of objects.
pub(super) fn types(
    connection: &mut Connection,
    manifest: &Manifest,
    tables: &[QualifiedName],
) -> Result<Types, RestoreError> {
    let staged = find(manifest, tables)?;
    let names: BTreeSet<&str> = staged
        .iter()
        .flat_map(Staged::columns)
        .map(|it| it.data_type.as_str())
        .collect();
    let names: Vec<String> = names.into_iter().map(literal).collect();
    let sql = format!(
        "SELECT name FROM unnest(ARRAY[{}]::text[]) AS name
         JOIN pg_catalog.pg_type t ON t.oid = to_regtype(name)
         LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
         WHERE coalesce(e.typtype, t.typtype) IN ('b', 'r', 'm')
           AND (coalesce(e.typnamespace, t.typnamespace) <> 'pg_catalog'::regnamespace
                OR coalesce(e.typname, t.typname) !~ '^(reg|aclitem$)')",
        names.join(", ")
    );
    let rows = query(connection, "for the types of the backup's columns", &sql)?;
    let known = rows.into_iter().map(|it| Fields::of(Some(it)).text());
    Ok(Types(known.collect()))
}

impl Types {
    fn of<'a>(&self, column: &'a Column) -> &'a str {
        if self.0.contains(&column.data_type) {
            &column.data_type
        } else {
            "text"
        }
    }
}

/// The jobs, and what a person should know about the tables' types.
pub(super) fn program(
    manifest: &Manifest,
    order: &Order,
    tables: &[QualifiedName],
    types: &Types,
) -> Result<(Program, Vec<String>), RestoreError> {
    let schema = order.staging_schema.as_deref().unwrap_or_default();
    let staged = find(manifest, tables)?;
    let mut program = Program::default();
    let mut findings = BTreeMap::new();
    let mut create = String::new();
    for table in &staged {
        let columns: Vec<String> = table
            .columns()
            .iter()
            .map(|it| format!("{} {}", quoted(&it.name), types.of(it)))
            .collect();
        let relation = table.relation(schema);
        create.push_str(&format!(
            "CREATE UNLOGGED TABLE {relation} ({});\n",
            columns.join(", ")
        ));
        for column in table.columns() {
            if types.of(column) != column.data_type {
                let columns: &mut Vec<String> = findings.entry(&column.data_type).or_default();
                columns.push(format!("{}.{}", table_name(&table.live), column.name));
            }
        }
    }
    push(
        &mut program,
        Stage::Pre,
        "create",
        "the staging tables",
        Work::Create(create.into()),
    );
    for table in &staged {
        load(&mut program, manifest, table, schema);
    }
    for table in &staged {
        // Enough to compare it. Whoever keeps the copy for queries of their own runs ANALYZE.
        let sql = format!(
            "SET LOCAL default_statistics_target = 10; ANALYZE {}",
            table.relation(schema)
        );
        let id = format!("analyze:{}", dump_id(table));
        let what = format!("ANALYZE of {}", table.name);
        push(
            &mut program,
            Stage::Analyze,
            &id,
            &what,
            Work::Create(sql.into()),
        );
    }
    for (place, table) in staged.iter().enumerate() {
        program.units.push(unit(manifest, table, schema));
        let id = format!("proof:{}:00000", dump_id(table));
        let what = format!("proof of {}", table.name);
        let work = Work::ProveTable {
            unit: place,
            slice: 0,
        };
        let job = push(&mut program, Stage::Proof, &id, &what, work);
        // Beside ANALYZE: neither needs the other.
        program.jobs[job].barrier = Stage::Analyze;
        program.jobs[job].bytes = program.units[place].copy_bytes;
    }
    let findings = findings.into_iter().map(|(data_type, columns)| {
        format!(
            "staged as text, since {data_type}, or what its values name, is gone or may have changed: {}",
            columns.join(", ")
        )
    });
    Ok((program, findings.collect()))
}

fn push(program: &mut Program, stage: Stage, id: &str, what: &str, work: Work) -> usize {
    program.jobs.push(Job {
        id: id.to_owned(),
        stage,
        what: what.to_owned(),
        work,
        after: Vec::new(),
        barrier: stage,
        locks: Vec::new(),
        bytes: 0,
    });
    program.jobs.len() - 1
}

fn dump_id(table: &Staged<'_>) -> u32 {
    table.tables.first().map_or(0, |it| it.dump_id)
}

/// Rows are in the backup's encoding, statements in UTF-8.
fn load(program: &mut Program, manifest: &Manifest, table: &Staged<'_>, schema: &str) {
    let columns = columns(table);
    let columns = if columns.is_empty() {
        String::new()
    } else {
        format!(" ({columns})")
    };
    let copy = format!(
        "COPY {}{columns} FROM STDIN WITH (ENCODING {})",
        table.relation(schema),
        literal(&manifest.settings.encoding)
    );
    for part in &table.tables {
        let mut objects: Vec<usize> = (0..manifest.objects.len())
            .filter(|it| is_of(&manifest.objects[*it].content, part.dump_id))
            .collect();
        objects.sort_by_key(|it| &manifest.objects[*it].key);
        for (index, object) in objects.iter().enumerate() {
            let id = format!("load:{}:{index:05}", part.dump_id);
            let work = Work::Load {
                copy: Copy::Text(copy.clone().into()),
                object: *object,
                is_last: index + 1 == objects.len(),
            };
            let job = push(program, Stage::Data, &id, &table_name(&table.live), work);
            if let Content::TableData { copy_bytes, .. } = manifest.objects[*object].content {
                program.jobs[job].bytes = copy_bytes;
            }
        }
    }
}

fn is_of(content: &Content, wanted: u32) -> bool {
    match content {
        Content::TableData { dump_id, .. } => *dump_id == wanted,
        Content::TableOfContents | Content::LargeObjects { .. } | Content::Roles => false,
    }
}

fn columns(table: &Staged<'_>) -> String {
    let columns = table.columns();
    let names: Vec<String> = columns.iter().map(|it| quoted(&it.name)).collect();
    names.join(", ")
}

fn unit(manifest: &Manifest, table: &Staged<'_>, schema: &str) -> Unit {
    let mut unit = Unit {
        dump_id: dump_id(table),
        display: table.live.clone(),
        relation: table.relation(schema).into_bytes(),
        columns: columns(table).into_bytes(),
        is_root: false,
        condition: None,
        encoding: Some(manifest.settings.encoding.clone()),
        rows: 0,
        fingerprint: Fingerprint::default(),
        copy_bytes: 0,
        slices: 1,
    };
    for part in &table.tables {
        unit.rows += part.rows;
        unit.fingerprint += part.fingerprint;
        unit.copy_bytes += part.copy_bytes;
    }
    unit
}
