//! Tables of a backup beside the live ones: what differs, and how a person may merge it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::advance::blocking;
use super::ask::{Fields, literal, query};
use super::order::table_name;
use super::staged::{self, Staged, quoted};
use super::{Backup, Order, RestoreError, Scope, merge};
use crate::database_url::DatabaseUrl;
use crate::manifest::QualifiedName;
use crate::pg::{Connection, pin_reading};

/// A comparison reads both tables whole.
const STALL: Duration = Duration::from_secs(3600);

/// How the staged tables differ from the live ones. Counts only; keys are in `keys`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    pub tables: Vec<TableDifference>,
    /// SQL that a person reads, edits and runs. Nothing of it was run.
    #[serde(skip)]
    pub merge_script: String,
    /// One JSON object a line: table, kind (`only_backup`, `only_live`, `changed`), primary
    /// key. Row content, so it belongs into the vault or onto a private disk, never into an
    /// answer or a log.
    #[serde(skip)]
    pub keys: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableDifference {
    pub live: QualifiedName,
    pub staged: QualifiedName,
    /// Why rows could not be compared (live table gone, no primary key, …); the counts are
    /// null then.
    pub not_compared: Option<String>,
    pub only_backup: Option<u64>,
    pub only_live: Option<u64>,
    pub changed: Option<u64>,
    pub changed_by_column: BTreeMap<String, u64>,
    /// What changed about the table itself: columns added, dropped, retyped.
    pub findings: Vec<String>,
}

/// One live table as it is now.
#[derive(Clone, Debug, Default)]
pub(super) struct Live {
    /// Name, type, and whether it may be written.
    pub(super) columns: Vec<(String, String, bool)>,
    pub(super) is_partitioned: bool,
    pub(super) has_always_identity: bool,
}

/// What is compared: key and other columns that both have.
pub(super) struct Comparison<'a> {
    pub(super) staged: &'a Staged<'a>,
    pub(super) live: &'a Live,
    pub(super) schema: &'a str,
    pub(super) key: Vec<String>,
    pub(super) others: Vec<String>,
}

/// Compares by primary key, at most `keys_max` keys for each table and kind of difference.
/// Changes nothing.
pub async fn difference(
    backup: &Backup,
    target: &DatabaseUrl,
    order: &Order,
    keys_max: u32,
) -> Result<Difference, RestoreError> {
    let (backup, target, order) = (backup.clone(), target.clone(), order.clone());
    blocking(move || compare(&backup, &target, &order, keys_max)).await
}

fn compare(
    backup: &Backup,
    target: &DatabaseUrl,
    order: &Order,
    keys_max: u32,
) -> Result<Difference, RestoreError> {
    let (Scope::Tables(tables), Some(schema)) = (&order.scope, &order.staging_schema) else {
        return Err(RestoreError::Refused(
            "only staged tables are compared with live ones".to_owned(),
        ));
    };
    let mut connection = Connection::open(target, STALL).map_err(RestoreError::Connect)?;
    let version = query(&mut connection, "its version", "SHOW server_version_num")?;
    let version = Fields::of(version.into_iter().next()).number();
    let pin = pin_reading(u32::try_from(version).unwrap_or_default(), "UTF8");
    query(&mut connection, "to take our settings", &pin)?;
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";
    query(&mut connection, "for one view of both tables", begin)?;
    let mut difference = Difference {
        merge_script: merge::head(&backup.manifest, schema),
        ..Difference::default()
    };
    for staged in staged::find(&backup.manifest, tables)? {
        let live = live(&mut connection, &staged.live)?;
        let mut table = TableDifference {
            live: staged.live.clone(),
            staged: QualifiedName {
                schema: schema.clone(),
                name: staged.name.clone(),
            },
            not_compared: None,
            only_backup: None,
            only_live: None,
            changed: None,
            changed_by_column: BTreeMap::new(),
            findings: Vec::new(),
        };
        match comparison(&staged, live.as_ref(), schema, &mut table.findings) {
            Ok(comparison) => {
                count(&mut connection, &comparison, &mut table)?;
                keys(&mut connection, &comparison, keys_max, &mut difference.keys)?;
                difference.merge_script += &merge::table(&comparison, &table);
            }
            Err(why) => {
                difference.merge_script += &merge::not_compared(&staged, schema, &why);
                table.not_compared = Some(why);
            }
        }
        difference.tables.push(table);
    }
    query(&mut connection, "to end", "COMMIT")?;
    difference.merge_script += merge::foot();
    Ok(difference)
}

fn live(connection: &mut Connection, table: &QualifiedName) -> Result<Option<Live>, RestoreError> {
    let name = format!("{}.{}", quoted(&table.schema), quoted(&table.name));
    let sql = format!(
        "SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attgenerated = '',
                c.relkind = 'p', a.attidentity = 'a'
         FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
         WHERE c.oid = to_regclass({}) AND c.relkind IN ('r', 'p') AND a.attnum > 0
           AND NOT a.attisdropped ORDER BY a.attnum",
        literal(&name)
    );
    let rows = query(connection, "for the columns of a live table", &sql)?;
    if rows.is_empty() {
        return Ok(None);
    }
    let mut live = Live::default();
    for row in rows {
        let mut row = Fields::of(Some(row));
        live.columns.push((row.text(), row.text(), row.flag()));
        live.is_partitioned = row.flag();
        live.has_always_identity |= row.flag();
    }
    Ok(Some(live))
}

