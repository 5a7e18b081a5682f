//! Asks the restored database for its state; `checks::state` judges.

use std::time::{Duration, Instant};

use shared::archive::quote_ident;
use shared::database_url::DatabaseUrl;
use shared::pg::{Connection, PgError, Row};

use crate::checks::state::{Constraint, OwnedSequence, State};

const STALL: Duration = Duration::from_secs(60);
/// `pg_database.datcollversion` exists from it on.
const COLLATION_VERSIONS: u32 = 150_000;

const OURS: &str = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'";

/// A session that reads only, and gives up at `until`.
pub fn open(target: &DatabaseUrl, until: Instant) -> Result<Connection, PgError> {
    let mut connection = Connection::open(target, STALL)?;
    let left = until.saturating_duration_since(Instant::now());
    let left = left.as_millis().clamp(1, 600_000);
    connection.query(format!(
        "SET default_transaction_read_only = on; SET statement_timeout = {left}; \
         SET client_encoding = 'UTF8'; SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; \
         SET IntervalStyle = 'postgres'; SET bytea_output = 'hex'; SET row_security = off"
    ))?;
    Ok(connection)
}

pub fn state(target: &DatabaseUrl, until: Instant) -> Result<State, PgError> {
    let mut connection = open(target, until)?;
    let connection = &mut connection;
    connection.query("SET search_path = ''")?;
    let mut state = State::default();
    indexes(connection, &mut state)?;
    constraints(connection, &mut state)?;
    for row in connection.query("SELECT extname, extversion FROM pg_extension")? {
        let [name, version] = texts(row);
        state.extensions.insert(name, version);
    }
    matviews(connection, &mut state)?;
    views(connection, &mut state)?;
    sequences(connection, &mut state)?;
    collations(connection, &mut state)?;
    Ok(state)
}

/// Exactly `N` texts; NULL and what is not there are empty.
pub fn texts<const N: usize>(row: Row) -> [String; N] {
    let mut values = row.into_iter();
    std::array::from_fn(|_| {
        let value = values.next().flatten().unwrap_or_default();
        String::from_utf8_lossy(&value).into_owned()
    })
}

fn indexes(connection: &mut Connection, state: &mut State) -> Result<(), PgError> {
    let rows = connection.query(format!(
        "SELECT n.nspname || '.' || c.relname, i.indisvalid AND i.indisready
         FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
         JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {OURS} ORDER BY 1"
    ))?;
    state.indexes = rows.len() as u64;
    for row in rows {
        let [name, is_valid] = texts(row);
        if is_valid != "t" {
            state.invalid_indexes.push(name);
        }
    }
    Ok(())
}

fn constraints(connection: &mut Connection, state: &mut State) -> Result<(), PgError> {
    let rows = connection.query(format!(
        "SELECT coalesce(conrelid::regclass::text, ''), conname, convalidated
         FROM pg_constraint JOIN pg_namespace n ON n.oid = connamespace WHERE {OURS} ORDER BY 1, 2"
    ))?;
    state.constraints = rows.len() as u64;
    for row in rows {
        let [table, name, is_validated] = texts(row);
        if is_validated != "t" {
            state.invalid_constraints.push(Constraint { table, name });
        }
    }
    Ok(())
}

fn matviews(connection: &mut Connection, state: &mut State) -> Result<(), PgError> {
    let rows = connection.query(format!(
        "SELECT n.nspname || '.' || relname, relispopulated
         FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
         WHERE relkind = 'm' AND {OURS} ORDER BY 1"
    ))?;
    state.matviews = rows.len() as u64;
    for row in rows {
        let [name, is_populated] = texts(row);
        if is_populated != "t" {
            state.unpopulated.push(name);
        }
    }
    Ok(())
}

