//! Restores a backup: plans, asks a person, carries it out in as many invocations as it
//! takes, proves it, and writes down what came of it.
//!
//! gather (backup, target, policy) → decide (pure: the plan and its obstacles) → act (the
//! engine in `shared::restore`) → report.

mod apply;
mod approval;
pub mod error;
pub mod outcome;
pub mod plan;
mod plans;
mod record;
pub mod report;
pub mod request;
pub mod words;
mod world;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use aws_config::SdkConfig;
use jiff::{SignedDuration, Timestamp};
use lambda_runtime::Diagnostic;
use serde::Serialize;
use serde_json::Value;
use shared::approval::Approvals;
use shared::config::{ConfigError, layer_root, required};
use shared::error::{Name, chain};
use shared::key::PlanOf;
use shared::restore::Until;
use shared::restore::guard::Obstacle;
use shared::secret::Secrets;
use shared::store::Bucket;

use error::RestoreFailed;
use plan::Plan;
pub use plans::Consumed;
use request::PlanRequest;
pub use request::Request;

/// One vCPU comes with this much memory.
const MEMORY_MB_PER_CPU: u32 = 1_769;
/// What an invocation keeps for itself at its end: a share of its time, but not more than this.
const RESERVE_MAX: Duration = Duration::from_secs(20);
/// An answer is at most 32 KB.
const OBSTACLES_MAX: usize = 20;

/// The settings of the function, read once at cold start.
#[derive(Clone, Debug)]
pub struct Config {
    pub vault_bucket: String,
    pub work_bucket: String,
    pub page_topic: String,
    /// Where the layer with `lifeboat.toml` is unpacked.
    pub layer_root: PathBuf,
    /// How long a plan may wait for its approval.
    pub plan_lifetime: SignedDuration,
    /// Its own name and region, for the commands in messages.
    pub function_name: String,
    pub region: String,
    /// Parallel connections to the target, unless the database's policy says otherwise.
    pub connections: u32,
}

impl Config {
    /// # Errors
    ///
    /// A setting that is missing.
    pub fn read(var: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let minutes: f64 = required(&var, "PLAN_LIFETIME_MINUTES")?;
        let lifetime = SignedDuration::try_from_secs_f64(minutes * 60.0);
        let memory_mb: u32 = required(&var, "AWS_LAMBDA_FUNCTION_MEMORY_SIZE")?;
        Ok(Self {
            vault_bucket: required(&var, "VAULT_BUCKET")?,
            work_bucket: required(&var, "WORK_BUCKET")?,
            page_topic: required(&var, "PAGE_TOPIC_ARN")?,
            layer_root: layer_root(&var),
            plan_lifetime: lifetime.map_err(|source| ConfigError::Invalid {
                name: "PLAN_LIFETIME_MINUTES",
                source: source.into(),
            })?,
            function_name: required(&var, "AWS_LAMBDA_FUNCTION_NAME")?,
            region: required(&var, "AWS_REGION")?,
            connections: (memory_mb / MEMORY_MB_PER_CPU).clamp(2, 8),
        })
    }
}

/// What all invocations of one process share.
#[derive(Debug)]
pub struct Function {
    config: Config,
    vault: Bucket,
    secrets: Secrets,
    approvals: Approvals,
}

/// What is particular to one invocation.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Unique, given by Lambda.
    pub request_id: String,
    pub started_at: Timestamp,
    /// By the monotonic clock.
    pub begun: Instant,
    /// How long it may take; `None` where nothing ends it.
    pub time: Option<Duration>,
    /// Where nothing ends it: when to tell how far it is. It begins no job after that.
    pub pause_after: Option<Duration>,
}

impl Invocation {
    /// When to stop working and to answer.
    fn work_until(&self) -> Until {
        /// Without a limit: longer than any restore.
        const DAYS: Duration = Duration::from_secs(30 * 86_400);
        match self.time {
            // A job that was begun is let end, however long it takes.
            None => Until {
                begin: self.begun + self.pause_after.unwrap_or(DAYS),
                stop: self.begun + DAYS,
            },
            Some(time) => {
                Until::from(self.begun + time.saturating_sub((time / 6).min(RESERVE_MAX)))
            }
        }
    }

