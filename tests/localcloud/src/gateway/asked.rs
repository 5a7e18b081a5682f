//! What a request asks for, in IAM's words: the action, the resource, the condition keys. Pure.

use std::collections::BTreeMap;

use hyper::{HeaderMap, Method};
use serde_json::Value;

use crate::aws::{ACCOUNT, REGION};
use crate::iam::Request;
use crate::lambda_host::{function_of, percent_decode};

/// The parts of a request that decide where it goes and what it asks.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    pub(super) method: Method,
    /// As sent: percent-encoded.
    pub(super) path: String,
    pub(super) query: String,
    pub(super) headers: HeaderMap,
}

impl Parts {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// Access key and service of the signature, in the header or in a presigned query.
    pub(super) fn signed_for(&self) -> Option<(String, String)> {
        let authorization = self.header("authorization");
        let scope = match authorization.split_once("Credential=") {
            Some((_, rest)) => rest.split(',').next()?.trim().to_owned(),
            None => percent_decode(self.parameter("X-Amz-Credential")?),
        };
        let mut scope = scope.split('/');
        Some((scope.next()?.to_owned(), scope.nth(2)?.to_owned()))
    }

    /// A query parameter as sent; present without a value is empty.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query
            .split('&')
            .find_map(|pair| match pair.split_once('=') {
                Some((key, value)) => (key == name).then_some(value),
                None => (pair == name).then_some(""),
            })
    }
}

/// The IAM request behind an HTTP request to `service`.
pub(super) fn asked(service: &str, parts: &Parts, body: &[u8]) -> Request {
    let mut request = match service {
        "s3" => s3(parts, body),
        "lambda" => lambda(parts),
        _ => named(service, parts, body),
    };
    request
        .context
        .insert("aws:securetransport".into(), "true".into());
    request
}

fn s3(parts: &Parts, body: &[u8]) -> Request {
    let path = percent_decode(&parts.path);
    let (bucket, key) = path
        .trim_start_matches('/')
        .split_once('/')
        .unwrap_or((path.trim_start_matches('/'), ""));
    let has = |name| parts.parameter(name).is_some();
    let action = s3_action(parts, bucket, key);
    // A copy, a put or a completion creates the object; starting an upload and sending parts do not.
    let creates = action == "PutObject" && !has("uploads") && !has("partNumber");
    let mut context = BTreeMap::new();
    context.insert("s3:objectcreationoperation".to_owned(), creates.to_string());
    for (header, key) in [
        ("if-none-match", "s3:if-none-match"),
        (
            "x-amz-server-side-encryption",
            "s3:x-amz-server-side-encryption",
        ),
        (
            "x-amz-server-side-encryption-aws-kms-key-id",
            "s3:x-amz-server-side-encryption-aws-kms-key-id",
        ),
        (
            "x-amz-server-side-encryption-customer-algorithm",
            "s3:x-amz-server-side-encryption-customer-algorithm",
        ),
        ("x-amz-object-lock-mode", "s3:object-lock-mode"),
        ("x-amz-acl", "s3:x-amz-acl"),
    ] {
        if !parts.header(header).is_empty() {
            context.insert(key.to_owned(), parts.header(header).to_owned());
        }
    }
    if let Some(prefix) = parts.parameter("prefix") {
        context.insert("s3:prefix".to_owned(), percent_decode(prefix));
    }
    if action == "PutObjectRetention"
        && let Some(days) = remaining_days(body)
    {
        let key = "s3:object-lock-remaining-retention-days".to_owned();
        context.insert(key, days.to_string());
    }
    let resource = if key.is_empty() {
        format!("arn:aws:s3:::{bucket}")
    } else {
        format!("arn:aws:s3:::{bucket}/{key}")
    };
    Request {
        action: format!("s3:{action}"),
        resource,
        context,
    }
}

