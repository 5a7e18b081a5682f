//! The database that is backed up: a given one, or a private server with a sample.

use std::path::Path;

use localcloud::Database;
use localcloud::postgres::{Cluster, Major, SUPERUSER};
use localcloud::sample;

use crate::Failure;

/// Long enough to tell databases apart; keys, and the files that hold them, stay short.
const NAME_CHARS_MAX: usize = 24;

/// What is backed up, and the server that runs as long as this lives.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) database: Database,
    _cluster: Option<Cluster>,
}

impl Source {
    /// A database whose server runs elsewhere.
    pub(crate) fn of(database: Database) -> Self {
        Self {
            database,
            _cluster: None,
        }
    }

    /// A database that nobody prepared for this.
    pub(crate) fn given(url: &str) -> Result<Self, Failure> {
        let name = database_name(url).ok_or(Failure::NotAUrl)?;
        Ok(Self::of(database(name, url.to_owned())))
    }

    /// The private server in the home, with the sample database; made when it is not there yet.
    pub(crate) fn sample(home: &Path, say: &dyn Fn(&str)) -> Result<Self, Failure> {
        let cluster = Cluster::start(Major::debian()?, &home.join("postgres"))?;
        let exists = format!(
            "SELECT 1 FROM pg_database WHERE datname = '{}'",
            sample::DATABASE
        );
        if cluster.psql(SUPERUSER, &exists)?.trim().is_empty() {
            say("creating a sample database (80 tables, about 230 MB)");
            // Under another name until it is whole: a run that was broken off leaves no half sample.
            let unfinished = format!("{}_unfinished", sample::DATABASE);
            cluster.psql(SUPERUSER, &format!("DROP DATABASE IF EXISTS {unfinished}"))?;
            sample::create(&cluster, &unfinished)?;
            cluster.psql(
                SUPERUSER,
                &format!("ALTER DATABASE {unfinished} RENAME TO {}", sample::DATABASE),
            )?;
        }
        let url = cluster.url(sample::DATABASE, SUPERUSER);
        Ok(Self {
            database: database(sample::DATABASE.to_owned(), url),
            _cluster: Some(cluster),
        })
    }
}

fn database(name: String, url: String) -> Database {
    Database {
        name,
        provider: "postgres".into(),
        url,
        extra: String::new(),
    }
}

/// A name for the configuration from the URL's database: `[a-z0-9-]`.
fn database_name(url: &str) -> Option<String> {
    let rest = url
        .strip_prefix("postgresql://")
        .or_else(|| url.strip_prefix("postgres://"))?;
    let path = rest.split(['?', '#']).next()?;
    let name = path.split_once('/').map_or("", |(_, name)| name);
    let name = percent_encoding::percent_decode_str(name).decode_utf8_lossy();
    let name: String = name
        .chars()
        .map(|char| {
            if char.is_ascii_alphanumeric() {
                char.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .take(NAME_CHARS_MAX)
        .collect();
    let name = name.trim_matches('-');
    Some(if name.is_empty() {
        "database".to_owned()
    } else {
        name.to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_named_after_its_url_and_never_after_its_password() {
        for (url, expected) in [
            (
                "postgresql://u:p@h:5432/My_Shop?sslmode=require",
                Some("my-shop"),
            ),
            ("postgres://h/app", Some("app")),
            ("postgresql://h/My%20Shop", Some("my-shop")),
            ("postgresql://u:secret@h", Some("database")),
            ("postgresql://h/___", Some("database")),
            ("mysql://h/app", None),
        ] {
            assert_eq!(database_name(url).as_deref(), expected, "{url}");
        }
    }

    #[test]
    fn a_source_never_prints_its_url() {
        let source = Source::given("postgresql://u:hidden@h/app").unwrap();
        assert!(!format!("{source:?}").contains("hidden"));
    }
}
