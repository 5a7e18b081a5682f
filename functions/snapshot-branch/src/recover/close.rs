//! Compares, clears away, and writes down. All of it comes after writes go on again.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;
use shared::approval::Decision;
use shared::key::Key;
use shared::neon::ownership::{Mark, Own};
use shared::neon::{Branches, NewBranch, Point};
use shared::store::StoreErrorKind;

use super::error::RecoveryError;
use super::outcome::{Change, Closed, FORMAT, Known, Record, shortened};
use super::plan::Plan;
use super::promote::is_kept;
use super::request::{Close, PlanId};
use super::steps::{Closing, Compared, Promoted, Promoting, TurnedDown};
use super::validate::branch_uri;
use super::{Context, aside, candidate, compare, kept_copy, new_copy};
use crate::create::whole_second;
use crate::dump_source::EXPIRES_AFTER;
use crate::error::BranchesError;

/// A restore that was sent shows within this, or nobody can say.
const LOOKS: u32 = 6;
const LOOK_PAUSE: Duration = Duration::from_secs(5);
/// An API that says nothing keeps nobody from hearing what is known for longer.
const LOOK_MAX: Duration = Duration::from_secs(90);
const CLEAR_MAX: Duration = Duration::from_secs(240);

/// The answer to `compare`.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Told {
    /// False: production was not put back, so there is nothing to compare.
    compared: bool,
    tables: usize,
}

