//! Turns a failed run into one message that a person can act on at 3 a.m.
//!
//! gather (what the vault still has) → decide (pure: the message) → act (publish) → report.
//!
//! What cannot be gathered is said in the message; nothing keeps it from being sent. Called
//! twice it sends two messages: for a failed backup, two are better than none.

mod advice;
pub mod branches;
pub mod cause;
mod drill;
mod execution;
pub mod message;
pub mod production;
pub mod recovery;

use std::time::Duration;

use jiff::Timestamp;
use lambda_runtime::Diagnostic;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::backup::{BackupId, BackupItem, DatabaseName};
use shared::config::{ConfigError, required};
use shared::error::{Name, chain};
use shared::history;
use shared::store::{Bucket, StoreError};

use cause::Report;
use message::{Known, Message, Situation, Standing, Vault};
use recovery::{Kind, Recovery};

/// Lambda gives the function 60 s: a vault that does not answer must leave time to publish.
const GATHER_MAX: Duration = Duration::from_secs(20);
/// Databases told about when a run failed as a whole.
const DATABASES_MAX: usize = 20;

/// Read once at cold start.
#[derive(Clone, Debug)]
pub struct Config {
    pub vault_bucket: String,
    pub page_topic: String,
    pub notice_topic: String,
}

impl Config {
    /// # Errors
    ///
    /// A setting that is missing.
    pub fn read(var: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        Ok(Self {
            vault_bucket: required(&var, "VAULT_BUCKET")?,
            page_topic: required(&var, "PAGE_TOPIC_ARN")?,
            notice_topic: required(&var, "NOTICE_TOPIC_ARN")?,
        })
    }
}

/// What all invocations of one process share.
#[derive(Debug)]
pub struct Function {
    pub vault: Bucket,
    pub sns: aws_sdk_sns::Client,
    /// Wakes people.
    pub page_topic: String,
    /// Is read by day.
    pub notice_topic: String,
}

/// Exactly one of these.
#[derive(Debug, Deserialize)]
enum Event {
    #[serde(rename = "run_failed")]
    Run(RunFailed),
    #[serde(rename = "restore_failed")]
    Restore(RecoveryFailed),
    #[serde(rename = "drill_failed")]
    Drill(RecoveryFailed),
    #[serde(rename = "drill_missed")]
    Missed(DrillMissed),
    #[serde(rename = "branches_failed")]
    Branches(BranchesFailed),
    #[serde(rename = "recovery_ended")]
    Production(production::RecoveryEnded),
}

/// Something about branches; or nothing failed, and the project is not as it should be.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BranchesFailed {
    /// Absent when the run failed as a whole.
    #[serde(default)]
    database: Option<DatabaseName>,
    #[serde(default)]
    backup_id: Option<BackupId>,
    /// Whether somebody has to be woken for it.
    #[serde(default = "yes")]
    wakes: bool,
    failure: Failure,
    /// The ARN of the state machine's execution.
    execution: String,
}

fn yes() -> bool {
    true
}

/// A restore or a drill; how much of it is known depends on how far it came.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecoveryFailed {
    /// Of the plan, or of the drill.
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    database: Option<DatabaseName>,
    #[serde(default)]
    backup_id: Option<BackupId>,
    #[serde(default)]
    target: Option<String>,
    /// In words; absent when nobody could look.
    #[serde(default)]
    target_state: Option<String>,
    failure: Failure,
    /// What a drill wrote down, if it came that far. What cannot be read of it is no reason to
    /// stay silent.
    #[serde(default)]
    report: Option<Value>,
    /// The ARN of the state machine's execution.
    execution: String,
}

/// A drill that proved its backup, and did not keep what was promised.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DrillMissed {
    id: String,
    database: DatabaseName,
    backup_id: Option<BackupId>,
    target: String,
    report: Value,
    execution: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RunFailed {
    /// Absent when the run failed as a whole.
    #[serde(default)]
    backup: Option<BackupItem>,
    failure: Failure,
    /// The ARN of the state machine's execution.
    execution: String,
}

/// As Step Functions hands it to a `Catch`; the one part of the event that is not ours, so
/// what it may hold besides is no reason to stay silent.
#[derive(Debug, Deserialize)]
struct Failure {
    #[serde(rename = "Error", default)]
    error: String,
    #[serde(rename = "Cause", default)]
    cause: Option<String>,
}

#[derive(Debug, Serialize)]
struct Sent {
    message_id: String,
    subject: String,
}

