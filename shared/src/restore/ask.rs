//! Ordinary questions to the target, and their answers as text.

use super::RestoreError;
use crate::pg::{Connection, Row};

/// For sessions with `standard_conforming_strings`.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

pub(super) fn query(
    connection: &mut Connection,
    doing: &'static str,
    sql: &str,
) -> Result<Vec<Row>, RestoreError> {
    let rows = connection.query(sql);
    rows.map_err(|source| RestoreError::Query { doing, source })
}

pub(super) fn value(
    connection: &mut Connection,
    doing: &'static str,
    sql: &str,
) -> Result<String, RestoreError> {
    let value = connection.query_value(sql);
    value.map_err(|source| RestoreError::Query { doing, source })
}

/// The values of a row, one after the other.
pub(super) struct Fields(std::vec::IntoIter<Option<Vec<u8>>>);

impl Fields {
    pub(super) fn of(row: Option<Row>) -> Self {
        Self(row.unwrap_or_default().into_iter())
    }

    /// NULL is `None`.
    pub(super) fn optional(&mut self) -> Option<String> {
        let value = self.0.next().flatten()?;
        Some(String::from_utf8_lossy(&value).into_owned())
    }

    /// NULL is empty.
    pub(super) fn text(&mut self) -> String {
        self.optional().unwrap_or_default()
    }

    pub(super) fn flag(&mut self) -> bool {
        self.text() == "t"
    }

    pub(super) fn number(&mut self) -> u64 {
        self.text().parse().unwrap_or_default()
    }
}
