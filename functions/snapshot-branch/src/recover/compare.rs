//! What changed since the point: the branch of the point, which production is now, against a
//! branch of what was kept. So neither production nor what is kept is burdened, and what is
//! written after the recovery does not count.
//!
//! Bounded: both sides sort and hash on their own computes; of each row only key and digest come
//! here, in one pass. What does not fit into the time is told as not compared.

use std::convert::Infallible;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use shared::checks::session::texts;
use shared::database_url::DatabaseUrl;
use shared::pg::{Connection, CopyError, PgError, pin_reading};

use super::difference::{Difference, How, Keyed, Table, TableDifference, Tables, merge, pair};
use super::error::RecoveryError;

/// A compute that sleeps has to wake first.
const SETTLING: Duration = Duration::from_secs(60);
/// The server's own word of a time that is up comes before ours.
const GRACE: Duration = Duration::from_secs(5);
/// With less, nothing is begun any more.
const LEAST: Duration = Duration::from_secs(1);
/// Rows in between the two that are read.
const QUEUE: usize = 4_096;
const NO_TIME: &str = "not compared: there was no time left";

/// Partitions are compared through their root.
const TABLES: &str = "
    SELECT n.nspname, c.relname, coalesce(a.attname, ''),
           coalesce(format_type(a.atttypid, a.atttypmod), ''), coalesce(k.place::text, ''),
           c.relkind = 'p', c.relpersistence = 'u', greatest(c.relpages, 0)
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_attribute a
           ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_catalog.pg_index i ON i.indrelid = c.oid AND i.indisprimary
    LEFT JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, place)
           ON k.attnum = a.attnum AND k.place <= i.indnkeyatts
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
      AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    ORDER BY 1, 2, a.attnum";

/// Blocks. Of lost connections only is it an error.
pub(super) fn compare(
    then: &DatabaseUrl,
    kept: &DatabaseUrl,
    until: Instant,
) -> Result<Difference, RecoveryError> {
    let database = |source| RecoveryError::Database {
        doing: "compare two branches, table by table",
        source,
    };
    let mut sides = Sides {
        then: open(then, until).map_err(database)?,
        kept: open(kept, until).map_err(database)?,
        until,
    };
    let (then, kept) = (tables(&mut sides.then), tables(&mut sides.kept));
    let pairs = pair(&then.map_err(database)?, &kept.map_err(database)?);
    let mut tables = Vec::new();
    for (mut table, how) in pairs {
        sides.compare(&mut table, &how).map_err(database)?;
        tables.push(table);
    }
    Ok(Difference { tables })
}

fn open(url: &DatabaseUrl, until: Instant) -> Result<Connection, PgError> {
    let left = until.saturating_duration_since(Instant::now());
    let mut connection = Connection::open(url, SETTLING.min(left + GRACE))?;
    let version = connection.query_value("SHOW server_version_num")?;
    connection.query(pin_reading(version.parse().unwrap_or_default(), "UTF8"))?;
    Ok(connection)
}

fn tables(connection: &mut Connection) -> Result<Tables, PgError> {
    let mut tables = Tables::new();
    let mut keys: Vec<((String, String), usize, String)> = Vec::new();
    for row in connection.query(TABLES)? {
        let [
            schema,
            name,
            column,
            kind,
            place,
            partitioned,
            unlogged,
            pages,
        ] = texts(row);
        let name = (schema, name);
        let table = tables.entry(name.clone()).or_insert_with(|| Table {
            is_partitioned: partitioned == "t",
            is_unlogged: unlogged == "t",
            pages: pages.parse().unwrap_or_default(),
            ..Table::default()
        });
        if column.is_empty() {
            continue;
        }
        if let Ok(place) = place.parse() {
            keys.push((name, place, column.clone()));
        }
        table.columns.push((column, kind));
    }
    keys.sort();
    for (name, _, column) in keys {
        if let Some(table) = tables.get_mut(&name) {
            table.key.push(column);
        }
    }
    Ok(tables)
}

struct Sides {
    then: Connection,
    kept: Connection,
    until: Instant,
}

