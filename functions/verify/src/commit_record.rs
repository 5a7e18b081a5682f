//! Reads the manifest of a backup, whatever became of it, and the one it follows from.

use std::collections::HashMap;

use shared::backup::{BackupId, DatabaseName, PreviousBackup};
use shared::key::{Key, verdicts_of_prefix};
use shared::manifest::{BYTES_MAX, Manifest, ManifestError};
use shared::sealed::sha256;
use shared::store::{Bucket, StoreError, StoreErrorKind, Version};
use shared::verdict::{Code, Finding, VerdictRecord};

/// The oldest: they are nearest to the commit.
const VERDICTS_MAX: usize = 8;
const VERDICT_BYTES_MAX: u64 = 16 << 20;

/// What lies under the manifest's key.
#[derive(Debug, Default)]
pub(crate) struct CommitRecord {
    /// `None` where it is missing, unreadable or not understood; a finding says which.
    pub(crate) manifest: Option<Manifest>,
    pub(crate) sha256: Option<String>,
    pub(crate) version_id: Option<String>,
    pub(crate) findings: Vec<Finding>,
}

impl CommitRecord {
    fn add(&mut self, code: Code, key: &str, message: String) {
        self.findings.push(Finding {
            code,
            object: Some(key.to_owned()),
            window: None,
            message,
        });
    }

    /// Reads the first version: it was written with `If-None-Match`, so whatever lies on top
    /// came later and is not the backup.
    ///
    /// # Errors
    ///
    /// The storage does not answer just now.
    pub(crate) async fn read(
        vault: &Bucket,
        database: &DatabaseName,
        id: BackupId,
    ) -> Result<Self, StoreError> {
        let key = Key::Manifest(database, id).to_string();
        let mut record = Self::default();
        let json = match first_version(vault, &key, &mut record).await {
            Ok(json) => json,
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => {
                let (code, message) = unreadable(&error);
                record.add(code, &key, message);
                return Ok(record);
            }
        };
        record.sha256 = Some(sha256(&json));
        match Manifest::parse(&json) {
            Ok(manifest) => record.manifest = Some(manifest),
            Err(error) => {
                let what = match &error {
                    ManifestError::UnknownFormat { .. } => {
                        format!("{error}; use the version of Lifeboat that wrote it")
                    }
                    ManifestError::Malformed(source) => {
                        format!(
                            "{error} ({source}): it was damaged or changed; restore from another backup"
                        )
                    }
                };
                record.add(Code::ManifestUnreadable, &key, what);
            }
        }
        Ok(record)
    }

    /// Adds a finding where an earlier verdict was about another manifest under the same key:
    /// the commit record never changes.
    ///
    /// # Errors
    ///
    /// The storage does not answer just now.
    pub(crate) async fn check_history(
        &mut self,
        vault: &Bucket,
        database: &DatabaseName,
        id: BackupId,
    ) -> Result<(), StoreError> {
        let verdicts = match vault.list(&verdicts_of_prefix(database, id)).await {
            Err(error) if error.is_transient() => return Err(error),
            // A verdict that cannot be read says nothing against the backup.
            Err(_) => return Ok(()),
            Ok(verdicts) => verdicts,
        };
        let manifest_key = Key::Manifest(database, id).to_string();
        for listed in verdicts.iter().take(VERDICTS_MAX) {
            let json = match vault.get(&listed.key, None, VERDICT_BYTES_MAX).await {
                Err(error) if error.is_transient() => return Err(error),
                Err(_) => continue,
                Ok(json) => json,
            };
            let Ok(verdict) = serde_json::from_slice::<VerdictRecord>(&json) else {
                continue;
            };
            if verdict.manifest_sha256.is_some() && verdict.manifest_sha256 != self.sha256 {
                let message = format!(
                    "the verdict {} was about another manifest: it was changed since; find out who wrote it",
                    listed.key
                );
                self.add(Code::ManifestOverwritten, &manifest_key, message);
                break;
            }
        }
        Ok(())
    }

