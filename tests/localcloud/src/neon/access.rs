//! Roles, passwords, databases, and the URLs made of them.

use std::sync::Arc;

use serde_json::json;

use super::hub::{Hub, Step, Work};
use super::refusal::Refusal;
use super::server::{Answer, Ask};
use super::world::Database;
use super::{names, shapes};
use crate::postgres::quoted;

type Told = Result<Answer, Refusal>;

pub(super) async fn roles(hub: &Arc<Hub>, project: &str, branch: &str) -> Told {
    let mut world = hub.world.lock().await;
    let branch = world.project(project)?.branch(branch)?;
    Ok(Answer::ok(json!({"roles": shapes::roles(branch)})))
}

pub(super) async fn role(hub: &Arc<Hub>, project: &str, branch: &str, role: &str) -> Told {
    let mut world = hub.world.lock().await;
    let branch = world.project(project)?.branch(branch)?;
    branch.password(role)?;
    Ok(Answer::ok(json!({"role": shapes::role(branch, role)})))
}

pub(super) async fn reveal_password(
    hub: &Arc<Hub>,
    project: &str,
    branch: &str,
    role: &str,
) -> Told {
    let mut world = hub.world.lock().await;
    let project = world.project(project)?;
    let password = project.branch(branch)?.password(role)?;
    if !project.store_passwords {
        return Err(not_stored());
    }
    Ok(Answer::ok(json!({"password": password})))
}

fn not_stored() -> Refusal {
    Refusal::new(412, "", "passwords are not stored for this project")
}

/// The old password is good until the operations are over.
pub(super) async fn reset_password(
    hub: &Arc<Hub>,
    project: &str,
    branch: &str,
    role: &str,
) -> Told {
    let mut world = hub.world.lock().await;
    let project = world.project(project)?;
    let endpoint = project.endpoint_of(branch).map(|it| it.id.clone());
    let found = project.branch_mut(branch)?;
    found.password(role)?;
    let password = names::password();
    for login in found.logins.iter_mut().filter(|it| it.0 == role) {
        login.1.clone_from(&password);
    }
    let mut shape = shapes::role(found, role);
    shape["password"] = json!(password);
    let step = match endpoint {
        Some(endpoint) => Step::on_endpoint("apply_config", branch, &endpoint, Work::Logins),
        None => Step::on_branch("apply_config", branch, Work::Logins),
    };
    let operations = hub.schedule(project, vec![step]);
    Ok(Answer::ok(json!({
        "role": shape, "operations": shapes::operations(&project.id, &operations),
    })))
}

pub(super) async fn databases(hub: &Arc<Hub>, project: &str, branch: &str) -> Told {
    let mut world = hub.world.lock().await;
    let branch = world.project(project)?.branch_mut(branch)?;
    // What was made by SQL is known to the API once the compute has told it.
    if branch.timeline.is_running() {
        let timeline = branch.timeline.clone();
        let sql = "SELECT datname || E'\\t' || pg_get_userbyid(datdba) FROM pg_database
            WHERE NOT datistemplate AND datname <> 'postgres' ORDER BY oid";
        let found = Hub::blocking(move || timeline.psql("postgres", sql)).await??;
        let found = found.lines().filter_map(|line| line.split_once('\t'));
        let known = std::mem::take(&mut branch.databases);
        branch.databases = found
            .map(|(name, owner)| {
                let id = known.iter().find(|it| it.name == name).map(|it| it.id);
                Database {
                    id: id.unwrap_or_else(names::number),
                    name: name.to_owned(),
                    owner: owner.to_owned(),
                }
            })
            .collect();
    }
    Ok(Answer::ok(json!({"databases": shapes::databases(branch)})))
}

pub(super) async fn database(hub: &Arc<Hub>, project: &str, branch: &str, name: &str) -> Told {
    let mut world = hub.world.lock().await;
    let branch = world.project(project)?.branch(branch)?;
    let found = branch.databases.iter().find(|it| it.name == name);
    let found = found.ok_or_else(|| Refusal::missing("database not found"))?;
    Ok(Answer::ok(
        json!({"database": shapes::database(branch, found)}),
    ))
}

pub(super) async fn create_database(
    hub: &Arc<Hub>,
    ask: &Ask,
    project: &str,
    branch: &str,
) -> Told {
    let mut world = hub.world.lock().await;
    let project = world.project(project)?;
    let wanted = &ask.body["database"];
    let (Some(name), Some(owner)) = (wanted["name"].as_str(), wanted["owner_name"].as_str()) else {
        return Err(Refusal::invalid("database needs name and owner_name"));
    };
    let found = project.branch_mut(branch)?;
    found.password(owner)?;
    if found.databases.iter().any(|it| it.name == name) {
        return Err(Refusal::new(409, "", "database already exists"));
    }
    let (timeline, logins) = (found.timeline.clone(), found.logins.clone());
    let sql = format!("CREATE DATABASE {} OWNER {}", quoted(name), quoted(owner));
    Hub::blocking(move || {
        timeline.start(&logins)?;
        timeline.psql("postgres", &sql)
    })
    .await??;
    let made = Database {
        id: names::number(),
        name: name.to_owned(),
        owner: owner.to_owned(),
    };
    let shape = shapes::database(found, &made);
    found.databases.push(made);
    let operations = hub.schedule(
        project,
        vec![Step::on_branch("apply_config", branch, Work::Wait)],
    );
    Ok(Answer::created(json!({
        "database": shape, "operations": shapes::operations(&project.id, &operations),
    })))
}

pub(super) async fn connection_uri(hub: &Arc<Hub>, ask: &Ask, project: &str) -> Told {
    let mut world = hub.world.lock().await;
    let project = world.project(project)?;
    let asked = |name: &str| ask.query.get(name).map(String::as_str);
    let (Some(database), Some(role)) = (asked("database_name"), asked("role_name")) else {
        return Err(Refusal::invalid("database_name and role_name are required"));
    };
    let branch = match asked("branch_id") {
        Some(id) => project.branch(id)?,
        None => project.default_branch()?,
    };
    let endpoint = match asked("endpoint_id") {
        Some(id) => project.endpoint(id)?,
        None => project
            .endpoint_of(&branch.id)
            .ok_or_else(|| Refusal::missing("endpoint not found"))?,
    };
    if !branch.databases.iter().any(|it| it.name == database) {
        return Err(Refusal::missing("database not found"));
    }
    let password = branch.password(role)?;
    // Not documented: it may as well refuse, as the password itself is refused.
    let password = project.store_passwords.then_some(password);
    let is_pooled = asked("pooled") == Some("true");
    let has_tls = hub.options.certificate.is_some();
    let uri = shapes::uri(endpoint, (role, password), database, is_pooled, has_tls);
    Ok(Answer::ok(json!({"uri": uri})))
}
