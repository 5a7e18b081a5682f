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
    /// That, and one that is a week old or more.
    Monthly,
    #[default]
    OnDemand,
}

impl fmt::Display for DrillKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::OnDemand => "on-demand",
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

/// As Step Functions hands it to a `Catch`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    #[serde(rename = "Error", default)]
    pub error: String,
    #[serde(rename = "Cause", default)]
    pub cause: String,
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

#[derive(Debug)]
pub enum Request {
    Choose(Choose),
    /// Repeated while its answer has `remaining` above 0.
    Restore(Box<Step>),
    Check(Box<Step>),
    Destroy(Box<Step>),
    Record(Box<Record>),
}

#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error("the event is not one that drill knows")]
    Malformed(#[source] serde_json::Error),
    #[error(
        "the event has to hold exactly one of `choose`, `restore`, `check`, `destroy` and `record`; a drill is started as an execution of the state machine, with an input such as {{\"databases\": [\"app\"]}}"
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
        ]
        .into_iter()
        .flatten();
        match (asked.next(), asked.next()) {
            (Some(request), None) => Ok(request),
            _ => Err(RequestError::Ambiguous),
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
    fn an_unknown_field_is_named_and_refused() {
        let diagnostic = Diagnostic::from(Request::parse(json!({"drill": {}})).unwrap_err());
        assert_eq!(diagnostic.error_type, "Refused");
        let message = diagnostic.error_message;
        assert!(message.contains("unknown field `drill`"), "{message}");
    }
}
