//! Looking at, and tampering with, what lies in the buckets.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use hyper::Method;

use super::{Cloud, CloudError, Inner, S3Backend};
use crate::aws::{AwsError, Call, Credentials, Reply, element, elements, encode_path};

impl Cloud {
    /// Keys and sizes in a bucket, named by logical or physical id, in order.
    pub async fn objects(&self, bucket: &str) -> Result<BTreeMap<String, u64>, CloudError> {
        let bucket = self.physical(bucket).unwrap_or(bucket).to_owned();
        self.on(|inner| async move { Ok(inner.list(&bucket).await?) })
            .await
    }

    /// The bytes of one object.
    pub async fn object(&self, bucket: &str, key: &str) -> Result<Bytes, CloudError> {
        let path = self.object_url_path(bucket, key);
        Ok(self.s3(Method::GET, &path, Bytes::new()).await?.body)
    }

    /// Writes an object past every role and rule, as an attacker or a bit flip would.
    pub async fn overwrite(
        &self,
        bucket: &str,
        key: &str,
        bytes: impl Into<Bytes>,
    ) -> Result<(), CloudError> {
        let path = self.object_url_path(bucket, key);
        let body = bytes.into();
        self.on(|inner| async move {
            // A bucket with Object Lock refuses writes without it.
            let headers = vec![("x-amz-sdk-checksum-algorithm", "CRC32")];
            let call = Call {
                service: "s3",
                action: "PutObject",
                method: Method::PUT,
                path_and_query: &path,
                headers,
                body,
            };
            Ok(inner.aws.checked(call).await.map(drop)?)
        })
        .await
    }

    /// Removes an object past every role and rule.
    pub async fn remove(&self, bucket: &str, key: &str) -> Result<(), CloudError> {
        let path = self.object_url_path(bucket, key);
        self.s3(Method::DELETE, &path, Bytes::new()).await.map(drop)
    }

    /// Any S3 request as whoever deployed; the path is percent-encoded.
    pub async fn s3(
        &self,
        method: Method,
        path_and_query: &str,
        body: Bytes,
    ) -> Result<Reply, CloudError> {
        let path = path_and_query.to_owned();
        self.on(|inner| async move {
            let call = Call {
                service: "s3",
                action: "S3",
                method,
                path_and_query: &path,
                headers: Vec::new(),
                body,
            };
            Ok(inner.aws.checked(call).await?)
        })
        .await
    }

    /// Any S3 request with somebody's keys, whatever the answer's status.
    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of a request, which name themselves"
    )]
    pub async fn s3_as(
        &self,
        credentials: &Credentials,
        method: Method,
        path_and_query: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Reply, CloudError> {
        let (credentials, path) = (credentials.clone(), path_and_query.to_owned());
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        self.on(|inner| async move {
            let headers = headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            let call = Call {
                service: "s3",
                action: "S3",
                method,
                path_and_query: &path,
                headers,
                body,
            };
            Ok(inner.aws.with(credentials).send(call).await?)
        })
        .await
    }

    /// Where an object lies as a plain file; only with the folder.
    pub fn object_file(&self, bucket: &str, key: &str) -> Option<PathBuf> {
        let bucket = self.physical(bucket).unwrap_or(bucket);
        (self.inner.s3 == S3Backend::Folder)
            .then(|| self.inner.home.join("s3").join(bucket).join(key))
    }

    fn object_url_path(&self, bucket: &str, key: &str) -> String {
        encode_path(&format!(
            "/{}/{key}",
            self.physical(bucket).unwrap_or(bucket)
        ))
    }
}

impl Inner {
    async fn list(&self, bucket: &str) -> Result<BTreeMap<String, u64>, AwsError> {
        let mut objects = BTreeMap::new();
        let mut after = String::new();
        loop {
            let path = format!(
                "/{bucket}?list-type=2&start-after={}",
                encode_path(&after).replace('/', "%2F")
            );
            let call = Call {
                service: "s3",
                action: "ListObjectsV2",
                method: Method::GET,
                path_and_query: &path,
                headers: Vec::new(),
                body: Bytes::new(),
            };
            let reply = self.aws.checked(call).await?;
            let xml = String::from_utf8_lossy(&reply.body);
            for entry in elements(&xml, "Contents") {
                let size = element(entry, "Size")
                    .and_then(|size| size.parse().ok())
                    .unwrap_or_default();
                objects.insert(element(entry, "Key").unwrap_or_default(), size);
            }
            let last = objects.keys().next_back().cloned().unwrap_or_default();
            if element(&xml, "IsTruncated").as_deref() != Some("true") || last == after {
                return Ok(objects);
            }
            after = last;
        }
    }
}
