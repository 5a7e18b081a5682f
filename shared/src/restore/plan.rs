//! Which jobs a restore has, in stages. Pure; the same backup and order always give the same
//! jobs under the same names.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::families::Families;
use super::jobs::{Copy, Job, Lock, Program, Work};
use super::select::{Selection, Stage, dependencies, describe, select};
use super::statements::Part;
use super::units::{Unit, units};
use super::{Order, Scope};
use crate::archive::{Data, Entry, TableOfContents};
use crate::manifest::{Content, Manifest};

/// Statements of one transaction: few enough for the server's lock table.
const STATEMENTS_MAX: usize = 200;
/// Sequences asked about at once.
const SEQUENCES_MAX: usize = 500;

pub(super) fn plan(toc: &TableOfContents, manifest: &Manifest, order: &Order) -> Program {
    let selection = select(toc, &order.scope, &order.leave_out);
    let units = units(toc, manifest, &selection);
    let mut planner = Planner {
        toc,
        selection: &selection,
        families: Families::new(toc),
        by_id: toc
            .entries
            .iter()
            .enumerate()
            .map(|(place, it)| (it.dump_id, place))
            .collect(),
        jobs: Vec::new(),
        loads: HashMap::new(),
        posts: HashMap::new(),
        bytes: HashMap::new(),
    };
    planner.serial(Stage::Pre, &[Part::Definition]);
    planner.serial(Stage::Metadata, &[Part::Definition]);
    planner.data(manifest);
    planner.serial(Stage::Settle, &[Part::Definition]);
    planner.post();
    if order.owners {
        planner.owners();
    }
    if order.privileges {
        planner.serial(Stage::Privileges, &[Part::Definition]);
    }
    let last: &[Part] = if order.owners {
        &[Part::Definition, Part::Owner]
    } else {
        &[Part::Definition]
    };
    planner.serial(Stage::Last, last);
    if order.scope != Scope::SchemaOnly {
        planner.analyze();
        planner.proof(manifest, &units);
    }
    let jobs = planner.jobs;
    Program {
        jobs,
        units,
        selection,
    }
}

struct Planner<'a> {
    toc: &'a TableOfContents,
    selection: &'a Selection,
    families: Families,
    /// Places by dump id.
    by_id: HashMap<i32, usize>,
    jobs: Vec<Job>,
    /// Jobs that load rows of a family.
    loads: HashMap<i32, Vec<usize>>,
    /// Jobs that make its indexes, constraints and the like.
    posts: HashMap<i32, Vec<usize>>,
    /// Bytes of rows by relation.
    bytes: HashMap<i32, u64>,
}

