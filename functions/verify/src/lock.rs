//! Keeps what passed from being deleted for longer than the bucket's short default.

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use shared::manifest::Manifest;
use shared::store::{Bucket, Lock, StoreError};
use tokio::task::JoinSet;

use crate::commit_record::CommitRecord;

/// They wait for answers, not for bytes.
const AT_ONCE: usize = 16;

/// Key and version of one object.
pub(crate) type Version = (String, Option<String>);

pub(crate) struct LockOrder<'a> {
    pub(crate) vault: &'a Bucket,
    /// Key, and what was read under it.
    pub(crate) manifest: (String, &'a CommitRecord),
    pub(crate) objects: &'a [Version],
    pub(crate) until: Timestamp,
}

pub(crate) fn versions(manifest: &Manifest) -> Vec<Version> {
    let objects = manifest.objects.iter();
    objects
        .map(|it| (it.key.clone(), it.version_id.clone()))
        .collect()
}

pub(crate) fn lock_until(now: Timestamp, days: u32) -> Timestamp {
    let days = SignedDuration::from_hours(24 * i64::from(days));
    now.checked_add(days).unwrap_or(Timestamp::MAX)
}

impl LockOrder<'_> {
    /// Extends the locks, and says how many objects are left for the next invocation.
    ///
    /// The manifest comes last: a lock on it that is long enough says that all others have
    /// theirs. In a bucket that locks nothing there is nothing to extend.
    pub(crate) async fn carry_out(
        &self,
        n_locked: &mut usize,
        until: Instant,
    ) -> Result<usize, StoreError> {
        let (key, record) = &self.manifest;
        let version_id = record.version_id.as_deref();
        let Some(lock) = self.vault.lock(key, version_id).await? else {
            return Ok(0);
        };
        if lock.until >= self.until {
            return Ok(0);
        }
        let lock = lock.ending(self.until);
        while *n_locked < self.objects.len() {
            if Instant::now() >= until {
                return Ok(self.objects.len() - *n_locked);
            }
            let end = self.objects.len().min(*n_locked + AT_ONCE);
            self.lock_all(&self.objects[*n_locked..end], &lock).await?;
            *n_locked = end;
        }
        self.vault.put_lock(key, version_id, &lock).await?;
        Ok(0)
    }

    async fn lock_all(&self, objects: &[Version], lock: &Lock) -> Result<(), StoreError> {
        let mut tasks = JoinSet::new();
        for object in objects {
            let (vault, lock) = (self.vault.clone(), lock.clone());
            let (key, version_id) = object.clone();
            tasks.spawn(async move { vault.put_lock(&key, version_id.as_deref(), &lock).await });
        }
        for done in tasks.join_all().await {
            done?;
        }
        Ok(())
    }
}
