//! One request and its answer: sent at our pace, and again where [`retry`] allows it.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, Instant};

use reqwest::redirect::Policy;
use reqwest::{Client, Method, Response};
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use super::answers::ErrorAnswer;
use super::error::Refusal;
use super::retry::{self, Effect, Heard, Next};
use super::{NeonError, Project};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const READ_TIMEOUT: Duration = Duration::from_secs(20);
/// A change may take its time: giving up early only makes its outcome unknown.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(60);
/// 100 branches with their annotations take a fraction of it.
const BODY_BYTES_MAX: usize = 8 << 20;

pub(super) fn client() -> Result<Client, NeonError> {
    let client = Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .user_agent(concat!("lifeboat/", env!("CARGO_PKG_VERSION")))
        .build();
    client.map_err(|error| NeonError::Machine(crate::error::chain(&error)))
}

/// A request, which may be sent several times.
#[derive(Debug)]
pub(super) struct Call {
    /// In words, for messages: "list the branches".
    pub(super) doing: &'static str,
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: Vec<(&'static str, String)>,
    pub(super) body: Option<Value>,
    /// What was looked at before holds for one sending only: whoever asks looks again first.
    pub(super) only_once: bool,
}

impl Call {
    pub(super) fn read(doing: &'static str, path: String) -> Self {
        Self {
            doing,
            method: Method::GET,
            path,
            query: Vec::new(),
            body: None,
            only_once: false,
        }
    }

    pub(super) fn change(doing: &'static str, method: Method, path: String) -> Self {
        Self {
            method,
            ..Self::read(doing, path)
        }
    }

    pub(super) fn only_once(self) -> Self {
        Self {
            only_once: true,
            ..self
        }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    pub(super) fn body(self, body: Value) -> Self {
        Self {
            body: Some(body),
            ..self
        }
    }

    fn effect(&self) -> Effect {
        if self.method == Method::GET {
            Effect::Reads
        } else {
            Effect::Changes
        }
    }
}

/// An answer, whole.
#[derive(Debug)]
struct Answer {
    status: u16,
    body: Vec<u8>,
    retry_after: Option<Duration>,
}

impl Answer {
    fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// What a success that has a body must be.
    fn parse<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&self.body).ok()
    }

    fn heard<T: DeserializeOwned>(&self) -> Heard {
        let said: ErrorAnswer = self.parse().unwrap_or_default();
        Heard::Status {
            status: self.status,
            is_readable: self.status == 204 || self.parse::<T>().is_some(),
            is_not_ready: (400..500).contains(&self.status)
                && said.message.contains("not ready yet"),
        }
    }
}

impl Project {
    /// None: there is no such thing (404), or nothing to say about it (204).
    pub(super) async fn send<T: DeserializeOwned>(
        &self,
        call: &Call,
    ) -> Result<Option<T>, NeonError> {
        let begun = Instant::now();
        let mut tries = 0;
        loop {
            self.neon.pace.wait().await;
            let outcome = self.once(call).await;
            let (heard, retry_after) = match &outcome {
                Ok(answer) => (answer.heard::<T>(), answer.retry_after),
                Err(_) => (Heard::Silence, None),
            };
            let next = retry::judge(call.effect(), heard);
            let pause = retry::pause(tries, luck(), retry_after);
            tries += 1;
            match next {
                Next::Take => return self.take(call, outcome),
                Next::Unknown => {
                    let (doing, reason) = (call.doing, reason(outcome));
                    return Err(NeonError::Unknown { doing, reason });
                }
                Next::AgainWhileLocked
                    if call.only_once || begun.elapsed() + pause > retry::LOCKED_MAX =>
                {
                    return Err(locked(call, begun));
                }
                Next::Again
                    if call.only_once
                        || tries >= retry::TRIES_MAX
                        || pause > retry::RETRY_AFTER_MAX =>
                {
                    let (doing, reason) = (call.doing, reason(outcome));
                    return Err(NeonError::Unavailable { doing, reason });
                }
                Next::Again | Next::AgainWhileLocked => {}
            }
            if Instant::now() + pause > self.deadline {
                return Err(match next {
                    Next::AgainWhileLocked => locked(call, begun),
                    Next::Take | Next::Again | Next::Unknown => NeonError::Unavailable {
                        doing: call.doing,
                        reason: reason(outcome),
                    },
                });
            }
            tokio::time::sleep(pause).await;
        }
    }

