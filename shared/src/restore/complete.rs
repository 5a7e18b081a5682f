//! Whether everything that the manifest counts is something that the restore loads and proves:
//! rows that nobody looks for would be missed by nobody. Pure.

use std::collections::{BTreeSet, HashMap};

use super::jobs::{Program, Work};
use super::select::describe;
use super::{Order, Scope};
use crate::archive::{Data, Entry, TableOfContents, lossy};
use crate::manifest::{Content, Manifest};

pub(super) struct Complete<'a> {
    pub(super) toc: &'a TableOfContents,
    pub(super) manifest: &'a Manifest,
    pub(super) order: &'a Order,
    pub(super) program: &'a Program,
}

impl Complete<'_> {
    /// What is in only one of manifest, table of contents and jobs; in words. Named tables are
    /// built from the manifest alone, and a schema has no rows.
    pub(super) fn unaccounted(&self) -> Vec<String> {
        match self.order.scope {
            Scope::Tables(_) | Scope::SchemaOnly => Vec::new(),
            Scope::Everything | Scope::DataOnly => {
                let mut found = self.data();
                found.extend(self.objects());
                found.extend(self.sequences());
                found
            }
        }
    }

    fn is_left_out(&self, place: usize) -> bool {
        self.program.selection.left_out.contains(&place)
    }

    /// Entries of rows and of large objects, held against the manifest's records of them.
    fn data(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut tables: HashMap<i64, String> = HashMap::new();
        for table in &self.manifest.tables {
            let name = format!("{}.{}", table.schema, table.name);
            tables.insert(table.dump_id.into(), name);
        }
        let large_objects = self.manifest.large_objects.iter();
        let mut groups: BTreeSet<i64> = large_objects.map(|it| it.dump_id.into()).collect();
        let units = self.program.units.iter();
        let units: BTreeSet<i64> = units.map(|it| it.dump_id.into()).collect();
        // By itself, or through the root of its partitions.
        let is_proven =
            |entry: &Entry, id: &i64| entry.loads_via_partition_root() || units.contains(id);
        for (place, entry) in self.toc.entries.iter().enumerate() {
            let id = i64::from(entry.dump_id);
            let (is_known, is_proven) = match entry.data() {
                Ok(Some(Data::Table)) => (tables.remove(&id).is_some(), is_proven(entry, &id)),
                Ok(Some(Data::LargeObjects)) => (groups.remove(&id), true),
                Ok(None) | Err(_) => continue,
            };
            let is_loaded = self.program.selection.uses[place].data && is_proven;
            if !is_known || !(is_loaded || self.is_left_out(place)) {
                found.push(format!(
                    "{}: manifest and table of contents do not agree on its rows",
                    describe(entry)
                ));
            }
        }
        found.extend(tables.into_values().map(|name| {
            format!("{name} is in the manifest, and not in the archive's table of contents")
        }));
        found.extend(groups.into_iter().map(|id| {
            format!("large objects (entry {id}) are in the manifest, and not in the archive's table of contents")
        }));
        found
    }

    /// Objects of rows that no job loads.
    fn objects(&self) -> Vec<String> {
        let jobs = self.program.jobs.iter();
        let loaded: BTreeSet<usize> = jobs
            .filter_map(|it| match it.work {
                Work::Load { object, .. } | Work::LargeObjects { object } => Some(object),
                Work::Statements(_)
                | Work::Create(_)
                | Work::Analyze(_)
                | Work::Measure(_)
                | Work::ProveTable { .. }
                | Work::ProveSequences(_)
                | Work::ProveLargeObjects { .. } => None,
            })
            .collect();
        let left_out = self.program.selection.left_out.iter();
        let left_out: BTreeSet<i64> = left_out
            .map(|it| i64::from(self.toc.entries[*it].dump_id))
            .collect();
        let objects = self.manifest.objects.iter().enumerate();
        let forgotten = objects.filter(|(place, it)| match it.content {
            Content::TableData { dump_id, .. } | Content::LargeObjects { dump_id } => {
                !loaded.contains(place) && !left_out.contains(&i64::from(dump_id))
            }
            Content::TableOfContents | Content::Roles => false,
        });
        forgotten
            .map(|(_, it)| format!("{} belongs to nothing that is restored", it.key))
            .collect()
    }

    fn sequences(&self) -> Vec<String> {
        let mut values: BTreeSet<(String, String)> = BTreeSet::new();
        let mut found = Vec::new();
        for entry in self.toc.entries.iter().filter(|it| it.is("SEQUENCE SET")) {
            if entry.sequence_value().is_none() {
                found.push(format!("{}: its value cannot be read", describe(entry)));
            }
            values.insert((
                lossy(&entry.namespace).into_owned(),
                lossy(&entry.tag).into_owned(),
            ));
        }
        let missing = self.manifest.sequences.iter().filter(|it| {
            let name = (it.schema.clone(), it.name.clone());
            !values.contains(&name)
        });
        found.extend(missing.map(|it| {
            format!(
                "sequence {}.{} is in the manifest, and not in the archive's table of contents",
                it.schema, it.name
            )
        }));
        found
    }
}
