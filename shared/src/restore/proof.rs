//! What a restored database was found to hold, held against the manifest. Pure.

use serde::{Deserialize, Serialize};

use crate::fingerprint::Fingerprint;

/// The outcome of reading the target back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// Every table, sequence and large object in scope is equal, and nothing with rows was
    /// left out.
    pub is_proven: bool,
    pub tables: Vec<TableProof>,
    pub sequences: Vec<SequenceProof>,
    pub large_objects: Vec<LargeObjectsProof>,
    /// Objects of the archive that were left out on purpose, in words.
    pub left_out: Vec<String>,
    /// Tables whose equality could not be told, with the reason.
    pub inconclusive: Vec<String>,
}

/// One table, or one partition root that the rows of its leaves are loaded through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableProof {
    pub schema: String,
    pub name: String,
    pub expected_rows: u64,
    pub found_rows: u64,
    pub expected_fingerprint: Fingerprint,
    pub found_fingerprint: Fingerprint,
    pub equal: bool,
}

impl TableProof {
    /// How it differs, in words; `None` when it does not.
    pub fn difference(&self) -> Option<String> {
        if self.equal {
            return None;
        }
        let name = format!("{}.{}", self.schema, self.name);
        let (expected, found) = (self.expected_rows, self.found_rows);
        Some(if found < expected {
            format!(
                "{name}: {} of {expected} rows are missing",
                expected - found
            )
        } else if found > expected {
            format!(
                "{name}: {} rows more than the {expected} of the backup",
                found - expected
            )
        } else {
            format!("{name}: {expected} rows as in the backup, but some of them are changed")
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceProof {
    pub schema: String,
    pub name: String,
    pub expected: (i64, bool),
    /// Null where it does not exist or could not be read.
    pub found: Option<(i64, bool)>,
    pub equal: bool,
}

/// One large-object entry of the archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LargeObjectsProof {
    pub dump_id: u32,
    pub expected_count: u64,
    pub found_count: u64,
    pub expected_fingerprint: Fingerprint,
    pub found_fingerprint: Fingerprint,
    pub equal: bool,
}

impl Proof {
    /// Everything that differs, in words.
    pub fn differences(&self) -> Vec<String> {
        let tables = self.tables.iter().filter_map(TableProof::difference);
        let sequences = self.sequences.iter().filter(|it| !it.equal).map(|it| {
            let (expected, _) = it.expected;
            match it.found {
                Some((found, _)) => format!(
                    "sequence {}.{} is at {found}, the backup has {expected}",
                    it.schema, it.name
                ),
                None => format!("sequence {}.{} does not exist", it.schema, it.name),
            }
        });
        let objects = self.large_objects.iter().filter(|it| !it.equal).map(|it| {
            format!(
                "large objects (entry {}): {} found, {} expected, contents differ",
                it.dump_id, it.found_count, it.expected_count
            )
        });
        tables.chain(sequences).chain(objects).collect()
    }
}
