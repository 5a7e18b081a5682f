//! The roles that a backup's owners and grants need belong to the server, not to a database:
//! a drill has to find them there, or make them.

use std::collections::BTreeSet;
use std::time::Duration;

use shared::archive::quote_ident;
use shared::database_url::DatabaseUrl;
use shared::pg::Connection;

use crate::error::DrillError;

/// What the comment of every role begins with that a drill made. Nothing without it is dropped.
const MARK: &str = "lifeboat drill role ";
const STALL: Duration = Duration::from_secs(60);

/// Those of `roles` that the server lacks.
pub fn missing(server: &DatabaseUrl, roles: &BTreeSet<String>) -> Result<Vec<String>, DrillError> {
    let mut connection = open(server)?;
    let found = connection.query("SELECT rolname FROM pg_roles");
    let found = found.map_err(|source| failed("list the roles", source))?;
    let found: BTreeSet<String> = found.into_iter().map(shared_text).collect();
    Ok(roles.difference(&found).cloned().collect())
}

/// Makes roles that may do nothing, under the drill's mark. One that exists meanwhile is as
/// good.
pub fn create(server: &DatabaseUrl, roles: &[String], drill_id: &str) -> Result<(), DrillError> {
    let mut connection = open(server)?;
    for role in roles {
        let name = quoted(role);
        let create = format!("CREATE ROLE {name} NOLOGIN");
        let comment = format!("COMMENT ON ROLE {name} IS '{MARK}{drill_id}'");
        match connection.query(format!("{create}; {comment}")) {
            Ok(_) => {}
            Err(error) if error.sqlstate() == Some("42710") => {}
            Err(source) => return Err(failed("create a missing role", source)),
        }
    }
    Ok(())
}

/// Drops the roles that this drill made; one that something still depends on stays, and is
/// named.
pub fn remove(server: &DatabaseUrl, drill_id: &str) -> Result<Vec<String>, DrillError> {
    let mut connection = open(server)?;
    let made = connection.query(format!(
        "SELECT rolname FROM pg_roles WHERE shobj_description(oid, 'pg_authid') = '{MARK}{drill_id}'"
    ));
    let made = made.map_err(|source| failed("list the drill's roles", source))?;
    let mut kept = Vec::new();
    for role in made.into_iter().map(shared_text) {
        match connection.query(format!("DROP ROLE {}", quoted(&role))) {
            Ok(_) => {}
            Err(error) if error.sqlstate() == Some("2BP01") => kept.push(role),
            Err(source) => return Err(failed("drop a role of the drill", source)),
        }
    }
    Ok(kept)
}

fn open(server: &DatabaseUrl) -> Result<Connection, DrillError> {
    Connection::open(server, STALL).map_err(|source| failed("connect", source))
}

fn failed(doing: &'static str, source: shared::pg::PgError) -> DrillError {
    DrillError::Server { doing, source }
}

/// The first value of a row.
fn shared_text(row: shared::pg::Row) -> String {
    let value = row.into_iter().next().flatten().unwrap_or_default();
    String::from_utf8_lossy(&value).into_owned()
}

fn quoted(name: &str) -> String {
    String::from_utf8_lossy(&quote_ident(name.as_bytes())).into_owned()
}
