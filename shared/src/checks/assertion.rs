//! A configured query of one value, held against what it must be. Pure.

use crate::policy::SqlAssertion;
use crate::verdict::Code;

use super::{CheckCode, CheckResult, Subject};

/// What the query gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Value(String),
    Null,
    NoRow,
    /// More rows than one, or more columns.
    Several,
    /// A table, a column or a function that it names does not exist, as the server said.
    Absent(String),
    /// What the server said.
    Error(String),
    /// The server refuses to run it in a read-only transaction, or it is wrong: it cannot pass.
    NotRun(String),
}

pub fn check(expected: &SqlAssertion, answer: &Answer) -> CheckResult {
    let subject = subject(expected);
    match answer {
        Answer::Value(value) if *value == expected.expect => subject.passed("as expected"),
        Answer::Value(value) => {
            let summary = format!("{}, and another value was expected", shown(value));
            subject.failed(summary, Vec::new())
        }
        Answer::Null => subject.failed("NULL, and a value was expected", Vec::new()),
        Answer::NoRow => subject.failed("no row, and one was expected", Vec::new()),
        Answer::Several => subject.failed(
            "more than one value; the query must have exactly one",
            Vec::new(),
        ),
        Answer::Absent(says) | Answer::Error(says) => {
            subject.failed(format!("the server said: {says}"), Vec::new())
        }
        Answer::NotRun(why_not) => subject.inconclusive(why_not.clone()),
    }
}

/// The same of a state of the past, which need not have everything that there is today.
pub fn check_of_past(expected: &SqlAssertion, answer: &Answer) -> CheckResult {
    match answer {
        Answer::Absent(says) => subject(expected).not_yet(says),
        Answer::Value(_)
        | Answer::Null
        | Answer::NoRow
        | Answer::Several
        | Answer::Error(_)
        | Answer::NotRun(_) => check(expected, answer),
    }
}

fn subject(expected: &SqlAssertion) -> Subject {
    Subject {
        code: CheckCode::Sql,
        name: expected.name.clone(),
        priority: expected.priority,
        finding: Code::AssertionFailed,
        remedy: "run the query on the source: if it fails there too, the data was wrong before the backup; otherwise do not rely on this backup",
    }
}

/// Counts and yes or no are no row content; anything else may be.
fn shown(value: &str) -> String {
    let is_number = !value.is_empty()
        && value.len() <= 18
        && value.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    if is_number || matches!(value, "t" | "f") {
        format!("it is {value}")
    } else {
        format!("it is a text of {} characters", value.chars().count())
    }
}

/// One statement and nothing else, of which at most two rows are wanted.
pub fn statement(query: &str) -> String {
    let query = query.trim().trim_end_matches(';');
    // On a line of its own, so that a comment at its end does not swallow the rest.
    format!("SELECT * FROM (\n{query}\n) AS assertion LIMIT 2")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::Status;
    use crate::policy::Priority;

    fn expected() -> SqlAssertion {
        SqlAssertion {
            name: "balanced".to_owned(),
            query: "SELECT 1".to_owned(),
            expect: "0".to_owned(),
            priority: Priority::P0,
        }
    }

    fn check(answer: &Answer) -> (Status, String) {
        let found = super::check(&expected(), answer);
        (found.status, found.summary)
    }

    #[test]
    fn what_came_since_fails_a_backup_and_is_no_fault_of_the_past() {
        let absent = Answer::Absent("relation \"invoices\" does not exist".to_owned());
        assert_eq!(check(&absent).0, Status::Failed);
        let then = check_of_past(&expected(), &absent);
        assert_eq!((then.status, then.remedy), (Status::Note, None));
        assert_eq!(
            then.summary,
            "not there at that time: relation \"invoices\" does not exist"
        );
        for answer in [
            Answer::Value("0".to_owned()),
            Answer::Value("1".to_owned()),
            Answer::Null,
            Answer::Error("permission denied".to_owned()),
            Answer::NotRun("no time".to_owned()),
        ] {
            let then = check_of_past(&expected(), &answer);
            assert_eq!((then.status, then.summary), check(&answer));
        }
    }

    #[test]
    fn only_the_expected_value_passes() {
        let value = |it: &str| Answer::Value(it.to_owned());
        assert_eq!(check(&value("0")).0, Status::Passed);
        for answer in [
            value("1"),
            value("0 "),
            value(""),
            Answer::Null,
            Answer::NoRow,
            Answer::Several,
        ] {
            assert_eq!(check(&answer).0, Status::Failed, "{answer:?}");
        }
        assert_eq!(
            check(&Answer::NotRun("no time".to_owned())).0,
            Status::Inconclusive
        );
    }

    #[test]
    fn a_number_is_shown_and_a_text_is_not() {
        assert!(
            check(&Answer::Value("17".to_owned()))
                .1
                .contains("it is 17")
        );
        let text = check(&Answer::Value("ada@example.com".to_owned())).1;
        assert!(
            !text.contains("ada") && text.contains("15 characters"),
            "{text}"
        );
    }

    #[test]
    fn a_comment_at_the_end_does_not_swallow_the_statement() {
        assert_eq!(
            statement("SELECT 1 -- one;"),
            "SELECT * FROM (\nSELECT 1 -- one\n) AS assertion LIMIT 2"
        );
    }
}