impl Context<'_> {
    pub(super) async fn compare(&self, plan_id: &PlanId) -> Result<Told, BranchesError> {
        let plan = self.plan_of(plan_id).await?;
        let id = plan_id.as_str();
        if let Some(compared) = self.read::<Compared>(id).await? {
            let tables = compared.difference.tables.len();
            return Ok(Told {
                compared: true,
                tables,
            });
        }
        let Some(promoted) = self.read::<Promoted>(id).await? else {
            return Ok(Told {
                compared: false,
                tables: 0,
            });
        };
        let opened = self.open(&plan.request.database).await?;
        let new = NewBranch {
            parent_id: promoted.kept_id,
            point: Point::Head,
            mark: kept_copy(&plan),
            compute: Some(opened.policy.dump_compute),
            expires_at: Some(whole_second(self.invocation.now()) + EXPIRES_AFTER),
        };
        let kept = opened.project.ensure(&new).await?;
        let (role, database) = (&opened.policy.role, &opened.policy.database);
        let kept = opened.project.connection_uri(&kept.own, role, database);
        let kept = kept.await?.parse().map_err(RecoveryError::Uri)?;
        let then = branch_uri(&opened, &plan).await?;
        let then = then.parse().map_err(RecoveryError::Uri)?;
        let until = self.until();
        let difference = aside(move || compare::compare(&then, &kept, until)).await?;
        let compared = Compared {
            taken: self.taken(),
            difference,
        };
        self.write_once(id, &compared).await?;
        Ok(Told {
            compared: true,
            tables: compared.difference.tables.len(),
        })
    }

    /// Safe to call again: the first answer stands.
    pub(super) async fn close(&self, request: &Close) -> Result<Closed, BranchesError> {
        let plan = self.plan_of(&request.plan_id).await?;
        let id = request.plan_id.as_str();
        if let Some(closed) = self.read::<Closed>(id).await? {
            return Ok(closed);
        }
        let at = self.invocation.now();
        let decision: Option<Decision> = self.read(id).await?;
        if request.execution.is_empty() && decision.is_none() && at < plan.expires_at {
            return Err(RecoveryError::Undecided(plan.plan_id).into());
        }
        // Before anything is looked at: from now on nothing is sent any more.
        self.write_once(id, &Closing { at }).await?;
        let promoted: Option<Promoted> = self.read(id).await?;
        let was_sent = self.read::<Promoting>(id).await?.is_some();
        let was_refused = self.read::<TurnedDown>(id).await?.is_some();
        let change = match &promoted {
            Some(_) => Change::Yes,
            // Whatever Neon says now, and also while it says nothing.
            None if !was_sent => Change::No,
            None => self.look_for_change(&plan, was_refused).await,
        };
        let left = match decision.as_ref().is_some_and(|it| it.approved) {
            true => self.clear_away(&plan).await,
            false => Vec::new(),
        };
        let close = Close {
            failure: shortened(request.failure.clone()),
            unfreeze_failure: shortened(request.unfreeze_failure.clone()),
            compare_failure: shortened(request.compare_failure.clone()),
            ..request.clone()
        };
        let (prepared, validated) = (self.read(id).await?, self.read(id).await?);
        let (smoked, compared) = (self.read(id).await?, self.read(id).await?);
        let known = Known {
            plan: &plan,
            close: &close,
            decision: decision.as_ref(),
            prepared: prepared.as_ref(),
            validated: validated.as_ref(),
            promoted: promoted.as_ref(),
            change,
            smoked: smoked.as_ref(),
            compared: compared.as_ref(),
            left,
        };
        let mut closed = known.closed();
        closed.evidence_key = self.keep(&known).await?;
        tracing::info!(plan.plan_id, verdict = ?closed.verdict, ?change, "closed a recovery");
        let first = self.write_once(id, &closed).await?;
        Ok(first.unwrap_or(closed))
    }

    /// The change was sent, and nobody has heard that it was done. A look that fails, or finds
    /// nothing, proves nothing: it may still be carried out.
    async fn look_for_change(&self, plan: &Plan, was_refused: bool) -> Change {
        let (looks, unseen) = match was_refused {
            // One look all the same: a second try of the step may have sent it, too.
            true => (1, Change::No),
            false => (LOOKS, Change::Unknown),
        };
        let until = self.within(LOOK_MAX);
        for look in 0..looks {
            if look > 0 {
                tokio::time::sleep(LOOK_PAUSE).await;
            }
            match self.branches_of(plan, until).await {
                Ok(branches) if is_kept(plan, &branches) => return Change::Yes,
                Ok(_) => {}
                Err(error) => {
                    let error = shared::error::chain(&error);
                    tracing::warn!(error, "nobody could look what became of production");
                }
            }
        }
        unseen
    }

    async fn branches_of(&self, plan: &Plan, until: Instant) -> Result<Branches, BranchesError> {
        let opened = self.open_until(&plan.request.database, until).await?;
        Ok(opened.project.branches().await?)
    }

    /// What only served the recovery; the names of those that resist. They keep nobody from
    /// hearing how it ended: rotation removes them.
    async fn clear_away(&self, plan: &Plan) -> Vec<String> {
        let mut left = Vec::new();
        let until = self.within(CLEAR_MAX);
        for mark in [new_copy(plan), kept_copy(plan), candidate(plan)] {
            if let Err(error) = self.remove(plan, &mark, until).await {
                let error = shared::error::chain(&error);
                tracing::warn!(error, branch = mark.branch_name(), "a branch is left");
                left.push(mark.branch_name());
            }
        }
        left
    }

    async fn remove(&self, plan: &Plan, mark: &Mark, until: Instant) -> Result<(), BranchesError> {
        let opened = self.open_until(&plan.request.database, until).await?;
        // Somebody else's branch of that name is none that was left.
        let found = opened.project.find(mark).await?;
        let own = found.as_ref().and_then(Own::of);
        if own.is_some_and(|it| it.mark().is_same(mark)) {
            opened.project.remove(mark).await?;
        }
        Ok(())
    }

    /// Under a key that follows from the plan, so that a second try finds the first one's.
    async fn keep(&self, known: &Known<'_>) -> Result<String, BranchesError> {
        let (plan, close) = (known.plan, known.close);
        let record = Record {
            format: FORMAT,
            check: "recovery",
            plan_id: &plan.plan_id,
            verdict: known.verdict(),
            request: &plan.request,
            plan,
            decision: known.decision,
            frozen_at: &close.frozen_at,
            prepared: known.prepared,
            validated: known.validated,
            promoted: known.promoted,
            change: known.change,
            smoked: known.smoked,
            unfrozen_at: &close.unfrozen_at,
            compared: known.compared,
            failure: &close.failure,
            unfreeze_failure: &close.unfreeze_failure,
            compare_failure: &close.compare_failure,
            execution: &close.execution,
            closed_at: self.invocation.now(),
            lifeboat: env!("CARGO_PKG_VERSION"),
        };
        let key = Key::Evidence {
            database: &plan.request.database,
            at: plan.planned_at,
            // The last part of a plan's id: no two plans of one second have the same.
            nonce: plan.plan_id.rsplit('-').next().unwrap_or_default(),
            file: "recovery.json",
        }
        .to_string();
        let json = serde_json::to_vec_pretty(&record).map_err(BranchesError::Json)?;
        match self.function.vault.put_once(&key, Bytes::from(json)).await {
            Ok(_) => Ok(key),
            Err(error) if matches!(error.kind, StoreErrorKind::AlreadyExists) => Ok(key),
            Err(error) => Err(BranchesError::Evidence(error)),
        }
    }
}
