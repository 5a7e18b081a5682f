//! Why a step of a drill stopped: what the operator does about it, and what it says of the
//! backup.

use lambda_runtime::Diagnostic;
use shared::backup::{BackupId, DatabaseName};
use shared::config::LayerError;
use shared::error::Name;
use shared::key::object_name;
use shared::pg::PgError;
use shared::restore::RestoreError;
use shared::secret::SecretError;
use shared::store::{StoreError, StoreErrorKind};
use shared::verdict::Code;

use crate::diagnostic;
use crate::steps::StepsError;

#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    #[error("nothing can be drilled")]
    Layer(#[source] LayerError),
    #[error("{0} has no [database.drill] block in lifeboat.toml any more: add one and deploy")]
    NoPolicy(DatabaseName),
    #[error("{0}")]
    NothingToDrill(String),
    #[error("the drill's server")]
    Target(#[source] SecretError),
    #[error("read the age identities")]
    Identities(#[source] SecretError),
    #[error(transparent)]
    Engine(Box<RestoreError>),
    /// What lies under the backup's name is another backup.
    #[error(
        "what lies under {id} of {database} is the backup {found_id} of {found_database}: somebody put it there; find out who may write to the vault, and drill another backup"
    )]
    Foreign {
        database: DatabaseName,
        id: BackupId,
        found_database: DatabaseName,
        found_id: BackupId,
    },
    /// Nothing was made there.
    #[error(
        "the drill's server is the one that the backup is of ({0}): a drill would take its memory and disk from what is live; name another server in `target` of [database.drill]"
    )]
    IsTheSource(String),
    #[error(
        "policies of the backup are for roles that the drill's server lacks: {}; create them there, or write roles = \"create\" in [database.drill]",
        .0.join(", ")
    )]
    RolesMissing(Vec<String>),
    #[error("{doing} on the drill's server")]
    Server {
        doing: &'static str,
        #[source]
        source: PgError,
    },
    #[error(
        "the drill is not done after {minutes} minutes: raise give_up_minutes in [database.drill], give the server or the function more, or drill on a machine of your own with `make drill`"
    )]
    GivenUp { minutes: u32 },
    #[error("pg_dump lost the drill's server: {0}")]
    Planner(String),
    #[error("the restore has not ended: there is nothing to check")]
    NotRestored,
    #[error(transparent)]
    Steps(StepsError),
    #[error("read the verdicts on the backup")]
    Verdicts(#[source] StoreError),
    #[error("write {what}")]
    Write {
        what: &'static str,
        #[source]
        source: StoreError,
    },
    #[error("write {what} as JSON")]
    Json {
        what: &'static str,
        #[source]
        source: serde_json::Error,
    },
    #[error("a thread of the drill failed: {0}")]
    Thread(String),
}

impl DrillError {
    pub fn name(&self) -> Name {
        match self {
            Self::Layer(_)
            | Self::NoPolicy(_)
            | Self::NothingToDrill(_)
            | Self::IsTheSource(_)
            | Self::RolesMissing(_) => Name::Refused,
            Self::Target(source) | Self::Identities(source) if source.is_transient() => {
                Name::Transient
            }
            Self::Target(_) | Self::Identities(_) => Name::Refused,
            Self::Engine(source) => source.name(),
            Self::Foreign { .. } | Self::NotRestored | Self::Json { .. } | Self::Thread(_) => {
                Name::Failed
            }
            Self::Server { source, .. } if source.is_transient() => Name::Transient,
            Self::Server { .. } => Name::Refused,
            Self::GivenUp { .. } => Name::OutOfTime,
            Self::Planner(_) => Name::Transient,
            Self::Steps(source) => source.name(),
            Self::Verdicts(source) | Self::Write { source, .. } => source.name(),
        }
    }

    /// What a verdict makes of it, should it be the drill's end.
    pub fn finding(&self) -> Code {
        match self {
            Self::Foreign { .. } => Code::ManifestForeign,
            Self::Engine(source) => of_engine(source),
            Self::Layer(_)
            | Self::NoPolicy(_)
            | Self::NothingToDrill(_)
            | Self::Target(_)
            | Self::Identities(_)
            | Self::IsTheSource(_)
            | Self::RolesMissing(_)
            | Self::Server { .. }
            | Self::GivenUp { .. }
            | Self::Planner(_)
            | Self::NotRestored
            | Self::Steps(_)
            | Self::Verdicts(_)
            | Self::Write { .. }
            | Self::Json { .. }
            | Self::Thread(_) => Code::DrillInterrupted,
        }
    }
}

fn of_engine(error: &RestoreError) -> Code {
    match error {
        RestoreError::NoBackup { .. } => Code::ManifestMissing,
        RestoreError::Manifest { .. } => Code::ManifestUnreadable,
        RestoreError::Archive { .. } => Code::TocUnreadable,
        // The engine refuses a manifest that names another backup than the one it lies under.
        RestoreError::Damaged { key, .. } if object_name(key) == "manifest.json" => {
            Code::ManifestForeign
        }
        RestoreError::Damaged { .. } => Code::ChecksumDiffers,
        RestoreError::Store(source) => match source.kind {
            StoreErrorKind::NotFound => Code::ObjectMissing,
            StoreErrorKind::Damaged(_) => Code::ChecksumDiffers,
            StoreErrorKind::AlreadyExists
            | StoreErrorKind::Denied(_)
            | StoreErrorKind::TooLarge { .. }
            | StoreErrorKind::Unavailable(_)
            | StoreErrorKind::Rejected(_) => Code::ObjectUnreadable,
        },
        RestoreError::Job { source, .. } if !source.is_transient() => Code::RestoreFailed,
        RestoreError::Job { .. }
        | RestoreError::Refused(_)
        | RestoreError::Busy
        | RestoreError::Emptied(_)
        | RestoreError::UnknownKind(_)
        | RestoreError::Connect(_)
        | RestoreError::Query { .. }
        | RestoreError::OutOfTime { .. }
        | RestoreError::Internal(_) => Code::DrillInterrupted,
    }
}

impl From<StepsError> for DrillError {
    fn from(error: StepsError) -> Self {
        Self::Steps(error)
    }
}

impl From<RestoreError> for DrillError {
    fn from(error: RestoreError) -> Self {
        Self::Engine(Box::new(error))
    }
}

impl From<DrillError> for Diagnostic {
    fn from(error: DrillError) -> Self {
        diagnostic(error.name(), &error)
    }
}
