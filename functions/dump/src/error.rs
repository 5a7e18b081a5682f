//! Why a dump did not become a backup. Whatever it is: no manifest was written, so there is
//! no backup, and the ones before are untouched.

use std::io;
use std::time::Duration;

use lambda_runtime::Diagnostic;
use shared::archive::{ReadError, UnknownData};
use shared::backup::{BackupId, DatabaseName, MismatchedBackupId};
use shared::client_tools::ClientError;
use shared::config::LayerError;
use shared::error::Name;
use shared::pg::PgError;
use shared::planner::PlannerError;
use shared::secret::SecretError;
use shared::store::StoreError;

use crate::preflight::Refusals;

#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    #[error(transparent)]
    Event(#[from] MismatchedBackupId),
    #[error("{0} is not in lifeboat.toml: add it there, or name one that is")]
    UnknownDatabase(DatabaseName),
    #[error(
        "{0} is to be read from a temporary branch, and the event names none: start the backup machine instead of this function"
    )]
    NoSourceBranch(DatabaseName),
    #[error(
        "the event names the branch of {lent_as}, which was not made for {id}: start the backup machine instead of this function"
    )]
    OtherSourceBranch { lent_as: String, id: BackupId },
    #[error(transparent)]
    Layer(#[from] LayerError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("connect to the database")]
    Connect(#[source] PgError),
    #[error(transparent)]
    Preflight(#[from] Refusals),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("ask the database: {doing}")]
    Query {
        doing: &'static str,
        #[source]
        source: PgError,
    },
    #[error(
        "no lock on every table within {} s: {holder}; end what holds it, or back up at a quieter time",
        .waited.as_secs()
    )]
    Locked { waited: Duration, holder: String },
    #[error(
        "tables were rewritten, truncated or dropped between the snapshot and its locks, {attempts} times in a row: {tables}"
    )]
    Rewritten { attempts: u32, tables: String },
    #[error(
        "the server's lock table is full ({said}): the dump needs a lock on every table; raise max_locks_per_transaction and restart the server"
    )]
    LockTableFull { said: String },
    #[error("pg_dump could not be started")]
    PlannerStart(#[source] io::Error),
    #[error("pg_dump ended before its table of contents was complete: {stderr}")]
    Planner { is_transient: bool, stderr: String },
    #[error("pg_dump gave no sign of life for {} s and was ended; its last words: {stderr}", .stalled.as_secs())]
    PlannerStalled { stalled: Duration, stderr: String },
    #[error("pg_dump's table of contents")]
    Archive(#[source] ReadError),
    #[error(transparent)]
    UnknownData(#[from] UnknownData),
    #[error("the archive names table {table} (oid {oid}), which the catalog does not have")]
    UnknownTable { table: String, oid: u32 },
    #[error("the copy statement of {table} is not one that Lifeboat understands")]
    CopyStatement { table: String },
    #[error("copy {what}")]
    Copy {
        what: String,
        #[source]
        source: PgError,
    },
    #[error("seal {what}")]
    Seal {
        what: String,
        #[source]
        source: io::Error,
    },
    #[error(
        "the coordinator's connection was lost, and with it every lock: nothing copied after that can be trusted"
    )]
    CoordinatorLost(#[source] PgError),
    #[error(
        "server process {pid} ({query}) has waited {seconds} s for a lock of this dump: it goes first, the dump will be tried again"
    )]
    Yielded {
        pid: String,
        query: String,
        seconds: u64,
    },
    #[error(
        "the dump does not fit its time: {done_percent} % copied after {elapsed_seconds} s, about {needed_seconds} s needed, {left_seconds} s left; give the function more memory (and with it CPUs), raise connections, or dump from a frozen source"
    )]
    OutOfTime {
        done_percent: u64,
        elapsed_seconds: u64,
        needed_seconds: u64,
        left_seconds: u64,
    },
    #[error(
        "everything was copied, but the storage did not take all of it in the invocation's time; see whether S3 and the way to it are well, or give the function more time"
    )]
    UploadsOutOfTime,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the machine: {doing}")]
    System {
        doing: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("internal: {0}")]
    Internal(&'static str),
}

impl From<PlannerError> for DumpError {
    fn from(error: PlannerError) -> Self {
        match error {
            PlannerError::System { doing, source } => Self::System { doing, source },
            PlannerError::Start(source) => Self::PlannerStart(source),
            PlannerError::NoPipes => Self::Internal("pg_dump has no pipes"),
            PlannerError::Archive(source) => Self::Archive(source),
            PlannerError::LockTableFull { said } => Self::LockTableFull { said },
            PlannerError::Ended {
                is_transient,
                stderr,
            } => Self::Planner {
                is_transient,
                stderr,
            },
            PlannerError::Stalled { stalled, stderr } => Self::PlannerStalled { stalled, stderr },
            PlannerError::Stopped => Self::Internal("stopped before"),
        }
    }
}

impl DumpError {
    fn name(&self) -> Name {
        match self {
            Self::Event(_)
            | Self::UnknownDatabase(_)
            | Self::NoSourceBranch(_)
            | Self::OtherSourceBranch { .. }
            | Self::Layer(_)
            | Self::Preflight(_)
            | Self::Client(_)
            | Self::LockTableFull { .. }
            | Self::UnknownData(_) => Name::Refused,
            Self::Secret(error) if error.is_transient() => Name::Transient,
            Self::Secret(_) => Name::Refused,
            Self::Connect(error) | Self::Query { source: error, .. } if error.is_transient() => {
                Name::Transient
            }
            Self::Connect(_) => Name::Refused,
            Self::Copy { source, .. } if source.is_transient() => Name::Transient,
            // A snapshot or table that is gone: a new attempt takes a new snapshot.
            Self::Copy { source, .. } if matches!(source.sqlstate(), Some("22023" | "42P01")) => {
                Name::Transient
            }
            Self::Store(error) if error.is_transient() => Name::Transient,
            Self::Locked { .. }
            | Self::Rewritten { .. }
            | Self::Planner {
                is_transient: true, ..
            }
            | Self::PlannerStalled { .. }
            | Self::CoordinatorLost(_)
            | Self::Yielded { .. } => Name::Transient,
            Self::OutOfTime { .. } | Self::UploadsOutOfTime => Name::OutOfTime,
            Self::Query { .. }
            | Self::PlannerStart(_)
            | Self::Planner { .. }
            | Self::Archive(_)
            | Self::UnknownTable { .. }
            | Self::CopyStatement { .. }
            | Self::Copy { .. }
            | Self::Seal { .. }
            | Self::Store(_)
            | Self::System { .. }
            | Self::Internal(_) => Name::Failed,
        }
    }
}

impl From<DumpError> for Diagnostic {
    fn from(error: DumpError) -> Self {
        Self {
            error_type: error.name().as_str().into(),
            error_message: shared::error::chain(&error),
        }
    }
}
