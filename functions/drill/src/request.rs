//! What the function is asked: exactly one step of a drill.

use std::fmt;

use jiff::Timestamp;
use lambda_runtime::Diagnostic;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::backup::{BackupId, DatabaseName};
use shared::error::Name;
use shared::policy::TargetName;

use crate::choose::Choose;
use crate::diagnostic;

/// Why a drill is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DrillKind {
    /// The latest verified backup.
    Weekly,
    /// That, one that is a week old or more, and a Neon branch of a week ago.
    Monthly,
    #[default]
    OnDemand,
    /// A Neon branch of a week ago, as in the monthly one, and no backup.
    Branch,
}

impl fmt::Display for DrillKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::OnDemand => "on-demand",
            Self::Branch => "branch",
        })
    }
}

/// One drill: what `choose` answers, and every later step is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrillItem {
    pub drill_id: String,
    pub kind: DrillKind,
    pub database: DatabaseName,
    /// Null when there is none to drill; then `problem` says why.
    pub backup_id: Option<BackupId>,
    pub problem: Option<String>,
    /// Why it was this backup's turn.
    pub reason: String,
    pub target: TargetName,
    /// The name of the scratch database.
    pub scratch: String,
    pub started_at: Timestamp,
    /// A person's name, or the schedule's.
    pub started_by: String,
    pub execution: String,
}

impl DrillItem {
    /// The name of the scratch database follows from the id, and both are safe in SQL.
    pub fn scratch_name(drill_id: &str) -> String {
        format!(
            "lifeboat_drill_{}",
            drill_id.to_lowercase().replace('-', "_")
        )
    }

    /// Whoever invokes the function by hand can write anything: no step may touch a database
    /// that no drill has made.
    fn is_ours(&self) -> bool {
        let is_id = |id: &str| {
            let (at, nonce) = id.split_once('-')?;
            let is_time = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", at).is_ok();
            let is_nonce = nonce.len() == 8 && nonce.bytes().all(|b| b.is_ascii_hexdigit());
            Some(is_time && at.len() == 16 && is_nonce)
        };
        is_id(&self.drill_id) == Some(true) && self.scratch == Self::scratch_name(&self.drill_id)
    }
}

/// One drill of a Neon branch: what `choose` answers, and every later step is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BranchItem {
    pub drill_id: String,
    pub kind: DrillKind,
    pub database: DatabaseName,
    /// Its name; the state machine tells by it that no backup is drilled.
    pub branch: String,
    pub started_at: Timestamp,
    /// A person's name, or the schedule's.
    pub started_by: String,
    pub execution: String,
}

impl BranchItem {
    pub fn branch_name(drill_id: &str) -> String {
        format!("drill-{drill_id}")
    }

    /// As [`DrillItem::is_ours`]: the id is part of keys and of a secret's name.
    fn is_ours(&self) -> bool {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-';
        (1..=40).contains(&self.drill_id.len())
            && self.drill_id.chars().all(allowed)
            && self.branch == Self::branch_name(&self.drill_id)
    }
}

/// The branch, as snapshot-branch answered: how to reach it is in a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lent {
    pub branch: String,
    pub branch_id: String,
    /// When the state machine asked for it, whichever try succeeded: the drill's times count
    /// from here.
    pub begun_at: Timestamp,
    pub ready_at: Timestamp,
    pub data_as_of: Timestamp,
    /// Why that is not as far back as it should be.
    pub short: Option<String>,
    /// False: an earlier try had made it.
    pub is_new: bool,
}

/// How far a drill of a branch came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ended {
    /// When a branch was asked for, whether or not there came one.
    pub begun_at: Option<Timestamp>,
    pub lent: Option<Lent>,
    /// When the last try to get a branch had failed.
    pub given_up_at: Option<Timestamp>,
    /// What ended it early.
    pub failure: Option<Failure>,
    /// Why the branch may still be there.
    pub teardown_failure: Option<Failure>,
}

/// As Step Functions hands it to a `Catch`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    #[serde(rename = "Error", default)]
    pub error: String,
    #[serde(rename = "Cause", default)]
    pub cause: String,
}

impl Failure {
    /// The cause as a person reads it: Lambda wraps a function's message in JSON.
    pub fn words(&self) -> String {
        #[derive(Deserialize)]
        struct LambdaError {
            #[serde(rename = "errorMessage")]
            message: String,
        }
        let cause = serde_json::from_str::<LambdaError>(&self.cause);
        cause.map_or_else(|_| self.cause.clone(), |it| it.message)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    pub drill: DrillItem,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    pub drill: DrillItem,
    /// What ended the drill early.
    #[serde(default)]
    pub failure: Option<Failure>,
    /// Why the scratch database may still be there.
    #[serde(default)]
    pub teardown_failure: Option<Failure>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Examine {
    pub drill: BranchItem,
    pub lent: Lent,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordBranch {
    pub drill: BranchItem,
    #[serde(default)]
    pub ended: Ended,
}

#[derive(Debug)]
pub enum Request {
    Choose(Choose),
    /// Repeated while its answer has `remaining` above 0.
    Restore(Box<Step>),
    Check(Box<Step>),
    Destroy(Box<Step>),
    Record(Box<Record>),
    Examine(Box<Examine>),
    RecordBranch(Box<RecordBranch>),
}

#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error("the event is not one that drill knows")]
    Malformed(#[source] serde_json::Error),
    #[error(
        "the drill's id and the name of its scratch database or branch are not those that `choose` makes"
    )]
    NotOurs,
    #[error(
        "the event has to hold exactly one of `choose`, `restore`, `check`, `destroy`, `record`, `examine` and `record_branch`; a drill is started as an execution of the state machine, with an input such as {{\"databases\": [\"app\"]}}"
    )]
    Ambiguous,
}

