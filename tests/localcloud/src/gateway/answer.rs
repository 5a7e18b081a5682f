//! Answers that the gateway itself gives.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Frame;
use hyper::{Response, StatusCode};
use s3s::Body;
use serde_json::json;

use super::Handled;
use crate::iam::Request;

pub(super) fn plain(status: StatusCode, text: &str) -> Response<Body> {
    with(status, "text/plain", text.to_owned())
}

fn with(status: StatusCode, content_type: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(
        "content-type",
        hyper::header::HeaderValue::from_static(content_type),
    );
    response
}

/// An error in S3's XML.
pub(super) fn s3_error(status: u16, code: &str, path: &str) -> Response<Body> {
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>{code}</Message>\
         <Resource>{path}</Resource><RequestId>local</RequestId></Error>"
    );
    with(
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        "application/xml",
        xml,
    )
}

/// AccessDenied as the service in question words it.
pub(super) fn denied(service: &str, request: &Request) -> Response<Body> {
    let message = format!(
        "not authorized to perform: {} on resource: {}",
        request.action, request.resource
    );
    match service {
        "s3" => s3_error(403, "AccessDenied", &request.resource),
        "sns" | "sts" | "iam" | "cloudformation" => {
            let xml = format!(
                "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>{message}</Message></Error>\
                 <RequestId>local</RequestId></ErrorResponse>"
            );
            with(StatusCode::FORBIDDEN, "text/xml", xml)
        }
        _ => {
            let body =
                json!({"__type": "AccessDeniedException", "message": message, "Message": message})
                    .to_string();
            let status = if service == "lambda" {
                StatusCode::FORBIDDEN
            } else {
                StatusCode::BAD_REQUEST
            };
            let mut response = with(status, "application/json", body);
            for (name, value) in [
                ("x-amzn-errortype", "AccessDeniedException"),
                ("x-amzn-requestid", "local"),
            ] {
                response
                    .headers_mut()
                    .insert(name, hyper::header::HeaderValue::from_static(value));
            }
            response
        }
    }
}

/// Everything is done, and the caller never hears of it.
pub(super) async fn lost(answer: Response<Body>) -> Handled {
    let _all_of_it = answer.into_body().collect().await;
    Err(std::io::ErrorKind::ConnectionReset.into())
}

/// The head of the answer and the first bytes of its body arrive, then the connection breaks.
pub(super) async fn cut(answer: Response<Body>, after: u64) -> Handled {
    let (mut head, body) = answer.into_parts();
    let whole = body
        .collect()
        .await
        .map_err(std::io::Error::other)?
        .to_bytes();
    head.headers.insert("content-length", whole.len().into());
    head.headers.remove("transfer-encoding");
    let first = whole.slice(
        ..usize::try_from(after)
            .unwrap_or(usize::MAX)
            .min(whole.len()),
    );
    Ok(Response::from_parts(
        head,
        Body::http_body(Broken { first: Some(first) }),
    ))
}

/// A body that fails after its first piece.
struct Broken {
    first: Option<Bytes>,
}

impl hyper::body::Body for Broken {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(Some(match self.first.take() {
            Some(piece) => Ok(Frame::data(piece)),
            None => Err(std::io::ErrorKind::ConnectionReset.into()),
        }))
    }
}
