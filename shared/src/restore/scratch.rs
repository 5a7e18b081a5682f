//! Databases made for a restore, and dropped after a drill.

use std::time::Duration;

use super::RestoreError;
use super::advance::blocking;
use super::ask::{Fields, literal, query, value};
use super::connect::connect;
use crate::database_url::DatabaseUrl;
use crate::manifest::DatabaseSettings;
use crate::pg::{Connection, PgError};

/// What the comment of every scratch database begins with. Nothing without it is dropped.
pub const MARK: &str = "lifeboat scratch ";

/// The comment of a database that this plan has made, until the engine has its ledger there.
pub fn made_by(plan_id: &str) -> String {
    format!("Lifeboat: being restored by the plan {plan_id}, do not use")
}

/// Copying the template and waiting for a checkpoint take their time.
const STALL: Duration = Duration::from_secs(600);
/// `datlocprovider` and ICU for a whole database exist from this version on.
const LOCALE_PROVIDERS: u32 = 150_000;
const BUILTIN_PROVIDER: u32 = 170_000;

/// A database whose comment begins with [`MARK`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    pub database: String,
    /// What follows [`MARK`]: `<RFC 3339 time of creation> <drill id>`.
    pub mark: String,
}

/// Creates `name` from `template0` with the encoding and locale of the backup, on the server
/// of `server` (any database of it). `comment`: for a scratch database [`MARK`] and what
/// identifies it, which the engine leaves alone; else [`made_by`]; empty for none.
///
/// A database that exists with exactly this comment is taken as made before.
pub async fn create_database(
    server: &DatabaseUrl,
    name: &str,
    settings: &DatabaseSettings,
    comment: &str,
) -> Result<(), RestoreError> {
    let (server, name) = (server.clone(), name.to_owned());
    let (settings, comment) = (settings.clone(), comment.to_owned());
    blocking(move || create(&server, &name, &settings, &comment)).await
}

fn create(
    server: &DatabaseUrl,
    name: &str,
    settings: &DatabaseSettings,
    comment: &str,
) -> Result<(), RestoreError> {
    let mut connection = open(server)?;
    let version = value(&mut connection, "its version", "SHOW server_version_num")?;
    let sql = statement(name, settings, version.parse().unwrap_or_default());
    match connection.query(sql) {
        Ok(_) => {}
        Err(PgError::Server(error)) if error.code == "42P04" => {
            let found = comment_of(&mut connection, name)?;
            if found.is_some_and(|it| !it.is_empty() && it == comment) {
                return Ok(());
            }
            return Err(RestoreError::Refused(format!(
                "there is a database {name} already: name another, or drop it yourself"
            )));
        }
        Err(source) => {
            return Err(RestoreError::Query {
                doing: "to create the database with the backup's encoding and locale",
                source,
            });
        }
    }
    if comment.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "COMMENT ON DATABASE {} IS {}",
        quoted(name),
        literal(comment)
    );
    // A scratch database without its mark would never be dropped.
    let commented = query(&mut connection, "to mark the database", &sql);
    if commented.is_err() {
        let _best_effort = connection.query(format!("DROP DATABASE {}", quoted(name)));
    }
    commented.map(drop)
}

fn statement(name: &str, settings: &DatabaseSettings, version: u32) -> String {
    let mut sql = format!(
        "CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}",
        quoted(name),
        literal(&settings.encoding),
        literal(&settings.collate),
        literal(&settings.ctype)
    );
    let provider = settings.locale_provider.as_str();
    if version >= LOCALE_PROVIDERS {
        sql.push_str(&format!(" LOCALE_PROVIDER {provider}"));
    }
    if let Some(locale) = &settings.icu_locale {
        let option = if provider == "builtin" && version >= BUILTIN_PROVIDER {
            "BUILTIN_LOCALE"
        } else {
            "ICU_LOCALE"
        };
        sql.push_str(&format!(" {option} {}", literal(locale)));
    }
    sql
}

fn comment_of(connection: &mut Connection, name: &str) -> Result<Option<String>, RestoreError> {
    let sql = format!(
        "SELECT coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database WHERE datname = {}",
        literal(name)
    );
    let rows = query(connection, "for the database's comment", &sql)?;
    let row = rows.into_iter().next();
    Ok(row.map(|row| Fields::of(Some(row)).text()))
}