/// A view is parsed when it is made, and its functions only when it is planned.
fn views(connection: &mut Connection, state: &mut State) -> Result<(), PgError> {
    let rows = connection.query(format!(
        "SELECT n.nspname, relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
         WHERE relkind = 'v' AND {OURS} AND NOT EXISTS (SELECT FROM pg_depend
             WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e')
         ORDER BY 1, 2"
    ))?;
    state.views = rows.len() as u64;
    for row in rows {
        let [schema, name] = texts(row);
        let view = qualified(&schema, &name);
        match connection.query(format!("EXPLAIN SELECT * FROM {view}")) {
            Ok(_) => {}
            Err(PgError::Server(error)) if !is_about_time(&error.code) => {
                let says = error.without_values().to_string();
                state.broken_views.push((format!("{schema}.{name}"), says));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Cancelled or shut down: it says nothing of what was asked.
pub fn is_about_time(code: &str) -> bool {
    code.starts_with("57") || code.starts_with("53") || code.starts_with("08")
}

/// Sequences that fill a column: owned by it, or named by its default.
const SEQUENCES: &str = "
    SELECT DISTINCT sn.nspname, s.relname, tn.nspname, t.relname, a.attname, q.seqincrement > 0
    FROM (
        SELECT objid AS seq, refobjid AS rel, refobjsubid AS col FROM pg_depend
        WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_class'::regclass
          AND deptype IN ('a', 'i') AND refobjsubid > 0
        UNION
        SELECT p.refobjid, d.adrelid, d.adnum FROM pg_depend p
        JOIN pg_attrdef d ON d.oid = p.objid
        WHERE p.classid = 'pg_attrdef'::regclass AND p.refclassid = 'pg_class'::regclass
    ) AS fills
    JOIN pg_class s ON s.oid = seq AND s.relkind = 'S'
    JOIN pg_namespace sn ON sn.oid = s.relnamespace
    JOIN pg_sequence q ON q.seqrelid = s.oid AND NOT q.seqcycle
    JOIN pg_class t ON t.oid = rel AND t.relkind IN ('r', 'p')
    JOIN pg_namespace tn ON tn.oid = t.relnamespace
    JOIN pg_attribute a ON a.attrelid = rel AND a.attnum = col
        AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
    WHERE tn.nspname !~ '^pg_' ORDER BY 1, 2, 3, 4, 5";

fn sequences(connection: &mut Connection, state: &mut State) -> Result<(), PgError> {
    for row in connection.query(SEQUENCES)? {
        let [schema, name, table_schema, table, column, ascends] = texts(row);
        let ascends = ascends == "t";
        let extreme = if ascends { "max" } else { "min" };
        let quoted_column = quoted(&column);
        let of_table = qualified(&table_schema, &table);
        let farthest = connection.query(format!(
            "SELECT {extreme}({quoted_column})::text FROM {of_table}"
        ))?;
        let of_sequence = qualified(&schema, &name);
        let now = connection.query(format!(
            "SELECT last_value::text, is_called FROM {of_sequence}"
        ))?;
        let [farthest] = farthest.into_iter().next().map(texts).unwrap_or_default();
        let [last_value, is_called] = now.into_iter().next().map(texts).unwrap_or_default();
        state.sequences.push(OwnedSequence {
            name: format!("{schema}.{name}"),
            column: format!("{table_schema}.{table}.{column}"),
            ascends,
            last_value: last_value.parse().unwrap_or_default(),
            is_called: is_called == "t",
            farthest: farthest.parse().ok(),
        });
    }
    Ok(())
}

fn collations(connection: &mut Connection, state: &mut State) -> Result<(), PgError> {
    let rows = connection.query(
        "SELECT n.nspname || '.' || collname FROM pg_collation JOIN pg_namespace n ON n.oid = collnamespace
         WHERE n.nspname <> 'pg_catalog' AND collversion IS DISTINCT FROM pg_collation_actual_version(pg_collation.oid)",
    )?;
    state.collations = rows
        .into_iter()
        .map(|row| texts::<1>(row).concat())
        .collect();
    let server = connection.query_value("SHOW server_version_num")?;
    if server.parse::<u32>().unwrap_or_default() >= COLLATION_VERSIONS {
        let version = connection.query_value(
            "SELECT coalesce(datcollversion, '') FROM pg_database WHERE datname = current_database()",
        )?;
        state.collation_version = Some(version).filter(|it| !it.is_empty());
    }
    Ok(())
}

pub fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", quoted(schema), quoted(name))
}

pub fn quoted(name: &str) -> String {
    String::from_utf8_lossy(&quote_ident(name.as_bytes())).into_owned()
}
