//! The one connection whose snapshot and locks everything rests on.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use shared::pg::{Connection, PgError};

use crate::catalog::{self, Snapshot};
use crate::error::DumpError;

/// Every transaction of the run.
pub const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";
/// All locks together have to be had within this.
const LOCK_BUDGET: Duration = Duration::from_secs(60);
const LOCK_PAUSE: Duration = Duration::from_millis(500);

/// Locks every table, and only then fixes the snapshot: what is locked can no longer be
/// rewritten, so what the snapshot shows stays readable.
///
/// Never queues: a lock that somebody holds is waited for outside, with nothing held, so the
/// dump takes part in no deadlock and blocks nobody behind it.
pub fn begin(connection: &mut Connection) -> Result<(Snapshot, HashSet<u32>), DumpError> {
    let started = Instant::now();
    loop {
        let tables = catalog::tables_to_lock(connection)?;
        connection.query(BEGIN).map_err(lost)?;
        match lock(connection, tables.iter().map(|it| it.1.as_slice())) {
            Ok(()) => {
                let snapshot = catalog::export_snapshot(connection)?;
                return Ok((snapshot, tables.iter().map(|it| it.0).collect()));
            }
            Err(PgError::Server(error)) if is_conflict(&error.code) => {
                connection.query("ROLLBACK").map_err(lost)?;
                if started.elapsed() > LOCK_BUDGET {
                    let holder = holder(connection)?;
                    let waited = started.elapsed();
                    return Err(DumpError::Locked { waited, holder });
                }
                std::thread::sleep(LOCK_PAUSE);
            }
            Err(PgError::Server(error)) if error.code == "53200" => {
                return Err(DumpError::LockTableFull {
                    said: error.message,
                });
            }
            Err(source) => {
                return Err(DumpError::Query {
                    doing: "for its tables' locks",
                    source,
                });
            }
        }
    }
}

/// Locks tables that appeared between the listing and the snapshot. `false` when one cannot
/// be had: the transaction is over, and a new one has to begin.
pub fn lock_more<'a>(
    connection: &mut Connection,
    tables: impl Iterator<Item = &'a [u8]>,
) -> Result<bool, DumpError> {
    match lock(connection, tables) {
        Ok(()) => Ok(true),
        Err(PgError::Server(error)) if is_conflict(&error.code) => Ok(false),
        Err(source) => Err(DumpError::Query {
            doing: "for more locks",
            source,
        }),
    }
}

pub fn rollback(connection: &mut Connection) -> Result<(), DumpError> {
    connection.query("ROLLBACK").map(drop).map_err(lost)
}

/// Proves that snapshot and locks were held until now.
pub fn is_alive(connection: &mut Connection) -> Result<(), DumpError> {
    connection
        .query("SELECT 1")
        .map(drop)
        .map_err(DumpError::CoordinatorLost)
}

fn lock<'a>(
    connection: &mut Connection,
    tables: impl Iterator<Item = &'a [u8]>,
) -> Result<(), PgError> {
    let tables: Vec<Vec<u8>> = tables.map(|it| [b"ONLY ", it].concat()).collect();
    if tables.is_empty() {
        return Ok(());
    }
    let sql = [
        b"LOCK TABLE ",
        &tables.join(&b", "[..])[..],
        b" IN ACCESS SHARE MODE NOWAIT",
    ];
    connection.query(sql.concat()).map(drop)
}

/// Somebody holds it; or it is gone since it was listed.
fn is_conflict(code: &str) -> bool {
    matches!(code, "55P03" | "42P01" | "3F000" | "40P01")
}

/// Who holds an exclusive lock on a table, for the message.
fn holder(connection: &mut Connection) -> Result<String, DumpError> {
    let rows = connection.query(
        "SELECT format('server process %s holds %s (%s)', l.pid, l.relation::regclass,
                coalesce(upper(substring(a.query FROM '^\\s*(\\w+\\s+\\w+)')), 'unknown'))
         FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
         WHERE l.granted AND l.mode = 'AccessExclusiveLock' AND l.locktype = 'relation'
           AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
         ORDER BY a.xact_start LIMIT 3",
    );
    let rows = rows.map_err(|source| DumpError::Query {
        doing: "who holds locks",
        source,
    })?;
    let names: Vec<String> = rows
        .into_iter()
        .map(|row| catalog::Values::of(row).text())
        .collect();
    Ok(if names.is_empty() {
        "the holder is gone by now".to_owned()
    } else {
        names.join(", ")
    })
}

/// Whoever has waited longer than `patience` for a lock of one of `ours`.
pub fn blocked_session(
    connection: &mut Connection,
    ours: &[i32],
    patience: Duration,
) -> Result<Option<DumpError>, PgError> {
    let ours: Vec<String> = ours.iter().map(i32::to_string).collect();
    let rows = connection.query(format!(
        "SELECT l.pid, coalesce(upper(substring(a.query FROM '^\\s*(\\w+\\s+\\w+)')), 'unknown'),
                extract(epoch FROM clock_timestamp() - l.waitstart)::bigint
         FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
         WHERE NOT l.granted AND l.waitstart < clock_timestamp() - interval '{} s'
           AND pg_blocking_pids(l.pid) && '{{{}}}'::int[]
         LIMIT 1",
        patience.as_secs(),
        ours.join(",")
    ))?;
    Ok(rows.into_iter().next().map(|row| {
        let mut row = catalog::Values::of(row);
        DumpError::Yielded {
            pid: row.text(),
            query: row.text(),
            seconds: row.number(),
        }
    }))
}

fn lost(source: PgError) -> DumpError {
    DumpError::CoordinatorLost(source)
}
