//! Asking a person, and taking the answer.

use serde::Serialize;
use shared::approval::{Decision, Waiting};
use shared::plan::Reach;

use super::error::RecoveryError;
use super::outcome::Closed;
use super::plan::Plan;
use super::request::{Approve, AwaitApproval, Refuse};
use super::{Context, words};
use crate::error::BranchesError;

/// The answer to `await_approval`: the state machine does not read it, a log does.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Asked {
    plan_id: String,
    asked: bool,
}

/// The answer to `approve` and `refuse`.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Decided {
    plan_id: String,
    approved: bool,
    operator: String,
    /// What happens now, in words.
    next: &'static str,
}

impl Context<'_> {
    pub(super) async fn await_approval(
        &self,
        request: &AwaitApproval,
    ) -> Result<Asked, BranchesError> {
        let plan = self.plan_of(&request.plan_id).await?;
        self.decidable(&plan)?;
        let (approvals, at) = (self.approvals, self.invocation.started_at);
        let waiting = Waiting {
            plan_id: &plan.plan_id,
            token: request.token.clone(),
            execution: request.execution.clone(),
            at,
            request_id: &self.invocation.request_id,
        };
        let is_open = approvals.wait(waiting).await;
        let asked = is_open.map_err(RecoveryError::from)?;
        if asked {
            let reach = Reach {
                function: &self.asking.function_name,
                region: &self.asking.region,
            };
            let message = words::ask_for_approval(&plan, reach, &request.execution, at);
            let published = approvals.publish(&words::subject(&plan), message).await;
            published.map_err(RecoveryError::from)?;
        }
        Ok(Asked {
            plan_id: plan.plan_id,
            asked,
        })
    }

    pub(super) async fn approve(&self, request: &Approve) -> Result<Decided, BranchesError> {
        let plan = self.plan_of(&request.plan_id).await?;
        self.decidable(&plan)?;
        let expected = plan.target_name();
        if request.target_name_typed != expected {
            let typed = request.target_name_typed.clone();
            return Err(RecoveryError::WrongName { typed, expected }.into());
        }
        self.decide(&plan, true, &request.operator).await
    }

    pub(super) async fn refuse(&self, request: &Refuse) -> Result<Decided, BranchesError> {
        let plan = self.plan_of(&request.plan_id).await?;
        self.decide(&plan, false, &request.operator).await
    }

    async fn decide(
        &self,
        plan: &Plan,
        approved: bool,
        operator: &str,
    ) -> Result<Decided, BranchesError> {
        let plan_id = &plan.plan_id;
        let is_decided = self.read::<Decision>(plan_id).await?.is_some();
        if !is_decided && self.read::<Closed>(plan_id).await?.is_some() {
            return Err(RecoveryError::Closed(plan_id.clone()).into());
        }
        let decision = Decision {
            approved,
            operator: operator.trim().to_owned(),
            at: self.invocation.started_at,
        };
        let decided = self.approvals.decide(plan_id, decision).await;
        let (decision, answered) = decided.map_err(RecoveryError::from)?;
        let next = match (approved, answered) {
            (true, true) => "the recovery begins now; the execution shows how far it is",
            (false, true) => "the execution ends; production was not changed",
            (true, false) => {
                "no execution waits for it, and nothing will be done: start the recover machine for a new plan"
            }
            (false, false) => "no execution waits for it; production was not changed",
        };
        Ok(Decided {
            plan_id: plan_id.clone(),
            approved,
            operator: decision.operator,
            next,
        })
    }

    /// Whether a person may still say yes.
    fn decidable(&self, plan: &Plan) -> Result<(), RecoveryError> {
        let plan_id = plan.plan_id.clone();
        if !plan.obstacles.is_empty() {
            let n = plan.obstacles.len();
            return Err(RecoveryError::Obstacles { plan_id, n });
        }
        if plan.execution.is_none() {
            return Err(RecoveryError::NoExecution(plan_id));
        }
        let expired_at = plan.expires_at;
        if self.invocation.started_at > expired_at {
            return Err(RecoveryError::Expired {
                plan_id,
                expired_at,
            });
        }
        Ok(())
    }
}
