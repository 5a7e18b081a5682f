//! Signed calls to the control plane: the JSON, query and REST protocols, without an SDK per service.

use std::time::SystemTime;

use aws_credential_types::Credentials as SigningCredentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use hyper::{HeaderMap, Method, StatusCode};
use serde_json::Value;

/// The account that the control plane stands for.
pub(crate) const ACCOUNT: &str = "123456789012";
pub(crate) const REGION: &str = "us-east-1";

/// As often may moto fall over what it does at the same time, one after the other.
const FALLS_MAX: u32 = 10;
const FALL_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

/// Keys of a user, or with a session token of an assumed role.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub access_key: String,
    pub secret_key: String,
    pub session_token: Option<String>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key", &self.access_key)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum AwsError {
    /// The control plane is not there (any more).
    #[error("{service} {action}: no answer")]
    NoAnswer {
        service: String,
        action: String,
        #[source]
        source: reqwest::Error,
    },
    /// It answered with an error of its own.
    #[error("{service} {action}: {status}: {body}")]
    Refused {
        service: String,
        action: String,
        status: u16,
        body: String,
    },
    /// It answered something that is not understood.
    #[error("{service} {action}: unexpected answer: {body}")]
    Unexpected {
        service: String,
        action: String,
        body: String,
    },
    #[error("cannot sign a request to {service}")]
    Sign {
        service: String,
        #[source]
        source: aws_sigv4::http_request::SigningError,
    },
}

/// A signed request to one endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Aws {
    http: reqwest::Client,
    endpoint: String,
    credentials: Credentials,
}

/// One request, before it is signed.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) service: &'a str,
    /// For error messages only.
    pub(crate) action: &'a str,
    pub(crate) method: Method,
    /// Percent-encoded, with its leading slash.
    pub(crate) path_and_query: &'a str,
    pub(crate) headers: Vec<(&'a str, &'a str)>,
    pub(crate) body: Bytes,
}

#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Aws {
    pub(crate) fn new(http: reqwest::Client, endpoint: String, credentials: Credentials) -> Self {
        Self {
            http,
            endpoint,
            credentials,
        }
    }

    /// The same endpoint with somebody else's keys.
    pub(crate) fn with(&self, credentials: Credentials) -> Self {
        Self {
            credentials,
            ..self.clone()
        }
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The query protocol (CloudFormation, IAM, STS, SNS): the answer's XML.
    pub(crate) async fn query(
        &self,
        service: &str,
        version: &str,
        parameters: &[(&str, &str)],
    ) -> Result<String, AwsError> {
        let action = parameters.first().map_or("", |(_, action)| *action);
        let form: String = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("Version", version)
            .extend_pairs(parameters)
            .finish();
        let headers = vec![("content-type", "application/x-www-form-urlencoded")];
        let call = Call {
            service,
            action,
            method: Method::POST,
            path_and_query: "/",
            headers,
            body: form.into(),
        };
        let reply = self.checked(call).await?;
        Ok(String::from_utf8_lossy(&reply.body).into_owned())
    }

    /// The JSON protocol (Step Functions, Secrets Manager, SQS, …); `target` is the `X-Amz-Target` header.
    pub(crate) async fn json(
        &self,
        service: &str,
        target: &str,
        body: &Value,
    ) -> Result<Value, AwsError> {
        let body = Bytes::from(body.to_string());
        let call = || Call {
            service,
            action: target,
            method: Method::POST,
            path_and_query: "/",
            headers: vec![
                ("content-type", "application/x-amz-json-1.0"),
                ("x-amz-target", target),
            ],
            body: body.clone(),
        };
        // moto walks through what other threads change, and sometimes falls: asked again, as
        // every SDK does, it answers.
        let mut reply = self.checked(call()).await;
        for _ in 0..FALLS_MAX {
            let Err(AwsError::Refused { status: 500, .. }) = reply else {
                break;
            };
            tokio::time::sleep(FALL_PAUSE).await;
            reply = self.checked(call()).await;
        }
        let reply = reply?;
        serde_json::from_slice(if reply.body.is_empty() {
            b"null"
        } else {
            &reply.body
        })
        .map_err(|_| AwsError::Unexpected {
            service: service.into(),
            action: target.into(),
            body: String::from_utf8_lossy(&reply.body).into_owned(),
        })
    }

    /// Any request; an error status is an error.
    pub(crate) async fn checked(&self, call: Call<'_>) -> Result<Reply, AwsError> {
        let (service, action) = (call.service.to_owned(), call.action.to_owned());
        let reply = self.send(call).await?;
        if reply.status.is_success() {
            return Ok(reply);
        }
        let body = String::from_utf8_lossy(&reply.body)
            .chars()
            .take(2000)
            .collect();
        Err(AwsError::Refused {
            service,
            action,
            status: reply.status.as_u16(),
            body,
        })
    }

    /// Any request, whatever the status of the answer.
    pub(crate) async fn send(&self, call: Call<'_>) -> Result<Reply, AwsError> {
        let (service, action) = (call.service.to_owned(), call.action.to_owned());
        let url = format!("{}{}", self.endpoint, call.path_and_query);
        let mut request = hyper::Request::builder().method(call.method).uri(&url);
        for (name, value) in call.headers {
            request = request.header(name, value);
        }
        let unexpected = |body: String| AwsError::Unexpected {
            service: service.clone(),
            action: action.clone(),
            body,
        };
        let mut request = request
            .body(call.body)
            .map_err(|error| unexpected(error.to_string()))?;
        sign_request(&mut request, &service, &self.credentials)?;
        let request = reqwest::Request::try_from(request.map(reqwest::Body::from))
            .map_err(|error| unexpected(error.to_string()))?;
        let no_answer = |source| AwsError::NoAnswer {
            service: service.clone(),
            action: action.clone(),
            source,
        };
        let response = self.http.execute(request).await.map_err(no_answer)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.bytes().await.map_err(no_answer)?;
        Ok(Reply {
            status,
            headers,
            body,
        })
    }
}

