//! S3: bytes by key, and nothing that knows what they mean.

use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::ResponseChecksumValidation;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
pub use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumMode, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;

use crate::aws::reason;
use crate::error::{Name, chain};

mod lock;
mod versions;

pub use lock::Lock;
pub use versions::Version;

/// One bucket. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bucket {
    client: Client,
    name: String,
}

#[derive(Debug, thiserror::Error)]
#[error("{operation} {key}: {kind}")]
pub struct StoreError {
    pub operation: &'static str,
    pub key: String,
    #[source]
    pub kind: StoreErrorKind,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreErrorKind {
    #[error("there is no such object")]
    NotFound,
    /// A conditional write found the key taken.
    #[error("the key is taken already")]
    AlreadyExists,
    #[error("access denied: {0}")]
    Denied(String),
    /// The bytes are not those that were written.
    #[error("the storage's own checksum does not match its bytes: {0}")]
    Damaged(String),
    #[error("larger than the {max} bytes expected at most")]
    TooLarge { max: u64 },
    /// The SDK's own retries are used up; the same call may succeed later.
    #[error("{0}")]
    Unavailable(String),
    #[error("{0}")]
    Rejected(String),
}

impl StoreError {
    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, StoreErrorKind::Unavailable(_))
    }

    /// What the state machine is told.
    pub fn name(&self) -> Name {
        match &self.kind {
            StoreErrorKind::Unavailable(_) => Name::Transient,
            // The role, or the key's policy, has to change.
            StoreErrorKind::Denied(_) => Name::Refused,
            StoreErrorKind::NotFound
            | StoreErrorKind::AlreadyExists
            | StoreErrorKind::Damaged(_)
            | StoreErrorKind::TooLarge { .. }
            | StoreErrorKind::Rejected(_) => Name::Failed,
        }
    }
}

/// Where a write ended up. The version is unknown on storage without versions and when an
/// answer was lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    pub version_id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub key: String,
    pub bytes: u64,
}

/// An open multipart upload. Nothing exists under its key until it is completed.
#[derive(Debug)]
pub struct Upload {
    pub key: String,
    id: String,
}

/// One uploaded part, numbered from 1.
#[derive(Clone, Debug)]
pub struct Part {
    number: i32,
    etag: String,
    checksum_crc64nvme: Option<String>,
    checksum_crc32: Option<String>,
}

impl Part {
    pub fn number(&self) -> i32 {
        self.number
    }
}

/// What a browser does with it; a key without one of these endings is no business of a browser.
fn content_type(key: &str) -> Option<&'static str> {
    match key.rsplit_once('.')?.1 {
        "html" => Some("text/html; charset=utf-8"),
        "json" => Some("application/json"),
        "sql" | "txt" => Some("text/plain; charset=utf-8"),
        _ => None,
    }
}

