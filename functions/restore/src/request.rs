//! What the function is asked: exactly one of six things. People type the first four into a
//! test button at 3 a.m., so every wrong field is named at once, with what it may be.

use jiff::Timestamp;
use lambda_runtime::Diagnostic;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use shared::backup::{BackupId, DatabaseName};
use shared::error::Name;
use shared::restore::{Destination, Scope};

use crate::diagnostic;

/// A person's words in a record: long enough for a reason, too short to hide something in.
const TEXT_CHARS_MAX: usize = 500;

#[derive(Debug)]
pub enum Request {
    Plan(PlanRequest),
    AwaitApproval(AwaitApproval),
    Approve(Approve),
    Refuse(Refuse),
    Apply(Apply),
    Report(Report),
}

/// What to restore, and where to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanRequest {
    pub database: DatabaseName,
    pub point: Point,
    pub scope: Scope,
    pub target: Destination,
    /// Give objects the owners that they have at the source.
    pub owners: bool,
    /// Grant what is granted at the source.
    pub privileges: bool,
    /// Take the named backup even though nothing has read it back.
    pub unverified: bool,
    /// Why, for the record.
    pub reason: Option<String>,
}

/// Which backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Point {
    /// The newest verified one.
    Latest,
    BackupId(BackupId),
    /// The last verified one whose data is from before this moment.
    Time(Timestamp),
}

/// Sent by the state machine, which then waits for the token to be answered.
#[derive(Clone, Debug)]
pub struct AwaitApproval {
    pub plan_id: String,
    pub token: String,
    pub execution: String,
}

#[derive(Clone, Debug)]
pub struct Approve {
    pub plan_id: String,
    pub operator: String,
    pub target_name_typed: String,
}

#[derive(Clone, Debug)]
pub struct Refuse {
    pub plan_id: String,
    pub operator: String,
}

#[derive(Clone, Debug)]
pub struct Apply {
    pub plan_id: String,
    /// Absent when a person calls the function without the state machine.
    pub execution: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Report {
    pub plan_id: String,
    pub execution: Option<String>,
    pub outcome: Outcome,
    pub failure: Option<Failure>,
}

/// How the execution got to its report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every job is done; the proof decides.
    Finished,
    Failed,
    Refused,
    Expired,
}

/// As Step Functions hands it to a `Catch`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    #[serde(rename = "Error", default)]
    pub error: Option<String>,
    #[serde(rename = "Cause", default)]
    pub cause: Option<String>,
}

/// What is wrong with the event. Nothing was done.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error(
        "the event has to be an object with exactly one of `plan`, `approve`, `refuse`, `apply` (and, for the state machine, `await_approval` and `report`); for example {{\"plan\": {EXAMPLE}}}"
    )]
    NotOneThing,
    #[error("`{what}` is not understood; nothing was done:\n{}\nFor example: {example}", .wrong.join("\n"))]
    Fields {
        what: &'static str,
        /// One line for each.
        wrong: Vec<String>,
        example: &'static str,
    },
}

impl From<RequestError> for Diagnostic {
    fn from(error: RequestError) -> Self {
        diagnostic(Name::Refused, &error)
    }
}

/// What a person types as the input of the state machine; the function takes it under `plan`.
const EXAMPLE: &str = r#"{"database": "app", "target": {"new_database": {"target": "standby", "database": "app_restored"}}}"#;
const APPROVE: &str = r#"{"approve": {"plan_id": "20261121T030501Z-8f3a2c19d0b4", "operator": "your name", "target_name_typed": "standby/app_restored"}}"#;
const REFUSE: &str =
    r#"{"refuse": {"plan_id": "20261121T030501Z-8f3a2c19d0b4", "operator": "your name"}}"#;
const APPLY: &str = r#"{"apply": {"plan_id": "20261121T030501Z-8f3a2c19d0b4"}}"#;

const PLAN_ID: &str = "the plan_id that the plan's message names, as text";
const A_TEXT: &str = "text, one line of at most 500 characters";
const A_FLAG: &str = "true or false";

