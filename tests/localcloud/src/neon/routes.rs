//! Which request is whose.

use std::sync::Arc;

use hyper::Method;
use serde_json::json;

use super::hub::Hub;
use super::refusal::Refusal;
use super::server::{Answer, Ask, Key};
use super::{
    access, branches, create_branch, endpoints, operations, projects, restore_branch, schema,
    snapshots,
};

type Routed = Result<Answer, Refusal>;

pub(super) async fn route(hub: &Arc<Hub>, ask: &Ask) -> Routed {
    let path: Vec<&str> = ask.path.iter().map(String::as_str).collect();
    let is_read = ask.method == Method::GET;
    match path.as_slice() {
        ["users", "me"] if is_read => Ok(Answer::ok(json!({
            "id": "stand-in", "login": "stand-in", "email": "", "name": "stand-in", "image": "",
            "active_seconds_limit": 0, "billing_account": {}, "auth_accounts": [], "projects_limit": 100,
            "branches_limit": 10, "max_autoscaling_limit": 2, "plan": "scale_v3",
        }))),
        ["users", "me", "organizations"] if is_read => Ok(Answer::ok(json!({"organizations": []}))),
        ["projects"] if is_read => projects::list(hub, ask).await,
        ["projects"] if ask.method == Method::POST => {
            organization_only(ask)?;
            let _turn = hub.turn.lock().await;
            projects::create(hub, ask).await
        }
        ["projects", project, rest @ ..] => {
            if matches!(&ask.key, Key::Project(own) if own != project) {
                return Err(Refusal::missing("project not found"));
            }
            if !path.iter().skip(1).step_by(2).all(|id| is_id(id)) {
                return Err(Refusal::no_route());
            }
            if is_read {
                hub.expire(project).await;
                return read(hub, ask, project, rest).await;
            }
            let _turn = hub.turn.lock().await;
            hub.expire(project).await;
            if hub.world.lock().await.project(project)?.is_busy() {
                return Err(Refusal::locked());
            }
            change(hub, ask, project, rest).await
        }
        _ => Err(Refusal::no_route()),
    }
}

/// Names of roles and databases stand in the same places, and may be anything.
fn is_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= 63 && !text.contains(char::is_whitespace)
}

fn organization_only(ask: &Ask) -> Result<(), Refusal> {
    match ask.key {
        Key::Organization => Ok(()),
        Key::Project(_) => Err(Refusal::forbidden(
            "project-scoped keys are not allowed to perform this action",
        )),
    }
}

async fn read(hub: &Arc<Hub>, ask: &Ask, project: &str, rest: &[&str]) -> Routed {
    match rest {
        [] => projects::get(hub, project).await,
        ["operations"] => operations::list(hub, ask, project).await,
        ["operations", id] => operations::get(hub, project, id).await,
        ["branches"] => branches::list(hub, ask, project).await,
        ["branches", "count"] => branches::count(hub, ask, project).await,
        ["branches", branch] => branches::get(hub, project, branch).await,
        ["branches", branch, "endpoints"] => endpoints::list(hub, project, Some(branch)).await,
        ["branches", branch, "roles"] => access::roles(hub, project, branch).await,
        ["branches", branch, "roles", role] => access::role(hub, project, branch, role).await,
        ["branches", branch, "roles", role, "reveal_password"] => {
            access::reveal_password(hub, project, branch, role).await
        }
        ["branches", branch, "databases"] => access::databases(hub, project, branch).await,
        ["branches", branch, "databases", name] => {
            access::database(hub, project, branch, name).await
        }
        ["branches", branch, "schema"] => schema::get(hub, ask, project, branch).await,
        ["branches", branch, "compare_schema"] => schema::compare(hub, ask, project, branch).await,
        ["branches", branch, "backup_schedule"] => snapshots::schedule(hub, project, branch).await,
        ["endpoints"] => endpoints::list(hub, project, None).await,
        ["endpoints", endpoint] => endpoints::get(hub, project, endpoint).await,
        ["connection_uri"] => access::connection_uri(hub, ask, project).await,
        ["snapshots"] => snapshots::list(hub, project).await,
        _ => Err(Refusal::no_route()),
    }
}

async fn change(hub: &Arc<Hub>, ask: &Ask, project: &str, rest: &[&str]) -> Routed {
    match (ask.method.as_str(), rest) {
        ("PATCH", []) => projects::update(hub, ask, project).await,
        ("DELETE", []) => {
            organization_only(ask)?;
            projects::delete(hub, project).await
        }
        ("POST", ["branches"]) => create_branch::create(hub, ask, project).await,
        ("PATCH", ["branches", branch]) => branches::update(hub, ask, project, branch).await,
        ("DELETE", ["branches", branch]) => branches::delete(hub, project, branch).await,
        ("POST", ["branches", branch, "restore"]) => {
            restore_branch::restore(hub, ask, project, branch).await
        }
        ("POST", ["branches", branch, "set_as_default"]) => {
            branches::set_as_default(hub, project, branch).await
        }
        ("POST", ["branches", branch, "finalize_restore"]) => {
            snapshots::finalize(hub, ask, project, branch).await
        }
        ("POST", ["branches", branch, "snapshot"]) => {
            snapshots::create(hub, ask, project, branch).await
        }
        ("PUT", ["branches", branch, "backup_schedule"]) => {
            snapshots::set_schedule(hub, ask, project, branch).await
        }
        ("POST", ["branches", branch, "roles", role, "reset_password"]) => {
            access::reset_password(hub, project, branch, role).await
        }
        ("POST", ["branches", branch, "databases"]) => {
            access::create_database(hub, ask, project, branch).await
        }
        ("POST", ["endpoints"]) => endpoints::create(hub, ask, project).await,
        ("PATCH", ["endpoints", endpoint]) => endpoints::update(hub, ask, project, endpoint).await,
        ("DELETE", ["endpoints", endpoint]) => endpoints::delete(hub, project, endpoint).await,
        (
            "POST",
            [
                "endpoints",
                endpoint,
                action @ ("start" | "suspend" | "restart"),
            ],
        ) => endpoints::turn(hub, project, endpoint, action).await,
        ("PATCH", ["snapshots", snapshot]) => snapshots::update(hub, ask, project, snapshot).await,
        ("DELETE", ["snapshots", snapshot]) => snapshots::delete(hub, project, snapshot).await,
        ("POST", ["snapshots", snapshot, "restore"]) => {
            snapshots::restore(hub, ask, project, snapshot).await
        }
        _ => Err(Refusal::no_route()),
    }
}