impl Bucket {
    pub fn new(aws: &SdkConfig, name: String) -> Self {
        let config = aws_sdk_s3::config::Builder::from(aws)
            // An endpoint of one's own has no host name per bucket.
            .force_path_style(aws.endpoint_url().is_some())
            // What is read is held against the manifest's SHA-256; the storage's own checksum
            // would only turn damage into an error of the connection.
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .build();
        Self {
            client: Client::from_conf(config),
            name,
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes, unless the key is taken.
    pub async fn put_once(&self, key: &str, bytes: Bytes) -> Result<Written, StoreError> {
        let put = self.client.put_object().bucket(&self.name).key(key);
        let put = put.set_content_type(content_type(key).map(str::to_owned));
        let answer = put.if_none_match("*").body(bytes.into()).send().await;
        let answer = answer.map_err(|error| failed("write", key, &error))?;
        Ok(Written {
            version_id: answer.version_id,
        })
    }

    /// Reads an object whole, refusing one above `bytes_max`.
    ///
    /// Where the storage keeps a checksum, the bytes are held against it: what is read this
    /// way has no other.
    pub async fn get(
        &self,
        key: &str,
        version_id: Option<&str>,
        bytes_max: u64,
    ) -> Result<Vec<u8>, StoreError> {
        Ok(self.get_version(key, version_id, bytes_max).await?.0)
    }

    /// The same, and which version it is: where none is named, the newest.
    pub async fn get_version(
        &self,
        key: &str,
        version_id: Option<&str>,
        bytes_max: u64,
    ) -> Result<(Vec<u8>, Option<String>), StoreError> {
        let get = self.client.get_object().bucket(&self.name).key(key);
        let get = get.set_version_id(version_id.map(str::to_owned));
        let answer = get.checksum_mode(ChecksumMode::Enabled).send().await;
        let answer = answer.map_err(|error| failed("read", key, &error))?;
        let error = |kind| StoreError {
            operation: "read",
            key: key.to_owned(),
            kind,
        };
        let length = answer.content_length().unwrap_or_default();
        if u64::try_from(length).unwrap_or_default() > bytes_max {
            return Err(error(StoreErrorKind::TooLarge { max: bytes_max }));
        }
        let (mut body, mut bytes) = (answer.body, Vec::new());
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|it| error(broken_off(&it)))?;
            bytes.extend_from_slice(&piece);
        }
        Ok((bytes, answer.version_id))
    }

    /// Starts reading an object at the byte `from`: its body, and the length that the storage
    /// says this body has.
    pub async fn open(
        &self,
        key: &str,
        version_id: Option<&str>,
        from: u64,
    ) -> Result<(ByteStream, u64), StoreError> {
        let get = self.client.get_object().bucket(&self.name).key(key);
        let answer = get
            .set_version_id(version_id.map(str::to_owned))
            // An empty object has no range at all.
            .set_range((from > 0).then(|| format!("bytes={from}-")))
            .send()
            .await;
        let answer = answer.map_err(|error| failed("read", key, &error))?;
        let length = answer.content_length().unwrap_or_default();
        Ok((answer.body, u64::try_from(length).unwrap_or_default()))
    }

