//! What the archive's statements need of the server that takes them. Pure.

use std::collections::BTreeSet;

use crate::archive::{Entry, lossy};
use crate::restore::{Backup, Order, Scope, kept};

/// The roles without which a statement of the order fails: owners and grants as far as they
/// are asked for, and whom policies and mappings of users are for.
pub fn roles(backup: &Backup, order: &Order) -> BTreeSet<String> {
    let kept = kept(&backup.toc, order);
    let entries = backup.toc.entries.iter();
    let entries = entries.filter(|it| kept.contains(&it.dump_id));
    let mut roles = BTreeSet::new();
    for entry in entries {
        if order.owners {
            let owner = lossy(&entry.owner).into_owned();
            if !owner.is_empty() {
                roles.insert(owner);
            }
        }
        let is_grant = entry.is("ACL") || entry.is("DEFAULT ACL");
        let names_roles = entry.is("POLICY") || entry.is("USER MAPPING");
        if names_roles || (is_grant && order.privileges) {
            roles.extend(named_roles(entry));
        }
    }
    roles
}

/// Tables that hide their rows even from their owner.
pub fn forced_row_security(backup: &Backup, order: &Order) -> Vec<String> {
    if matches!(order.scope, Scope::SchemaOnly | Scope::Tables(_)) {
        return Vec::new();
    }
    let kept = kept(&backup.toc, order);
    let entries = backup.toc.entries.iter();
    let forced = entries.filter(|it| {
        it.is("TABLE")
            && kept.contains(&it.dump_id)
            && lossy(&it.definition).contains(" FORCE ROW LEVEL SECURITY;")
    });
    forced
        .map(|it| format!("{}.{}", lossy(&it.namespace), lossy(&it.tag)))
        .collect()
}

/// Kinds of entries whose statements only a superuser may execute.
const SUPERUSER_KINDS: [&str; 10] = [
    "EVENT TRIGGER",
    "FOREIGN DATA WRAPPER",
    "ACCESS METHOD",
    "OPERATOR CLASS",
    "OPERATOR FAMILY",
    "PROCEDURAL LANGUAGE",
    "PUBLICATION TABLES IN SCHEMA",
    "SHELL TYPE",
    "TEXT SEARCH PARSER",
    "TEXT SEARCH TEMPLATE",
];

/// What only a superuser may create, extensions aside.
pub fn superuser_only(backup: &Backup, order: &Order) -> Vec<String> {
    let kept = kept(&backup.toc, order);
    let entries = backup.toc.entries.iter();
    let entries = entries.filter(|it| kept.contains(&it.dump_id) && needs_superuser(it));
    entries
        .map(|it| format!("{} {}", lossy(&it.desc), lossy(&it.tag)))
        .collect()
}

fn needs_superuser(entry: &Entry) -> bool {
    let has = |words: &[&str]| {
        let tokens = tokens(&lossy(&entry.definition));
        let is_word = |token: &Token, word: &str| *token == Token::Word(word.to_owned());
        tokens.windows(words.len()).any(|window| {
            let pairs = window.iter().zip(words);
            pairs.into_iter().all(|(token, word)| is_word(token, word))
        })
    };
    SUPERUSER_KINDS.iter().any(|it| entry.is(it))
        || (entry.is("PUBLICATION") && has(&["FOR", "ALL", "TABLES"]))
        || (entry.is("FUNCTION") && (has(&["LANGUAGE", "c"]) || has(&["LANGUAGE", "internal"])))
        || (entry.is("TYPE") && has(&["INTERNALLENGTH"]))
}

/// Of the statements of an entry.
fn named_roles(entry: &Entry) -> Vec<String> {
    let tokens = tokens(&lossy(&entry.definition));
    if entry.is("POLICY") {
        // Its name and its table's are names, whatever they look like.
        let end = tokens
            .iter()
            .position(|it| it.is_one_of(&["USING", "WITH"]));
        return names_after(&tokens[..end.unwrap_or(tokens.len())], &["TO"]);
    }
    if entry.is("USER MAPPING") {
        return names_after(&tokens, &["FOR"]);
    }
    let mut roles = Vec::new();
    for statement in tokens.split(|it| *it == Token::Mark(';')) {
        // Of `REVOKE GRANT OPTION FOR … FROM a`, and of `ALTER DEFAULT PRIVILEGES FOR ROLE a`.
        roles.extend(names_after(statement, &["TO", "FROM"]));
        roles.extend(names_after(statement, &["ROLE", "AUTHORIZATION"]));
    }
    roles
}

/// A piece of a statement as `pg_dump` writes it: what is no keyword is in lower case or quoted.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Quoted(String),
    Mark(char),
}

impl Token {
    fn is_one_of(&self, words: &[&str]) -> bool {
        matches!(self, Self::Word(word) if words.contains(&word.as_str()))
    }
}

fn tokens(statement: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = statement;
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
        if first == '"' || first == '\'' {
            let (text, tail) = until_closed(&rest[1..], first);
            if first == '"' {
                tokens.push(Token::Quoted(text));
            }
            rest = tail;
        } else if is_word(first) {
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            tokens.push(Token::Word(rest[..end].to_owned()));
            rest = &rest[end..];
        } else {
            if !first.is_whitespace() {
                tokens.push(Token::Mark(first));
            }
            rest = &rest[first.len_utf8()..];
        }
    }
    tokens
}

