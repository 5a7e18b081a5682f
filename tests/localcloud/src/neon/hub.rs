//! What all requests and connections share, and the operations that run behind them.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::faults::{NeonFaults, OperationFault};
use super::names;
use super::options::NeonOptions;
use super::refusal::Refusal;
use super::server::NeonCall;
use super::storage::Storage;
use super::timeline::Timeline;
use super::world::{Operation, Project, World};

#[derive(Debug)]
pub(super) struct Hub {
    pub(super) me: Weak<Hub>,
    pub(super) world: tokio::sync::Mutex<World>,
    /// One change is judged and begun at a time.
    pub(super) turn: tokio::sync::Mutex<()>,
    pub(super) storage: Arc<Storage>,
    pub(super) options: NeonOptions,
    pub(super) faults: NeonFaults,
    pub(super) calls: Mutex<Vec<NeonCall>>,
    /// Of the organization; a project's key is this one with the project's id behind it.
    pub(super) key: String,
}

/// One operation that is to come, and what is done when it runs.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) action: &'static str,
    pub(super) branch: Option<String>,
    pub(super) endpoint: Option<String>,
    pub(super) work: Work,
}

#[derive(Clone, Debug)]
pub(super) enum Work {
    /// It only takes its time.
    Wait,
    /// The branch is usable from now on.
    Ready,
    /// Starts the compute on whatever its branch holds now.
    Start,
    /// Ends the server of this history; the endpoint, if it is named, is idle then.
    Stop(Arc<Timeline>),
    /// Gives the running compute the passwords that the API tells.
    Logins,
    /// The branch is gone, with its computes.
    Remove,
}

/// What an operation has come to.
struct State {
    status: &'static str,
    error: Option<String>,
    retry_at: Option<Timestamp>,
}

impl State {
    fn of(status: &'static str) -> Self {
        Self {
            status,
            error: None,
            retry_at: None,
        }
    }

    fn error(status: &'static str, error: &str) -> Self {
        Self {
            error: Some(error.to_owned()),
            ..Self::of(status)
        }
    }
}

impl Step {
    pub(super) fn on_branch(action: &'static str, branch: &str, work: Work) -> Self {
        Self {
            action,
            branch: Some(branch.to_owned()),
            endpoint: None,
            work,
        }
    }

    pub(super) fn on_endpoint(
        action: &'static str,
        branch: &str,
        endpoint: &str,
        work: Work,
    ) -> Self {
        Self {
            endpoint: Some(endpoint.to_owned()),
            ..Self::on_branch(action, branch, work)
        }
    }
}

