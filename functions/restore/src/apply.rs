//! Carrying out an approved plan, as much of it as fits into an invocation.

use jiff::SignedDuration;
use serde::Serialize;
use shared::approval::{ApprovalError, Decision};
use shared::database_url::DatabaseUrl;
use shared::plan::changes;
use shared::restore::{self, Advance, Backup, Destination, Target, scratch};

use crate::error::RestoreFailed;
use crate::plan::{self, Plan};
use crate::plans::{Closed, Consumed, Done};
use crate::request::{Apply, PlanRequest, Point};
use crate::{Function, Invocation};

/// An approval in the last moment still leads to a restore.
const GRACE: SignedDuration = SignedDuration::from_mins(5);
/// Who consumes a plan without an execution.
pub(crate) const BY_HAND: &str = "a person, by hand";

/// The answer: how far it is.
#[derive(Debug, Serialize)]
pub(crate) struct Applied {
    pub plan_id: String,
    /// Jobs that are left; send the same event again until it is 0.
    pub remaining: u64,
    pub done: u64,
    pub total: u64,
    pub rows: u64,
    pub copy_bytes: u64,
    /// The phase that it is in, or was in last.
    pub phase: Option<String>,
}

impl Function {
    /// # Errors
    ///
    /// A `Transient` one: send the same event again. After any other, `report` it: the target
    /// is marked unusable, and a new plan starts over.
    pub(crate) async fn apply(
        &self,
        invocation: &Invocation,
        request: Apply,
    ) -> Result<Applied, RestoreFailed> {
        let plan = self.plan_of(&request.plan_id).await?;
        let by = request.execution.unwrap_or_else(|| BY_HAND.to_owned());
        let backup = self.consume(invocation, &plan, &by).await?;
        let target = self.target(&plan).await?;
        if let Some(done) = self.approvals.read::<Done>(&plan.plan_id).await? {
            self.close_target(&plan, &backup, &target, &done.advance)
                .await?;
            return Ok(applied(&plan, &done.advance));
        }
        self.make_target(&plan, &backup).await?;
        let advance =
            restore::advance(&backup, &target, &plan.order, invocation.work_until()).await?;
        if advance.remaining == 0 {
            // Written down before the target forgets it.
            let done = Done {
                at: invocation.started_at,
                advance: advance.clone(),
            };
            self.approvals.write_once(&plan.plan_id, &done).await?;
            self.close_target(&plan, &backup, &target, &advance).await?;
        }
        tracing::info!(
            plan.plan_id,
            advance.remaining,
            advance.done,
            advance.total,
            advance.rows,
            "applied"
        );
        Ok(applied(&plan, &advance))
    }

    /// Makes the plan this execution's own, once, if it is approved and the world is still
    /// the one it was made for.
    async fn consume(
        &self,
        invocation: &Invocation,
        plan: &Plan,
        by: &str,
    ) -> Result<Backup, RestoreFailed> {
        let plan_id = &plan.plan_id;
        if let Some(first) = self.approvals.read::<Consumed>(plan_id).await? {
            self.may_go_on(plan, &first, by).await?;
            return self.open_pinned(plan).await;
        }
        self.may_begin(invocation, plan).await?;
        let pinned = PlanRequest {
            // The plan is for this backup, even when a newer one is there by now.
            point: Point::BackupId(plan.backup_id),
            unverified: true,
            ..plan.request.clone()
        };
        let (world, backup) = self.gather(invocation, &pinned).await?;
        let changed = changes(&plan.basis, &plan::basis(&world));
        if !changed.is_empty() {
            return Err(RestoreFailed::Changed(changed));
        }
        if !world.obstacles.is_empty() {
            let obstacles = world.obstacles.iter();
            let words = obstacles.map(|it| format!("{}; {}", it.message, it.remedy));
            return Err(RestoreFailed::NewObstacles(words.collect()));
        }
        let consumed = Consumed {
            by: by.to_owned(),
            at: invocation.started_at,
        };
        if let Some(first) = self.approvals.write_once(plan_id, &consumed).await? {
            self.may_go_on(plan, &first, by).await?;
        }
        Ok(backup)
    }