/// Drops `name`, if it exists and its comment begins with [`MARK`]: first its subscriptions
/// are disabled and cut from their slots, so that no publisher loses one.
pub async fn drop_database(server: &DatabaseUrl, name: &str) -> Result<(), RestoreError> {
    let (server, name) = (server.clone(), name.to_owned());
    blocking(move || {
        let mut connection = open(&server)?;
        match comment_of(&mut connection, &name)? {
            None => return Ok(()),
            Some(comment) if comment.starts_with(MARK) => {}
            Some(_) => {
                return Err(RestoreError::Refused(format!(
                    "the database {name} does not carry the mark of a scratch database: it is not ours to drop"
                )));
            }
        }
        drop_subscriptions(&server.with_database(&name))?;
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(&name));
        query(&mut connection, "to drop the scratch database", &sql).map(drop)
    })
    .await
}

/// Dropping a subscription with its slot's name would drop the slot at its publisher.
fn drop_subscriptions(database: &DatabaseUrl) -> Result<(), RestoreError> {
    let mut connection = open(database)?;
    let sql = "SELECT quote_ident(subname) FROM pg_subscription
         WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())";
    for row in query(&mut connection, "for its subscriptions", sql)? {
        let name = Fields::of(Some(row)).text();
        for sql in [
            format!("ALTER SUBSCRIPTION {name} DISABLE"),
            format!("ALTER SUBSCRIPTION {name} SET (slot_name = NONE)"),
            format!("DROP SUBSCRIPTION {name}"),
        ] {
            query(&mut connection, "to cut a subscription from its slot", &sql)?;
        }
    }
    Ok(())
}

/// Every database of the server that carries the mark.
pub async fn marked_leftovers(server: &DatabaseUrl) -> Result<Vec<Leftover>, RestoreError> {
    let server = server.clone();
    blocking(move || {
        let mut connection = open(&server)?;
        let sql = format!(
            "SELECT datname, substr(comment, {}) FROM (
                SELECT datname, shobj_description(oid, 'pg_database') AS comment FROM pg_database
             ) AS databases WHERE starts_with(comment, {}) ORDER BY datname",
            MARK.len() + 1,
            literal(MARK)
        );
        let rows = query(&mut connection, "for scratch databases", &sql)?;
        let leftover = |row| {
            let mut row = Fields::of(Some(row));
            Leftover {
                database: row.text(),
                mark: row.text(),
            }
        };
        Ok(rows.into_iter().map(leftover).collect())
    })
    .await
}

fn open(url: &DatabaseUrl) -> Result<Connection, RestoreError> {
    let mut connection = connect(url, STALL)?;
    let sql = "SET client_encoding = 'UTF8'; SET standard_conforming_strings = on;
        SET default_transaction_read_only = off; SET search_path = ''";
    query(&mut connection, "to take our settings", sql)?;
    Ok(connection)
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(provider: &str, icu_locale: Option<&str>) -> DatabaseSettings {
        DatabaseSettings {
            encoding: "UTF8".to_owned(),
            locale_provider: provider.to_owned(),
            collate: "C".to_owned(),
            ctype: "C".to_owned(),
            icu_locale: icu_locale.map(str::to_owned),
            lc_monetary: None,
        }
    }

    #[test]
    fn a_database_is_made_as_the_backup_was_and_the_server_can() {
        let base = "CREATE DATABASE \"a\"\"b\" TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'";
        for (provider, locale, version, tail) in [
            ("libc", None, 140_022, ""),
            ("libc", None, 150_018, " LOCALE_PROVIDER libc"),
            (
                "icu",
                Some("de"),
                160_014,
                " LOCALE_PROVIDER icu ICU_LOCALE 'de'",
            ),
            (
                "builtin",
                Some("C.UTF-8"),
                180_004,
                " LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'",
            ),
        ] {
            let sql = statement("a\"b", &settings(provider, locale), version);
            assert_eq!(sql, format!("{base}{tail}"));
        }
    }
}
