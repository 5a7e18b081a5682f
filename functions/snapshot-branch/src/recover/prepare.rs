//! Makes the branch of the moment that production is to be put back to.

use serde::Serialize;
use shared::neon::{NewBranch, Past};

use super::error::RecoveryError;
use super::plan::Plan;
use super::request::PlanId;
use super::steps::Prepared;
use super::{Context, candidate, see};
use crate::create::whole_second;
use crate::dump_source::EXPIRES_AFTER;
use crate::error::BranchesError;

/// The answer.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Made {
    branch: String,
    branch_id: String,
    seconds: f64,
}

impl Context<'_> {
    /// Safe to call again: the branch is found by the plan's id.
    pub(super) async fn prepare(&self, plan_id: &PlanId) -> Result<Made, BranchesError> {
        let (plan, _decision) = self.approved(plan_id).await?;
        let opened = self.open(&plan.request.database).await?;
        let seen = see(&opened).await?;
        let past = past(&plan)?;
        let new = NewBranch {
            parent_id: seen.production.id.clone(),
            point: past.into(),
            mark: candidate(&plan),
            compute: Some(opened.policy.dump_compute),
            expires_at: Some(whole_second(self.invocation.now()) + EXPIRES_AFTER),
        };
        // Its place was there when it was planned; none is made by deleting anything.
        let ensured = opened.project.ensure(&new).await?;
        let prepared = Prepared {
            taken: self.taken(),
            branch: ensured.branch.name,
            branch_id: ensured.branch.id,
            parent_lsn: ensured.branch.parent_lsn,
            parent_at: ensured.branch.parent_timestamp,
        };
        let first = self.write_once(plan_id.as_str(), &prepared).await?;
        let prepared = first.unwrap_or(prepared);
        tracing::info!(branch = prepared.branch, "the branch of the point is there");
        Ok(Made {
            branch: prepared.branch,
            branch_id: prepared.branch_id,
            seconds: prepared.taken.seconds,
        })
    }
}

/// A plan without one has an obstacle, and is never approved.
pub(super) fn past(plan: &Plan) -> Result<Past, RecoveryError> {
    plan.past().ok_or_else(|| RecoveryError::Obstacles {
        plan_id: plan.plan_id.clone(),
        n: plan.obstacles.len(),
    })
}
