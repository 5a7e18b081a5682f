//! Asks a database one question after the other, each within its share of the time.

use std::time::{Duration, Instant};

use crate::archive::quote_ident;
use crate::database_url::DatabaseUrl;
use crate::pg::{Connection, PgError, Row, ServerError};

/// The server's own word of a time that is up comes before ours.
const GRACE: Duration = Duration::from_secs(2);
/// A session's settings take no longer.
const SETTLING: Duration = Duration::from_secs(30);
/// With less, nothing is begun any more.
const LEAST: Duration = Duration::from_millis(100);
/// What is said of a question for which there was none.
pub const NO_TIME: &str =
    "there was no time left to ask; give the function more, or the drill a faster server";

const SETTINGS: &str = "SET default_transaction_read_only = on; SET client_encoding = 'UTF8'; \
     SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres'; \
     SET bytea_output = 'hex'; SET row_security = off";

/// How long one question may take: half of what is left, so that a slow one leaves time for
/// those after it. `None`: there is no time left.
pub fn share(left: Duration) -> Option<Duration> {
    let share = left / 2;
    (share >= LEAST).then_some(share)
}

/// How long a connection may be silent while a question has `share`.
fn stall(share: Duration) -> Duration {
    share + GRACE
}

/// Why a question has no answer.
#[derive(Debug)]
pub enum Unanswered {
    /// It took too long, or the server is short of something. It says nothing of the others.
    Here(String),
    /// The server refuses the question itself.
    Refused(ServerError),
    /// The server is not there, or not for us.
    Lost(PgError),
}

impl Unanswered {
    /// In words, where only this question is concerned.
    pub fn here(self) -> Result<String, PgError> {
        match self {
            Self::Here(why_not) => Ok(why_not),
            Self::Refused(error) => Ok(error.without_values().to_string()),
            Self::Lost(error) => Err(error),
        }
    }
}

/// A session that reads only, and is opened anew when a question has cost it.
#[derive(Debug)]
pub struct Session {
    target: DatabaseUrl,
    until: Instant,
    search_path: Option<&'static str>,
    connection: Option<Connection>,
}

impl Session {
    /// `search_path`: as SQL has it; `None` leaves the database's own.
    pub fn new(target: &DatabaseUrl, until: Instant, search_path: Option<&'static str>) -> Self {
        Self {
            target: target.clone(),
            until,
            search_path,
            connection: None,
        }
    }

    /// Runs one or more statements and returns all their rows.
    pub fn ask(&mut self, sql: impl AsRef<[u8]>) -> Result<Vec<Row>, Unanswered> {
        let left = self.until.saturating_duration_since(Instant::now());
        let Some(share) = share(left) else {
            return Err(Unanswered::Here(NO_TIME.to_owned()));
        };
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.open().map_err(Unanswered::Lost)?,
        };
        let answer = connection
            .set_timeouts(stall(share))
            .and_then(|()| {
                let milliseconds = share.as_millis();
                connection.query(format!("SET statement_timeout = {milliseconds}"))
            })
            .and_then(|_| connection.query(sql));
        if matches!(answer, Ok(_) | Err(PgError::Server(_))) {
            self.connection = Some(connection);
        }
        answer.map_err(|error| unanswered(error, share))
    }

    fn open(&self) -> Result<Connection, PgError> {
        let mut connection = Connection::open(&self.target, SETTLING)?;
        connection.query(SETTINGS)?;
        if let Some(search_path) = self.search_path {
            connection.query(format!("SET search_path = {search_path}"))?;
        }
        Ok(connection)
    }

    /// The only value of the only row, as text. NULL is empty.
    pub fn ask_value(&mut self, sql: impl AsRef<[u8]>) -> Result<String, Unanswered> {
        let rows = self.ask(sql)?;
        let value = rows.into_iter().next().and_then(|it| it.into_iter().next());
        let value = value.flatten().unwrap_or_default();
        Ok(String::from_utf8_lossy(&value).into_owned())
    }

    /// Ends a transaction that a question has left open.
    pub fn roll_back(&mut self) {
        if let Some(mut connection) = self.connection.take()
            && connection.query("ROLLBACK").is_ok()
        {
            self.connection = Some(connection);
        }
    }
}

/// Exactly `N` texts; NULL and what is not there are empty.
pub fn texts<const N: usize>(row: Row) -> [String; N] {
    let mut values = row.into_iter();
    std::array::from_fn(|_| {
        let value = values.next().flatten().unwrap_or_default();
        String::from_utf8_lossy(&value).into_owned()
    })
}

pub fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", quoted(schema), quoted(name))
}

pub fn quoted(name: &str) -> String {
    String::from_utf8_lossy(&quote_ident(name.as_bytes())).into_owned()
}

fn unanswered(error: PgError, share: Duration) -> Unanswered {
    let too_long = || {
        let seconds = share.as_secs_f64();
        Unanswered::Here(format!(
            "no answer within {seconds:.0} s, which is half of the time that was left"
        ))
    };
    match error {
        PgError::Stalled(_) => too_long(),
        PgError::Server(error) => match error.code.get(..2) {
            _ if error.code == "57014" => too_long(),
            Some("53") => Unanswered::Here(error.without_values().to_string()),
            Some("08" | "57") => Unanswered::Lost(PgError::Server(error)),
            _ => Unanswered::Refused(error),
        },
        error @ (PgError::UnknownHost { .. }
        | PgError::Unreachable { .. }
        | PgError::NoTls { .. }
        | PgError::UntrustedTls { .. }
        | PgError::Authentication { .. }
        | PgError::AuthenticationMethod { .. }
        | PgError::Lost(_)
        | PgError::Protocol(_)
        | PgError::Pooled(_)) => Unanswered::Lost(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_has_half_of_what_is_left_and_the_connection_waits_longer_than_the_server() {
        for (left, expected) in [(800, Some(400)), (60, Some(30)), (0, None)] {
            let share = share(Duration::from_secs(left));
            assert_eq!(share, expected.map(Duration::from_secs));
            assert!(share.is_none_or(|it| stall(it) > it));
        }
        assert_eq!(share(Duration::from_millis(150)), None);
    }

    #[test]
    fn what_took_too_long_is_about_that_question_only() {
        let of = |code: &str| {
            let error = ServerError {
                position: None,
                code: code.to_owned(),
                message: "x".to_owned(),
                is_raised: false,
            };
            unanswered(PgError::Server(error), Duration::from_secs(30))
        };
        let stalled = PgError::Stalled(Duration::from_secs(32));
        for unanswered in [of("57014"), unanswered(stalled, Duration::from_secs(30))] {
            let says = unanswered.here().unwrap();
            assert!(says.contains("within 30 s"), "{says}");
        }
        assert!(matches!(of("53200"), Unanswered::Here(_)));
        assert!(matches!(of("42P01"), Unanswered::Refused(_)));
        assert!(matches!(of("57P01"), Unanswered::Lost(_)));
    }
}