fn s3_action(parts: &Parts, bucket: &str, key: &str) -> &'static str {
    let has = |name| parts.parameter(name).is_some();
    let versioned = has("versionId");
    match (&parts.method, key.is_empty()) {
        (_, true) if bucket.is_empty() => "ListAllMyBuckets",
        (&Method::GET, true) if has("versions") => "ListBucketVersions",
        (&Method::GET, true) if has("uploads") => "ListBucketMultipartUploads",
        (&Method::GET, true) if has("versioning") => "GetBucketVersioning",
        (&Method::GET, true) if has("object-lock") => "GetBucketObjectLockConfiguration",
        (&Method::GET, true) if has("location") => "GetBucketLocation",
        (&Method::GET | &Method::HEAD, true) => "ListBucket",
        (&Method::POST, true) if has("delete") => "DeleteObject",
        (&Method::PUT, true) if parts.query.is_empty() => "CreateBucket",
        (&Method::DELETE, true) => "DeleteBucket",
        (_, true) => "PutBucketConfiguration",
        (&Method::PUT, _) if has("retention") => "PutObjectRetention",
        (&Method::GET, _) if has("retention") => "GetObjectRetention",
        (&Method::PUT, _) if has("legal-hold") => "PutObjectLegalHold",
        (&Method::PUT, _) if has("tagging") => "PutObjectTagging",
        (&Method::GET, _) if has("uploadId") => "ListMultipartUploadParts",
        (&Method::DELETE, _) if has("uploadId") => "AbortMultipartUpload",
        (&Method::PUT | &Method::POST, _) => "PutObject",
        (&Method::GET | &Method::HEAD, _) if versioned => "GetObjectVersion",
        (&Method::GET | &Method::HEAD, _) => "GetObject",
        (&Method::DELETE, _) if versioned => "DeleteObjectVersion",
        (&Method::DELETE, _) => "DeleteObject",
        _ => "Unknown",
    }
}

/// For how many days from now the body of a PutObjectRetention locks an object.
fn remaining_days(body: &[u8]) -> Option<i64> {
    #[expect(
        clippy::disallowed_methods,
        reason = "S3 compares with its own clock, and here that is this one"
    )]
    let now = jiff::Timestamp::now();
    let body = std::str::from_utf8(body).ok()?;
    let (_, rest) = body.split_once("<RetainUntilDate>")?;
    let until: jiff::Timestamp = rest.split_once('<')?.0.trim().parse().ok()?;
    Some((until.as_second() - now.as_second()) / 86_400)
}

fn lambda(parts: &Parts) -> Request {
    let arn = |name: String| {
        if name.starts_with("arn:") {
            name
        } else {
            format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}")
        }
    };
    match function_of(&parts.path) {
        Some(function) => Request {
            action: "lambda:InvokeFunction".into(),
            resource: arn(function),
            context: BTreeMap::new(),
        },
        None => Request {
            action: "lambda:Other".into(),
            resource: "*".into(),
            context: BTreeMap::new(),
        },
    }
}

