//! A plan as a person reads it, in a message or an answer. Pure.

use jiff::Timestamp;
use shared::plan::{Question, Reach};
use shared::restore::Scope;
use shared::words;

use crate::plan::Plan;

/// An answer is at most 32 KB, and a message at most 256 KB.
const OBSTACLES_MAX: usize = 40;
const NOTES_MAX: usize = 20;

/// The whole plan, without how to approve it.
pub fn describe(plan: &Plan, now: Timestamp) -> String {
    let mut lines = vec![
        format!(
            "Restore {} of {} into {}.",
            plan.request.scope, plan.request.database, plan.request.target
        ),
        String::new(),
        format!("Plan:      {}", plan.plan_id),
        format!("From:      {}", source(plan)),
        format!("Data of:   {}", age(plan, now)),
        format!("Into:      {}", target(plan)),
        format!("Contents:  {}", contents(plan)),
        format!("Space:     {}", space(plan)),
        "With:      no client program: the archive's own statements are sent to the server"
            .to_owned(),
        format!("Duration:  {}", duration(plan)),
    ];
    lines.extend(
        plan.request
            .reason
            .iter()
            .map(|it| format!("Reason:    {it}")),
    );
    let notes = plan.notes.iter().take(NOTES_MAX);
    lines.extend(notes.map(|it| format!("Note:      {it}")));
    lines.extend(obstacles(plan));
    lines.join("\n")
}

fn source(plan: &Plan) -> String {
    if plan.verified {
        format!("backup {}, verified", plan.backup_id)
    } else {
        format!(
            "backup {}, NOT VERIFIED: nothing has read it back",
            plan.backup_id
        )
    }
}

/// The honest RPO.
fn age(plan: &Plan, now: Timestamp) -> String {
    format!(
        "{}, {} ago. Everything written since then is NOT in this backup.",
        words::time(plan.snapshot_at),
        words::duration(now.duration_since(plan.snapshot_at))
    )
}

fn target(plan: &Plan) -> String {
    let version = plan.target.server_version;
    format!(
        "{} (PostgreSQL {}.{} at {}:{}, database {})",
        plan.target_name,
        version / 10_000,
        version % 10_000,
        plan.target.host,
        plan.target.port,
        plan.target.database
    )
}

fn contents(plan: &Plan) -> String {
    let estimate = &plan.estimate;
    let read = words::bytes(estimate.bytes);
    match &plan.request.scope {
        Scope::SchemaOnly => format!("{} tables, no rows", estimate.tables),
        Scope::Everything | Scope::DataOnly | Scope::Tables(_) => format!(
            "{} tables, {} rows, {read} to read from the bucket",
            words::grouped(estimate.tables),
            words::grouped(estimate.rows)
        ),
    }
}

/// No server tells how much room it has.
fn space(plan: &Plan) -> String {
    match &plan.request.scope {
        Scope::SchemaOnly => "none to speak of".to_owned(),
        Scope::Everything | Scope::DataOnly | Scope::Tables(_) => format!(
            "how much is free at the target cannot be known from here: see that there is room for {} of rows as text, and for their indexes",
            words::bytes(plan.estimate.copy_bytes)
        ),
    }
}

fn duration(plan: &Plan) -> String {
    let rates = if plan.is_rate_measured {
        "as fast as the last restore of this database"
    } else {
        "assumed rates, on the slow side: nothing was measured yet"
    };
    format!(
        "about {}, with {} connections ({rates})",
        words::seconds(plan.estimate.seconds),
        plan.order.connections
    )
}

fn obstacles(plan: &Plan) -> Vec<String> {
    let n = plan.obstacles.len();
    if n == 0 {
        return Vec::new();
    }
    let mut lines = vec![
        String::new(),
        format!(
            "It CANNOT be done like this. {}:",
            words::counted(i64::try_from(n).unwrap_or(i64::MAX), "obstacle")
        ),
    ];
    for obstacle in plan.obstacles.iter().take(OBSTACLES_MAX) {
        lines.push(format!("- {}", obstacle.message));
        lines.push(format!("  Remedy: {}", obstacle.remedy));
    }
    if n > OBSTACLES_MAX {
        lines.push(format!("- and {} more", n - OBSTACLES_MAX));
    }
    lines
}

/// Everything that whoever decides has to know.
pub fn ask_for_approval(plan: &Plan, reach: Reach<'_>, execution: &str, now: Timestamp) -> String {
    Question {
        opening: "A restore waits for your decision. Nothing has been changed yet, and nothing will be before somebody approves.",
        plan: &describe(plan, now),
        name: &plan.target_name,
        approve: &approve_event(plan),
        refuse: &refuse_event(plan),
        reach,
        expires_at: plan.expires_at,
        execution,
    }
    .text(now)
}

/// To be completed with two names: what is typed out has been thought about.
pub fn approve_event(plan: &Plan) -> String {
    serde_json::json!({"approve": {
        "plan_id": plan.plan_id, "operator": "your name", "target_name_typed": "the name of the target, typed out",
    }})
    .to_string()
}

/// To be completed with a name.
pub fn refuse_event(plan: &Plan) -> String {
    serde_json::json!({"refuse": {"plan_id": plan.plan_id, "operator": "your name"}}).to_string()
}

/// SNS takes fewer than 100 characters, and only ASCII.
pub fn subject(plan: &Plan) -> String {
    let subject = format!(
        "Lifeboat: approve or refuse the restore of {} into {}",
        plan.request.database, plan.target_name
    );
    let plain = |c: char| {
        if c == ' ' || c.is_ascii_graphic() {
            c
        } else {
            '?'
        }
    };
    subject.chars().map(plain).take(99).collect()
}
