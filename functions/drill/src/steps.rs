//! What the steps of a drill leave for the last one, in the work bucket. Nothing of it travels
//! in the state machine's payload, and a step that was killed is told by what is not there.

use bytes::Bytes;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use shared::key::{Key, drill_steps_prefix};
use shared::manifest::Source;
use shared::policy::DrillPolicy;
use shared::restore::{Advance, Backup, Estimate, Order};
use shared::store::{Bucket, StoreError, StoreErrorKind};
use shared::verdict::Code;

use crate::Invocation;
use crate::checks::CheckResult;
use crate::request::DrillItem;

/// 50,000 tables stay below. Guards the reader's memory.
const BYTES_MAX: u64 = 64 << 20;
/// More invocations than a drill has time for.
const STEPS_MAX: usize = 2_000;

/// Decided by the first invocation, and the same for all: another order would not go on where
/// the one before stopped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub drill: DrillItem,
    pub policy: DrillPolicy,
    pub order: Order,
    /// When its first invocation began: a run's drills wait for each other.
    pub begun_at: Timestamp,
    /// Needed by owners and grants, and missing on the server when the drill began.
    pub missing_roles: Vec<String>,
    pub target_server_version: String,
    pub backup: Drilled,
    pub prediction: Estimate,
    /// What earlier drills and restores have measured; otherwise what is assumed.
    pub is_predicted_from_measured: bool,
}

/// The backup that is drilled, as it was opened: a verdict is on this one, whatever lies there
/// when it is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drilled {
    pub snapshot_at: Timestamp,
    pub manifest_sha256: String,
    pub table_of_contents_sha256: Option<String>,
    pub source: Source,
    pub pg_dump: String,
    pub archive_version: String,
}

impl From<&Backup> for Drilled {
    fn from(backup: &Backup) -> Self {
        let manifest = &backup.manifest;
        Self {
            snapshot_at: manifest.snapshot_at,
            manifest_sha256: backup.manifest_sha256.clone(),
            table_of_contents_sha256: manifest.table_of_contents_sha256().map(str::to_owned),
            source: manifest.source.clone(),
            pg_dump: manifest.tools.pg_dump.clone(),
            archive_version: manifest.archive_version.clone(),
        }
    }
}

