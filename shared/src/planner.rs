//! `pg_dump` as the planner: it writes the table of contents first, and is ended there.

use std::io::{self, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::archive::{ReadError, TableOfContents, read_custom};
use crate::client_tools::Client;
use crate::database_url::{DatabaseUrl, Tls};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Of its messages, this much is kept.
const STDERR_BYTES_MAX: usize = 1 << 20;
/// How long it may wait for one lock; the coordinator holds them all, so it should not wait.
const LOCK_WAIT: &str = "20s";
/// Between asking it to end and killing it: it may hang in a read that ignores the first.
const GRACE: Duration = Duration::from_secs(2);

/// The plan, and what making it took.
#[derive(Debug)]
pub struct Planned {
    pub toc: TableOfContents,
    pub seconds: f64,
    pub peak_memory_bytes: u64,
    /// Its warnings: what the role's rights left out.
    pub warnings: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum PlannerError {
    #[error("{doing}")]
    System {
        doing: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("pg_dump could not be started")]
    Start(#[source] io::Error),
    #[error("pg_dump has no pipes")]
    NoPipes,
    #[error("pg_dump's table of contents")]
    Archive(#[source] ReadError),
    #[error(
        "the server's lock table is full ({said}): raise max_locks_per_transaction and restart the server"
    )]
    LockTableFull { said: String },
    #[error("pg_dump ended before its table of contents was complete: {stderr}")]
    Ended { is_transient: bool, stderr: String },
    #[error("pg_dump gave no sign of life for {} s and was ended; its last words: {stderr}", .stalled.as_secs())]
    Stalled { stalled: Duration, stderr: String },
    /// The caller said so.
    #[error("stopped before")]
    Stopped,
}

/// Runs `pg_dump` up to the end of its table of contents: on an exported snapshot, or on one
/// of its own. `is_stopped` is asked several times a second.
///
/// The password reaches it in a file that only this user can read and that is gone when this
/// returns. The server logs one "could not send data to client": that is how it ends.
pub fn run(
    client: &Client,
    url: &DatabaseUrl,
    snapshot: Option<&str>,
    stall: Duration,
    is_stopped: &dyn Fn() -> bool,
) -> Result<Planned, PlannerError> {
    let started = Instant::now();
    let private = tempfile::Builder::new().prefix("lifeboat-").tempdir();
    let private = private.map_err(|source| PlannerError::System {
        doing: "make a private directory",
        source,
    })?;
    let passfile = private.path().join("pgpass");
    write_passfile(&passfile, url)?;
    let mut child = command(client, url, snapshot, &passfile)
        .spawn()
        .map_err(PlannerError::Start)?;
    let result = watch(&mut child, stall, is_stopped);
    end(&mut child);
    let (toc, stderr, peak_memory_bytes) = result?;
    Ok(Planned {
        toc,
        seconds: started.elapsed().as_secs_f64(),
        peak_memory_bytes,
        warnings: warnings(&stderr),
    })
}

fn write_passfile(path: &Path, url: &DatabaseUrl) -> Result<(), PlannerError> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;

    // Format: PostgreSQL documentation, "The Password File". One entry, for any server.
    let password = url.password.replace('\\', "\\\\").replace(':', "\\:");
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    file.and_then(|mut file| writeln!(file, "*:*:*:*:{password}"))
        .map_err(|source| PlannerError::System {
            doing: "write a password file",
            source,
        })
}

fn command(client: &Client, url: &DatabaseUrl, snapshot: Option<&str>, passfile: &Path) -> Command {
    let mut command = Command::new(&client.program);
    command
        .args([
            "--format=custom",
            "--compress=0",
            "--verbose",
            "--no-password",
        ])
        .args(snapshot.map(|it| format!("--snapshot={it}")))
        .arg(format!("--lock-wait-timeout={LOCK_WAIT}"))
        .env_clear()
        .env("LC_ALL", "C")
        // Through the environment a database name is never taken for a connection string.
        .env("PGHOST", &url.host)
        .env("PGPORT", url.port.to_string())
        .env("PGUSER", &url.user)
        .env("PGDATABASE", &url.database)
        .env("PGPASSFILE", passfile)
        .env("PGAPPNAME", "lifeboat-planner")
        .env("PGCONNECT_TIMEOUT", "30")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    match url.tls {
        Tls::Local => command.env("PGSSLMODE", "disable"),
        Tls::VerifyFull => {
            let roots = openssl_probe::probe().cert_file;
            command
                .env("PGSSLMODE", "verify-full")
                .envs(roots.map(|file| ("PGSSLROOTCERT", file)))
        }
    };
    command
}

/// Reads the table of contents while watching that something moves.
fn watch(
    child: &mut Child,
    stall: Duration,
    is_stopped: &dyn Fn() -> bool,
) -> Result<(TableOfContents, String, u64), PlannerError> {
    let (Some(stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(PlannerError::NoPipes);
    };
    let moved = Arc::new(AtomicU64::new(0));
    let words = Arc::new(Mutex::new(Vec::new()));
    let reader = {
        let (moved, words) = (Arc::clone(&moved), Arc::clone(&words));
        thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(n @ 1..) = stderr.read(&mut piece) {
                moved.fetch_add(n as u64, Ordering::Relaxed);
                let mut words = words
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                if words.len() < STDERR_BYTES_MAX {
                    words.extend_from_slice(&piece[..n]);
                }
            }
        })
    };
    let (send, receive) = mpsc::channel();
    {
        let moved = Arc::clone(&moved);
        thread::spawn(move || {
            let counted = Counted {
                input: stdout,
                moved,
            };
            let mut archive = BufReader::with_capacity(256 << 10, counted);
            let toc = read_custom(&mut archive);
            // The open pipe goes along: closing it would end pg_dump before it is measured.
            // Nobody listens any more when the run was stopped.
            let _unheard = send.send((toc, archive));
        });
    }
    let said = || {
        let words = words
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        String::from_utf8_lossy(&words).into_owned()
    };
    let (mut seen, mut since) = (0, Instant::now());
    loop {
        match receive.recv_timeout(Duration::from_millis(200)) {
            Ok((Ok(toc), _still_open)) => {
                return Ok((toc, said(), peak_memory_bytes(child.id())));
            }
            Ok((Err(ReadError::Truncated), _)) | Err(RecvTimeoutError::Disconnected) => {
                // Its messages are complete once it is gone.
                end(child);
                let _finished = reader.join();
                return Err(failure(&said()));
            }
            Ok((Err(error), _)) => return Err(PlannerError::Archive(error)),
            Err(RecvTimeoutError::Timeout) if is_stopped() => return Err(PlannerError::Stopped),
            Err(RecvTimeoutError::Timeout) => {}
        }
        let now_moved = moved.load(Ordering::Relaxed);
        if now_moved != seen {
            (seen, since) = (now_moved, Instant::now());
        } else if since.elapsed() > stall {
            let stderr = last_words(&said());
            return Err(PlannerError::Stalled {
                stalled: stall,
                stderr,
            });
        }
    }
}

