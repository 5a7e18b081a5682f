//! What the ledger's records say together: phases, counts, and the proof. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;

use super::complete::Complete;
use super::jobs::{Job, Program, Work};
use super::ledger::Record;
use super::prove::{Found, Values};
use super::select::describe;
use super::{
    Advance, LargeObjectsProof, Order, PhaseTime, Proof, Scope, SequenceProof, TableProof,
};
use crate::archive::{TableOfContents, lossy};
use crate::fingerprint::Fingerprint;
use crate::manifest::Manifest;

/// Names in one note; everything is in the proof.
const NAMES_MAX: usize = 20;

pub(super) struct Assembled<'a> {
    pub(super) toc: &'a TableOfContents,
    pub(super) manifest: &'a Manifest,
    pub(super) order: &'a Order,
    pub(super) program: &'a Program,
}

impl Assembled<'_> {
    pub(super) fn advance(&self, records: &[Record], bytes_read: u64) -> Advance {
        let done: HashMap<&str, &Record> = records.iter().map(|it| (it.id.as_str(), it)).collect();
        let jobs = &self.program.jobs;
        let n_done = jobs
            .iter()
            .filter(|it| done.contains_key(it.id.as_str()))
            .count();
        let loads = records.iter().filter(|it| it.id.starts_with("load:"));
        let (mut rows, mut copy_bytes) = (0, 0);
        for load in loads {
            rows += load.rows;
            copy_bytes += load.copy_bytes;
        }
        let remaining = (jobs.len() - n_done) as u64;
        Advance {
            remaining,
            total: jobs.len() as u64,
            done: n_done as u64,
            bytes_read,
            copy_bytes,
            rows,
            phases: phases(records),
            notes: self.notes(),
            proof: (remaining == 0).then(|| self.proof(&done)),
        }
    }

    fn left_out(&self) -> Vec<String> {
        let places = self.program.selection.left_out.iter();
        places.map(|it| describe(&self.toc.entries[*it])).collect()
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let subscriptions: Vec<String> = self
            .program
            .selection
            .subscriptions
            .iter()
            .map(|it| describe(&self.toc.entries[*it]))
            .collect();
        if !subscriptions.is_empty() {
            notes.push(format!(
                "never restored, since they would take over the source's replication slots: {}",
                some(&subscriptions)
            ));
        }
        let left_out = self.left_out();
        if !left_out.is_empty() {
            notes.push(format!("left out as ordered: {}", some(&left_out)));
        }
        let in_tablespaces = self.toc.entries.iter().filter(|it| {
            let tablespace = it.tablespace.as_deref().unwrap_or_default();
            !tablespace.is_empty()
        });
        let in_tablespaces: Vec<String> = in_tablespaces.map(describe).collect();
        if !in_tablespaces.is_empty() {
            notes.push(format!(
                "in the target's default tablespace instead of their own: {}",
                some(&in_tablespaces)
            ));
        }
        notes
    }

    fn proof(&self, done: &HashMap<&str, &Record>) -> Proof {
        let mut proof = Proof {
            left_out: self.left_out(),
            ..Proof::default()
        };
        let found = |job: &Job| {
            let found = done.get(job.id.as_str())?.found.as_deref()?;
            serde_json::from_str::<Found>(found).ok()
        };
        let mut sums: BTreeMap<usize, (u64, Fingerprint)> = BTreeMap::new();
        let mut untold: BTreeSet<usize> = BTreeSet::new();
        for job in &self.program.jobs {
            match &job.work {
                Work::ProveTable { unit, .. } => {
                    let sum = sums.entry(*unit).or_default();
                    match found(job) {
                        Some(found) if found.inconclusive.is_none() => {
                            sum.0 += found.rows;
                            sum.1 += found.fingerprint;
                        }
                        found => {
                            let reason = found.and_then(|it| it.inconclusive);
                            if untold.insert(*unit) {
                                proof.inconclusive.push(reason.unwrap_or(job.what.clone()));
                            }
                        }
                    }
                }
                Work::ProveSequences(places) => {
                    let values = done.get(job.id.as_str()).and_then(|it| it.found.as_deref());
                    let values = values.and_then(|it| serde_json::from_str::<Values>(it).ok());
                    self.sequences(&values.unwrap_or_default(), places, &mut proof);
                }
                Work::ProveLargeObjects { entry } => {
                    let dump_id = self.toc.entries[*entry].dump_id;
                    self.large_objects(found(job), dump_id, &mut proof);
                }
                Work::Statements(_)
                | Work::Create(_)
                | Work::Load { .. }
                | Work::LargeObjects { .. }
                | Work::Analyze(_)
                | Work::Measure(_) => {}
            }
        }
        sums.retain(|unit, _| !untold.contains(unit));
        self.tables(&sums, &mut proof);
        let complete = Complete {
            toc: self.toc,
            manifest: self.manifest,
            order: self.order,
            program: self.program,
        };
        proof.inconclusive.extend(complete.unaccounted());
        let left_out_rows = self.left_out_rows();
        proof.is_proven = self.order.scope != Scope::SchemaOnly
            && proof.differences().is_empty()
            && proof.inconclusive.is_empty()
            && left_out_rows.is_empty();
        proof.inconclusive.extend(left_out_rows);
        if self.order.scope == Scope::SchemaOnly {
            proof
                .inconclusive
                .push("only the schema was restored, so no row can be proven".to_owned());
        }
        proof
    }

    fn tables(&self, sums: &BTreeMap<usize, (u64, Fingerprint)>, proof: &mut Proof) {
        // What could not be read is not known to differ.
        for (place, (rows, fingerprint)) in sums {
            let (unit, rows, fingerprint) = (&self.program.units[*place], *rows, *fingerprint);
            let equal = rows == unit.rows && fingerprint == unit.fingerprint;
            proof.tables.push(TableProof {
                schema: unit.display.schema.clone(),
                name: unit.display.name.clone(),
                expected_rows: unit.rows,
                found_rows: rows,
                expected_fingerprint: unit.fingerprint,
                found_fingerprint: fingerprint,
                equal,
            });
        }
    }

    fn sequences(&self, values: &Values, places: &[usize], proof: &mut Proof) {
        for place in places {
            let entry = &self.toc.entries[*place];
            let Some(expected) = entry.sequence_value() else {
                continue;
            };
            let found = values.iter().find(|it| it.0 == entry.dump_id);
            let found = found.map(|it| (it.1, it.2));
            proof.sequences.push(SequenceProof {
                schema: lossy(&entry.namespace).into_owned(),
                name: lossy(&entry.tag).into_owned(),
                expected,
                found,
                equal: found == Some(expected),
            });
        }
    }

    fn large_objects(&self, found: Option<Found>, dump_id: i32, proof: &mut Proof) {
        let recorded = self.manifest.large_objects.iter();
        let mut recorded = recorded.filter(|it| i64::from(it.dump_id) == i64::from(dump_id));
        let Some(recorded) = recorded.next() else {
            return;
        };
        let (count, fingerprint) =
            found.map_or((0, Fingerprint::default()), |it| (it.rows, it.fingerprint));
        proof.large_objects.push(LargeObjectsProof {
            dump_id: recorded.dump_id,
            expected_count: recorded.count,
            found_count: count,
            expected_fingerprint: recorded.fingerprint,
            found_fingerprint: fingerprint,
            equal: count == recorded.count && fingerprint == recorded.fingerprint,
        });
    }

    /// Tables with rows that were left out: without them nothing is the backup.
    fn left_out_rows(&self) -> Vec<String> {
        let rows: HashMap<i64, u64> = self
            .manifest
            .tables
            .iter()
            .map(|it| (i64::from(it.dump_id), it.rows))
            .collect();
        let places = self.program.selection.left_out.iter();
        let entries = places.map(|it| &self.toc.entries[*it]);
        entries
            .filter_map(|it| {
                let rows = rows.get(&i64::from(it.dump_id)).filter(|rows| **rows > 0)?;
                Some(format!("{} was left out with {rows} rows", describe(it)))
            })
            .collect()
    }
}

