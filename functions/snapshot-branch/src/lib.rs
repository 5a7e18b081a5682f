//! Neon's branches: snapshot branches by class, their rotation, the temporary branch that a
//! dump reads, whether the project is as its policy wants it, and production put back to an
//! earlier moment.
//!
//! gather (project, branches, annotations) → decide (pure: what to make, what to delete, what
//! is wrong) → act (one branch at a time, each found by its name before it is made) → report.

pub mod calendar;
pub mod create;
pub mod drill_source;
pub mod dump_source;
pub mod error;
pub mod inspect;
pub mod migration;
pub mod new_project;
pub mod plan_branches;
pub mod posture;
pub mod reach;
pub mod recover;
pub mod rehearse;
pub mod rehearse_command;
pub mod request;
pub mod restore_branch;
pub mod rotate;
pub mod rotation;

use std::path::PathBuf;
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use lambda_runtime::Diagnostic;
use serde_json::Value;
use shared::approval::Approvals;
use shared::backup::DatabaseName;
use shared::config::{ConfigError, layer_root, read_policy, required};
use shared::error::{Name, chain};
use shared::neon::{ApiUrl, Neon, Project};
use shared::policy::{DatabasePolicy, DrillPolicy, NeonPolicy};
use shared::secret::Secrets;
use shared::store::Bucket;

use error::BranchesError;
use request::{DrillSource, DumpSource, Request};

/// The settings of the function, read once at cold start.
#[derive(Clone, Debug)]
pub struct Config {
    pub vault_bucket: String,
    pub work_bucket: String,
    /// Where the layer with `lifeboat.toml` is unpacked.
    pub layer_root: PathBuf,
    /// The IANA name of the time zone that dates and Sundays are in.
    pub time_zone: String,
    /// Where Neon's API is.
    pub neon_api_url: ApiUrl,
    /// Present where the function may ask people, and so put production back: that function does
    /// nothing else, and no other does that.
    pub asking: Option<Asking>,
}

/// How a person is asked.
#[derive(Clone, Debug)]
pub struct Asking {
    /// The topic that wakes people.
    pub page_topic: String,
    /// How long the plan of a recovery may wait for its approval.
    pub plan_lifetime: SignedDuration,
    /// Its own name and region, for the commands in messages.
    pub function_name: String,
    pub region: String,
}

impl Asking {
    fn read(var: impl Fn(&str) -> Option<String>, page_topic: String) -> Result<Self, ConfigError> {
        let minutes: f64 = required(&var, "PLAN_LIFETIME_MINUTES")?;
        let lifetime = SignedDuration::try_from_secs_f64(minutes * 60.0);
        Ok(Self {
            page_topic,
            plan_lifetime: lifetime.map_err(|source| ConfigError::Invalid {
                name: "PLAN_LIFETIME_MINUTES",
                source: source.into(),
            })?,
            function_name: required(&var, "AWS_LAMBDA_FUNCTION_NAME")?,
            region: required(&var, "AWS_REGION")?,
        })
    }
}

impl Config {
    /// # Errors
    ///
    /// A setting that is missing or does not parse.
    pub fn read(var: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let topic = var("PAGE_TOPIC_ARN");
        Ok(Self {
            vault_bucket: required(&var, "VAULT_BUCKET")?,
            work_bucket: required(&var, "WORK_BUCKET")?,
            layer_root: layer_root(&var),
            time_zone: required(&var, "TIME_ZONE")?,
            neon_api_url: required(&var, "NEON_API_URL")?,
            asking: topic.map(|topic| Asking::read(&var, topic)).transpose()?,
        })
    }
}

/// What all invocations of one process share.
#[derive(Debug)]
pub struct Function {
    pub config: Config,
    pub vault: Bucket,
    pub secrets: Secrets,
    pub neon: Neon,
    /// As [`Config::asking`].
    pub approvals: Option<Approvals>,
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
}

/// A database that lives in a Neon project, and the project opened.
#[derive(Clone, Debug)]
pub struct Opened {
    pub database: DatabaseName,
    pub policy: NeonPolicy,
    pub project: Project,
    /// What must hold of the database's rows.
    pub drill: Option<DrillPolicy>,
    /// Other databases that live in the same project.
    pub neighbours: Vec<DatabaseName>,
}

