//! What a verify has found so far: kept in the work bucket between invocations.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shared::backup::{BackupId, DatabaseName};
use shared::key::Key;
use shared::manifest::Totals;
use shared::store::{Bucket, StoreError, StoreErrorKind};
use shared::verdict::Finding;

use crate::object::Checked;

const FORMAT: u32 = 1;
/// A finding of 1 KB for each of 100,000 objects stays below.
const BYTES_MAX: u64 = 128 << 20;

/// Where a verify that needs several invocations goes on. Opaque to whoever passes it back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Next {
    /// Names the partial results in the work bucket.
    pub run: String,
    /// The newest of them; it holds all that was found so far.
    pub part: u32,
    /// Pins the backup: a manifest that changes in between is a finding.
    pub manifest_sha256: String,
}

/// Everything up to the end of an invocation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Progress {
    format: u32,
    /// When the first invocation began.
    pub(crate) started_at: Timestamp,
    /// Which objects of the manifest were read, by index.
    pub(crate) done: Vec<usize>,
    pub(crate) totals: Totals,
    pub(crate) findings: Vec<Finding>,
    /// Spent reading, over all invocations.
    pub(crate) seconds: f64,
    /// Work of one thread in a second.
    pub(crate) work_per_second: Option<f64>,
    /// How many objects of a backup that reads back whole have had their lock extended.
    pub(crate) n_locked: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum ProgressError {
    #[error("keep what was found so far")]
    Write(#[source] StoreError),
    #[error("read what the invocation before has found")]
    Read(#[source] StoreError),
    #[error("{key} is not a partial result of this version of Lifeboat: verify from the beginning")]
    Malformed { key: String },
}

impl Progress {
    pub(crate) fn begin(started_at: Timestamp) -> Self {
        Self {
            format: FORMAT,
            started_at,
            done: Vec::new(),
            totals: Totals::default(),
            findings: Vec::new(),
            seconds: 0.0,
            work_per_second: None,
            n_locked: 0,
        }
    }

    pub(crate) fn add(&mut self, index: usize, checked: Checked) {
        let Checked { findings, totals } = checked;
        self.done.push(index);
        self.findings.extend(findings);
        self.totals.tables += totals.tables;
        self.totals.rows += totals.rows;
        self.totals.copy_bytes += totals.copy_bytes;
        self.totals.objects += totals.objects;
        self.totals.stored_bytes += totals.stored_bytes;
        self.totals.large_objects += totals.large_objects;
    }

    pub(crate) async fn load(
        work: &Bucket,
        database: &DatabaseName,
        id: BackupId,
        next: &Next,
    ) -> Result<Self, ProgressError> {
        let key = key(database, id, next);
        let json = work.get(&key, None, BYTES_MAX).await;
        let json = json.map_err(ProgressError::Read)?;
        match serde_json::from_slice::<Self>(&json) {
            Ok(progress) if progress.format == FORMAT => Ok(progress),
            Ok(_) | Err(_) => Err(ProgressError::Malformed { key }),
        }
    }

    /// Keeps it under `next`. Where the same invocation was run twice, the first one's stands:
    /// both are about the same pinned backup.
    pub(crate) async fn save(
        self,
        work: &Bucket,
        database: &DatabaseName,
        id: BackupId,
        next: &Next,
    ) -> Result<Self, ProgressError> {
        let key = key(database, id, next);
        let Ok(json) = serde_json::to_vec(&self) else {
            return Err(ProgressError::Malformed { key });
        };
        match work.put_once(&key, Bytes::from(json)).await {
            Ok(_) => Ok(self),
            Err(error) if matches!(error.kind, StoreErrorKind::AlreadyExists) => {
                Self::load(work, database, id, next).await
            }
            Err(error) => Err(ProgressError::Write(error)),
        }
    }
}

fn key(database: &DatabaseName, id: BackupId, next: &Next) -> String {
    let key = Key::VerifyPart {
        database,
        id,
        run: &next.run,
        part: next.part,
    };
    key.to_string()
}