    fn take<T: DeserializeOwned>(
        &self,
        call: &Call,
        outcome: Result<Answer, String>,
    ) -> Result<Option<T>, NeonError> {
        let malformed = NeonError::Malformed {
            doing: call.doing,
            reason: "Neon's answer is not one that its documentation describes",
        };
        let Ok(answer) = outcome else {
            return Err(malformed);
        };
        match answer.status {
            204 | 404 => Ok(None),
            200..=299 => answer.parse().map(Some).ok_or(malformed),
            status => {
                let said: ErrorAnswer = answer.parse().unwrap_or_default();
                Err(NeonError::from(Refusal {
                    doing: call.doing,
                    project: self.id.as_str(),
                    status,
                    code: said.code,
                    message: said.message,
                }))
            }
        }
    }

    /// The answer, or why there is none. No address and no key is in the reason.
    async fn once(&self, call: &Call) -> Result<Answer, String> {
        let timeout = match call.effect() {
            Effect::Reads => READ_TIMEOUT,
            Effect::Changes => CHANGE_TIMEOUT,
        };
        let left = self.deadline.saturating_duration_since(Instant::now());
        let url = Url::parse_with_params(&format!("{}{}", self.neon.base, call.path), &call.query)
            .map_err(|_| "its address cannot be written".to_owned())?;
        let mut request = self.neon.http.request(call.method.clone(), url);
        request = request
            .bearer_auth(self.key.expose())
            .header("accept", "application/json")
            .header("x-request-id", format!("lifeboat-{:016x}", random()))
            .timeout(timeout.min(left));
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        let silent = |error: reqwest::Error| crate::error::chain(&error.without_url());
        let response = request.send().await.map_err(silent)?;
        let (status, retry_after) = (response.status().as_u16(), retry_after(&response));
        Ok(Answer {
            status,
            retry_after,
            body: read(response).await?,
        })
    }
}

fn locked(call: &Call, begun: Instant) -> NeonError {
    NeonError::Locked {
        doing: call.doing,
        waited_seconds: begun.elapsed().as_secs(),
    }
}

fn reason(outcome: Result<Answer, String>) -> String {
    match outcome {
        Err(reason) => reason,
        Ok(answer) if answer.is_success() => {
            format!("HTTP {} with an answer that broke off", answer.status)
        }
        Ok(answer) => {
            let said: ErrorAnswer = answer.parse().unwrap_or_default();
            let said = super::error::shortened(&said.message);
            format!("HTTP {} {said}", answer.status)
                .trim_end()
                .to_owned()
        }
    }
}

async fn read(mut response: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    loop {
        let piece = response.chunk().await;
        let piece = piece.map_err(|error| crate::error::chain(&error.without_url()))?;
        let Some(piece) = piece else {
            return Ok(body);
        };
        if body.len() + piece.len() > BODY_BYTES_MAX {
            return Err(format!(
                "the answer is larger than {} MiB",
                BODY_BYTES_MAX >> 20
            ));
        }
        body.extend_from_slice(&piece);
    }
}

fn retry_after(response: &Response) -> Option<Duration> {
    let header = |name: &str| response.headers().get(name)?.to_str().ok();
    retry::retry_after(header("retry-after")?, header("date"))
}

/// Differs each time: the standard library seeds its maps from the system's randomness.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// 0 to 1.
fn luck() -> f64 {
    let [first, second, ..] = random().to_be_bytes();
    f64::from(u16::from_be_bytes([first, second])) / f64::from(u16::MAX)
}
