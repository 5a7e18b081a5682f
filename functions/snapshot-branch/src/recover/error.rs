//! Why a step of a recovery did not do what it was asked, by what the operator does about it.

use jiff::Timestamp;
use shared::approval::ApprovalError;
use shared::database_url::UrlError;
use shared::error::Name;
use shared::pg::PgError;
use shared::words;

#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    #[error(
        "there is no plan {0}: plans are kept for a month; start the recover machine for a new one"
    )]
    NoPlan(String),
    #[error("the plan {plan_id} has {n} obstacle(s) and cannot be done; make a new plan")]
    Obstacles { plan_id: String, n: usize },
    #[error("the plan {plan_id} expired at {}; production was not changed; make a new plan", words::time(*expired_at))]
    Expired {
        plan_id: String,
        expired_at: Timestamp,
    },
    #[error(
        "target_name_typed is {typed:?}, but this plan is for {expected:?}: nothing was approved. Is it the plan you mean? Then type the name exactly so"
    )]
    WrongName { typed: String, expected: String },
    #[error(
        "the plan {0} was made to be looked at, and no execution waits for it: start the recover machine, which makes one of its own"
    )]
    NoExecution(String),
    #[error("nobody has approved the plan {0}: production is not changed without that")]
    NotApproved(String),
    #[error(
        "the plan {plan_id} was approved at {} and not carried out within {minutes} minutes: the world has gone on; make a new plan", words::time(*at)
    )]
    Stale {
        plan_id: String,
        at: Timestamp,
        minutes: i64,
    },
    #[error("the plan {0} is over; make a new one")]
    Closed(String),
    #[error(
        "nobody has decided on the plan {0}, and its execution may wait for that: refuse it, which ends both"
    )]
    Undecided(String),
    #[error("the plan {plan_id} is not that far: {missing}")]
    TooEarly {
        plan_id: String,
        missing: &'static str,
    },
    #[error(
        "Neon has refused to carry out the plan {0}, and production was not changed; make a new plan"
    )]
    TurnedDown(String),
    /// Production was not touched.
    #[error("the project is not the one that was planned for and approved; production was not changed; make a new plan. What changed:\n- {}", .0.join("\n- "))]
    Changed(Vec<String>),
    /// It is not sent a second time into a world that is another by now.
    #[error(
        "an earlier try has sent the restore, and it does not show: production MAY have been changed; it was, as soon as the branch {kept} is there. It is not sent again: {source}"
    )]
    SentBefore {
        kept: String,
        source: Box<RecoveryError>,
    },
    #[error(
        "the name {name} is taken by a branch that is not what production was: production was not changed; make a new plan"
    )]
    NameTaken { name: String },
    #[error("the branch of that moment is not good, so production was not changed (checks of what is younger than it are left out with \"skip_checks\": true):\n- {}", .0.join("\n- "))]
    NotValid(Vec<String>),
    #[error("production was put back, and is not as the branch of that moment was:\n- {}", .0.join("\n- "))]
    NotWell(Vec<String>),
    #[error(transparent)]
    Approval(#[from] ApprovalError),
    #[error("Neon's connection URL")]
    Uri(#[source] UrlError),
    #[error("{doing}")]
    Database {
        doing: &'static str,
        #[source]
        source: PgError,
    },
    #[error("a thread ended early: {0}")]
    Thread(String),
}

impl RecoveryError {
    pub fn name(&self) -> Name {
        match self {
            Self::NoPlan(_)
            | Self::Obstacles { .. }
            | Self::Expired { .. }
            | Self::WrongName { .. }
            | Self::NoExecution(_)
            | Self::NotApproved(_)
            | Self::Stale { .. }
            | Self::Closed(_)
            | Self::Undecided(_)
            | Self::TooEarly { .. }
            | Self::TurnedDown(_)
            | Self::Changed(_)
            | Self::NameTaken { .. }
            | Self::NotValid(_)
            | Self::NotWell(_)
            | Self::Uri(_) => Name::Refused,
            // Whoever asks again looks again: it may only not show yet.
            Self::SentBefore { .. } => Name::Transient,
            Self::Approval(source) => source.name(),
            Self::Database { source, .. } if source.is_transient() => Name::Transient,
            Self::Database { .. } => Name::Refused,
            Self::Thread(_) => Name::Failed,
        }
    }
}
