//! Puts production back to an earlier moment, with what it was kept beside: plan → freeze →
//! approval → branch of the moment → validate → promote → smoke → unfreeze → compare → close. The
//! state machine goes from step to step, and invokes the hooks; here is what each step does.
//!
//! Until `promote` nothing of production is changed, and what was made beside it is removed by
//! `close`, or by the next rotation. Every step may be sent again: what is done is found done.

mod approval;
mod close;
mod compare;
pub mod difference;
pub mod error;
pub mod outcome;
pub mod plan;
mod prepare;
mod promote;
pub mod request;
pub mod steps;
mod validate;
pub mod words;

use std::time::Instant;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use shared::approval::{ApprovalError, Approvals, Decision, Step};
use shared::backup::DatabaseName;
use shared::neon::ownership::{Class, Mark};
use shared::neon::{Branch, Branches, ProjectFacts};
use shared::plan::planned_at;

use crate::create::production;
use crate::error::BranchesError;
use crate::rotate::branches_max;
use crate::{Asking, Function, Invocation, Opened};
use error::RecoveryError;
use plan::{FORMAT, Plan, World};
use promote::WITHIN;
use request::{PlanId, PlanRequest, Recover};
use steps::Taken;

/// The answer to `plan`.
#[derive(Clone, Debug, Serialize)]
pub struct Planned {
    pub plan_id: String,
    /// For a person; a plan with obstacles is never approved.
    pub words: String,
    pub can_be_done: bool,
    pub database: DatabaseName,
    pub expires_at: Timestamp,
    pub expires_in_seconds: i64,
    /// Null: there is none.
    pub freeze_function: Option<String>,
    pub unfreeze_function: Option<String>,
}

fn json(report: &impl Serialize) -> Result<Value, BranchesError> {
    serde_json::to_value(report).map_err(BranchesError::Json)
}

/// What every step is given.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    pub function: &'a Function,
    pub invocation: &'a Invocation,
    pub asking: &'a Asking,
    pub approvals: &'a Approvals,
}

/// The project as it is now.
struct Seen {
    facts: ProjectFacts,
    branches: Branches,
    production: Branch,
}

impl Seen {
    fn world<'a>(&'a self, opened: &'a Opened) -> World<'a> {
        let drill = opened.drill.as_ref();
        let asked = drill.map_or(0, |it| it.tables.len() + it.assertions.len());
        World {
            policy: &opened.policy,
            facts: &self.facts,
            branches: &self.branches,
            production: &self.production,
            neighbours: &opened.neighbours,
            checks: (asked, drill.map_or(0, |it| it.requests.len())),
            branches_max: branches_max(&self.facts),
            open_plans: &[],
        }
    }
}

