//! Computes: created, started, suspended.

use std::sync::Arc;

use serde_json::{Value, json};

use super::hub::{Hub, Step, Work};
use super::plan::Plan;
use super::refusal::Refusal;
use super::server::{Answer, Ask};
use super::world::{Endpoint, Operation, Project};
use super::{projects, shapes};

/// How big a compute may become, and when it sleeps.
#[derive(Clone, Debug)]
pub(super) struct Sizes {
    min_cu: f64,
    max_cu: f64,
    suspend_timeout_seconds: i64,
    name: Option<String>,
}

impl Sizes {
    pub(super) fn given_to(self, endpoint: Endpoint) -> Endpoint {
        Endpoint {
            min_cu: self.min_cu,
            max_cu: self.max_cu,
            suspend_timeout_seconds: self.suspend_timeout_seconds,
            name: self.name,
            state: "init",
            pending: Some("active"),
            ..endpoint
        }
    }
}

pub(super) fn sizes(project: &Project, wanted: &Value) -> Result<Sizes, Refusal> {
    if wanted["type"] != "read_write" {
        return Err(Refusal::invalid(
            "stand-in: only endpoints of type read_write are in it",
        ));
    }
    let min_cu = wanted["autoscaling_limit_min_cu"].as_f64().unwrap_or(0.25);
    let max_cu = wanted["autoscaling_limit_max_cu"]
        .as_f64()
        .unwrap_or_else(|| min_cu.max(2.0));
    let cu_max = match project.plan {
        Plan::Free => 2.0,
        Plan::Launch | Plan::Scale => 16.0,
    };
    if min_cu < 0.25 || max_cu < min_cu || max_cu > cu_max {
        return Err(Refusal::invalid("invalid autoscaling limits"));
    }
    let suspend_timeout_seconds = wanted["suspend_timeout_seconds"].as_i64();
    if project.plan == Plan::Free && suspend_timeout_seconds.is_some() {
        return Err(Refusal::new(
            412,
            "",
            "suspend interval changing is not allowed for your account",
        ));
    }
    Ok(Sizes {
        min_cu,
        max_cu,
        suspend_timeout_seconds: suspend_timeout_seconds.unwrap_or(0),
        name: wanted["name"].as_str().map(str::to_owned),
    })
}

/// Refused when as many run as the project may have.
pub(super) fn claim_compute(project: &Project) -> Result<(), Refusal> {
    let default = project.default_branch()?.id.clone();
    let running = project.endpoints.iter();
    let running = running.filter(|it| it.branch != default && it.state != "idle");
    if running.count() >= project.limits.active_computes {
        return Err(Refusal::limit("ACTIVE_ENDPOINTS_LIMIT_EXCEEDED"));
    }
    Ok(())
}

pub(super) async fn list(
    hub: &Arc<Hub>,
    project: &str,
    branch: Option<&str>,
) -> Result<Answer, Refusal> {
    let mut world = hub.world.lock().await;
    let project = world.project(project)?;
    if let Some(branch) = branch {
        project.branch(branch)?;
    }
    let found = project.endpoints.iter();
    let found = found.filter(|it| branch.is_none_or(|branch| it.branch == branch));
    let endpoints: Value = found.map(|it| shapes::endpoint(project, it)).collect();
    Ok(Answer::ok(json!({"endpoints": endpoints})))
}

pub(super) async fn get(hub: &Arc<Hub>, project: &str, id: &str) -> Result<Answer, Refusal> {
    let mut world = hub.world.lock().await;
    let project = world.project(project)?;
    Ok(Answer::ok(
        json!({"endpoint": shapes::endpoint(project, project.endpoint(id)?)}),
    ))
}

fn told(project: &Project, id: &str, operations: &[Operation]) -> Result<Value, Refusal> {
    Ok(json!({
        "endpoint": shapes::endpoint(project, project.endpoint(id)?),
        "operations": shapes::operations(&project.id, operations),
    }))
}

