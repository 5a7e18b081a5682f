//! A recovery's plan as a person reads it. Pure.

use jiff::Timestamp;
use serde_json::json;
use shared::plan::{Question, Reach};
use shared::words;

use super::plan::Plan;
use crate::request::RestorePoint;

const OPENING: &str = "A recovery of PRODUCTION waits for your decision. Production has not been changed, and will not be before somebody approves.";

/// The whole plan, without how to approve it.
pub fn describe(plan: &Plan, now: Timestamp) -> String {
    let hook = |it: &Option<String>| it.clone().unwrap_or_else(|| "none".to_owned());
    let mut lines = vec![
        format!(
            "Put production of {} back to an earlier moment.",
            plan.request.database
        ),
        String::new(),
        format!("Plan:       {}", plan.plan_id),
        format!(
            "Production: branch {} ({}) of the Neon project {}",
            plan.production.name, plan.production.id, plan.project
        ),
        format!("Back to:    {}", point(plan, now)),
        format!(
            "Kept as:    the branch {}: everything that production is at that moment, for as long as you want",
            plan.preserve_under
        ),
        format!(
            "Hooks:      freeze: {}; unfreeze: {}",
            hook(&plan.freeze_function),
            hook(&plan.unfreeze_function)
        ),
        "Then:       a branch of that moment is made and checked; only if it passes is production put back, checked, and writes are let go on".to_owned(),
        format!("Asked by:   {}", plan.request.by.trim()),
    ];
    let reason = plan.request.reason.iter();
    lines.extend(reason.map(|it| format!("Reason:     {it}")));
    lines.extend(plan.notes.iter().map(|it| format!("Note:       {it}")));
    if !plan.obstacles.is_empty() {
        let n = i64::try_from(plan.obstacles.len()).unwrap_or(i64::MAX);
        lines.push(String::new());
        lines.push(format!(
            "It CANNOT be done like this. {}:",
            words::counted(n, "obstacle")
        ));
        lines.extend(plan.obstacles.iter().map(|it| format!("- {it}")));
    }
    lines.join("\n")
}

/// With what is lost.
fn point(plan: &Plan, now: Timestamp) -> String {
    match &plan.request.point {
        RestorePoint::Time(at) => format!(
            "{at}, {} ago. Everything written since then leaves production.",
            words::duration(now.duration_since(*at))
        ),
        RestorePoint::Lsn(_) | RestorePoint::Branch(_) => format!(
            "{}. Everything written since then leaves production.",
            plan.request.point
        ),
    }
}

pub fn ask_for_approval(plan: &Plan, reach: Reach<'_>, execution: &str, now: Timestamp) -> String {
    let (approve, refuse) = (approve_event(plan), refuse_event(plan));
    Question {
        opening: OPENING,
        plan: &describe(plan, now),
        name: &plan.target_name(),
        approve: &approve,
        refuse: &refuse,
        reach,
        expires_at: plan.expires_at,
        execution,
    }
    .text(now)
}

fn approve_event(plan: &Plan) -> String {
    json!({"recover": {"approve": {
        "plan_id": plan.plan_id, "operator": "your name", "target_name_typed": "the name of what is recovered, typed out",
    }}})
    .to_string()
}

fn refuse_event(plan: &Plan) -> String {
    json!({"recover": {"refuse": {"plan_id": plan.plan_id, "operator": "your name"}}}).to_string()
}

/// SNS takes fewer than 100 characters, and only ASCII.
pub fn subject(plan: &Plan) -> String {
    let subject = format!(
        "Lifeboat: approve or refuse the recovery of production of {}",
        plan.request.database
    );
    subject.chars().take(99).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recover::plan::tests::{NOW, Stage, time};

    #[test]
    fn whoever_decides_reads_what_is_lost_what_is_kept_and_how_to_say_yes() {
        let plan = Stage::new("").plan(time("2026-11-21T02:30:00Z"));
        let reach = Reach {
            function: "lifeboat-snapshot-branch",
            region: "eu-central-1",
        };
        let text = ask_for_approval(&plan, reach, "arn:x", NOW.parse().unwrap());
        for words in [
            "Production has not been changed",
            "Back to:    2026-11-21T02:30:00Z, 35 minutes ago. Everything written since then leaves production.",
            "Kept as:    the branch main-before-20261121T030501Z",
            "Hooks:      freeze: none; unfreeze: none",
            "WRITES ARE NOT STOPPED",
            "with app/main typed out",
            "aws lambda invoke --function-name lifeboat-snapshot-branch --region eu-central-1",
            r#"{"recover":{"approve":{"#,
            "Decide before 2026-11-21 07:05 UTC (4 hours from now)",
        ] {
            assert!(text.contains(words), "{words}\n{text}");
        }
        assert!(subject(&plan).len() < 100);
    }
}
