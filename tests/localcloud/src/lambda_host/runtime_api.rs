//! The Runtime API that one function instance talks to.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use super::PAYLOAD_BYTES_MAX;

/// One event for the instance.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) request_id: String,
    pub(super) payload: Bytes,
    pub(super) timeout: Duration,
    /// Told when the function fetched the event: its time runs from then.
    pub(super) fetched: oneshot::Sender<Instant>,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// What the function posted.
#[derive(Debug)]
pub(super) enum Answer {
    Response(Bytes),
    Error(Bytes),
    TooLarge,
}

#[derive(Debug)]
pub(super) struct RuntimeApi {
    function_arn: String,
    work: tokio::sync::Mutex<mpsc::Receiver<Work>>,
    pending: Mutex<HashMap<String, oneshot::Sender<Answer>>>,
    /// The body of an init error, if the function posted one.
    init_error: Mutex<Option<Bytes>>,
}

impl RuntimeApi {
    pub(super) fn new(function_arn: String, work: mpsc::Receiver<Work>) -> Arc<Self> {
        Arc::new(Self {
            function_arn,
            work: tokio::sync::Mutex::new(work),
            pending: Mutex::default(),
            init_error: Mutex::default(),
        })
    }

    pub(super) fn take_init_error(&self) -> Option<Bytes> {
        self.init_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Serves until the task is aborted.
    pub(super) async fn serve(self: Arc<Self>, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let api = self.clone();
            let service = hyper::service::service_fn(move |request| {
                let api = api.clone();
                async move { Ok::<_, Infallible>(api.handle(request).await) }
            });
            tokio::spawn(async move {
                let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _peer_gone = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    }

    async fn handle(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let Some(route) = path.strip_prefix("/2018-06-01/runtime/") else {
            return status(StatusCode::NOT_FOUND);
        };
        let route: Vec<&str> = route.split('/').collect();
        match (request.method(), route.as_slice()) {
            (&Method::GET, ["invocation", "next"]) => self.next().await,
            (&Method::POST, ["invocation", id, "response"]) => {
                let answer = match read(request).await {
                    Ok(body) => Answer::Response(body),
                    Err(TooLarge) => Answer::TooLarge,
                };
                self.post(id, answer)
            }
            (&Method::POST, ["invocation", id, "error"]) => {
                let answer = read(request).await.map_or(Answer::TooLarge, Answer::Error);
                self.post(id, answer)
            }
            (&Method::POST, ["init", "error"]) => {
                let body = read(request).await.ok();
                *self
                    .init_error
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) = body;
                status(StatusCode::ACCEPTED)
            }
            _ => status(StatusCode::NOT_FOUND),
        }
    }

    async fn next(&self) -> Response<Full<Bytes>> {
        let Some(work) = self.work.lock().await.recv().await else {
            return status(StatusCode::GONE);
        };
        let deadline = SystemTime::now() + work.timeout;
        let deadline_ms = deadline
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_millis();
        self.pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(work.request_id.clone(), work.answer);
        let _gave_up = work.fetched.send(Instant::now());
        let response = Response::builder()
            .header("content-type", "application/json")
            .header("lambda-runtime-aws-request-id", &work.request_id)
            .header("lambda-runtime-deadline-ms", deadline_ms.to_string())
            .header("lambda-runtime-invoked-function-arn", &self.function_arn)
            .header(
                "lambda-runtime-trace-id",
                trace_id(&work.request_id, deadline_ms),
            )
            .body(Full::new(work.payload));
        response.unwrap_or_else(|_| status(StatusCode::INTERNAL_SERVER_ERROR))
    }

    fn post(&self, request_id: &str, answer: Answer) -> Response<Full<Bytes>> {
        let too_large = matches!(answer, Answer::TooLarge);
        let pending = self
            .pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(request_id);
        let Some(pending) = pending else {
            return status(StatusCode::BAD_REQUEST);
        };
        let _gave_up = pending.send(answer);
        status(if too_large {
            StatusCode::PAYLOAD_TOO_LARGE
        } else {
            StatusCode::ACCEPTED
        })
    }
}

#[derive(Debug)]
struct TooLarge;

/// A body that is too large is read to its end all the same: a connection that closes while the
/// function still writes looks to it like a broken Runtime API, and it would exit.
async fn read(request: Request<Incoming>) -> Result<Bytes, TooLarge> {
    let mut body = request.into_body();
    if let Ok(kept) = Limited::new(&mut body, PAYLOAD_BYTES_MAX).collect().await {
        return Ok(kept.to_bytes());
    }
    while let Some(Ok(_too_much)) = body.frame().await {}
    Err(TooLarge)
}

fn status(code: StatusCode) -> Response<Full<Bytes>> {
    let text = if code.is_success() {
        r#"{"status":"OK"}"#
    } else {
        r#"{"errorType":"InvalidRequest"}"#
    };
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = code;
    response
}

/// The X-Ray header's shape; nothing is traced.
fn trace_id(request_id: &str, epoch_ms: u128) -> String {
    let hex: String = request_id
        .chars()
        .filter(char::is_ascii_hexdigit)
        .take(24)
        .collect();
    format!("Root=1-{:08x}-{hex};Sampled=0", epoch_ms / 1000)
}