impl Request {
    pub fn parse(event: Value) -> Result<Self, RequestError> {
        let Value::Object(event) = event else {
            return Err(RequestError::NotOneThing);
        };
        let mut event = event.into_iter();
        let (Some((what, body)), None) = (event.next(), event.next()) else {
            return Err(RequestError::NotOneThing);
        };
        match what.as_str() {
            "plan" => plan(Fields::of(body)?).map(Self::Plan),
            "await_approval" => await_approval(Fields::of(body)?).map(Self::AwaitApproval),
            "approve" => approve(Fields::of(body)?).map(Self::Approve),
            "refuse" => refuse(Fields::of(body)?).map(Self::Refuse),
            "apply" => apply(Fields::of(body)?).map(Self::Apply),
            "report" => report(Fields::of(body)?).map(Self::Report),
            _ => Err(RequestError::NotOneThing),
        }
    }
}

fn plan(mut fields: Fields) -> Result<PlanRequest, RequestError> {
    let database = fields.required(
        "database",
        "the name of a database in lifeboat.toml, such as \"app\"",
    );
    let point = fields.optional(
        "point",
        "\"latest\", {\"backup_id\": \"20261121T010000Z-nightly\"} or {\"time\": \"2026-11-21T02:30:00Z\"}",
    );
    let scope = fields.optional(
        "scope",
        "\"everything\", \"schema_only\", \"data_only\" or {\"tables\": [\"app.users\"]}",
    );
    let target = fields.required(
        "target",
        "{\"new_database\": {\"target\": \"standby\", \"database\": \"app_restored\"}}, \
         {\"staging\": {\"target\": \"live-app\", \"schema\": \"lifeboat_20261121\"}} or \
         {\"existing_tables\": {\"target\": \"standby\", \"database\": \"app_empty\"}}, \
         where target is the name of a [[target]] in lifeboat.toml",
    );
    let [owners, privileges, unverified] =
        ["owners", "privileges", "unverified"].map(|name| fields.optional(name, A_FLAG));
    let reason = fields.text("reason");
    let point = point.unwrap_or(Point::Latest);
    let unverified = unverified.unwrap_or(false);
    if unverified && !matches!(point, Point::BackupId(_)) {
        fields.wrong("`unverified` goes with a `point` that names a backup_id: nobody restores an unverified backup by accident");
    }
    fields.finish("plan", EXAMPLE)?;
    match (database, target) {
        (Some(database), Some(target)) => Ok(PlanRequest {
            database,
            point,
            scope: scope.unwrap_or(Scope::Everything),
            target,
            owners: owners.unwrap_or(false),
            privileges: privileges.unwrap_or(false),
            unverified,
            reason,
        }),
        _ => Err(RequestError::NotOneThing),
    }
}

fn await_approval(mut fields: Fields) -> Result<AwaitApproval, RequestError> {
    let plan_id = fields.plan_id();
    let token = fields.required("token", "the task token of the waiting state machine");
    let execution = fields.required("execution", "the ARN of the execution");
    fields.finish(
        "await_approval",
        "sent by the state machine, never by a person",
    )?;
    match (plan_id, token, execution) {
        (Some(plan_id), Some(token), Some(execution)) => Ok(AwaitApproval {
            plan_id,
            token,
            execution,
        }),
        _ => Err(RequestError::NotOneThing),
    }
}

fn approve(mut fields: Fields) -> Result<Approve, RequestError> {
    let (plan_id, operator) = (fields.plan_id(), fields.operator());
    let typed = fields.required(
        "target_name_typed",
        "the target's name as the plan's message has it, typed out: server/database or server/schema",
    );
    fields.finish("approve", APPROVE)?;
    match (plan_id, operator, typed) {
        (Some(plan_id), Some(operator), Some(target_name_typed)) => Ok(Approve {
            plan_id,
            operator,
            target_name_typed,
        }),
        _ => Err(RequestError::NotOneThing),
    }
}

