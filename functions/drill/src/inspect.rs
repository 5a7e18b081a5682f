//! Asks the restored database for its state; `checks::state` judges.

use std::time::Instant;

use shared::checks::session::{Session, Unanswered, qualified, quoted, texts};
use shared::database_url::DatabaseUrl;
use shared::pg::PgError;

use crate::checks::CheckCode;
use crate::checks::state::{Constraint, OwnedSequence, State};

/// `pg_database.datcollversion` exists from it on.
const COLLATION_VERSIONS: u32 = 150_000;
/// Constraints that are never enforced, and so never validated, exist from it on.
const NOT_ENFORCED: u32 = 180_000;

const OURS: &str = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'";

type Part = fn(&mut Session, &mut State) -> Result<(), Unanswered>;

/// What each check looks at. Each is asked on its own: what one cannot be told keeps no other
/// from being told.
const PARTS: [(CheckCode, Part); 7] = [
    (CheckCode::ExtensionVersions, extensions),
    (CheckCode::IndexesValid, indexes),
    (CheckCode::ConstraintsValid, constraints),
    (CheckCode::MatviewsPopulated, matviews),
    (CheckCode::Collations, collations),
    (CheckCode::ViewsCompile, views),
    (CheckCode::SequencesAhead, sequences),
];

pub fn state(target: &DatabaseUrl, until: Instant) -> Result<State, PgError> {
    let mut session = Session::new(target, until, Some("''"));
    let mut state = State::default();
    for (code, part) in PARTS {
        if let Err(unanswered) = part(&mut session, &mut state) {
            state.unanswered.insert(code, unanswered.here()?);
        }
    }
    Ok(state)
}

fn extensions(session: &mut Session, state: &mut State) -> Result<(), Unanswered> {
    for row in session.ask("SELECT extname, extversion FROM pg_catalog.pg_extension")? {
        let [name, version] = texts(row);
        state.extensions.insert(name, version);
    }
    Ok(())
}

fn indexes(session: &mut Session, state: &mut State) -> Result<(), Unanswered> {
    let rows = session.ask(format!(
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

/// Of a partition or an inheriting table, the constraint is looked at where it is written.
fn constraints(session: &mut Session, state: &mut State) -> Result<(), Unanswered> {
    let enforced = if server_version(session)? >= NOT_ENFORCED {
        "AND conenforced"
    } else {
        ""
    };
    let rows = session.ask(format!(
        "SELECT n.nspname, coalesce(c.relname, t.typname, ''), conname, convalidated
         FROM pg_constraint o JOIN pg_namespace n ON n.oid = o.connamespace
         LEFT JOIN pg_class c ON c.oid = o.conrelid LEFT JOIN pg_type t ON t.oid = o.contypid
         WHERE {OURS} AND o.conislocal AND o.conparentid = 0 {enforced} ORDER BY 1, 2, 3"
    ))?;
    state.constraints = rows.len() as u64;
    for row in rows {
        let [schema, table, name, is_validated] = texts(row);
        if is_validated != "t" {
            state.invalid_constraints.push(Constraint {
                schema,
                table,
                name,
            });
        }
    }
    Ok(())
}

fn server_version(session: &mut Session) -> Result<u32, Unanswered> {
    let number = session.ask_value("SHOW server_version_num")?;
    Ok(number.parse().unwrap_or_default())
}

fn matviews(session: &mut Session, state: &mut State) -> Result<(), Unanswered> {
    let rows = session.ask(format!(
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
fn views(session: &mut Session, state: &mut State) -> Result<(), Unanswered> {
    let rows = session.ask(format!(
        "SELECT n.nspname, relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
         WHERE relkind = 'v' AND {OURS} AND NOT EXISTS (SELECT FROM pg_depend
             WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e')
         ORDER BY 1, 2"
    ))?;
    state.views = rows.len() as u64;
    for row in rows {
        let [schema, name] = texts(row);
        let view = qualified(&schema, &name);
        match session.ask(format!("EXPLAIN SELECT * FROM {view}")) {
            Ok(_) => {}
            Err(Unanswered::Refused(error)) => {
                let says = error.without_values().to_string();
                state.broken_views.push((format!("{schema}.{name}"), says));
            }
            Err(Unanswered::Here(why_not)) => {
                let why_not = format!("{schema}.{name}: {why_not}");
                state.unanswered.insert(CheckCode::ViewsCompile, why_not);
            }
            Err(lost) => return Err(lost),
        }
    }
    Ok(())
}

/// Sequences that fill a column: owned by it, or named by its default.
const SEQUENCES: &str = "
    SELECT DISTINCT sn.nspname, s.relname, tn.nspname, t.relname, a.attname, q.seqincrement > 0,
        EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass
            AND e.objid = s.oid AND e.deptype = 'e')
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

fn sequences(session: &mut Session, state: &mut State) -> Result<(), Unanswered> {
    for row in session.ask(SEQUENCES)? {
        match sequence(session, texts(row)) {
            Ok(sequence) => state.sequences.push(sequence),
            // The largest value of a column without an index takes a look at every row.
            Err(Unanswered::Here(why_not)) => {
                state.unanswered.insert(CheckCode::SequencesAhead, why_not);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn sequence(session: &mut Session, of: [String; 7]) -> Result<OwnedSequence, Unanswered> {
    let [
        schema,
        name,
        table_schema,
        table,
        column,
        ascends,
        of_extension,
    ] = of;
    let ascends = ascends == "t";
    let extreme = if ascends { "max" } else { "min" };
    let (quoted_column, of_table) = (quoted(&column), qualified(&table_schema, &table));
    let farthest = session.ask(format!(
        "SELECT {extreme}({quoted_column})::text FROM {of_table}"
    ))?;
    let of_sequence = qualified(&schema, &name);
    let now = session.ask(format!(
        "SELECT last_value::text, is_called FROM {of_sequence}"
    ))?;
    let [farthest] = farthest.into_iter().next().map(texts).unwrap_or_default();
    let [last_value, is_called] = now.into_iter().next().map(texts).unwrap_or_default();
    Ok(OwnedSequence {
        name: format!("{schema}.{name}"),
        column: format!("{table_schema}.{table}.{column}"),
        ascends,
        of_extension: of_extension == "t",
        last_value: last_value.parse().unwrap_or_default(),
        is_called: is_called == "t",
        farthest: farthest.parse().ok(),
    })
}

fn collations(session: &mut Session, state: &mut State) -> Result<(), Unanswered> {
    let rows = session.ask(
        "SELECT n.nspname || '.' || collname FROM pg_collation JOIN pg_namespace n ON n.oid = collnamespace
         WHERE n.nspname <> 'pg_catalog' AND collversion IS DISTINCT FROM pg_collation_actual_version(pg_collation.oid)",
    )?;
    state.collations = rows
        .into_iter()
        .map(|row| texts::<1>(row).concat())
        .collect();
    if server_version(session)? >= COLLATION_VERSIONS {
        let version = session.ask_value(
            "SELECT coalesce(datcollversion, '') FROM pg_database WHERE datname = current_database()",
        )?;
        state.collation_version = Some(version).filter(|it| !it.is_empty());
    }
    Ok(())
}
