//! Why a restore stopped, by what the operator does about it.

use super::statements::UnknownKind;
use crate::archive::ReadError;
use crate::backup::{BackupId, DatabaseName};
use crate::error::Name;
use crate::manifest::ManifestError;
use crate::pg::PgError;
use crate::store::StoreError;

#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("there is no backup {id} of {database}: list the bucket, or ask for the latest")]
    NoBackup {
        database: DatabaseName,
        id: BackupId,
    },
    #[error("read the vault")]
    Store(#[source] StoreError),
    #[error("the manifest of {id}: take another backup")]
    Manifest {
        id: BackupId,
        #[source]
        source: ManifestError,
    },
    #[error("the table of contents of {id}: take another backup")]
    Archive {
        id: BackupId,
        #[source]
        source: ReadError,
    },
    /// The stored bytes are not those that the manifest describes.
    #[error(
        "{key} is not what the manifest says: {what}; run verify on this backup, and restore another"
    )]
    Damaged { key: String, what: String },
    #[error("{0}")]
    Refused(String),
    /// Another invocation works on the same run, or a killed one has not ended in the server.
    #[error("another invocation is still restoring into this database: try again in a minute")]
    Busy,
    #[error(transparent)]
    UnknownKind(#[from] UnknownKind),
    #[error("connect to the target")]
    Connect(#[source] PgError),
    #[error("ask the target: {doing}")]
    Query {
        doing: &'static str,
        #[source]
        source: PgError,
    },
    /// They are no longer recorded as done.
    #[error(
        "the target's server has crashed meanwhile, which emptied unlogged tables: try again, these are loaded anew: {0}"
    )]
    Emptied(String),
    /// The target is unusable from here on, and says so in its comment.
    #[error("{what}: {remedy}")]
    Job {
        what: String,
        remedy: String,
        #[source]
        source: Box<PgError>,
    },
    #[error(
        "{what} needs about {needed_seconds} s, an invocation has {available_seconds} s: restore on any machine that reaches the bucket, with `make restore`, where there is no deadline"
    )]
    OutOfTime {
        what: String,
        needed_seconds: u64,
        available_seconds: u64,
    },
    #[error("internal error: {0}")]
    Internal(String),
}

impl RestoreError {
    /// What the state machine is told.
    pub fn name(&self) -> Name {
        match self {
            Self::NoBackup { .. } | Self::Refused(_) | Self::UnknownKind(_) => Name::Refused,
            Self::Busy | Self::Emptied(_) => Name::Transient,
            Self::Connect(PgError::Pooled(_)) => Name::Refused,
            Self::Store(source) => source.name(),
            Self::Connect(source) | Self::Query { source, .. } => of_target(source),
            Self::Job { source, .. } => of_target(source),
            Self::OutOfTime { .. } => Name::OutOfTime,
            Self::Manifest { .. }
            | Self::Archive { .. }
            | Self::Damaged { .. }
            | Self::Internal(_) => Name::Failed,
        }
    }
}

fn of_target(error: &PgError) -> Name {
    if error.is_transient() {
        Name::Transient
    } else {
        Name::Failed
    }
}
