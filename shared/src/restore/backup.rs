//! A backup, opened for restoring: its manifest and its table of contents, both checked.

use std::fmt;
use std::io::Cursor;
use std::sync::Arc;

use age::x25519::Identity;
use sha2::{Digest as _, Sha256};

use super::RestoreError;
use crate::archive::{TableOfContents, read_directory};
use crate::backup::{BackupId, DatabaseName};
use crate::key::Key;
use crate::manifest::{self, Content, Manifest, Object};
use crate::opened::{Opened, Stored};
use crate::sealed::hex;
use crate::store::{Bucket, StoreError, StoreErrorKind};

/// No table of contents is larger.
const TOC_BYTES_MAX: u64 = 1 << 30;

/// Reads the vault, never writes it. Cheap to clone.
#[derive(Clone)]
pub struct Backup {
    pub manifest: Arc<Manifest>,
    /// Of the manifest's bytes as they were read.
    pub manifest_sha256: String,
    /// Without entries in a backup that was opened for single tables.
    pub toc: Arc<TableOfContents>,
    /// Stored bytes that opening it took.
    pub opened_bytes: u64,
    pub(super) vault: Bucket,
    pub(super) identities: Arc<[Identity]>,
}

impl fmt::Debug for Backup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backup")
            .field("backup_id", &self.manifest.backup_id)
            .finish_non_exhaustive()
    }
}

impl Backup {
    /// Reads the manifest and the table of contents, and holds the latter against the
    /// former's SHA-256.
    pub async fn open(
        vault: &Bucket,
        identities: Arc<[Identity]>,
        database: &DatabaseName,
        id: BackupId,
    ) -> Result<Self, RestoreError> {
        let mut backup = Self::open_for_tables(vault, identities, database, id).await?;
        let is_toc = |it: &&Object| it.content == Content::TableOfContents;
        let manifest = Arc::clone(&backup.manifest);
        let Some(object) = manifest.objects.iter().find(is_toc) else {
            return Err(RestoreError::Damaged {
                key: Key::Manifest(database, id).to_string(),
                what: "it names no table of contents".to_owned(),
            });
        };
        backup.toc = Arc::new(backup.read_toc(object).await?);
        backup.opened_bytes += object.stored_bytes;
        Ok(backup)
    }

    /// Reads the manifest only: enough for [`super::Scope::Tables`], whose tables are built
    /// from it.
    pub async fn open_for_tables(
        vault: &Bucket,
        identities: Arc<[Identity]>,
        database: &DatabaseName,
        id: BackupId,
    ) -> Result<Self, RestoreError> {
        let key = Key::Manifest(database, id).to_string();
        let read = first_version(vault, &key).await;
        let json = read.map_err(|source| match source.kind {
            StoreErrorKind::NotFound => RestoreError::NoBackup {
                database: database.clone(),
                id,
            },
            StoreErrorKind::AlreadyExists
            | StoreErrorKind::Denied(_)
            | StoreErrorKind::Damaged(_)
            | StoreErrorKind::TooLarge { .. }
            | StoreErrorKind::Unavailable(_)
            | StoreErrorKind::Rejected(_) => RestoreError::Store(source),
        })?;
        let manifest = Manifest::parse(&json);
        let manifest = manifest.map_err(|source| RestoreError::Manifest { id, source })?;
        if manifest.backup_id != id || manifest.database != *database {
            let (found, of) = (manifest.backup_id, &manifest.database);
            return Err(RestoreError::Damaged {
                key,
                what: format!("it is the manifest of {found} of {of}"),
            });
        }
        Ok(Self {
            manifest: Arc::new(manifest),
            manifest_sha256: hex(&Sha256::digest(&json)),
            toc: Arc::new(nothing()),
            opened_bytes: json.len() as u64,
            vault: vault.clone(),
            identities,
        })
    }

    async fn read_toc(&self, object: &Object) -> Result<TableOfContents, RestoreError> {
        let id = self.manifest.backup_id;
        let version = object.version_id.as_deref();
        let bytes = self.vault.get(&object.key, version, TOC_BYTES_MAX).await;
        let bytes = bytes.map_err(RestoreError::Store)?;
        let identities = Arc::clone(&self.identities);
        let object = object.clone();
        let read = tokio::task::spawn_blocking(move || {
            let damaged = |what: &str| RestoreError::Damaged {
                key: object.key.clone(),
                what: what.to_owned(),
            };
            if hex(&Sha256::digest(&bytes)) != object.sha256 {
                return Err(damaged("its SHA-256 is another"));
            }
            let mut stored = Stored::new(Cursor::new(bytes), object.stored_bytes);
            let opened = Opened::new(&mut stored, &identities, false);
            let opened = opened.map_err(|fault| damaged(super::load::words(fault.kind)))?;
            read_directory(std::io::BufReader::new(opened))
                .map_err(|source| RestoreError::Archive { id, source })
        });
        let read = read.await;
        read.map_err(|error| RestoreError::Internal(error.to_string()))?
    }
}

/// Mostly there is no other, and the newest is read while it is asked which is the first.
async fn first_version(vault: &Bucket, key: &str) -> Result<Vec<u8>, StoreError> {
    let (first, newest) = tokio::join!(
        vault.first_version_id(key),
        vault.get_version(key, None, manifest::BYTES_MAX)
    );
    let first = first?;
    match newest {
        Ok((bytes, version)) if first.is_none() || first == version => Ok(bytes),
        Err(error) if first.is_none() => Err(error),
        // Something lies on top of it, or is in the way of who names no version.
        Ok(_) | Err(_) => {
            let first = first.as_deref();
            vault.get(key, first, manifest::BYTES_MAX).await
        }
    }
}

fn nothing() -> TableOfContents {
    TableOfContents {
        version: (1, 14, 0),
        int_size: 4,
        offset_size: 8,
        created: [0; 7],
        database: None,
        server_version: None,
        pg_dump_version: None,
        entries: Vec::new(),
    }
}
