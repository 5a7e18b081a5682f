//! Which relations lock each other: parents with their children and partitions. Pure.

use std::collections::{HashMap, HashSet};

use super::select::dependencies;
use crate::archive::{Entry, TableOfContents};

/// The relations of an archive, each in one family.
#[derive(Debug, Default)]
pub(super) struct Families {
    /// The family of a relation, by dump ids; its name is one of its members.
    of: HashMap<i32, i32>,
    members: HashMap<i32, Vec<i32>>,
    /// Relations that have children.
    parents: HashSet<i32>,
    /// What a partition is attached to, as `TABLE ATTACH` has it.
    attached: HashMap<i32, i32>,
}

fn is_relation(entry: &Entry) -> bool {
    ["TABLE", "MATERIALIZED VIEW", "VIEW", "FOREIGN TABLE"]
        .iter()
        .any(|it| entry.is(it))
}

impl Families {
    pub(super) fn new(toc: &TableOfContents) -> Self {
        let mut union = Union::default();
        for entry in toc.entries.iter().filter(|it| is_relation(it)) {
            union.root(entry.dump_id);
        }
        let by_id: HashMap<i32, &Entry> = toc.entries.iter().map(|it| (it.dump_id, it)).collect();
        let mut families = Self::default();
        let is_table = |entry: &Entry| entry.is("TABLE") || entry.is("FOREIGN TABLE");
        for entry in &toc.entries {
            let tables: Vec<i32> = dependencies(entry)
                .filter(|it| union.0.contains_key(it))
                .collect();
            if is_table(entry) {
                // A parent, or a table whose row type is used: one family either way.
                for table in tables {
                    families.parents.insert(table);
                    union.join(entry.dump_id, table);
                }
            } else if entry.is("TABLE ATTACH") {
                for pair in tables.windows(2) {
                    union.join(pair[0], pair[1]);
                }
                families.note_attached(&by_id, entry, &tables);
            }
        }
        let ids: Vec<i32> = union.0.keys().copied().collect();
        for id in ids {
            let family = union.root(id);
            families.of.insert(id, family);
            families.members.entry(family).or_default().push(id);
        }
        families
    }

    /// The partition has the entry's own name; the others are what it is attached to.
    fn note_attached(&mut self, by_id: &HashMap<i32, &Entry>, entry: &Entry, tables: &[i32]) {
        let is_partition = |table: &&i32| {
            by_id
                .get(*table)
                .is_some_and(|it| it.tag == entry.tag && it.namespace == entry.namespace)
        };
        let (partitions, parents): (Vec<&i32>, Vec<&i32>) = tables.iter().partition(is_partition);
        self.parents.extend(parents.iter().copied());
        for (partition, parent) in partitions.into_iter().zip(parents) {
            self.attached.insert(*partition, *parent);
        }
    }

    /// The family of a relation; `None` when the archive does not make it (a table of an
    /// extension).
    pub(super) fn of(&self, relation: i32) -> Option<i32> {
        self.of.get(&relation).copied()
    }

    pub(super) fn is_parent(&self, relation: i32) -> bool {
        self.parents.contains(&relation)
    }

    pub(super) fn is_partition(&self, relation: i32) -> bool {
        self.attached.contains_key(&relation)
    }

    /// The table at the top of its tree of partitions; itself, where it is no partition.
    pub(super) fn root_of(&self, relation: i32) -> i32 {
        let mut root = relation;
        // An archive that goes in circles ends as well.
        for _ in 0..self.attached.len() {
            match self.attached.get(&root) {
                Some(parent) => root = *parent,
                None => break,
            }
        }
        root
    }

    pub(super) fn members(&self, family: i32) -> &[i32] {
        self.members.get(&family).map_or(&[], Vec::as_slice)
    }
}

/// Disjoint sets.
#[derive(Default)]
struct Union(HashMap<i32, i32>);

impl Union {
    fn root(&mut self, id: i32) -> i32 {
        let parent = *self.0.entry(id).or_insert(id);
        if parent == id {
            return id;
        }
        let root = self.root(parent);
        self.0.insert(id, root);
        root
    }

    fn join(&mut self, one: i32, other: i32) {
        let (one, other) = (self.root(one), self.root(other));
        self.0.insert(one.max(other), one.min(other));
    }
}

#[cfg(test)]
mod tests {
    use super::super::select::tests::{entry, toc};
    use super::*;

    #[test]
    fn children_and_partitions_are_one_family_and_strangers_are_not() {
        let toc = toc(vec![
            entry((1, 2), "TABLE", ("app", "root"), "", &[]),
            entry((2, 2), "TABLE", ("app", "leaf"), "", &[]),
            entry((3, 2), "TABLE ATTACH", ("app", "leaf"), "", &[1, 2]),
            entry((4, 2), "TABLE", ("app", "parent"), "", &[]),
            entry((5, 2), "TABLE", ("app", "child"), "", &[4]),
            entry((6, 2), "TABLE", ("app", "alone"), "", &[]),
        ]);
        let families = Families::new(&toc);
        assert_eq!(families.of(1), families.of(2));
        assert_eq!(families.of(4), families.of(5));
        assert_ne!(families.of(1), families.of(4));
        assert_eq!(families.members(families.of(6).unwrap()), [6]);
        assert!(families.is_parent(1) && !families.is_parent(2) && families.is_parent(4));
        assert!(families.is_partition(2) && !families.is_partition(1));
        assert_eq!(families.of(99), None);
    }
}
