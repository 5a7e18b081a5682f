//! What lies below the newest version of a key.

use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::primitives::DateTime;

use super::{Bucket, StoreError, failed};

/// One version of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub key: String,
    /// `null` for what was written while the bucket kept no versions.
    pub id: Option<String>,
    /// Hides the versions below from whoever names none.
    pub is_delete_marker: bool,
}

impl Bucket {
    /// Everything that was ever written under `key`, oldest first; nothing on storage that
    /// keeps no versions.
    pub async fn versions(&self, key: &str) -> Result<Vec<Version>, StoreError> {
        let mut versions = self.versions_under(key).await?;
        versions.retain(|it| it.key == key);
        Ok(versions)
    }

    /// The version that a key written with `If-None-Match` got: whatever lies on top of it came
    /// later. None where the storage keeps no versions, or nothing was written.
    pub async fn first_version_id(&self, key: &str) -> Result<Option<String>, StoreError> {
        let versions = self.versions(key).await?;
        let first = versions.iter().find(|it| !it.is_delete_marker);
        let first = first.and_then(|it| it.id.clone());
        // A bucket without versions lists one without a name.
        Ok(first.filter(|it| *it != "null" || versions.len() > 1))
    }

    /// The same for all keys under `prefix`, in key order.
    pub async fn versions_under(&self, prefix: &str) -> Result<Vec<Version>, StoreError> {
        let mut versions = Vec::new();
        let (mut key_marker, mut version_marker) = (None, None);
        loop {
            let list = self.client.list_object_versions().bucket(&self.name);
            let list = list.prefix(prefix).set_key_marker(key_marker);
            let page = list.set_version_id_marker(version_marker).send().await;
            let page = match page {
                Err(error) if error.code() == Some("NotImplemented") => return Ok(vec![]),
                page => page.map_err(|error| failed("list the versions of", prefix, &error))?,
            };
            let written = page.versions.unwrap_or_default().into_iter();
            let written = written.map(|it| (it.key, it.last_modified, it.version_id, false));
            let deleted = page.delete_markers.unwrap_or_default().into_iter();
            let deleted = deleted.map(|it| (it.key, it.last_modified, it.version_id, true));
            versions.extend(written.chain(deleted));
            if page.is_truncated != Some(true) || page.next_key_marker.is_none() {
                break;
            }
            (key_marker, version_marker) = (page.next_key_marker, page.next_version_id_marker);
        }
        // Listed newest first: that order decides among the versions of one second.
        versions.reverse();
        versions.sort_by(|(a, a_at, ..), (b, b_at, ..)| {
            let seconds = |at: &Option<DateTime>| at.map(|it| it.secs());
            (a, seconds(a_at)).cmp(&(b, seconds(b_at)))
        });
        let version = |(key, _, id, is_delete_marker): (Option<String>, _, _, _)| Version {
            key: key.unwrap_or_default(),
            id,
            is_delete_marker,
        };
        Ok(versions.into_iter().map(version).collect())
    }
}
