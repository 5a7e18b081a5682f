//! Projects: what they are, how far back they go, new ones.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::gate::Gate;
use super::hub::{Hub, Step, Work};
use super::options::ProjectOptions;
use super::plan::Plan;
use super::refusal::Refusal;
use super::server::{Answer, Ask, Key};
use super::timeline::Begin;
use super::world::{Branch, Database, Endpoint, Project};
use super::{names, shapes};

const LIMIT_DEFAULT: usize = 10;
const LIMIT_MAX: usize = 400;

/// Longer is no plan's.
const RETENTION_SECONDS_MAX: i64 = 2_592_000;

pub(super) async fn list(hub: &Arc<Hub>, ask: &Ask) -> Result<Answer, Refusal> {
    let limit = ask.query.get("limit").map(|it| it.parse());
    let limit = match limit {
        None => LIMIT_DEFAULT,
        Some(Ok(limit @ 1..=LIMIT_MAX)) => limit,
        Some(_) => return Err(Refusal::invalid("limit must be from 1 to 400")),
    };
    let cursor = ask.query.get("cursor").map_or("", String::as_str);
    let search = ask.query.get("search").map_or("", String::as_str);
    let world = hub.world.lock().await;
    let found = world.projects.values().filter(|it| {
        let is_open = match &ask.key {
            Key::Organization => true,
            Key::Project(own) => *own == it.id,
        };
        is_open && it.id.as_str() > cursor && (it.name.contains(search) || it.id.contains(search))
    });
    let page: Vec<&Project> = found.take(limit).collect();
    let major = hub.storage.major.0;
    let mut body = json!({
        "projects": page.iter().map(|it| shapes::project(it, major)).collect::<Value>(),
        "applications": {}, "integrations": {},
    });
    if let Some(last) = page.last() {
        body["pagination"] = json!({"cursor": last.id});
    }
    Ok(Answer::ok(body))
}

pub(super) async fn get(hub: &Arc<Hub>, id: &str) -> Result<Answer, Refusal> {
    let mut world = hub.world.lock().await;
    let project = world.project(id)?;
    Ok(Answer::ok(
        json!({"project": shapes::project(project, hub.storage.major.0)}),
    ))
}

pub(super) async fn update(hub: &Arc<Hub>, ask: &Ask, id: &str) -> Result<Answer, Refusal> {
    let mut world = hub.world.lock().await;
    let project = world.project(id)?;
    let wanted = ask.body["project"]
        .as_object()
        .ok_or_else(|| Refusal::invalid("project must not be nil"))?;
    if let Some(seconds) = wanted.get("history_retention_seconds") {
        project.history_retention_seconds =
            retention(seconds, project.limits.history_retention_seconds)?;
    }
    if let Some(name) = wanted.get("name").and_then(Value::as_str) {
        name.clone_into(&mut project.name);
    }
    if let Some(Value::Object(settings)) = wanted.get("settings")
        && let Value::Object(own) = &mut project.settings
    {
        own.extend(settings.clone());
    }
    project.updated_at = super::now();
    let branch = project.default_branch()?.id.clone();
    let step = Step::on_branch("apply_storage_config", &branch, Work::Wait);
    let operations = hub.schedule(project, vec![step]);
    Ok(Answer::ok(json!({
        "project": shapes::project(project, hub.storage.major.0),
        "operations": shapes::operations(id, &operations),
    })))
}

fn retention(seconds: &Value, max: i64) -> Result<i64, Refusal> {
    let seconds = seconds.as_i64();
    let seconds = seconds.filter(|it| (0..=RETENTION_SECONDS_MAX).contains(it));
    let seconds = seconds
        .ok_or_else(|| Refusal::invalid("history_retention_seconds must be 0 to 2592000"))?;
    if seconds > max {
        return Err(Refusal::invalid(&format!(
            "requested history retention seconds exceeds allowed maximum; \
             requested_history_retention_seconds:\"{seconds}\", max:\"{max}\""
        )));
    }
    Ok(seconds)
}

