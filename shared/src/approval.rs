//! A plan that a person has to approve: what the work bucket keeps of it, asking, and taking the
//! answer. Each step in its life is an object that is written once, so that the first writer
//! wins; a task token goes from Step Functions into the bucket and back, and nowhere else.

use aws_config::SdkConfig;
use aws_sdk_sfn::error::{ProvideErrorMetadata, SdkError};
use bytes::Bytes;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::aws::reason;
use crate::error::Name;
use crate::key::{self, Key, PlanOf};
use crate::store::{Bucket, StoreError, StoreErrorKind};
use crate::words;

/// Fingerprints of 100,000 tables stay below.
const STEP_BYTES_MAX: u64 = 64 << 20;
/// As many attempts as the state machine makes to ask for approval, and some by hand.
const TOKENS_MAX: usize = 20;
/// What the state machine's task fails with when a person said no.
const REFUSED: &str = "ApprovalRefused";

/// One document of a plan.
pub trait Step: Serialize + DeserializeOwned {
    const NAME: &'static str;
}

/// What a person has decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    pub approved: bool,
    pub operator: String,
    pub at: Timestamp,
}

impl Step for Decision {
    const NAME: &'static str = "decision";
}

#[derive(Serialize, Deserialize)]
struct Token {
    token: String,
    execution: String,
}

/// A task of a state machine that waits for the decision on a plan.
#[derive(Debug)]
pub struct Waiting<'a> {
    pub plan_id: &'a str,
    pub token: String,
    pub execution: String,
    pub at: Timestamp,
    /// Every try of the state machine to ask has a token of its own.
    pub request_id: &'a str,
}

