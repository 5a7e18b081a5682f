//! From what was copied to the manifest. Values in, values out.

use std::collections::{BTreeMap, HashMap};

use shared::archive::TableOfContents;
use shared::fingerprint::Fingerprint;
use shared::key::object_name;
use shared::manifest::{Column, Content, LargeObjects, Object, Sequence, Table, Totals};
use shared::store::Written;

use crate::catalog::Relation;
use crate::copy::Copied;
use crate::error::DumpError;
use crate::names::Names;
use crate::plan::{Plan, PlannedTable};

/// What the catalog says of the tables, by oid.
#[derive(Debug, Default)]
pub struct TableFacts {
    pub relations: HashMap<u32, Relation>,
    pub columns: HashMap<u32, Vec<Column>>,
    pub primary_keys: HashMap<u32, Vec<String>>,
    pub names: Names,
}

/// The parts of the manifest that follow from the copy.
#[derive(Debug, Default, PartialEq)]
pub struct Inventory {
    pub objects: Vec<Object>,
    pub tables: Vec<Table>,
    pub sequences: Vec<Sequence>,
    pub large_objects: Vec<LargeObjects>,
    pub totals: Totals,
}

/// Every planned table must have all its slices: a missing one is an error, never a smaller
/// backup.
pub fn inventory(
    plan: &Plan,
    toc: &TableOfContents,
    facts: &mut TableFacts,
    copied: Vec<Copied>,
    written: &HashMap<String, Written>,
) -> Result<Inventory, DumpError> {
    let mut inventory = Inventory {
        sequences: sequences(toc, &facts.names),
        ..Inventory::default()
    };
    // Keys of one table sort in the order of its slices.
    let mut slices: BTreeMap<u32, BTreeMap<String, (u64, u64, Fingerprint)>> = BTreeMap::new();
    for Copied {
        mut object,
        large_objects,
    } in copied
    {
        let written = written.get(&object.key);
        object.version_id = written
            .ok_or(DumpError::Internal("an object was not written"))?
            .version_id
            .clone();
        let name = object_name(&object.key).to_owned();
        inventory.totals.stored_bytes += object.stored_bytes;
        match (&object.content, large_objects) {
            (
                Content::TableData {
                    dump_id,
                    rows,
                    copy_bytes,
                    fingerprint,
                },
                _,
            ) => {
                let slices = slices.entry(*dump_id).or_default();
                slices.insert(name, (*rows, *copy_bytes, *fingerprint));
            }
            (Content::LargeObjects { dump_id }, Some(totals)) => {
                inventory.totals.large_objects += totals.count;
                inventory.large_objects.push(LargeObjects {
                    dump_id: *dump_id,
                    count: totals.count,
                    bytes: totals.bytes,
                    fingerprint: totals.fingerprint,
                    objects: vec![name],
                });
            }
            (Content::LargeObjects { .. } | Content::TableOfContents | Content::Roles, _) => {}
        }
        inventory.objects.push(object);
    }
    for planned in &plan.tables {
        let slices = slices.remove(&planned.dump_id).unwrap_or_default();
        if slices.len() != planned.slices as usize {
            return Err(DumpError::Internal("a slice is missing"));
        }
        let table = table(planned, facts, slices)?;
        inventory.totals.rows += table.rows;
        inventory.totals.copy_bytes += table.copy_bytes;
        inventory.tables.push(table);
    }
    inventory.objects.sort_by(|a, b| a.key.cmp(&b.key));
    inventory.large_objects.sort_by_key(|it| it.dump_id);
    inventory
        .tables
        .sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
    inventory.totals.tables = inventory.tables.len() as u64;
    inventory.totals.objects = inventory.objects.len() as u64;
    Ok(inventory)
}

fn table(
    planned: &PlannedTable,
    facts: &mut TableFacts,
    slices: BTreeMap<String, (u64, u64, Fingerprint)>,
) -> Result<Table, DumpError> {
    let relation = facts.relations.remove(&planned.oid);
    let relation = relation.ok_or(DumpError::Internal("a table without facts"))?;
    let mut table = Table {
        oid: planned.oid,
        schema: relation.schema,
        name: relation.name,
        dump_id: planned.dump_id,
        columns: facts.columns.remove(&planned.oid).unwrap_or_default(),
        copy_columns: planned.copy_columns.clone(),
        primary_key: facts.primary_keys.remove(&planned.oid).unwrap_or_default(),
        rows: 0,
        copy_bytes: 0,
        fingerprint: Fingerprint::default(),
        objects: Vec::new(),
        unlogged: relation.unlogged,
        load_via: planned.load_via.clone(),
        condition: relation.condition,
    };
    for (object, (rows, copy_bytes, fingerprint)) in slices {
        table.rows += rows;
        table.copy_bytes += copy_bytes;
        table.fingerprint += fingerprint;
        table.objects.push(object);
    }
    Ok(table)
}

fn sequences(toc: &TableOfContents, names: &Names) -> Vec<Sequence> {
    let entries = toc.entries.iter().filter(|entry| entry.is("SEQUENCE SET"));
    entries
        .filter_map(|entry| {
            let (last_value, is_called) = entry.sequence_value()?;
            Some(Sequence {
                schema: names.text(entry.namespace.as_deref().unwrap_or_default()),
                name: names.text(entry.tag.as_deref().unwrap_or_default()),
                last_value,
                is_called,
            })
        })
        .collect()
}
