//! Writes what came of a plan into the vault, and ends the plan's life.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use shared::approval::Decision;
use shared::config::read_policy;
use shared::key::Key;
use shared::restore::staging::{self, Difference, Limits};
use shared::restore::{self, Backup, Destination};
use shared::sealed::{Sealer, recipients, sha256};
use shared::store::StoreErrorKind;

use crate::apply::BY_HAND;
use crate::error::RestoreFailed;
use crate::outcome::Mark;
use crate::plan::Plan;
use crate::plans::{Closed, Consumed, Done};
use crate::report::{FORMAT, Hashes, Known, Record, Summary, Verdict, shortened};
use crate::request::{Outcome, Report};
use crate::world::known_database;
use crate::{Function, Invocation};

/// More differing rows than these nobody reads; their numbers are in the counts.
const DIFFERING_KEYS_MAX: u32 = 10_000;

/// Where the files of one report go: the same places, however often it is asked for.
struct Shelf<'a> {
    plan: &'a Plan,
    at: Timestamp,
}

impl<'a> Shelf<'a> {
    /// By when its last step was taken, which a repeated report does not change.
    fn of(known: &Known<'a>, done: Option<&Done>) -> Self {
        let steps = [
            done.map(|it| it.at),
            known.applied.map(|it| it.at),
            known.decision.map(|it| it.at),
        ];
        let is_expired = known.verdict() == Verdict::Expired;
        let at = steps.into_iter().flatten().next().unwrap_or(if is_expired {
            known.plan.expires_at
        } else {
            known.plan.planned_at
        });
        Self {
            plan: known.plan,
            at,
        }
    }

    fn key(&self, file: &str) -> String {
        // The last part of a plan's id: no two plans of one second have the same.
        let nonce = self.plan.plan_id.rsplit('-').next().unwrap_or_default();
        let key = Key::Evidence {
            database: &self.plan.request.database,
            at: self.at,
            nonce,
            file,
        };
        key.to_string()
    }
}

impl Function {
    /// Safe to call again: the first report of a plan stands.
    ///
    /// The record is written before anything is compared with live tables: however that ends,
    /// what came of the restore is not lost.
    pub(crate) async fn report(
        &self,
        invocation: &Invocation,
        request: Report,
    ) -> Result<Summary, RestoreFailed> {
        let plan = self.plan_of(&request.plan_id).await?;
        if let Some(closed) = self.approvals.read::<Closed>(&plan.plan_id).await? {
            return Ok(closed.summary);
        }
        let done: Option<Done> = self.approvals.read(&plan.plan_id).await?;
        let decision: Option<Decision> = self.approvals.read(&plan.plan_id).await?;
        let applied: Option<Consumed> = self.approvals.read(&plan.plan_id).await?;
        let failure = request.failure.map(shortened);
        let mut known = Known {
            plan: &plan,
            outcome: request.outcome,
            failure: failure.as_ref(),
            decision: decision.as_ref(),
            applied: applied.as_ref(),
            advance: done.as_ref().map(|it| &it.advance),
            mark: None,
            reread_bytes: 0,
        };
        if let Some(why) = known.contradiction(invocation.started_at) {
            let plan_id = plan.plan_id;
            return Err(RestoreFailed::Contradiction { plan_id, why });
        }
        if request.outcome == Outcome::Failed && applied.is_some() {
            known.mark = self.close_or_mark(&known).await;
        }
        let shelf = Shelf::of(&known, done.as_ref());
        let compared = if is_compared(&known) {
            Some(self.open_pinned(&plan).await?)
        } else {
            None
        };
        known.reread_bytes = compared.as_ref().map_or(0, |it| it.opened_bytes);
        let mut summary = known.summary();
        summary.evidence_key = shelf.key("restore.json");
        if compared.is_some() {
            summary.difference_key = Some(shelf.key("restore-differences.json"));
        }
        let by = request.execution.as_deref().unwrap_or(BY_HAND);
        self.keep_record(invocation, &known, &summary, by).await?;
        if let Some(backup) = compared {
            let difference = self.difference(invocation, &plan, &backup).await?;
            self.keep_difference(&shelf, &difference, &mut summary)
                .await?;
        }
        tracing::info!(plan.plan_id, verdict = ?summary.verdict, summary.evidence_key, "reported");
        let closed = Closed { summary };
        let first = self.approvals.write_once(&plan.plan_id, &closed).await?;
        Ok(first.unwrap_or(closed).summary)
    }

