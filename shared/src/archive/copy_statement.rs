//! The `COPY … FROM stdin` of a table's data entry: where rows are loaded, and the order of
//! their columns.

/// The parts of a copy statement, unquoted, in the database's encoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyStatement {
    /// The table to load into: the partition root where that is how it is loaded.
    pub schema: Vec<u8>,
    pub table: Vec<u8>,
    pub columns: Vec<Vec<u8>>,
}

impl CopyStatement {
    /// `COPY schema.table (a, "B") FROM stdin;` with any identifier quoted; no column list
    /// when the table has no columns to copy.
    pub fn parse(statement: &[u8]) -> Option<Self> {
        let mut rest = statement.strip_prefix(b"COPY ")?;
        let schema = identifier(&mut rest)?;
        eat(&mut rest, b".")?;
        let table = identifier(&mut rest)?;
        eat(&mut rest, b" ")?;
        let mut columns = Vec::new();
        if eat(&mut rest, b"(").is_some() {
            loop {
                columns.push(identifier(&mut rest)?);
                if eat(&mut rest, b", ").is_none() {
                    break;
                }
            }
            eat(&mut rest, b")")?;
        }
        eat(&mut rest, b" FROM stdin;")?;
        rest.iter().all(u8::is_ascii_whitespace).then_some(Self {
            schema,
            table,
            columns,
        })
    }
}

fn eat(rest: &mut &[u8], expected: &[u8]) -> Option<()> {
    *rest = rest.strip_prefix(expected)?;
    Some(())
}

fn identifier(rest: &mut &[u8]) -> Option<Vec<u8>> {
    if eat(rest, b"\"").is_none() {
        let end = rest.iter().position(|b| b".,() \"".contains(b))?;
        let (name, tail) = rest.split_at(end);
        *rest = tail;
        return (!name.is_empty()).then(|| name.to_vec());
    }
    let mut name = Vec::new();
    loop {
        let end = rest.iter().position(|b| *b == b'"')?;
        name.extend(&rest[..end]);
        *rest = &rest[end + 1..];
        if eat(rest, b"\"").is_none() {
            return Some(name);
        }
        name.push(b'"');
    }
}

/// Always quotes: valid whatever the name and the server's keywords are.
pub fn quote_ident(name: &[u8]) -> Vec<u8> {
    let mut quoted = vec![b'"'];
    for byte in name {
        if *byte == b'"' {
            quoted.push(b'"');
        }
        quoted.push(*byte);
    }
    quoted.push(b'"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(statement: &str, expected: Option<(&str, &str, &[&str])>) {
        let parsed = CopyStatement::parse(statement.as_bytes());
        let expected = expected.map(|(schema, table, columns)| CopyStatement {
            schema: schema.into(),
            table: table.into(),
            columns: columns.iter().map(|it| it.as_bytes().to_vec()).collect(),
        });
        assert_eq!(parsed, expected, "{statement}");
    }

    #[test]
    fn statements_come_apart_whatever_the_names_are() {
        check(
            "COPY app.t (id, b) FROM stdin;\n",
            Some(("app", "t", &["id", "b"])),
        );
        check("COPY app.t  FROM stdin;\n", Some(("app", "t", &[])));
        check(
            "COPY \"a.b\".\"t (x) FROM stdin;\" (\"c\"\"), d\", \"sp ace\") FROM stdin;\n",
            Some(("a.b", "t (x) FROM stdin;", &["c\"), d", "sp ace"])),
        );
    }

    #[test]
    fn anything_else_is_not_a_copy_statement() {
        for statement in [
            "",
            "COPY t (a) FROM stdin;",
            "COPY app.t (a) TO stdout;",
            "COPY app.t (a FROM stdin;",
            "COPY app.\"t (a) FROM stdin;",
            "COPY app.t (a) FROM stdin; DROP TABLE app.t;",
            "INSERT INTO app.t VALUES (1);",
        ] {
            check(statement, None);
        }
    }

    #[test]
    fn quoting_doubles_quotes() {
        assert_eq!(quote_ident(b"a\"b"), b"\"a\"\"b\"");
    }
}