impl Planner<'_> {
    fn places(&self, stage: Stage) -> Vec<usize> {
        let uses = self.selection.uses.iter().enumerate();
        uses.filter(|(_, it)| it.statement == Some(stage))
            .map(|(place, _)| place)
            .collect()
    }

    fn push(&mut self, stage: Stage, id: String, what: String, work: Work) -> usize {
        self.jobs.push(Job {
            id,
            stage,
            what,
            work,
            after: Vec::new(),
            barrier: stage,
            locks: Vec::new(),
            bytes: 0,
        });
        self.jobs.len() - 1
    }

    /// One after the other, in the archive's order.
    fn serial(&mut self, stage: Stage, parts: &[Part]) {
        let mut places = self.places(stage);
        // Event triggers last: they would act on the refreshing of materialized views.
        places.sort_by_key(|it| !self.toc.entries[*it].is("MATERIALIZED VIEW DATA"));
        // A materialized view takes as long as its query does.
        let size = if stage == Stage::Last {
            1
        } else {
            STATEMENTS_MAX
        };
        self.chain(stage, &places, parts, size);
    }

    fn owners(&mut self) {
        let is_owned = |place: &usize| {
            let used = self.selection.uses[*place].statement;
            used.is_some_and(|it| it != Stage::Privileges && it != Stage::Last)
        };
        let places: Vec<usize> = (0..self.toc.entries.len()).filter(is_owned).collect();
        self.chain(Stage::Owners, &places, &[Part::Owner], STATEMENTS_MAX);
    }

    fn chain(&mut self, stage: Stage, places: &[usize], parts: &[Part], size: usize) {
        let mut previous = None;
        for chunk in places.chunks(size) {
            let first = &self.toc.entries[chunk[0]];
            let statements = chunk
                .iter()
                .flat_map(|place| parts.iter().map(|part| (*place, *part)));
            let id = format!("{stage:?}:{}", first.dump_id).to_lowercase();
            let what = match chunk.len() {
                1 => describe(first),
                n => format!("{n} entries from {}", describe(first)),
            };
            let work = Work::Statements(statements.collect());
            let job = self.push(stage, id, what, work);
            self.jobs[job].after.extend(previous);
            if stage > Stage::Post {
                // Some ANALYZE may still be running.
                self.jobs[job].locks.push(Lock::Everything);
            }
            previous = Some(job);
        }
    }

    /// The relation that an entry of rows belongs to; its own id where the archive does not
    /// make that relation.
    fn relation_of_data(&self, entry: &Entry) -> i32 {
        let mut on = dependencies(entry);
        on.find(|id| self.families.of(*id).is_some())
            .unwrap_or(entry.dump_id)
    }

    fn data(&mut self, manifest: &Manifest) {
        let mut objects: HashMap<u32, Vec<usize>> = HashMap::new();
        for (place, object) in manifest.objects.iter().enumerate() {
            if let Content::TableData { dump_id, .. } | Content::LargeObjects { dump_id } =
                object.content
            {
                objects.entry(dump_id).or_default().push(place);
            }
        }
        let mut of_extensions = None;
        for (place, entry) in self.toc.entries.iter().enumerate() {
            if !self.selection.uses[place].data {
                continue;
            }
            let dump_id = u32::try_from(entry.dump_id).unwrap_or_default();
            let mut places = objects.remove(&dump_id).unwrap_or_default();
            // Slices are numbered in their names; one object may be listed before another.
            places.sort_by_key(|it| &manifest.objects[*it].key);
            let is_table = entry.data() == Ok(Some(Data::Table));
            let relation = self.relation_of_data(entry);
            for (index, object) in places.iter().enumerate() {
                let is_last = index + 1 == places.len();
                let work = if is_table {
                    Work::Load {
                        copy: Copy::Entry(place),
                        object: *object,
                        is_last,
                    }
                } else {
                    Work::LargeObjects { object: *object }
                };
                let id = format!("load:{dump_id}:{index:05}");
                let job = self.push(Stage::Data, id, describe(entry), work);
                let bytes = bytes_of(&manifest.objects[*object].content);
                self.jobs[job].bytes = bytes.unwrap_or(manifest.objects[*object].stored_bytes * 4);
                match self.families.of(relation) {
                    Some(family) => self.loads.entry(family).or_default().push(job),
                    // Rows of extensions may reference each other, and come in an order.
                    None if is_table => self.jobs[job].after.extend(of_extensions.replace(job)),
                    None => {}
                }
                *self.bytes.entry(relation).or_default() += bytes.unwrap_or_default();
            }
        }
    }

    fn post(&mut self) {
        let places = self.places(Stage::Post);
        let mut jobs: HashMap<i32, usize> = HashMap::new();
        for place in places {
            let entry = &self.toc.entries[place];
            let relations = self.relations(entry);
            let id = format!("post:{}", entry.dump_id);
            let work = Work::Statements(vec![(place, Part::Definition)]);
            let job = self.push(Stage::Post, id, describe(entry), work);
            let after: Vec<usize> = dependencies(entry)
                .filter_map(|it| jobs.get(&it).copied())
                .collect();
            self.jobs[job].after = after;
            if relations.is_empty() {
                self.jobs[job].locks.push(Lock::Everything);
            } else {
                self.jobs[job].barrier = Stage::Data;
            }
            for relation in relations {
                let Some(family) = self.families.of(relation) else {
                    continue;
                };
                let loads = self.loads.get(&family).cloned().unwrap_or_default();
                let bytes = self.bytes.get(&relation).copied().unwrap_or_default();
                let lock = self.lock(entry, family, relation);
                self.posts.entry(family).or_default().push(job);
                let job = &mut self.jobs[job];
                job.after.extend(loads);
                job.locks.push(lock);
                job.bytes = job.bytes.max(bytes);
            }
            self.jobs[job].after.sort_unstable();
            self.jobs[job].after.dedup();
            jobs.insert(entry.dump_id, job);
        }
    }

    fn lock(&self, entry: &Entry, family: i32, relation: i32) -> Lock {
        if entry.is("INDEX") {
            return Lock::Shared { family, relation };
        }
        let is_alone = self.families.members(family).len() == 1;
        // A key of a partition is made on it alone; anything else may reach its relatives.
        let is_own = entry.is("CONSTRAINT") && !self.families.is_parent(relation);
        if is_alone || is_own {
            Lock::Relation { family, relation }
        } else {
            Lock::Family(family)
        }
    }

    /// The relations that an entry needs, also through what it needs: an index of another
    /// table, a constraint.
    fn relations(&self, entry: &Entry) -> Vec<i32> {
        let mut found = Vec::new();
        let mut open: Vec<i32> = dependencies(entry).collect();
        let mut seen = HashSet::new();
        while let Some(id) = open.pop() {
            if !seen.insert(id) {
                continue;
            }
            if self.families.of(id).is_some() {
                found.push(id);
                continue;
            }
            let Some(on) = self.by_id.get(&id).map(|it| &self.toc.entries[*it]) else {
                continue;
            };
            let is_of_a_relation = [
                "TABLE DATA",
                "INDEX",
                "CONSTRAINT",
                "FK CONSTRAINT",
                "TRIGGER",
            ]
            .iter()
            .any(|it| on.is(it));
            if is_of_a_relation {
                open.extend(dependencies(on));
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Tables with rows; of partitions, their root does it. What a foreign server holds is
    /// none of ours.
    fn analyze(&mut self) {
        let mut families: BTreeMap<i32, u64> = BTreeMap::new();
        for (relation, bytes) in &self.bytes {
            if let Some(family) = self.families.of(*relation) {
                *families.entry(family).or_default() += bytes;
            }
        }
        for (family, bytes) in families.into_iter().filter(|it| it.1 > 0) {
            let members = self.families.members(family);
            let entry = |id: &i32| self.by_id.get(id).map(|it| (*it, &self.toc.entries[*it]));
            let is_foreign = |id: &i32| entry(id).is_some_and(|it| it.1.is("FOREIGN TABLE"));
            if members.iter().any(is_foreign) {
                continue;
            }
            let mut places: Vec<usize> = members
                .iter()
                .filter(|it| !self.families.is_partition(**it))
                .filter_map(entry)
                .filter(|(_, it)| it.is("TABLE"))
                .map(|(place, _)| place)
                .filter(|place| self.selection.uses[*place].statement.is_some())
                .collect();
            places.sort_unstable();
            let Some(job) = self.push_analyze(family, places, bytes) else {
                continue;
            };
            // As soon as the family is complete: the largest would else keep all others waiting.
            let (loads, posts) = (self.loads.get(&family), self.posts.get(&family));
            let before = loads.into_iter().chain(posts).flatten().copied();
            let job = &mut self.jobs[job];
            job.after.extend(before);
            job.after.sort_unstable();
            job.after.dedup();
            job.barrier = Stage::Data;
            job.locks.push(Lock::Family(family));
        }
        let views: Vec<usize> = (0..self.toc.entries.len())
            .filter(|place| self.toc.entries[*place].is("MATERIALIZED VIEW DATA"))
            .filter(|place| self.selection.uses[*place].statement.is_some())
            .collect();
        for place in views {
            self.push_analyze(self.toc.entries[place].dump_id, vec![place], 0);
        }
    }

    fn push_analyze(&mut self, id: i32, places: Vec<usize>, bytes: u64) -> Option<usize> {
        let first = places.first()?;
        let what = format!("ANALYZE of {}", describe(&self.toc.entries[*first]));
        let work = Work::Analyze(places);
        let job = self.push(Stage::Analyze, format!("analyze:{id}"), what, work);
        self.jobs[job].bytes = bytes / 10;
        Some(job)
    }

    fn proof(&mut self, manifest: &Manifest, units: &[Unit]) {
        let sliced: Vec<usize> = (0..units.len())
            .filter(|it| units[*it].slices > 1)
            .collect();
        let measured = (!sliced.is_empty()).then(|| {
            let what = "sizes of large tables".to_owned();
            self.push(
                Stage::Proof,
                "proof:sizes".to_owned(),
                what,
                Work::Measure(sliced),
            )
        });
        for (place, unit) in units.iter().enumerate() {
            for slice in 0..unit.slices {
                let id = format!("proof:{}:{slice:05}", unit.dump_id);
                let what = format!("proof of {}.{}", unit.display.schema, unit.display.name);
                let work = Work::ProveTable { unit: place, slice };
                let job = self.push(Stage::Proof, id, what, work);
                self.jobs[job].bytes = unit.copy_bytes / u64::from(unit.slices);
                if unit.slices > 1 {
                    self.jobs[job].after.extend(measured);
                }
            }
        }
        let is_used = |place: &usize| self.selection.uses[*place].statement.is_some();
        let sequences: Vec<usize> = (0..self.toc.entries.len())
            .filter(|it| self.toc.entries[*it].is("SEQUENCE SET"))
            .filter(is_used)
            .collect();
        for (index, chunk) in sequences.chunks(SEQUENCES_MAX).enumerate() {
            let what = "values of sequences".to_owned();
            let work = Work::ProveSequences(chunk.to_vec());
            self.push(Stage::Proof, format!("proof:sequences:{index}"), what, work);
        }
        for (place, entry) in self.toc.entries.iter().enumerate() {
            if self.selection.uses[place].data && entry.data() == Ok(Some(Data::LargeObjects)) {
                let id = format!("proof:{}", entry.dump_id);
                let work = Work::ProveLargeObjects { entry: place };
                let job = self.push(Stage::Proof, id, "proof of large objects".to_owned(), work);
                let recorded = manifest.large_objects.iter();
                let of = recorded.filter(|it| i64::from(it.dump_id) == i64::from(entry.dump_id));
                self.jobs[job].bytes = of.map(|it| it.bytes).sum();
            }
        }
    }
}

fn bytes_of(content: &Content) -> Option<u64> {
    match content {
        Content::TableData { copy_bytes, .. } => Some(*copy_bytes),
        Content::TableOfContents | Content::LargeObjects { .. } | Content::Roles => None,
    }
}
