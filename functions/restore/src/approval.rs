//! Asking a person, and taking the answer.

use serde::Serialize;
use shared::approval::{Decision, Waiting};
use shared::plan::Reach;

use crate::error::RestoreFailed;
use crate::plan::Plan;
use crate::plans::Closed;
use crate::request::{Approve, AwaitApproval, Outcome, Refuse, Report};
use crate::{Function, Invocation, words};

/// The answer to `await_approval`: the state machine does not read it, a log does.
#[derive(Debug, Serialize)]
pub(crate) struct Asked {
    pub plan_id: String,
    pub asked: bool,
}

/// The answer to `approve` and `refuse`.
#[derive(Debug, Serialize)]
pub(crate) struct Decided {
    pub plan_id: String,
    pub approved: bool,
    pub operator: String,
    /// What happens now, in words.
    pub next: String,
}

impl Function {
    /// Keeps the token and tells whom it concerns; or, when the decision is there already,
    /// answers at once.
    pub(crate) async fn await_approval(
        &self,
        invocation: &Invocation,
        request: AwaitApproval,
    ) -> Result<Asked, RestoreFailed> {
        let plan = self.plan_of(&request.plan_id).await?;
        decidable(&plan, invocation)?;
        let AwaitApproval {
            plan_id,
            token,
            execution,
        } = request;
        let is_open = self.approvals.wait(Waiting {
            plan_id: &plan_id,
            token,
            execution: execution.clone(),
            at: invocation.started_at,
            request_id: &invocation.request_id,
        });
        if !is_open.await? {
            return Ok(Asked {
                plan_id,
                asked: false,
            });
        }
        let reach = Reach {
            function: &self.config.function_name,
            region: &self.config.region,
        };
        let message = words::ask_for_approval(&plan, reach, &execution, invocation.started_at);
        self.approvals
            .publish(&words::subject(&plan), message)
            .await?;
        tracing::info!(plan_id, "asked for approval");
        Ok(Asked {
            plan_id,
            asked: true,
        })
    }

    pub(crate) async fn approve(
        &self,
        invocation: &Invocation,
        request: Approve,
    ) -> Result<Decided, RestoreFailed> {
        let plan = self.plan_of(&request.plan_id).await?;
        decidable(&plan, invocation)?;
        if request.target_name_typed != plan.target_name {
            return Err(RestoreFailed::WrongName {
                typed: request.target_name_typed,
                expected: plan.target_name,
            });
        }
        let is_decided = self
            .approvals
            .read::<Decision>(&plan.plan_id)
            .await?
            .is_some();
        if !is_decided
            && self
                .approvals
                .read::<Closed>(&plan.plan_id)
                .await?
                .is_some()
        {
            return Err(RestoreFailed::Closed(plan.plan_id));
        }
        let decided = self.decide(invocation, &plan, true, request.operator);
        Ok(decided.await?.0)
    }

    pub(crate) async fn refuse(
        &self,
        invocation: &Invocation,
        request: Refuse,
    ) -> Result<Decided, RestoreFailed> {
        let plan = self.plan_of(&request.plan_id).await?;
        let (decided, answered) = self
            .decide(invocation, &plan, false, request.operator)
            .await?;
        if !answered {
            // Nobody else writes the record.
            let report = Report {
                plan_id: plan.plan_id.clone(),
                execution: None,
                outcome: Outcome::Refused,
                failure: None,
            };
            self.report(invocation, report).await?;
        }
        Ok(decided)
    }

    /// Also tells whether an execution waited for it.
    async fn decide(
        &self,
        invocation: &Invocation,
        plan: &Plan,
        approved: bool,
        operator: String,
    ) -> Result<(Decided, bool), RestoreFailed> {
        let decision = Decision {
            approved,
            operator,
            at: invocation.started_at,
        };
        let decided = self.approvals.decide(&plan.plan_id, decision);
        let (decision, answered) = decided.await?;
        let next = match (approved, answered) {
            (true, true) => "the restore begins now; the execution shows how far it is",
            (false, true) => "the execution ends; nothing was changed",
            (true, false) => {
                "no execution waits for it. To go on by hand, send {\"apply\": {\"plan_id\": …}} until `remaining` is 0, then {\"report\": {\"plan_id\": …, \"outcome\": \"finished\"}}; or start the restore machine for a new plan"
            }
            (false, false) => "no execution waits for it; nothing was changed",
        };
        let decided = Decided {
            plan_id: plan.plan_id.clone(),
            approved,
            operator: decision.operator,
            next: next.to_owned(),
        };
        Ok((decided, answered))
    }
}

/// Whether a person may still say yes.
fn decidable(plan: &Plan, invocation: &Invocation) -> Result<(), RestoreFailed> {
    if !plan.obstacles.is_empty() {
        return Err(RestoreFailed::Obstacles {
            plan_id: plan.plan_id.clone(),
            n: plan.obstacles.len(),
        });
    }
    if invocation.started_at > plan.expires_at {
        return Err(RestoreFailed::Expired {
            plan_id: plan.plan_id.clone(),
            expired_at: plan.expires_at,
        });
    }
    Ok(())
}
