//! Verifies one backup: reads back every byte of it, and writes a verdict.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use age::x25519::Identity;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use shared::backup::{BackupId, BackupItem, DatabaseName};
use shared::key::{Key, backup_prefix};
use shared::manifest::Manifest;
use shared::sealed::sha256;
use shared::store::{Bucket, StoreError, StoreErrorKind};
use shared::verdict::{Check, Code, FORMAT, Finding, VerdictRecord, decide};
use tokio::sync::Semaphore;
use tracing::info;

use crate::Invocation;
use crate::commit_record::CommitRecord;
use crate::consistency::{check_manifest, is_own};
use crate::error::VerifyError;
use crate::lock::{LockOrder, lock_until, versions};
use crate::object::Claims;
use crate::pass::Pass;
pub use crate::progress::Next;
use crate::progress::Progress;
use crate::report::Report;

/// Kept back from every invocation to write down what was found: a fifth, at most this.
const MARGIN_MAX: Duration = Duration::from_secs(10);

/// What a backup is verified with.
#[allow(missing_debug_implementations, reason = "holds keys")]
pub struct Verifier<'a> {
    pub vault: &'a Bucket,
    pub work: &'a Bucket,
    pub identities: Arc<[Identity]>,
    /// Objects decoded at once.
    pub threads: usize,
    /// For how long nobody can delete what passes.
    pub lock_days: u32,
}

impl Verifier<'_> {
    /// Goes on from `next`, or begins. Answers with a verdict, or with the next `next`.
    ///
    /// # Errors
    ///
    /// No verdict was written: safe to call again with the same arguments.
    pub async fn verify(
        &self,
        invocation: &Invocation,
        item: &BackupItem,
        next: Option<Next>,
    ) -> Result<Report, VerifyError> {
        let begun = Instant::now();
        let database = &item.database;
        let id = item.id().map_err(VerifyError::Item)?;
        let mut progress = match &next {
            Some(next) => Progress::load(self.work, database, id, next)
                .await
                .map_err(VerifyError::Progress)?,
            None => Progress::begin(invocation.started_at),
        };
        let mut record = CommitRecord::read(self.vault, database, id)
            .await
            .map_err(VerifyError::Storage)?;
        let is_pinned = next
            .as_ref()
            .is_none_or(|it| record.sha256.as_ref() == Some(&it.manifest_sha256));
        if !is_pinned {
            record.findings.push(changed_meanwhile(database, id));
        }
        let mut remaining = 0;
        let manifest = record.manifest.take();
        let versions = manifest.as_ref().map(versions).unwrap_or_default();
        let until = until(begun, invocation.deadline);
        let snapshot_at = manifest.as_ref().map(|it| it.snapshot_at);
        let objects_total = manifest.as_ref().map_or(0, |it| it.objects.len());
        if let Some(manifest) = manifest {
            self.check_around(&mut record, &manifest, (database, id))
                .await
                .map_err(VerifyError::Storage)?;
            if is_pinned {
                let claims = Claims::new(manifest);
                remaining = self
                    .read(&mut progress, claims, (database, id), until)
                    .await?;
            }
        }
        let mut report = Report::new(database, id, objects_total);
        report.snapshot_at = snapshot_at;
        let mut unlocked = 0;
        if remaining == 0 && is_passed(&record, &progress) {
            // Before the verdict: cut off here, the backup is verified once more.
            let lock = LockOrder {
                vault: self.vault,
                manifest: (Key::Manifest(database, id).to_string(), &record),
                objects: &versions,
                until: lock_until(at(invocation, begun), self.lock_days),
            };
            let left = lock.carry_out(&mut progress.n_locked, until).await;
            unlocked = left.map_err(VerifyError::Lock)?;
        }
        if remaining + unlocked > 0 {
            let next = next_of(invocation, next, &record);
            let progress = progress
                .save(self.work, database, id, &next)
                .await
                .map_err(VerifyError::Progress)?;
            // Read by another run of this invocation meanwhile: what it has kept counts.
            remaining = remaining.min(objects_total.saturating_sub(progress.done.len()));
            report.go_on(&progress, remaining + unlocked, next);
            return Ok(report);
        }
        let finished_at = at(invocation, begun);
        let verdict = verdict(database, id, (record, snapshot_at), progress, finished_at);
        let key = self.write(invocation, &verdict.0).await?;
        report.end(verdict.0, verdict.1, key);
        Ok(report)
    }

    /// Everything that can be told without reading an object.
    async fn check_around(
        &self,
        record: &mut CommitRecord,
        manifest: &Manifest,
        (database, id): (&DatabaseName, BackupId),
    ) -> Result<(), StoreError> {
        let findings = check_manifest(manifest, database, id);
        record.findings.extend(findings);
        record.check_history(self.vault, database, id).await?;
        let prefix = backup_prefix(database, id);
        record.check_hidden(self.vault, manifest, &prefix).await?;
        match &manifest.previous {
            Some(previous) => {
                record
                    .check_previous(self.vault, database, id, previous)
                    .await
            }
            None => Ok(()),
        }
    }

    async fn read(
        &self,
        progress: &mut Progress,
        claims: Claims,
        (database, id): (&DatabaseName, BackupId),
        until: Instant,
    ) -> Result<usize, VerifyError> {
        let done: HashSet<usize> = progress.done.iter().copied().collect();
        let claims = Arc::new(claims);
        let manifest = &claims.manifest;
        let is_left = |index: usize| {
            !done.contains(&index) && is_own(manifest, database, id, &manifest.objects[index])
        };
        let pass = Pass {
            vault: self.vault.clone(),
            claims: claims.clone(),
            identities: self.identities.clone(),
            threads: Arc::new(Semaphore::new(self.threads.max(1))),
            until,
        };
        pass.run(progress, is_left).await.map_err(VerifyError::Pass)
    }

    /// Appends the verdict, and returns its key.
    async fn write(
        &self,
        invocation: &Invocation,
        verdict: &VerdictRecord,
    ) -> Result<String, VerifyError> {
        let key = Key::Verdict {
            database: &verdict.database,
            id: verdict.backup_id,
            at: verdict.finished_at,
            nonce: &nonce(&invocation.request_id),
            check: Check::Verify,
        }
        .to_string();
        let json = serde_json::to_vec_pretty(verdict).map_err(VerifyError::Json)?;
        match self.vault.put_once(&key, Bytes::from(json.clone())).await {
            Ok(_) => {}
            // The answer to the SDK's first try was lost: then it is our own that lies there.
            Err(error) if matches!(error.kind, StoreErrorKind::AlreadyExists) => {
                let there = self.vault.get(&key, None, json.len() as u64).await;
                if there.ok().as_deref() != Some(&*json) {
                    return Err(VerifyError::Verdict(error));
                }
            }
            Err(error) => return Err(VerifyError::Verdict(error)),
        }
        info!(
            database = %verdict.database,
            backup_id = %verdict.backup_id,
            verdict = %verdict.verdict,
            findings = verdict.findings.len(),
            key,
            "verified"
        );
        Ok(key)
    }
}

