//! Reaching a cluster: URLs, and stock client programs of its own major.

use std::fmt::Write as _;
use std::process::Command;

use super::program::run_with_input;
use super::{Cluster, PostgresError, SUPERUSER, bin_dir};

/// Encoding and locale of a new database, always from `template0`.
#[derive(Clone, Copy, Debug)]
pub struct DatabaseOptions<'a> {
    pub encoding: &'a str,
    pub locale: &'a str,
    pub owner: &'a str,
}

impl Default for DatabaseOptions<'_> {
    fn default() -> Self {
        Self {
            encoding: "UTF8",
            locale: "C.UTF-8",
            owner: SUPERUSER,
        }
    }
}

impl Cluster {
    /// `postgresql://…` over loopback TCP; with the password if `user` is the superuser.
    #[must_use]
    pub fn url(&self, database: &str, user: &str) -> String {
        self.url_with_password(
            database,
            user,
            self.password().filter(|_| user == SUPERUSER),
        )
    }

    #[must_use]
    pub fn url_with_password(&self, database: &str, user: &str, password: Option<&str>) -> String {
        let mut login = percent_encoded(user);
        if let Some(password) = password {
            login.push(':');
            login.push_str(&percent_encoded(password));
        }
        format!(
            "postgresql://{login}@127.0.0.1:{}/{}",
            self.port,
            percent_encoded(database)
        )
    }

    /// A client program of this major, connected by its environment to `database` as the superuser.
    ///
    /// # Errors
    ///
    /// The major is not installed.
    pub fn client(&self, program: &str, database: &str) -> Result<Command, PostgresError> {
        let mut command = Command::new(bin_dir(self.major)?.join(program));
        self.connect(&mut command, database);
        Ok(command)
    }

    /// Sets the libpq variables of `command` so that it connects to `database` as the superuser.
    pub fn connect(&self, command: &mut Command, database: &str) {
        for name in [
            "PGOPTIONS",
            "PGSERVICE",
            "PGSSLMODE",
            "PGPASSWORD",
            "PGHOSTADDR",
        ] {
            command.env_remove(name);
        }
        command
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", SUPERUSER)
            .env("PGPASSFILE", self.dir.join("pgpass"))
            .env("PGDATABASE", database);
    }

    /// Runs SQL with the stock `psql` and returns its rows, columns separated by `|`. Stops at the first error.
    ///
    /// # Errors
    ///
    /// What `psql` or the server said.
    pub fn psql(&self, database: &str, sql: &str) -> Result<String, PostgresError> {
        let mut psql = self.client("psql", database)?;
        psql.args(["-X", "-qAt", "-v", "ON_ERROR_STOP=1", "-f", "-"]);
        run_with_input(&mut psql, sql.as_bytes()).map(|rows| rows.trim_end_matches('\n').to_owned())
    }

    /// Makes a database.
    ///
    /// # Errors
    ///
    /// What the server said.
    pub fn create_database(
        &self,
        name: &str,
        options: &DatabaseOptions<'_>,
    ) -> Result<(), PostgresError> {
        let DatabaseOptions {
            encoding,
            locale,
            owner,
        } = options;
        let statement = format!(
            "CREATE DATABASE {} TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE '{locale}' LC_CTYPE '{locale}' OWNER {}",
            quoted(name),
            quoted(owner),
        );
        self.psql("postgres", &statement).map(drop)
    }
}

/// An SQL identifier in quotes.
#[must_use]
pub fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").ok();
        }
    }
    encoded
}
