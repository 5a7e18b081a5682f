//! The archive's names as text. The archive has them in the database's encoding; the manifest
//! is UTF-8.

use std::collections::{BTreeSet, HashMap};

use shared::archive::{CopyStatement, TableOfContents};
use shared::pg::Connection;

use crate::catalog::Values;
use crate::error::DumpError;

/// Bytes that are the same in UTF-8 are not in here.
#[derive(Debug, Default)]
pub struct Names(HashMap<Vec<u8>, String>);

impl Names {
    /// Has the server convert them, on a connection whose client encoding is UTF-8.
    pub fn convert(connection: &mut Connection, toc: &TableOfContents) -> Result<Self, DumpError> {
        let names: Vec<Vec<u8>> = foreign_names(toc).into_iter().collect();
        if names.is_empty() {
            return Ok(Self::default());
        }
        let hex: Vec<String> = names.iter().map(|it| shared::sealed::hex(it)).collect();
        let rows = connection
            .query(format!(
                "SELECT convert_from(decode(hex, 'hex'), getdatabaseencoding())
                 FROM unnest('{{{}}}'::text[]) WITH ORDINALITY AS names (hex, place) ORDER BY place",
                hex.join(",")
            ))
            .map_err(|source| DumpError::Query {
                doing: "how its names read in UTF-8",
                source,
            })?;
        let texts = rows.into_iter().map(|row| Values::of(row).text());
        Ok(Self(names.into_iter().zip(texts).collect()))
    }

    pub fn text(&self, name: &[u8]) -> String {
        let converted = self.0.get(name).cloned();
        converted.unwrap_or_else(|| String::from_utf8_lossy(name).into_owned())
    }
}

fn foreign_names(toc: &TableOfContents) -> BTreeSet<Vec<u8>> {
    let mut names = BTreeSet::new();
    for entry in &toc.entries {
        names.extend(
            [&entry.namespace, &entry.tag]
                .into_iter()
                .flatten()
                .cloned(),
        );
        let statement = entry.copy_statement.as_deref().unwrap_or_default();
        if let Some(statement) = CopyStatement::parse(statement) {
            names.extend([statement.schema, statement.table]);
            names.extend(statement.columns);
        }
    }
    names.retain(|name| !name.is_ascii());
    names
}
