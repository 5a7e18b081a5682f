//! Tables of a backup beside the live ones: what differs, and how a person may merge it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::advance::blocking;
use super::ask::{Fields, literal};
use super::order::table_name;
use super::reader::{Reader, View};
use super::staged::{self, Staged, quoted};
use super::{Backup, Order, RestoreError, Scope, Target, merge};
use crate::manifest::QualifiedName;
use crate::pg::PgError;

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

/// What a comparison may cost the live database.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Keys that are written down for each table and kind of difference.
    pub keys_max: u32,
    /// What is not compared by then, is not.
    pub until: Instant,
    /// Whoever has waited that long for a lock of ours is let through.
    pub yield_after: Duration,
}

/// One live table as it is now.
#[derive(Clone, Debug, Default)]
pub(super) struct Live {
    pub(super) columns: Vec<LiveColumn>,
    pub(super) is_partitioned: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct LiveColumn {
    pub(super) name: String,
    pub(super) data_type: String,
    /// Nobody may write it.
    pub(super) is_generated: bool,
    /// Only an insert may write it, and has to say so.
    pub(super) is_always_identity: bool,
}

impl Live {
    pub(super) fn column(&self, name: &str) -> Option<&LiveColumn> {
        self.columns.iter().find(|it| it.name == name)
    }
}

/// What is compared: key and other columns that both have.
pub(super) struct Comparison<'a> {
    pub(super) staged: &'a Staged<'a>,
    pub(super) live: &'a Live,
    pub(super) schema: &'a str,
    pub(super) key: Vec<String>,
    pub(super) others: Vec<String>,
}

/// Compares by primary key. Changes nothing, and makes nobody wait for long: each table is read
/// in a transaction of its own. What cannot be compared says why.
///
/// # Errors
///
/// A `Transient` one: the connection was lost. No state of a live table is an error.
pub async fn difference(
    backup: &Backup,
    target: &Target,
    order: &Order,
    limits: Limits,
) -> Result<Difference, RestoreError> {
    let (backup, target, order) = (backup.clone(), target.clone(), order.clone());
    blocking(move || compare(&backup, &target, &order, limits)).await
}

fn compare(
    backup: &Backup,
    target: &Target,
    order: &Order,
    limits: Limits,
) -> Result<Difference, RestoreError> {
    let (Scope::Tables(tables), Some(schema)) = (&order.scope, &order.staging_schema) else {
        return Err(RestoreError::Refused(
            "only staged tables are compared with live ones".to_owned(),
        ));
    };
    let mut difference = Difference {
        merge_script: merge::head(&backup.manifest, schema),
        ..Difference::default()
    };
    let mut reader = Reader::open(target, limits)?;
    for staged in staged::find(&backup.manifest, tables)? {
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
        let compared = reader.read(|view| {
            let live = live(view, &staged.live)?;
            let comparison = comparison(&staged, live.as_ref(), schema, &mut table.findings);
            let comparison = match comparison {
                Ok(comparison) => comparison,
                Err(why) => return Ok(Err(why)),
            };
            count(view, &comparison, &mut table)?;
            let keys = keys(view, &comparison, &table, limits.keys_max)?;
            Ok(Ok((keys, merge::table(&comparison, &table))))
        })?;
        match compared {
            Ok((keys, script)) => {
                difference.keys += &keys;
                difference.merge_script += &script;
            }
            Err(why) => {
                difference.merge_script += &merge::not_compared(&staged, schema, &why);
                (table.only_backup, table.only_live, table.changed) = (None, None, None);
                table.changed_by_column.clear();
                table.not_compared = Some(why);
            }
        }
        difference.tables.push(table);
    }
    target.keep(reader.end());
    difference.merge_script += merge::foot();
    Ok(difference)
}

