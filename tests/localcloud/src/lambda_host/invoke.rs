//! The Invoke API, answered as callers expect: errors of the function in a 200, Lambda's own with type headers.

use bytes::Bytes;
use hyper::header::HeaderMap;
use hyper::{Response, StatusCode};
use serde_json::json;

use super::{Host, InvokeError, Invoked, request_id};

/// The function named in `/2015-03-31/functions/{name}/invocations`; an ARN arrives percent-encoded.
pub(crate) fn function_of(path: &str) -> Option<String> {
    let name = path
        .strip_prefix("/2015-03-31/functions/")?
        .strip_suffix("/invocations")?;
    Some(percent_decode(name)).filter(|name| !name.is_empty() && !name.contains('/'))
}

/// Answers one Invoke request.
pub(crate) async fn serve(
    host: std::sync::Arc<Host>,
    function: &str,
    headers: &HeaderMap,
    payload: Bytes,
) -> Response<Bytes> {
    let kind = headers
        .get("x-amz-invocation-type")
        .and_then(|value| value.to_str().ok())
        .unwrap_or("RequestResponse");
    if kind == "RequestResponse" {
        return match host.invoke(function, payload).await {
            Ok(invoked) => answer(invoked),
            Err(error) => refusal(&error),
        };
    }
    if host.find(function).is_none() {
        return refusal(&InvokeError::NotFound(function.to_owned()));
    }
    let dry_run = kind == "DryRun";
    if !dry_run {
        let function = function.to_owned();
        tokio::spawn(async move { host.invoke(&function, payload).await.map(drop) });
    }
    let accepted = if dry_run {
        StatusCode::NO_CONTENT
    } else {
        StatusCode::ACCEPTED
    };
    build(accepted, &request_id(), &[], Bytes::new())
}

fn answer(invoked: Invoked) -> Response<Bytes> {
    let error: &[(&str, &str)] = if invoked.failed {
        &[("x-amz-function-error", "Unhandled")]
    } else {
        &[]
    };
    build(StatusCode::OK, &invoked.request_id, error, invoked.payload)
}

fn refusal(error: &InvokeError) -> Response<Bytes> {
    let (status, name) = match error {
        InvokeError::NotFound(_) => (StatusCode::NOT_FOUND, "ResourceNotFoundException"),
        InvokeError::TooManyRequests => (StatusCode::TOO_MANY_REQUESTS, "TooManyRequestsException"),
        InvokeError::RequestTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "RequestTooLargeException"),
        InvokeError::InvalidRequestContent(_) => {
            (StatusCode::BAD_REQUEST, "InvalidRequestContentException")
        }
        InvokeError::Start(_) => (StatusCode::INTERNAL_SERVER_ERROR, "ServiceException"),
    };
    let body = json!({"Type": "User", "Message": error.to_string(), "message": error.to_string()})
        .to_string();
    build(
        status,
        &request_id(),
        &[("x-amzn-errortype", name)],
        body.into(),
    )
}

fn build(
    status: StatusCode,
    request_id: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Response<Bytes> {
    let mut response = Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .header("x-amzn-requestid", request_id)
        .header("x-amz-executed-version", "$LATEST");
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(body).unwrap_or_default()
}

/// Decodes `%XX`; anything else stays as it is.
pub(crate) fn percent_decode(text: &str) -> String {
    percent_encoding::percent_decode_str(text)
        .decode_utf8_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percent_encoded_arn_is_the_function_it_names() {
        let path = "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A1%3Afunction%3Adump/invocations";
        assert_eq!(
            function_of(path).as_deref(),
            Some("arn:aws:lambda:us-east-1:1:function:dump")
        );
        assert_eq!(
            function_of("/2015-03-31/functions/dump/invocations").as_deref(),
            Some("dump")
        );
        assert_eq!(
            function_of("/2015-03-31/functions/dump/configuration"),
            None
        );
    }

    #[test]
    fn a_stray_percent_sign_stays() {
        assert_eq!(percent_decode("100%"), "100%");
        assert_eq!(percent_decode("a%2Fb%zz"), "a/b%zz");
    }
}
