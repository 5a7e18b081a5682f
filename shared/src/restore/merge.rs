//! The script that a person reads, edits and runs to merge staged rows into live tables.
//! Pure; nothing of it is ever run by Lifeboat.

use super::order::table_name;
use super::staged::{Staged, quoted};
use super::staging::{Comparison, TableDifference};
use crate::manifest::Manifest;

pub(super) fn head(manifest: &Manifest, schema: &str) -> String {
    let words = commented(&format!(
        "Rows of backup {} (data as of {}) are in the schema {schema}, beside the live tables.\n\
         Read every statement, remove what is not wanted, and run the file with psql.\n\
         It ends in ROLLBACK: look at the counts first, then write COMMIT instead.\n\
         Triggers and foreign keys of the live tables act on what is written here.\n\
         When done: DROP SCHEMA {} CASCADE;",
        manifest.backup_id,
        manifest.snapshot_at,
        quoted(schema)
    ));
    format!("{words}\nBEGIN;\n")
}

pub(super) fn foot() -> &'static str {
    "\nROLLBACK;\n"
}

/// Every line of it behind `--`: a name may have line breaks of its own, and what follows one
/// would be run, by the server or by psql.
fn commented(text: &str) -> String {
    let text = text.replace('\n', "\n-- ").replace('\r', "\r-- ");
    format!("-- {text}\n")
}

pub(super) fn not_compared(staged: &Staged<'_>, schema: &str, why: &str) -> String {
    let live = format!(
        "{}.{}",
        quoted(&staged.live.schema),
        quoted(&staged.live.name)
    );
    let words = commented(&format!(
        "{}: not compared, {why}.\n\
         A plain table of its rows, without keys and rights:\n\
         CREATE TABLE {live} AS TABLE {};",
        table_name(&staged.live),
        staged.relation(schema)
    ));
    format!("\n{words}")
}

pub(super) fn table(comparison: &Comparison<'_>, difference: &TableDifference) -> String {
    let (live, staged) = (
        comparison.live_relation(),
        comparison.staged.relation(comparison.schema),
    );
    let count = |it: Option<u64>| it.unwrap_or_default();
    let mut words = format!(
        "{}: {} rows only in the backup, {} only live, {} changed",
        table_name(&comparison.staged.live),
        count(difference.only_backup),
        count(difference.only_live),
        count(difference.changed)
    );
    for finding in &difference.findings {
        words.push_str(&format!("\n{finding}"));
    }
    let is_same: Vec<String> = comparison.key.iter().map(|it| equal(it)).collect();
    let is_same = is_same.join(" AND ");
    let mut text = format!("\n{}", commented(&words));
    text.push_str(&missing(comparison, (&live, &staged, &is_same)));
    text.push_str(&changed(comparison, difference, (&live, &staged, &is_same)));
    text.push_str(&commented(&format!(
        "Remove what the backup does not have (rows that came after it, too):\n\
         DELETE FROM {live} l WHERE NOT EXISTS (SELECT FROM {staged} s WHERE {is_same});"
    )));
    text
}

/// As bytes: the column's own collation may take two different texts for equal.
fn equal(name: &str) -> String {
    format!(
        "l.{0}::text COLLATE \"C\" = s.{0}::text COLLATE \"C\"",
        quoted(name)
    )
}

/// A staged column may be text where the live one is not.
fn value(comparison: &Comparison<'_>, name: &str) -> String {
    let live = comparison.live.column(name);
    let live_type = live.map_or("text", |it| it.data_type.as_str());
    format!("s.{}::text::{live_type}", quoted(name))
}

fn missing(comparison: &Comparison<'_>, (live, staged, is_same): (&str, &str, &str)) -> String {
    let columns = comparison.key.iter().chain(&comparison.others);
    // What the live table computes, nobody may write.
    let is_written = |it: &&String| {
        let live = comparison.live.column(it.as_str());
        live.is_some_and(|it| !it.is_generated)
    };
    let columns: Vec<&String> = columns.filter(is_written).collect();
    let names: Vec<String> = columns.iter().map(|it| quoted(it)).collect();
    let values: Vec<String> = columns.iter().map(|it| value(comparison, it)).collect();
    let overriding = if comparison
        .live
        .columns
        .iter()
        .any(|it| it.is_always_identity)
    {
        " OVERRIDING SYSTEM VALUE"
    } else {
        ""
    };
    format!(
        "-- Bring back what is missing live:\n\
         INSERT INTO {live} ({}){overriding}\n    SELECT {} FROM {staged} s\n    \
         WHERE NOT EXISTS (SELECT FROM {live} l WHERE {is_same});\n",
        names.join(", "),
        values.join(", ")
    )
}

fn changed(
    comparison: &Comparison<'_>,
    difference: &TableDifference,
    (live, staged, is_same): (&str, &str, &str),
) -> String {
    let changed = difference.changed_by_column.iter();
    let changed: Vec<(&String, &u64)> = changed
        .filter(|(name, _)| {
            let live = comparison.live.column(name);
            live.is_some_and(|it| !it.is_generated && !it.is_always_identity)
        })
        .collect();
    if changed.is_empty() {
        return String::new();
    }
    let set: Vec<String> = changed
        .iter()
        .map(|(name, n)| {
            let value = value(comparison, name);
            format!("    {} = {value} /* {n} rows */", quoted(name))
        })
        .collect();
    let differs: Vec<String> = changed
        .iter()
        .map(|(name, _)| {
            format!(
                "l.{0}::text COLLATE \"C\" IS DISTINCT FROM s.{0}::text COLLATE \"C\"",
                quoted(name)
            )
        })
        .collect();
    commented(&format!(
        "Put back the backup's values of changed rows:\nUPDATE {live} l SET\n{}\nFROM {staged} s \
         WHERE {is_same}\n    AND ({});",
        set.join(",\n"),
        differs.join(" OR ")
    ))
}
