//! Writes what came of a plan into the vault, and ends the plan's life.

use std::io::Write;

use bytes::Bytes;
use jiff::Timestamp;
use shared::config::read_policy;
use shared::key::Key;
use shared::restore::staging::{self, Difference};
use shared::restore::{self, Advance, Destination};
use shared::sealed::{Sealer, recipients, sha256};

use crate::apply::BY_HAND;
use crate::error::RestoreFailed;
use crate::plan::Plan;
use crate::plans::{Closed, Consumed, Decision, Done};
use crate::report::{FORMAT, Hashes, Known, Record, Summary, shortened};
use crate::request::{Outcome, Report};
use crate::{Function, Invocation};

/// More differing rows than these nobody reads; their numbers are in the counts.
const DIFFERING_KEYS_MAX: u32 = 10_000;

/// Where the files of one report go.
struct Shelf<'a> {
    plan: &'a Plan,
    at: Timestamp,
}

impl Shelf<'_> {
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
    pub(crate) async fn report(
        &self,
        invocation: &Invocation,
        request: Report,
    ) -> Result<Summary, RestoreFailed> {
        let plan = self.plan_of(&request.plan_id).await?;
        if let Some(closed) = self.read::<Closed>(&plan.plan_id).await? {
            return Ok(closed.summary);
        }
        let done: Option<Done> = self.read(&plan.plan_id).await?;
        let advance = done.map(|it| it.advance);
        let decision: Option<Decision> = self.read(&plan.plan_id).await?;
        let applied: Option<Consumed> = self.read(&plan.plan_id).await?;
        let failure = request.failure.map(shortened);
        let known = Known {
            plan: &plan,
            outcome: request.outcome,
            failure: failure.as_ref(),
            decision: decision.as_ref(),
            applied: applied.as_ref(),
            advance: advance.as_ref(),
        };
        if request.outcome == Outcome::Failed && applied.is_some() {
            self.mark_unusable(&known).await;
        }
        let shelf = Shelf {
            plan: &plan,
            at: invocation.started_at,
        };
        let difference = self.difference(&plan, advance.as_ref()).await?;
        let mut summary = known.summary(difference.as_ref());
        if let Some(difference) = &difference {
            self.keep_difference(&shelf, difference, &mut summary)
                .await?;
        }
        summary.evidence_key = shelf.key("restore.json");
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
            reported_by: request.execution.as_deref().unwrap_or(BY_HAND),
            verified: plan.verified,
            obstacles: &plan.obstacles,
            notes: &plan.notes,
            failure: known.failure,
            advance: known.advance,
            rates: known.rates(),
            difference: difference.as_ref(),
            target_state: &summary.target_state,
            lifeboat: env!("CARGO_PKG_VERSION"),
            hashes: Hashes {
                manifest_sha256: &plan.manifest_sha256,
                plan_sha256: sha256(&serde_json::to_vec(&plan)?),
            },
        };
        self.keep(&summary.evidence_key, serde_json::to_vec_pretty(&record)?)
            .await?;
        tracing::info!(plan.plan_id, verdict = ?summary.verdict, summary.evidence_key, "reported");
        let closed = Closed { summary };
        let first = self.write_once(&plan.plan_id, &closed).await?;
        Ok(first.unwrap_or(closed).summary)
    }

    async fn keep(&self, key: &str, bytes: Vec<u8>) -> Result<(), RestoreFailed> {
        self.vault.put_once(key, Bytes::from(bytes)).await?;
        Ok(())
    }

    /// Best effort: what cannot be marked is told by the report all the same.
    async fn mark_unusable(&self, known: &Known<'_>) {
        let reason = known
            .failure
            .and_then(|it| it.error.as_deref())
            .unwrap_or("it was not finished");
        let marked = async {
            let url = self.target_url(known.plan).await?;
            restore::abandon(&url, &known.plan.order, reason).await?;
            Ok::<_, RestoreFailed>(())
        };
        if let Err(error) = marked.await {
            let reason = shared::error::chain(&error);
            tracing::warn!(reason, "the target could not be marked; the report says so");
        }
    }

    /// For a staging schema that is complete.
    async fn difference(
        &self,
        plan: &Plan,
        advance: Option<&Advance>,
    ) -> Result<Option<Difference>, RestoreFailed> {
        let is_staging = matches!(plan.request.target, Destination::Staging { .. });
        if !is_staging || advance.is_none_or(|it| it.remaining > 0) {
            return Ok(None);
        }
        let backup = self.open_pinned(plan).await?;
        let url = self.target_url(plan).await?;
        let keys_max = DIFFERING_KEYS_MAX;
        let difference = staging::difference(&backup, &url, &plan.order, keys_max).await?;
        Ok(Some(difference))
    }

    /// The keys of differing rows are content of the database, and sealed like all of it.
    async fn keep_difference(
        &self,
        shelf: &Shelf<'_>,
        difference: &Difference,
        summary: &mut Summary,
    ) -> Result<(), RestoreFailed> {
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

fn seal(keys: &[String], text: &[u8]) -> std::io::Result<Vec<u8>> {
    let recipients = recipients(keys).map_err(std::io::Error::other)?;
    let mut sealer = Sealer::new(Vec::new(), &recipients, None)?;
    sealer.write_all(text)?;
    Ok(sealer.finish()?.out)
}