    /// Adds a finding for each object that whoever reads by key alone does not get: the
    /// documented restore does, and a verdict must hold for it.
    ///
    /// # Errors
    ///
    /// The storage does not answer just now.
    pub(crate) async fn check_hidden(
        &mut self,
        vault: &Bucket,
        manifest: &Manifest,
        prefix: &str,
    ) -> Result<(), StoreError> {
        let versions = match vault.versions_under(prefix).await {
            Err(error) if error.is_transient() => return Err(error),
            // Said of the manifest already, whose versions are listed with the same right.
            Err(_) => return Ok(()),
            Ok(versions) => versions,
        };
        let mut by_key: HashMap<&str, Vec<&Version>> = HashMap::new();
        for version in &versions {
            by_key.entry(&version.key).or_default().push(version);
        }
        for object in &manifest.objects {
            let versions = by_key
                .get(object.key.as_str())
                .map_or(&[][..], Vec::as_slice);
            let own = match &object.version_id {
                Some(id) => versions.iter().position(|it| it.id.as_ref() == Some(id)),
                None => versions.iter().position(|it| !it.is_delete_marker),
            };
            let Some(top) = own.and_then(|own| versions[own + 1..].last()) else {
                continue;
            };
            let (what, remedy) = if top.is_delete_marker {
                ("a delete marker lies", "remove the marker")
            } else {
                ("a later version lies", "find out who wrote it")
            };
            let message = format!(
                "{what} on top of the version that was backed up: reading by key does not give it; {remedy}"
            );
            self.add(Code::ObjectHidden, &object.key, message);
        }
        Ok(())
    }

    /// Adds what is wrong with the link to the backup before.
    ///
    /// A backup before that does not exist any more is no finding: pruning removes the oldest
    /// first, and must not make what follows look damaged.
    ///
    /// # Errors
    ///
    /// The storage does not answer just now.
    pub(crate) async fn check_previous(
        &mut self,
        vault: &Bucket,
        database: &DatabaseName,
        id: BackupId,
        previous: &PreviousBackup,
    ) -> Result<(), StoreError> {
        let key = Key::Manifest(database, previous.backup_id).to_string();
        if previous.backup_id.scheduled_at() >= id.scheduled_at() {
            let message = format!("{id} names a backup before it that is not older");
            self.add(Code::ChainBroken, &key, message);
            return Ok(());
        }
        let mut before = Self::default();
        match first_version(vault, &key, &mut before).await {
            Ok(json) if sha256(&json) == previous.manifest_sha256 => Ok(()),
            Ok(_) => {
                let message = format!(
                    "the manifest of the backup before is not the one that {id} was taken after: one of the two was changed"
                );
                self.add(Code::ChainBroken, &key, message);
                Ok(())
            }
            Err(error) if error.is_transient() => Err(error),
            Err(error) if matches!(error.kind, StoreErrorKind::NotFound) => Ok(()),
            Err(error) => {
                self.add(Code::ObjectUnreadable, &key, error.to_string());
                Ok(())
            }
        }
    }
}

async fn first_version(
    vault: &Bucket,
    key: &str,
    record: &mut CommitRecord,
) -> Result<Vec<u8>, StoreError> {
    let versions = vault.versions(key).await?;
    let written = versions.iter().position(|it| !it.is_delete_marker);
    record.version_id = match written {
        // A bucket without versions lists one without a name.
        Some(at) if versions.len() > 1 || versions[at].id.as_deref() != Some("null") => {
            versions[at].id.clone()
        }
        Some(_) | None => None,
    };
    if written.is_some() {
        add_later_versions(&versions, key, record);
    }
    vault
        .get(key, record.version_id.as_deref(), BYTES_MAX)
        .await
}

fn add_later_versions(versions: &[Version], key: &str, record: &mut CommitRecord) {
    let deleted = versions.iter().filter(|it| it.is_delete_marker).count();
    let later = versions.len() - deleted - 1;
    if later > 0 {
        let message = format!(
            "{later} later versions lie on top of the manifest: this verdict is about the first, {}; find out who wrote the others",
            record.version_id.as_deref().unwrap_or("null")
        );
        record.add(Code::ManifestOverwritten, key, message);
    }
    if deleted > 0 {
        let message = format!(
            "the manifest is hidden by a delete marker: this verdict is about its first version, {}; remove the marker to bring the backup back",
            record.version_id.as_deref().unwrap_or("null")
        );
        record.add(Code::ManifestOverwritten, key, message);
    }
}

fn unreadable(error: &StoreError) -> (Code, String) {
    match &error.kind {
        StoreErrorKind::NotFound => (
            Code::ManifestMissing,
            "there is no manifest: this backup was never committed, or its commit record is lost"
                .to_owned(),
        ),
        StoreErrorKind::TooLarge { max } => (
            Code::ManifestUnreadable,
            format!("the manifest is larger than {max} bytes: it is none that Lifeboat writes"),
        ),
        StoreErrorKind::Damaged(_) => (
            Code::ChecksumDiffers,
            "the manifest's bytes are not those that were written: the storage's own checksum differs; restore from another backup"
                .to_owned(),
        ),
        StoreErrorKind::AlreadyExists
        | StoreErrorKind::Denied(_)
        | StoreErrorKind::Unavailable(_)
        | StoreErrorKind::Rejected(_) => (
            Code::ObjectUnreadable,
            format!(
                "the manifest could not be read, so nothing is known about the backup: {error}"
            ),
        ),
    }
}
