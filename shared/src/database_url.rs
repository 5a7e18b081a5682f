//! The connection URL of a database secret.

use std::fmt;

use url::{Host, Url};

/// Where and as whom to connect. Printing it never shows the password.
#[derive(Clone)]
pub struct DatabaseUrl {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: String,
    pub database: String,
    pub tls: Tls,
}

/// There are two states only: verified in full, or not needed because nothing leaves the
/// machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// `sslmode=verify-full`: chain and host name are checked.
    VerifyFull,
    /// Loopback address or Unix socket without `sslmode`, or with `sslmode=disable`.
    Local,
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}@{}:{}/{}",
            self.user, self.host, self.port, self.database
        )
    }
}

/// What is wrong with the URL, and what to write. Never shows any of it but option names and
/// the host.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("is empty: store a URL such as postgresql://user:password@host:5432/database")]
    Empty,
    #[error(
        "is not a connection URL: write postgresql://user:password@host:5432/database?sslmode=verify-full, special characters in the password percent-encoded"
    )]
    Malformed,
    #[error("has no {0}: write postgresql://user:password@host:5432/database")]
    Missing(&'static str),
    #[error("has the option {0:?}, which Lifeboat does not take: remove it")]
    UnknownOption(String),
    #[error(
        "asks for sslmode={mode} to {host}: TLS is verified in full to anything but this machine; write sslmode=verify-full"
    )]
    WeakTls { mode: String, host: String },
    #[error(
        "names the pooled endpoint {host}:{port}: a transaction pooler breaks dumps and the application's sessions; use the direct host{hint}"
    )]
    Pooled {
        host: String,
        port: u16,
        hint: String,
    },
    #[error("contains a character that is not allowed in {0}")]
    ForbiddenCharacter(&'static str),
}

/// Accepted and without effect here: Lifeboat always verifies and always binds where it can.
const IGNORED: [&str; 4] = [
    "channel_binding",
    "application_name",
    "connect_timeout",
    "gssencmode",
];

impl DatabaseUrl {
    /// `sslmode=require` and `verify-ca` are raised to `verify-full`, as is its absence: a
    /// server that cannot be verified is refused when connecting.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(UrlError::Empty);
        }
        let url = Url::parse(text).map_err(|_| UrlError::Malformed)?;
        if !matches!(url.scheme(), "postgresql" | "postgres") {
            return Err(UrlError::Malformed);
        }
        let mut mode = None;
        let mut socket = None;
        for (option, value) in url.query_pairs() {
            match option.as_ref() {
                "sslmode" => mode = Some(value.into_owned()),
                // As libpq: a directory means a Unix socket.
                "host" if value.starts_with('/') => socket = Some(value.into_owned()),
                option if IGNORED.contains(&option) => {}
                option => return Err(UrlError::UnknownOption(option.to_owned())),
            }
        }
        let host = match socket {
            Some(directory) => directory,
            None => host_of(&url)?,
        };
        let port = url.port().unwrap_or(5432);
        refuse_pooled(&host, port)?;
        let parsed = Self {
            tls: tls(mode.as_deref(), &host)?,
            user: decode(url.username(), "user")?,
            password: decode(url.password().unwrap_or_default(), "password")?,
            database: decode(url.path().trim_start_matches('/'), "database")?,
            host,
            port,
        };
        for (part, what) in [(&parsed.user, "user"), (&parsed.database, "database")] {
            if part.is_empty() {
                return Err(UrlError::Missing(what));
            }
        }
        Ok(parsed)
    }

    /// Another database of the same server, as the same user.
    pub fn with_database(&self, database: &str) -> Self {
        Self {
            database: database.to_owned(),
            ..self.clone()
        }
    }

    /// Whether `host` is a directory that holds the server's socket.
    pub fn is_socket(&self) -> bool {
        self.host.starts_with('/')
    }
}

fn host_of(url: &Url) -> Result<String, UrlError> {
    // For schemes that are not the web's, the host comes as written, percent-encoded.
    let host = match url.host().ok_or(UrlError::Missing("host"))? {
        Host::Domain(domain) => decode(domain, "host")?,
        Host::Ipv4(address) => address.to_string(),
        Host::Ipv6(address) => address.to_string(),
    };
    if host.is_empty() {
        return Err(UrlError::Missing("host"));
    }
    Ok(host)
}