impl Hub {
    /// Runs something that blocks.
    pub(super) async fn blocking<T: Send + 'static>(
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let ended = tokio::task::spawn_blocking(work).await;
        ended.map_err(|error| Refusal::new(500, "", &format!("stand-in: {error}")))
    }

    /// Begins these operations, one after the other; as they are now.
    pub(super) fn schedule(&self, project: &mut Project, steps: Vec<Step>) -> Vec<Operation> {
        let last = project.operations.last().map(|it| it.created_at);
        let mut running = Vec::new();
        for step in steps {
            // Pages of operations are cut by time, so no two share one.
            let after = running
                .last()
                .map(|(it, _): &(Operation, Step)| it.created_at);
            let after = after.or(last).map(|it| it + SignedDuration::from_micros(1));
            let now = after.map_or_else(super::now, |it| it.max(super::now()));
            let operation = Operation {
                id: names::uuid(),
                action: step.action,
                branch: step.branch.clone(),
                endpoint: step.endpoint.clone(),
                status: if running.is_empty() {
                    "running"
                } else {
                    "scheduling"
                },
                failures: 0,
                error: None,
                retry_at: None,
                created_at: now,
                updated_at: now,
            };
            running.push((operation.clone(), step));
            project.operations.push(operation);
        }
        let begun = running.iter().map(|(it, _)| it.clone()).collect();
        if let Some(hub) = self.me.upgrade() {
            let project = project.id.clone();
            tokio::spawn(async move { hub.run(&project, running).await });
        }
        begun
    }

    async fn run(self: Arc<Self>, project: &str, steps: Vec<(Operation, Step)>) {
        let mut goes_on = true;
        for (Operation { id, .. }, step) in steps {
            if goes_on {
                goes_on = self.run_one(project, &id, &step).await;
            } else {
                self.set(project, &id, State::of("cancelled")).await;
            }
        }
    }

    /// Whether it finished.
    async fn run_one(&self, project: &str, id: &str, step: &Step) -> bool {
        self.set(project, id, State::of("running")).await;
        tokio::time::sleep(self.options.operation_delay).await;
        loop {
            match self.faults.take_operation(project, step.action) {
                None => break,
                Some(OperationFault::Hangs) => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Some(OperationFault::FailsOnce(pause)) => {
                    let retry_at = super::now() + pause;
                    let mut failed = State::error("failed", "the compute did not answer in time");
                    failed.retry_at = Some(retry_at);
                    self.set(project, id, failed).await;
                    tokio::time::sleep(pause).await;
                    self.set(project, id, State::of("running")).await;
                }
                Some(fault @ (OperationFault::Fails | OperationFault::IsInError)) => {
                    let status = if fault == OperationFault::Fails {
                        "failed"
                    } else {
                        "error"
                    };
                    let error = State::error(status, "internal error");
                    self.set(project, id, error).await;
                    return false;
                }
                Some(OperationFault::IsCancelled) => {
                    self.set(project, id, State::of("cancelled")).await;
                    return false;
                }
            }
        }
        match self.work(project, step).await {
            Ok(()) => self.set(project, id, State::of("finished")).await,
            Err(refusal) => {
                self.set(project, id, State::error("error", &refusal.message))
                    .await;
                return false;
            }
        }
        true
    }

    async fn set(&self, project: &str, id: &str, state: State) {
        let mut world = self.world.lock().await;
        let Ok(project) = world.project(project) else {
            return;
        };
        if let Some(operation) = project.operation_mut(id) {
            operation.status = state.status;
            operation.failures += u32::from(state.error.is_some());
            operation.error = state.error;
            operation.retry_at = state.retry_at;
            operation.updated_at = super::now();
        }
    }

    async fn work(&self, project: &str, step: &Step) -> Result<(), Refusal> {
        let branch = step.branch.as_deref().unwrap_or_default();
        match &step.work {
            Work::Wait => Ok(()),
            Work::Ready => {
                let mut world = self.world.lock().await;
                let branch = world.project(project)?.branch_mut(branch)?;
                branch.is_ready = true;
                branch.updated_at = super::now();
                Ok(())
            }
            Work::Start => {
                let endpoint = step.endpoint.as_deref().unwrap_or_default();
                self.start_compute(project, endpoint).await
            }
            Work::Stop(timeline) => {
                let timeline = timeline.clone();
                Self::blocking(move || timeline.stop()).await??;
                let mut world = self.world.lock().await;
                let endpoint = step.endpoint.as_deref().unwrap_or_default();
                if let Ok(endpoint) = world.project(project)?.endpoint_mut(endpoint) {
                    (endpoint.state, endpoint.pending) = ("idle", None);
                    endpoint.suspended_at = Some(super::now());
                }
                Ok(())
            }
            Work::Logins => {
                let (timeline, logins) = {
                    let mut world = self.world.lock().await;
                    let branch = world.project(project)?.branch(branch)?;
                    (branch.timeline.clone(), branch.logins.clone())
                };
                if timeline.is_running() {
                    Self::blocking(move || timeline.start(&logins)).await??;
                }
                Ok(())
            }
            Work::Remove => {
                let timeline = {
                    let mut world = self.world.lock().await;
                    let project = world.project(project)?;
                    let timeline = project.branch(branch)?.timeline.clone();
                    project.branches.retain(|it| it.id != branch);
                    project.endpoints.retain(|it| it.branch != branch);
                    timeline
                };
                Self::blocking(move || timeline.close()).await
            }
        }
    }

    async fn start_compute(&self, project: &str, endpoint: &str) -> Result<(), Refusal> {
        let (timeline, logins) = {
            let mut world = self.world.lock().await;
            let project = world.project(project)?;
            let branch = project.branch(&project.endpoint(endpoint)?.branch)?;
            (branch.timeline.clone(), branch.logins.clone())
        };
        Self::blocking(move || timeline.start(&logins)).await??;
        let mut world = self.world.lock().await;
        let endpoint = world.project(project)?.endpoint_mut(endpoint)?;
        (endpoint.state, endpoint.pending) = ("active", None);
        endpoint.started_at = Some(super::now());
        Ok(())
    }

    /// The port behind an endpoint, whose compute is started if it slept.
    pub(super) async fn wake(&self, endpoint: &str, is_pooled: bool) -> Option<u16> {
        let (project, operation, timeline, logins) = {
            let mut world = self.world.lock().await;
            let project = world
                .projects
                .values_mut()
                .find(|it| it.endpoint(endpoint).is_ok())?;
            let slept = {
                let endpoint = project.endpoint_mut(endpoint).ok()?;
                if endpoint.is_disabled {
                    return None;
                }
                endpoint.state == "idle" && endpoint.pending.replace("active").is_none()
            };
            let branch = project.endpoint(endpoint).ok()?.branch.clone();
            let operation = slept.then(|| {
                let step = Step::on_endpoint("start_compute", &branch, endpoint, Work::Start);
                self.schedule(project, vec![step])
            });
            let branch = project.branch(&branch).ok()?;
            let (timeline, logins) = (branch.timeline.clone(), branch.logins.clone());
            (project.id.clone(), operation, timeline, logins)
        };
        let mut begun = operation.unwrap_or_default();
        // The operation decides: it may have been told to fail.
        while let Some(operation) = begun.last() {
            let mut world = self.world.lock().await;
            let found = world.project(&project).ok()?.operation_mut(&operation.id)?;
            match found.status {
                "finished" => begun.clear(),
                _ if found.is_over() => return None,
                _ => {
                    drop(world);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        }
        let port = Self::blocking(move || {
            if is_pooled {
                timeline.pooler(&logins)
            } else {
                timeline.start(&logins)
            }
        });
        port.await.ok()?.ok()
    }

    pub(super) fn log(&self, call: NeonCall) {
        self.calls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(call);
    }
}
