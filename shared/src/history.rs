//! What the vault knows of a database's backups, in few requests.
//!
//! It answers with names and verdicts only, so a role that may list the vault and read
//! `verdicts/` can ask all of it but [`manifest_sha256`], and [`rates`], which are in
//! `evidence/`.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::backup::{BackupId, DatabaseName};
use crate::key::{self, Key};
use crate::restore::estimate::Rates;
use crate::sealed::hex;
use crate::store::{Bucket, StoreError, StoreErrorKind};
use crate::verdict::{Check, Code, FORMAT, Verdict};

/// How many backups and verdicts are looked at, newest first, before giving up.
pub const LOOK_BACK_MAX: usize = 100;
/// 10,000 damaged objects stay below. Guards the reader's memory.
const VERDICT_BYTES_MAX: u64 = 16 << 20;
/// Drills and restores that are asked for what they measured, newest first.
const RECORDS_MAX: usize = 5;
/// Guards the reader's memory.
const RECORD_BYTES_MAX: u64 = 64 << 20;

/// A committed backup whose newest verdict that says anything is `passed`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedBackup {
    pub id: BackupId,
    /// The data is as of this moment.
    pub snapshot_at: Timestamp,
    /// Of the manifest that the verdict is about.
    pub manifest_sha256: Option<String>,
}

/// The databases that `dump` ever wrote for, configured today or not.
pub async fn databases(vault: &Bucket) -> Result<Vec<DatabaseName>, StoreError> {
    let folders = vault.list_folders(key::BACKUPS).await?;
    Ok(folders.iter().filter_map(|it| it.parse().ok()).collect())
}

/// Every backup of a database that was ever begun, newest first; not all are committed.
pub async fn backups(vault: &Bucket, database: &DatabaseName) -> Result<Vec<BackupId>, StoreError> {
    let folders = vault.list_folders(&key::backups_prefix(database)).await?;
    Ok(newest_first(&folders))
}

fn newest_first(folders: &[String]) -> Vec<BackupId> {
    let mut ids: Vec<BackupId> = folders.iter().filter_map(|it| it.parse().ok()).collect();
    ids.sort_unstable_by(|a, b| b.cmp(a));
    ids
}

/// Whether the manifest exists. Asks by listing, which needs no right to read it.
pub async fn is_committed(
    vault: &Bucket,
    database: &DatabaseName,
    id: BackupId,
) -> Result<bool, StoreError> {
    let manifest = Key::Manifest(database, id).to_string();
    let listed = vault.list(&manifest).await?;
    Ok(listed.iter().any(|it| it.key == manifest))
}

