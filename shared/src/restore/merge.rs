//! The script that a person reads, edits and runs to merge staged rows into live tables.
//! Pure; nothing of it is ever run by Lifeboat.

use super::order::table_name;
use super::staged::{Staged, quoted};
use super::staging::{Comparison, TableDifference};
use crate::manifest::Manifest;

pub(super) fn head(manifest: &Manifest, schema: &str) -> String {
    format!(
        "-- Rows of backup {} (data as of {}) are in the schema {schema}, beside the live tables.\n\
         -- Read every statement, remove what is not wanted, and run the file with psql.\n\
         -- It ends in ROLLBACK: look at the counts first, then write COMMIT instead.\n\
         -- Triggers and foreign keys of the live tables act on what is written here.\n\
         -- When done: DROP SCHEMA {} CASCADE;\n\n\
         BEGIN;\n",
        manifest.backup_id,
        manifest.snapshot_at,
        quoted(schema)
    )
}

pub(super) fn foot() -> &'static str {
    "\nROLLBACK;\n"
}

pub(super) fn not_compared(staged: &Staged<'_>, schema: &str, why: &str) -> String {
    let live = format!(
        "{}.{}",
        quoted(&staged.live.schema),
        quoted(&staged.live.name)
    );
    format!(
        "\n-- {}: not compared, {why}.\n\
         -- A plain table of its rows, without keys and rights:\n\
         -- CREATE TABLE {live} AS TABLE {};\n",
        one_line(&table_name(&staged.live)),
        staged.relation(schema)
    )
}

pub(super) fn table(comparison: &Comparison<'_>, difference: &TableDifference) -> String {
    let (live, staged) = (
        comparison.live_relation(),
        comparison.staged.relation(comparison.schema),
    );
    let count = |it: Option<u64>| it.unwrap_or_default();
    let mut text = format!(
        "\n-- {}: {} rows only in the backup, {} only live, {} changed\n",
        one_line(&table_name(&comparison.staged.live)),
        count(difference.only_backup),
        count(difference.only_live),
        count(difference.changed)
    );
    for finding in &difference.findings {
        text.push_str(&format!("-- {}\n", one_line(finding)));
    }
    let is_same: Vec<String> = comparison
        .key
        .iter()
        .map(|it| format!("l.{0}::text = s.{0}::text", quoted(it)))
        .collect();
    let is_same = is_same.join(" AND ");
    let columns: Vec<&String> = comparison.key.iter().chain(&comparison.others).collect();
    let names: Vec<String> = columns.iter().map(|it| quoted(it)).collect();
    let values: Vec<String> = columns.iter().map(|it| value(comparison, it)).collect();
    let overriding = if comparison.live.has_always_identity {
        " OVERRIDING SYSTEM VALUE"
    } else {
        ""
    };
    text.push_str(&format!(
        "-- Bring back what is missing live:\n\
         INSERT INTO {live} ({}){overriding}\n    SELECT {} FROM {staged} s\n    \
         WHERE NOT EXISTS (SELECT FROM {live} l WHERE {is_same});\n",
        names.join(", "),
        values.join(", ")
    ));
    text.push_str(&changed(comparison, difference, (&live, &staged, &is_same)));
    text.push_str(&format!(
        "-- Remove what the backup does not have (rows that came after it, too):\n\
         -- DELETE FROM {live} l WHERE NOT EXISTS (SELECT FROM {staged} s WHERE {is_same});\n"
    ));
    text
}

/// A staged column may be text where the live one is not.
fn value(comparison: &Comparison<'_>, name: &str) -> String {
    let live = comparison.live.columns.iter().find(|it| it.0 == name);
    let live_type = live.map_or("text", |it| it.1.as_str());
    format!("s.{}::text::{live_type}", quoted(name))
}

fn changed(
    comparison: &Comparison<'_>,
    difference: &TableDifference,
    (live, staged, is_same): (&str, &str, &str),
) -> String {
    if difference.changed_by_column.is_empty() {
        return String::new();
    }
    let set: Vec<String> = difference
        .changed_by_column
        .iter()
        .map(|(name, n)| {
            format!(
                "--     {} = {} /* {n} rows */",
                quoted(name),
                value(comparison, name)
            )
        })
        .collect();
    let differs: Vec<String> = difference
        .changed_by_column
        .keys()
        .map(|it| format!("l.{0}::text IS DISTINCT FROM s.{0}::text", quoted(it)))
        .collect();
    format!(
        "-- Put back the backup's values of changed rows:\n-- UPDATE {live} l SET\n{}\n-- FROM {staged} s \
         WHERE {is_same}\n--     AND ({});\n",
        set.join(",\n"),
        differs.join(" OR ")
    )
}

/// A name may have a newline, and end the comment.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}
