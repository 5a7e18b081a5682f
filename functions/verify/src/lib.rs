//! Reads a backup back and writes a verdict on it; plans which backups are due; watches for
//! what is late.
//!
//! gather (manifest, history) → decide (pure: is it whole?) → act (verdict) → report.

mod at_once;
mod commit_record;
pub mod consistency;
mod contents;
pub mod error;
mod jobs;
mod judge;
pub mod large_objects;
mod lock;
pub mod object;
pub mod overdue;
mod pass;
pub mod plan;
mod progress;
pub mod report;
pub mod request;
pub mod rows;
pub mod verify_backup;
pub mod watch;

use std::path::PathBuf;
use std::time::Instant;

use jiff::Timestamp;
use lambda_runtime::Diagnostic;
use serde_json::Value;
use shared::backup::DatabaseName;
use shared::config::{ConfigError, layer_root, read_policy, required};
use shared::error::{Name, chain};
use shared::policy::LOCK_DAYS;
use shared::secret::Secrets;
use shared::store::Bucket;

use error::VerifyError;
pub use request::Request;
use verify_backup::Verifier;

/// The settings of the function, read once at cold start.
#[derive(Clone, Debug)]
pub struct Config {
    pub vault_bucket: String,
    pub work_bucket: String,
    /// Where the layer with `lifeboat.toml` is unpacked.
    pub layer_root: PathBuf,
    /// The schedule of the nightly backup as EventBridge Scheduler has it.
    pub nightly_schedule: String,
    /// The IANA name of the time zone that the schedule is in.
    pub time_zone: String,
    /// Objects decoded at once: one for each vCPU.
    pub threads: usize,
}

impl Config {
    /// # Errors
    ///
    /// A setting that is missing.
    pub fn read(var: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        Ok(Self {
            vault_bucket: required(&var, "VAULT_BUCKET")?,
            work_bucket: required(&var, "WORK_BUCKET")?,
            layer_root: layer_root(&var),
            nightly_schedule: required(&var, "NIGHTLY_SCHEDULE")?,
            time_zone: required(&var, "TIME_ZONE")?,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
        })
    }
}

/// What all invocations of one process share.
#[derive(Debug)]
pub struct Function {
    pub config: Config,
    pub vault: Bucket,
    pub work: Bucket,
    pub secrets: Secrets,
}

/// What is particular to one invocation.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Unique, given by Lambda.
    pub request_id: String,
    pub started_at: Timestamp,
    /// When Lambda ends the process.
    pub deadline: Instant,
}

impl Function {
    /// # Errors
    ///
    /// Under the names that the state machines match.
    pub async fn handle(&self, invocation: &Invocation, event: Value) -> Result<Value, Diagnostic> {
        match Request::parse(event)? {
            Request::Backup { backup, next } => {
                let identities = self.secrets.identities().await;
                let identities = identities.map_err(VerifyError::Identities)?;
                let verifier = Verifier {
                    vault: &self.vault,
                    work: &self.work,
                    identities: identities.into(),
                    threads: self.config.threads,
                    lock_days: self.lock_days(&backup.database)?,
                };
                answer(&verifier.verify(invocation, &backup, next).await?)
            }
            Request::PlanBackups(request) => answer(&plan::plan_backups(self, request).await?),
            Request::Watch(request) => {
                answer(&watch::watch(self, request, invocation.started_at).await?)
            }
        }
    }
}

impl Function {
    /// From the configuration as it is today.
    fn lock_days(&self, database: &DatabaseName) -> Result<u32, VerifyError> {
        let policy = read_policy(&self.config.layer_root).map_err(VerifyError::Policy)?;
        let database = policy.database(database);
        Ok(database.map_or(LOCK_DAYS, |it| it.lock_days))
    }
}

fn answer(report: &impl serde::Serialize) -> Result<Value, Diagnostic> {
    serde_json::to_value(report).map_err(|error| diagnostic(Name::Failed, &error))
}

/// An error as Lambda passes it on: the name is what the state machines match.
pub fn diagnostic(name: Name, error: &dyn std::error::Error) -> Diagnostic {
    Diagnostic {
        error_type: name.as_str().to_owned(),
        error_message: chain(error),
    }
}
