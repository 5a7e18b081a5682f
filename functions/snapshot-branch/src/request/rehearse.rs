//! A migration that somebody wants to try.

use std::time::Duration;

use serde::Deserialize;
use shared::backup::DatabaseName;

use super::RequestError;
use crate::migration::Migration;

/// A migration, and no load of data.
const SQL_BYTES_MAX: usize = 1 << 20;
/// The function has 600 s, and makes and deletes the branch in it.
const LIMIT_SECONDS_MAX: u64 = 480;
const KEEP_DAYS_MAX: u8 = 30;

const BY: &str = "`by` is your name, for the record";
const KEEP_DAYS: &str = "`keep_days` is 0 to 30: no branch that expires lives longer";

/// Tries SQL on a new branch of production.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rehearse {
    pub database: DatabaseName,
    pub migration: Migration,
    /// Who asks, for the record.
    pub by: String,
    pub limit: Duration,
    /// The branch stays for as many days; 0: it goes.
    pub keep_days: u8,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RehearseEvent {
    database: DatabaseName,
    /// In one transaction.
    #[serde(default)]
    sql: Option<String>,
    /// Each by itself.
    #[serde(default)]
    statements: Option<Vec<String>>,
    by: String,
    #[serde(default = "limit_seconds")]
    limit_seconds: u64,
    #[serde(default)]
    keep_days: u8,
}

fn limit_seconds() -> u64 {
    300
}

impl TryFrom<RehearseEvent> for Rehearse {
    type Error = RequestError;

    fn try_from(event: RehearseEvent) -> Result<Self, RequestError> {
        let migration = match (event.sql, event.statements) {
            (Some(text), None) => Migration::Text(text),
            (None, Some(statements)) => Migration::Statements(statements),
            (Some(_), Some(_)) | (None, None) => {
                return Err(RequestError::Rehearse(
                    "it has either `sql`, which is run in one transaction, or a list of `statements`, each of which is run by itself",
                ));
            }
        };
        let whole = migration.whole();
        let wrong = if whole.trim().is_empty() || whole.contains('\0') {
            "there is no SQL in it"
        } else if whole.len() > SQL_BYTES_MAX {
            "there is more than 1 MiB of SQL; load data otherwise"
        } else if event.by.trim().is_empty() || !super::is_text(&event.by) {
            BY
        } else if !(1..=LIMIT_SECONDS_MAX).contains(&event.limit_seconds) {
            "`limit_seconds` is 1 to 480"
        } else if event.keep_days > KEEP_DAYS_MAX {
            KEEP_DAYS
        } else {
            return Ok(Self {
                database: event.database,
                migration,
                by: event.by,
                limit: Duration::from_secs(event.limit_seconds),
                keep_days: event.keep_days,
            });
        };
        Err(RequestError::Rehearse(wrong))
    }
}

/// Makes a branch on which the caller tries a command of his own.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeginRehearsal {
    pub database: DatabaseName,
    /// Who asks, for the record.
    pub by: String,
    /// As of [`Rehearse`].
    #[serde(default)]
    pub keep_days: u8,
}

/// The command is over: what it changed is told, and its branch goes.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndRehearsal {
    pub database: DatabaseName,
    /// As the beginning has answered it.
    pub branch: String,
    /// Of the command, as a shell tells it: 0, or it failed.
    pub exit_status: u8,
    /// What the command took, where the caller has measured it.
    #[serde(default)]
    pub seconds: Option<f64>,
}

impl BeginRehearsal {
    pub(super) fn check(&self) -> Result<(), RequestError> {
        if self.by.trim().is_empty() || !super::is_text(&self.by) {
            return Err(RequestError::BeginRehearsal(BY));
        }
        if self.keep_days > KEEP_DAYS_MAX {
            return Err(RequestError::BeginRehearsal(KEEP_DAYS));
        }
        Ok(())
    }
}

impl EndRehearsal {
    pub(super) fn check(&self) -> Result<(), RequestError> {
        if !super::is_id(&self.branch) {
            return Err(RequestError::EndRehearsal(
                "`branch` is what `rehearse_begin` has answered",
            ));
        }
        if self.seconds.is_some_and(|it| it < 0.0) {
            return Err(RequestError::EndRehearsal("`seconds` is 0 or more"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use lambda_runtime::Diagnostic;
    use serde_json::{Value, json};

    use super::super::Request;

    #[test]
    fn a_rehearsal_of_a_command_begins_and_ends() {
        let begin = |more: Value| {
            let mut event = json!({"database": "app", "by": "ci run 42"});
            for (name, value) in more.as_object().unwrap() {
                event[name] = value.clone();
            }
            Request::parse(json!({"rehearse_begin": event}))
        };
        let end = |branch: &str, status: Value, seconds: Value| {
            let event = json!({"database": "app", "branch": branch, "exit_status": status, "seconds": seconds});
            Request::parse(json!({"rehearse_end": event}))
        };
        let branch = "rehearsal-20261121T023000Z-0a1b2c3d";
        assert!(begin(json!({"keep_days": 30})).is_ok());
        assert!(end(branch, json!(0), json!(1.5)).is_ok());
        assert!(end(branch, json!(255), Value::Null).is_ok());
        for (request, expected) in [
            (begin(json!({"by": "\n"})), "your name"),
            (begin(json!({"keep_days": 31})), "0 to 30"),
            (begin(json!({"sql": "SELECT 1"})), "unknown field `sql`"),
            (end("", json!(0), Value::Null), "`branch` is what"),
            (end("../main", json!(0), Value::Null), "`branch` is what"),
            (end(branch, json!(256), Value::Null), "256"),
            (end(branch, Value::Null, Value::Null), "expected u8"),
            (end(branch, json!(0), json!(-1)), "0 or more"),
        ] {
            let error = Diagnostic::from(request.unwrap_err());
            assert_eq!(error.error_type, "Refused");
            assert!(
                error.error_message.contains(expected),
                "{}",
                error.error_message
            );
        }
    }

    #[test]
    fn a_rehearsal_is_one_text_or_a_list_of_statements() {
        let parse = |more: Value| {
            let mut event = json!({"database": "app", "by": "Ada"});
            for (name, value) in more.as_object().unwrap() {
                event[name] = value.clone();
            }
            Request::parse(json!({"rehearse": event}))
        };
        let Ok(Request::Rehearse(rehearse)) = parse(json!({"sql": "SELECT 1"})) else {
            panic!("it is not taken");
        };
        assert_eq!((rehearse.limit.as_secs(), rehearse.keep_days), (300, 0));
        assert!(parse(json!({"statements": ["VACUUM"], "keep_days": 30})).is_ok());
        for (more, expected) in [
            (json!({}), "either `sql`"),
            (json!({"sql": "x", "statements": ["x"]}), "either `sql`"),
            (json!({"sql": " \n"}), "no SQL in it"),
            (json!({"statements": []}), "no SQL in it"),
            (json!({"sql": "x".repeat((1 << 20) + 1)}), "more than 1 MiB"),
            (json!({"sql": "x", "limit_seconds": 481}), "1 to 480"),
            (json!({"sql": "x", "keep_days": 31}), "0 to 30"),
            (json!({"sql": "x", "by": ""}), "your name"),
        ] {
            let error = Diagnostic::from(parse(more).unwrap_err());
            assert!(
                error.error_message.contains(expected),
                "{}",
                error.error_message
            );
        }
    }
}