impl Function {
    /// # Errors
    ///
    /// Under the names that the state machines match. Each event may be sent again: what is
    /// done is found done.
    pub async fn handle(&self, invocation: &Invocation, event: Value) -> Result<Value, Diagnostic> {
        let request = Request::parse(event)?;
        let asking = self.config.asking.as_ref().zip(self.approvals.as_ref());
        let recovers = asking.is_some();
        if recovers != matches!(request, Request::Recover(_)) {
            return Err(BranchesError::OtherFunction { recovers }.into());
        }
        // Boxed: the futures nest deeper than the compiler lays out in one piece.
        match request {
            Request::PlanBranches(request) => answer(&plan_branches::plan(self, &request)?),
            Request::Create(request) => {
                answer(&Box::pin(create::create(self, invocation, &request)).await?)
            }
            Request::Deployed(request) => {
                answer(&Box::pin(create::deployed(self, invocation, &request)).await?)
            }
            Request::Rotate(request) => {
                answer(&Box::pin(rotate::rotate(self, invocation, &request)).await?)
            }
            Request::Posture(request) => {
                answer(&Box::pin(inspect::inspect(self, invocation, &request)).await?)
            }
            Request::RestoreBranch(request) => {
                answer(&Box::pin(restore_branch::restore(self, invocation, &request)).await?)
            }
            Request::Recover(request) => {
                let Some((asking, approvals)) = asking else {
                    return Err(BranchesError::OtherFunction { recovers }.into());
                };
                let context = recover::Context {
                    function: self,
                    invocation,
                    asking,
                    approvals,
                };
                Ok(Box::pin(context.handle(&request)).await?)
            }
            Request::DumpSource(DumpSource::Create(dump)) => {
                answer(&Box::pin(dump_source::create(self, invocation, &dump)).await?)
            }
            Request::DumpSource(DumpSource::Delete(dump)) => {
                answer(&Box::pin(dump_source::delete(self, invocation, &dump)).await?)
            }
            Request::DrillSource(DrillSource::Create(drill)) => {
                answer(&Box::pin(drill_source::create(self, invocation, &drill)).await?)
            }
            Request::DrillSource(DrillSource::Delete(drill)) => {
                answer(&Box::pin(drill_source::delete(self, invocation, &drill)).await?)
            }
            Request::NewProject(request) => {
                answer(&Box::pin(new_project::make(self, invocation, &request)).await?)
            }
            Request::Rehearse(request) => {
                answer(&Box::pin(rehearse::rehearse(self, invocation, &request)).await?)
            }
            Request::BeginRehearsal(request) => {
                answer(&Box::pin(rehearse_command::begin(self, invocation, &request)).await?)
            }
            Request::EndRehearsal(request) => {
                answer(&Box::pin(rehearse_command::end(self, invocation, &request)).await?)
            }
        }
    }

    /// From the configuration and the secrets as they are now.
    async fn open(
        &self,
        invocation: &Invocation,
        database: &DatabaseName,
    ) -> Result<Opened, BranchesError> {
        let policy = read_policy(&self.config.layer_root).map_err(BranchesError::Layer)?;
        let configured = policy.database(database);
        let configured =
            configured.ok_or_else(|| BranchesError::UnknownDatabase(database.clone()))?;
        let neon = configured.neon.clone();
        let neon = neon.ok_or_else(|| BranchesError::NoPolicy(database.clone()))?;
        let key = self.secrets.neon_key(&neon.project).await;
        let key = key.map_err(BranchesError::Secret)?;
        let is_neighbour = |it: &&DatabasePolicy| {
            let other = it.neon.as_ref();
            it.name != *database && other.is_some_and(|it| it.project == neon.project)
        };
        let neighbours = policy.databases.iter().filter(is_neighbour);
        Ok(Opened {
            database: database.clone(),
            project: self.neon.project(&neon.project, key, invocation.deadline),
            drill: configured.drill.clone(),
            neighbours: neighbours.map(|it| it.name.clone()).collect(),
            policy: neon,
        })
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
