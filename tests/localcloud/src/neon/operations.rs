//! The operations of a project, newest first.

use std::sync::Arc;

use serde_json::{Value, json};

use super::hub::Hub;
use super::refusal::Refusal;
use super::server::{Answer, Ask};
use super::shapes;

const LIMIT_MAX: usize = 1000;

pub(super) async fn get(hub: &Arc<Hub>, project: &str, id: &str) -> Result<Answer, Refusal> {
    let mut world = hub.world.lock().await;
    let operation = world.project(project)?.operation_mut(id);
    let operation = operation.ok_or_else(|| Refusal::missing("operation not found"))?;
    Ok(Answer::ok(
        json!({"operation": shapes::operation(project, operation)}),
    ))
}

pub(super) async fn list(hub: &Arc<Hub>, ask: &Ask, project: &str) -> Result<Answer, Refusal> {
    let limit = ask.query.get("limit").map(|it| it.parse());
    let limit: usize = match limit {
        None => LIMIT_MAX,
        Some(Ok(limit @ 1..=LIMIT_MAX)) => limit,
        Some(_) => return Err(Refusal::invalid("limit must be from 1 to 1000")),
    };
    let cursor = ask.query.get("cursor").map(|it| shapes::time(it));
    let cursor = cursor.transpose()?;
    let mut world = hub.world.lock().await;
    let operations = world.project(project)?.operations.iter().rev();
    let page: Vec<_> = operations
        .filter(|it| cursor.is_none_or(|cursor| it.created_at < cursor))
        .take(limit)
        .collect();
    let mut body = json!({
        "operations": page.iter().map(|it| shapes::operation(project, it)).collect::<Value>(),
    });
    if let Some(last) = page.last() {
        body["pagination"] = json!({"cursor": last.created_at.to_string()});
    }
    Ok(Answer::ok(body))
}