impl Context<'_> {
    /// # Errors
    ///
    /// Under the names that the state machine matches.
    pub async fn handle(&self, request: &Recover) -> Result<Value, BranchesError> {
        match request {
            Recover::Plan(it) => json(&self.plan(it).await?),
            Recover::AwaitApproval(it) => json(&self.await_approval(it).await?),
            Recover::Approve(it) => json(&self.approve(it).await?),
            Recover::Refuse(it) => json(&self.refuse(it).await?),
            Recover::Prepare(it) => json(&self.prepare(&it.plan_id).await?),
            Recover::Validate(it) => json(&self.validate(&it.plan_id).await?),
            Recover::Promote(it) => json(&self.promote(&it.plan_id).await?),
            Recover::Smoke(it) => json(&self.smoke(&it.plan_id).await?),
            Recover::Compare(it) => json(&self.compare(&it.plan_id).await?),
            Recover::Close(it) => json(&self.close(it).await?),
        }
    }

    async fn plan(&self, request: &PlanRequest) -> Result<Planned, BranchesError> {
        let opened = self.open(&request.database).await?;
        let seen = see(&opened).await?;
        let (now, lifetime) = (self.invocation.started_at, self.asking.plan_lifetime);
        let open = self.open_plans(&opened).await?;
        let world = World {
            open_plans: &open,
            ..seen.world(&opened)
        };
        let plan = plan::plan(&world, request, now, lifetime);
        // The same id is the same plan.
        self.write_once(&plan.plan_id, &plan).await?;
        tracing::info!(
            plan.plan_id,
            obstacles = plan.obstacles.len(),
            "planned a recovery"
        );
        Ok(Planned {
            words: words::describe(&plan, now),
            can_be_done: plan.obstacles.is_empty(),
            database: request.database.clone(),
            expires_at: plan.expires_at,
            expires_in_seconds: plan.expires_at.duration_since(now).as_secs().max(1),
            plan_id: plan.plan_id,
            freeze_function: plan.freeze_function,
            unfreeze_function: plan.unfreeze_function,
        })
    }

    /// Plans of the same project that may still freeze, change and unfreeze: two at once would
    /// undo each other's freeze.
    async fn open_plans(&self, opened: &Opened) -> Result<Vec<Plan>, BranchesError> {
        let now = self.invocation.started_at;
        let alive = self.asking.plan_lifetime + WITHIN;
        let mut planned = self.approvals.plans().await.map_err(RecoveryError::from)?;
        planned.retain(|it| planned_at(it).is_some_and(|at| now.duration_since(at) < alive));
        let mut open = Vec::new();
        for plan_id in planned {
            let Some(plan) = self.read::<Plan>(&plan_id).await? else {
                continue;
            };
            let is_rival =
                plan.obstacles.is_empty() && plan.project == opened.policy.project.as_str();
            if !is_rival || self.read::<outcome::Closed>(&plan_id).await?.is_some() {
                continue;
            }
            let refused = self.read::<Decision>(&plan_id).await?;
            if refused.is_none_or(|it| it.approved) {
                open.push(plan);
            }
        }
        Ok(open)
    }

    async fn open(&self, database: &DatabaseName) -> Result<Opened, BranchesError> {
        self.function.open(self.invocation, database).await
    }

    async fn read<T: Step>(&self, plan_id: &str) -> Result<Option<T>, BranchesError> {
        let read = self.approvals.read(plan_id).await;
        Ok(read.map_err(RecoveryError::from)?)
    }

    async fn write_once<T: Step>(
        &self,
        plan_id: &str,
        step: &T,
    ) -> Result<Option<T>, BranchesError> {
        let written = self.approvals.write_once(plan_id, step).await;
        Ok(written.map_err(RecoveryError::from)?)
    }

    async fn plan_of(&self, plan_id: &PlanId) -> Result<Plan, BranchesError> {
        let plan: Option<Plan> = self.read(plan_id.as_str()).await?;
        let error: RecoveryError = match plan {
            Some(plan) if plan.format == FORMAT && plan.plan_id == plan_id.as_str() => {
                return Ok(plan);
            }
            Some(_) => {
                let key = self.approvals.key(plan_id.as_str(), Plan::NAME);
                ApprovalError::Malformed { key }.into()
            }
            None => RecoveryError::NoPlan(plan_id.to_string()),
        };
        Err(error.into())
    }

    /// A plan that somebody has approved, and whose life is not over.
    async fn approved(&self, plan_id: &PlanId) -> Result<(Plan, Decision), BranchesError> {
        let plan = self.plan_of(plan_id).await?;
        let id = plan_id.as_str();
        if self.read::<outcome::Closed>(id).await?.is_some() {
            return Err(RecoveryError::Closed(plan.plan_id).into());
        }
        match self.read::<Decision>(id).await? {
            Some(decision) if decision.approved => Ok((plan, decision)),
            Some(_) | None => Err(RecoveryError::NotApproved(plan.plan_id).into()),
        }
    }

    /// A step of which only the first counts, with what it needs to have been taken before.
    async fn needed<T: Step>(
        &self,
        plan_id: &PlanId,
        missing: &'static str,
    ) -> Result<T, BranchesError> {
        let step = self.read(plan_id.as_str()).await?;
        let plan_id = plan_id.to_string();
        Ok(step.ok_or(RecoveryError::TooEarly { plan_id, missing })?)
    }

    /// The step that began with this invocation is done.
    fn taken(&self) -> Taken {
        Taken {
            at: self.invocation.started_at,
            seconds: self.invocation.begun.elapsed().as_secs_f64(),
        }
    }

    /// When to stop asking, to have time left to answer.
    fn until(&self) -> Instant {
        let left = self
            .invocation
            .deadline
            .saturating_duration_since(self.invocation.begun);
        let margin = (left / 6).min(std::time::Duration::from_secs(60));
        let until = self.invocation.deadline.checked_sub(margin);
        until.unwrap_or(self.invocation.begun)
    }
}

async fn see(opened: &Opened) -> Result<Seen, BranchesError> {
    let facts = opened.project.facts().await?;
    let branches = opened.project.branches().await?;
    let production = production(opened, &branches)?.clone();
    Ok(Seen {
        facts,
        branches,
        production,
    })
}

/// The branch of the point, which is checked, and stands for production when rows are compared.
fn candidate(plan: &Plan) -> Mark {
    mark(
        plan,
        &plan.plan_id,
        "a recovery checks it before production is put back",
    )
}

/// A branch of what was kept, since that has no compute.
fn kept_copy(plan: &Plan) -> Mark {
    let key = format!("{}-kept", plan.plan_id);
    mark(plan, &key, "a recovery reads in it what production was")
}

fn mark(plan: &Plan, key: &str, why: &str) -> Mark {
    Mark::new(Class::Recovery, &plan.request.database, key).with_note("why", why)
}

/// Runs what blocks beside the executor.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RecoveryError> + Send + 'static,
) -> Result<T, RecoveryError> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.map_err(|error| RecoveryError::Thread(error.to_string()))?
}
