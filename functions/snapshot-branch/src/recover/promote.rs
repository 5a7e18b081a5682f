//! Puts production back: the one step that changes it.
//!
//! Order for the crash: the record that it may happen now, then the change. What production was is
//! kept under a name of this plan alone, so whether it happened can be seen, however often this is
//! sent.

use std::time::{Duration, Instant};

use jiff::SignedDuration;
use serde::Serialize;
use shared::approval::Decision;
use shared::neon::{Branches, InPlace, NeonError, Operation};
use shared::plan::changes;

use super::error::RecoveryError;
use super::plan::{Plan, basis};
use super::prepare::past;
use super::request::PlanId;
use super::steps::{Closing, Promoted, Promoting, TurnedDown, Validated};
use super::{Context, Seen, see};
use crate::Opened;
use crate::create::production;
use crate::error::BranchesError;

/// An approval is for the world as it is. Branch and checks take minutes.
pub(super) const WITHIN: SignedDuration = SignedDuration::from_mins(60);
/// Between two looks at a project that is busy.
const PAUSE: Duration = Duration::from_secs(5);

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
            return Ok(answer(plan, promoted));
        }
        if self.read::<TurnedDown>(plan_id.as_str()).await?.is_some() {
            return Err(RecoveryError::TurnedDown(plan.plan_id).into());
        }
        self.needed::<Validated>(plan_id, "its branch was not checked")
            .await?;
        let opened = self.open(&plan.request.database).await?;
        self.put_back(&opened, &plan, &decision).await?;
        let branches = opened.project.branches().await?;
        let kept = branches.named(&plan.preserve_under);
        // It was listed, or is about to be: asked again, it shows.
        let kept = kept.ok_or_else(|| NeonError::Unavailable {
            doing: "restore production",
            reason: format!("the branch {} does not show yet", plan.preserve_under),
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
        Ok(answer(plan, promoted))
    }

    /// Looks, and sends the change once for each look: a project that is busy is looked at anew,
    /// since somebody else may be changing it.
    async fn put_back(
        &self,
        opened: &Opened,
        plan: &Plan,
        decision: &Decision,
    ) -> Result<(), BranchesError> {
        // While it is true, whatever was sent was refused.
        let mut is_unchanged = self.read::<Promoting>(&plan.plan_id).await?.is_none();
        loop {
            let seen = see(opened).await?;
            let begun = self.read::<Promoting>(&plan.plan_id).await?;
            match (is_kept(plan, &seen.branches), begun.is_some()) {
                // An earlier try has done it, and its answer was lost.
                (true, true) => return Ok(opened.project.settle_production().await?),
                (true, false) => {
                    let name = plan.preserve_under.clone();
                    return Err(RecoveryError::NameTaken { name }.into());
                }
                (false, begun) => {
                    if let Err(source) = self.may_change(opened, &seen, plan, decision) {
                        if begun && is_unchanged {
                            self.turned_down(plan).await?;
                        }
                        return Err(sent_before(plan, !is_unchanged, source).into());
                    }
                }
            }
            let sent = self.change(opened, &seen, plan).await?;
            let error = match sent {
                Ok(operations) => return Ok(opened.project.finish_restore(&operations).await?),
                Err(error) => error,
            };
            is_unchanged &= error.is_refusal();
            let is_busy = matches!(error, NeonError::Locked { .. });
            if !is_busy && is_unchanged {
                self.turned_down(plan).await?;
            }
            if !is_busy || Instant::now() + PAUSE > self.until() {
                return Err(error.into());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn turned_down(&self, plan: &Plan) -> Result<(), BranchesError> {
        let at = self.invocation.now();
        self.write_once(&plan.plan_id, &TurnedDown { at }).await?;
        Ok(())
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

    /// The inner error is Neon's answer to the change.
    async fn change(
        &self,
        opened: &Opened,
        seen: &Seen,
        plan: &Plan,
    ) -> Result<Result<Vec<Operation>, NeonError>, BranchesError> {
        let promoting = Promoting {
            at: self.invocation.now(),
        };
        self.write_once(&plan.plan_id, &promoting).await?;
        // Whoever closes the plan writes first and looks then, and so does this: one sees the other.
        if self.read::<Closing>(&plan.plan_id).await?.is_some() {
            return Err(RecoveryError::Closed(plan.plan_id.clone()).into());
        }
        let in_place = InPlace {
            branch_id: seen.production.id.clone(),
            point: past(plan)?,
            preserve_under: plan.preserve_under.clone(),
        };
        Ok(opened.project.send_restore(&in_place).await)
    }
}

/// What an earlier try has sent may still be carried out.
fn sent_before(plan: &Plan, begun: bool, source: RecoveryError) -> RecoveryError {
    if !begun {
        return source;
    }
    RecoveryError::SentBefore {
        kept: plan.preserve_under.clone(),
        source: Box::new(source),
    }
}

/// Whether there is a branch of what production was. A restored root leaves a root.
pub(super) fn is_kept(plan: &Plan, branches: &Branches) -> bool {
    let kept = branches.named(&plan.preserve_under);
    kept.is_some_and(|it| it.parent_id.is_none() && !it.default)
}

fn answer(plan: Plan, promoted: Promoted) -> PutBack {
    PutBack {
        branch_id: promoted.branch_id,
        kept_as: plan.preserve_under,
        kept_id: promoted.kept_id,
        seconds: promoted.taken.seconds,
    }
}
