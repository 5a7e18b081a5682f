//! The API over HTTP: who asks, which fault meets them, what they are told.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::faults::NeonFaultAction;
use super::hub::Hub;
use super::refusal::Refusal;
use super::{names, routes};

/// Where the API begins, as at Neon.
pub(super) const PREFIX: &str = "/api/v2";

/// More than any request.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Longer than any client waits.
const SILENCE: Duration = Duration::from_secs(600);

/// Of one account, and of one route of it.
const CALLS_PER_MINUTE_MAX: usize = 700;
const CALLS_OF_ROUTE_PER_SECOND_MAX: usize = 40;

/// A request that was made.
#[derive(Clone, Debug, PartialEq)]
pub struct NeonCall {
    pub at: Timestamp,
    pub method: Method,
    /// Below the API's beginning: `/projects/…`.
    pub path: String,
    /// That the path names; where it names none, the one whose key was sent.
    pub project: Option<String>,
    pub query: String,
    pub body: Value,
    /// What was answered; 0 when nothing was.
    pub status: u16,
}

impl NeonCall {
    /// The path with its identifiers left out: what requests are counted by.
    #[must_use]
    pub fn route(&self) -> String {
        route(&self.path)
    }
}

fn route(path: &str) -> String {
    let mut parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    for part in parts.iter_mut().skip(1).step_by(2) {
        *part = "{}";
    }
    parts.join("/")
}

/// A request as the routes see it.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) method: Method,
    pub(super) path: Vec<String>,
    pub(super) query: BTreeMap<String, String>,
    pub(super) body: Value,
    pub(super) key: Key,
}

/// What a key opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Organization,
    Project(String),
}

/// A status, and a body unless it is null.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Value,
}

impl Answer {
    pub(super) fn ok(body: Value) -> Self {
        Self { status: 200, body }
    }

    pub(super) fn created(body: Value) -> Self {
        Self { status: 201, body }
    }

    /// What was to go is not there.
    pub(super) fn nothing() -> Self {
        Self {
            status: 204,
            body: Value::Null,
        }
    }
}

