//! AWS Lambda, as far as a function and its callers can see it: the Runtime API on one side, Invoke on the other.

mod hooks;
mod instance;
mod invoke;
mod memory;
mod output;
mod runtime_api;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::broadcast;

use crate::aws::Credentials;
use crate::child::kill_group;
use crate::metrics::Metrics;
use hooks::Hooks;
use instance::{Instance, Outcome};
pub(crate) use invoke::{function_of, percent_decode, serve};
pub use memory::PeakRss;
pub use output::LogLine;

/// What Lambda accepts as an event and as an answer of a synchronous invocation.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 6 * 1024 * 1024;

/// One function as the template describes it.
#[derive(Clone, Debug)]
pub struct FunctionSpec {
    pub logical_id: String,
    pub name: String,
    pub arn: String,
    /// The binary's name, which is also the name of its log file.
    pub binary: String,
    pub program: PathBuf,
    pub timeout: Duration,
    pub memory_mib: u64,
    pub environment: BTreeMap<String, String>,
    pub log_group: String,
    pub reserved_concurrency: Option<usize>,
    pub credentials: Credentials,
}

/// What every function instance gets beside its own environment.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    pub(crate) region: String,
    /// The gateway, for `AWS_ENDPOINT_URL`.
    pub(crate) endpoint: String,
    pub(crate) layer_root: PathBuf,
    /// Files named after the functions' binaries.
    pub(crate) logs: PathBuf,
    pub(crate) extra_environment: BTreeMap<String, String>,
}

/// What an invocation came to, in the words of the Invoke API.
#[derive(Clone, Debug)]
pub struct Invoked {
    pub request_id: String,
    /// True for `X-Amz-Function-Error: Unhandled`: the payload then holds `errorType` and `errorMessage`.
    pub failed: bool,
    pub payload: Bytes,
}

/// Lambda's own refusals, before a function runs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvokeError {
    #[error("Function not found: {0}")]
    NotFound(String),
    #[error("Rate Exceeded.")]
    TooManyRequests,
    #[error(
        "Request must be smaller than {PAYLOAD_BYTES_MAX} bytes for the InvokeFunction operation"
    )]
    RequestTooLarge,
    #[error("Could not parse request body into json: {0}")]
    InvalidRequestContent(String),
    #[error("the function's program could not be started: {0}")]
    Start(#[source] std::io::Error),
}

/// The functions of one cloud.
#[derive(Debug)]
pub(crate) struct Host {
    functions: Vec<Arc<Function>>,
    surroundings: Surroundings,
    metrics: Arc<Metrics>,
    lines: broadcast::Sender<LogLine>,
    peaks: Mutex<Vec<PeakRss>>,
    live: Live,
    hooks: Hooks,
}

/// Process groups of all instances that run.
type Live = Arc<Mutex<BTreeSet<i32>>>;

#[derive(Debug)]
struct Function {
    spec: FunctionSpec,
    pool: Mutex<Pool>,
}

#[derive(Debug, Default)]
struct Pool {
    /// Warm instances; the one used last is used next, as Lambda does.
    idle: Vec<Instance>,
    running: usize,
    /// Instances of an earlier generation do not become idle again.
    generation: u64,
}

impl Host {
    pub(crate) fn new(
        specs: Vec<FunctionSpec>,
        surroundings: Surroundings,
        metrics: Arc<Metrics>,
    ) -> Self {
        let functions = specs
            .into_iter()
            .map(|spec| {
                Arc::new(Function {
                    spec,
                    pool: Mutex::default(),
                })
            })
            .collect();
        let (lines, _) = broadcast::channel(4096);
        Self {
            functions,
            surroundings,
            metrics,
            lines,
            peaks: Mutex::default(),
            live: Live::default(),
            hooks: Hooks::default(),
        }
    }

    /// A function that is not of the template, under its own name.
    pub(crate) fn add_hook(
        &self,
        name: &str,
        answer: impl Fn(Value) -> Result<Value, String> + Send + Sync + 'static,
    ) {
        self.hooks.add(name, answer);
    }