#[derive(Debug, thiserror::Error)]
pub enum ApprovalError {
    #[error("{operator} has {decision} the plan {plan_id} already, at {}; that stands", words::time(*at))]
    Decided {
        plan_id: String,
        operator: String,
        decision: &'static str,
        at: Timestamp,
    },
    #[error(
        "{key} cannot be read: it was written by another version of Lifeboat, or damaged; make a new plan"
    )]
    Malformed { key: String },
    #[error("the storage")]
    Storage(#[from] StoreError),
    #[error("tell whom it concerns: publish to {topic}: {reason}")]
    Publish { topic: String, reason: String },
    #[error("answer the execution that waits: {0}")]
    Answer(String),
    #[error("write as JSON")]
    Json(#[from] serde_json::Error),
}

impl ApprovalError {
    pub fn name(&self) -> Name {
        match self {
            Self::Decided { .. } => Name::Refused,
            Self::Storage(source) => source.name(),
            Self::Publish { .. } | Self::Answer(_) => Name::Transient,
            Self::Malformed { .. } | Self::Json(_) => Name::Failed,
        }
    }
}

/// The plans of one function, and how its decisions are asked for and answered.
#[derive(Clone, Debug)]
pub struct Approvals {
    of: PlanOf,
    work: Bucket,
    topic: String,
    sns: aws_sdk_sns::Client,
    sfn: aws_sdk_sfn::Client,
}

impl Approvals {
    /// `topic` is the one that wakes people.
    pub fn new(aws: &SdkConfig, of: PlanOf, work_bucket: String, topic: String) -> Self {
        Self {
            of,
            work: Bucket::new(aws, work_bucket),
            topic,
            sns: aws_sdk_sns::Client::new(aws),
            sfn: aws_sdk_sfn::Client::new(aws),
        }
    }

    pub fn key(&self, plan_id: &str, step: &str) -> String {
        let of = self.of;
        Key::Plan { of, plan_id, step }.to_string()
    }

    pub async fn read<T: Step>(&self, plan_id: &str) -> Result<Option<T>, ApprovalError> {
        let key = self.key(plan_id, T::NAME);
        let json = match self.work.get(&key, None, STEP_BYTES_MAX).await {
            Ok(json) => json,
            Err(error) if matches!(error.kind, StoreErrorKind::NotFound) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        match serde_json::from_slice(&json) {
            Ok(step) => Ok(Some(step)),
            Err(_) => Err(ApprovalError::Malformed { key }),
        }
    }

    /// The ids of all plans that are kept, oldest first.
    pub async fn plans(&self) -> Result<Vec<String>, ApprovalError> {
        let listed = self.work.list(&key::plans_prefix(self.of)).await?;
        let ids = listed
            .iter()
            .filter_map(|it| key::plan_of(self.of, &it.key));
        Ok(ids.map(str::to_owned).collect())
    }

    /// Writes it, unless it is there already: then what is there is returned.
    pub async fn write_once<T: Step>(
        &self,
        plan_id: &str,
        step: &T,
    ) -> Result<Option<T>, ApprovalError> {
        let key = self.key(plan_id, T::NAME);
        match self.put(&key, step).await {
            Ok(()) => Ok(None),
            Err(ApprovalError::Storage(error))
                if matches!(error.kind, StoreErrorKind::AlreadyExists) =>
            {
                self.read(plan_id).await
            }
            Err(error) => Err(error),
        }
    }

    async fn put(&self, key: &str, step: &impl Serialize) -> Result<(), ApprovalError> {
        let json = serde_json::to_vec_pretty(step)?;
        self.work.put_once(key, Bytes::from(json)).await?;
        Ok(())
    }

    /// Keeps the token of a task that waits. When the decision is there already it is answered
    /// at once: false, nobody has to be asked.
    pub async fn wait(&self, waiting: Waiting<'_>) -> Result<bool, ApprovalError> {
        let plan_id = waiting.plan_id;
        let step = key::token_step(waiting.at, waiting.request_id);
        let token = Token {
            token: waiting.token,
            execution: waiting.execution,
        };
        self.put(&self.key(plan_id, &step), &token).await?;
        // Whoever decides from now on finds the token.
        match self.read::<Decision>(plan_id).await? {
            Some(decision) => self.answer(plan_id, &decision).await.map(|_| false),
            None => Ok(true),
        }
    }

    pub async fn publish(&self, subject: &str, message: String) -> Result<(), ApprovalError> {
        let topic = &self.topic;
        let publish = self.sns.publish().topic_arn(topic);
        let sent = publish.subject(subject).message(message).send().await;
        sent.map(drop).map_err(|error| ApprovalError::Publish {
            topic: topic.clone(),
            reason: reason(&error),
        })
    }

    /// The decision that stands, and whether an execution waited for it. The same decision twice
    /// is one, whose answer may have been lost.
    pub async fn decide(
        &self,
        plan_id: &str,
        decision: Decision,
    ) -> Result<(Decision, bool), ApprovalError> {
        let decision = match self.write_once(plan_id, &decision).await? {
            Some(first) if first.approved != decision.approved => {
                return Err(ApprovalError::Decided {
                    plan_id: plan_id.to_owned(),
                    operator: first.operator,
                    decision: if first.approved {
                        "approved"
                    } else {
                        "refused"
                    },
                    at: first.at,
                });
            }
            Some(first) => first,
            None => decision,
        };
        let answered = self.answer(plan_id, &decision).await?;
        let (approved, operator) = (decision.approved, &decision.operator);
        tracing::info!(plan_id, approved, operator, answered, "decided");
        Ok((decision, answered))
    }

    /// Tells every execution that waits for this plan; whether one did.
    async fn answer(&self, plan_id: &str, decision: &Decision) -> Result<bool, ApprovalError> {
        let mut answered = false;
        for token in self.tokens(plan_id).await? {
            let refused = if decision.approved {
                let output = json!({"approved_by": decision.operator, "approved_at": decision.at});
                let send = self.sfn.send_task_success().task_token(token);
                let sent = send.output(output.to_string()).send().await;
                sent.err().map(|it| gone(&it))
            } else {
                let cause = format!(
                    "{} has refused the plan {plan_id}; nothing was changed",
                    decision.operator
                );
                let send = self.sfn.send_task_failure().task_token(token);
                let sent = send.error(REFUSED).cause(cause).send().await;
                sent.err().map(|it| gone(&it))
            };
            match refused {
                None => answered = true,
                // An earlier try of the state machine, or one that was stopped.
                Some(None) => {}
                Some(Some(reason)) => return Err(ApprovalError::Answer(reason)),
            }
        }
        Ok(answered)
    }

    /// The task tokens of a plan, newest first.
    async fn tokens(&self, plan_id: &str) -> Result<Vec<String>, ApprovalError> {
        let prefix = key::tokens_prefix(self.of, plan_id);
        let mut tokens = Vec::new();
        for listed in self.work.list(&prefix).await?.into_iter().rev() {
            if tokens.len() == TOKENS_MAX {
                break;
            }
            let json = self.work.get(&listed.key, None, STEP_BYTES_MAX).await?;
            let token: Result<Token, _> = serde_json::from_slice(&json);
            let token = token.map_err(|_| ApprovalError::Malformed { key: listed.key })?;
            tokens.push(token.token);
        }
        Ok(tokens)
    }
}

/// Why an answer did not arrive; `None` when nobody waits for it any more.
fn gone<E>(error: &SdkError<E>) -> Option<String>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match error.code() {
        Some("TaskTimedOut" | "TaskDoesNotExist" | "InvalidToken") => None,
        _ => Some(reason(error)),
    }
}
