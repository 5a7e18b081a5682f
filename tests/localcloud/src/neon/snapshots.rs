//! Snapshots of root branches, their schedules, and branches made from them.

use std::sync::Arc;

use serde_json::{Value, json};

use super::create_branch::{fresh, judge_point, point};
use super::hub::{Hub, Step, Work};
use super::refusal::Refusal;
use super::server::{Answer, Ask};
use super::timeline::{At, Fork};
use super::world::{Branch, Operation, Project, Snapshot};
use super::{names, shapes};

type Told = Result<Answer, Refusal>;

/// Of what a schedule takes.
const RETENTION_SECONDS: std::ops::RangeInclusive<i64> = 3600..=3_024_000;

/// Everything stands in the query; there is no body.
pub(super) async fn create(hub: &Arc<Hub>, ask: &Ask, project: &str, branch: &str) -> Told {
    let mut world = hub.world.lock().await;
    let project = world.project(project)?;
    let branch = project.branch(branch)?.clone();
    if branch.is_child() {
        return Err(Refusal::unprocessable(
            "snapshots can be created of root branches only",
        ));
    }
    if project.snapshots.len() >= project.limits.manual_snapshots {
        return Err(Refusal::limit("SNAPSHOTS_LIMIT_EXCEEDED"));
    }
    let at = point(project, &json!(ask.query), "lsn", "timestamp")?;
    judge_point(&branch, at)?;
    let expires_at = ask.query.get("expires_at").map(|it| shapes::time(it));
    let timeline = branch.timeline.clone();
    let Fork { begin, lsn } = Hub::blocking(move || timeline.fork(at)).await??;
    let now = super::now();
    let id = names::id("snap");
    let snapshot = Snapshot {
        name: ask.query.get("name").unwrap_or(&id).clone(),
        id,
        branch: branch.id.clone(),
        begin,
        lsn,
        taken_of: match at {
            At::Time(time) => time,
            At::Head | At::Lsn(_) => now,
        },
        created_at: now,
        expires_at: expires_at.transpose()?,
        logins: branch.logins,
        databases: branch.databases,
    };
    let shape = shapes::snapshot(&snapshot);
    project.snapshots.push(snapshot);
    let step = Step::on_branch("create_timeline", &branch.id, Work::Wait);
    let operations = hub.schedule(project, vec![step]);
    Ok(Answer::ok(json!({
        "snapshot": shape, "operations": shapes::operations(&project.id, &operations),
    })))
}

pub(super) async fn list(hub: &Arc<Hub>, project: &str) -> Told {
    let mut world = hub.world.lock().await;
    let snapshots = world.project(project)?.snapshots.iter();
    Ok(Answer::ok(
        json!({"snapshots": snapshots.map(shapes::snapshot).collect::<Value>()}),
    ))
}

fn find<'a>(project: &'a mut Project, id: &str) -> Result<&'a mut Snapshot, Refusal> {
    let found = project.snapshots.iter_mut().find(|it| it.id == id);
    found.ok_or_else(|| Refusal::missing("snapshot not found"))
}

pub(super) async fn update(hub: &Arc<Hub>, ask: &Ask, project: &str, id: &str) -> Told {
    let mut world = hub.world.lock().await;
    let snapshot = find(world.project(project)?, id)?;
    let wanted = &ask.body["snapshot"];
    if let Some(name) = wanted["name"].as_str() {
        name.clone_into(&mut snapshot.name);
    }
    match wanted.get("expires_at") {
        None => {}
        Some(Value::String(end)) => snapshot.expires_at = Some(shapes::time(end)?),
        Some(_) => snapshot.expires_at = None,
    }
    Ok(Answer::ok(json!({"snapshot": shapes::snapshot(snapshot)})))
}

pub(super) async fn delete(hub: &Arc<Hub>, project: &str, id: &str) -> Told {
    let mut world = hub.world.lock().await;
    let project = world.project(project)?;
    let branch = find(project, id)?.branch.clone();
    project.snapshots.retain(|it| it.id != id);
    let step = Step::on_branch("delete_timeline", &branch, Work::Wait);
    let operations = hub.schedule(project, vec![step]);
    Ok(Answer {
        status: 202,
        body: json!({"operations": shapes::operations(&project.id, &operations)}),
    })
}

