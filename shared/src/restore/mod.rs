//! The restore engine: a backup in the bucket becomes equal rows in a PostgreSQL database.
//!
//! It executes the archive's own statements over our wire client. A job – one transaction –
//! ends with its record in the target's ledger, so a restore that is cut anywhere goes on
//! exactly where it stopped, and nothing is ever loaded twice.

use std::collections::BTreeSet;
use std::time::Instant;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::archive::TableOfContents;

mod advance;
mod ask;
mod assemble;
mod backup;
mod close;
mod complete;
mod connect;
mod error;
pub mod estimate;
mod families;
pub mod guard;
mod jobs;
mod large_objects;
mod ledger;
mod load;
mod merge;
mod order;
mod plan;
mod proof;
mod prove;
mod queue;
mod reader;
mod remedy;
mod run;
pub mod scratch;
mod select;
mod session;
mod staged;
pub mod staging;
mod statements;
mod target;
mod task;
mod units;

pub use backup::Backup;
pub use error::RestoreError;
pub use estimate::Estimate;
pub use order::{
    Destination, InvalidTableName, LeaveOut, Order, Scope, parse_table_name, table_name,
};
pub use proof::{LargeObjectsProof, Proof, SequenceProof, TableProof};
pub use statements::UnknownKind;
pub use target::Target;

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

/// When an invocation goes no further.
#[derive(Clone, Copy, Debug)]
pub struct Until {
    /// No job is begun after this, but the first.
    pub begin: Instant,
    /// What still runs is cancelled, and done anew by the next invocation.
    pub stop: Instant,
}

impl From<Instant> for Until {
    /// Jobs are begun as long as they fit, and cut where they do not.
    fn from(stop: Instant) -> Self {
        Self { begin: stop, stop }
    }
}

/// Runs as many jobs as fit before `until`. Call again with the same arguments until
/// `remaining` is 0, then write down what it said, then [`finish`].
///
/// `target` is the database to restore into. It exists: [`scratch::create_database`]
/// makes it with the backup's own settings.
///
/// # Errors
///
/// A `Transient` one: call again. `OutOfTime` names a job that never fits. After any other
/// the target is marked unusable (in its comment and in its ledger); drop it and start over.
pub async fn advance(
    backup: &Backup,
    target: &Target,
    order: &Order,
    until: impl Into<Until>,
) -> Result<Advance, RestoreError> {
    advance::advance(backup, target, order, until.into()).await
}

/// Removes the ledger and gives the database its own comment. May be called again.
pub async fn finish(backup: &Backup, target: &Target, order: &Order) -> Result<(), RestoreError> {
    close::finish(backup, target, order).await
}

/// Marks the target unusable, in its comment and in its ledger: the restore will not go on.
/// Does nothing, and says `false`, where there is no such database, or no ledger in it.
pub async fn abandon(target: &Target, order: &Order, reason: &str) -> Result<bool, RestoreError> {
    close::abandon(target, order, reason).await
}

/// The entries that the order restores, by dump id: without the database itself,
/// subscriptions, what is left out, and owners' and privileges' entries not asked for.
pub fn kept(toc: &TableOfContents, order: &Order) -> BTreeSet<i32> {
    let selection = select::select(toc, &order.scope, &order.leave_out);
    let uses = toc.entries.iter().zip(&selection.uses);
    uses.filter(|(_, used)| {
        let is_kept = used.statement.is_some() || used.data;
        is_kept && (order.privileges || used.statement != Some(select::Stage::Privileges))
    })
    .map(|(entry, _)| entry.dump_id)
    .collect()
}