pub(super) async fn create(hub: &Arc<Hub>, ask: &Ask) -> Result<Answer, Refusal> {
    let text = |value: &Value, default: &str| value.as_str().unwrap_or(default).to_owned();
    let wanted = &ask.body["project"];
    let defaults = ProjectOptions::default();
    let database = text(&wanted["branch"]["database_name"], &defaults.database);
    let options = ProjectOptions {
        name: text(&wanted["name"], &defaults.name),
        branch: text(&wanted["branch"]["name"], &defaults.branch),
        role: text(&wanted["branch"]["role_name"], &format!("{database}_owner")),
        database,
        store_passwords: wanted["store_passwords"].as_bool().unwrap_or(true),
        history_retention_seconds: wanted
            .get("history_retention_seconds")
            .map(|it| retention(it, Plan::default().limits().history_retention_seconds))
            .transpose()?,
        ..defaults
    };
    let id = add(hub, options).await?;
    let mut world = hub.world.lock().await;
    let project = world.project(&id)?;
    let (branch, endpoint) = (
        project.default_branch()?.id.clone(),
        project.endpoints[0].id.clone(),
    );
    project.branch_mut(&branch)?.is_ready = false;
    let endpoint_now = project.endpoint_mut(&endpoint)?;
    (endpoint_now.state, endpoint_now.pending) = ("init", Some("active"));
    let operations = hub.schedule(
        project,
        vec![
            Step::on_branch("create_timeline", &branch, Work::Ready),
            Step::on_endpoint("start_compute", &branch, &endpoint, Work::Start),
        ],
    );
    let branch = project.branch(&branch)?;
    let endpoint = project.endpoint(&endpoint)?;
    let mut body = json!({
        "project": shapes::project(project, hub.storage.major.0),
        "branch": shapes::branch(project, branch),
        "endpoints": [shapes::endpoint(project, endpoint)],
        "roles": shapes::roles(branch), "databases": shapes::databases(branch),
        "operations": shapes::operations(&id, &operations),
    });
    let has_tls = hub.options.certificate.is_some();
    if let Some(uris) = shapes::connection_uris(branch, Some(endpoint), has_tls) {
        body["connection_uris"] = uris;
    }
    Ok(Answer::created(body))
}

/// A project whose default branch is ready, and whose compute sleeps.
pub(super) async fn add(hub: &Arc<Hub>, options: ProjectOptions) -> Result<String, Refusal> {
    let storage = hub.storage.clone();
    let (role, database) = (options.role.clone(), options.database.clone());
    let base = Hub::blocking(move || storage.base(&role, &database)).await??;
    let now: Timestamp = super::now();
    let created_at = now - jiff::SignedDuration::try_from(options.age).unwrap_or_default();
    let timeline = hub.storage.timeline(Begin::Base(base), created_at);
    let (id, branch) = (names::id(""), names::id("br"));
    let endpoint = endpoint(hub, &branch, created_at).await?;
    let branch = Branch {
        id: branch,
        name: options.branch,
        parent: None,
        timeline,
        is_ready: true,
        is_default: true,
        is_protected: options.is_protected,
        state: None,
        created_at,
        updated_at: created_at,
        expires_at: None,
        last_reset_at: None,
        init_source: "parent-data".to_owned(),
        annotation: std::collections::BTreeMap::new(),
        logins: vec![(options.role.clone(), names::password())],
        databases: vec![Database {
            id: names::number(),
            name: options.database,
            owner: options.role,
        }],
        schedule: json!([]),
        restored_from: None,
        restored_as: None,
        restore_status: None,
        is_undeletable: false,
    };
    let project = Project {
        id: id.clone(),
        name: options.name,
        plan: options.plan,
        limits: options.limits.unwrap_or_else(|| options.plan.limits()),
        history_retention_seconds: options
            .history_retention_seconds
            .unwrap_or_else(|| options.plan.default_retention_seconds()),
        store_passwords: options.store_passwords,
        restore_keeps_id: options.restore_keeps_id,
        settings: json!({"allowed_ips": {"ips": [], "protected_branches_only": false}}),
        created_at,
        updated_at: now,
        overrides: Map::new(),
        branches: vec![branch],
        endpoints: vec![endpoint],
        operations: Vec::new(),
        snapshots: Vec::new(),
    };
    hub.world.lock().await.projects.insert(id.clone(), project);
    Ok(id)
}

/// A compute that sleeps, with an address of its own.
pub(super) async fn endpoint(
    hub: &Arc<Hub>,
    branch: &str,
    created_at: Timestamp,
) -> Result<Endpoint, Refusal> {
    let id = names::id("ep");
    let gate = Gate::open(Arc::downgrade(hub), &id).await;
    let gate = gate.map_err(|error| Refusal::new(500, "", &format!("stand-in: {error}")))?;
    Ok(Endpoint {
        id,
        branch: branch.to_owned(),
        name: None,
        min_cu: 0.25,
        max_cu: 0.25,
        suspend_timeout_seconds: 0,
        is_disabled: false,
        state: "idle",
        pending: None,
        created_at,
        started_at: None,
        suspended_at: None,
        gate,
    })
}

pub(super) async fn delete(hub: &Arc<Hub>, id: &str) -> Result<Answer, Refusal> {
    let (shape, timelines) = {
        let mut world = hub.world.lock().await;
        let shape = shapes::project(world.project(id)?, hub.storage.major.0);
        let removed = world.projects.remove(id);
        let branches = removed.into_iter().flat_map(|it| it.branches);
        let timelines: Vec<_> = branches.map(|it| it.timeline).collect();
        (shape, timelines)
    };
    Hub::blocking(move || timelines.iter().for_each(|it| it.close())).await?;
    Ok(Answer::ok(json!({"project": shape})))
}