/// Serves until the task is aborted.
pub(super) async fn serve(listener: TcpListener, hub: Arc<Hub>) {
    while let Ok((stream, _)) = listener.accept().await {
        let hub = hub.clone();
        let service = hyper::service::service_fn(move |request| {
            let hub = hub.clone();
            async move { handle(&hub, request).await }
        });
        tokio::spawn(async move {
            let _small_answers_at_once = stream.set_nodelay(true);
            let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            let _peer_gone = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// An error closes the connection without an answer.
type Handled = Result<Response<Full<Bytes>>, io::Error>;

async fn handle(hub: &Arc<Hub>, request: Request<Incoming>) -> Handled {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
    let body = body.map_err(io::Error::other)?.to_bytes();
    let path = head.uri.path().to_owned();
    let path = path.strip_prefix(PREFIX).unwrap_or(&path).to_owned();
    let mut call = NeonCall {
        at: super::now(),
        method: head.method.clone(),
        project: project_of(hub, &path, &head.headers),
        path,
        query: head.uri.query().unwrap_or_default().to_owned(),
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
        status: 0,
    };
    let is_json = body.is_empty() || !call.body.is_null();
    let id = head.headers.get("x-request-id");
    let id = id.and_then(|it| it.to_str().ok());
    let id = id.map_or_else(names::uuid, str::to_owned);

    let met = hub.faults.meet(&call);
    let handled = match met {
        Some(
            action @ (NeonFaultAction::Locked
            | NeonFaultAction::TooManyRequests { .. }
            | NeonFaultAction::Unavailable
            | NeonFaultAction::Html(_)
            | NeonFaultAction::NotFound
            | NeonFaultAction::Limit(_)
            | NeonFaultAction::Silence
            | NeonFaultAction::Reset),
        ) => instead(action, &id).await,
        action => {
            if let Some(NeonFaultAction::Delay(pause)) = action {
                tokio::time::sleep(pause).await;
            }
            if let Some(NeonFaultAction::Hold(gate)) = &action {
                let permit = gate.acquire().await;
                permit.map_err(io::Error::other)?.forget();
            }
            let carried_out = carry_out(hub, &call, &head.headers, is_json).await;
            changed(action, answer(carried_out, &id)).await
        }
    };
    call.status = handled.as_ref().map_or(0, |it| it.status().as_u16());
    hub.log(call);
    handled
}

/// The answer to what is not carried out.
async fn instead(action: NeonFaultAction, id: &str) -> Handled {
    let refusal = match action {
        NeonFaultAction::Locked => Refusal::locked(),
        NeonFaultAction::Unavailable => Refusal::new(503, "", "service unavailable"),
        NeonFaultAction::NotFound => Refusal::missing("branch not found"),
        NeonFaultAction::Limit(code) => Refusal::limit(code),
        NeonFaultAction::Html(status) => return Ok(page(status)),
        NeonFaultAction::TooManyRequests { retry_after } => {
            let mut response = answer(Err(too_many()), id);
            let value = retry_after.and_then(|it| it.parse().ok());
            value.and_then(|it| response.headers_mut().insert("retry-after", it));
            return Ok(response);
        }
        NeonFaultAction::Silence => {
            tokio::time::sleep(SILENCE).await;
            return Err(io::ErrorKind::TimedOut.into());
        }
        NeonFaultAction::Reset
        | NeonFaultAction::Delay(_)
        | NeonFaultAction::Hold(_)
        | NeonFaultAction::LoseAnswer
        | NeonFaultAction::HideAnswer
        | NeonFaultAction::CutAnswer => return Err(io::ErrorKind::ConnectionReset.into()),
    };
    Ok(answer(Err(refusal), id))
}

/// What arrives of the answer to something that was carried out.
async fn changed(action: Option<NeonFaultAction>, response: Response<Full<Bytes>>) -> Handled {
    match action {
        Some(NeonFaultAction::LoseAnswer) => Err(io::ErrorKind::ConnectionReset.into()),
        Some(NeonFaultAction::HideAnswer) => Ok(page(524)),
        Some(NeonFaultAction::CutAnswer) => {
            let (head, body) = response.into_parts();
            let whole = body.collect().await.map_err(io::Error::other)?.to_bytes();
            let half = whole.slice(..whole.len() / 2);
            Ok(Response::from_parts(head, Full::new(half)))
        }
        _ => Ok(response),
    }
}

async fn carry_out(
    hub: &Arc<Hub>,
    call: &NeonCall,
    headers: &HeaderMap,
    is_json: bool,
) -> Result<Answer, Refusal> {
    let key = key(hub, headers)?;
    if hub.options.is_rate_limited && is_too_fast(hub, call) {
        return Err(too_many());
    }
    if !is_json {
        return Err(Refusal::invalid("the request body is not JSON"));
    }
    let decoded = |segment| percent_encoding::percent_decode_str(segment).decode_utf8_lossy();
    let path = call.path.trim_matches('/').split('/');
    let path = path.map(|segment| decoded(segment).into_owned());
    let query = url::form_urlencoded::parse(call.query.as_bytes());
    let ask = Ask {
        method: call.method.clone(),
        path: path.collect(),
        query: query.into_owned().collect(),
        body: call.body.clone(),
        key,
    };
    routes::route(hub, &ask).await
}

fn key(hub: &Hub, headers: &HeaderMap) -> Result<Key, Refusal> {
    let header = headers.get("authorization").and_then(|it| it.to_str().ok());
    let sent = header.and_then(|it| it.strip_prefix("Bearer "));
    let rest = sent.and_then(|it| it.strip_prefix(&hub.key));
    match rest {
        Some("") => Ok(Key::Organization),
        Some(project) => Ok(Key::Project(project.trim_start_matches('_').to_owned())),
        None => Err(Refusal::new(
            401,
            "",
            "supplied credentials do not pass authentication",
        )),
    }
}

fn project_of(hub: &Hub, path: &str, headers: &HeaderMap) -> Option<String> {
    let named = path.strip_prefix("/projects/");
    let named = named.and_then(|it| it.split('/').next());
    match (named.filter(|it| !it.is_empty()), key(hub, headers)) {
        (Some(named), _) => Some(named.to_owned()),
        (None, Ok(Key::Project(project))) => Some(project),
        (None, Ok(Key::Organization) | Err(_)) => None,
    }
}

/// Counts what was answered, as Neon does per account.
fn is_too_fast(hub: &Hub, call: &NeonCall) -> bool {
    let calls = hub.calls.lock().unwrap_or_else(PoisonError::into_inner);
    let within = |seconds| {
        let since = call.at - jiff::SignedDuration::from_secs(seconds);
        calls
            .iter()
            .rev()
            .take_while(move |it| it.at > since)
            .filter(|it| it.status != 429)
    };
    let route = call.route();
    within(60).count() >= CALLS_PER_MINUTE_MAX
        || within(1).filter(|it| it.route() == route).count() >= CALLS_OF_ROUTE_PER_SECOND_MAX
}

fn too_many() -> Refusal {
    Refusal::new(429, "", "too many requests")
}

fn answer(answer: Result<Answer, Refusal>, id: &str) -> Response<Full<Bytes>> {
    let (status, body) = match answer {
        Ok(Answer { status, body }) => (status, body),
        Err(Refusal {
            status,
            code,
            message,
        }) => (
            status,
            json!({"request_id": id, "code": code, "message": message}),
        ),
    };
    let text = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    with(status, "application/json", text)
}

/// What a proxy before the API shows when the API does not answer it.
fn page(status: u16) -> Response<Full<Bytes>> {
    let text = format!(
        "<!DOCTYPE html><html><head><title>{status}</title></head><body><h1>Error {status}</h1></body></html>"
    );
    with(status, "text/html; charset=UTF-8", text)
}

fn with(status: u16, content_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let content_type = hyper::header::HeaderValue::from_static(content_type);
    response.headers_mut().insert("content-type", content_type);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_route() {
        assert_eq!(route("/projects"), "projects");
        assert_eq!(
            route("/projects/a-b/branches/br-c/restore"),
            "projects/{}/branches/{}/restore"
        );
    }
}
