//! One running copy of a function: its process, its Runtime API, its end.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};

use super::output::Log;
use super::runtime_api::{Answer, RuntimeApi, Work};
use super::{FunctionSpec, Host, Surroundings, memory};
use crate::child::{Child, Output, Start, kill_group};

/// Lambda's limit on a function's start, up to its first request for an event.
const INIT_MAX: Duration = Duration::from_secs(10);
/// How often memory is looked at.
const MEMORY_PERIOD: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Instance {
    group: i32,
    work: mpsc::Sender<Work>,
    api: Arc<RuntimeApi>,
    server: tokio::task::AbortHandle,
    ended: watch::Receiver<Option<ExitStatus>>,
    log: Log,
}

/// How one invocation ended.
#[derive(Debug)]
pub(super) enum Outcome {
    Answer(Bytes),
    /// What the function itself reported: `errorType`, `errorMessage`.
    Error(Bytes),
    TooLarge,
    TimedOut,
    /// The process ended without an answer; how, in Lambda's words.
    Exited(String),
}

#[derive(Debug)]
pub(super) struct Ended {
    pub(super) outcome: Outcome,
    pub(super) peak: memory::PeakRss,
}

impl Instance {
    /// Starts the function's program; it asks for its first event by itself.
    pub(super) fn start(spec: &FunctionSpec, host: &Host) -> std::io::Result<Self> {
        let surroundings = &host.surroundings;
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let log = Log::open(
            &surroundings.logs.join(format!("{}.log", spec.binary)),
            &spec.logical_id,
            host.lines.clone(),
            host.metrics.clone(),
        )?;
        let mut child = Child::spawn(Start {
            program: &spec.program,
            args: Vec::new(),
            environment: environment(spec, surroundings, &address.to_string()),
            directory: surroundings.layer_root.clone(),
            output: Output::Piped,
        })?;
        let (work, receiver) = mpsc::channel(1);
        let api = RuntimeApi::new(spec.arn.clone(), receiver);
        let server =
            tokio::spawn(api.clone().serve(TcpListener::from_std(listener)?)).abort_handle();

        let group = child.id();
        let (stdout, stderr) = child.take_output();
        let outputs = [
            stdout.map(|output| tokio::spawn(log.clone().copy(output))),
            stderr.map(|output| tokio::spawn(log.clone().copy(output))),
        ];
        let (announce, ended) = watch::channel(None);
        let live = host.live.clone();
        live.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(group);
        tokio::spawn(async move {
            let status = child
                .wait()
                .await
                .unwrap_or_else(|_| ExitStatus::from_raw(0));
            // What the process started, it takes along.
            child.kill_group();
            live.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&group);
            for output in outputs.into_iter().flatten() {
                // A grandchild may hold the pipe: the last lines must not cost the answer.
                let _cut_off = tokio::time::timeout(Duration::from_secs(2), output).await;
            }
            let _instance_dropped = announce.send(Some(status));
        });
        Ok(Self {
            group,
            work,
            api,
            server,
            ended,
            log,
        })
    }

    pub(super) fn is_alive(&self) -> bool {
        self.ended.borrow().is_none() && self.ended.has_changed().is_ok()
    }

    /// Hands the event over and waits for its end, within the function's time and memory.
    pub(super) async fn run(
        &mut self,
        spec: &FunctionSpec,
        request_id: &str,
        payload: Bytes,
    ) -> Ended {
        let begun = Instant::now();
        self.log
            .write(&format!("START RequestId: {request_id} Version: $LATEST"));
        memory::reset_peak(self.group);
        let peak = Arc::new(Mutex::new(memory::Sample::default()));
        let watcher = tokio::spawn(watch_memory(
            self.group,
            spec.memory_mib * 1024 * 1024,
            peak.clone(),
        ));
        let outcome = self.answer_of(spec, request_id, payload).await;
        watcher.abort();

        let mut peak = *peak.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = memory::sample(self.group) {
            peak.peak_bytes = peak.peak_bytes.max(last.peak_bytes);
            peak.tree_bytes = peak.tree_bytes.max(last.tree_bytes).max(peak.peak_bytes);
        }
        if matches!(outcome, Outcome::TimedOut) {
            self.log.write(&format!(
                "{request_id} Task timed out after {:.2} seconds",
                spec.timeout.as_secs_f64()
            ));
            self.stop().await;
        }
        self.log.write(&format!("END RequestId: {request_id}"));
        self.log.write(&format!(
            "REPORT RequestId: {request_id}\tDuration: {:.2} ms\tMemory Size: {} MB\tMax Memory Used: {} MB",
            begun.elapsed().as_secs_f64() * 1000.0,
            spec.memory_mib,
            peak.tree_bytes.div_ceil(1024 * 1024)
        ));
        let peak = memory::PeakRss {
            logical_id: spec.logical_id.clone(),
            request_id: request_id.to_owned(),
            process_bytes: peak.peak_bytes,
            tree_bytes: peak.tree_bytes,
        };
        Ended { outcome, peak }
    }

    async fn answer_of(
        &mut self,
        spec: &FunctionSpec,
        request_id: &str,
        payload: Bytes,
    ) -> Outcome {
        let (fetched, was_fetched) = oneshot::channel();
        let (answer, answered) = oneshot::channel();
        let timeout = spec.timeout;
        let work = Work {
            request_id: request_id.to_owned(),
            payload,
            timeout,
            fetched,
            answer,
        };
        if self.work.send(work).await.is_err() {
            return Outcome::Exited("Runtime exited without providing a reason".into());
        }
        let mut ended = self.ended.clone();
        let in_time = async {
            match tokio::time::timeout(INIT_MAX, was_fetched).await {
                Ok(Ok(_)) => tokio::time::timeout(timeout, answered).await.ok()?.ok(),
                Ok(Err(_)) | Err(_) => None,
            }
        };
        tokio::select! {
            answer = in_time => match answer {
                Some(Answer::Response(body)) => Outcome::Answer(body),
                Some(Answer::Error(body)) => Outcome::Error(body),
                Some(Answer::TooLarge) => Outcome::TooLarge,
                None => Outcome::TimedOut,
            },
            status = ended.wait_for(Option::is_some) => match self.api.take_init_error() {
                Some(body) => Outcome::Error(body),
                None => Outcome::Exited(how_it_ended(status.ok().and_then(|status| *status))),
            },
        }
    }

    /// Kills the process and all it started, and waits until it is gone.
    async fn stop(&mut self) {
        kill_group(self.group);
        let _supervisor_gone = self.ended.wait_for(Option::is_some).await;
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if self.is_alive() {
            kill_group(self.group);
        }
        self.server.abort();
    }
}