/// Signs a request whose body is at hand, replacing any signature it carries.
pub(crate) fn sign_request(
    request: &mut hyper::Request<Bytes>,
    service: &str,
    credentials: &Credentials,
) -> Result<(), AwsError> {
    for name in [
        "authorization",
        "x-amz-date",
        "x-amz-security-token",
        "x-amz-content-sha256",
    ] {
        request.headers_mut().remove(name);
    }
    let signing = SigningCredentials::new(
        &credentials.access_key,
        &credentials.secret_key,
        credentials.session_token.clone(),
        None,
        "localcloud",
    );
    let identity = signing.into();
    let mut settings = SigningSettings::default();
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    if service == "s3" {
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    }
    let sign_error = |source| AwsError::Sign {
        service: service.to_owned(),
        source,
    };
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(REGION)
        .name(service)
        .time(SystemTime::now())
        .settings(settings)
        .build()
        .map_err(|error| AwsError::Unexpected {
            service: service.into(),
            action: "sign".into(),
            body: error.to_string(),
        })?
        .into();
    let method = request.method().to_string();
    let uri = request.uri().to_string();
    let headers: Vec<(String, String)> = request
        .headers()
        .iter()
        .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
        .collect();
    let signable = SignableRequest::new(
        &method,
        &uri,
        headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str())),
        SignableBody::Bytes(request.body()),
    )
    .map_err(sign_error)?;
    let (instructions, _signature) = sign(signable, &parameters)
        .map_err(sign_error)?
        .into_parts();
    let (headers, _query) = instructions.into_parts();
    for header in headers {
        if let Ok(value) = hyper::header::HeaderValue::from_str(header.value()) {
            request.headers_mut().insert(header.name(), value);
        }
    }
    Ok(())
}

/// The text of every element of that name, in order; enough for the flat answers that are read here.
pub(crate) fn elements<'a>(xml: &'a str, name: &str) -> Vec<&'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    xml.split(&open)
        .skip(1)
        .filter_map(|rest| rest.split_once(&close).map(|(text, _)| text))
        .collect()
}

/// The first element of that name, with its entities resolved.
pub(crate) fn element(xml: &str, name: &str) -> Option<String> {
    elements(xml, name).first().map(|text| unescape(text))
}

fn unescape(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&#34;", "\"")
        .replace("&amp;", "&")
}

/// Percent-encodes everything but unreserved characters and `/`, as S3 wants keys in a path.
pub(crate) fn encode_path(path: &str) -> String {
    path.bytes()
        .fold(String::with_capacity(path.len()), |mut encoded, byte| {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                    encoded.push(char::from(byte))
                }
                _ => encoded.push_str(&format!("%{byte:02X}")),
            }
            encoded
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_is_read_with_its_entities() {
        let xml = "<R><Key>a&amp;b</Key><Key>c</Key></R>";
        assert_eq!(element(xml, "Key").as_deref(), Some("a&b"));
        assert_eq!(elements(xml, "Key"), ["a&amp;b", "c"]);
        assert_eq!(element(xml, "Nothing"), None);
    }

    #[test]
    fn a_key_is_encoded_but_for_its_slashes() {
        assert_eq!(encode_path("/b/a b+ä"), "/b/a%20b%2B%C3%A4");
    }

    #[test]
    fn credentials_never_print_their_secrets() {
        let credentials = Credentials {
            access_key: "AKIA".into(),
            secret_key: "hidden-one".into(),
            session_token: Some("hidden-two".into()),
        };
        let printed = format!("{credentials:?}");
        assert!(
            printed.contains("AKIA") && !printed.contains("hidden"),
            "{printed}"
        );
    }
}
