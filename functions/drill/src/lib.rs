//! Restores a backup into a scratch database, compares everything, times every step, writes
//! evidence and a verdict, and destroys what it made.
//!
//! A drill of a Neon branch looks at one that is lent to it, and restores nothing: [`branch`].
//!
//! Its state machine asks for one step after the other: choose → restore, as often as it takes
//! → check → destroy, always → record. What a step found lies in the work bucket, so each may
//! be asked for twice, and a step that died is told by its absence.

pub mod branch;
pub mod branch_drill;
pub mod calendar;
pub mod call;
pub mod check;
pub mod checks;
pub mod choice;
pub mod choose;
pub mod destroy;
pub mod earlier;
pub mod error;
pub mod evidence;
pub mod inspect;
pub mod item;
pub mod janitor;
pub mod mark;
pub mod objectives;
pub mod record;
pub mod report;
pub mod request;
pub mod restoring;
pub mod roles;
pub mod steps;
pub mod timing;
pub mod verdict;

use std::path::PathBuf;
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use lambda_runtime::Diagnostic;
use serde_json::Value;
use shared::config::{ConfigError, layer_root, required};
use shared::error::{Name, chain};
use shared::sealed::sha256;
use shared::secret::Secrets;
use shared::store::Bucket;

pub use request::{DrillItem, DrillKind, Request};

/// The settings of the function, read once at cold start.
#[derive(Clone, Debug)]
pub struct Config {
    pub vault_bucket: String,
    pub work_bucket: String,
    /// Where the layers with `lifeboat.toml` and PostgreSQL's clients are unpacked.
    pub layer_root: PathBuf,
    /// The IANA name of the time zone of the business days.
    pub time_zone: String,
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
            time_zone: required(&var, "TIME_ZONE")?,
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
    /// The same moment, on the clock that never jumps.
    pub begun: Instant,
    /// When Lambda ends the process.
    pub deadline: Instant,
}

impl Invocation {
    /// The clock is read once, in `main`.
    pub fn now(&self) -> Timestamp {
        let elapsed = SignedDuration::try_from(self.begun.elapsed()).unwrap_or_default();
        self.started_at
            .checked_add(elapsed)
            .unwrap_or(self.started_at)
    }

    /// Keeps what two invocations write at one moment apart.
    pub fn nonce(&self) -> String {
        sha256(self.request_id.as_bytes())[..8].to_owned()
    }
}

impl Function {
    /// # Errors
    ///
    /// Under the names that the state machine matches.
    pub async fn handle(&self, invocation: &Invocation, event: Value) -> Result<Value, Diagnostic> {
        // Boxed: the steps' futures nest deeper than the compiler lays out in one piece.
        match Request::parse(event)? {
            Request::Choose(asked) => answer(&Box::pin(choose::choose(self, asked)).await?),
            Request::Restore(step) => {
                answer(&Box::pin(restoring::restore(self, invocation, &step.drill)).await?)
            }
            Request::Check(step) => {
                answer(&Box::pin(check::check(self, invocation, &step.drill)).await?)
            }
            Request::Destroy(step) => {
                answer(&Box::pin(destroy::destroy(self, invocation, &step.drill)).await?)
            }
            Request::Record(step) => {
                answer(&Box::pin(record::record(self, invocation, *step)).await?)
            }
            Request::Examine(step) => {
                answer(&Box::pin(branch::examine(self, invocation, &step)).await?)
            }
            Request::RecordBranch(step) => {
                answer(&Box::pin(branch::record(self, invocation, *step)).await?)
            }
        }
    }
}

fn answer(report: &impl serde::Serialize) -> Result<Value, Diagnostic> {
    serde_json::to_value(report).map_err(|error| diagnostic(Name::Failed, &error))
}

/// An error as Lambda passes it on: the name is what the state machine matches.
pub fn diagnostic(name: Name, error: &dyn std::error::Error) -> Diagnostic {
    Diagnostic {
        error_type: name.as_str().to_owned(),
        error_message: chain(error),
    }
}
