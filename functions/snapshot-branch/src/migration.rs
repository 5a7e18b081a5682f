//! Runs SQL on a branch as a migration tool would, within a time, and finds out what it locked.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde::Serialize;
use shared::database_url::DatabaseUrl;
use shared::pg::{Connection, PgError, Row};

/// A compute that is just starting, and what is asked beside the migration.
const SETTLING: Duration = Duration::from_secs(60);

/// How often a server is asked to cancel.
const AGAIN: Duration = Duration::from_secs(1);
/// After the limit; what does not end by then loses its connection.
const HANG_UP_AFTER: Duration = Duration::from_secs(15);
/// After the limit, and within what is kept back for the answer.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// `query_canceled`
const CANCELLED: &str = "57014";

/// Tables and views only, and only locks that somebody would have to wait for; by their names,
/// the strongest comes first.
const LOCKS: &str = "SELECT n.nspname || '.' || c.relname, min(l.mode)
    FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_class c ON c.oid = l.relation
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE l.pid = pg_catalog.pg_backend_pid() AND l.granted AND c.relkind IN ('r', 'p', 'm', 'v', 'f')
      AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
      AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
    GROUP BY 1 ORDER BY 2, 1 LIMIT 100";
/// Only in a transaction that has begun before.
const IS_IN_TRANSACTION: &str = "SELECT pg_catalog.now() < pg_catalog.statement_timestamp()";

/// What is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Migration {
    /// One text, in one transaction.
    Text(String),
    /// Each by itself, without a transaction around.
    Statements(Vec<String>),
}

impl Migration {
    fn parts(&self) -> &[String] {
        match self {
            Self::Text(text) => std::slice::from_ref(text),
            Self::Statements(statements) => statements,
        }
    }

