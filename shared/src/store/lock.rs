//! Object Lock: until when a version can be deleted by nobody.

use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{ObjectLockMode, ObjectLockRetention, ObjectLockRetentionMode};
use jiff::Timestamp;

use super::{Bucket, StoreError, StoreErrorKind, failed};

/// The lock on one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    mode: ObjectLockMode,
    pub until: Timestamp,
}

impl Lock {
    /// The same kind of lock, ending at another time.
    pub fn ending(&self, until: Timestamp) -> Self {
        Self {
            mode: self.mode.clone(),
            until,
        }
    }
}

impl Bucket {
    /// The lock that a version has; `None` in a bucket that locks nothing.
    ///
    /// A role without `s3:GetObjectRetention` is told `None` too.
    pub async fn lock(
        &self,
        key: &str,
        version_id: Option<&str>,
    ) -> Result<Option<Lock>, StoreError> {
        let head = self.client.head_object().bucket(&self.name).key(key);
        let head = head.set_version_id(version_id.map(str::to_owned));
        let answer = head.send().await;
        let answer = answer.map_err(|error| failed("read the lock of", key, &error))?;
        let until = answer.object_lock_retain_until_date;
        let until = until.and_then(|at| Timestamp::from_second(at.secs()).ok());
        Ok(answer
            .object_lock_mode
            .zip(until)
            .map(|(mode, until)| Lock { mode, until }))
    }

    /// Puts a lock on a version. Repeating it changes nothing; a shorter one than there is
    /// already is refused by the storage.
    pub async fn put_lock(
        &self,
        key: &str,
        version_id: Option<&str>,
        lock: &Lock,
    ) -> Result<(), StoreError> {
        let retention = ObjectLockRetention::builder()
            .mode(ObjectLockRetentionMode::from(lock.mode.as_str()))
            .retain_until_date(DateTime::from_secs(lock.until.as_second()))
            .build();
        let put = self.client.put_object_retention().bucket(&self.name);
        let put = put.key(key).set_version_id(version_id.map(str::to_owned));
        match put.retention(retention).send().await {
            Ok(_) => Ok(()),
            Err(error) => {
                let mut error = failed("lock", key, &error);
                if let StoreErrorKind::Denied(text) = &mut error.kind {
                    text.push_str(
                        " (is lock_days above the stack's LockDaysMax, or below what it was before?)",
                    );
                }
                Err(error)
            }
        }
    }
}
