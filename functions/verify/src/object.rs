//! Reads one object back and compares it with what the manifest says about it.

use std::io::{self, BufRead};

use age::x25519::Identity;
use shared::archive::{ReadError, read_directory};
use shared::manifest::{Content, Manifest, Object, Totals};
use shared::opened::{Fault, Opened, Stored, StoredTotals};
use shared::verdict::Finding;

use crate::contents;
use crate::contents::Mismatch;
use crate::judge::judge;
use crate::large_objects::read_large_objects;
use crate::rows::read_rows;

/// The manifest, and what is looked up in it for every object.
#[derive(Debug)]
pub struct Claims {
    pub manifest: Manifest,
    /// Whether the object of this index holds the end of its table's data.
    is_last: Vec<bool>,
}

/// What came of reading one object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checked {
    pub findings: Vec<Finding>,
    /// What was read back.
    pub totals: Totals,
}

/// What the object decrypts to, as far as it could be read.
pub(crate) enum Outcome {
    Fault(Fault),
    Read {
        recipients: usize,
        mismatches: Vec<Mismatch>,
        totals: Totals,
    },
}

impl Claims {
    pub fn new(manifest: Manifest) -> Self {
        let last_names: std::collections::HashSet<&str> = manifest
            .tables
            .iter()
            .filter_map(|table| table.objects.last().map(String::as_str))
            .collect();
        let is_last = |object: &Object| last_names.contains(shared::key::object_name(&object.key));
        Self {
            is_last: manifest.objects.iter().map(is_last).collect(),
            manifest,
        }
    }

    /// Reads the object of this index to its end.
    ///
    /// `found_bytes` is the length that the storage says it has.
    ///
    /// # Errors
    ///
    /// The storage failed: nothing is known about the object.
    pub fn check(
        &self,
        index: usize,
        stored: impl BufRead,
        found_bytes: u64,
        identities: &[Identity],
    ) -> io::Result<Checked> {
        let object = &self.manifest.objects[index];
        let mut stored = Stored::new(stored, object.stored_bytes);
        let outcome = self.open(index, &mut stored, identities);
        let stored: StoredTotals = stored.finish()?;
        let mut totals = match &outcome {
            Outcome::Read { totals, .. } => totals.clone(),
            Outcome::Fault(_) => Totals::default(),
        };
        totals.objects = 1;
        totals.stored_bytes = stored.bytes;
        Ok(Checked {
            findings: judge(&self.manifest, object, &stored, found_bytes, &outcome),
            totals,
        })
    }

    fn open(
        &self,
        index: usize,
        stored: &mut Stored<impl BufRead>,
        identities: &[Identity],
    ) -> Outcome {
        let object = &self.manifest.objects[index];
        let is_compressed = !matches!(object.content, Content::TableOfContents);
        let mut opened = match Opened::new(stored, identities, is_compressed) {
            Ok(opened) => opened,
            Err(fault) => return Outcome::Fault(fault),
        };
        let mut totals = Totals::default();
        let read = self.compare(index, &mut opened, &mut totals);
        match (opened.fault(), read) {
            (Some(fault), _) => Outcome::Fault(fault),
            (None, mismatches) => Outcome::Read {
                recipients: opened.recipients(),
                mismatches,
                totals,
            },
        }
    }

    /// Where reading fails, the caller knows why.
    fn compare(
        &self,
        index: usize,
        opened: &mut Opened<'_, impl BufRead>,
        totals: &mut Totals,
    ) -> Vec<Mismatch> {
        match &self.manifest.objects[index].content {
            Content::TableOfContents => match read_directory(io::BufReader::new(&mut *opened)) {
                Ok(toc) => contents::compare_toc(&self.manifest, &toc),
                Err(ReadError::Io(_)) if opened.fault().is_some() => vec![],
                Err(error) => vec![contents::unreadable_toc(&error)],
            },
            Content::TableData {
                rows,
                copy_bytes,
                fingerprint,
                ..
            } => {
                let is_last = self.is_last[index];
                let Ok(read) = read_rows(&mut *opened) else {
                    return vec![];
                };
                let found = read.totals.unwrap_or_default();
                totals.rows = found.rows;
                totals.copy_bytes = found.copy_bytes;
                totals.tables = u64::from(is_last);
                let claimed = shared::fingerprint::RowTotals {
                    rows: *rows,
                    copy_bytes: *copy_bytes,
                    fingerprint: *fingerprint,
                };
                contents::compare_rows(&claimed, &read, is_last)
            }
            Content::LargeObjects { dump_id } => match read_large_objects(&mut *opened) {
                Ok(read) => {
                    totals.large_objects = read.count;
                    contents::compare_large_objects(&self.manifest, *dump_id, &read)
                }
                Err(error) => vec![contents::unreadable_tar(&error)],
            },
            Content::Roles => {
                // A fault is told by the caller; there is nothing to compare.
                let _copied = io::copy(&mut *opened, &mut io::sink());
                vec![]
            }
        }
    }
}
