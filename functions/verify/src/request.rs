//! What the function is asked: exactly one of three things.

use lambda_runtime::Diagnostic;
use serde::Deserialize;
use serde_json::Value;
use shared::backup::BackupItem;
use shared::error::Name;

use crate::diagnostic;
use crate::plan::PlanBackups;
use crate::verify_backup::Next;
use crate::watch::Watch;

#[derive(Debug)]
pub enum Request {
    /// Verify one backup; `next` comes from the answer of the invocation before.
    Backup {
        backup: BackupItem,
        next: Option<Next>,
    },
    PlanBackups(PlanBackups),
    Watch(Watch),
}

#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error("the event is not one that verify knows")]
    Malformed(#[source] serde_json::Error),
    #[error(
        "the event has to hold exactly one of `backup` (with `next` to go on), `plan_backups` and `watch`"
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
    backup: Option<BackupItem>,
    next: Option<Next>,
    plan_backups: Option<PlanBackups>,
    watch: Option<Watch>,
}

impl Request {
    pub fn parse(event: Value) -> Result<Self, RequestError> {
        let event: Event = serde_json::from_value(event).map_err(RequestError::Malformed)?;
        match (event.backup, event.plan_backups, event.watch) {
            (Some(backup), None, None) => Ok(Self::Backup {
                backup,
                next: event.next,
            }),
            (None, Some(request), None) if event.next.is_none() => Ok(Self::PlanBackups(request)),
            (None, None, Some(request)) if event.next.is_none() => Ok(Self::Watch(request)),
            _ => Err(RequestError::Ambiguous),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_holds_exactly_one_thing() {
        let item =
            json!({"database": "app", "kind": "nightly", "scheduled_time": "2026-11-21T01:00:00Z"});
        assert!(matches!(
            Request::parse(json!({"backup": item})),
            Ok(Request::Backup { next: None, .. })
        ));
        assert!(matches!(
            Request::parse(json!({"watch": {}})),
            Ok(Request::Watch(_))
        ));
        for event in [
            json!({}),
            json!({"backup": item, "watch": {}}),
            json!({"backup": null}),
        ] {
            let error = Request::parse(event.clone()).unwrap_err();
            assert!(matches!(error, RequestError::Ambiguous), "{event}");
        }
    }

    #[test]
    fn an_unknown_field_is_named_and_refused() {
        let error = Request::parse(json!({"backups": {}})).unwrap_err();
        let diagnostic = Diagnostic::from(error);
        assert_eq!(diagnostic.error_type, "Refused");
        assert!(
            diagnostic.error_message.contains("unknown field `backups`"),
            "{}",
            diagnostic.error_message
        );
    }
}
