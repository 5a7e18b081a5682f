//! A new branch, from the head of another or from a point in its history.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::endpoints::{self, Sizes};
use super::hub::{Hub, Step, Work};
use super::lsn::Lsn;
use super::refusal::Refusal;
use super::server::{Answer, Ask};
use super::timeline::{At, Fork, Login};
use super::world::{Branch, Parent, Project};
use super::{branches, names, projects, shapes};

const ANNOTATION_KEYS_MAX: usize = 50;

pub(super) async fn create(hub: &Arc<Hub>, ask: &Ask, project: &str) -> Result<Answer, Refusal> {
    let mut world = hub.world.lock().await;
    let project = world.project(project)?;
    let wanted = &ask.body["branch"];
    let parent = match wanted["parent_id"].as_str() {
        Some(id) => project.branch(id)?,
        None => project.default_branch()?,
    };
    let parent = parent.clone();
    let sizes = ask.body["endpoints"].as_array();
    let sizes: Vec<Sizes> = sizes
        .into_iter()
        .flatten()
        .map(|it| endpoints::sizes(project, it))
        .collect::<Result<_, _>>()?;
    judge(project, &parent, wanted)?;
    if !sizes.is_empty() {
        endpoints::claim_compute(project)?;
    }
    let annotation = shapes::strings(&ask.body["annotation_value"])
        .filter(|it| it.len() <= ANNOTATION_KEYS_MAX)
        .ok_or_else(|| Refusal::invalid("annotation_value must be at most 50 strings by name"))?;

    let at = point(project, wanted, "parent_lsn", "parent_timestamp")?;
    judge_point(&parent, at)?;
    let timeline = parent.timeline.clone();
    let Fork { begin, lsn } = Hub::blocking(move || timeline.fork(at)).await??;
    let now = super::now();
    let time = match at {
        At::Head => Some(now),
        At::Time(time) => Some(time),
        At::Lsn(_) => None,
    };
    let id = names::id("br");
    let name = wanted["name"].as_str().unwrap_or(&id).to_owned();
    project.claim_name(&name, &id)?;
    let is_protected = wanted["protected"].as_bool().unwrap_or(false);
    let branch = Branch {
        name,
        parent: Some(Parent {
            branch: parent.id.clone(),
            lsn,
            time,
        }),
        timeline: hub.storage.timeline(begin, time.unwrap_or(now)),
        is_ready: false,
        is_default: false,
        is_protected,
        created_at: now,
        updated_at: now,
        expires_at: branches::expiry(&wanted["expires_at"], is_protected, false)?,
        annotation,
        logins: logins(&parent),
        ..fresh(&parent, id.clone())
    };
    project.branches.push(branch);
    let mut steps = vec![Step::on_branch("create_branch", &id, Work::Ready)];
    for sizes in &sizes {
        let endpoint = projects::endpoint(hub, &id, now).await?;
        steps.push(Step::on_endpoint(
            "start_compute",
            &id,
            &endpoint.id,
            Work::Start,
        ));
        project.endpoints.push(sizes.clone().given_to(endpoint));
    }
    let operations = hub.schedule(project, steps);
    Ok(Answer::created(told(hub, project, &id, &operations)?))
}

fn told(
    hub: &Hub,
    project: &Project,
    id: &str,
    operations: &[super::world::Operation],
) -> Result<Value, Refusal> {
    let branch = project.branch(id)?;
    let endpoint = project.endpoint_of(id);
    let endpoints: Value = endpoint
        .iter()
        .map(|it| shapes::endpoint(project, it))
        .collect();
    let mut body = json!({
        "branch": shapes::branch(project, branch), "endpoints": endpoints,
        "operations": shapes::operations(&project.id, operations),
        "roles": shapes::roles(branch), "databases": shapes::databases(branch),
    });
    if !branch.annotation.is_empty() {
        body["annotation"] = shapes::annotation(branch);
    }
    let has_tls = hub.options.certificate.is_some();
    if let Some(uris) = shapes::connection_uris(branch, endpoint, has_tls) {
        body["connection_uris"] = uris;
    }
    Ok(body)
}

/// Another branch with the same databases and nothing else of this one.
pub(super) fn fresh(of: &Branch, id: String) -> Branch {
    Branch {
        id,
        state: None,
        last_reset_at: None,
        init_source: "parent-data".to_owned(),
        annotation: std::collections::BTreeMap::new(),
        schedule: json!([]),
        restored_from: None,
        restored_as: None,
        restore_status: None,
        is_undeletable: false,
        ..of.clone()
    }
}

/// Children of protected branches have passwords of their own.
fn logins(parent: &Branch) -> Vec<Login> {
    if !parent.is_protected {
        return parent.logins.clone();
    }
    let roles = parent.logins.iter().map(|(role, _)| role.clone());
    roles.map(|role| (role, names::password())).collect()
}

fn judge(project: &Project, parent: &Branch, wanted: &Value) -> Result<(), Refusal> {
    if project.branches.len() >= project.limits.branches {
        return Err(Refusal::limit("BRANCHES_LIMIT_EXCEEDED"));
    }
    if wanted["protected"] == true {
        branches::claim_protection(project)?;
    }
    if parent.expires_at.is_some() {
        return Err(Refusal::unprocessable(
            "cannot create a child of a branch with an expiration",
        ));
    }
    if !parent.is_ready {
        return Err(Refusal::unprocessable("branch not ready yet"));
    }
    match wanted["init_source"].as_str() {
        None | Some("parent-data") => Ok(()),
        Some(other) => Err(Refusal::invalid(&format!(
            "stand-in: init_source {other} is not in it"
        ))),
    }
}

/// The point that a body names, if the project's history has it.
pub(super) fn point(project: &Project, body: &Value, lsn: &str, time: &str) -> Result<At, Refusal> {
    match (body[lsn].as_str(), body[time].as_str()) {
        (Some(_), Some(_)) => Err(Refusal::invalid(
            "a point in time is given by a timestamp or an LSN, not by both",
        )),
        (Some(lsn), None) => Lsn::parse(lsn)
            .map(At::Lsn)
            .ok_or_else(|| Refusal::invalid("invalid LSN")),
        (None, Some(time)) => {
            let time = shapes::time(time)?;
            judge_time(project, time)?;
            Ok(At::Time(time))
        }
        (None, None) => Ok(At::Head),
    }
}

fn judge_time(project: &Project, time: Timestamp) -> Result<(), Refusal> {
    let now = super::now();
    let window = SignedDuration::from_secs(project.history_retention_seconds);
    if time > now {
        return Err(Refusal::invalid("the timestamp is in the future"));
    }
    if time < now - window {
        return Err(Refusal::invalid(&format!(
            "the timestamp is older than the history retention of the project; \
             history_retention_seconds:\"{}\"",
            project.history_retention_seconds
        )));
    }
    Ok(())
}

/// Only root branches have a history to go back in.
pub(super) fn judge_point(of: &Branch, at: At) -> Result<(), Refusal> {
    match at {
        At::Head => Ok(()),
        At::Time(_) | At::Lsn(_) if of.restored_from.is_some() => Err(Refusal::unprocessable(
            "restore from snapshot on target branch is still ongoing",
        )),
        At::Time(_) | At::Lsn(_) if of.is_child() => Err(Refusal::unprocessable(
            "point-in-time restore is possible from root branches only",
        )),
        At::Time(_) | At::Lsn(_) => Ok(()),
    }
}
