//! Branches: listed in pages, renamed, protected, given an end, deleted.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::hub::{Hub, Step, Work};
use super::refusal::Refusal;
use super::server::{Answer, Ask};
use super::shapes;
use super::world::{Branch, Project};

/// Whatever is asked for, a page has no more.
const PAGE_MAX: usize = 100;
const LIMIT_MAX: usize = 10_000;

/// The latest end that can be given.
const EXPIRY_DAYS_MAX: i64 = 30;

pub(super) async fn list(hub: &Arc<Hub>, ask: &Ask, project: &str) -> Result<Answer, Refusal> {
    let limit = ask.query.get("limit").map(|it| it.parse());
    let limit = match limit {
        None => PAGE_MAX,
        Some(Ok(limit @ 1..=LIMIT_MAX)) => limit.min(PAGE_MAX),
        Some(_) => return Err(Refusal::invalid("limit must be from 1 to 10000")),
    };
    let sort_by = ask
        .query
        .get("sort_by")
        .map_or("updated_at", String::as_str);
    let order = ask.query.get("sort_order").map_or("desc", String::as_str);
    if !matches!(sort_by, "name" | "created_at" | "updated_at") || !matches!(order, "asc" | "desc")
    {
        return Err(Refusal::invalid("invalid sort_by or sort_order"));
    }
    let mut world = hub.world.lock().await;
    let project = world.project(project)?;
    let mut found = searched(project, ask);
    let key = |it: &Branch| match sort_by {
        "name" => (it.name.clone(), it.id.clone()),
        "created_at" => (sortable(it.created_at), it.id.clone()),
        _ => (sortable(it.updated_at), it.id.clone()),
    };
    found.sort_by_key(|it| key(it));
    if order == "desc" {
        found.reverse();
    }
    let mut page = found.as_slice();
    if let Some(cursor) = ask.query.get("cursor") {
        let (value, id) = cursor
            .rsplit_once('~')
            .ok_or_else(|| Refusal::invalid("invalid cursor"))?;
        let last = (value.to_owned(), id.to_owned());
        let is_behind = |it: &&Branch| match order {
            "asc" => key(it) > last,
            _ => key(it) < last,
        };
        let from = page.iter().position(is_behind);
        page = &page[from.unwrap_or(page.len())..];
    }
    let has_more = page.len() > limit;
    page = &page[..limit.min(page.len())];
    let annotations: Map<String, Value> = page
        .iter()
        .filter(|it| !it.annotation.is_empty())
        .map(|it| (it.id.clone(), shapes::annotation(it)))
        .collect();
    let mut pagination = json!({"sort_by": sort_by, "sort_order": order});
    if let (true, Some(last)) = (has_more, page.last()) {
        let (value, id) = key(last);
        pagination["next"] = json!(format!("{value}~{id}"));
    }
    Ok(Answer::ok(json!({
        "branches": page.iter().map(|it| shapes::branch(project, it)).collect::<Value>(),
        "annotations": annotations, "pagination": pagination,
    })))
}

/// A text that sorts as the time does.
fn sortable(time: Timestamp) -> String {
    format!("{:020}", time.as_microsecond())
}

fn searched<'a>(project: &'a Project, ask: &Ask) -> Vec<&'a Branch> {
    let search = ask.query.get("search").map_or("", String::as_str);
    let branches = project.branches.iter();
    branches
        .filter(|it| it.name.contains(search) || it.id.contains(search))
        .collect()
}

pub(super) async fn count(hub: &Arc<Hub>, ask: &Ask, project: &str) -> Result<Answer, Refusal> {
    let mut world = hub.world.lock().await;
    let count = searched(world.project(project)?, ask).len();
    Ok(Answer::ok(json!({"count": count})))
}

pub(super) async fn get(hub: &Arc<Hub>, project: &str, id: &str) -> Result<Answer, Refusal> {
    let mut world = hub.world.lock().await;
    let project = world.project(project)?;
    let branch = project.branch(id)?;
    let mut body = json!({"branch": shapes::branch(project, branch)});
    if !branch.annotation.is_empty() {
        body["annotation"] = shapes::annotation(branch);
    }
    Ok(Answer::ok(body))
}

/// The end that is asked for, if it can be given to such a branch.
pub(super) fn expiry(
    value: &Value,
    is_lasting: bool,
    has_children: bool,
) -> Result<Option<Timestamp>, Refusal> {
    let Some(text) = value.as_str() else {
        return Ok(None);
    };
    let end = shapes::time(text)?;
    let now = super::now();
    if end <= now {
        return Err(Refusal::invalid("expires_at must be in the future"));
    }
    if end > now + SignedDuration::from_hours(EXPIRY_DAYS_MAX * 24) {
        return Err(Refusal::invalid(
            "expires_at must be at most 30 days in the future",
        ));
    }
    if is_lasting {
        return Err(Refusal::unprocessable(
            "expiration cannot be set on a protected or default branch",
        ));
    }
    if has_children {
        return Err(Refusal::unprocessable(
            "expiration cannot be set on a branch that has children",
        ));
    }
    Ok(Some(end))
}