fn refuse(mut fields: Fields) -> Result<Refuse, RequestError> {
    let (plan_id, operator) = (fields.plan_id(), fields.operator());
    fields.finish("refuse", REFUSE)?;
    match (plan_id, operator) {
        (Some(plan_id), Some(operator)) => Ok(Refuse { plan_id, operator }),
        _ => Err(RequestError::NotOneThing),
    }
}

fn apply(mut fields: Fields) -> Result<Apply, RequestError> {
    let plan_id = fields.plan_id();
    let execution = fields.optional("execution", "the ARN of the execution");
    fields.finish("apply", APPLY)?;
    match plan_id {
        Some(plan_id) => Ok(Apply { plan_id, execution }),
        None => Err(RequestError::NotOneThing),
    }
}

fn report(mut fields: Fields) -> Result<Report, RequestError> {
    let plan_id = fields.plan_id();
    let execution = fields.optional("execution", "the ARN of the execution");
    let outcome = fields.required("outcome", "finished, failed, refused or expired");
    let failure = fields.optional("failure", "{\"Error\": …, \"Cause\": …}");
    fields.finish("report", "sent by the state machine")?;
    match (plan_id, outcome) {
        (Some(plan_id), Some(outcome)) => Ok(Report {
            plan_id,
            execution,
            outcome,
            failure,
        }),
        _ => Err(RequestError::NotOneThing),
    }
}

/// The fields of one event, taken one after the other; what is left over is wrong, too.
struct Fields {
    left: Map<String, Value>,
    known: Vec<&'static str>,
    wrong: Vec<String>,
}

impl Fields {
    fn of(body: Value) -> Result<Self, RequestError> {
        let Value::Object(left) = body else {
            return Err(RequestError::NotOneThing);
        };
        Ok(Self {
            left,
            known: Vec::new(),
            wrong: Vec::new(),
        })
    }

    fn wrong(&mut self, line: &str) {
        self.wrong.push(format!("- {line}"));
    }

    fn required<T: DeserializeOwned>(&mut self, name: &'static str, allowed: &str) -> Option<T> {
        let is_there = self.left.get(name).is_some_and(|value| !value.is_null());
        let value = self.optional(name, allowed);
        if !is_there {
            self.wrong(&format!("`{name}` is missing: write {allowed}"));
        }
        value
    }

    fn optional<T: DeserializeOwned>(&mut self, name: &'static str, allowed: &str) -> Option<T> {
        self.known.push(name);
        let value = self.left.remove(name).filter(|value| !value.is_null())?;
        match serde_json::from_value(value) {
            Ok(value) => Some(value),
            Err(error) => {
                self.wrong(&format!("`{name}`: {error}; write {allowed}"));
                None
            }
        }
    }

    fn text(&mut self, name: &'static str) -> Option<String> {
        let text: String = self.optional(name, A_TEXT)?;
        let is_plain = !text.chars().any(char::is_control);
        if text.trim().is_empty() || text.chars().count() > TEXT_CHARS_MAX || !is_plain {
            self.wrong(&format!("`{name}`: write {A_TEXT}"));
            return None;
        }
        Some(text.trim().to_owned())
    }

    /// A plan id is a key segment: nothing but what plan ids are made of gets into a key.
    fn plan_id(&mut self) -> Option<String> {
        let id: String = self.required("plan_id", PLAN_ID)?;
        let id = id.trim().to_owned();
        let is_id = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if id.is_empty() || id.len() > 64 || !id.chars().all(is_id) {
            self.wrong(&format!(
                "`plan_id`: {id:?} is not one; write {PLAN_ID}, such as \"20261121T030501Z-8f3a2c19d0b4\""
            ));
            return None;
        }
        Some(id)
    }

    fn operator(&mut self) -> Option<String> {
        let is_there = self
            .left
            .get("operator")
            .is_some_and(|value| !value.is_null());
        let operator = self.text("operator");
        if !is_there {
            self.wrong("`operator` is missing: write your name, for the record");
        }
        operator
    }