/// What is before the closing quote, a doubled one being one of the text, and what is behind it.
fn until_closed(mut rest: &str, quote: char) -> (String, &str) {
    let mut text = String::new();
    while let Some((before, tail)) = rest.split_once(quote) {
        text.push_str(before);
        match tail.strip_prefix(quote) {
            Some(more) => {
                text.push(quote);
                rest = more;
            }
            None => return (text, tail),
        }
    }
    (text, "")
}

/// `a, "B ""c"""` after the first of these words, without those that every server has.
fn names_after(tokens: &[Token], words: &[&str]) -> Vec<String> {
    // Of a mapping for everybody, `pg_dump` writes it as a name; no role can have it.
    const BUILTIN: [&str; 5] = [
        "PUBLIC",
        "public",
        "CURRENT_USER",
        "CURRENT_ROLE",
        "SESSION_USER",
    ];
    let Some(place) = tokens.iter().position(|it| it.is_one_of(words)) else {
        return Vec::new();
    };
    let mut names = Vec::new();
    let mut rest = tokens[place + 1..].iter();
    loop {
        match rest.next() {
            Some(Token::Quoted(name)) => names.push(name.clone()),
            Some(Token::Word(name)) if BUILTIN.contains(&name.as_str()) => {}
            Some(Token::Word(name)) => names.push(name.clone()),
            Some(Token::Mark(_)) | None => return names,
        }
        if rest.next() != Some(&Token::Mark(',')) {
            return names;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: &str, definition: &str, expected: &[&str]) {
        let entry = Entry {
            desc: Some(kind.into()),
            definition: Some(definition.into()),
            ..Entry::default()
        };
        assert_eq!(named_roles(&entry), expected, "{definition}");
    }

    #[test]
    fn roles_are_read_from_grants_and_policies() {
        check(
            "ACL",
            "GRANT SELECT ON TABLE app.t TO reader;\n",
            &["reader"],
        );
        check(
            "ACL",
            "REVOKE ALL ON SCHEMA public FROM PUBLIC;\nGRANT ALL ON SCHEMA public TO \"Odd, one\" WITH GRANT OPTION;\n",
            &["Odd, one"],
        );
        check(
            "ACL",
            "GRANT USAGE ON SCHEMA s TO \"My \"\"x\"\"\";\n",
            &["My \"x\""],
        );
        check(
            "DEFAULT ACL",
            "ALTER DEFAULT PRIVILEGES FOR ROLE owner IN SCHEMA app GRANT SELECT ON TABLES TO reader;\n",
            &["reader", "owner"],
        );
        check(
            "ACL",
            "REVOKE GRANT OPTION FOR SELECT ON TABLE app.\"a FROM b\" FROM reader;\nSET SESSION AUTHORIZATION granter;\nGRANT SELECT ON TABLE app.\"x TO y\" TO \"a;\nb\";\nRESET SESSION AUTHORIZATION;\n",
            &["reader", "granter", "a;\nb"],
        );
        check(
            "POLICY",
            "CREATE POLICY p ON app.t FOR SELECT TO reader, writer USING ((owner = CURRENT_USER));\n",
            &["reader", "writer"],
        );
        check("POLICY", "CREATE POLICY p ON app.t USING (true);\n", &[]);
    }

    #[test]
    fn a_policy_may_be_called_like_its_own_clauses() {
        check(
            "POLICY",
            "CREATE POLICY \"sends TO all USING (x) WITH CHECK (y)\" ON app.\"t TO u\" USING ((a = 'TO b'::text));\n",
            &[],
        );
        check(
            "POLICY",
            "CREATE POLICY \"a USING (b) TO c\" ON app.t TO writer WITH CHECK (true);\n",
            &["writer"],
        );
    }

    #[test]
    fn a_mapping_of_users_names_its_user() {
        for (definition, expected) in [
            (
                "CREATE USER MAPPING FOR \"odd one\" SERVER far OPTIONS (\"user\" 'x');\n",
                &["odd one"][..],
            ),
            ("CREATE USER MAPPING FOR public SERVER far;\n", &[]),
        ] {
            check("USER MAPPING", definition, expected);
        }
    }

    #[test]
    fn what_only_a_superuser_may_create_is_known_by_kind_and_definition() {
        for (kind, definition, expected) in [
            (
                "EVENT TRIGGER",
                "CREATE EVENT TRIGGER e ON sql_drop EXECUTE FUNCTION f();",
                true,
            ),
            (
                "PUBLICATION",
                "CREATE PUBLICATION p FOR ALL TABLES WITH (publish = 'insert');",
                true,
            ),
            (
                "PUBLICATION",
                "CREATE PUBLICATION \"FOR ALL TABLES\" WITH (publish = 'insert');",
                false,
            ),
            (
                "FUNCTION",
                "CREATE FUNCTION f() RETURNS int LANGUAGE c AS 'lib', 'f';",
                true,
            ),
            (
                "FUNCTION",
                "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ x $$;",
                false,
            ),
            ("TYPE", "CREATE TYPE t AS (a int);", false),
            (
                "TYPE",
                "CREATE TYPE t (INTERNALLENGTH = 4, INPUT = f, OUTPUT = g);",
                true,
            ),
            ("TABLE", "CREATE TABLE t (a int);", false),
        ] {
            let entry = Entry {
                desc: Some(kind.into()),
                definition: Some(definition.into()),
                ..Entry::default()
            };
            assert_eq!(needs_superuser(&entry), expected, "{definition}");
        }
    }
}
