//! S3 over a plain folder: `s3s-fs`, with what it leaves inexact put right.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;

use super::writers::Writers;

/// `s3s-fs` keeps a record per upload whose name holds the whole key; longer names do not fit a file system.
const KEY_BYTES_MAX: usize = 64;

/// The folder, its inexact operations wrapped.
pub(super) struct ExactS3 {
    folder: FileSystem,
    root: PathBuf,
    writers: Writers,
    /// Bucket and key of every upload that is neither completed nor aborted, by id; `s3s-fs` does not list them.
    open_uploads: Mutex<BTreeMap<String, (String, String)>>,
}

impl ExactS3 {
    pub(super) fn new(root: &Path) -> std::io::Result<Self> {
        let folder =
            FileSystem::new(root).map_err(|error| std::io::Error::other(format!("{error:?}")))?;
        abort_uploads(root)?;
        Ok(Self {
            folder,
            root: root.to_owned(),
            writers: Writers::default(),
            open_uploads: Mutex::default(),
        })
    }

    /// AWS says NoSuchUpload where `s3s-fs` would say AccessDenied.
    async fn upload_exists(&self, upload_id: &str) -> S3Result<()> {
        let known = upload_id
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
            && tokio::fs::try_exists(self.root.join(format!(".upload-{upload_id}.json")))
                .await
                .unwrap_or(false);
        if known {
            Ok(())
        } else {
            Err(s3_error!(NoSuchUpload))
        }
    }

    fn open_uploads(&self) -> MutexGuard<'_, BTreeMap<String, (String, String)>> {
        self.open_uploads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn bucket_exists(&self, bucket: &str) -> S3Result<()> {
        let known = tokio::fs::try_exists(self.root.join(bucket))
            .await
            .unwrap_or(false);
        if known {
            Ok(())
        } else {
            Err(s3_error!(NoSuchBucket))
        }
    }

    /// Removes the record of an upload that was begun under a short name.
    async fn forget(&self, upload_id: &str) {
        let Ok(mut entries) = tokio::fs::read_dir(&self.root).await else {
            return;
        };
        let suffix = format!(".upload-{upload_id}.metadata.json");
        while let Ok(Some(entry)) = entries.next_entry().await {
            if entry.file_name().to_string_lossy().ends_with(&suffix) {
                let _already_gone = tokio::fs::remove_file(entry.path()).await;
            }
        }
    }
}

/// Removes uploads that nobody can complete any more, as a bucket's lifecycle does after a day.
fn abort_uploads(root: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_record = name.starts_with(".bucket-") && name.contains(".upload-");
        if name.starts_with(".upload") || is_record {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// A name for the upload's record in place of a key that is too long for one.
fn short(key: &str) -> String {
    if key.len() <= KEY_BYTES_MAX {
        key.to_owned()
    } else {
        "long".to_owned()
    }
}

#[async_trait::async_trait]
impl S3 for ExactS3 {
    async fn put_object(
        &self,
        request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        self.bucket_exists(&request.input.bucket).await?;
        let key = format!("{}/{}", request.input.bucket, request.input.key);
        let _alone = self.writers.alone(key).await;
        self.folder.put_object(request).await
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let (upload_id, long) = (
            request.input.upload_id.clone(),
            request.input.key.len() > KEY_BYTES_MAX,
        );
        let key = format!("{}/{}", request.input.bucket, request.input.key);
        let _alone = self.writers.alone(key).await;
        self.upload_exists(&upload_id).await?;
        let response = self.folder.complete_multipart_upload(request).await?;
        self.open_uploads().remove(&upload_id);
        if long {
            self.forget(&upload_id).await;
        }
        Ok(response)
    }

    async fn create_multipart_upload(
        &self,
        mut request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        self.bucket_exists(&request.input.bucket).await?;
        let (bucket, key) = (request.input.bucket.clone(), request.input.key.clone());
        request.input.key = short(&key);
        let mut response = self.folder.create_multipart_upload(request).await?;
        if let Some(upload_id) = &response.output.upload_id {
            self.open_uploads()
                .insert(upload_id.clone(), (bucket, key.clone()));
        }
        response.output.key = Some(key);
        Ok(response)
    }

    async fn upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        self.upload_exists(&request.input.upload_id).await?;
        self.folder.upload_part(request).await
    }

    async fn abort_multipart_upload(
        &self,
        mut request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.upload_exists(&request.input.upload_id).await?;
        request.input.key = short(&request.input.key);
        let upload_id = request.input.upload_id.clone();
        let response = self.folder.abort_multipart_upload(request).await?;
        self.open_uploads().remove(&upload_id);
        Ok(response)
    }

    /// Those of this cloud's own time, all of them in one page.
    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        self.bucket_exists(&request.input.bucket).await?;
        let (wanted, prefix) = (
            request.input.bucket,
            request.input.prefix.unwrap_or_default(),
        );
        let open = self.open_uploads();
        let matching = open
            .iter()
            .filter(|(_, (bucket, key))| *bucket == wanted && key.starts_with(&prefix));
        let uploads = matching.map(|(upload_id, (_, key))| MultipartUpload {
            key: Some(key.clone()),
            upload_id: Some(upload_id.clone()),
            ..MultipartUpload::default()
        });
        let uploads = Some(uploads.collect());
        Ok(S3Response::new(ListMultipartUploadsOutput {
            bucket: Some(wanted.clone()),
            is_truncated: Some(false),
            uploads,
            ..ListMultipartUploadsOutput::default()
        }))
    }

    async fn list_parts(
        &self,
        request: S3Request<ListPartsInput>,
    ) -> S3Result<S3Response<ListPartsOutput>> {
        self.upload_exists(&request.input.upload_id).await?;
        self.folder.list_parts(request).await
    }

    async fn create_bucket(
        &self,
        request: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        self.folder.create_bucket(request).await
    }

    async fn head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        self.folder.head_bucket(request).await
    }

    async fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.folder.get_bucket_location(request).await
    }

    async fn list_buckets(
        &self,
        request: S3Request<ListBucketsInput>,
    ) -> S3Result<S3Response<ListBucketsOutput>> {
        self.folder.list_buckets(request).await
    }

    async fn get_object(
        &self,
        request: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        self.folder.get_object(request).await
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        self.folder.head_object(request).await
    }

    async fn copy_object(
        &self,
        request: S3Request<CopyObjectInput>,
    ) -> S3Result<S3Response<CopyObjectOutput>> {
        self.folder.copy_object(request).await
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.folder.delete_object(request).await
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        self.folder.delete_objects(request).await
    }

    async fn list_objects(
        &self,
        request: S3Request<ListObjectsInput>,
    ) -> S3Result<S3Response<ListObjectsOutput>> {
        self.folder.list_objects(request).await
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        self.folder.list_objects_v2(request).await
    }
}