    /// Every log line of every function from now on.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<LogLine> {
        self.lines.subscribe()
    }

    /// Peak memory of every invocation so far, oldest first.
    pub(crate) fn peaks(&self) -> Vec<PeakRss> {
        self.peaks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The function that a logical id, a name, an ARN or a binary's name means.
    pub(crate) fn spec(&self, function: &str) -> Option<&FunctionSpec> {
        self.find(function).map(|function| &function.spec)
    }

    fn find(&self, function: &str) -> Option<&Arc<Function>> {
        self.functions.iter().find(|candidate| {
            let spec = &candidate.spec;
            let qualified = function
                .strip_prefix(&spec.arn)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(':'));
            qualified
                || [&spec.logical_id, &spec.name, &spec.binary]
                    .into_iter()
                    .any(|name| name == function)
        })
    }

    /// Ends the warm instances, so that the next invocation reads its configuration anew.
    pub(crate) fn recycle(&self) {
        for function in &self.functions {
            let mut pool = function.pool.lock().unwrap_or_else(PoisonError::into_inner);
            pool.idle.clear();
            pool.generation += 1;
        }
    }

    /// Kills every instance with all it started.
    pub(crate) fn kill_all(&self) {
        for group in self
            .live
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
        {
            kill_group(*group);
        }
    }

    /// Runs one synchronous invocation to its end.
    pub(crate) async fn invoke(
        &self,
        function: &str,
        payload: Bytes,
    ) -> Result<Invoked, InvokeError> {
        if let Some(invoked) = self.hooks.invoke(function, &payload) {
            return Ok(invoked);
        }
        let function = self
            .find(function)
            .ok_or_else(|| InvokeError::NotFound(function.to_owned()))?
            .clone();
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(InvokeError::RequestTooLarge);
        }
        let payload = if payload.is_empty() {
            Bytes::from_static(b"{}")
        } else {
            payload
        };
        serde_json::from_slice::<serde::de::IgnoredAny>(&payload)
            .map_err(|error| InvokeError::InvalidRequestContent(error.to_string()))?;

        let slot = Slot::take(&function)?;
        let warm = slot.pool().idle.pop();
        let mut instance = match warm {
            Some(instance) if instance.is_alive() => instance,
            Some(_) | None => Instance::start(&function.spec, self).map_err(InvokeError::Start)?,
        };
        let request_id = request_id();
        let ended = instance.run(&function.spec, &request_id, payload).await;
        self.peaks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(ended.peak);
        if instance.is_alive() && slot.pool().generation == slot.generation {
            slot.pool().idle.push(instance);
        }
        drop(slot);
        Ok(invoked(request_id, ended.outcome, function.spec.timeout))
    }
}

/// One unit of a function's concurrency, given back however the invocation ends.
struct Slot {
    function: Arc<Function>,
    generation: u64,
}

impl Slot {
    fn take(function: &Arc<Function>) -> Result<Self, InvokeError> {
        let mut pool = function.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if function
            .spec
            .reserved_concurrency
            .is_some_and(|limit| pool.running >= limit)
        {
            return Err(InvokeError::TooManyRequests);
        }
        pool.running += 1;
        Ok(Self {
            function: function.clone(),
            generation: pool.generation,
        })
    }

    fn pool(&self) -> std::sync::MutexGuard<'_, Pool> {
        self.function
            .pool
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.pool().running -= 1;
    }
}

/// Words an outcome as Lambda does.
fn invoked(request_id: String, outcome: Outcome, timeout: Duration) -> Invoked {
    let (error_type, message) = match outcome {
        Outcome::Answer(payload) => {
            return Invoked {
                request_id,
                failed: false,
                payload,
            };
        }
        Outcome::Error(payload) => {
            return Invoked {
                request_id,
                failed: true,
                payload,
            };
        }
        Outcome::TooLarge => (
            "Function.ResponseSizeTooLarge",
            format!(
                "Response payload size exceeded maximum allowed payload size ({PAYLOAD_BYTES_MAX} bytes)."
            ),
        ),
        Outcome::TimedOut => (
            "Sandbox.Timedout",
            format!(
                "RequestId: {request_id} Error: Task timed out after {:.2} seconds",
                timeout.as_secs_f64()
            ),
        ),
        Outcome::Exited(how) => (
            "Runtime.ExitError",
            format!("RequestId: {request_id} Error: {how}"),
        ),
    };
    let payload = json!({"errorType": error_type, "errorMessage": message}).to_string();
    Invoked {
        request_id,
        failed: true,
        payload: payload.into(),
    }
}

/// A new request id in the shape of a UUID.
pub(crate) fn request_id() -> String {
    use std::hash::{BuildHasher, RandomState};
    let random = || RandomState::new().hash_one(0_u8);
    let (high, low) = (random(), random());
    format!(
        "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        low >> 52,
        low & 0xffff_ffff_ffff
    )
}
