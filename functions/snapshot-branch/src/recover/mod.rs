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

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
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
use request::{PlanId, PlanRequest, Recover};
use steps::Taken;

/// No execution of the state machine lives longer.
const ALIVE: SignedDuration = SignedDuration::from_hours(48);

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
            Recover::Plan(it) => json(&self.plan(it, None).await?),
            Recover::PlanFor(it) => json(&self.plan(&it.request, Some(&it.execution)).await?),
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

    /// Without an execution it is only to be looked at: nobody can approve it.
    async fn plan(
        &self,
        request: &PlanRequest,
        execution: Option<&str>,
    ) -> Result<Planned, BranchesError> {
        let opened = self.open(&request.database).await?;
        let seen = see(&opened).await?;
        let (now, lifetime) = (self.invocation.started_at, self.asking.plan_lifetime);
        let open = self.open_plans(&opened).await?;
        let is_own = |it: &&Plan| execution.is_some() && it.execution.as_deref() == execution;
        if let Some(own) = open.iter().find(is_own) {
            // An earlier try of this execution made it, and its answer was lost.
            let mut own = own.clone();
            self.withdraw_beside_another(&opened, &mut own).await?;
            return Ok(planned(&own, now));
        }
        let world = World {
            open_plans: &open,
            ..seen.world(&opened)
        };
        let mut plan = plan::plan(&world, request, now, lifetime);
        plan.execution = execution.map(str::to_owned);
        // The same id is the same plan.
        self.write_once(&plan.plan_id, &plan).await?;
        if execution.is_some() && plan.obstacles.is_empty() {
            self.withdraw_beside_another(&opened, &mut plan).await?;
        }
        tracing::info!(
            plan.plan_id,
            obstacles = plan.obstacles.len(),
            "planned a recovery"
        );
        Ok(planned(&plan, now))
    }

    /// Two that are planned in one moment have not seen each other before they were written; now
    /// at least one does, and gives way.
    async fn withdraw_beside_another(
        &self,
        opened: &Opened,
        plan: &mut Plan,
    ) -> Result<(), BranchesError> {
        let mut others = self.open_plans(opened).await?;
        others.retain(|it| it.plan_id != plan.plan_id);
        let Some(other) = others.first() else {
            return Ok(());
        };
        let decision = Decision {
            approved: false,
            operator: format!("Lifeboat, because of the plan {}", other.plan_id),
            at: self.invocation.now(),
        };
        self.write_once(&plan.plan_id, &decision).await?;
        plan.obstacles.push(plan::not_over(other));
        Ok(())
    }

    /// Plans of the same project whose executions may still freeze, change and unfreeze: two at
    /// once would undo each other's freeze.
    async fn open_plans(&self, opened: &Opened) -> Result<Vec<Plan>, BranchesError> {
        let now = self.invocation.started_at;
        let mut planned = self.approvals.plans().await.map_err(RecoveryError::from)?;
        planned.retain(|it| planned_at(it).is_some_and(|at| now.duration_since(at) < ALIVE));
        let mut open = Vec::new();
        for plan_id in planned {
            let plan = match self.read::<Plan>(&plan_id).await {
                Ok(Some(plan)) => plan,
                Ok(None) => continue,
                Err(BranchesError::Recovery(RecoveryError::Approval(
                    ApprovalError::Malformed { key },
                ))) => {
                    // Of another version, before this one was deployed. It cannot be approved.
                    tracing::warn!(key, "a plan cannot be read");
                    continue;
                }
                Err(error) => return Err(error),
            };
            let is_rival = plan.execution.is_some()
                && plan.obstacles.is_empty()
                && plan.project == opened.policy.project.as_str();
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

    /// Neon is asked nothing for which there is no time to answer any more.
    async fn open(&self, database: &DatabaseName) -> Result<Opened, BranchesError> {
        self.open_until(database, self.until()).await
    }

    async fn open_until(
        &self,
        database: &DatabaseName,
        until: Instant,
    ) -> Result<Opened, BranchesError> {
        let invocation = Invocation {
            deadline: until,
            ..self.invocation.clone()
        };
        self.function.open(&invocation, database).await
    }

    /// From now on, but not beyond [`Self::until`].
    fn within(&self, limit: Duration) -> Instant {
        (Instant::now() + limit).min(self.until())
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
        let margin = (left / 6).min(Duration::from_secs(60));
        let until = self.invocation.deadline.checked_sub(margin);
        until.unwrap_or(self.invocation.begun)
    }
}

fn planned(plan: &Plan, now: Timestamp) -> Planned {
    Planned {
        words: words::describe(plan, now),
        can_be_done: plan.obstacles.is_empty(),
        database: plan.request.database.clone(),
        expires_at: plan.expires_at,
        expires_in_seconds: plan.expires_at.duration_since(now).as_secs().max(1),
        plan_id: plan.plan_id.clone(),
        freeze_function: plan.freeze_function.clone(),
        unfreeze_function: plan.unfreeze_function.clone(),
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

/// A branch of production after it was put back, where that cannot be asked itself.
fn new_copy(plan: &Plan) -> Mark {
    let key = format!("{}-now", plan.plan_id);
    mark(plan, &key, "a recovery asks it whether production is good")
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
