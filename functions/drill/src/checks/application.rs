//! An application's answer, held against what the configuration expects. Pure. No body is ever
//! quoted: it is the application's own data.

use serde_json::Value;
use serde_json_path::JsonPath;
use shared::policy::HttpCheck;
use shared::verdict::Code;

use super::{CheckCode, CheckResult, Subject};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Response {
        status: u16,
        /// Read up to the limit; only where a path looks into it.
        body: Vec<u8>,
    },
    /// It answered, and cannot pass: a redirect, a body too large.
    Refused(String),
    /// It could not be asked.
    NotRun(String),
}

pub fn check(expected: &HttpCheck, answer: &Answer) -> CheckResult {
    let subject = Subject {
        code: CheckCode::Http,
        name: expected.name.clone(),
        priority: expected.priority,
        finding: Code::ApplicationFailed,
        remedy: "see the application's own log: it was pointed at the restored database, and did not answer as it should",
    };
    let (status, body) = match answer {
        Answer::Response { status, body } => (*status, body),
        Answer::Refused(why) => return subject.failed(why.clone(), Vec::new()),
        Answer::NotRun(why_not) => return subject.inconclusive(why_not.clone()),
    };
    if status != expected.expect_status {
        let summary = format!("status {status}, expected {}", expected.expect_status);
        return subject.failed(summary, Vec::new());
    }
    let (Some(path), Some(wanted)) = (&expected.json_path, &expected.expect) else {
        return subject.passed(format!("status {status}"));
    };
    let Ok(path) = JsonPath::parse(path) else {
        return subject.inconclusive(format!("json_path {path:?} is not a JSONPath: correct it"));
    };
    let Ok(json) = serde_json::from_slice::<Value>(body) else {
        return subject.failed(
            format!("status {status}, but the body is not JSON"),
            Vec::new(),
        );
    };
    match path.query(&json).all().as_slice() {
        [node] if text(node) == *wanted => {
            subject.passed(format!("status {status}, {path} as expected"))
        }
        [_] => subject.failed(
            format!("{path} has another value than expected"),
            Vec::new(),
        ),
        found => subject.failed(
            format!("{path} finds {} values, expected one", found.len()),
            Vec::new(),
        ),
    }
}

/// A text without its quotes, so that it can be written in the configuration as it is.
fn text(node: &Value) -> String {
    match node {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            node.to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::Status;
    use shared::policy::{Method, Priority};

    fn check(path: Option<&str>, status: u16, body: &str) -> (Status, String) {
        let expected = HttpCheck {
            name: "sign-in".to_owned(),
            method: Method::Get,
            url: "https://a.example/".to_owned(),
            header_secret: None,
            expect_status: 200,
            json_path: path.map(str::to_owned),
            expect: path.map(|_| "true".to_owned()),
            priority: Priority::P0,
            allow_private: false,
        };
        let answer = Answer::Response {
            status,
            body: body.as_bytes().to_vec(),
        };
        let found = super::check(&expected, &answer);
        (found.status, found.summary)
    }

    #[test]
    fn status_and_path_decide() {
        assert_eq!(check(None, 200, "").0, Status::Passed);
        assert_eq!(check(None, 500, "").1, "status 500, expected 200");
        let path = Some("$.database.ok");
        for (body, expected) in [
            (r#"{"database": {"ok": true}}"#, Status::Passed),
            (r#"{"database": {"ok": "true"}}"#, Status::Passed),
            (r#"{"database": {"ok": false}}"#, Status::Failed),
            (r#"{"database": {}}"#, Status::Failed),
            ("<html>", Status::Failed),
            ("", Status::Failed),
        ] {
            assert_eq!(check(path, 200, body).0, expected, "{body}");
        }
        assert_eq!(check(Some("$["), 200, "{}").0, Status::Inconclusive);
    }

    #[test]
    fn no_body_is_quoted() {
        for body in ["CANARY", r#"{"database": {"ok": "CANARY"}}"#] {
            let (_, summary) = check(Some("$.database.ok"), 200, body);
            assert!(!summary.contains("CANARY"), "{summary}");
        }
    }
}
