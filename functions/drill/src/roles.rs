//! The roles that a backup's owners and grants need belong to the server, not to a database:
//! a drill has to find them there, or make them.
//!
//! A role that drills made carries the marks of all drills that need it. The last one that
//! lets go of it drops it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use shared::archive::quote_ident;
use shared::database_url::DatabaseUrl;
use shared::pg::{Connection, Row};

use crate::error::DrillError;
use crate::mark::Mark;

/// What the comment of every role begins with that drills made; the marks of those that need
/// it follow. Nothing without it is dropped.
const MADE: &str = "lifeboat drill role ";
const BETWEEN: &str = ", ";
const STALL: Duration = Duration::from_secs(60);
/// Whoever reads and writes marks is alone, as far as it goes through the same database of the
/// server: "Life", "role".
const ALONE: &str = "SET client_encoding = 'UTF8'; SET lock_timeout = '30s'; SELECT pg_advisory_lock(1281974885, 1919904869); RESET lock_timeout";

/// What became of the roles that were let go of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Released {
    pub dropped: Vec<String>,
    /// Something depends on them.
    pub kept: Vec<String>,
}

/// Those of `roles` that the server lacks, or has only as long as another drill needs them.
pub fn missing(server: &DatabaseUrl, roles: &BTreeSet<String>) -> Result<Vec<String>, DrillError> {
    let mut connection = open(server)?;
    let found = connection.query(format!(
        "SELECT rolname FROM pg_roles
         WHERE NOT starts_with(coalesce(shobj_description(oid, 'pg_authid'), ''), '{MADE}')"
    ));
    let found = found.map_err(|source| failed("list the roles", source))?;
    let found: BTreeSet<String> = found
        .into_iter()
        .map(|row| text(row.into_iter().next()))
        .collect();
    Ok(roles.difference(&found).cloned().collect())
}

/// Makes roles that may do nothing, under the drill's mark; one that another drill made gets
/// this mark as well. One that somebody makes meanwhile is as good.
pub fn create(server: &DatabaseUrl, roles: &[String], mark: &Mark) -> Result<(), DrillError> {
    let mut connection = open(server)?;
    let made = made(&mut connection)?;
    for role in roles {
        let name = quoted(role);
        let sql = match made.get(role) {
            Some(marks) if marks.contains(&mark.to_string()) => continue,
            Some(marks) => {
                let marks = [&marks[..], &[mark.to_string()]].concat();
                comment(&name, &marks)
            }
            // One message is one transaction: none is left without its mark.
            None => format!(
                "CREATE ROLE {name} NOLOGIN; {}",
                comment(&name, &[mark.to_string()])
            ),
        };
        match connection.query(sql) {
            Ok(_) => {}
            Err(error) if error.sqlstate() == Some("42710") => {}
            Err(source) => return Err(failed("create a missing role", source)),
        }
    }
    Ok(())
}

/// Lets go of the roles that this drill needed.
pub fn remove(server: &DatabaseUrl, drill_id: &str) -> Result<Released, DrillError> {
    release(server, |mark| mark.drill_id == drill_id)
}

/// Lets go of the roles of drills that never did.
pub fn sweep(server: &DatabaseUrl, now: Timestamp) -> Result<Released, DrillError> {
    release(server, |mark| mark.is_old(now))
}

fn release(server: &DatabaseUrl, is_over: impl Fn(&Mark) -> bool) -> Result<Released, DrillError> {
    let mut connection = open(server)?;
    let mut released = Released::default();
    for (role, marks) in made(&mut connection)? {
        let left = still_needed(&marks, &is_over);
        if left.len() == marks.len() {
            continue;
        }
        let name = quoted(&role);
        if !left.is_empty() {
            let kept = connection.query(comment(&name, &left));
            kept.map_err(|source| failed("mark a role of the drill", source))?;
            continue;
        }
        match connection.query(format!("DROP ROLE {name}")) {
            Ok(_) => released.dropped.push(role),
            Err(error) if error.sqlstate() == Some("2BP01") => released.kept.push(role),
            // Somebody else has dropped it.
            Err(error) if error.sqlstate() == Some("42704") => {}
            Err(source) => return Err(failed("drop a role of the drill", source)),
        }
    }
    Ok(released)
}

/// What is no mark is a person's, and stays.
fn still_needed(marks: &[String], is_over: impl Fn(&Mark) -> bool) -> Vec<String> {
    let marks = marks.iter();
    let left = marks.filter(|it| !Mark::parse(it).is_some_and(|it| is_over(&it)));
    left.cloned().collect()
}

/// The roles that drills made, each with its marks.
fn made(connection: &mut Connection) -> Result<BTreeMap<String, Vec<String>>, DrillError> {
    let rows = connection.query(format!(
        "SELECT rolname, substr(comment, {}) FROM (
            SELECT rolname, shobj_description(oid, 'pg_authid') AS comment FROM pg_roles
         ) AS roles WHERE starts_with(comment, '{MADE}')",
        MADE.len() + 1
    ));
    let rows = rows.map_err(|source| failed("list the roles of drills", source))?;
    let role = |row: Row| {
        let mut row = row.into_iter();
        let name = text(row.next());
        let marks = text(row.next());
        (name, marks.split(BETWEEN).map(str::to_owned).collect())
    };
    Ok(rows.into_iter().map(role).collect())
}

fn comment(quoted_name: &str, marks: &[String]) -> String {
    let marks = marks.join(BETWEEN).replace('\'', "''");
    format!("COMMENT ON ROLE {quoted_name} IS '{MADE}{marks}'")
}

fn open(server: &DatabaseUrl) -> Result<Connection, DrillError> {
    let mut connection = Connection::open(server, STALL).map_err(|it| failed("connect", it))?;
    let alone = connection.query(ALONE);
    alone.map_err(|source| failed("wait for other drills' roles", source))?;
    Ok(connection)
}

fn failed(doing: &'static str, source: shared::pg::PgError) -> DrillError {
    DrillError::Server { doing, source }
}

fn text(value: Option<Option<Vec<u8>>>) -> String {
    let value = value.flatten().unwrap_or_default();
    String::from_utf8_lossy(&value).into_owned()
}

fn quoted(name: &str) -> String {
    String::from_utf8_lossy(&quote_ident(name.as_bytes())).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_needed_until_the_last_drill_lets_go_of_it() {
        let marks = [
            "2026-11-20T02:00:00Z 20261120T020000Z-aaaaaaaa",
            "2026-11-22T02:00:00Z 20261122T020000Z-bbbbbbbb",
        ]
        .map(str::to_owned);
        let of = |drill_id: &'static str| move |mark: &Mark| mark.drill_id == drill_id;
        assert_eq!(
            still_needed(&marks, of("20261120T020000Z-aaaaaaaa")),
            marks[1..]
        );
        assert_eq!(still_needed(&marks, of("20261120T020000Z-cccccccc")), marks);
        let now = "2026-11-22T03:00:00Z".parse().unwrap();
        assert_eq!(still_needed(&marks, |it| it.is_old(now)), marks[1..]);
        let words = ["kept for the audit".to_owned()];
        assert_eq!(still_needed(&words, |_| true), words);
    }
}