    async fn may_begin(&self, invocation: &Invocation, plan: &Plan) -> Result<(), RestoreFailed> {
        let plan_id = plan.plan_id.clone();
        if !plan.obstacles.is_empty() {
            let n = plan.obstacles.len();
            return Err(RestoreFailed::Obstacles { plan_id, n });
        }
        if self.approvals.read::<Closed>(&plan_id).await?.is_some() {
            return Err(RestoreFailed::Closed(plan_id));
        }
        match self.approvals.read::<Decision>(&plan_id).await? {
            Some(decision) if decision.approved => {}
            Some(decision) => {
                return Err(ApprovalError::Decided {
                    plan_id,
                    operator: decision.operator,
                    decision: "refused",
                    at: decision.at,
                }
                .into());
            }
            None => return Err(RestoreFailed::NotApproved(plan_id)),
        }
        let last = plan
            .expires_at
            .checked_add(GRACE)
            .unwrap_or(plan.expires_at);
        if invocation.started_at > last {
            let expired_at = plan.expires_at;
            return Err(RestoreFailed::Expired {
                plan_id,
                expired_at,
            });
        }
        Ok(())
    }

    /// A plan that is in use goes on for whoever began it, until it is reported.
    async fn may_go_on(
        &self,
        plan: &Plan,
        first: &Consumed,
        by: &str,
    ) -> Result<(), RestoreFailed> {
        let is_closed = self
            .approvals
            .read::<Closed>(&plan.plan_id)
            .await?
            .is_some();
        if first.by == by && !is_closed {
            return Ok(());
        }
        Err(RestoreFailed::Consumed {
            plan_id: plan.plan_id.clone(),
            by: first.by.clone(),
            at: first.at,
        })
    }

    /// The backup of the plan, and no other under its name.
    pub(crate) async fn open_pinned(&self, plan: &Plan) -> Result<Backup, RestoreFailed> {
        let request = &plan.request;
        let backup = self
            .open(&request.database, plan.backup_id, &request.scope)
            .await?;
        if backup.manifest_sha256 == plan.manifest_sha256 {
            return Ok(backup);
        }
        Err(RestoreFailed::Changed(vec![format!(
            "the manifest of {}: it has another SHA-256 now; somebody has written to the vault",
            plan.backup_id
        )]))
    }

    /// Of the database that is written to.
    pub(crate) async fn target(&self, plan: &Plan) -> Result<Target, RestoreFailed> {
        let server = self.server_url(plan).await?;
        Ok(Target::new(match &plan.request.target {
            Destination::NewDatabase { database, .. }
            | Destination::ExistingTables { database, .. } => server.with_database(database),
            Destination::Staging { .. } => server,
        }))
    }

    async fn server_url(&self, plan: &Plan) -> Result<DatabaseUrl, RestoreFailed> {
        Ok(self
            .secrets
            .target_url(plan.request.target.target())
            .await?)
    }

    async fn make_target(&self, plan: &Plan, backup: &Backup) -> Result<(), RestoreFailed> {
        let Destination::NewDatabase { database, .. } = &plan.request.target else {
            return Ok(());
        };
        let server = self.server_url(plan).await?;
        let settings = &backup.manifest.settings;
        let facts = restore::guard::gather(&backup.manifest, &server, &plan.request.target).await?;
        if facts.ledger.as_ref() == Some(&plan.plan_id) {
            return Ok(());
        }
        // What an invocation before this one has made, and nobody else's, has this comment.
        let comment = scratch::made_by(&plan.plan_id);
        scratch::create_database(&server, database, settings, &comment).await?;
        Ok(())
    }

    /// Lets go of a target that is what it should be, and marks one that is not.
    pub(crate) async fn close_target(
        &self,
        plan: &Plan,
        backup: &Backup,
        target: &Target,
        advance: &Advance,
    ) -> Result<(), RestoreFailed> {
        if crate::report::is_as_planned(plan, advance) {
            restore::finish(backup, target, &plan.order).await?;
        } else {
            let reason = "it does not hold what the backup holds";
            restore::abandon(target, &plan.order, reason).await?;
        }
        Ok(())
    }
}

fn applied(plan: &Plan, advance: &Advance) -> Applied {
    Applied {
        plan_id: plan.plan_id.clone(),
        remaining: advance.remaining,
        done: advance.done,
        total: advance.total,
        rows: advance.rows,
        copy_bytes: advance.copy_bytes,
        phase: advance.phases.last().map(|it| it.name.clone()),
    }
}