    /// For the record.
    pub fn whole(&self) -> String {
        self.parts().join("\n")
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ran {
    pub seconds: f64,
    /// Statements that came to their end.
    pub completed: u32,
    pub failure: Option<Failure>,
    /// Held from when they were taken until the end.
    pub locks: Vec<Lock>,
    /// What a person should know of the above.
    pub notes: Vec<String>,
}

/// Why the migration does not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Of the server; without values of rows.
    pub message: String,
    pub sqlstate: Option<String>,
    /// Which statement it was, from 1.
    pub statement: u32,
    /// In the text, or in that statement, from 1; null where the server does not say.
    pub line: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lock {
    pub table: String,
    pub mode: String,
    pub blocks: &'static str,
}

/// # Errors
///
/// Those of the connection: whether the migration would run cannot be told.
pub fn run(url: &DatabaseUrl, migration: &Migration, limit: Duration) -> Result<Ran, PgError> {
    let mut connection = Connection::open(url, SETTLING)?;
    // Should the server answer neither to the cancel nor to a closed connection.
    connection.set_timeouts(limit + SILENCE_MAX)?;
    let (cancel, hangup) = (connection.cancel(url), connection.hangup()?);
    let (ended, watched) = channel::<()>();
    let begun = Instant::now();
    let watch = std::thread::spawn(move || {
        let mut late: Option<Instant> = None;
        let mut wait = limit;
        while watched.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
            if late.get_or_insert_with(Instant::now).elapsed() > HANG_UP_AFTER {
                hangup.now();
                break;
            }
            // Between two statements it meets nobody, and a text may catch it: again, then.
            let _asked = cancel.now();
            wait = AGAIN;
        }
        late.is_some()
    });
    let mut ran = Ran::begun();
    let done = match migration {
        Migration::Text(text) => run_text(&mut connection, text, &mut ran),
        Migration::Statements(statements) => {
            run_each(&mut connection, statements, &mut ran, (begun, limit))
        }
    };
    drop(ended);
    let was_late = watch.join().unwrap_or_default();
    ran.seconds = begun.elapsed().as_secs_f64();
    let is_cancelled = |code: Option<&str>| was_late && code == Some(CANCELLED);
    match done {
        Ok(()) if is_cancelled(ran.failure.as_ref().and_then(|it| it.sqlstate.as_deref())) => {
            ran.failure = Some(not_done(limit, ran.completed));
        }
        Err(PgError::Lost(_) | PgError::Stalled(_)) if was_late => {
            ran.failure = Some(not_done(limit, ran.completed));
        }
        Err(error) if is_cancelled(error.sqlstate()) => {
            ran.failure = Some(not_done(limit, ran.completed));
        }
        done => done?,
    }
    Ok(ran)
}

fn not_done(limit: Duration, completed: u32) -> Failure {
    Failure {
        message: format!("not done within {} s: it was cancelled", limit.as_secs()),
        sqlstate: Some(CANCELLED.to_owned()),
        statement: completed + 1,
        line: None,
    }
}

fn run_text(connection: &mut Connection, text: &str, ran: &mut Ran) -> Result<(), PgError> {
    connection.query("BEGIN")?;
    let done = connection.execute(text, &mut ran.completed);
    ran.failure = failure_of(done, text, ran.completed)?;
    if ran.failure.is_none() {
        let is_in_transaction = connection.query_value(IS_IN_TRANSACTION)?;
        ran.locks = connection.query(LOCKS)?.into_iter().map(lock).collect();
        if is_in_transaction != "t" {
            ran.notes.push(
                "the text ends the transaction itself: what it locked before is not known"
                    .to_owned(),
            );
        }
        // Constraints may wait until now.
        let done = connection.execute("COMMIT", &mut 0);
        ran.failure = failure_of(done, "", ran.completed)?;
    }
    Ok(())
}

fn run_each(
    connection: &mut Connection,
    statements: &[String],
    ran: &mut Ran,
    (begun, limit): (Instant, Duration),
) -> Result<(), PgError> {
    let mut slowest = (0.0, 0);
    for statement in statements {
        let since = Instant::now();
        if since.duration_since(begun) >= limit {
            ran.failure = Some(not_done(limit, ran.completed));
            break;
        }
        let done = connection.execute(statement, &mut 0);
        ran.failure = failure_of(done, statement, ran.completed)?;
        let seconds = since.elapsed().as_secs_f64();
        if ran.failure.is_some() {
            break;
        }
        ran.completed += 1;
        if seconds >= slowest.0 {
            slowest = (seconds, ran.completed);
        }
    }
    if ran.failure.is_none() && connection.query_value(IS_IN_TRANSACTION)? == "t" {
        ran.failure = Some(Failure {
            message: "a transaction is left open, of which nothing stays: add COMMIT".to_owned(),
            sqlstate: None,
            statement: ran.completed,
            line: None,
        });
    }
    let (seconds, which) = slowest;
    if which > 0 {
        ran.notes.push(format!(
            "each statement ran by itself, so locks were not looked at; the slowest is number {which} with {seconds:.1} s"
        ));
    }
    Ok(())
}

impl Ran {
    fn begun() -> Self {
        Self {
            seconds: 0.0,
            completed: 0,
            failure: None,
            locks: Vec::new(),
            notes: Vec::new(),
        }
    }
}

/// What the server refuses is a result; a connection that was lost is none.
fn failure_of(
    done: Result<(), PgError>,
    text: &str,
    completed: u32,
) -> Result<Option<Failure>, PgError> {
    let statement = completed + 1;
    match done {
        Ok(()) => Ok(None),
        // The branch's server goes away, and not the migration.
        Err(error) if matches!(error.sqlstate(), Some(code) if code.starts_with("57P")) => {
            Err(error)
        }
        Err(PgError::Server(error)) => {
            let error = error.without_values();
            Ok(Some(Failure {
                line: error.position.map(|it| line_of(text, it)),
                message: error.message,
                sqlstate: Some(error.code),
                statement,
            }))
        }
        Err(PgError::Protocol("unexpected copy")) => Ok(Some(Failure {
            message: "a COPY from or to the client cannot be rehearsed: leave it out".to_owned(),
            sqlstate: None,
            statement,
            line: None,
        })),
        Err(error) => Err(error),
    }
}

/// Of the character at `position`, which counts from 1.
fn line_of(text: &str, position: usize) -> usize {
    let before = text.chars().take(position.saturating_sub(1));
    before.filter(|it| *it == '\n').count() + 1
}

fn lock(row: Row) -> Lock {
    let mut texts = row
        .into_iter()
        .map(|it| String::from_utf8_lossy(&it.unwrap_or_default()).into_owned());
    let (table, mode) = (
        texts.next().unwrap_or_default(),
        texts.next().unwrap_or_default(),
    );
    Lock {
        blocks: match mode.as_str() {
            "AccessExclusiveLock" => "reads and writes",
            _ => "writes",
        },
        table,
        mode,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::pg::ServerError;

    fn refused(code: &str, message: &str, position: Option<usize>) -> Result<(), PgError> {
        Err(PgError::Server(ServerError {
            code: code.to_owned(),
            message: message.to_owned(),
            is_raised: false,
            position,
        }))
    }

    #[test]
    fn a_failure_names_its_statement_and_its_line() {
        let text = "CREATE TABLE ä (i int);\n\nALTER TABLE users\n  ADD colum x int;\n";
        let at = text.chars().position(|it| it == 'x').unwrap() + 1;
        let failed = refused("42601", "syntax error at or near \"x\"", Some(at));
        let failure = failure_of(failed, text, 1).unwrap().unwrap();
        assert_eq!((failure.statement, failure.line), (2, Some(4)));
        let failed = refused("23502", "column \"x\" contains null values", None);
        let failure = failure_of(failed, text, 0).unwrap().unwrap();
        assert_eq!((failure.statement, failure.line), (1, None));
    }

    #[test]
    fn no_value_of_a_row_is_told_and_a_server_that_goes_away_says_nothing_of_the_migration() {
        let failed = refused(
            "22P02",
            "invalid input syntax for type integer: \"secret\"",
            None,
        );
        let failure = failure_of(failed, "", 0).unwrap().unwrap();
        assert_eq!(failure.message, "invalid input syntax for type integer");
        let gone = refused("57P01", "terminating connection", None);
        assert!(failure_of(gone, "", 0).is_err());
    }
}
