//! A branch overwritten by an earlier state, its own or another's; what it was can stay under another name.

use std::sync::Arc;

use serde_json::json;

use super::create_branch::{fresh, judge_point, point};
use super::hub::{Hub, Step, Work};
use super::refusal::Refusal;
use super::server::{Answer, Ask};
use super::timeline::{At, Timeline};
use super::world::{Branch, Parent, Project};
use super::{names, shapes};

pub(super) async fn restore(
    hub: &Arc<Hub>,
    ask: &Ask,
    project: &str,
    id: &str,
) -> Result<Answer, Refusal> {
    let mut world = hub.world.lock().await;
    let project = world.project(project)?;
    let target = project.branch(id)?.clone();
    let source = ask.body["source_branch_id"]
        .as_str()
        .ok_or_else(|| Refusal::invalid("source_branch_id is required"))?;
    let source = project.branch(source)?.clone();
    let preserve = ask.body["preserve_under_name"].as_str();
    let preserve = preserve.filter(|it| !it.is_empty());
    let at = point(project, &ask.body, "source_lsn", "source_timestamp")?;
    judge(project, &target, &source, at, preserve)?;

    let timeline = source.timeline.clone();
    let fork = Hub::blocking(move || timeline.fork(at)).await??;
    let now = super::now();
    let born = match at {
        At::Time(time) => time,
        At::Head | At::Lsn(_) => now,
    };
    let restored = Branch {
        timeline: hub.storage.timeline(fork.begin, born),
        databases: source.databases.clone(),
        is_ready: false,
        updated_at: now,
        last_reset_at: target.is_child().then_some(now),
        ..target.clone()
    };
    let endpoint = project.endpoint_of(id).map(|it| it.id.clone());
    let (kept, restored) = match preserve {
        None => (None, restored),
        Some(name) if project.restore_keeps_id => {
            keep_id(&target, restored, name, target.id != source.id)
        }
        Some(name) => change_id(&target, restored, name, target.id != source.id),
    };
    let new_id = restored.id.clone();
    put(project, id, kept, restored);
    let steps = steps(project, &new_id, endpoint.as_deref(), target.timeline)?;
    let operations = hub.schedule(project, steps);
    Ok(Answer::ok(json!({
        "branch": shapes::branch(project, project.branch(&new_id)?),
        "operations": shapes::operations(&project.id, &operations),
    })))
}

fn judge(
    project: &Project,
    target: &Branch,
    source: &Branch,
    at: At,
    preserve: Option<&str>,
) -> Result<(), Refusal> {
    judge_point(source, at)?;
    if target.id == source.id {
        if matches!(at, At::Head) {
            return Err(Refusal::invalid(
                "source_timestamp or source_lsn is required to restore a branch from itself",
            ));
        }
        if preserve.is_none() {
            return Err(Refusal::invalid(
                "preserve_under_name is required to restore a branch from itself",
            ));
        }
    }
    if project.has_children(&target.id) && preserve.is_none() {
        return Err(Refusal::invalid(
            "preserve_under_name is required to restore a branch that has children",
        ));
    }
    let Some(name) = preserve else {
        return Ok(());
    };
    project.claim_name(name, "")?;
    if project.branches.len() >= project.limits.branches {
        return Err(Refusal::limit("BRANCHES_LIMIT_EXCEEDED"));
    }
    if !target.is_child() && project.roots() >= project.limits.root_branches {
        return Err(Refusal::limit("ROOT_BRANCHES_LIMIT_EXCEEDED"));
    }
    Ok(())
}

/// The old state, which has no compute and none of the branch's privileges.
fn old(target: &Branch, id: String, name: &str, is_from_another: bool) -> Branch {
    Branch {
        name: name.to_owned(),
        is_default: false,
        is_protected: false,
        expires_at: None,
        updated_at: super::now(),
        is_undeletable: is_from_another && !target.is_child(),
        ..fresh(target, id)
    }
}

/// A restored child has what it was as its parent; a restored root stays a root.
fn parent_of_restored(target: &Branch, old: &Branch) -> Option<Parent> {
    target.parent.as_ref().map(|_| Parent {
        branch: old.id.clone(),
        lsn: None,
        time: None,
    })
}

fn keep_id(
    target: &Branch,
    restored: Branch,
    name: &str,
    is_from_another: bool,
) -> (Option<Branch>, Branch) {
    let old = old(target, names::id("br"), name, is_from_another);
    let parent = parent_of_restored(target, &old);
    (Some(old), Branch { parent, ..restored })
}

fn change_id(
    target: &Branch,
    restored: Branch,
    name: &str,
    is_from_another: bool,
) -> (Option<Branch>, Branch) {
    let old = old(target, target.id.clone(), name, is_from_another);
    let parent = parent_of_restored(target, &old);
    let id = names::id("br");
    (
        Some(old),
        Branch {
            id,
            parent,
            ..restored
        },
    )
}

/// Puts both where the branch was. Its children go with the old state, its compute with the restored one.
fn put(project: &mut Project, target: &str, old: Option<Branch>, restored: Branch) {
    let Some(place) = project.branches.iter().position(|it| it.id == target) else {
        return;
    };
    if let Some(old) = &old {
        for branch in &mut project.branches {
            if let Some(parent) = &mut branch.parent
                && parent.branch == target
            {
                parent.branch.clone_from(&old.id);
            }
        }
    }
    for endpoint in &mut project.endpoints {
        if endpoint.branch == target {
            endpoint.branch.clone_from(&restored.id);
            (endpoint.state, endpoint.pending) = ("init", Some("active"));
        }
    }
    project.branches[place] = restored;
    project.branches.extend(old);
}

fn steps(
    project: &Project,
    id: &str,
    endpoint: Option<&str>,
    old: Arc<Timeline>,
) -> Result<Vec<Step>, Refusal> {
    project.branch(id)?;
    let ready = Step::on_branch("create_timeline", id, Work::Ready);
    Ok(match endpoint {
        None => vec![
            Step::on_branch("suspend_compute", id, Work::Stop(old)),
            ready,
        ],
        Some(endpoint) => vec![
            Step::on_endpoint("suspend_compute", id, endpoint, Work::Stop(old)),
            ready,
            Step::on_endpoint("start_compute", id, endpoint, Work::Start),
        ],
    })
}
