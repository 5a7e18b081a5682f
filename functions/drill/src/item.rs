//! What one drill is called, and who began it. Pure.

use serde::Serialize;
use shared::backup::{BackupId, DatabaseName};
use shared::policy::DrillPolicy;
use shared::sealed::sha256;

use crate::choose::Choose;
use crate::request::{BranchItem, DrillItem};

/// The state machine holds one after the other, whatever it is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Item {
    Backup(Box<DrillItem>),
    Branch(BranchItem),
}

impl Item {
    pub fn drill_id(&self) -> &str {
        match self {
            Self::Backup(item) => &item.drill_id,
            Self::Branch(item) => &item.drill_id,
        }
    }
}

/// A backup and why, or why there is none.
pub type Turn = Result<(BackupId, String), String>;

/// The same on every retry, and another for every execution.
pub fn item(asked: &Choose, database: &DatabaseName, drill: &DrillPolicy, turn: Turn) -> DrillItem {
    let (backup_id, reason, problem) = match turn {
        Ok((id, reason)) => (Some(id), reason, None),
        Err(problem) => (None, String::new(), Some(problem)),
    };
    let subject = backup_id.map_or_else(|| "none".to_owned(), |id| id.to_string());
    let nonce = sha256(format!("{}\n{database}\n{subject}", asked.execution).as_bytes());
    let at = asked.started.strftime("%Y%m%dT%H%M%SZ").to_string();
    let drill_id = format!("{at}-{}", &nonce[..8]);
    DrillItem {
        scratch: DrillItem::scratch_name(&drill_id),
        drill_id,
        kind: asked.request.kind,
        database: database.clone(),
        backup_id,
        problem,
        reason,
        target: drill.target.clone(),
        started_at: asked.started,
        started_by: started_by(asked),
        execution: asked.execution.clone(),
    }
}

pub fn branch_item(asked: &Choose, database: &DatabaseName) -> BranchItem {
    let nonce = sha256(format!("{}\n{database}\nbranch", asked.execution).as_bytes());
    let at = asked.started.strftime("%Y-%m-%dT%H%M%SZ");
    let drill_id = format!("{at}-{}", &nonce[..8]);
    BranchItem {
        branch: BranchItem::branch_name(&drill_id),
        drill_id,
        kind: asked.request.kind,
        database: database.clone(),
        started_at: asked.started,
        started_by: started_by(asked),
        execution: asked.execution.clone(),
    }
}

fn started_by(asked: &Choose) -> String {
    match (&asked.request.started_by, asked.request.scheduled_time) {
        (Some(name), _) => name.clone(),
        (None, Some(_)) => format!("the {} schedule", asked.request.kind),
        (None, None) => "somebody who gave no name".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_retry_names_the_same_drill_and_another_execution_does_not() {
        let asked = json!({"request": {"started_by": "Ada"}, "execution": "arn:e", "started": "2026-11-22T02:00:00Z"});
        let asked: Choose = serde_json::from_value(asked).unwrap();
        let drill = &serde_json::from_value(json!({"target": "standby"})).unwrap();
        let turn = || {
            Ok((
                "20261121T010000Z-nightly".parse().unwrap(),
                "latest".to_owned(),
            ))
        };
        let name = &"app".parse().unwrap();
        let one = item(&asked, name, drill, turn());
        assert_eq!(one, item(&asked, name, drill, turn()));
        assert_eq!(one.started_by, "Ada");
        assert!(
            one.scratch.starts_with("lifeboat_drill_20261122t020000z_"),
            "{}",
            one.scratch
        );
        assert!(one.scratch.len() < 63);
        let other = Choose {
            execution: "arn:f".to_owned(),
            ..asked
        };
        assert_ne!(one.drill_id, item(&other, name, drill, turn()).drill_id);
    }
}
