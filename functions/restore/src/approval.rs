//! Asking a person, and taking the answer. The task token never leaves the work bucket.

use aws_sdk_sfn::error::ProvideErrorMetadata;
use serde::Serialize;
use serde_json::json;

use crate::error::RestoreFailed;
use crate::plan::Plan;
use crate::plans::{Closed, Decision};
use crate::request::{Approve, AwaitApproval, Outcome, Refuse, Report};
use crate::words::{self, Reach};
use crate::{Function, Invocation};

/// What the state machine's task fails with when a person said no.
const REFUSED: &str = "ApprovalRefused";

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
        self.keep_token(invocation, &plan_id, token, execution.clone())
            .await?;
        // Whoever decides from now on finds the token.
        if let Some(decision) = self.read::<Decision>(&plan_id).await? {
            self.answer(&plan, &decision).await?;
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
        self.publish(&words::subject(&plan), message).await?;
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
        let is_decided = self.read::<Decision>(&plan.plan_id).await?.is_some();
        if !is_decided && self.read::<Closed>(&plan.plan_id).await?.is_some() {
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
        // The same decision twice is one, whose answer may have been lost.
        let decision = match self.write_once(&plan.plan_id, &decision).await? {
            Some(first) if first.approved != approved => {
                return Err(RestoreFailed::Decided {
                    plan_id: plan.plan_id.clone(),
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
        let answered = self.answer(plan, &decision).await?;
        tracing::info!(
            plan.plan_id,
            approved,
            decision.operator,
            answered,
            "decided"
        );
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

    /// Tells every execution that waits for this plan; whether one did.
    async fn answer(&self, plan: &Plan, decision: &Decision) -> Result<bool, RestoreFailed> {
        let mut answered = false;
        for token in self.tokens(&plan.plan_id).await? {
            let refused = if decision.approved {
                let output = json!({"approved_by": decision.operator, "approved_at": decision.at});
                let send = self.sfn.send_task_success().task_token(token);
                let sent = send.output(output.to_string()).send().await;
                sent.err().map(|it| gone(&it))
            } else {
                let cause = format!(
                    "{} has refused the plan {}; nothing was changed",
                    decision.operator, plan.plan_id
                );
                let send = self.sfn.send_task_failure().task_token(token);
                let sent = send.error(REFUSED).cause(cause).send().await;
                sent.err().map(|it| gone(&it))
            };
            match refused {
                None => answered = true,
                // An earlier try of the state machine, or one that was stopped.
                Some(None) => {}
                Some(Some(reason)) => return Err(RestoreFailed::Answer(reason)),
            }
        }
        Ok(answered)
    }

    async fn publish(&self, subject: &str, message: String) -> Result<(), RestoreFailed> {
        let topic = &self.config.page_topic;
        let publish = self.sns.publish().topic_arn(topic);
        let sent = publish.subject(subject).message(message).send().await;
        sent.map(drop).map_err(|error| RestoreFailed::Publish {
            topic: topic.clone(),
            reason: shared::aws::reason(&error),
        })
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

/// Why an answer did not arrive; `None` when nobody waits for it any more.
fn gone<E>(error: &aws_sdk_sfn::error::SdkError<E>) -> Option<String>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match error.code() {
        Some("TaskTimedOut" | "TaskDoesNotExist" | "InvalidToken") => None,
        _ => Some(shared::aws::reason(error)),
    }
}
