//! One job of a restore: a transaction, what it waits for, and what it locks. Pure.

use super::select::{Selection, Stage};
use super::statements::Part;
use super::units::Unit;
use crate::archive::TableOfContents;

/// One transaction.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Job {
    /// Its name in the ledger.
    pub(super) id: String,
    pub(super) stage: Stage,
    /// For people.
    pub(super) what: String,
    pub(super) work: Work,
    /// Places of the jobs that must have ended.
    pub(super) after: Vec<usize>,
    /// All jobs of earlier stages than this must have ended.
    pub(super) barrier: Stage,
    pub(super) locks: Vec<Lock>,
    /// `COPY` text that it loads, indexes or reads: what its duration follows from.
    pub(super) bytes: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Work {
    /// By place in the table of contents.
    Statements(Vec<(usize, Part)>),
    /// One object, by its place in the manifest.
    Load {
        copy: Copy,
        object: usize,
        is_last: bool,
    },
    LargeObjects {
        object: usize,
    },
    /// SQL that is not the archive's.
    Create(Vec<u8>),
    /// Tables by place.
    Analyze(Vec<usize>),
    /// The blocks of tables that are proven in slices, by place in the units.
    Measure(Vec<usize>),
    ProveTable {
        unit: usize,
        slice: u32,
    },
    /// `SEQUENCE SET` entries by place.
    ProveSequences(Vec<usize>),
    ProveLargeObjects {
        entry: usize,
    },
}

/// The `COPY … FROM stdin` that takes an object's rows.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Copy {
    /// Of the entry at this place.
    Entry(usize),
    Text(Vec<u8>),
}

impl Copy {
    pub(super) fn sql(&self, toc: &TableOfContents) -> Vec<u8> {
        match self {
            Self::Entry(place) => toc.entries[*place]
                .copy_statement
                .clone()
                .unwrap_or_default(),
            Self::Text(sql) => sql.clone(),
        }
    }
}

/// What a job keeps others from. Two jobs whose locks conflict never run at the same time,
/// so none waits for another in the server and no two can deadlock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lock {
    Everything,
    Family(i32),
    /// One relation of a family.
    Relation {
        family: i32,
        relation: i32,
    },
    /// The same, with others that only read it or index it.
    Shared {
        family: i32,
        relation: i32,
    },
}

impl Lock {
    pub(super) fn conflicts(self, other: Self) -> bool {
        match (self, other) {
            (Self::Everything, _) | (_, Self::Everything) => true,
            (Self::Shared { .. }, Self::Shared { .. }) => false,
            (one, other) => match (one.parts(), other.parts()) {
                ((one, None), (other, _)) | ((one, _), (other, None)) => one == other,
                (one, other) => one == other,
            },
        }
    }

    fn parts(self) -> (i32, Option<i32>) {
        match self {
            Self::Everything => (0, None),
            Self::Family(family) => (family, None),
            Self::Relation { family, relation } | Self::Shared { family, relation } => {
                (family, Some(relation))
            }
        }
    }
}

/// Everything that follows from backup and order.
#[derive(Debug, Default)]
pub(super) struct Program {
    pub(super) jobs: Vec<Job>,
    pub(super) units: Vec<Unit>,
    pub(super) selection: Selection,
}