fn until(begun: Instant, deadline: Instant) -> Instant {
    let margin = deadline.saturating_duration_since(begun) / 5;
    deadline
        .checked_sub(margin.min(MARGIN_MAX))
        .unwrap_or(begun)
}

/// The clock is read once, in `main`.
fn at(invocation: &Invocation, begun: Instant) -> Timestamp {
    let elapsed = SignedDuration::try_from(begun.elapsed()).unwrap_or_default();
    let at = invocation.started_at.checked_add(elapsed);
    at.unwrap_or(invocation.started_at)
}

/// Keeps what two invocations write in one second apart.
fn nonce(request_id: &str) -> String {
    sha256(request_id.as_bytes())[..8].to_owned()
}

fn next_of(invocation: &Invocation, next: Option<Next>, record: &CommitRecord) -> Next {
    match next {
        Some(next) => Next {
            part: next.part + 1,
            ..next
        },
        None => Next {
            run: nonce(&invocation.request_id),
            part: 1,
            manifest_sha256: record.sha256.clone().unwrap_or_default(),
        },
    }
}

fn is_passed(record: &CommitRecord, progress: &Progress) -> bool {
    record.findings.is_empty() && progress.findings.is_empty()
}

fn changed_meanwhile(database: &DatabaseName, id: BackupId) -> Finding {
    Finding {
        code: Code::ManifestOverwritten,
        object: Some(Key::Manifest(database, id).to_string()),
        window: None,
        message: "the manifest changed while the backup was being verified: find out who wrote it"
            .to_owned(),
    }
}

/// The verdict, and the seconds spent reading.
fn verdict(
    database: &DatabaseName,
    id: BackupId,
    (record, snapshot_at): (CommitRecord, Option<Timestamp>),
    progress: Progress,
    finished_at: Timestamp,
) -> (VerdictRecord, f64) {
    let mut findings = record.findings;
    findings.extend(progress.findings);
    // Damage first; and the same whatever was read first.
    findings.sort_by(|a, b| {
        let order = |it: &Finding| (it.code.is_inconclusive(), it.object.clone(), it.window);
        order(a).cmp(&order(b))
    });
    let verdict = VerdictRecord {
        format: FORMAT,
        check: Check::Verify,
        database: database.clone(),
        backup_id: id,
        verdict: decide(&findings),
        started_at: progress.started_at,
        finished_at,
        snapshot_at,
        manifest_sha256: record.sha256,
        manifest_version_id: record.version_id,
        totals: progress.totals,
        findings,
        lifeboat: env!("CARGO_PKG_VERSION").to_owned(),
    };
    (verdict, progress.seconds)
}