    /// The longest that one job of the engine may take.
    fn job_seconds_max(&self, share: f64) -> Option<f64> {
        self.time.map(|time| time.as_secs_f64() * share)
    }
}

/// The answer to `plan`.
#[derive(Debug, Serialize)]
pub struct Planned {
    pub plan_id: String,
    /// For a person; a plan with obstacles is never approved.
    pub words: String,
    pub can_be_done: bool,
    /// The first; all of them are in the stored plan.
    pub obstacles: Vec<Obstacle>,
    pub obstacles_total: usize,
    pub database: shared::backup::DatabaseName,
    pub backup_id: shared::backup::BackupId,
    pub snapshot_at: Timestamp,
    /// How old the data is: what is lost with a restore.
    pub age_minutes: i64,
    pub verified: bool,
    pub target: String,
    pub tables: u64,
    pub rows: u64,
    /// Stored bytes to be read.
    pub bytes: u64,
    pub expected_seconds: f64,
    pub expires_at: Timestamp,
    pub expires_in_seconds: i64,
    /// To approve it, with the two names put in.
    pub approve: String,
    pub refuse: String,
}

impl Function {
    pub fn connect(config: Config, aws: &SdkConfig) -> Self {
        Self {
            vault: Bucket::new(aws, config.vault_bucket.clone()),
            secrets: Secrets::new(aws),
            approvals: Approvals::new(
                aws,
                PlanOf::Restore,
                config.work_bucket.clone(),
                config.page_topic.clone(),
            ),
            config,
        }
    }

    /// # Errors
    ///
    /// Under the names that the state machines match.
    pub async fn handle(&self, invocation: &Invocation, event: Value) -> Result<Value, Diagnostic> {
        match Request::parse(event)? {
            Request::Plan(it) => answer(&self.plan(invocation, &it).await?),
            Request::AwaitApproval(it) => answer(&self.await_approval(invocation, it).await?),
            Request::Approve(it) => answer(&self.approve(invocation, it).await?),
            Request::Refuse(it) => answer(&self.refuse(invocation, it).await?),
            Request::Apply(it) => answer(&self.apply(invocation, it).await?),
            Request::Report(it) => answer(&self.report(invocation, it).await?),
        }
    }

    async fn plan(
        &self,
        invocation: &Invocation,
        request: &PlanRequest,
    ) -> Result<Planned, RestoreFailed> {
        let (world, _backup) = self.gather(invocation, request).await?;
        let (now, lifetime) = (invocation.started_at, self.config.plan_lifetime);
        let plan = plan::plan(world, now, lifetime);
        // The same id is the same plan.
        self.approvals.write_once(&plan.plan_id, &plan).await?;
        tracing::info!(plan.plan_id, obstacles = plan.obstacles.len(), "planned");
        Ok(planned(&plan, now))
    }
}

fn planned(plan: &Plan, now: Timestamp) -> Planned {
    let estimate = &plan.estimate;
    Planned {
        plan_id: plan.plan_id.clone(),
        words: words::describe(plan, now),
        can_be_done: plan.obstacles.is_empty(),
        obstacles: plan.obstacles.iter().take(OBSTACLES_MAX).cloned().collect(),
        obstacles_total: plan.obstacles.len(),
        database: plan.request.database.clone(),
        backup_id: plan.backup_id,
        snapshot_at: plan.snapshot_at,
        age_minutes: now.duration_since(plan.snapshot_at).as_mins(),
        verified: plan.verified,
        target: plan.target_name.clone(),
        tables: estimate.tables,
        rows: estimate.rows,
        bytes: estimate.bytes,
        expected_seconds: estimate.seconds,
        expires_at: plan.expires_at,
        expires_in_seconds: plan.expires_at.duration_since(now).as_secs(),
        approve: words::approve_event(plan),
        refuse: words::refuse_event(plan),
    }
}

fn answer(report: &impl Serialize) -> Result<Value, Diagnostic> {
    serde_json::to_value(report).map_err(|error| diagnostic(Name::Failed, &error))
}

/// An error as Lambda passes it on: the name is what the state machines match.
pub fn diagnostic(name: Name, error: &dyn std::error::Error) -> Diagnostic {
    Diagnostic {
        error_type: name.as_str().to_owned(),
        error_message: chain(error),
    }
}