pub(super) async fn create(hub: &Arc<Hub>, ask: &Ask, project: &str) -> Result<Answer, Refusal> {
    let mut world = hub.world.lock().await;
    let project = world.project(project)?;
    let wanted = &ask.body["endpoint"];
    let branch = wanted["branch_id"].as_str().unwrap_or_default().to_owned();
    project.branch(&branch)?;
    let sizes = sizes(project, wanted)?;
    if project.endpoint_of(&branch).is_some() {
        return Err(Refusal::invalid(
            "read_write endpoint already exists for this branch",
        ));
    }
    claim_compute(project)?;
    let endpoint = projects::endpoint(hub, &branch, super::now()).await?;
    let id = endpoint.id.clone();
    project.endpoints.push(sizes.given_to(endpoint));
    let step = Step::on_endpoint("start_compute", &branch, &id, Work::Start);
    let operations = hub.schedule(project, vec![step]);
    Ok(Answer::created(told(project, &id, &operations)?))
}

pub(super) async fn update(
    hub: &Arc<Hub>,
    ask: &Ask,
    project: &str,
    id: &str,
) -> Result<Answer, Refusal> {
    let mut world = hub.world.lock().await;
    let project = world.project(project)?;
    let mut wanted = ask.body["endpoint"].clone();
    let branch = project.endpoint(id)?.branch.clone();
    wanted["type"] = json!("read_write");
    let sizes = sizes(project, &wanted)?;
    let endpoint = project.endpoint_mut(id)?;
    (endpoint.min_cu, endpoint.max_cu) = (sizes.min_cu, sizes.max_cu);
    endpoint.suspend_timeout_seconds = sizes.suspend_timeout_seconds;
    if let Some(is_disabled) = wanted["disabled"].as_bool() {
        endpoint.is_disabled = is_disabled;
    }
    let step = Step::on_endpoint("apply_config", &branch, id, Work::Wait);
    let operations = hub.schedule(project, vec![step]);
    Ok(Answer::ok(told(project, id, &operations)?))
}

pub(super) async fn delete(hub: &Arc<Hub>, project: &str, id: &str) -> Result<Answer, Refusal> {
    let mut world = hub.world.lock().await;
    let project = world.project(project)?;
    let Ok(endpoint) = project.endpoint(id) else {
        return Ok(Answer::nothing());
    };
    let branch = endpoint.branch.clone();
    let shape = shapes::endpoint(project, endpoint);
    let timeline = project.branch(&branch)?.timeline.clone();
    project.endpoints.retain(|it| it.id != id);
    let step = Step::on_endpoint("suspend_compute", &branch, id, Work::Stop(timeline));
    let operations = hub.schedule(project, vec![step]);
    Ok(Answer::ok(json!({
        "endpoint": shape, "operations": shapes::operations(&project.id, &operations),
    })))
}

/// Starts, suspends or restarts a compute.
pub(super) async fn turn(
    hub: &Arc<Hub>,
    project: &str,
    id: &str,
    action: &str,
) -> Result<Answer, Refusal> {
    let mut world = hub.world.lock().await;
    let project = world.project(project)?;
    let endpoint = project.endpoint(id)?;
    let (branch, state) = (endpoint.branch.clone(), endpoint.state);
    let timeline = project.branch(&branch)?.timeline.clone();
    let stop = Step::on_endpoint("suspend_compute", &branch, id, Work::Stop(timeline));
    let start = Step::on_endpoint("start_compute", &branch, id, Work::Start);
    let (steps, pending) = match (action, state) {
        ("start", "active") | ("suspend", "idle") => (Vec::new(), None),
        ("start", _) => (vec![start], Some("active")),
        ("suspend", _) => (vec![stop], Some("idle")),
        _ => (vec![stop, start], Some("active")),
    };
    if action != "suspend" && state == "idle" && !project.branch(&branch)?.is_default {
        claim_compute(project)?;
    }
    project.endpoint_mut(id)?.pending = pending;
    let operations = hub.schedule(project, steps);
    Ok(Answer::ok(told(project, id, &operations)?))
}
