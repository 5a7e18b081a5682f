//! How many rows a table must have at least, and how fresh they must be. Pure.

use crate::manifest::QualifiedName;
use crate::policy::{Priority, TableExpectation};
use crate::verdict::Code;
use crate::words::grouped;

use super::{CheckCode, CheckResult, Subject};

/// Clocks differ by less.
const AHEAD_SECONDS_MAX: i64 = 300;

/// What the restored database answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub rows: Result<u64, WhyNot>,
    /// Seconds from the newest value to the snapshot; `None` in an empty table.
    pub age_seconds: Option<Result<Option<i64>, WhyNot>>,
}

/// Why there is no number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhyNot {
    /// The table or the column does not exist, as the server said.
    Absent(String),
    /// It could not be told.
    Untold(String),
}

pub fn checks(expected: &TableExpectation, answer: &Answer) -> Vec<CheckResult> {
    judge(expected, answer, |subject, why_not| match why_not {
        WhyNot::Absent(says) | WhyNot::Untold(says) => subject.inconclusive(says.clone()),
    })
}

/// The same of a state of the past, which need not have everything that there is today.
pub fn checks_of_past(expected: &TableExpectation, answer: &Answer) -> Vec<CheckResult> {
    judge(expected, answer, |subject, why_not| match why_not {
        WhyNot::Absent(says) => subject.not_yet(says),
        WhyNot::Untold(says) => subject.inconclusive(says.clone()),
    })
}

/// What an answer that is none says.
type Unanswered = fn(&Subject, &WhyNot) -> CheckResult;

fn judge(expected: &TableExpectation, answer: &Answer, unanswered: Unanswered) -> Vec<CheckResult> {
    let floor = expected
        .min_rows
        .map(|min| floor(expected, min, &answer.rows, unanswered));
    let freshness = expected
        .fresh_within_minutes
        .zip(answer.age_seconds.as_ref());
    let freshness = freshness.map(|(within, age)| fresh(expected, within, age, unanswered));
    floor.into_iter().chain(freshness).collect()
}

fn floor(
    expected: &TableExpectation,
    min: u64,
    rows: &Result<u64, WhyNot>,
    unanswered: Unanswered,
) -> CheckResult {
    let subject = Subject {
        code: CheckCode::RowFloor,
        name: format!("{} has at least {} rows", expected.label(), grouped(min)),
        priority: Priority::P1,
        finding: Code::TooFewRows,
        remedy: "see whether the source lost rows, too; if so, restore a backup from before",
    };
    match rows {
        Ok(rows) if *rows >= min => subject.passed(format!("{} rows", grouped(*rows))),
        Ok(rows) => subject.failed(format!("only {} rows", grouped(*rows)), Vec::new()),
        Err(why_not) => unanswered(&subject, why_not),
    }
}

/// Held against the moment of the snapshot: an old backup is as fresh as it ever was. What is
/// from after it shows that the column tells something else, or a clock that is wrong.
fn fresh(
    expected: &TableExpectation,
    within_minutes: u32,
    age: &Result<Option<i64>, WhyNot>,
    unanswered: Unanswered,
) -> CheckResult {
    let subject = Subject {
        code: CheckCode::Freshness,
        name: format!(
            "{} has rows of the last {within_minutes} minutes",
            expected.label()
        ),
        priority: Priority::P1,
        finding: Code::NotFresh,
        remedy: "see whether the application still writes, and whether the backup is of the database that it writes to",
    };
    match age {
        Ok(Some(seconds)) if *seconds < -AHEAD_SECONDS_MAX => {
            let ahead = jiff::SignedDuration::from_secs(seconds.saturating_neg());
            let ahead = crate::words::duration(ahead);
            let says = format!("the newest is from {ahead} after the backup");
            subject.failed(says, Vec::new())
        }
        Ok(Some(seconds)) if *seconds <= i64::from(within_minutes) * 60 => {
            subject.passed(format!("the newest is {}", old(*seconds)))
        }
        Ok(Some(seconds)) => subject.failed(format!("the newest is {}", old(*seconds)), Vec::new()),
        Ok(None) => subject.failed("there is no value at all", Vec::new()),
        Err(why_not) => unanswered(&subject, why_not),
    }
}

fn old(seconds: i64) -> String {
    let duration = jiff::SignedDuration::from_secs(seconds.max(0));
    format!("{} older than the backup", crate::words::duration(duration))
}

/// The table that an expectation is of.
pub fn table(expected: &TableExpectation) -> QualifiedName {
    QualifiedName {
        schema: expected.schema.clone(),
        name: expected.name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::Status;

    fn expected() -> TableExpectation {
        TableExpectation {
            schema: "app".to_owned(),
            name: "orders".to_owned(),
            min_rows: Some(1_000),
            fresh_column: Some("at".to_owned()),
            fresh_within_minutes: Some(60),
        }
    }

    fn check(rows: u64, age_seconds: Option<i64>) -> Vec<(Status, String)> {
        let answer = Answer {
            rows: Ok(rows),
            age_seconds: Some(Ok(age_seconds)),
        };
        let checks = checks(&expected(), &answer).into_iter();
        checks.map(|it| (it.status, it.summary)).collect()
    }

    #[test]
    fn a_column_that_came_since_is_no_fault_of_the_past_and_its_tables_rows_count_then_too() {
        let statuses = |checks: Vec<CheckResult>| -> Vec<Status> {
            checks.iter().map(|it| it.status).collect()
        };
        let absent = WhyNot::Absent("column \"at\" does not exist".to_owned());
        let younger = Answer {
            rows: Ok(999),
            age_seconds: Some(Err(absent.clone())),
        };
        let now = statuses(checks(&expected(), &younger));
        assert_eq!(now, [Status::Failed, Status::Inconclusive]);
        let then = statuses(checks_of_past(&expected(), &younger));
        assert_eq!(then, [Status::Failed, Status::Note]);
        let slow = Answer {
            rows: Err(WhyNot::Untold("no time".to_owned())),
            age_seconds: Some(Err(absent)),
        };
        let then = statuses(checks_of_past(&expected(), &slow));
        assert_eq!(then, [Status::Inconclusive, Status::Note]);
    }

    #[test]
    fn floor_and_freshness_are_inclusive() {
        let passed = check(1_000, Some(3_600));
        assert!(passed.iter().all(|it| it.0 == Status::Passed), "{passed:?}");
        let failed = check(999, Some(3_601));
        assert!(failed.iter().all(|it| it.0 == Status::Failed), "{failed:?}");
        assert_eq!(failed[0].1, "only 999 rows");
        assert_eq!(failed[1].1, "the newest is 1 hour older than the backup");
    }

    #[test]
    fn what_is_from_the_future_is_not_fresh() {
        assert_eq!(check(1_000, Some(-300))[1].0, Status::Passed);
        let (status, says) = check(1_000, Some(-301))[1].clone();
        assert_eq!(status, Status::Failed);
        assert_eq!(says, "the newest is from 5 minutes after the backup");
    }

    #[test]
    fn an_empty_table_is_not_fresh() {
        assert_eq!(check(0, None)[1].0, Status::Failed);
    }
}