    /// Every object under `prefix`, in key order.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        let list = self.client.list_objects_v2().bucket(&self.name);
        let mut pages = list.prefix(prefix).into_paginator().send();
        let mut listed = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| failed("list", prefix, &error))?;
            for object in page.contents.unwrap_or_default() {
                let bytes = u64::try_from(object.size.unwrap_or_default()).unwrap_or_default();
                if let Some(key) = object.key {
                    listed.push(Listed { key, bytes });
                }
            }
        }
        Ok(listed)
    }

    /// The names between `prefix` and the next `/`, each once, in order: what lies below them
    /// costs no requests.
    pub async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let list = self.client.list_objects_v2().bucket(&self.name);
        let list = list.prefix(prefix).delimiter("/");
        let mut pages = list.into_paginator().send();
        let mut folders = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| failed("list", prefix, &error))?;
            let below = page.common_prefixes.unwrap_or_default();
            folders.extend(below.iter().filter_map(|it| {
                let name = it.prefix()?.strip_prefix(prefix)?;
                name.strip_suffix('/').map(str::to_owned)
            }));
        }
        Ok(folders)
    }

    pub async fn create_upload(&self, key: &str) -> Result<Upload, StoreError> {
        let create = self.client.create_multipart_upload().bucket(&self.name);
        let answer = create.key(key).send().await;
        let answer = answer.map_err(|error| failed("begin upload of", key, &error))?;
        let id = answer.upload_id.ok_or_else(|| StoreError {
            operation: "begin upload of",
            key: key.to_owned(),
            kind: StoreErrorKind::Rejected("the storage gave no upload id".to_owned()),
        })?;
        Ok(Upload {
            key: key.to_owned(),
            id,
        })
    }

    /// Uploads one part; repeating it with the same number and bytes changes nothing.
    pub async fn upload_part(
        &self,
        upload: &Upload,
        number: i32,
        bytes: Bytes,
    ) -> Result<Part, StoreError> {
        let part = self.client.upload_part().bucket(&self.name);
        let part = part.key(&upload.key).upload_id(&upload.id);
        let answer = part.part_number(number).body(bytes.into()).send().await;
        let answer = answer.map_err(|error| failed("upload a part of", &upload.key, &error))?;
        let etag = answer.e_tag.ok_or_else(|| StoreError {
            operation: "upload a part of",
            key: upload.key.clone(),
            kind: StoreErrorKind::Rejected("the storage gave no ETag".to_owned()),
        })?;
        Ok(Part {
            number,
            etag,
            checksum_crc64nvme: answer.checksum_crc64_nvme,
            checksum_crc32: answer.checksum_crc32,
        })
    }

    /// Makes the object exist.
    ///
    /// The key is of this attempt alone. So where the answer to an earlier try was lost, and
    /// the storage now says that the key is taken or the upload unknown, our own try succeeded.
    pub async fn complete(
        &self,
        upload: &Upload,
        parts: Vec<Part>,
        stored_bytes: u64,
    ) -> Result<Written, StoreError> {
        let parts = parts.into_iter().map(|part| {
            CompletedPart::builder()
                .part_number(part.number)
                .e_tag(part.etag)
                .set_checksum_crc64_nvme(part.checksum_crc64nvme)
                .set_checksum_crc32(part.checksum_crc32)
                .build()
        });
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts.collect()));
        let complete = self.client.complete_multipart_upload().bucket(&self.name);
        let complete = complete.key(&upload.key).upload_id(&upload.id);
        // The storage compares this with what it put together.
        let complete = complete.mpu_object_size(i64::try_from(stored_bytes).unwrap_or(i64::MAX));
        let answer = complete
            .if_none_match("*")
            .multipart_upload(parts.build())
            .send()
            .await;
        match answer {
            Ok(answer) => Ok(Written {
                version_id: answer.version_id,
            }),
            Err(error) if matches!(error.code(), Some("NoSuchUpload" | "PreconditionFailed")) => {
                Ok(Written::default())
            }
            Err(error) => Err(failed("complete", &upload.key, &error)),
        }
    }

    /// Forgets the upload and its parts.
    pub async fn abort(&self, upload: &Upload) -> Result<(), StoreError> {
        let abort = self.client.abort_multipart_upload().bucket(&self.name);
        let answer = abort.key(&upload.key).upload_id(&upload.id).send().await;
        match answer {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("NoSuchUpload") => Ok(()),
            Err(error) => Err(failed("abort upload of", &upload.key, &error)),
        }
    }
}

/// A checksum that does not match ends a body as a lost connection does.
fn broken_off(error: &(dyn std::error::Error + 'static)) -> StoreErrorKind {
    let text = chain(error);
    if text.contains("checksum mismatch") {
        StoreErrorKind::Damaged(text)
    } else {
        StoreErrorKind::Unavailable(text)
    }
}

fn failed<E>(operation: &'static str, key: &str, error: &SdkError<E>) -> StoreError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let status = error.raw_response().map(|it| it.status().as_u16());
    let text = reason(error);
    let kind = match (error.code(), status) {
        (Some("NoSuchKey" | "NotFound" | "NoSuchVersion"), _) | (None, Some(404)) => {
            StoreErrorKind::NotFound
        }
        (Some("PreconditionFailed"), _) | (None, Some(412)) => StoreErrorKind::AlreadyExists,
        // A clock or a token that is off is cured by the next invocation.
        (Some("RequestTimeTooSkewed" | "ExpiredToken"), _) => StoreErrorKind::Unavailable(text),
        (_, Some(403)) => StoreErrorKind::Denied(text),
        (_, Some(status)) if status < 500 && status != 409 && status != 429 && status >= 400 => {
            StoreErrorKind::Rejected(text)
        }
        _ => StoreErrorKind::Unavailable(text),
    };
    StoreError {
        operation,
        key: key.to_owned(),
        kind,
    }
}
