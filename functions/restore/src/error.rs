//! Why a step of a restore did not do what it was asked, by what the operator does about it.

use jiff::Timestamp;
use lambda_runtime::Diagnostic;
use shared::approval::ApprovalError;
use shared::backup::{BackupId, DatabaseName};
use shared::config::LayerError;
use shared::error::Name;
use shared::policy::TargetName;
use shared::restore::RestoreError;
use shared::secret::SecretError;
use shared::store::StoreError;
use shared::words;

use crate::diagnostic;

#[derive(Debug, thiserror::Error)]
pub enum RestoreFailed {
    #[error("{}", unknown("database", name.as_str(), "[[database]]", known.iter().map(DatabaseName::as_str)))]
    UnknownDatabase {
        name: DatabaseName,
        known: Vec<DatabaseName>,
    },
    #[error("{}", unknown("target", name.as_str(), "[[target]]", known.iter().map(TargetName::as_str)))]
    UnknownTarget {
        name: TargetName,
        known: Vec<TargetName>,
    },
    #[error("{database} has no verified backup{}: name one by its backup_id, with \"unverified\": true if nothing has read it back; `aws s3 ls` of its folder under backups/ lists them", before_words(*before))]
    NothingVerified {
        database: DatabaseName,
        before: Option<Timestamp>,
    },
    #[error(
        "backup {id} of {database} is not verified, or there is none: run verify on it, take another (\"point\": \"latest\"), or add \"unverified\": true if this one it must be"
    )]
    NotVerified {
        database: DatabaseName,
        id: BackupId,
    },
    #[error(
        "the manifest of backup {id} of {database} is not the one that its verdict is about: it was changed since, so nothing in it can be trusted; nothing was done. Run verify on it, find out who wrote it, and restore another backup meanwhile"
    )]
    AnotherManifest {
        database: DatabaseName,
        id: BackupId,
    },
    #[error(
        "there is no plan {0}: plans are kept for a month; start the restore machine for a new one"
    )]
    NoPlan(String),
    #[error(
        "the plan {plan_id} has {n} obstacle(s) and cannot be done; remove them and make a new plan"
    )]
    Obstacles { plan_id: String, n: usize },
    #[error("the plan {plan_id} expired at {}; nothing was done; make a new plan", words::time(*expired_at))]
    Expired {
        plan_id: String,
        expired_at: Timestamp,
    },
    #[error(
        "target_name_typed is {typed:?}, but this plan restores into {expected:?}: nothing was approved. Is it the plan you mean? Then type the name exactly so"
    )]
    WrongName { typed: String, expected: String },
    #[error(transparent)]
    Approval(#[from] ApprovalError),
    #[error("nobody has approved the plan {0}: nothing is restored without that")]
    NotApproved(String),
    #[error(
        "the plan {plan_id} was used at {}, by {by}; a plan is used once: make a new one", words::time(*at)
    )]
    Consumed {
        plan_id: String,
        by: String,
        at: Timestamp,
    },
    #[error(
        "the plan {0} is over: it was reported without having been used, so nothing is restored with it any more; make a new one"
    )]
    Closed(String),
    /// Nothing was written.
    #[error("the plan {plan_id} is not reported like that: {why}")]
    Contradiction { plan_id: String, why: String },
    /// Nothing was touched.
    #[error("the world is not the one that was planned for and approved; nothing was done; make a new plan. What changed:\n- {}", .0.join("\n- "))]
    Changed(Vec<String>),
    #[error("what was in the way was not there when it was planned; nothing was done:\n- {}", .0.join("\n- "))]
    NewObstacles(Vec<String>),
    #[error(transparent)]
    Layer(#[from] LayerError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("the storage")]
    Storage(#[from] StoreError),
    #[error(transparent)]
    Engine(#[from] RestoreError),
    #[error("seal the list of differing rows")]
    Seal(#[source] std::io::Error),
    #[error("write as JSON")]
    Json(#[from] serde_json::Error),
}

fn unknown<'a>(
    what: &str,
    name: &str,
    block: &str,
    known: impl Iterator<Item = &'a str>,
) -> String {
    let known: Vec<&str> = known.collect();
    let known = if known.is_empty() {
        format!("it names none: add a {block} block")
    } else {
        format!("it knows {}", known.join(", "))
    };
    format!("lifeboat.toml knows no {what} {name:?}; {known}")
}

fn before_words(before: Option<Timestamp>) -> String {
    before.map_or_else(String::new, |at| {
        format!(" whose data is from before {}", words::time(at))
    })
}

impl RestoreFailed {
    pub fn name(&self) -> Name {
        match self {
            Self::UnknownDatabase { .. }
            | Self::UnknownTarget { .. }
            | Self::NothingVerified { .. }
            | Self::NotVerified { .. }
            | Self::NoPlan(_)
            | Self::Obstacles { .. }
            | Self::Expired { .. }
            | Self::WrongName { .. }
            | Self::NotApproved(_)
            | Self::Consumed { .. }
            | Self::Closed(_)
            | Self::Contradiction { .. }
            | Self::Changed(_)
            | Self::NewObstacles(_)
            | Self::Layer(_) => Name::Refused,
            Self::Secret(source) if source.is_transient() => Name::Transient,
            Self::Secret(_) => Name::Refused,
            Self::Storage(source) => source.name(),
            Self::Engine(source) => source.name(),
            Self::Approval(source) => source.name(),
            Self::AnotherManifest { .. } | Self::Seal(_) | Self::Json(_) => Name::Failed,
        }
    }
}

impl From<RestoreFailed> for Diagnostic {
    fn from(error: RestoreFailed) -> Self {
        diagnostic(error.name(), &error)
    }
}
