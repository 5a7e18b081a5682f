//! Why something about branches did not come about. Whatever it is: no branch that is not ours
//! was touched, and the same event may be sent again.

use lambda_runtime::Diagnostic;
use shared::backup::{DatabaseName, MismatchedBackupId};
use shared::config::LayerError;
use shared::database_url::UrlError;
use shared::error::Name;
use shared::neon::NeonError;
use shared::pg::PgError;
use shared::policy::TargetName;
use shared::secret::SecretError;
use shared::store::StoreError;

use crate::diagnostic;
use crate::recover::error::RecoveryError;

#[derive(Debug, thiserror::Error)]
pub enum BranchesError {
    #[error("nothing can be done about branches")]
    Layer(#[source] LayerError),
    #[error("lifeboat.toml does not know {}: correct `databases`, or add them", .0.join(", "))]
    UnknownDatabases(Vec<String>),
    #[error("{0} is not in lifeboat.toml: add it there, or name one that is")]
    UnknownDatabase(DatabaseName),
    #[error("{0} has no [database.neon] block in lifeboat.toml: add one, or name one that has")]
    NoPolicy(DatabaseName),
    #[error("scheduled_time {given:?} is not a time: write one such as 2026-11-21T02:00:00Z")]
    MalformedTime {
        given: String,
        #[source]
        source: jiff::Error,
    },
    #[error("TIME_ZONE: {name:?} is no IANA time zone: correct the stack's parameter TimeZone")]
    TimeZone {
        name: String,
        #[source]
        source: jiff::Error,
    },
    #[error("the event contradicts itself")]
    Item(#[source] MismatchedBackupId),
    #[error(transparent)]
    Secret(SecretError),
    #[error(transparent)]
    Neon(NeonError),
    /// Nothing of ours can make room any more.
    #[error(
        "{source}. The project has {total} branches, {own} of them Lifeboat's; of others, the oldest are {oldest}"
    )]
    Limit {
        source: Box<NeonError>,
        total: usize,
        own: usize,
        oldest: String,
    },
    #[error("Neon's connection URL for the temporary branch")]
    Uri(#[source] UrlError),
    #[error("{target} is given no new project: {why}")]
    Target {
        target: TargetName,
        why: &'static str,
    },
    /// Whether a migration would run is not known.
    #[error("talk to the temporary branch")]
    Branch(#[source] PgError),
    #[error("a thread of the function failed: {0}")]
    Thread(String),
    #[error(
        "there is no branch pre-deploy-{name} of Lifeboat's in the project of {database}: nothing to report as deployed; was it made under this name?"
    )]
    NoSuchDeployment {
        database: DatabaseName,
        name: String,
    },
    #[error(
        "there is no branch {branch} of a rehearsal of {database}: it has ended, or was swept up six hours after it began; begin another"
    )]
    NoSuchRehearsal {
        database: DatabaseName,
        branch: String,
    },
    #[error("{failed} of {planned} branches could not be deleted; the first of them")]
    NotAllDeleted {
        failed: usize,
        planned: usize,
        #[source]
        source: Box<BranchesError>,
    },
    /// Whoever may invoke one of the two need not be allowed to invoke the other.
    #[error("{}", other_function(*recovers))]
    OtherFunction { recovers: bool },
    #[error(transparent)]
    Recovery(RecoveryError),
    #[error("write the evidence")]
    Evidence(#[source] StoreError),
    #[error("write the evidence as JSON")]
    Json(#[source] serde_json::Error),
}

fn other_function(recovers: bool) -> &'static str {
    if recovers {
        "this function recovers production, and does nothing else: send that to the stack's SnapshotBranchFunction"
    } else {
        "this function never changes production: send `recover` to the stack's RecoverFunction"
    }
}

impl From<NeonError> for BranchesError {
    fn from(error: NeonError) -> Self {
        Self::Neon(error)
    }
}

impl From<RecoveryError> for BranchesError {
    fn from(error: RecoveryError) -> Self {
        Self::Recovery(error)
    }
}

impl BranchesError {
    pub fn name(&self) -> Name {
        match self {
            Self::OtherFunction { .. }
            | Self::Layer(_)
            | Self::UnknownDatabases(_)
            | Self::UnknownDatabase(_)
            | Self::NoPolicy(_)
            | Self::MalformedTime { .. }
            | Self::TimeZone { .. }
            | Self::Item(_)
            | Self::NoSuchDeployment { .. }
            | Self::NoSuchRehearsal { .. }
            | Self::Limit { .. }
            | Self::Target { .. }
            | Self::Uri(_) => Name::Refused,
            Self::Secret(source) if source.is_transient() => Name::Transient,
            Self::Secret(_) => Name::Refused,
            Self::Neon(source) => source.name(),
            Self::NotAllDeleted { source, .. } => source.name(),
            Self::Recovery(source) => source.name(),
            Self::Evidence(source) => source.name(),
            Self::Branch(source) if source.is_transient() => Name::Transient,
            Self::Branch(_) => Name::Refused,
            Self::Json(_) | Self::Thread(_) => Name::Failed,
        }
    }
}

impl From<BranchesError> for Diagnostic {
    fn from(error: BranchesError) -> Self {
        diagnostic(error.name(), &error)
    }
}
