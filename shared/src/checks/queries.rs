//! Asks a database what the configuration wants to know of it.

use std::time::Instant;

use jiff::Timestamp;

use super::session::{Session, Unanswered, qualified, quoted, texts};
use super::{assertion, table};
use crate::database_url::DatabaseUrl;
use crate::pg::{PgError, ServerError};
use crate::policy::{SqlAssertion, TableExpectation};

/// Every table's answer, with how long it took.
pub fn tables(
    target: &DatabaseUrl,
    expected: &[TableExpectation],
    snapshot_at: Timestamp,
    until: Instant,
) -> Result<Vec<(table::Answer, f64)>, PgError> {
    let mut session = Session::new(target, until, None);
    let mut answers = Vec::new();
    for expected in expected {
        let begun = Instant::now();
        let answer = table(&mut session, expected, snapshot_at)?;
        answers.push((answer, begun.elapsed().as_secs_f64()));
    }
    Ok(answers)
}

fn table(
    session: &mut Session,
    expected: &TableExpectation,
    snapshot_at: Timestamp,
) -> Result<table::Answer, PgError> {
    let name = qualified(&expected.schema, &expected.name);
    let rows = match expected.min_rows {
        Some(_) => said(session.ask_value(format!("SELECT count(*) FROM {name}")))?
            .and_then(|it| it.parse().map_err(|_| untold("no number"))),
        None => Ok(0),
    };
    let age_seconds = match &expected.fresh_column {
        Some(column) => {
            let column = quoted(column);
            let age = format!(
                "SELECT floor(extract(epoch FROM '{snapshot_at}'::timestamptz - max({column})::timestamptz))::bigint FROM {name}"
            );
            let age = said(session.ask_value(age))?;
            // NULL, of an empty table, is an empty text.
            Some(age.map(|it| it.parse().ok()))
        }
        None => None,
    };
    Ok(table::Answer { rows, age_seconds })
}

/// What the server refuses, or has no time for, is an answer; a lost connection is none.
fn said(answer: Result<String, Unanswered>) -> Result<Result<String, table::WhyNot>, PgError> {
    match answer {
        Ok(value) => Ok(Ok(value)),
        Err(Unanswered::Refused(error)) if is_absent(&error) => {
            let says = error.without_values().to_string();
            Ok(Err(table::WhyNot::Absent(says)))
        }
        Err(unanswered) => Ok(Err(untold(unanswered.here()?))),
    }
}

fn untold(why_not: impl Into<String>) -> table::WhyNot {
    table::WhyNot::Untold(why_not.into())
}

/// Whether it is for want of a table, a column, a function, a type or a schema, in the server's
/// own words: a function that raises an exception may use any code.
fn is_absent(error: &ServerError) -> bool {
    let codes = ["42P01", "42703", "42883", "42704", "3F000"];
    !error.is_raised && codes.contains(&error.code.as_str())
}

/// Every assertion's answer, each in a read-only transaction of its own.
pub fn assertions(
    target: &DatabaseUrl,
    expected: &[SqlAssertion],
    until: Instant,
) -> Result<Vec<(assertion::Answer, f64)>, PgError> {
    let mut session = Session::new(target, until, None);
    let mut answers = Vec::new();
    for expected in expected {
        let begun = Instant::now();
        let answer = ask(&mut session, &expected.query)?;
        answers.push((answer, begun.elapsed().as_secs_f64()));
    }
    Ok(answers)
}

fn ask(session: &mut Session, query: &str) -> Result<assertion::Answer, PgError> {
    let statement = assertion::statement(query);
    let rows = session.ask(format!("BEGIN READ ONLY; {statement}; ROLLBACK"));
    let rows = match rows {
        Ok(rows) => rows,
        Err(Unanswered::Refused(error)) => {
            session.roll_back();
            let (did_not_run, is_absent) = (error.code == "25006", is_absent(&error));
            let says = error.without_values().to_string();
            return Ok(if did_not_run {
                assertion::Answer::NotRun(says)
            } else if is_absent {
                assertion::Answer::Absent(says)
            } else {
                assertion::Answer::Error(says)
            });
        }
        Err(unanswered) => {
            session.roll_back();
            return Ok(assertion::Answer::NotRun(unanswered.here()?));
        }
    };
    let mut rows = rows.into_iter();
    Ok(match (rows.next(), rows.next()) {
        (None, _) => assertion::Answer::NoRow,
        (Some(row), None) if row.len() == 1 => match row.into_iter().next().flatten() {
            None => assertion::Answer::Null,
            Some(value) => {
                let [value] = texts(vec![Some(value)]);
                assertion::Answer::Value(value)
            }
        },
        (Some(_), _) => assertion::Answer::Several,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_function_raises_is_not_taken_for_something_that_is_not_there() {
        let error = |code: &str, is_raised: bool| ServerError {
            code: code.to_owned(),
            message: "x".to_owned(),
            is_raised,
            position: None,
        };
        for code in ["42P01", "42703", "42883", "42704", "3F000"] {
            assert!(is_absent(&error(code, false)), "{code}");
            assert!(!is_absent(&error(code, true)), "{code}");
        }
        for code in ["42501", "42601", "57014", "25006"] {
            assert!(!is_absent(&error(code, false)), "{code}");
        }
    }
}
