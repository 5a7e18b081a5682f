//! What can go wrong with a connection, by what the operator does about it.

use std::io;
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub enum PgError {
    #[error("the host {host} is unknown: check the host name in the database's secret")]
    UnknownHost {
        host: String,
        #[source]
        source: io::Error,
    },
    #[error(
        "{host}:{port} cannot be reached: check that the server runs and that this network may connect"
    )]
    Unreachable {
        host: String,
        port: u16,
        #[source]
        source: io::Error,
    },
    #[error(
        "{host} does not offer TLS: Lifeboat sends nothing unencrypted to another machine; turn on ssl on the server"
    )]
    NoTls { host: String },
    #[error(
        "the TLS certificate of {host} cannot be verified: use the host name it was issued for, or add its CA to the system's (SSL_CERT_FILE)"
    )]
    UntrustedTls {
        host: String,
        #[source]
        source: io::Error,
    },
    #[error("{host} refuses user {user}: check user and password in the database's secret")]
    Authentication {
        host: String,
        user: String,
        #[source]
        source: Box<ServerError>,
    },
    #[error("{host} asks for an authentication method that is not supported: use scram-sha-256")]
    AuthenticationMethod { host: String },
    #[error("the server said")]
    Server(#[source] ServerError),
    #[error("no byte came for {} s: the connection has stalled", .0.as_secs())]
    Stalled(Duration),
    #[error("the connection was lost")]
    Lost(#[source] io::Error),
    #[error("the server does not keep to the protocol: {0}")]
    Protocol(&'static str),
    #[error("{0}")]
    Pooled(String),
}

/// An error as the server reports it. Details are not kept: they quote rows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} (SQLSTATE {code})")]
pub struct ServerError {
    pub code: String,
    pub message: String,
    /// By a function of the database, which may say anything under any code.
    pub is_raised: bool,
    /// Of the character in the text that was sent, counted from 1.
    pub position: Option<usize>,
}

const RAISED: &str = "a function of the database raised an exception";
/// The server's source files that pass on what a function raises.
const RAISING_FILES: [&str; 4] = ["pl_exec.c", "plperl.c", "plpy_elog.c", "pltcl.c"];

/// Of the context of a failed copy, this much is no row content: `COPY t, line 3, column a`.
fn place(context: &str) -> Option<&str> {
    let line = context.lines().find(|line| line.starts_with("COPY "))?;
    // What follows the colon is the value, or the whole row.
    let (place, _) = line.split_once(": ").unwrap_or((line, ""));
    Some(place)
}

impl ServerError {
    /// Fields are a type byte and a zero-terminated string each.
    pub(super) fn parse(body: &[u8]) -> Self {
        let field = |wanted: u8| {
            body.split(|byte| *byte == 0)
                .find(|field| field.first() == Some(&wanted))
                .map(|field| String::from_utf8_lossy(&field[1..]).into_owned())
        };
        let file = field(b'F').unwrap_or_default();
        Self {
            code: field(b'C').unwrap_or_else(|| "XX000".to_owned()),
            message: field(b'M').unwrap_or_else(|| "no message".to_owned()),
            is_raised: RAISING_FILES.contains(&file.as_str()),
            position: field(b'P').and_then(|it| it.parse().ok()),
        }
    }

    /// Of a copy into a table: with table, line and column, and without any value.
    pub(super) fn parse_of_copy(body: &[u8]) -> Self {
        let error = Self::parse(body).without_values();
        let context = body
            .split(|byte| *byte == 0)
            .find(|field| field.first() == Some(&b'W'))
            .map(|field| String::from_utf8_lossy(&field[1..]).into_owned());
        match context.as_deref().and_then(place) {
            Some(place) => Self {
                message: format!("{}, at {place}", error.message),
                ..error
            },
            None => error,
        }
    }

    /// Without what the server or a function of the database may quote from rows.
    #[must_use]
    pub fn without_values(self) -> Self {
        let message = match self.code.get(..2) {
            _ if self.is_raised => RAISED.to_owned(),
            Some("P0") => RAISED.to_owned(),
            // Data exceptions end in the value: `invalid input syntax for type json: …`. Other
            // languages have other quotation marks.
            Some("22") => {
                let end = self.message.find([':', '"', '«', '»', '„', '“', '‹', '\'']);
                let end = end.unwrap_or(self.message.len());
                self.message[..end].trim_end().to_owned()
            }
            _ => self.message,
        };
        Self { message, ..self }
    }
}

impl PgError {
    pub(super) fn from_io(error: io::Error, stall: Duration) -> Self {
        let is_timeout = matches!(
            error.kind(),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
        );
        if is_timeout {
            Self::Stalled(stall)
        } else {
            Self::Lost(error)
        }
    }

    /// The SQLSTATE, where the server gave one.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Server(error) => Some(&error.code),
            Self::Authentication { source, .. } => Some(&source.code),
            Self::UnknownHost { .. }
            | Self::Unreachable { .. }
            | Self::NoTls { .. }
            | Self::UntrustedTls { .. }
            | Self::AuthenticationMethod { .. }
            | Self::Stalled(_)
            | Self::Lost(_)
            | Self::Protocol(_)
            | Self::Pooled(_) => None,
        }
    }

    /// Without what the server or a function of the database may quote from rows.
    #[must_use]
    pub fn without_values(self) -> Self {
        if let Self::Server(error) = self {
            return Self::Server(error.without_values());
        }
        self
    }

    /// Whether the same may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Stalled(_) | Self::Lost(_) => true,
            // The resolver's own words (EAI_AGAIN); the standard library gives no code.
            Self::UnknownHost { source, .. } => source.to_string().contains("Temporary failure"),
            // Connection exceptions, too many connections, shutdown, lost snapshots, lock
            // conflicts. A full disk or lock table stays full.
            Self::Server(error) => ["08", "53300", "57", "40", "55P03"]
                .iter()
                .any(|class| error.code.starts_with(class)),
            Self::NoTls { .. }
            | Self::UntrustedTls { .. }
            | Self::Authentication { .. }
            | Self::AuthenticationMethod { .. }
            | Self::Protocol(_)
            | Self::Pooled(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(code: &str, message: &str, context: &str) -> Vec<u8> {
        format!("SERROR\0C{code}\0M{message}\0DKey (id)=(secret)\0W{context}\0\0").into_bytes()
    }

    #[test]
    fn a_failed_copy_names_the_place_and_no_value() {
        for (code, message, context, expected) in [
            (
                "22P02",
                "invalid input syntax for type integer: \"secret\"",
                "COPY users, line 3, column age: \"secret\"",
                "invalid input syntax for type integer, at COPY users, line 3, column age (SQLSTATE 22P02)",
            ),
            (
                "23505",
                "duplicate key value violates unique constraint \"users_pkey\"",
                "COPY users, line 2",
                "duplicate key value violates unique constraint \"users_pkey\", at COPY users, line 2 (SQLSTATE 23505)",
            ),
            (
                "22P04",
                "extra data after last expected column",
                "COPY users, line 1: \"secret: more\"",
                "extra data after last expected column, at COPY users, line 1 (SQLSTATE 22P04)",
            ),
            (
                "P0001",
                "no secret allowed",
                "PL/pgSQL function check_secret() line 1 at RAISE\nCOPY users, line 9: \"secret\"",
                "a function of the database raised an exception, at COPY users, line 9 (SQLSTATE P0001)",
            ),
        ] {
            let error = ServerError::parse_of_copy(&fields(code, message, context));
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn what_a_function_raises_is_not_repeated_under_whatever_code() {
        let mut body = fields("23505", "row secret is taken", "");
        body.splice(0..0, b"Fpl_exec.c\0".iter().copied());
        let error = ServerError::parse_of_copy(&body);
        assert!(!error.to_string().contains("secret"), "{error}");
        let german = "ungültige Eingabesyntax für Typ integer: »secret«";
        let error = ServerError::parse_of_copy(&fields("22P02", german, ""));
        assert!(!error.to_string().contains("secret"), "{error}");
        let french = "la valeur « secret » est hors limites";
        let error = ServerError::parse_of_copy(&fields("22003", french, ""));
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn a_resolver_that_does_not_answer_is_not_an_unknown_host() {
        let unknown = |words: &str| PgError::UnknownHost {
            host: "db.example".to_owned(),
            source: io::Error::other(format!("failed to lookup address information: {words}")),
        };
        assert!(unknown("Temporary failure in name resolution").is_transient());
        assert!(!unknown("Name or service not known").is_transient());
    }
}