fn tls(mode: Option<&str>, host: &str) -> Result<Tls, UrlError> {
    let is_local = host.starts_with('/')
        || host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|it| it.is_loopback());
    match mode {
        Some("verify-full" | "verify-ca" | "require") => Ok(Tls::VerifyFull),
        None if !is_local => Ok(Tls::VerifyFull),
        None | Some("disable" | "allow" | "prefer") if is_local => Ok(Tls::Local),
        mode => Err(UrlError::WeakTls {
            mode: mode.unwrap_or_default().to_owned(),
            host: host.to_owned(),
        }),
    }
}

/// What can be told from the name alone; a test inside the connection follows.
fn refuse_pooled(host: &str, port: u16) -> Result<(), UrlError> {
    let first = host.split('.').next().unwrap_or_default();
    let hint = match first.strip_suffix("-pooler") {
        Some(direct) => format!(", {direct}{}", &host[first.len()..]),
        None if port == 6543 => " or the session pooler, port 5432".to_owned(),
        None => return Ok(()),
    };
    Err(UrlError::Pooled {
        host: host.to_owned(),
        port,
        hint,
    })
}

fn decode(part: &str, what: &'static str) -> Result<String, UrlError> {
    let bytes = percent_decode(part.as_bytes());
    let text = String::from_utf8(bytes).map_err(|_| UrlError::ForbiddenCharacter(what))?;
    // A newline would break the password file's line, a zero the protocol's strings.
    if text.chars().any(|c| c == '\0' || c == '\n' || c == '\r') {
        return Err(UrlError::ForbiddenCharacter(what));
    }
    Ok(text)
}

fn percent_decode(bytes: &[u8]) -> Vec<u8> {
    percent_encoding::percent_decode(bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, expected: Result<(&str, u16, &str, &str, &str, Tls), &str>) {
        let parsed = DatabaseUrl::parse(url);
        match (&parsed, expected) {
            (Ok(it), Ok(expected)) => assert_eq!(
                (
                    &*it.host,
                    it.port,
                    &*it.user,
                    &*it.password,
                    &*it.database,
                    it.tls
                ),
                expected,
                "{url}"
            ),
            (Err(error), Err(expected)) => {
                assert!(error.to_string().contains(expected), "{url}\n{error}");
            }
            _ => panic!("{url}: {parsed:?}"),
        }
    }

    #[test]
    fn urls_come_apart() {
        use Tls::{Local, VerifyFull};
        check(
            "postgresql://u:p%40ss%2F%3A@ep-a.neon.tech/db?sslmode=require&channel_binding=require\r\n",
            Ok(("ep-a.neon.tech", 5432, "u", "p@ss/:", "db", VerifyFull)),
        );
        check(
            "postgres://u@127.0.0.1:5433/db",
            Ok(("127.0.0.1", 5433, "u", "", "db", Local)),
        );
        check(
            "postgres://u:p@[::1]/db?sslmode=disable",
            Ok(("::1", 5432, "u", "p", "db", Local)),
        );
        check(
            "postgres://u:p@example.com/db",
            Ok(("example.com", 5432, "u", "p", "db", VerifyFull)),
        );
        check(
            "postgres://u:p@localhost:5433/db?host=/tmp/pg",
            Ok(("/tmp/pg", 5433, "u", "p", "db", Local)),
        );
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_the_remedy() {
        check(" \n", Err("is empty"));
        check("hunter2", Err("is not a connection URL"));
        check("mysql://u:p@h/db", Err("is not a connection URL"));
        check("postgres://u:p@h/", Err("has no database"));
        check("postgres://h/db", Err("has no user"));
        check(
            "postgres://u:p@h/db?options=-csearch_path%3Dx",
            Err("\"options\""),
        );
        check("postgres://u:p@h/db?service=x", Err("\"service\""));
        check(
            "postgres://u:p@h/db?sslmode=prefer",
            Err("write sslmode=verify-full"),
        );
        check(
            "postgres://u:p@10.0.0.1/db?sslmode=disable",
            Err("write sslmode=verify-full"),
        );
        check("postgres://u:p%0A@h/db", Err("not allowed in password"));
    }

    #[test]
    fn pooled_endpoints_are_refused_with_the_direct_host() {
        check(
            "postgres://u:p@ep-a-pooler.eu.neon.tech/db",
            Err("use the direct host, ep-a.eu.neon.tech"),
        );
        check(
            "postgres://u:p@x.pooler.supabase.com:6543/db",
            Err("session pooler, port 5432"),
        );
    }

    #[test]
    fn nothing_printed_shows_the_password() {
        let url = DatabaseUrl::parse("postgres://u:hunter2@h/db").unwrap();
        assert_eq!(format!("{url} {url:?}"), "u@h:5432/db u@h:5432/db");
        let error = DatabaseUrl::parse("postgres://u:hunter2@h/db?password=hunter2").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}
