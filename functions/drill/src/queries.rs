//! Asks the restored database what the configuration wants to know of it.

use std::time::Instant;

use jiff::Timestamp;
use shared::database_url::DatabaseUrl;
use shared::pg::{Connection, PgError};
use shared::policy::{SqlAssertion, TableExpectation};

use crate::checks::{assertion, table};
use crate::inspect::{is_about_time, open, qualified, quoted, texts};

/// Every table's answer, with how long it took.
pub fn tables(
    target: &DatabaseUrl,
    expected: &[TableExpectation],
    snapshot_at: Timestamp,
    until: Instant,
) -> Result<Vec<(table::Answer, f64)>, PgError> {
    let mut connection = open(target, until)?;
    let mut answers = Vec::new();
    for expected in expected {
        let begun = Instant::now();
        let answer = table(&mut connection, expected, snapshot_at)?;
        answers.push((answer, begun.elapsed().as_secs_f64()));
    }
    Ok(answers)
}

fn table(
    connection: &mut Connection,
    expected: &TableExpectation,
    snapshot_at: Timestamp,
) -> Result<table::Answer, PgError> {
    let name = qualified(&expected.schema, &expected.name);
    let rows = match expected.min_rows {
        Some(_) => said(connection.query_value(format!("SELECT count(*) FROM {name}")))?
            .and_then(|it| it.parse().map_err(|_| "no number".to_owned())),
        None => Ok(0),
    };
    let age_seconds = match &expected.fresh_column {
        Some(column) => {
            let column = quoted(column);
            let age = format!(
                "SELECT floor(extract(epoch FROM '{snapshot_at}'::timestamptz - max({column})::timestamptz))::bigint FROM {name}"
            );
            let age = said(connection.query_value(age))?;
            // NULL, of an empty table, is an empty text.
            Some(age.map(|it| it.parse().ok()))
        }
        None => None,
    };
    Ok(table::Answer { rows, age_seconds })
}

/// What the server refuses is an answer; a lost connection is none.
fn said(answer: Result<String, PgError>) -> Result<Result<String, String>, PgError> {
    match answer {
        Ok(value) => Ok(Ok(value)),
        Err(PgError::Server(error)) => Ok(Err(error.without_values().to_string())),
        Err(error) => Err(error),
    }
}

/// Every assertion's answer, each in a read-only transaction of its own.
pub fn assertions(
    target: &DatabaseUrl,
    expected: &[SqlAssertion],
    until: Instant,
) -> Result<Vec<(assertion::Answer, f64)>, PgError> {
    let mut connection = open(target, until)?;
    let mut answers = Vec::new();
    for expected in expected {
        let begun = Instant::now();
        let answer = if begun >= until {
            assertion::Answer::NotRun("there was no time left".to_owned())
        } else {
            ask(&mut connection, &expected.query)?
        };
        answers.push((answer, begun.elapsed().as_secs_f64()));
    }
    Ok(answers)
}

fn ask(connection: &mut Connection, query: &str) -> Result<assertion::Answer, PgError> {
    connection.query("BEGIN READ ONLY")?;
    let rows = connection.query(assertion::statement(query));
    connection.query("ROLLBACK")?;
    let rows = match rows {
        Ok(rows) => rows,
        Err(PgError::Server(error)) => {
            let did_not_run = is_about_time(&error.code) || error.code == "25006";
            let says = error.without_values().to_string();
            return Ok(if did_not_run {
                assertion::Answer::NotRun(says)
            } else {
                assertion::Answer::Error(says)
            });
        }
        Err(error) => return Err(error),
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