    async fn keep_record(
        &self,
        invocation: &Invocation,
        known: &Known<'_>,
        summary: &Summary,
        by: &str,
    ) -> Result<(), RestoreFailed> {
        let plan = known.plan;
        let record = Record {
            format: FORMAT,
            check: "restore",
            plan_id: &plan.plan_id,
            database: &plan.request.database,
            backup_id: plan.backup_id,
            snapshot_at: plan.snapshot_at,
            verdict: known.verdict(),
            request: &plan.request,
            target_name: &plan.target_name,
            target: &plan.target,
            planned_at: plan.planned_at,
            expires_at: plan.expires_at,
            decision: known.decision,
            applied: known.applied,
            finished_at: invocation.started_at,
            reported_by: by,
            verified: plan.verified,
            obstacles: &plan.obstacles,
            notes: &plan.notes,
            failure: known.failure,
            advance: known.advance,
            rates: known.rates(),
            difference_key: summary.difference_key.as_deref(),
            target_state: &summary.target_state,
            lifeboat: env!("CARGO_PKG_VERSION"),
            hashes: Hashes {
                manifest_sha256: &plan.manifest_sha256,
                plan_sha256: sha256(&serde_json::to_vec(plan)?),
            },
        };
        self.keep(&summary.evidence_key, serde_json::to_vec_pretty(&record)?)
            .await
    }

    /// Evidence that an earlier try of this report has written stands.
    async fn keep(&self, key: &str, bytes: Vec<u8>) -> Result<(), RestoreFailed> {
        match self.vault.put_once(key, Bytes::from(bytes)).await {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.kind, StoreErrorKind::AlreadyExists) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Best effort: what cannot be reached is told by the report all the same.
    async fn close_or_mark(&self, known: &Known<'_>) -> Option<Mark> {
        let closed = async {
            let target = self.target(known.plan).await?;
            if let Some(advance) = known.advance {
                // Every job is done: it is only the ledger that was not let go of.
                let backup = self.open_pinned(known.plan).await?;
                self.close_target(known.plan, &backup, &target, advance)
                    .await?;
                return Ok::<_, RestoreFailed>(None);
            }
            let failure = known.failure.and_then(|it| it.error.as_deref());
            let reason = failure.unwrap_or("it was not finished");
            let is_marked = restore::abandon(&target, &known.plan.order, reason).await?;
            Ok(Some(if is_marked {
                Mark::Unusable
            } else {
                Mark::NothingThere
            }))
        };
        match closed.await {
            Ok(mark) => mark,
            Err(error) => {
                let reason = shared::error::chain(&error);
                tracing::warn!(reason, "the target could not be told; the report says so");
                Some(Mark::OutOfReach)
            }
        }
    }

    async fn difference(
        &self,
        invocation: &Invocation,
        plan: &Plan,
        backup: &Backup,
    ) -> Result<Difference, RestoreFailed> {
        let policy = read_policy(&self.config.layer_root)?;
        let database = known_database(&policy, &plan.request.database)?;
        let limits = Limits {
            keys_max: DIFFERING_KEYS_MAX,
            until: invocation.work_until().stop,
            yield_after: Duration::from_secs(database.yield_seconds.into()),
        };
        let target = self.target(plan).await?;
        Ok(staging::difference(backup, &target, &plan.order, limits).await?)
    }

    /// The keys of differing rows are content of the database, and sealed like all of it.
    async fn keep_difference(
        &self,
        shelf: &Shelf<'_>,
        difference: &Difference,
        summary: &mut Summary,
    ) -> Result<(), RestoreFailed> {
        summary.compare(difference);
        let counts = shelf.key("restore-differences.json");
        self.keep(&counts, serde_json::to_vec_pretty(difference)?)
            .await?;
        let script = shelf.key("restore-merge.sql");
        self.keep(&script, difference.merge_script.clone().into_bytes())
            .await?;
        let keys = shelf.key("restore-differing-keys.txt.age");
        let policy = read_policy(&self.config.layer_root)?;
        let sealed = seal(&policy.recipients, difference.keys.as_bytes());
        self.keep(&keys, sealed.map_err(RestoreFailed::Seal)?)
            .await?;
        let places = format!(
            "In the vault: how they differ in {counts}, a merge script to read in {script}, and which rows differ, encrypted like a backup, in {keys}.\n"
        );
        summary.words.push_str(&places);
        summary.difference_key = Some(counts);
        summary.merge_script_key = Some(script);
        summary.differing_keys_key = Some(keys);
        Ok(())
    }
}

/// With a staging schema that is complete.
fn is_compared(known: &Known<'_>) -> bool {
    let is_staging = matches!(known.plan.request.target, Destination::Staging { .. });
    is_staging && known.advance.is_some_and(|it| it.remaining == 0)
}

fn seal(keys: &[String], text: &[u8]) -> std::io::Result<Vec<u8>> {
    let recipients = recipients(keys).map_err(std::io::Error::other)?;
    let mut sealer = Sealer::new(Vec::new(), &recipients, None)?;
    sealer.write_all(text)?;
    Ok(sealer.finish()?.out)
}