fn some(names: &[String]) -> String {
    let shown = &names[..names.len().min(NAMES_MAX)];
    let mut text = shown.join(", ");
    if names.len() > shown.len() {
        text.push_str(&format!(" and {} more", names.len() - shown.len()));
    }
    text
}

/// From the begin of a phase's first job to the end of its last, by the target's clock.
fn phases(records: &[Record]) -> Vec<PhaseTime> {
    let mut spans: BTreeMap<&str, (Timestamp, f64)> = BTreeMap::new();
    let mut parsed: Vec<(&str, Timestamp, f64)> = records
        .iter()
        .filter_map(|it| Some((it.phase.as_str(), it.started_at.parse().ok()?, it.seconds)))
        .collect();
    parsed.sort_by_key(|it| it.1);
    for (phase, started_at, seconds) in &parsed {
        let span = spans.entry(phase).or_insert((*started_at, 0.0));
        let since = (*started_at - span.0)
            .total(jiff::Unit::Second)
            .unwrap_or_default();
        span.1 = span.1.max(since + seconds);
    }
    let mut phases: Vec<PhaseTime> = spans
        .into_iter()
        .map(|(name, (started_at, seconds))| PhaseTime {
            name: name.to_owned(),
            started_at,
            seconds,
        })
        .collect();
    phases.sort_by_key(|it| it.started_at);
    phases
}
