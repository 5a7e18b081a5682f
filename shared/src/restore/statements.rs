//! The SQL of one entry of the table of contents, in the archive's encoding. Pure.
//!
//! What `pg_restore` would execute (`pg_backup_archiver.c`: printing an entry, and setting its
//! owner), as one string: tablespaces are not selected, and owners come in a pass of their own.

use super::select::{dependencies, describe};
use crate::archive::{Entry, TableOfContents, lossy, quote_ident};

/// `pg_class.relkind` of a partitioned table.
const PARTITIONED: i32 = 'p' as i32;

/// What of an entry is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Definition,
    Owner,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} is of a kind that this version of Lifeboat cannot restore: use docs/FORMAT.md and pg_restore"
)]
pub struct UnknownKind(String);

/// The statements of `part`; empty where there are none.
pub(super) fn sql(
    toc: &TableOfContents,
    entry: &Entry,
    part: Part,
) -> Result<Vec<u8>, UnknownKind> {
    match part {
        Part::Definition => Ok(definition(toc, entry)),
        Part::Owner => owner(entry),
    }
}

fn definition(toc: &TableOfContents, entry: &Entry) -> Vec<u8> {
    let definition = entry.definition.clone().unwrap_or_default();
    if entry.is("BLOB METADATA") {
        return oids(entry)
            .map(|oid| format!("SELECT pg_catalog.lo_create('{oid}');\n"))
            .collect::<String>()
            .into_bytes();
    }
    if entry.is("ACL") && lossy(&entry.tag).starts_with("LARGE OBJECTS") {
        let of = dependencies(entry)
            .filter_map(|id| toc.entries.iter().find(|it| it.dump_id == id))
            .find(|it| it.is("BLOB METADATA"));
        let oids = of.map(|it| oids(it).collect::<Vec<_>>());
        return for_each_large_object(&definition, &oids.unwrap_or_default());
    }
    let method = entry.table_access_method.as_deref().unwrap_or_default();
    if method.is_empty() {
        return definition;
    }
    let method = quote_ident(method);
    if entry.relkind == PARTITIONED {
        return [
            &definition[..],
            b"\nALTER TABLE ",
            &qualified(entry),
            b" SET ACCESS METHOD ",
            &method,
            b";",
        ]
        .concat();
    }
    [
        b"SET LOCAL default_table_access_method = ",
        &method[..],
        b";\n",
        &definition,
    ]
    .concat()
}

/// The lines of a group's definition are its large objects.
fn oids(entry: &Entry) -> impl Iterator<Item = u32> {
    let definition = lossy(&entry.definition).into_owned();
    let oids: Vec<u32> = definition
        .lines()
        .filter_map(|line| line.trim().parse().ok())
        .collect();
    oids.into_iter()
}

/// Commands for the first large object of a group, repeated for each: only a role's name
/// may be quoted in them, so semicolons outside quotes end a command.
fn for_each_large_object(commands: &[u8], oids: &[u32]) -> Vec<u8> {
    const MARK: &[u8] = b" LARGE OBJECT ";
    let mut out = Vec::new();
    let mut is_quoted = false;
    let mut start = 0;
    for at in 0..commands.len() {
        match commands[at] {
            b'"' => is_quoted = !is_quoted,
            b';' if !is_quoted => {
                let command = &commands[start..=at];
                start = at + 1;
                let found = unquoted(command, MARK).map(|it| it + MARK.len());
                let Some(oid_at) = found else {
                    out.extend(command);
                    continue;
                };
                let digits = command[oid_at..]
                    .iter()
                    .take_while(|it| it.is_ascii_digit());
                let rest = &command[oid_at + digits.count()..];
                for oid in oids {
                    out.extend(&command[..oid_at]);
                    out.extend(oid.to_string().as_bytes());
                    out.extend(rest);
                }
            }
            _ => {}
        }
    }
    out
}

fn unquoted(text: &[u8], wanted: &[u8]) -> Option<usize> {
    let mut is_quoted = false;
    for at in 0..text.len() {
        if text[at] == b'"' {
            is_quoted = !is_quoted;
        } else if !is_quoted && text[at..].starts_with(wanted) {
            return Some(at);
        }
    }
    None
}