/// Samples until aborted; above `limit_bytes` the function is killed, as Lambda kills it.
async fn watch_memory(group: i32, limit_bytes: u64, peak: Arc<Mutex<memory::Sample>>) {
    loop {
        if let Some(now) = memory::sample(group) {
            let mut peak = peak.lock().unwrap_or_else(PoisonError::into_inner);
            peak.peak_bytes = peak.peak_bytes.max(now.peak_bytes);
            peak.tree_bytes = peak.tree_bytes.max(now.tree_bytes);
            if now.tree_bytes > limit_bytes {
                kill_group(group);
            }
        }
        tokio::time::sleep(MEMORY_PERIOD).await;
    }
}

fn how_it_ended(status: Option<ExitStatus>) -> String {
    match status
        .and_then(|status| Some((status.code(), status.signal())).filter(|_| !status.success()))
    {
        Some((Some(code), _)) => format!("Runtime exited with error: exit status {code}"),
        Some((None, Some(9))) => "Runtime exited with error: signal: killed".into(),
        Some((None, Some(15))) => "Runtime exited with error: signal: terminated".into(),
        Some((None, signal)) => format!(
            "Runtime exited with error: signal: {}",
            signal.unwrap_or_default()
        ),
        None => "Runtime exited without providing a reason".into(),
    }
}

/// Exactly what Lambda gives, the template's own variables, and where this cloud differs from AWS.
fn environment(
    spec: &FunctionSpec,
    surroundings: &Surroundings,
    runtime_api: &str,
) -> std::collections::BTreeMap<String, String> {
    let mut environment = spec.environment.clone();
    let memory = spec.memory_mib.to_string();
    let given = [
        ("AWS_LAMBDA_RUNTIME_API", runtime_api),
        ("AWS_LAMBDA_FUNCTION_NAME", &spec.name),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", &memory),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
        ("AWS_LAMBDA_LOG_GROUP_NAME", &spec.log_group),
        ("AWS_LAMBDA_LOG_STREAM_NAME", "local"),
        ("AWS_REGION", &surroundings.region),
        ("AWS_DEFAULT_REGION", &surroundings.region),
        ("AWS_ACCESS_KEY_ID", &spec.credentials.access_key),
        ("AWS_SECRET_ACCESS_KEY", &spec.credentials.secret_key),
        (
            "AWS_SESSION_TOKEN",
            spec.credentials
                .session_token
                .as_deref()
                .unwrap_or_default(),
        ),
        ("AWS_ENDPOINT_URL", &surroundings.endpoint),
        ("_HANDLER", "bootstrap"),
        ("LANG", "en_US.UTF-8"),
        ("TZ", ":UTC"),
        ("PATH", "/usr/local/bin:/usr/bin:/bin:/opt/bin"),
    ];
    environment.extend(given.map(|(name, value)| (name.to_owned(), value.to_owned())));
    environment.insert(
        "LAYER_ROOT".into(),
        surroundings.layer_root.display().to_string(),
    );
    environment.extend(surroundings.extra_environment.clone());
    environment
}
