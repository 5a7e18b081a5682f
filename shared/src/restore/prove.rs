//! Reads the target back: rows and fingerprints under the settings that define them.

use std::convert::Infallible;

use serde::{Deserialize, Serialize};

use super::ask::Fields;
use super::jobs::Job;
use super::large_objects;
use super::ledger::Numbers;
use super::run::{Context, Failure};
use super::statements::qualified;
use super::units::Unit;
use crate::archive::TableOfContents;
use crate::fingerprint::{Fingerprint, RowScanner};
use crate::pg::{Connection, CopyError, PgError};

/// Of a table or a slice of it, or of a group of large objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Found {
    pub(super) rows: u64,
    pub(super) fingerprint: Fingerprint,
    /// Why it could not be told, instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) inconclusive: Option<String>,
}

/// The value of a sequence, by its dump id.
pub(super) type Values = Vec<(i32, i64, bool)>;
/// Blocks of a table, by its dump id.
pub(super) type Sizes = Vec<(u32, u64)>;

fn json(found: &impl Serialize) -> Option<String> {
    serde_json::to_string(found).ok()
}

/// What reads the rows of one slice. `blocks` are those of the main fork when the proof began.
pub(super) fn query(unit: &Unit, slice: u32, blocks: u64) -> Vec<u8> {
    let (columns, relation) = (&unit.columns[..], &unit.relation[..]);
    let to = match &unit.encoding {
        Some(encoding) => format!(" TO STDOUT WITH (ENCODING '{encoding}')"),
        None => " TO STDOUT".to_owned(),
    };
    let is_plain = !unit.is_root && unit.condition.is_none() && unit.slices == 1;
    if is_plain {
        let columns = if columns.is_empty() {
            Vec::new()
        } else {
            [b" (", columns, b")"].concat()
        };
        return [b"COPY ", relation, &columns, to.as_bytes()].concat();
    }
    let only: &[u8] = if unit.is_root { b"" } else { b"ONLY " };
    let condition = match &unit.condition {
        Some(condition) => condition.clone(),
        None if unit.slices == 1 => String::new(),
        None => {
            let (slice, slices) = (u64::from(slice), u64::from(unit.slices));
            let from = slice * blocks / slices;
            let end = (slice + 1) * blocks / slices;
            // The last has no upper end.
            if slice + 1 < slices {
                format!("WHERE ctid >= '({from},0)' AND ctid < '({end},0)'")
            } else {
                format!("WHERE ctid >= '({from},0)'")
            }
        }
    };
    [
        b"COPY (SELECT ",
        columns,
        b" FROM ",
        only,
        relation,
        b" ",
        condition.as_bytes(),
        b")",
        to.as_bytes(),
    ]
    .concat()
}

/// Leaves the transaction open, as everything here: the caller commits it with the record.
pub(super) fn table(
    context: &Context,
    connection: &mut Connection,
    job: &Job,
    (unit, slice): (&Unit, u32),
) -> Result<Numbers, Failure> {
    let blocks = context.sizes().into_iter().find(|it| it.0 == unit.dump_id);
    let blocks = blocks.map_or(0, |it| it.1);
    let begin = context.ledger.begin(job);
    let sql = [begin.as_bytes(), &query(unit, slice, blocks)].concat();
    let mut rows = RowScanner::default();
    let read = connection.copy_out(&sql, |piece, ends_row| {
        rows.push_row(piece, ends_row);
        Ok::<_, Infallible>(())
    });
    match read {
        Ok(()) => {}
        // Row-level security would hide rows: what could not be read is not known.
        Err(CopyError::Pg(PgError::Server(error))) if error.code == "42501" => {
            return inconclusive(context, connection, job, (unit, &error.message));
        }
        Err(CopyError::Pg(source)) => return Err(Failure::of(source)),
        Err(CopyError::Receiver(never) | CopyError::Giver(never)) => match never {},
    }
    let totals = rows
        .finish()
        .ok_or_else(|| Failure::Internal("a row without an end".to_owned()))?;
    let found = Found {
        rows: totals.rows,
        fingerprint: totals.fingerprint,
        inconclusive: None,
    };
    Ok(Numbers {
        copy_bytes: totals.copy_bytes,
        found: json(&found),
        ..Numbers::default()
    })
}

fn inconclusive(
    context: &Context,
    connection: &mut Connection,
    job: &Job,
    (unit, reason): (&Unit, &str),
) -> Result<Numbers, Failure> {
    let sql = format!("ROLLBACK; {}", context.ledger.begin(job));
    connection.query(sql).map_err(Failure::of)?;
    let found = Found {
        rows: 0,
        fingerprint: Fingerprint::default(),
        inconclusive: Some(format!(
            "{}.{} could not be read back: {reason}; restore as a role that may read all of its rows (BYPASSRLS, where row-level security is in the way)",
            unit.display.schema, unit.display.name
        )),
    };
    Ok(Numbers {
        found: json(&found),
        ..Numbers::default()
    })
}