/// Kinds whose name after `ALTER` is their tag.
const NAMED_BY_TAG: [&str; 20] = [
    "COLLATION",
    "CONVERSION",
    "DOMAIN",
    "FOREIGN TABLE",
    "MATERIALIZED VIEW",
    "SEQUENCE",
    "STATISTICS",
    "TABLE",
    "TEXT SEARCH DICTIONARY",
    "TEXT SEARCH CONFIGURATION",
    "TYPE",
    "VIEW",
    "PROCEDURAL LANGUAGE",
    "SCHEMA",
    "EVENT TRIGGER",
    "FOREIGN DATA WRAPPER",
    "SERVER",
    "PUBLICATION",
    "SUBSCRIPTION",
    "DATABASE",
];
/// Kinds whose name is in their drop statement only, with the types of arguments.
const NAMED_BY_DROP: [&str; 6] = [
    "AGGREGATE",
    "FUNCTION",
    "OPERATOR",
    "OPERATOR CLASS",
    "OPERATOR FAMILY",
    "PROCEDURE",
];
/// Kinds that belong to whom their table, their database or the system belongs to.
const WITHOUT_OWNER: [&str; 22] = [
    "CAST",
    "CHECK CONSTRAINT",
    "CONSTRAINT",
    "DATABASE PROPERTIES",
    "DEFAULT",
    "FK CONSTRAINT",
    "INDEX",
    "INDEX ATTACH",
    "RULE",
    "TRIGGER",
    "ROW SECURITY",
    "POLICY",
    "USER MAPPING",
    "TABLE ATTACH",
    "PUBLICATION TABLE",
    "PUBLICATION TABLES IN SCHEMA",
    "SEQUENCE OWNED BY",
    "EXTENSION",
    "TRANSFORM",
    "ACCESS METHOD",
    "TEXT SEARCH PARSER",
    "TEXT SEARCH TEMPLATE",
];

/// What has no drop statement is no object of its own.
fn owner(entry: &Entry) -> Result<Vec<u8>, UnknownKind> {
    let owner = entry.owner.as_deref().unwrap_or_default();
    let drop_statement = entry.drop_statement.as_deref().unwrap_or_default();
    if owner.is_empty() || drop_statement.is_empty() {
        return Ok(Vec::new());
    }
    let is_of = |kinds: &[&str]| kinds.iter().any(|it| entry.is(it));
    let tail = [b" OWNER TO ", &quote_ident(owner)[..], b";\n"].concat();
    if entry.is("BLOB METADATA") {
        let alter = |oid: u32| [format!("ALTER LARGE OBJECT {oid}").as_bytes(), &tail].concat();
        return Ok(oids(entry).flat_map(alter).collect());
    }
    let object = if is_of(&NAMED_BY_TAG) {
        let kind = entry.desc.clone().unwrap_or_default();
        [&kind[..], b" ", &qualified(entry)].concat()
    } else if entry.is("BLOB") {
        format!("LARGE OBJECT {}", lossy(&entry.tag)).into_bytes()
    } else if is_of(&NAMED_BY_DROP) {
        let object = drop_statement.strip_prefix(b"DROP ").unwrap_or_default();
        without_end(object).to_vec()
    } else if is_of(&WITHOUT_OWNER) {
        return Ok(Vec::new());
    } else {
        return Err(UnknownKind(describe(entry)));
    };
    Ok([b"ALTER ", &object[..], &tail].concat())
}

/// A statement without the semicolon and newlines at its end.
fn without_end(statement: &[u8]) -> &[u8] {
    let is_content = |it: &u8| !it.is_ascii_whitespace() && *it != b';';
    let end = statement.iter().rposition(is_content);
    &statement[..end.map_or(0, |it| it + 1)]
}

/// `"schema"."name"`, or the name alone where there is no schema.
pub(super) fn qualified(entry: &Entry) -> Vec<u8> {
    let tag = quote_ident(entry.tag.as_deref().unwrap_or_default());
    match entry.namespace.as_deref() {
        Some(namespace) if !namespace.is_empty() => {
            [&quote_ident(namespace)[..], b".", &tag].concat()
        }
        Some(_) | None => tag,
    }
}

