//! A branch's schema as text, and what two branches differ in.

use std::sync::Arc;

use serde_json::json;

use super::create_branch::{judge_point, point};
use super::hub::Hub;
use super::refusal::Refusal;
use super::server::{Answer, Ask};
use super::timeline::At;
use super::world::Project;

pub(super) async fn get(
    hub: &Arc<Hub>,
    ask: &Ask,
    project: &str,
    branch: &str,
) -> Result<Answer, Refusal> {
    let sql = schema(hub, ask, project, branch, ["lsn", "timestamp"]).await?;
    Ok(Answer::ok(json!({"sql": sql})))
}

/// What `branch` has that its base, or its parent, has not, and the other way round.
pub(super) async fn compare(
    hub: &Arc<Hub>,
    ask: &Ask,
    project: &str,
    branch: &str,
) -> Result<Answer, Refusal> {
    let base = {
        let mut world = hub.world.lock().await;
        let branch = world.project(project)?.branch(branch)?;
        let parent = branch.parent.as_ref().map(|it| it.branch.clone());
        ask.query.get("base_branch_id").cloned().or(parent)
    };
    let base = base.ok_or_else(|| Refusal::invalid("base_branch_id is required"))?;
    let ours = schema(hub, ask, project, branch, ["lsn", "timestamp"]).await?;
    let theirs = schema(hub, ask, project, &base, ["base_lsn", "base_timestamp"]).await?;
    Ok(Answer::ok(json!({"diff": difference(&theirs, &ours)})))
}

async fn schema(
    hub: &Arc<Hub>,
    ask: &Ask,
    project: &str,
    branch: &str,
    [lsn, time]: [&str; 2],
) -> Result<String, Refusal> {
    let database = ask.query.get("db_name").cloned();
    let database = database.ok_or_else(|| Refusal::invalid("db_name is required"))?;
    let (timeline, logins) = {
        let mut world = hub.world.lock().await;
        let project: &Project = world.project(project)?;
        let branch = project.branch(branch)?;
        if !branch.databases.iter().any(|it| it.name == database) {
            return Err(Refusal::missing("database not found"));
        }
        let at = point(project, &json!(ask.query), lsn, time)?;
        judge_point(branch, at)?;
        let (timeline, logins) = (branch.timeline.clone(), branch.logins.clone());
        match at {
            At::Head => (timeline, logins),
            At::Lsn(_) | At::Time(_) => {
                let fork = Hub::blocking(move || timeline.fork(at)).await??;
                (hub.storage.timeline(fork.begin, super::now()), logins)
            }
        }
    };
    let schema = Hub::blocking(move || {
        let slept = !timeline.is_running();
        timeline.start(&logins)?;
        let schema = timeline.schema(&database);
        if slept {
            timeline.stop()?;
        }
        schema
    });
    Ok(schema.await??)
}

/// The lines that only one of them has, in their order.
fn difference(old: &str, new: &str) -> String {
    let only = |one: &str, other: &str, sign: char| {
        let known: std::collections::BTreeSet<&str> = other.lines().collect();
        let lines = one.lines().filter(|it| !known.contains(it));
        lines.fold(String::new(), |text, line| format!("{text}{sign}{line}\n"))
    };
    let lines = only(old, new, '-') + &only(new, old, '+');
    if lines.is_empty() {
        return lines;
    }
    format!("--- a/base\n+++ b/compared\n{lines}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_schemas_have_no_difference() {
        assert_eq!(difference("a\nb", "a\nb"), "");
        let changed = difference("a\nb", "a\nc");
        assert_eq!(changed, "--- a/base\n+++ b/compared\n-b\n+c\n");
    }
}
