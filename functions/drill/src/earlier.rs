//! The verdicts that a backup has already.

use serde::Deserialize;
use shared::backup::{BackupId, DatabaseName};
use shared::key::verdicts_of_prefix;
use shared::sealed::sha256;
use shared::store::{Bucket, StoreError};
use shared::verdict::Verdict;

use crate::checks::provenance::Earlier;

const VERDICT_BYTES_MAX: u64 = 16 << 20;
/// The newest are looked at.
const VERDICTS_MAX: usize = 50;

/// One verdict, as it lies in the vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lying {
    pub key: String,
    /// Of the verdict's own bytes.
    pub sha256: String,
    verdict: Verdict,
    manifest_sha256: Option<String>,
}

#[derive(Deserialize)]
struct Summary {
    verdict: Verdict,
    manifest_sha256: Option<String>,
}

pub async fn verdicts(
    vault: &Bucket,
    database: &DatabaseName,
    id: BackupId,
) -> Result<Vec<Lying>, StoreError> {
    let listed = vault.list(&verdicts_of_prefix(database, id)).await?;
    let mut verdicts = Vec::new();
    for listed in listed.into_iter().rev().take(VERDICTS_MAX) {
        let json = vault.get(&listed.key, None, VERDICT_BYTES_MAX).await?;
        // What cannot be read says nothing about a manifest; that it is there is kept.
        let summary: Option<Summary> = serde_json::from_slice(&json).ok();
        verdicts.push(Lying {
            key: listed.key,
            sha256: sha256(&json),
            verdict: summary
                .as_ref()
                .map_or(Verdict::Inconclusive, |it| it.verdict),
            manifest_sha256: summary.and_then(|it| it.manifest_sha256),
        });
    }
    Ok(verdicts)
}

/// Those that passed, and say which manifest they are about.
pub fn about_manifests(verdicts: &[Lying]) -> Vec<Earlier> {
    let passed = verdicts.iter().filter(|it| it.verdict == Verdict::Passed);
    let about = passed.filter_map(|it| {
        Some(Earlier {
            key: it.key.clone(),
            manifest_sha256: it.manifest_sha256.clone()?,
        })
    });
    about.collect()
}
