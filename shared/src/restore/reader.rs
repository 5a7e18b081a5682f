//! Reading live tables without being in anybody's way.

use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::ask::{Fields, query};
use super::run::lock;
use super::staging::Limits;
use super::{RestoreError, Target};
use crate::error::chain;
use crate::pg::{Cancel, Connection, PgError, Row, pin_reading};

/// Behind a lock that is not ours, nothing is waited for.
const LOCK_TIMEOUT: &str = "2s";
/// A query may be silent until its own timeout, which the server keeps.
const SILENCE_MAX: Duration = Duration::from_secs(6 * 3600);
/// How late the server may be with that.
const GRACE: Duration = Duration::from_secs(10);
/// How often it is looked who waits for us.
const LOOK: Duration = Duration::from_millis(500);

/// One session that reads, and one that watches who waits for it.
#[derive(Debug)]
pub(super) struct Reader {
    /// The first to be dropped.
    watch: Watch,
    connection: Connection,
    limits: Limits,
    /// Why the statement of the moment was cancelled.
    reason: Arc<Mutex<Option<String>>>,
}

impl Reader {
    pub(super) fn open(target: &Target, limits: Limits) -> Result<Self, RestoreError> {
        let left = limits.until.saturating_duration_since(Instant::now());
        let silence = left.min(SILENCE_MAX) + GRACE;
        let (mut connection, others) = target.sessions(silence)?;
        let sql = "SELECT current_setting('server_version_num'), pg_backend_pid()";
        let rows = query(&mut connection, "its version", sql)?;
        let mut row = Fields::of(rows.into_iter().next());
        let version = u32::try_from(row.number()).unwrap_or_default();
        let pid = row.number();
        query(
            &mut connection,
            "to take our settings",
            &pin_reading(version, "UTF8"),
        )?;
        let reason = Arc::default();
        let mut watching = match others.into_iter().next() {
            Some(other) => other,
            None => Connection::open(&target.url, GRACE).map_err(RestoreError::Connect)?,
        };
        watching
            .set_timeouts(GRACE)
            .map_err(RestoreError::Connect)?;
        let watcher = Watcher {
            connection: watching,
            cancel: connection.cancel(&target.url),
            reason: Arc::clone(&reason),
            question: waiting_for(pid, limits.yield_after),
        };
        let (end, ended) = mpsc::channel();
        let watch = std::thread::spawn(move || watcher.watch(&ended));
        Ok(Self {
            watch: Watch(Some((end, watch))),
            connection,
            limits,
            reason,
        })
    }

    /// Reads in a transaction of its own. The inner error says why nothing could be read.
    pub(super) fn read<T>(
        &mut self,
        ask: impl FnOnce(&mut View<'_>) -> Result<Result<T, String>, PgError>,
    ) -> Result<Result<T, String>, RestoreError> {
        if Instant::now() >= self.limits.until {
            return Ok(Err("there was no time left for it".to_owned()));
        }
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"
        );
        *lock(&self.reason) = None;
        query(&mut self.connection, "for one view of both tables", &begin)?;
        let mut view = View {
            connection: &mut self.connection,
            until: self.limits.until,
        };
        let read = match ask(&mut view) {
            Ok(read) => read,
            Err(PgError::Server(error)) if !error.code.starts_with("57P") => {
                let given = lock(&self.reason).take();
                Err(given.unwrap_or_else(|| words(PgError::Server(error))))
            }
            Err(source) => {
                let doing = "how the tables differ";
                return Err(RestoreError::Query { doing, source });
            }
        };
        query(&mut self.connection, "to end", "ROLLBACK")?;
        Ok(read)
    }

    /// The session that has read, unless it may still be cancelled for what it read last.
    pub(super) fn end(self) -> Option<Connection> {
        drop(self.watch);
        let is_cancelled = lock(&self.reason).is_some();
        (!is_cancelled).then_some(self.connection)
    }
}

/// The tables as they are at one moment.
#[derive(Debug)]
pub(super) struct View<'a> {
    connection: &'a mut Connection,
    until: Instant,
}

impl View<'_> {
    /// Of one statement, which the server ends when there is no time left.
    pub(super) fn query(&mut self, sql: &str) -> Result<Vec<Row>, PgError> {
        let left = self.until.saturating_duration_since(Instant::now());
        let milliseconds = left.min(SILENCE_MAX).as_millis().max(1);
        self.connection.query(format!(
            "SET LOCAL statement_timeout = {milliseconds}; {sql}"
        ))
    }
}

/// Of the thread that watches.
#[derive(Debug)]
struct Watch(Option<(mpsc::Sender<()>, JoinHandle<()>)>);

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some((end, watch)) = self.0.take() {
            drop(end);
            let _joined = watch.join();
        }
    }
}

/// Why a live table could not be read, without a value of its rows.
fn words(error: PgError) -> String {
    let remedy = match error.sqlstate() {
        Some("42501") => {
            "the target's role may not read all of it; GRANT SELECT, and BYPASSRLS where row-level security is on, or compare by hand"
        }
        Some("55P03") => "somebody holds an exclusive lock on it",
        Some("57014") => "there was no time left for it",
        _ => "it cannot be read",
    };
    format!("{remedy} ({})", chain(&error.without_values()))
}

/// Asks for the longest wait for a lock of `pid`, if it is longer than this, in seconds.
fn waiting_for(pid: u64, yield_after: Duration) -> String {
    format!(
        "SELECT extract(epoch FROM clock_timestamp() - l.waitstart)::bigint
         FROM pg_catalog.pg_locks l
         WHERE NOT l.granted AND l.waitstart < clock_timestamp() - interval '{} ms'
           AND {pid} = ANY (pg_catalog.pg_blocking_pids(l.pid))
         ORDER BY l.waitstart LIMIT 1",
        yield_after.as_millis()
    )
}

struct Watcher {
    connection: Connection,
    cancel: Cancel,
    reason: Arc<Mutex<Option<String>>>,
    question: String,
}

impl Watcher {
    /// Until the reader hangs up.
    fn watch(mut self, ended: &mpsc::Receiver<()>) {
        while ended.recv_timeout(LOOK) == Err(mpsc::RecvTimeoutError::Timeout) {
            let reason = match self.connection.query(&self.question) {
                Ok(rows) => match rows.into_iter().next() {
                    Some(row) => format!(
                        "somebody had waited {} s for it, and was let through; compare it at a quieter hour, by hand",
                        Fields::of(Some(row)).text()
                    ),
                    None => continue,
                },
                // Whom nobody watches must not be in the way.
                Err(error) => format!(
                    "nobody could watch who waits for it ({})",
                    chain(&error.without_values())
                ),
            };
            *lock(&self.reason) = Some(reason);
            // Asked again at the next look, if it did not get through.
            let _asked = self.cancel.now();
        }
    }
}