/// Services that name their action in a header (JSON protocols) or in the form (query protocol).
fn named(service: &str, parts: &Parts, body: &[u8]) -> Request {
    let target = parts.header("x-amz-target");
    let (action, fields) = if target.is_empty() {
        let form: BTreeMap<String, String> =
            url::form_urlencoded::parse(body).into_owned().collect();
        let fields = form
            .iter()
            .map(|(name, value)| (name.clone(), Value::String(value.clone())))
            .collect();
        (
            form.get("Action")
                .cloned()
                .unwrap_or_else(|| "Unknown".into()),
            fields,
        )
    } else {
        let action = target.rsplit('.').next().unwrap_or_default().to_owned();
        let fields: serde_json::Map<String, Value> =
            serde_json::from_slice(body).unwrap_or_default();
        (action, fields)
    };
    let field = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
    let resource = match service {
        // The six characters stand for the random ones that AWS appends to a secret's name in its ARN.
        "secretsmanager" => field("SecretId").or_else(|| field("Name")).map(|id| {
            if id.starts_with("arn:") {
                id
            } else {
                format!("arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{id}-AbCdEf")
            }
        }),
        "sns" => field("TopicArn").or_else(|| field("TargetArn")),
        "states" => field("stateMachineArn").or_else(|| field("executionArn")),
        "sts" => field("RoleArn"),
        "kms" => field("KeyId"),
        _ => None,
    };
    Request {
        action: format!("{service}:{action}"),
        resource: resource.unwrap_or_else(|| "*".into()),
        context: BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(method: Method, path: &str, query: &str, headers: &[(&'static str, &str)]) -> Parts {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        Parts {
            method,
            path: path.into(),
            query: query.into(),
            headers: map,
        }
    }

    #[test]
    fn every_call_of_an_upload_is_a_put_but_only_the_last_creates() {
        for (method, query, action, creates) in [
            (Method::POST, "uploads", "s3:PutObject", "false"),
            (
                Method::PUT,
                "partNumber=1&uploadId=u",
                "s3:PutObject",
                "false",
            ),
            (Method::POST, "uploadId=u", "s3:PutObject", "true"),
            (Method::PUT, "", "s3:PutObject", "true"),
            (
                Method::DELETE,
                "uploadId=u",
                "s3:AbortMultipartUpload",
                "false",
            ),
            (Method::GET, "versionId=v", "s3:GetObjectVersion", "false"),
            (Method::PUT, "retention", "s3:PutObjectRetention", "false"),
        ] {
            let asked = asked(
                "s3",
                &parts(method, "/vault/backups/a%20b", query, &[]),
                b"",
            );
            assert_eq!(
                (asked.action.as_str(), asked.resource.as_str()),
                (action, "arn:aws:s3:::vault/backups/a b")
            );
            assert_eq!(
                asked.context["s3:objectcreationoperation"], creates,
                "{query}"
            );
        }
    }

    #[test]
    fn a_listing_asks_for_the_bucket_with_its_prefix() {
        let asked = asked(
            "s3",
            &parts(
                Method::GET,
                "/vault",
                "list-type=2&prefix=backups%2Fapp",
                &[],
            ),
            b"",
        );
        assert_eq!(
            (asked.action.as_str(), asked.resource.as_str()),
            ("s3:ListBucket", "arn:aws:s3:::vault")
        );
        assert_eq!(asked.context["s3:prefix"], "backups/app");
    }

    #[test]
    fn a_secret_and_a_topic_are_named_by_their_arn() {
        let secret = parts(
            Method::POST,
            "/",
            "",
            &[("x-amz-target", "secretsmanager.GetSecretValue")],
        );
        let asked_secret = asked(
            "secretsmanager",
            &secret,
            br#"{"SecretId":"lifeboat/identity"}"#,
        );
        assert_eq!(asked_secret.action, "secretsmanager:GetSecretValue");
        assert!(
            asked_secret
                .resource
                .ends_with(":secret:lifeboat/identity-AbCdEf")
        );

        let publish = asked(
            "sns",
            &parts(Method::POST, "/", "", &[]),
            b"Action=Publish&TopicArn=arn%3Aaws%3Asns%3At",
        );
        assert_eq!(
            (publish.action.as_str(), publish.resource.as_str()),
            ("sns:Publish", "arn:aws:sns:t")
        );
    }

    #[test]
    fn the_signature_tells_key_and_service_from_header_and_query() {
        let header = "AWS4-HMAC-SHA256 Credential=AKIA/20261121/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
        let signed = parts(Method::GET, "/", "", &[("authorization", header)]);
        assert_eq!(signed.signed_for(), Some(("AKIA".into(), "s3".into())));
        let presigned = parts(
            Method::GET,
            "/",
            "X-Amz-Credential=AKIA%2F20261121%2Fus-east-1%2Fs3%2Faws4_request",
            &[],
        );
        assert_eq!(presigned.signed_for(), Some(("AKIA".into(), "s3".into())));
        assert_eq!(parts(Method::GET, "/", "", &[]).signed_for(), None);
    }
}