/// The newest committed one of `ids`, which come newest first.
pub async fn newest_committed(
    vault: &Bucket,
    database: &DatabaseName,
    ids: impl IntoIterator<Item = BackupId>,
) -> Result<Option<BackupId>, StoreError> {
    for id in ids.into_iter().take(LOOK_BACK_MAX) {
        if is_committed(vault, database, id).await? {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// The backups that have any verdict, the pruned ones included.
pub async fn judged(
    vault: &Bucket,
    database: &DatabaseName,
) -> Result<BTreeSet<BackupId>, StoreError> {
    let judged = vault.list_folders(&key::verdicts_prefix(database)).await?;
    Ok(newest_first(&judged).into_iter().collect())
}

/// The newest verified one of `ids`, which come newest first.
pub async fn newest_verified(
    vault: &Bucket,
    database: &DatabaseName,
    ids: impl IntoIterator<Item = BackupId>,
) -> Result<Option<VerifiedBackup>, StoreError> {
    let judged = judged(vault, database).await?;
    let ids = ids.into_iter().filter(|id| judged.contains(id));
    for id in ids.take(LOOK_BACK_MAX) {
        let verified = verified(vault, database, id).await?;
        // Verdicts outlive the backups they are about.
        if verified.is_some() && is_committed(vault, database, id).await? {
            return Ok(verified);
        }
    }
    Ok(None)
}

/// What the newest verdict on a backup says that says anything: none unless it is `passed`.
///
/// An inconclusive verdict leaves the one before it standing. One that cannot be read does
/// not: it may be the one that says `failed`. A drill that passed has read every byte, too;
/// one that failed takes the word away only where it found the stored bytes themselves wrong
/// ([`Code::is_damage`]). One that passed and does not say as of when says nothing.
pub async fn verified(
    vault: &Bucket,
    database: &DatabaseName,
    id: BackupId,
) -> Result<Option<VerifiedBackup>, StoreError> {
    let decided = newest_that(vault, database, id, |it| match it.verdict {
        Verdict::Passed => it.snapshot_at.map(|_| true),
        Verdict::Failed if it.check == Check::Verify || it.finds_damage() => Some(false),
        Verdict::Failed | Verdict::Inconclusive => None,
    });
    let passed = decided.await?;
    Ok(passed.and_then(|it| {
        Some(VerifiedBackup {
            id,
            snapshot_at: it.snapshot_at?,
            manifest_sha256: it.manifest_sha256,
        })
    }))
}

/// A backup that the newest drill of it that says anything has passed, and that nothing has
/// failed since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProvenBackup {
    pub id: BackupId,
    /// The data is as of this moment.
    pub snapshot_at: Timestamp,
    /// When the drill ended.
    pub proven_at: Timestamp,
}

impl ProvenBackup {
    /// As of when the data is; not later than the drill that says so, whatever the manifest
    /// claims.
    pub fn data_as_of(self) -> Timestamp {
        self.snapshot_at.min(self.proven_at)
    }
}

/// Whether a backup is `proven`: a verify that passes does not make it so, one that fails
/// ends it.
pub async fn proven(
    vault: &Bucket,
    database: &DatabaseName,
    id: BackupId,
) -> Result<Option<ProvenBackup>, StoreError> {
    let decided = newest_that(vault, database, id, |it| match (it.check, it.verdict) {
        (Check::Drill, Verdict::Passed) => it.snapshot_at.map(|_| true),
        (_, Verdict::Failed) => Some(false),
        (Check::Verify, Verdict::Passed) | (_, Verdict::Inconclusive) => None,
    });
    let passed = decided.await?;
    Ok(passed.and_then(|it| {
        Some(ProvenBackup {
            id,
            snapshot_at: it.snapshot_at?,
            proven_at: it.finished_at,
        })
    }))
}

/// The newest proven backup of a database.
pub async fn newest_proven(
    vault: &Bucket,
    database: &DatabaseName,
) -> Result<Option<ProvenBackup>, StoreError> {
    let drilled = drills(vault, database).await?;
    let drilled: BTreeSet<BackupId> = drilled.into_iter().map(|(id, _)| id).collect();
    let mut ids: Vec<BackupId> = drilled.into_iter().collect();
    ids.sort_unstable_by_key(|id| Reverse((id.scheduled_at(), *id)));
    for id in ids.into_iter().take(LOOK_BACK_MAX) {
        let proven = proven(vault, database, id).await?;
        if proven.is_some() && is_committed(vault, database, id).await? {
            return Ok(proven);
        }
    }
    Ok(None)
}

/// Which backups were drilled when, whatever came of it.
pub async fn drills(
    vault: &Bucket,
    database: &DatabaseName,
) -> Result<Vec<(BackupId, Timestamp)>, StoreError> {
    let verdicts = vault.list(&key::verdicts_prefix(database)).await?;
    let drills = verdicts.iter();
    Ok(drills
        .filter_map(|it| key::drill_verdict(database, &it.key))
        .collect())
}

/// When the newest drill of a branch was begun that left a record, whatever that says; not
/// after `by`. Asks by listing.
pub async fn newest_branch_drill(
    vault: &Bucket,
    database: &DatabaseName,
    by: Timestamp,
) -> Result<Option<Timestamp>, StoreError> {
    let records = vault.list(&key::evidence_prefix(database)).await?;
    let begun = records.iter().rev();
    let mut begun = begun.filter_map(|it| key::branch_drill(database, &it.key));
    Ok(begun.find(|at| *at <= by))
}

/// The rates that the newest drill or restore of a database has measured, if one of the last
/// did. Best effort: what cannot be read is no reason to do nothing.
pub async fn rates(vault: &Bucket, database: &DatabaseName) -> Option<Rates> {
    #[derive(Deserialize)]
    struct Record {
        rates: Option<Rates>,
    }
    let listed = vault.list(&key::evidence_prefix(database)).await.ok()?;
    let records = listed.iter().rev().filter(|it| key::is_record(&it.key));
    for listed in records.take(RECORDS_MAX) {
        let json = vault.get(&listed.key, None, RECORD_BYTES_MAX).await;
        let record = json.ok().and_then(|it| serde_json::from_slice(&it).ok());
        if let Some(rates) = record.and_then(|it: Record| it.rates) {
            return Some(rates);
        }
    }
    None
}

/// The newest verdict that `decides`, if it does so in the backup's favour.
async fn newest_that(
    vault: &Bucket,
    database: &DatabaseName,
    id: BackupId,
    decides: impl Fn(&Summary) -> Option<bool>,
) -> Result<Option<Summary>, StoreError> {
    let prefix = key::verdicts_of_prefix(database, id);
    // Their names begin with the time, so the last key is the newest verdict.
    let verdicts = vault.list(&prefix).await?;
    for listed in verdicts.iter().rev().take(LOOK_BACK_MAX) {
        let json = match vault.get(&listed.key, None, VERDICT_BYTES_MAX).await {
            Ok(json) => json,
            Err(error) if matches!(error.kind, StoreErrorKind::TooLarge { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(summary) = Summary::parse(&json, database, id) else {
            return Ok(None);
        };
        match decides(&summary) {
            Some(true) => return Ok(Some(summary)),
            Some(false) => return Ok(None),
            None => {}
        }
    }
    Ok(None)
}

/// The part of a verdict that decides.
#[derive(Deserialize)]
struct Summary {
    format: u32,
    check: Check,
    database: DatabaseName,
    backup_id: BackupId,
    verdict: Verdict,
    finished_at: Timestamp,
    snapshot_at: Option<Timestamp>,
    manifest_sha256: Option<String>,
    findings: Vec<FindingSummary>,
}

#[derive(Deserialize)]
struct FindingSummary {
    code: Code,
}

impl Summary {
    fn parse(json: &[u8], database: &DatabaseName, id: BackupId) -> Option<Self> {
        let summary: Self = serde_json::from_slice(json).ok()?;
        let is_ours = summary.database == *database && summary.backup_id == id;
        (summary.format == FORMAT && is_ours).then_some(summary)
    }

    fn finds_damage(&self) -> bool {
        self.findings.iter().any(|it| it.code.is_damage())
    }
}

/// Lower-case hex of the bytes of the manifest's first version, which are never held whole.
///
/// The first was written with `If-None-Match`; whatever lies on top is not the backup.
pub async fn manifest_sha256(
    vault: &Bucket,
    database: &DatabaseName,
    id: BackupId,
) -> Result<String, StoreError> {
    let manifest = Key::Manifest(database, id).to_string();
    let version = vault.first_version_id(&manifest).await?;
    let (mut body, _length) = vault.open(&manifest, version.as_deref(), 0).await?;
    let mut hash = Sha256::new();
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| StoreError {
            operation: "read",
            key: manifest.clone(),
            kind: StoreErrorKind::Unavailable(error.to_string()),
        })?;
        hash.update(&piece);
    }
    Ok(hex(&hash.finalize()))
}
