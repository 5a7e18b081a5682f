//! What is to be restored, and where to. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::manifest::QualifiedName;
use crate::policy::{RestorePolicy, TargetName};

/// Which part of a backup is restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    Everything,
    SchemaOnly,
    /// Rows, sequence values and large objects, into tables that exist and are empty.
    DataOnly,
    /// These tables, into a staging schema.
    Tables(#[serde(with = "names")] Vec<QualifiedName>),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => f.write_str("everything"),
            Self::SchemaOnly => f.write_str("the schema without rows"),
            Self::DataOnly => f.write_str("rows into existing, empty tables"),
            Self::Tables(tables) => {
                let names: Vec<_> = tables.iter().map(table_name).collect();
                write!(f, "the tables {}", names.join(", "))
            }
        }
    }
}

/// Where to. The database is named for a server that `lifeboat.toml` knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Destination {
    /// A database that does not exist yet.
    NewDatabase {
        target: TargetName,
        database: String,
    },
    /// A schema that does not exist yet, beside the live tables.
    Staging { target: TargetName, schema: String },
    /// Tables that exist and are empty.
    ExistingTables {
        target: TargetName,
        database: String,
    },
}

impl Destination {
    pub fn target(&self) -> &TargetName {
        match self {
            Self::NewDatabase { target, .. }
            | Self::Staging { target, .. }
            | Self::ExistingTables { target, .. } => target,
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NewDatabase { target, database } => {
                write!(f, "the new database {database} on {target}")
            }
            Self::Staging { target, schema } => {
                write!(f, "the staging schema {schema} on {target}")
            }
            Self::ExistingTables { target, database } => {
                write!(f, "the existing, empty tables of {database} on {target}")
            }
        }
    }
}

/// What is not restored although it is in the archive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LeaveOut {
    /// With the objects that depend on them.
    pub extensions: Vec<String>,
    /// With everything in them, and what depends on that.
    pub schemas: Vec<String>,
    pub publications: Vec<String>,
}

impl From<&RestorePolicy> for LeaveOut {
    fn from(policy: &RestorePolicy) -> Self {
        Self {
            extensions: policy.leave_out_extensions.clone(),
            schemas: policy.leave_out_schemas.clone(),
            publications: policy.leave_out_publications.clone(),
        }
    }
}

/// Everything that decides what the engine does; the same order continues where it stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Names the run in the target's ledger: another order never continues it.
    pub plan_id: String,
    pub scope: Scope,
    #[serde(default)]
    pub leave_out: LeaveOut,
    /// Give objects their owners of the source; the roles must exist.
    #[serde(default)]
    pub owners: bool,
    /// Grant what was granted at the source; the roles must exist.
    #[serde(default)]
    pub privileges: bool,
    pub connections: u32,
    /// Where [`Scope::Tables`] go.
    #[serde(default)]
    pub staging_schema: Option<String>,
}

/// `schema.name`, each part in double quotes where it would be ambiguous without.
pub fn table_name(table: &QualifiedName) -> String {
    format!("{}.{}", part(&table.schema), part(&table.name))
}

fn part(name: &str) -> String {
    if name.is_empty() || name.contains(['.', '"']) {
        format!("\"{}\"", name.replace('"', "\"\""))
    } else {
        name.to_owned()
    }
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not the name of a table: write schema.table, with \"…\" around a part that has a dot"
)]
pub struct InvalidTableName(String);

/// Reads what [`table_name`] writes. Names are as the catalog has them: case matters.
pub fn parse_table_name(text: &str) -> Result<QualifiedName, InvalidTableName> {
    let invalid = || InvalidTableName(text.to_owned());
    let (schema, rest) = take_part(text).ok_or_else(invalid)?;
    let rest = rest.strip_prefix('.').ok_or_else(invalid)?;
    match take_part(rest) {
        Some((name, "")) => Ok(QualifiedName { schema, name }),
        Some(_) | None => Err(invalid()),
    }
}

fn take_part(text: &str) -> Option<(String, &str)> {
    let Some(mut rest) = text.strip_prefix('"') else {
        let end = text.find(['.', '"']).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        return (!name.is_empty()).then(|| (name.to_owned(), rest));
    };
    let mut name = String::new();
    loop {
        let end = rest.find('"')?;
        name.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(tail) => {
                name.push('"');
                rest = tail;
            }
            None => return (!name.is_empty()).then_some((name, rest)),
        }
    }
}

mod names {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    use super::{QualifiedName, parse_table_name, table_name};

    pub(super) fn serialize<S: Serializer>(
        tables: &[QualifiedName],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let names: Vec<String> = tables.iter().map(table_name).collect();
        names.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<QualifiedName>, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        let parsed = names.iter().map(|it| parse_table_name(it));
        parsed.collect::<Result<_, _>>().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_named_as_people_write_it() {
        for (text, schema, name) in [
            ("app.users", "app", "users"),
            ("app.\"a.b\"", "app", "a.b"),
            ("\"x\"\"y\".Users", "x\"y", "Users"),
            ("app.sp ace", "app", "sp ace"),
        ] {
            let parsed = parse_table_name(text).unwrap();
            assert_eq!(
                (parsed.schema.as_str(), parsed.name.as_str()),
                (schema, name)
            );
            assert_eq!(parse_table_name(&table_name(&parsed)), Ok(parsed));
        }
        for text in [
            "",
            "users",
            "app.",
            ".users",
            "a.b.c",
            "app.\"b",
            "app.\"b\"c",
            "a\"b.c",
        ] {
            assert!(parse_table_name(text).is_err(), "{text}");
        }
    }

    #[test]
    fn scopes_and_destinations_read_as_documented() {
        for scope in [
            r#""everything""#,
            r#""schema_only""#,
            r#""data_only""#,
            r#"{"tables":["app.users"]}"#,
        ] {
            let parsed: Scope = serde_json::from_str(scope).unwrap();
            assert_eq!(serde_json::to_string(&parsed).unwrap(), scope);
        }
        for destination in [
            r#"{"new_database":{"target":"standby","database":"app_restored"}}"#,
            r#"{"staging":{"target":"live-app","schema":"lifeboat_20261121"}}"#,
            r#"{"existing_tables":{"target":"standby","database":"app_empty"}}"#,
        ] {
            let parsed: Destination = serde_json::from_str(destination).unwrap();
            assert_eq!(serde_json::to_string(&parsed).unwrap(), destination);
        }
    }
}