/// What one invocation did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    pub outcome: StepOutcome,
    /// What a person should know, whatever came of it.
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepOutcome {
    /// As far as the engine is, over all invocations so far.
    Restored(Box<Advance>),
    Checked(Vec<CheckResult>),
    Destroyed,
    /// What was made may still be there. It says nothing of the backup.
    NotDestroyed {
        error: String,
        message: String,
    },
    Failed {
        /// The name that the state machine was told.
        error: String,
        message: String,
        /// What it says of the backup.
        finding: Code,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum StepsError {
    #[error("the drill's records in the work bucket")]
    Storage(#[source] StoreError),
    #[error("{key} is not what a step of this drill writes: start another drill")]
    Malformed {
        key: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("write a step's record as JSON")]
    Json(#[source] serde_json::Error),
}

impl StepsError {
    pub fn name(&self) -> shared::error::Name {
        match self {
            Self::Storage(source) => source.name(),
            Self::Malformed { .. } | Self::Json(_) => shared::error::Name::Failed,
        }
    }
}

/// Everything that the steps of one drill left.
#[derive(Clone, Debug, Default)]
pub struct Steps {
    pub plan: Option<Plan>,
    /// In order of time.
    pub records: Vec<StepRecord>,
}

impl Steps {
    pub async fn read(work: &Bucket, drill: &DrillItem) -> Result<Self, StepsError> {
        let prefix = drill_steps_prefix(&drill.database, &drill.drill_id);
        let listed = work.list(&prefix).await.map_err(StepsError::Storage)?;
        let plan_key = plan_key(drill);
        let mut steps = Self::default();
        for listed in listed.iter().take(STEPS_MAX) {
            if listed.key == plan_key {
                steps.plan = Some(read(work, &listed.key).await?);
            } else {
                steps.records.push(read(work, &listed.key).await?);
            }
        }
        Ok(steps)
    }

    /// `None`: nothing has begun that anybody knows of.
    pub fn begun_at(&self) -> Option<Timestamp> {
        let planned = self.plan.as_ref().map(|it| it.begun_at);
        planned.or_else(|| self.records.iter().map(|it| it.started_at).min())
    }

    /// The newest word of the engine.
    pub fn restored(&self) -> Option<&Advance> {
        self.records.iter().rev().find_map(|it| match &it.outcome {
            StepOutcome::Restored(advance) => Some(&**advance),
            StepOutcome::Checked(_)
            | StepOutcome::Destroyed
            | StepOutcome::NotDestroyed { .. }
            | StepOutcome::Failed { .. } => None,
        })
    }

    pub fn checks(&self) -> Option<&[CheckResult]> {
        self.records.iter().rev().find_map(|it| match &it.outcome {
            StepOutcome::Checked(checks) => Some(&**checks),
            StepOutcome::Restored(_)
            | StepOutcome::Destroyed
            | StepOutcome::NotDestroyed { .. }
            | StepOutcome::Failed { .. } => None,
        })
    }

    pub fn is_destroyed(&self) -> bool {
        let outcomes = self.records.iter().map(|it| &it.outcome);
        outcomes.rev().any(|it| *it == StepOutcome::Destroyed)
    }
}

async fn read<T: DeserializeOwned>(work: &Bucket, key: &str) -> Result<T, StepsError> {
    let json = work.get(key, None, BYTES_MAX).await;
    let json = json.map_err(StepsError::Storage)?;
    serde_json::from_slice(&json).map_err(|source| StepsError::Malformed {
        key: key.to_owned(),
        source,
    })
}

/// Sorts before every step, and is the same for each that looks for it.
fn plan_key(drill: &DrillItem) -> String {
    Key::DrillStep {
        database: &drill.database,
        drill_id: &drill.drill_id,
        at: drill.started_at,
        nonce: "0",
        step: "plan",
    }
    .to_string()
}

/// Writes the plan, unless there is one: that one counts, and is returned.
pub async fn keep_plan(work: &Bucket, drill: &DrillItem, plan: Plan) -> Result<Plan, StepsError> {
    let key = plan_key(drill);
    let json = serde_json::to_vec_pretty(&plan).map_err(StepsError::Json)?;
    match work.put_once(&key, Bytes::from(json)).await {
        Ok(_) => Ok(plan),
        Err(error) if matches!(error.kind, StoreErrorKind::AlreadyExists) => read(work, &key).await,
        Err(error) => Err(StepsError::Storage(error)),
    }
}

/// Writes down why this invocation failed, for the evidence. The error counts, whether that
/// succeeds or not.
pub async fn keep_failure(
    work: &Bucket,
    drill: &DrillItem,
    invocation: &Invocation,
    outcome: StepOutcome,
) {
    let kept = keep(work, drill, invocation, "failed", (outcome, Vec::new()));
    if let Err(unkept) = kept.await {
        let error = shared::error::chain(&unkept);
        tracing::warn!(error, "the failure could not be written down");
    }
}

/// Appends what this invocation did.
pub async fn keep(
    work: &Bucket,
    drill: &DrillItem,
    invocation: &Invocation,
    step: &str,
    (outcome, notes): (StepOutcome, Vec<String>),
) -> Result<(), StepsError> {
    let record = StepRecord {
        started_at: invocation.started_at,
        finished_at: invocation.now(),
        outcome,
        notes,
    };
    let key = Key::DrillStep {
        database: &drill.database,
        drill_id: &drill.drill_id,
        at: record.finished_at,
        nonce: &invocation.nonce(),
        step,
    };
    let json = serde_json::to_vec_pretty(&record).map_err(StepsError::Json)?;
    match work.put_once(&key.to_string(), Bytes::from(json)).await {
        Ok(_) => Ok(()),
        // The answer to the SDK's first try was lost: it is our own that lies there.
        Err(error) if matches!(error.kind, StoreErrorKind::AlreadyExists) => Ok(()),
        Err(error) => Err(StepsError::Storage(error)),
    }
}
