//! Puts production back: the one step that changes it.
//!
//! Order for the crash: the record that it may happen now, then the change. What production was is
//! kept under a name of this plan alone, so whether it happened can be seen, however often this is
//! sent.

use jiff::SignedDuration;
use serde::Serialize;
use shared::approval::Decision;
use shared::neon::{Branches, InPlace, NeonError};
use shared::plan::changes;

use super::error::RecoveryError;
use super::plan::{Plan, basis};
use super::prepare::past;
use super::request::PlanId;
use super::steps::{Promoted, Promoting, Validated};
use super::{Context, Seen, see};
use crate::Opened;
use crate::create::production;
use crate::error::BranchesError;

/// An approval is for the world as it is. Branch and checks take minutes.
const WITHIN: SignedDuration = SignedDuration::from_mins(60);

/// The answer.
#[derive(Clone, Debug, Serialize)]
pub(super) struct PutBack {
    branch_id: String,
    kept_as: String,
    kept_id: String,
    seconds: f64,
}

impl Context<'_> {
    pub(super) async fn promote(&self, plan_id: &PlanId) -> Result<PutBack, BranchesError> {
        let (plan, decision) = self.approved(plan_id).await?;
        if let Some(promoted) = self.read::<Promoted>(plan_id.as_str()).await? {
            return Ok(put_back(plan, promoted));
        }
        self.needed::<Validated>(plan_id, "its branch was not checked")
            .await?;
        let opened = self.open(&plan.request.database).await?;
        let seen = see(&opened).await?;
        let begun = self.read::<Promoting>(plan_id.as_str()).await?;
        match (is_kept(&plan, &seen.branches), begun) {
            // An earlier try has done it, and its answer was lost.
            (true, Some(_)) => opened.project.settle_production().await?,
            (true, None) => {
                let name = plan.preserve_under;
                return Err(RecoveryError::NameTaken { name }.into());
            }
            (false, _) => {
                self.may_change(&opened, &seen, &plan, &decision)?;
                self.change(&opened, &seen, &plan).await?;
            }
        }
        let branches = opened.project.branches().await?;
        let kept = branches.named(&plan.preserve_under);
        let kept = kept.ok_or_else(|| NeonError::Missing {
            doing: "restore production",
            what: format!("the branch {}", plan.preserve_under),
        })?;
        let promoted = Promoted {
            taken: self.taken(),
            branch_id: production(&opened, &branches)?.id.clone(),
            kept_id: kept.id.clone(),
        };
        self.write_once(plan_id.as_str(), &promoted).await?;
        tracing::info!(
            plan.plan_id,
            kept_as = plan.preserve_under,
            "production was put back"
        );
        Ok(put_back(plan, promoted))
    }

    fn may_change(
        &self,
        opened: &Opened,
        seen: &Seen,
        plan: &Plan,
        decision: &Decision,
    ) -> Result<(), RecoveryError> {
        let at = decision.at;
        if self.invocation.now().duration_since(at) > WITHIN {
            return Err(RecoveryError::Stale {
                plan_id: plan.plan_id.clone(),
                at,
                minutes: WITHIN.as_mins(),
            });
        }
        let now = basis(&seen.world(opened), &plan.request, &plan.preserve_under);
        let changed = changes(&plan.basis, &now);
        if changed.is_empty() {
            Ok(())
        } else {
            Err(RecoveryError::Changed(changed))
        }
    }

    async fn change(&self, opened: &Opened, seen: &Seen, plan: &Plan) -> Result<(), BranchesError> {
        let promoting = Promoting {
            at: self.invocation.now(),
        };
        self.write_once(&plan.plan_id, &promoting).await?;
        let in_place = InPlace {
            branch_id: seen.production.id.clone(),
            point: past(plan)?,
            preserve_under: plan.preserve_under.clone(),
        };
        opened.project.restore_in_place(&in_place).await?;
        Ok(())
    }
}

/// Whether there is a branch of what production was. A restored root leaves a root.
pub(super) fn is_kept(plan: &Plan, branches: &Branches) -> bool {
    let kept = branches.named(&plan.preserve_under);
    kept.is_some_and(|it| it.parent_id.is_none() && !it.default)
}

fn put_back(plan: Plan, promoted: Promoted) -> PutBack {
    PutBack {
        branch_id: promoted.branch_id,
        kept_as: plan.preserve_under,
        kept_id: promoted.kept_id,
        seconds: promoted.taken.seconds,
    }
}