fn live(view: &mut View<'_>, table: &QualifiedName) -> Result<Option<Live>, PgError> {
    let name = format!("{}.{}", quoted(&table.schema), quoted(&table.name));
    let rows = view.query(&format!(
        "SELECT c.relkind = 'p', a.attname, format_type(a.atttypid, a.atttypmod),
                a.attgenerated <> '', a.attidentity = 'a'
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
         WHERE c.oid = to_regclass({}) AND c.relkind IN ('r', 'p') AND a.attnum > 0
           AND NOT a.attisdropped ORDER BY a.attnum",
        literal(&name)
    ))?;
    if rows.is_empty() {
        return Ok(None);
    }
    let mut live = Live::default();
    for row in rows {
        let mut row = Fields::of(Some(row));
        live.is_partitioned = row.flag();
        live.columns.push(LiveColumn {
            name: row.text(),
            data_type: row.text(),
            is_generated: row.flag(),
            is_always_identity: row.flag(),
        });
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
        match live.column(&column.name) {
            None => findings.push(format!(
                "the column {} is gone from the live table",
                column.name
            )),
            Some(found) => {
                if found.data_type != column.data_type {
                    findings.push(format!(
                        "the column {} was {} and is {}",
                        column.name, column.data_type, found.data_type
                    ));
                }
                if found.is_generated {
                    findings.push(format!(
                        "the column {} is computed by the live table: it is compared, and not written",
                        column.name
                    ));
                }
                both.push(column.name.clone());
            }
        }
    }
    for column in live.columns.iter().filter(|it| !it.is_generated) {
        let is_known = staged.columns().iter().any(|it| it.name == column.name);
        if !is_known {
            findings.push(format!(
                "the column {} is new in the live table",
                column.name
            ));
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
    /// since types may differ, and as bytes: a collation may take different texts for equal.
    fn joined(&self) -> String {
        let columns = |prefix: char, names: &[String]| -> String {
            let numbered = names.iter().enumerate();
            let column = |(n, name): (usize, &String)| {
                format!(", {}::text COLLATE \"C\" AS {prefix}{n}", quoted(name))
            };
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
    view: &mut View<'_>,
    comparison: &Comparison<'_>,
    table: &mut TableDifference,
) -> Result<(), PgError> {
    let columns: String = (0..comparison.others.len())
        .map(|n| {
            format!(
                ", count(*) FILTER (WHERE s.here AND l.here AND s.c{n} IS DISTINCT FROM l.c{n})"
            )
        })
        .collect();
    let rows = view.query(&format!(
        "SELECT count(*) FILTER (WHERE l.here IS NULL), count(*) FILTER (WHERE s.here IS NULL),
                count(*) FILTER (WHERE s.here AND l.here AND ({})){columns} FROM {}",
        comparison.differs(),
        comparison.joined()
    ))?;
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

/// Which rows differ, at most `keys_max` of each kind.
fn keys(
    view: &mut View<'_>,
    comparison: &Comparison<'_>,
    table: &TableDifference,
    keys_max: u32,
) -> Result<String, PgError> {
    let mut text = String::new();
    let counts = [table.only_backup, table.only_live, table.changed];
    if counts.iter().all(|it| it.is_none_or(|it| it == 0)) {
        return Ok(text);
    }
    let numbered =
        |piece: fn(usize) -> String| -> String { (0..comparison.key.len()).map(piece).collect() };
    let rows = view.query(&format!(
        "SELECT kind{} FROM (
            SELECT *, row_number() OVER (PARTITION BY kind) AS place FROM (
                SELECT CASE WHEN l.here IS NULL THEN 'only_backup' WHEN s.here IS NULL THEN 'only_live'
                            ELSE 'changed' END AS kind{}
                FROM {} WHERE l.here IS NULL OR s.here IS NULL OR {}
            ) AS differing
         ) AS numbered WHERE place <= {keys_max}",
        numbered(|n| format!(", k{n}")),
        numbered(|n| format!(", coalesce(s.k{n}, l.k{n}) AS k{n}")),
        comparison.joined(),
        comparison.differs(),
    ))?;
    let name = table_name(&comparison.staged.live);
    for row in rows {
        let mut fields = Fields::of(Some(row));
        let kind = fields.text();
        let key: Vec<String> = comparison.key.iter().map(|_| fields.text()).collect();
        let line = serde_json::json!({"table": name, "kind": kind, "key": key});
        text.push_str(&line.to_string());
        text.push('\n');
    }
    Ok(text)
}