/// Nobody was told by this invocation; the backstops of the stack speak without it.
#[derive(Debug, thiserror::Error)]
pub enum AlertError {
    #[error("the event is not one that alert knows")]
    Event(#[source] serde_json::Error),
    #[error("publish to {topic}: {reason}")]
    Publish { topic: String, reason: String },
    #[error("write the answer")]
    Answer(#[source] serde_json::Error),
}

impl From<AlertError> for Diagnostic {
    fn from(error: AlertError) -> Self {
        let name = match error {
            AlertError::Event(_) => Name::Refused,
            AlertError::Publish { .. } => Name::Transient,
            AlertError::Answer(_) => Name::Failed,
        };
        Self {
            error_type: name.as_str().to_owned(),
            error_message: chain(&error),
        }
    }
}

impl Function {
    /// Sends one message. Safe to call again after any error, at the price of a second one.
    ///
    /// # Errors
    ///
    /// Under the names that the state machines match.
    pub async fn handle(&self, event: Value, now: Timestamp) -> Result<Value, AlertError> {
        let event: Event = serde_json::from_value(event).map_err(AlertError::Event)?;
        let (topic, message) = match event {
            Event::Run(failed) => (&self.page_topic, self.of_run(&failed, now).await),
            Event::Restore(failed) => {
                let message = self.of_recovery(Kind::Restore, &failed, now).await;
                (&self.page_topic, message)
            }
            Event::Drill(failed) => {
                let message = self.of_recovery(Kind::Drill, &failed, now).await;
                (&self.page_topic, message)
            }
            Event::Missed(missed) => (&self.notice_topic, self.of_missed(&missed, now)),
            Event::Branches(failed) => {
                let topic = if failed.wakes {
                    &self.page_topic
                } else {
                    &self.notice_topic
                };
                (topic, self.of_branches(&failed, now).await)
            }
            Event::Production(ended) => {
                let topic = match ended.failure {
                    Some(_) => &self.page_topic,
                    None => &self.notice_topic,
                };
                (topic, production::of(&ended, now))
            }
        };
        let publish = self.sns.publish().topic_arn(topic);
        let publish = publish.subject(&message.subject).message(message.body);
        let answer = publish.send().await.map_err(|error| AlertError::Publish {
            topic: topic.clone(),
            reason: shared::aws::reason(&error),
        })?;
        let sent = Sent {
            message_id: answer.message_id.unwrap_or_default(),
            subject: message.subject,
        };
        tracing::info!(sent.message_id, sent.subject, topic, "told somebody");
        serde_json::to_value(sent).map_err(AlertError::Answer)
    }

    async fn of_run(&self, failed: &RunFailed, now: Timestamp) -> Message {
        let item = failed.backup.as_ref();
        let begun = item.map(|item| (&item.database, Some(id_of(item))));
        message::compose(&Situation {
            backup: item,
            error: &failed.failure.error,
            cause: failed.failure.cause.as_deref(),
            execution: &failed.execution,
            noticed_at: now,
            vault: self.gather(begun).await,
        })
    }

    async fn of_recovery(&self, kind: Kind, failed: &RecoveryFailed, now: Timestamp) -> Message {
        let about = failed.database.as_ref().map(|database| (database, None));
        recovery::compose(&Recovery {
            kind,
            id: failed.id.as_deref(),
            database: failed.database.as_ref(),
            backup_id: failed.backup_id,
            target: failed.target.as_deref(),
            target_state: failed.target_state.as_deref(),
            error: &failed.failure.error,
            cause: failed.failure.cause.as_deref(),
            report: report_of(failed.report.as_ref()),
            execution: &failed.execution,
            vault_name: self.vault.name(),
            noticed_at: now,
            vault: self.gather(about).await,
        })
    }

    fn of_missed(&self, missed: &DrillMissed, now: Timestamp) -> Message {
        recovery::compose_missed(&Recovery {
            kind: Kind::Drill,
            id: Some(&missed.id),
            database: Some(&missed.database),
            backup_id: missed.backup_id,
            target: Some(&missed.target),
            target_state: None,
            error: "",
            cause: None,
            report: report_of(Some(&missed.report)),
            execution: &missed.execution,
            vault_name: self.vault.name(),
            noticed_at: now,
            // It is not asked: this backup can be restored.
            vault: Vault::Known(Known::default()),
        })
    }

    async fn of_branches(&self, failed: &BranchesFailed, now: Timestamp) -> Message {
        let about = failed.database.as_ref().map(|database| (database, None));
        branches::compose(&branches::Branches {
            database: failed.database.as_ref(),
            backup_id: failed.backup_id,
            error: &failed.failure.error,
            cause: failed.failure.cause.as_deref(),
            execution: &failed.execution,
            noticed_at: now,
            vault: self.gather(about).await,
        })
    }

    /// What there is of one database, and of one backup of it; or of all databases.
    async fn gather(&self, about: Option<(&DatabaseName, Option<BackupId>)>) -> Vault {
        let reason = match tokio::time::timeout(GATHER_MAX, self.look(about)).await {
            Ok(Ok(known)) => return Vault::Known(known),
            Ok(Err(error)) => chain(&error),
            Err(_elapsed) => format!("no answer within {} seconds", GATHER_MAX.as_secs()),
        };
        tracing::warn!(reason, "the vault could not be asked; the message says so");
        Vault::Unknown { reason }
    }

    async fn look(
        &self,
        about: Option<(&DatabaseName, Option<BackupId>)>,
    ) -> Result<Known, StoreError> {
        let vault = &self.vault;
        let mut known = Known::default();
        if let Some((database, Some(id))) = about {
            known.committed = Some(history::is_committed(vault, database, id).await?);
        }
        let databases = match about {
            Some((database, _)) => vec![database.clone()],
            None => history::databases(vault).await?,
        };
        known.databases_total = databases.len();
        for database in databases.into_iter().take(DATABASES_MAX) {
            let ids = history::backups(vault, &database).await?;
            let verified = history::newest_verified(vault, &database, ids).await?;
            known.standings.push(Standing { database, verified });
        }
        Ok(known)
    }
}

fn report_of(report: Option<&Value>) -> Option<Report> {
    let parsed = serde_json::from_value(report?.clone());
    parsed
        .inspect_err(|error| tracing::warn!(%error, "the drill's report cannot be read"))
        .ok()
}

/// The event's id may contradict its time; then time and kind decide, as they do in `dump`.
fn id_of(item: &BackupItem) -> BackupId {
    BackupId::new(item.scheduled_time, item.kind)
}