struct Counted<R> {
    input: R,
    moved: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let n = self.input.read(room)?;
        self.moved.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// Its highest resident memory, 0 where the system does not tell. Not from `getrusage`: that
/// counts what this process had when it forked.
fn peak_memory_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|it| it.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}

fn end(child: &mut Child) {
    let pid = i32::try_from(child.id()).map(Pid::from_raw);
    for (signal, grace) in [
        (Signal::SIGTERM, GRACE),
        (Signal::SIGKILL, Duration::from_secs(10)),
    ] {
        // Errors mean that it is gone, which the wait below finds out.
        if let Ok(pid) = pid {
            let _gone = kill(pid, signal);
        }
        let until = Instant::now() + grace;
        while Instant::now() < until {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

fn warnings(stderr: &str) -> Vec<String> {
    let warning = |line: &str| line.strip_prefix("pg_dump: warning: ").map(str::to_owned);
    stderr.lines().filter_map(warning).collect()
}

/// By what the operator does about it.
fn failure(stderr: &str) -> PlannerError {
    let said = last_words(stderr);
    if said.contains("out of shared memory") {
        PlannerError::LockTableFull { said }
    } else {
        PlannerError::Ended {
            is_transient: has_lost_its_server(stderr),
            stderr: said,
        }
    }
}

/// Whether the same may succeed later, from the words of libpq and the server; `pg_dump` shows no SQLSTATE.
fn has_lost_its_server(stderr: &str) -> bool {
    const WORDS: [&str; 7] = [
        "connection to server",
        "server closed the connection",
        "could not receive data from server",
        "could not send data to server",
        "SSL connection has been closed",
        "terminating connection",
        "lock timeout",
    ];
    WORDS.iter().any(|it| stderr.contains(it))
}

/// Errors and their details; what it was doing otherwise.
fn last_words(stderr: &str) -> String {
    let said = |line: &&str| {
        ["error:", "detail:", "hint:"]
            .iter()
            .any(|it| line.contains(it))
    };
    let errors: Vec<&str> = stderr.lines().filter(said).collect();
    match (errors.is_empty(), stderr.lines().next_back()) {
        (false, _) => errors.join("; "),
        (true, Some(last)) => last.to_owned(),
        (true, None) => "it said nothing".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_server_is_told_from_a_server_that_refuses() {
        let lost = "pg_dump: error: query failed: server closed the connection unexpectedly";
        assert!(has_lost_its_server(lost));
        let refused = "pg_dump: error: query failed: ERROR:  permission denied for table t";
        assert!(!has_lost_its_server(refused));
    }

    #[test]
    fn warnings_and_errors_are_told_from_progress() {
        let stderr = "pg_dump: last built-in OID is 16383\n\
            pg_dump: warning: subscriptions not dumped because current user is not a superuser\n\
            pg_dump: error: query failed: ERROR:  permission denied for table t\n\
            pg_dump: detail: Query was: LOCK TABLE\n";
        assert_eq!(
            warnings(stderr),
            ["subscriptions not dumped because current user is not a superuser"]
        );
        assert_eq!(
            last_words(stderr),
            "pg_dump: error: query failed: ERROR:  permission denied for table t; pg_dump: detail: Query was: LOCK TABLE"
        );
        assert_eq!(
            last_words("pg_dump: reading schemas\n"),
            "pg_dump: reading schemas"
        );
    }
}