#[cfg(test)]
mod tests {
    use super::super::select::tests::{entry, text, toc};
    use super::*;

    fn check(entry: &Entry, part: Part, expected: &str) {
        let toc = toc(vec![]);
        let sql = sql(&toc, entry, part).unwrap();
        assert_eq!(String::from_utf8_lossy(&sql), expected);
    }

    #[test]
    fn owners_are_set_as_the_kind_of_object_needs() {
        let table = entry((1, 2), "TABLE", ("app", "odd\"one"), "", &[]);
        check(
            &table,
            Part::Owner,
            "ALTER TABLE \"app\".\"odd\"\"one\" OWNER TO \"app\";\n",
        );
        let schema = entry((1, 2), "SCHEMA", ("", "app"), "CREATE SCHEMA app;", &[]);
        check(
            &schema,
            Part::Owner,
            "ALTER SCHEMA \"app\" OWNER TO \"app\";\n",
        );
        let function = Entry {
            drop_statement: text("DROP FUNCTION app.f(integer);\n"),
            ..entry((1, 2), "FUNCTION", ("app", "f(integer)"), "", &[])
        };
        check(
            &function,
            Part::Owner,
            "ALTER FUNCTION app.f(integer) OWNER TO \"app\";\n",
        );
        let index = entry((1, 4), "INDEX", ("app", "i"), "", &[]);
        check(&index, Part::Owner, "");
        let dropless = Entry {
            drop_statement: None,
            ..entry((1, 2), "SHELL TYPE", ("app", "t"), "", &[])
        };
        check(&dropless, Part::Owner, "");
        let unknown = entry((1, 2), "HOLOGRAM", ("app", "h"), "", &[]);
        let error = sql(&toc(vec![]), &unknown, Part::Owner).unwrap_err();
        assert!(error.to_string().starts_with("HOLOGRAM app.h is of a kind"));
    }

    #[test]
    fn groups_of_large_objects_are_made_granted_and_owned_one_by_one() {
        let metadata = entry((8, 3), "BLOB METADATA", ("", "500..501"), "500\n501\n", &[]);
        check(
            &metadata,
            Part::Definition,
            "SELECT pg_catalog.lo_create('500');\nSELECT pg_catalog.lo_create('501');\n",
        );
        check(
            &metadata,
            Part::Owner,
            "ALTER LARGE OBJECT 500 OWNER TO \"app\";\nALTER LARGE OBJECT 501 OWNER TO \"app\";\n",
        );
        let acl = entry(
            (9, 3),
            "ACL",
            ("", "LARGE OBJECTS 500..501"),
            "REVOKE ALL ON LARGE OBJECT 500 FROM a;\nGRANT SELECT ON LARGE OBJECT 500 TO \"x; LARGE OBJECT 7\";\n",
            &[8],
        );
        let toc = toc(vec![metadata]);
        let sql = sql(&toc, &acl, Part::Definition).unwrap();
        assert_eq!(
            String::from_utf8_lossy(&sql),
            "REVOKE ALL ON LARGE OBJECT 500 FROM a;REVOKE ALL ON LARGE OBJECT 501 FROM a;\
             \nGRANT SELECT ON LARGE OBJECT 500 TO \"x; LARGE OBJECT 7\";\
             \nGRANT SELECT ON LARGE OBJECT 501 TO \"x; LARGE OBJECT 7\";"
        );
    }

    #[test]
    fn tables_get_their_access_method() {
        let table = Entry {
            table_access_method: text("heap"),
            ..entry((1, 2), "TABLE", ("app", "t"), "CREATE TABLE app.t ();", &[])
        };
        check(
            &table,
            Part::Definition,
            "SET LOCAL default_table_access_method = \"heap\";\nCREATE TABLE app.t ();",
        );
        let root = Entry {
            relkind: PARTITIONED,
            ..table
        };
        check(
            &root,
            Part::Definition,
            "CREATE TABLE app.t ();\nALTER TABLE \"app\".\"t\" SET ACCESS METHOD \"heap\";",
        );
    }
}
