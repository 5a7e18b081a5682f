//! The restore engine: a backup in the bucket becomes equal rows in a PostgreSQL database.
//!
//! It executes the archive's own statements over our wire client. A job – one transaction –
//! ends with its record in the target's ledger, so a restore that is cut anywhere goes on
//! exactly where it stopped, and nothing is ever loaded twice.

use std::time::Instant;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::database_url::DatabaseUrl;

mod backup;
mod error;
pub mod estimate;
pub mod guard;
mod order;
mod proof;
pub mod scratch;
pub mod staging;

pub use backup::Backup;
pub use error::RestoreError;
pub use estimate::Estimate;
pub use order::{
    Destination, InvalidTableName, LeaveOut, Order, Scope, parse_table_name, table_name,
};
pub use proof::{LargeObjectsProof, Proof, SequenceProof, TableProof};

/// How far a restore is, over all invocations: read from the target's ledger.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Advance {
    /// Jobs. None remain: the restore is complete, and `proof` is there.
    pub remaining: u64,
    pub total: u64,
    pub done: u64,
    /// Stored bytes of the bucket, what a repeated job read again included.
    pub bytes_read: u64,
    pub copy_bytes: u64,
    pub rows: u64,
    pub phases: Vec<PhaseTime>,
    /// What a person should know: what was left out, and why.
    pub notes: Vec<String>,
    pub proof: Option<Proof>,
}

/// One phase, in the order in which they run; the target's clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseTime {
    /// `pre_data`, `data`, `post_data`, `owners`, `privileges`, `refresh`, `analyze`, `proof`.
    pub name: String,
    pub started_at: Timestamp,
    pub seconds: f64,
}

/// Runs as many jobs as fit before `until`. Call again with the same arguments until
/// `remaining` is 0, then write down what it said, then [`finish`].
///
/// `target` is the URL of the database to restore into. It exists: [`scratch::create_database`]
/// makes it with the backup's own settings.
///
/// # Errors
///
/// A `Transient` one: call again. `OutOfTime` names a job that never fits. After any other
/// the target is marked unusable (in its comment and in its ledger); drop it and start over.
#[expect(clippy::unused_async, reason = "the body comes next")]
pub async fn advance(
    backup: &Backup,
    target: &DatabaseUrl,
    order: &Order,
    until: Instant,
) -> Result<Advance, RestoreError> {
    let _parameters = (backup, target, order, until);
    Err(RestoreError::Internal("not there yet".to_owned()))
}

/// Removes the ledger and gives the database its own comment. May be called again.
#[expect(clippy::unused_async, reason = "the body comes next")]
pub async fn finish(
    backup: &Backup,
    target: &DatabaseUrl,
    order: &Order,
) -> Result<(), RestoreError> {
    let _parameters = (backup, target, order);
    Err(RestoreError::Internal("not there yet".to_owned()))
}