/// Pairs the columns; the error says why rows cannot be compared.
fn comparison<'a>(
    staged: &'a Staged<'a>,
    live: Option<&'a Live>,
    schema: &'a str,
    findings: &mut Vec<String>,
) -> Result<Comparison<'a>, String> {
    let Some(live) = live else {
        return Err(format!(
            "{} does not exist any more",
            table_name(&staged.live)
        ));
    };
    let mut both = Vec::new();
    for column in staged.columns() {
        match live.columns.iter().find(|it| it.0 == column.name) {
            None => findings.push(format!(
                "the column {} is gone from the live table",
                column.name
            )),
            Some((_, live_type, _)) => {
                if *live_type != column.data_type {
                    findings.push(format!(
                        "the column {} was {} and is {live_type}",
                        column.name, column.data_type
                    ));
                }
                both.push(column.name.clone());
            }
        }
    }
    for (name, _, is_written) in &live.columns {
        let is_known = staged.columns().iter().any(|it| it.name == *name);
        if *is_written && !is_known {
            findings.push(format!("the column {name} is new in the live table"));
        }
    }
    let key = staged.tables.first().map(|it| it.primary_key.clone());
    let key = key.unwrap_or_default();
    if key.is_empty() {
        return Err(format!(
            "{} had no primary key to compare by",
            table_name(&staged.live)
        ));
    }
    if let Some(missing) = key.iter().find(|it| !both.contains(it)) {
        return Err(format!(
            "its key column {missing} is gone from the live table"
        ));
    }
    let others = both.into_iter().filter(|it| !key.contains(it)).collect();
    Ok(Comparison {
        staged,
        live,
        schema,
        key,
        others,
    })
}

impl Comparison<'_> {
    pub(super) fn live_relation(&self) -> String {
        let live = &self.staged.live;
        format!("{}.{}", quoted(&live.schema), quoted(&live.name))
    }

    /// Both sides with columns by number: the key as `k0…`, others as `c0…`, all as text,
    /// since types may differ.
    fn joined(&self) -> String {
        let columns = |prefix: char, names: &[String]| -> String {
            let numbered = names.iter().enumerate();
            let column =
                |(n, name): (usize, &String)| format!(", {}::text AS {prefix}{n}", quoted(name));
            numbered.map(column).collect()
        };
        let selected = format!(
            "true AS here{}{}",
            columns('k', &self.key),
            columns('c', &self.others)
        );
        let on: Vec<String> = (0..self.key.len())
            .map(|n| format!("s.k{n} = l.k{n}"))
            .collect();
        let only = if self.live.is_partitioned {
            ""
        } else {
            "ONLY "
        };
        format!(
            "(SELECT {selected} FROM {}) s FULL JOIN (SELECT {selected} FROM {only}{}) l ON {}",
            self.staged.relation(self.schema),
            self.live_relation(),
            on.join(" AND ")
        )
    }

    fn differs(&self) -> String {
        let differs: Vec<String> = (0..self.others.len())
            .map(|n| format!("s.c{n} IS DISTINCT FROM l.c{n}"))
            .collect();
        if differs.is_empty() {
            "false".to_owned()
        } else {
            differs.join(" OR ")
        }
    }
}

fn count(
    connection: &mut Connection,
    comparison: &Comparison<'_>,
    table: &mut TableDifference,
) -> Result<(), RestoreError> {
    let columns: String = (0..comparison.others.len())
        .map(|n| {
            format!(
                ", count(*) FILTER (WHERE s.here AND l.here AND s.c{n} IS DISTINCT FROM l.c{n})"
            )
        })
        .collect();
    let sql = format!(
        "SELECT count(*) FILTER (WHERE l.here IS NULL), count(*) FILTER (WHERE s.here IS NULL),
                count(*) FILTER (WHERE s.here AND l.here AND ({})){columns} FROM {}",
        comparison.differs(),
        comparison.joined()
    );
    let rows = query(connection, "how the tables differ", &sql)?;
    let mut row = Fields::of(rows.into_iter().next());
    table.only_backup = Some(row.number());
    table.only_live = Some(row.number());
    table.changed = Some(row.number());
    for name in &comparison.others {
        let changed = row.number();
        if changed > 0 {
            table.changed_by_column.insert(name.clone(), changed);
        }
    }
    Ok(())
}

fn keys(
    connection: &mut Connection,
    comparison: &Comparison<'_>,
    keys_max: u32,
    out: &mut String,
) -> Result<(), RestoreError> {
    let key: Vec<String> = (0..comparison.key.len())
        .map(|n| format!("coalesce(s.k{n}, l.k{n})"))
        .collect();
    let changed = format!("s.here AND l.here AND ({})", comparison.differs());
    for (kind, condition) in [
        ("only_backup", "l.here IS NULL"),
        ("only_live", "s.here IS NULL"),
        ("changed", &changed),
    ] {
        let sql = format!(
            "SELECT {} FROM {} WHERE {condition} LIMIT {keys_max}",
            key.join(", "),
            comparison.joined()
        );
        for row in query(connection, "which keys differ", &sql)? {
            let mut fields = Fields::of(Some(row));
            let key: Vec<String> = comparison.key.iter().map(|_| fields.text()).collect();
            let table = table_name(&comparison.staged.live);
            let line = serde_json::json!({"table": table, "kind": kind, "key": key});
            out.push_str(&line.to_string());
            out.push('\n');
        }
    }
    Ok(())
}