/// Refused when the plan protects no further branch.
pub(super) fn claim_protection(project: &Project) -> Result<(), Refusal> {
    let protected = project.branches.iter().filter(|it| it.is_protected);
    if protected.count() >= project.limits.protected_branches {
        return Err(Refusal::limit("BRANCHES_PROTECTED_LIMIT_EXCEEDED"));
    }
    Ok(())
}

pub(super) async fn update(
    hub: &Arc<Hub>,
    ask: &Ask,
    project: &str,
    id: &str,
) -> Result<Answer, Refusal> {
    let mut world = hub.world.lock().await;
    let project = world.project(project)?;
    let wanted = ask.body["branch"]
        .as_object()
        .ok_or_else(|| Refusal::invalid("branch must not be nil"))?;
    let branch = project.branch(id)?.clone();
    let mut next = branch.clone();
    if let Some(name) = wanted.get("name").and_then(Value::as_str) {
        project.claim_name(name, id)?;
        name.clone_into(&mut next.name);
    }
    if let Some(is_protected) = wanted.get("protected").and_then(Value::as_bool) {
        if is_protected && !branch.is_protected {
            claim_protection(project)?;
        }
        next.is_protected = is_protected;
    }
    if let Some(end) = wanted.get("expires_at") {
        let is_lasting = next.is_protected || next.is_default;
        next.expires_at = expiry(end, is_lasting, project.has_children(id))?;
    } else if next.is_protected && next.expires_at.is_some() {
        return Err(Refusal::unprocessable(
            "a branch with an expiration cannot be protected",
        ));
    }
    next.updated_at = super::now();
    let mut steps = Vec::new();
    if next.is_protected != branch.is_protected {
        steps.push(Step::on_branch(
            "timeline_update_protected_config",
            id,
            Work::Wait,
        ));
    }
    *project.branch_mut(id)? = next;
    let operations = hub.schedule(project, steps);
    Ok(Answer::ok(json!({
        "branch": shapes::branch(project, project.branch(id)?),
        "operations": shapes::operations(&project.id, &operations),
    })))
}

/// Moves the flag; computes and their addresses stay where they are.
pub(super) async fn set_as_default(
    hub: &Arc<Hub>,
    project: &str,
    id: &str,
) -> Result<Answer, Refusal> {
    let mut world = hub.world.lock().await;
    let project = world.project(project)?;
    project.branch(id)?;
    for branch in &mut project.branches {
        branch.is_default = branch.id == id;
        if branch.is_default {
            branch.expires_at = None;
            branch.updated_at = super::now();
        }
    }
    let operations = hub.schedule(
        project,
        vec![Step::on_branch("apply_config", id, Work::Wait)],
    );
    Ok(Answer::ok(json!({
        "branch": shapes::branch(project, project.branch(id)?),
        "operations": shapes::operations(&project.id, &operations),
    })))
}

pub(super) async fn delete(hub: &Arc<Hub>, project: &str, id: &str) -> Result<Answer, Refusal> {
    let mut world = hub.world.lock().await;
    let project = world.project(project)?;
    let Ok(branch) = project.branch(id).cloned() else {
        return Ok(Answer::nothing());
    };
    let first_root = project.branches.iter().find(|it| !it.is_child());
    let is_first = first_root.is_some_and(|it| it.id == id);
    let reasons = [
        (branch.is_default, "cannot delete the default branch"),
        (is_first, "cannot delete the root branch of the project"),
        (branch.is_protected, "cannot delete a protected branch"),
        (
            project.has_children(id),
            "cannot delete a branch that has children",
        ),
        (
            branch.is_undeletable,
            "cannot delete a backup of a branch that was restored from another branch",
        ),
    ];
    if let Some((_, reason)) = reasons.iter().find(|(applies, _)| *applies) {
        return Err(Refusal::unprocessable(reason));
    }
    let steps = removal(project, &branch);
    let operations = hub.schedule(project, steps);
    Ok(Answer::ok(json!({
        "branch": shapes::branch(project, &branch),
        "operations": shapes::operations(&project.id, &operations),
    })))
}

fn removal(project: &Project, branch: &Branch) -> Vec<Step> {
    let id = &branch.id;
    let mut steps = Vec::new();
    if let Some(endpoint) = project.endpoint_of(id) {
        let stop = Work::Stop(branch.timeline.clone());
        steps.push(Step::on_endpoint("suspend_compute", id, &endpoint.id, stop));
    }
    steps.push(Step::on_branch("delete_timeline", id, Work::Remove));
    steps
}

impl Hub {
    /// Deletes the branches whose end has come, unless somebody is busy or has branched off.
    pub(super) async fn expire(&self, project: &str) {
        let mut world = self.world.lock().await;
        let Ok(project) = world.project(project) else {
            return;
        };
        let now = super::now();
        let ended = project.branches.iter().find(|it| {
            it.expires_at.is_some_and(|end| end <= now) && !project.has_children(&it.id)
        });
        let Some(branch) = ended.cloned().filter(|_| !project.is_busy()) else {
            return;
        };
        let steps = removal(project, &branch);
        self.schedule(project, steps);
    }
}