    fn finish(mut self, what: &'static str, example: &'static str) -> Result<(), RequestError> {
        let left: Vec<String> = self.left.keys().cloned().collect();
        for name in left {
            let known = self.known.join("`, `");
            self.wrong(&format!(
                "`{name}` is not a field of `{what}`, which has `{known}`"
            ));
        }
        if self.wrong.is_empty() {
            Ok(())
        } else {
            Err(RequestError::Fields {
                what,
                wrong: self.wrong,
                example,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn target() -> Value {
        json!({"new_database": {"target": "standby", "database": "app_restored"}})
    }

    fn error_of(event: Value) -> String {
        let diagnostic = Diagnostic::from(Request::parse(event).unwrap_err());
        assert_eq!(diagnostic.error_type, "Refused");
        diagnostic.error_message
    }

    #[test]
    fn the_smallest_plan_is_the_latest_backup_whole() {
        let Ok(Request::Plan(plan)) =
            Request::parse(json!({"plan": {"database": "app", "target": target()}}))
        else {
            panic!("not a plan");
        };
        assert_eq!(plan.point, Point::Latest);
        assert_eq!(plan.scope, Scope::Everything);
        assert!(!plan.owners && !plan.privileges && !plan.unverified);
    }

    #[test]
    fn every_point_and_scope_can_be_written() {
        for point in [
            json!("latest"),
            json!({"backup_id": "20261121T010000Z-nightly"}),
            json!({"time": "2026-11-21T02:30:00Z"}),
        ] {
            let event = json!({"plan": {"database": "app", "target": target(), "point": point}});
            let Ok(Request::Plan(plan)) = Request::parse(event) else {
                panic!("{point} is not taken");
            };
            assert_eq!(serde_json::to_value(plan.point).unwrap(), point);
        }
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once_with_what_is_allowed() {
        let error = error_of(json!({"plan": {
            "database": "App", "point": "newest", "scope": {"tables": ["users"]},
            "target": {"new_database": {"target": "standby"}}, "owners": "yes", "clean": true,
        }}));
        for expected in [
            "nothing was done",
            "\"App\" is not a database name",
            "`point`: unknown variant `newest`",
            "{\"time\": \"2026-11-21T02:30:00Z\"}",
            "\"users\" is not the name of a table",
            "`target`: missing field `database`",
            "`owners`: invalid type",
            "true or false",
            "`clean` is not a field of `plan`",
            "For example: {\"database\"",
        ] {
            assert!(error.contains(expected), "{expected:?} is not in\n{error}");
        }
    }

    #[test]
    fn what_is_missing_is_named_with_an_example() {
        let error = error_of(json!({"plan": {}}));
        assert!(error.contains("`database` is missing"), "{error}");
        assert!(error.contains("`target` is missing"), "{error}");
        let error = error_of(json!({"approve": {"plan_id": "x"}}));
        assert!(error.contains("`operator` is missing"), "{error}");
        assert!(error.contains("`target_name_typed` is missing"), "{error}");
    }

    #[test]
    fn an_event_is_exactly_one_thing() {
        for event in [
            json!({}),
            json!("plan"),
            json!({"plan": null}),
            json!({"restore": {}}),
            json!({"plan": {}, "apply": {}}),
        ] {
            let error = error_of(event.clone());
            assert!(error.contains("exactly one of"), "{event}: {error}");
        }
    }

    #[test]
    fn an_unverified_backup_is_never_taken_without_being_named() {
        let error =
            error_of(json!({"plan": {"database": "app", "target": target(), "unverified": true}}));
        assert!(error.contains("`point` that names a backup_id"), "{error}");
    }

    #[test]
    fn a_plan_id_leads_nowhere_but_to_a_plan() {
        for id in ["", "../verify", "a/b", "é", &"a".repeat(65)] {
            let error = error_of(json!({"apply": {"plan_id": id}}));
            assert!(error.contains("`plan_id`"), "{id}: {error}");
        }
    }

    #[test]
    fn the_examples_are_understood() {
        let plan: Value = serde_json::from_str(EXAMPLE).unwrap();
        Request::parse(json!({"plan": plan})).unwrap();
        for example in [APPROVE, REFUSE, APPLY] {
            Request::parse(serde_json::from_str(example).unwrap()).unwrap();
        }
    }
}