/// A new root branch without a compute; finalized, it takes the place of the one it is to replace.
pub(super) async fn restore(hub: &Arc<Hub>, ask: &Ask, project: &str, id: &str) -> Told {
    let mut world = hub.world.lock().await;
    let project = world.project(project)?;
    let snapshot = find(project, id)?.clone();
    let target = ask.body["target_branch_id"].as_str();
    let target = project.branch(target.unwrap_or(&snapshot.branch))?.clone();
    if project.branches.len() >= project.limits.branches {
        return Err(Refusal::limit("BRANCHES_LIMIT_EXCEEDED"));
    }
    if project.roots() >= project.limits.root_branches {
        return Err(Refusal::limit("ROOT_BRANCHES_LIMIT_EXCEEDED"));
    }
    let now = super::now();
    let branch = names::id("br");
    let default = format!("{} from {}", target.name, snapshot.name);
    let name = ask.body["name"].as_str().unwrap_or(&default);
    project.claim_name(name, "")?;
    project.branches.push(Branch {
        name: name.to_owned(),
        parent: None,
        timeline: hub.storage.timeline(snapshot.begin, snapshot.taken_of),
        is_ready: false,
        is_default: false,
        is_protected: false,
        created_at: now,
        updated_at: now,
        expires_at: None,
        logins: snapshot.logins,
        databases: snapshot.databases,
        restored_from: Some(snapshot.id),
        restored_as: Some(target.id.clone()),
        restore_status: Some("restored"),
        ..fresh(&target, branch.clone())
    });
    let mut steps = vec![Step::on_branch("create_branch", &branch, Work::Ready)];
    if ask.body["finalize_restore"] == true {
        steps.extend(take_place(project, &branch, None)?);
    }
    let operations = hub.schedule(project, steps);
    told(project, &branch, &operations)
}

fn told(project: &Project, branch: &str, operations: &[Operation]) -> Told {
    Ok(Answer::ok(json!({
        "branch": shapes::branch(project, project.branch(branch)?),
        "operations": shapes::operations(&project.id, operations),
    })))
}

pub(super) async fn finalize(hub: &Arc<Hub>, ask: &Ask, project: &str, id: &str) -> Told {
    let mut world = hub.world.lock().await;
    let project = world.project(project)?;
    if project.branch(id)?.restore_status != Some("restored") {
        return Err(Refusal::invalid(
            "the branch is not restored from a snapshot and awaiting its finalization",
        ));
    }
    let steps = take_place(project, id, ask.body["name"].as_str())?;
    let operations = hub.schedule(project, steps);
    Ok(Answer::ok(json!({
        "operations": shapes::operations(&project.id, &operations),
    })))
}

/// Computes, name, protection and the default flag move over.
fn take_place(
    project: &mut Project,
    id: &str,
    old_name: Option<&str>,
) -> Result<Vec<Step>, Refusal> {
    let replaced = project.branch(id)?.restored_as.clone().unwrap_or_default();
    let old = project.branch_mut(&replaced)?;
    let place = (old.name.clone(), old.is_default, old.is_protected);
    let timeline = old.timeline.clone();
    old.name = old_name.map_or_else(|| format!("{} (old)", old.name), str::to_owned);
    (old.is_default, old.is_protected) = (false, false);
    let new = project.branch_mut(id)?;
    (new.name, new.is_default, new.is_protected) = place;
    new.restore_status = Some("finalized");
    let mut steps = Vec::new();
    for endpoint in &mut project.endpoints {
        if endpoint.branch == replaced {
            id.clone_into(&mut endpoint.branch);
            let stop = Work::Stop(timeline.clone());
            steps.push(Step::on_endpoint("suspend_compute", id, &endpoint.id, stop));
            steps.push(Step::on_endpoint(
                "start_compute",
                id,
                &endpoint.id,
                Work::Start,
            ));
        }
    }
    Ok(steps)
}

pub(super) async fn schedule(hub: &Arc<Hub>, project: &str, branch: &str) -> Told {
    let mut world = hub.world.lock().await;
    let branch = world.project(project)?.branch(branch)?;
    Ok(Answer::ok(json!({"schedule": branch.schedule})))
}

pub(super) async fn set_schedule(hub: &Arc<Hub>, ask: &Ask, project: &str, branch: &str) -> Told {
    let mut world = hub.world.lock().await;
    let branch = world.project(project)?.branch_mut(branch)?;
    let items = ask.body["schedule"].as_array();
    let items = items.ok_or_else(|| Refusal::invalid("schedule is required"))?;
    if branch.is_child() {
        return Err(Refusal::unprocessable(
            "snapshots can be scheduled of root branches only",
        ));
    }
    let is_valid = |item: &Value| {
        let frequency = item["frequency"].as_str().unwrap_or_default();
        let retention = item["retention_seconds"].as_i64().unwrap_or(3600);
        matches!(frequency, "daily" | "weekly" | "monthly")
            && RETENTION_SECONDS.contains(&retention)
    };
    if !items.iter().all(is_valid) {
        return Err(Refusal::invalid("invalid schedule"));
    }
    branch.schedule = json!(items);
    Ok(Answer::ok(json!({})))
}
