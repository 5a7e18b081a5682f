//! Puts production back: the one step that changes it.
//!
//! Order for the crash: the record that it may happen now, then the change. What production was is
//! kept under a name of this plan alone, so whether it happened can be seen, however often this is
//! sent.

use std::time::{Duration, Instant};

use jiff::SignedDuration;
use serde::Serialize;
use shared::approval::Decision;
use shared::error::Name;
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
const WITHIN: SignedDuration = SignedDuration::from_mins(60);
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
        // While it is true, this is the only one who sends, and whatever was sent was refused.
        let mut is_unchanged = self.read::<Promoting>(&plan.plan_id).await?.is_none();
        let mut has_sent = false;
        loop {
            let seen = match see(opened).await {
                Err(BranchesError::Neon(error)) if !is_unchanged => return Err(not_yet(error)),
                seen => seen?,
            };
            let begun = self.read::<Promoting>(&plan.plan_id).await?.is_some();
            match (is_kept(plan, &seen.branches), begun) {
                // An earlier try has done it, and its answer was lost.
                (true, true) => {
                    let settled = opened.project.settle_production(&plan.preserve_under);
                    return settled.await.map_err(not_yet);
                }
                (true, false) => {
                    let name = plan.preserve_under.clone();
                    return Err(RecoveryError::NameTaken { name }.into());
                }
                (false, _) => {
                    if self.read::<TurnedDown>(&plan.plan_id).await?.is_some() {
                        return Err(RecoveryError::TurnedDown(plan.plan_id.clone()).into());
                    }
                    if let Err(source) = self.may_change(opened, &seen, plan, decision) {
                        if has_sent && is_unchanged {
                            self.turned_down(plan).await?;
                        }
                        return Err(sent_before(plan, !is_unchanged, source).into());
                    }
                }
            }
            let (is_first, sent) = self.change(opened, &seen, plan).await?;
            is_unchanged &= is_first || has_sent;
            has_sent = true;
            let error = match sent {
                Ok(operations) => {
                    let kept = &plan.preserve_under;
                    let finished = opened.project.finish_restore(&operations, kept);
                    return finished.await.map_err(not_yet);
                }
                Err(error) => error,
            };
            is_unchanged &= error.is_refusal();
            let is_busy = matches!(error, NeonError::Locked { .. });
            if !is_busy && is_unchanged {
                self.turned_down(plan).await?;
                return Err(error.into());
            }
            if !is_busy || Instant::now() + PAUSE > self.until() {
                return Err(not_yet(error));
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

    /// Whether nobody has sent it before, and Neon's answer.
    async fn change(
        &self,
        opened: &Opened,
        seen: &Seen,
        plan: &Plan,
    ) -> Result<(bool, Result<Vec<Operation>, NeonError>), BranchesError> {
        let promoting = Promoting {
            at: self.invocation.now(),
        };
        let first = self.write_once(&plan.plan_id, &promoting).await?;
        // Whoever closes the plan writes first and looks then, and so does this: one sees the other.
        if self.read::<Closing>(&plan.plan_id).await?.is_some() {
            return Err(RecoveryError::Closed(plan.plan_id.clone()).into());
        }
        let in_place = InPlace {
            branch_id: seen.production.id.clone(),
            point: past(plan)?,
            preserve_under: plan.preserve_under.clone(),
        };
        let sent = opened.project.send_restore(&in_place).await;
        Ok((first.is_none(), sent))
    }
}

/// The change was sent, and may be carried out: whatever keeps anybody from seeing how far it is,
/// writes stay stopped, and the next try looks again.
fn not_yet(error: NeonError) -> BranchesError {
    if error.name() == Name::Transient {
        return error.into();
    }
    let error = NeonError::Unavailable {
        doing: "restore production",
        reason: format!("it was sent, and nobody could see what became of it: {error}"),
    };
    error.into()
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