pub(super) fn sizes(
    context: &Context,
    connection: &mut Connection,
    job: &Job,
    units: &[&Unit],
) -> Result<Numbers, Failure> {
    connection
        .query(context.ledger.begin(job))
        .map_err(Failure::of)?;
    let mut sizes = Sizes::new();
    for unit in units {
        // Not a string: the name is in the database's own encoding.
        let relation = unit.relation.split(|it| *it == b'\'').collect::<Vec<_>>();
        let relation = relation.join(&b"\'\'"[..]);
        let sql = [
            b"SELECT pg_relation_size('",
            &relation[..],
            b"'::regclass) / current_setting('block_size')::bigint",
        ];
        let blocks = connection.query_value(sql.concat()).map_err(Failure::of)?;
        sizes.push((unit.dump_id, blocks.parse().unwrap_or_default()));
    }
    Ok(Numbers {
        found: json(&sizes),
        ..Numbers::default()
    })
}

pub(super) fn sequences(
    context: &Context,
    connection: &mut Connection,
    job: &Job,
    (toc, places): (&TableOfContents, &[usize]),
) -> Result<Numbers, Failure> {
    connection
        .query(context.ledger.begin(job))
        .map_err(Failure::of)?;
    let mut values = Values::new();
    let queries: Vec<Vec<u8>> = places
        .iter()
        .map(|place| {
            let entry = &toc.entries[*place];
            let id = entry.dump_id.to_string();
            [
                b"SELECT ",
                id.as_bytes(),
                b", last_value, is_called FROM ",
                &qualified(entry),
            ]
            .concat()
        })
        .collect();
    if !queries.is_empty() {
        let sql = queries.join(&b" UNION ALL "[..]);
        for row in connection.query(sql).map_err(Failure::of)? {
            let mut row = Fields::of(Some(row));
            let id = row.text().parse().unwrap_or_default();
            values.push((id, row.text().parse().unwrap_or_default(), row.flag()));
        }
    }
    Ok(Numbers {
        found: json(&values),
        ..Numbers::default()
    })
}

pub(super) fn large_objects(
    context: &Context,
    connection: &mut Connection,
    job: &Job,
    oids: &[u32],
) -> Result<Numbers, Failure> {
    connection
        .query(context.ledger.begin(job))
        .map_err(Failure::of)?;
    let (rows, bytes, fingerprint) = large_objects::read(connection, oids)?;
    let found = Found {
        rows,
        fingerprint,
        inconclusive: None,
    };
    Ok(Numbers {
        copy_bytes: bytes,
        found: json(&found),
        ..Numbers::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::QualifiedName;

    fn unit() -> Unit {
        Unit {
            dump_id: 7,
            display: QualifiedName {
                schema: "app".to_owned(),
                name: "t".to_owned(),
            },
            relation: b"\"app\".\"t\"".to_vec(),
            columns: b"\"id\", \"x\"".to_vec(),
            is_root: false,
            condition: None,
            encoding: None,
            rows: 0,
            fingerprint: Fingerprint::default(),
            copy_bytes: 0,
            slices: 1,
        }
    }

    #[test]
    fn rows_are_read_whole_in_slices_at_the_root_or_by_condition() {
        let sliced = |slice| {
            query(
                &Unit {
                    slices: 2,
                    ..unit()
                },
                slice,
                9,
            )
        };
        let root = Unit {
            is_root: true,
            ..unit()
        };
        let condition = Unit {
            condition: Some("WHERE NOT standard".to_owned()),
            ..unit()
        };
        let empty = Unit {
            columns: Vec::new(),
            ..unit()
        };
        for (sql, expected) in [
            (
                query(&unit(), 0, 9),
                "COPY \"app\".\"t\" (\"id\", \"x\") TO STDOUT",
            ),
            (query(&empty, 0, 9), "COPY \"app\".\"t\" TO STDOUT"),
            (
                sliced(0),
                "COPY (SELECT \"id\", \"x\" FROM ONLY \"app\".\"t\" WHERE ctid >= '(0,0)' AND ctid < '(4,0)') TO STDOUT",
            ),
            (
                sliced(1),
                "COPY (SELECT \"id\", \"x\" FROM ONLY \"app\".\"t\" WHERE ctid >= '(4,0)') TO STDOUT",
            ),
            (
                query(&root, 0, 9),
                "COPY (SELECT \"id\", \"x\" FROM \"app\".\"t\" ) TO STDOUT",
            ),
            (
                query(&condition, 0, 9),
                "COPY (SELECT \"id\", \"x\" FROM ONLY \"app\".\"t\" WHERE NOT standard) TO STDOUT",
            ),
        ] {
            assert_eq!(String::from_utf8_lossy(&sql), expected);
        }
    }
}