impl Sides {
    /// What a server refuses or has no time for is told of the table.
    fn compare(&mut self, table: &mut TableDifference, how: &How) -> Result<(), PgError> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left < LEAST {
            table.note = Some(NO_TIME.to_owned());
            return Ok(());
        }
        for connection in [&mut self.then, &mut self.kept] {
            connection.set_timeouts(left + GRACE)?;
            connection.query(format!("SET statement_timeout = {}", left.as_millis()))?;
        }
        let compared = match how {
            How::ByKey(sql) => self.by_key(table, sql),
            How::AsAWhole(sql) => self.as_a_whole(table, sql),
            How::OnlyThen(sql) => number(&mut self.then, sql).map(|rows| {
                (table.added, table.gone, table.changed) = (Some(0), Some(rows), Some(0));
            }),
            How::OnlyKept(sql) => number(&mut self.kept, sql).map(|rows| {
                (table.added, table.gone, table.changed) = (Some(rows), Some(0), Some(0));
            }),
            How::NotAtAll(why) => {
                table.note = Some((*why).to_owned());
                Ok(())
            }
        };
        match compared {
            Err(PgError::Server(error)) if error.code == "57014" => {
                table.note = Some(NO_TIME.to_owned());
                Ok(())
            }
            Err(PgError::Server(error)) if !error.code.starts_with("57P") => {
                table.note = Some(format!("not compared: {}", error.without_values()));
                Ok(())
            }
            compared => compared,
        }
    }

    fn by_key(&mut self, table: &mut TableDifference, sql: &str) -> Result<(), PgError> {
        let (send_then, then) = sync_channel(QUEUE);
        let (send_kept, kept) = sync_channel(QUEUE);
        let (one, other) = (&mut self.then, &mut self.kept);
        let counts = std::thread::scope(|scope| {
            let one = scope.spawn(move || stream(one, sql, &send_then));
            let other = scope.spawn(move || stream(other, sql, &send_kept));
            let counts = merge(then.into_iter(), kept.into_iter());
            // A stream that broke off looks like one that ended.
            for ended in [one.join(), other.join()] {
                ended.unwrap_or(Err(PgError::Protocol("a reading thread ended early")))?;
            }
            Ok::<_, PgError>(counts)
        });
        table.count(counts?);
        Ok(())
    }

    fn as_a_whole(&mut self, table: &mut TableDifference, sql: &str) -> Result<(), PgError> {
        let [then, kept] = [&mut self.then, &mut self.kept].map(|it| it.query(sql));
        let fingerprint =
            |rows: Vec<_>| -> [String; 2] { texts(rows.into_iter().next().unwrap_or_default()) };
        let (then, kept) = (fingerprint(then?), fingerprint(kept?));
        let note = table.note.take().unwrap_or_default();
        if then == kept {
            (table.added, table.gone, table.changed) = (Some(0), Some(0), Some(0));
        } else {
            table.is_unlike = true;
            table.note = Some(format!(
                "{note}: it had {} rows then and {} when it was kept, and they differ",
                then[0], kept[0]
            ));
        }
        Ok(())
    }
}

fn number(connection: &mut Connection, sql: &str) -> Result<u64, PgError> {
    let value = connection.query_value(sql)?;
    Ok(value.parse().unwrap_or_default())
}

/// Hands over the rows of a copy, one by one.
fn stream(connection: &mut Connection, sql: &str, rows: &SyncSender<Keyed>) -> Result<(), PgError> {
    let mut line = Vec::new();
    let read = connection.copy_out(sql.as_bytes(), |piece, ends_row| {
        line.extend_from_slice(piece);
        if ends_row {
            // Nobody listens any more only where the other side has failed, which is told there.
            let _gone = rows.send(row(&line));
            line.clear();
        }
        Ok::<_, Infallible>(())
    });
    match read {
        Ok(()) => Ok(()),
        Err(CopyError::Pg(error)) => Err(error),
        Err(CopyError::Receiver(never) | CopyError::Giver(never)) => match never {},
    }
}

/// Neither key nor digest holds anything that COPY would escape.
fn row(line: &[u8]) -> Keyed {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let tab = line.iter().position(|it| *it == b'\t');
    let (key, digest) = line.split_at(tab.unwrap_or(line.len()));
    Keyed {
        key: key.to_vec(),
        digest: digest.to_vec(),
    }
}