impl From<RequestError> for Diagnostic {
    fn from(error: RequestError) -> Self {
        diagnostic(Name::Refused, &error)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Event {
    choose: Option<Choose>,
    restore: Option<Box<Step>>,
    check: Option<Box<Step>>,
    destroy: Option<Box<Step>>,
    record: Option<Box<Record>>,
    examine: Option<Box<Examine>>,
    record_branch: Option<Box<RecordBranch>>,
}

impl Request {
    pub fn parse(event: Value) -> Result<Self, RequestError> {
        let event: Event = serde_json::from_value(event).map_err(RequestError::Malformed)?;
        let mut asked = [
            event.choose.map(Self::Choose),
            event.restore.map(Self::Restore),
            event.check.map(Self::Check),
            event.destroy.map(Self::Destroy),
            event.record.map(Self::Record),
            event.examine.map(Self::Examine),
            event.record_branch.map(Self::RecordBranch),
        ]
        .into_iter()
        .flatten();
        let (Some(request), None) = (asked.next(), asked.next()) else {
            return Err(RequestError::Ambiguous);
        };
        let is_ours = match &request {
            Self::Choose(_) => true,
            Self::Restore(step) | Self::Check(step) | Self::Destroy(step) => step.drill.is_ours(),
            Self::Record(step) => step.drill.is_ours(),
            Self::Examine(step) => step.drill.is_ours(),
            Self::RecordBranch(step) => step.drill.is_ours(),
        };
        if is_ours {
            Ok(request)
        } else {
            Err(RequestError::NotOurs)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_holds_exactly_one_step() {
        let choose =
            json!({"request": {}, "execution": "arn:e", "started": "2026-11-22T02:00:00Z"});
        let parsed = Request::parse(json!({"choose": choose}));
        assert!(matches!(parsed, Ok(Request::Choose(_))));
        for event in [json!({}), json!({"choose": null})] {
            let error = Request::parse(event).unwrap_err();
            assert!(matches!(error, RequestError::Ambiguous), "{error}");
        }
    }

    #[test]
    fn no_step_takes_a_database_that_no_drill_has_made() {
        let drill = |drill_id: &str, scratch: &str| {
            json!({"destroy": {"drill": {
                "drill_id": drill_id, "kind": "weekly", "database": "app", "backup_id": null,
                "problem": null, "reason": "", "target": "standby", "scratch": scratch,
                "started_at": "2026-11-22T02:00:00Z", "started_by": "", "execution": "arn:e"}}})
        };
        let id = "20261122T020000Z-0a1b2c3d";
        let scratch = "lifeboat_drill_20261122t020000z_0a1b2c3d";
        assert!(Request::parse(drill(id, scratch)).is_ok());
        for (id, scratch) in [
            (id, "app"),
            (id, "lifeboat_drill_x"),
            (
                "x'; DROP DATABASE app; --",
                "lifeboat_drill_x'; drop database app; __",
            ),
            ("app", "lifeboat_drill_app"),
        ] {
            let error = Request::parse(drill(id, scratch)).unwrap_err();
            assert!(matches!(error, RequestError::NotOurs), "{id} {scratch}");
        }
    }

    #[test]
    fn a_branch_is_its_drills_own() {
        let record = |drill_id: &str, branch: &str| {
            json!({"record_branch": {"ended": {}, "drill": {
                "drill_id": drill_id, "kind": "branch", "database": "app", "branch": branch,
                "started_at": "2026-11-22T02:00:00Z", "started_by": "", "execution": "arn:e"}}})
        };
        let id = "2026-11-22T020000Z-0a1b2c3d";
        assert!(Request::parse(record(id, &format!("drill-{id}"))).is_ok());
        for (id, branch) in [(id, "main"), ("../x", "drill-../x"), ("", "drill-")] {
            let error = Request::parse(record(id, branch)).unwrap_err();
            assert!(matches!(error, RequestError::NotOurs), "{id} {branch}");
        }
    }

    #[test]
    fn an_unknown_field_is_named_and_refused() {
        let diagnostic = Diagnostic::from(Request::parse(json!({"drill": {}})).unwrap_err());
        assert_eq!(diagnostic.error_type, "Refused");
        let message = diagnostic.error_message;
        assert!(message.contains("unknown field `drill`"), "{message}");
    }
}
