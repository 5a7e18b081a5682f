//! The roles that a backup's owners and grants need. They belong to the server, not to a
//! database, so a drill has to find them there, or make them.

use std::collections::BTreeSet;
use std::time::Duration;

use shared::archive::{Entry, TableOfContents, lossy, quote_ident};
use shared::database_url::DatabaseUrl;
use shared::pg::Connection;

use crate::checks::groups::is_never_restored;
use crate::error::DrillError;

/// What the comment of every role begins with that a drill made. Nothing without it is dropped.
const MARK: &str = "lifeboat drill role ";
const STALL: Duration = Duration::from_secs(60);

/// Every role that the archive's owners, grants and policies name. Pure.
pub fn needed(toc: &TableOfContents) -> BTreeSet<String> {
    let mut roles = BTreeSet::new();
    for entry in &toc.entries {
        let desc = lossy(&entry.desc);
        if is_never_restored(&desc) {
            continue;
        }
        let owner = lossy(&entry.owner).into_owned();
        if !owner.is_empty() {
            roles.insert(owner);
        }
        if matches!(&*desc, "ACL" | "DEFAULT ACL" | "POLICY") {
            roles.extend(named_by(entry));
        }
    }
    roles
}

/// The roles after `TO`, `FROM`, `ROLE` and `AUTHORIZATION`, outside of parentheses.
fn named_by(entry: &Entry) -> BTreeSet<String> {
    let definition = lossy(&entry.definition);
    let mut roles = BTreeSet::new();
    let mut is_list = false;
    let mut depth = 0_u32;
    for token in tokens(&definition) {
        match token {
            Token::Symbol('(') => depth += 1,
            Token::Symbol(')') => depth = depth.saturating_sub(1),
            _ if depth > 0 => {}
            Token::Symbol(',') => {}
            Token::Symbol(_) => is_list = false,
            Token::Quoted(name) if is_list => {
                roles.insert(name);
            }
            Token::Quoted(_) => {}
            Token::Word(word) => match word.as_str() {
                "TO" | "FROM" | "ROLE" | "AUTHORIZATION" => is_list = true,
                "PUBLIC" | "GROUP" | "CURRENT_USER" | "SESSION_USER" | "CURRENT_ROLE" => {}
                // Keywords are upper case here, and unquoted names lower.
                _ if word.bytes().any(|b| b.is_ascii_uppercase()) => is_list = false,
                _ if is_list => {
                    roles.insert(word);
                }
                _ => {}
            },
        }
    }
    roles
}

enum Token {
    Word(String),
    Quoted(String),
    Symbol(char),
}

/// Of the SQL that `pg_dump` writes; literals are dropped.
fn tokens(sql: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = sql.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' | '\'' => {
                let mut text = String::new();
                while let Some(inside) = rest.next() {
                    if inside == c && rest.next_if_eq(&c).is_none() {
                        break;
                    }
                    text.push(inside);
                }
                if c == '"' {
                    tokens.push(Token::Quoted(text));
                }
            }
            _ if c.is_whitespace() => {}
            _ if is_word(c) => {
                let mut word = String::from(c);
                while let Some(next) = rest.next_if(|c| is_word(*c)) {
                    word.push(next);
                }
                tokens.push(Token::Word(word));
            }
            _ => tokens.push(Token::Symbol(c)),
        }
    }
    tokens
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn check(desc: &str, definition: &str, expected: &[&str]) {
        let text = |it: &str| Some(it.as_bytes().to_vec());
        let entry = Entry {
            desc: text(desc),
            definition: text(definition),
            ..Entry::default()
        };
        let found: Vec<String> = named_by(&entry).into_iter().collect();
        assert_eq!(found, expected, "{definition}");
    }

    #[test]
    fn grants_and_policies_name_their_roles() {
        for (definition, expected) in [
            (
                "GRANT SELECT ON TABLE app.users TO reader;\nGRANT ALL ON TABLE app.users TO writer WITH GRANT OPTION;",
                &["reader", "writer"][..],
            ),
            ("REVOKE ALL ON TABLE app.users FROM PUBLIC;", &[]),
            (
                "GRANT SELECT(name) ON TABLE app.users TO \"odd \"\"one\";",
                &["odd \"one"],
            ),
            (
                "GRANT ALL ON FUNCTION app.f(\"to\" text, x integer) TO reader;",
                &["reader"],
            ),
            (
                "SET SESSION AUTHORIZATION app_owner;\nGRANT SELECT ON TABLE t TO reader;\nRESET SESSION AUTHORIZATION;",
                &["app_owner", "reader"],
            ),
            (
                "ALTER DEFAULT PRIVILEGES FOR ROLE app_owner IN SCHEMA app GRANT SELECT ON TABLES TO reader;",
                &["app_owner", "reader"],
            ),
            (
                "CREATE POLICY members ON app.users FOR SELECT TO reader, \"Admin\" USING ((name = 'TO nobody'::text));",
                &["Admin", "reader"],
            ),
            ("CREATE POLICY all_of_them ON app.users USING (true);", &[]),
        ] {
            check("ACL", definition, expected);
        }
    }
}
