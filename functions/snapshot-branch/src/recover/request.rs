//! What is asked of a recovery of production. People type `plan`, `approve` and `refuse`; the
//! state machine sends the others. Pure.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use shared::backup::DatabaseName;

use crate::request::{RestorePoint, is_text};

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Recover {
    /// What would be done, and what is in the way. Changes nothing.
    Plan(PlanRequest),
    /// The same, by the state machine.
    PlanFor(PlanFor),
    AwaitApproval(AwaitApproval),
    Approve(Approve),
    Refuse(Refuse),
    /// Makes the branch of the point, beside production.
    Prepare(OfPlan),
    /// Asks that branch.
    Validate(OfPlan),
    /// Changes production.
    Promote(OfPlan),
    /// Asks production.
    Smoke(OfPlan),
    /// What changed since the point.
    Compare(OfPlan),
    /// Removes what only served the recovery, writes down what came of it, and says so.
    Close(Close),
}

/// Becomes a part of keys and of branches' names.
///
/// Invariant: 1 to 64 of `[A-Za-z0-9-]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PlanId(String);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no plan_id: copy the one that the plan's message names")]
pub struct InvalidPlanId(String);

impl PlanId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for PlanId {
    type Error = InvalidPlanId;

    fn try_from(id: String) -> Result<Self, InvalidPlanId> {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let trimmed = id.trim();
        if trimmed.is_empty() || trimmed.len() > 64 || !trimmed.chars().all(is_allowed) {
            return Err(InvalidPlanId(id));
        }
        Ok(Self(trimmed.to_owned()))
    }
}

impl From<PlanId> for String {
    fn from(id: PlanId) -> Self {
        id.0
    }
}

impl fmt::Display for PlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The input of the state machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanRequest {
    pub database: DatabaseName,
    /// The last good moment.
    pub point: RestorePoint,
    /// Who asks, for the record.
    pub by: String,
    #[serde(default)]
    pub reason: Option<String>,
    /// For a point from before what `[database.drill]` asks about: only that tables are there is
    /// looked at.
    #[serde(default)]
    pub skip_checks: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanFor {
    pub request: PlanRequest,
    pub execution: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwaitApproval {
    pub plan_id: PlanId,
    pub token: String,
    pub execution: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approve {
    pub plan_id: PlanId,
    pub operator: String,
    pub target_name_typed: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refuse {
    pub plan_id: PlanId,
    pub operator: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfPlan {
    pub plan_id: PlanId,
}

/// Sent by the state machine, whatever happened before; by a person, with the plan's id alone,
/// where the execution was stopped.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Close {
    pub plan_id: PlanId,
    #[serde(default)]
    pub execution: String,
    /// When the hooks were called and did not fail; empty: not, or there are none.
    #[serde(default)]
    pub frozen_at: String,
    #[serde(default)]
    pub unfrozen_at: String,
    /// Of the step that ended it; without an error where none did.
    #[serde(default)]
    pub failure: Failure,
    #[serde(default)]
    pub unfreeze_failure: Failure,
    #[serde(default)]
    pub compare_failure: Failure,
}

/// As Step Functions hands it to a `Catch`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    #[serde(rename = "Error", default, deserialize_with = "or_empty")]
    pub error: String,
    #[serde(rename = "Cause", default, deserialize_with = "or_empty")]
    pub cause: String,
}

/// Whoever fails need not say why.
fn or_empty<'de, D: Deserializer<'de>>(text: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(text)?.unwrap_or_default())
}

impl Failure {
    pub fn is_some(&self) -> bool {
        !self.error.is_empty()
    }
}

impl Recover {
    /// What the types do not say; the error is what to write.
    pub fn check(&self) -> Result<(), &'static str> {
        const NAME: &str = "write your name, for the record: one line of at most 200 characters";
        let is_name = |it: &str| !it.trim().is_empty() && is_text(it);
        let who = match self {
            Self::Plan(plan) | Self::PlanFor(PlanFor { request: plan, .. }) => {
                if !plan.reason.as_deref().is_none_or(is_text) {
                    return Err("`reason` is one line of at most 200 characters");
                }
                plan.point.check()?;
                &plan.by
            }
            Self::Approve(approve) => &approve.operator,
            Self::Refuse(refuse) => &refuse.operator,
            Self::AwaitApproval(_)
            | Self::Prepare(_)
            | Self::Validate(_)
            | Self::Promote(_)
            | Self::Smoke(_)
            | Self::Compare(_)
            | Self::Close(_) => return Ok(()),
        };
        if is_name(who) { Ok(()) } else { Err(NAME) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn parse(event: Value) -> Result<Recover, String> {
        let recover: Recover = serde_json::from_value(event).map_err(|it| it.to_string())?;
        recover.check().map_err(str::to_owned)?;
        Ok(recover)
    }

    #[test]
    fn a_recovery_is_asked_for_with_a_point_and_a_name() {
        let plan =
            json!({"database": "app", "point": {"time": "2026-11-21T02:30:00Z"}, "by": "Ada"});
        assert!(matches!(parse(json!({"plan": plan})), Ok(Recover::Plan(_))));
        for (field, value, expected) in [
            ("by", json!(" "), "write your name"),
            ("point", json!({"time": "yesterday"}), "failed to parse"),
            ("point", json!({"lsn": "1AA6408"}), "0/1AA6408"),
            ("reason", json!("a\nb"), "one line"),
            ("force", json!(true), "unknown field `force`"),
        ] {
            let mut event = plan.clone();
            event[field] = value;
            let error = parse(json!({"plan": event})).unwrap_err();
            assert!(error.contains(expected), "{field}: {error}");
        }
    }

    #[test]
    fn a_person_ends_a_plan_by_its_id_alone() {
        let close = parse(json!({"close": {"plan_id": "20261121T030501Z-8f3a2c19d0b4"}}));
        let Ok(Recover::Close(close)) = close else {
            panic!("{close:?}");
        };
        assert!(!close.failure.is_some() && !close.unfreeze_failure.is_some());
    }

    #[test]
    fn a_plan_id_leads_nowhere_but_to_a_plan() {
        for id in ["", "../evidence", "a/b", "é", &"a".repeat(65)] {
            let error = parse(json!({"promote": {"plan_id": id}})).unwrap_err();
            assert!(error.contains("is no plan_id"), "{id}: {error}");
        }
        for event in [
            json!({}),
            json!({"promote": {"plan_id": "a"}, "refuse": {}}),
        ] {
            assert!(parse(event).is_err());
        }
    }
}
