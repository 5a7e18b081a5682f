//! What the work bucket keeps of a plan: the plan, task tokens, the decision, that it was
//! used, what came of it. Each is written once, so that the first writer wins.

use bytes::Bytes;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use shared::key::{self, Key};
use shared::restore::Advance;
use shared::store::StoreErrorKind;

use crate::error::RestoreFailed;
use crate::plan::{FORMAT, Plan};
use crate::report::Summary;
use crate::{Function, Invocation};

/// Fingerprints of 100,000 tables stay below.
const STEP_BYTES_MAX: u64 = 64 << 20;
/// As many attempts as the state machine makes to ask for approval, and some by hand.
const TOKENS_MAX: usize = 20;

/// One document of a plan.
pub(crate) trait Step: Serialize + DeserializeOwned {
    const NAME: &'static str;
}

/// What a person has decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    pub approved: bool,
    pub operator: String,
    pub at: Timestamp,
}

/// Whose it is from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consumed {
    /// The execution, or that a person did it by hand.
    pub by: String,
    pub at: Timestamp,
}

/// Every job is done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Done {
    pub at: Timestamp,
    pub advance: Advance,
}

/// The plan's life is over; this is what was said about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Closed {
    pub summary: Summary,
}

#[derive(Serialize, Deserialize)]
struct Token {
    token: String,
    execution: String,
}

impl Step for Plan {
    const NAME: &'static str = "plan";
}
impl Step for Decision {
    const NAME: &'static str = "decision";
}
impl Step for Consumed {
    const NAME: &'static str = "consumed";
}
impl Step for Done {
    const NAME: &'static str = "done";
}
impl Step for Closed {
    const NAME: &'static str = "closed";
}

impl Function {
    /// The plan of this id.
    pub(crate) async fn plan_of(&self, plan_id: &str) -> Result<Plan, RestoreFailed> {
        let plan: Option<Plan> = self.read(plan_id).await?;
        match plan {
            Some(plan) if plan.format == FORMAT && plan.plan_id == plan_id => Ok(plan),
            Some(_) => Err(RestoreFailed::Malformed {
                key: step_key(plan_id, Plan::NAME),
            }),
            None => Err(RestoreFailed::NoPlan(plan_id.to_owned())),
        }
    }

    pub(crate) async fn read<T: Step>(&self, plan_id: &str) -> Result<Option<T>, RestoreFailed> {
        let key = step_key(plan_id, T::NAME);
        let json = match self.work.get(&key, None, STEP_BYTES_MAX).await {
            Ok(json) => json,
            Err(error) if matches!(error.kind, StoreErrorKind::NotFound) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        match serde_json::from_slice(&json) {
            Ok(step) => Ok(Some(step)),
            Err(_) => Err(RestoreFailed::Malformed { key }),
        }
    }

    /// Writes it, unless it is there already: then what is there is returned.
    pub(crate) async fn write_once<T: Step>(
        &self,
        plan_id: &str,
        step: &T,
    ) -> Result<Option<T>, RestoreFailed> {
        let key = step_key(plan_id, T::NAME);
        match self.put(&key, step).await {
            Ok(()) => Ok(None),
            Err(RestoreFailed::Storage(error))
                if matches!(error.kind, StoreErrorKind::AlreadyExists) =>
            {
                self.read(plan_id).await
            }
            Err(error) => Err(error),
        }
    }

    async fn put(&self, key: &str, step: &impl Serialize) -> Result<(), RestoreFailed> {
        let json = serde_json::to_vec_pretty(step)?;
        self.work.put_once(key, Bytes::from(json)).await?;
        Ok(())
    }

    /// Keeps a task token. Every try of the state machine to ask has a token of its own.
    pub(crate) async fn keep_token(
        &self,
        invocation: &Invocation,
        plan_id: &str,
        token: String,
        execution: String,
    ) -> Result<(), RestoreFailed> {
        let step = key::token_step(invocation.started_at, &invocation.request_id);
        let key = step_key(plan_id, &step);
        self.put(&key, &Token { token, execution }).await
    }

    /// The task tokens of a plan, newest first.
    pub(crate) async fn tokens(&self, plan_id: &str) -> Result<Vec<String>, RestoreFailed> {
        let listed = self.work.list(&key::tokens_prefix(plan_id)).await?;
        let mut tokens = Vec::new();
        for listed in listed.into_iter().rev().take(TOKENS_MAX) {
            let json = self.work.get(&listed.key, None, STEP_BYTES_MAX).await?;
            let token: Result<Token, _> = serde_json::from_slice(&json);
            let token = token.map_err(|_| RestoreFailed::Malformed { key: listed.key })?;
            tokens.push(token.token);
        }
        Ok(tokens)
    }
}

fn step_key(plan_id: &str, step: &str) -> String {
    Key::Plan { plan_id, step }.to_string()
}
