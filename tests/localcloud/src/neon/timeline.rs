//! One branch's history: a data directory, or, until a compute needs it, only the promise of one.
//!
//! As on Neon, a branch is a point in the history of another, and costs nothing until it is used. Then the base that
//! the history began with is copied, and the log of every ancestor is replayed up to that point.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::lsn::Lsn;
use super::storage::{Base, Storage};
use crate::pgbouncer::{Clients, PgBouncer, PoolMode};
use crate::postgres::{Cluster, PostgresError, quoted, run};

/// Server connections of a pooler, for each role and database.
const POOL_SIZE: u16 = 5;

/// What a timeline is a continuation of.
#[derive(Clone, Debug)]
pub(super) enum Begin {
    Base(Base),
    Fork { of: Arc<Timeline>, at: Point },
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Point {
    /// Everything before it.
    Lsn(Lsn),
    /// Every commit up to it.
    Time(Timestamp),
}

/// Which state of a timeline is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum At {
    Head,
    Lsn(Lsn),
    Time(Timestamp),
}

/// How to continue from a state of a timeline.
#[derive(Clone, Debug)]
pub(super) struct Fork {
    pub(super) begin: Begin,
    /// Known except for a time in the past.
    pub(super) lsn: Option<Lsn>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ForkError {
    #[error("before the beginning of the branch")]
    Before,
    #[error("after the end of the branch")]
    After,
    #[error(transparent)]
    Postgres(#[from] PostgresError),
}

/// A role and its password.
pub(super) type Login = (String, String);

#[derive(Debug)]
pub(super) struct Timeline {
    storage: Arc<Storage>,
    home: PathBuf,
    begin: Begin,
    /// Its own history starts here; what was before is its ancestor's.
    born: Timestamp,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    cluster: Option<Cluster>,
    pooler: Option<PgBouncer>,
    /// Whether the data directory is there.
    made: bool,
    closed: bool,
    begin_lsn: Option<Lsn>,
    /// The last known end, and when that was.
    head: Option<(Timestamp, Lsn)>,
    /// The state there counts as that of every earlier time.
    seeded: Option<(Timestamp, Lsn)>,
    /// The logins that the cluster knows.
    applied: Vec<Login>,
}

impl Timeline {
    pub(super) fn new(storage: Arc<Storage>, home: PathBuf, begin: Begin, born: Timestamp) -> Self {
        let begin_lsn = match &begin {
            Begin::Base(base) => Some(base.lsn),
            Begin::Fork {
                at: Point::Lsn(lsn),
                ..
            } => Some(*lsn),
            Begin::Fork {
                at: Point::Time(_), ..
            } => None,
        };
        let inner = Mutex::new(Inner {
            begin_lsn,
            ..Inner::default()
        });
        Self {
            storage,
            home,
            begin,
            born,
            inner,
        }
    }

    /// The port of the running server, which knows these logins. Starts it, and makes the data directory, if need be.
    pub(super) fn start(&self, logins: &[Login]) -> Result<u16, PostgresError> {
        let mut inner = self.lock();
        if inner.closed {
            return Err(PostgresError::NotRunning);
        }
        if inner.cluster.is_none() {
            let recovery = if inner.made { Vec::new() } else { self.make()? };
            inner.cluster = Some(self.storage.start(&self.home, recovery)?);
            inner.made = true;
        }
        let Some(cluster) = &inner.cluster else {
            return Err(PostgresError::NotRunning);
        };
        let port = cluster.port();
        if inner.applied != logins {
            cluster.psql("postgres", &logins_sql(logins))?;
            inner.pooler = None;
            inner.applied = logins.to_vec();
        }
        if inner.begin_lsn.is_none() {
            let lsn = self.advance(&mut inner)?.map(|(_, lsn)| lsn);
            inner.begin_lsn = lsn;
        }
        Ok(port)
    }

    /// The port of the pooler before the running server.
    pub(super) fn pooler(&self, logins: &[Login]) -> Result<u16, PostgresError> {
        self.start(logins)?;
        let mut inner = self.lock();
        let Inner {
            cluster, pooler, ..
        } = &mut *inner;
        if let Some(pooler) = pooler {
            return Ok(pooler.port());
        }
        let cluster = cluster.as_ref().ok_or(PostgresError::NotRunning)?;
        let clients = Clients {
            roles: logins,
            certificate: self.storage.certificate.as_ref(),
        };
        let started = PgBouncer::start_for(cluster, PoolMode::Transaction, POOL_SIZE, &clients)?;
        Ok(pooler.insert(started).port())
    }

    /// Ends the server at once. What was committed stays, as on Neon, except for unlogged tables.
    pub(super) fn stop(&self) -> Result<(), PostgresError> {
        let mut inner = self.lock();
        self.advance(&mut inner)?;
        inner.pooler = None;
        match inner.cluster.take() {
            Some(cluster) => cluster.crash(),
            None => Ok(()),
        }
    }

    /// Ends the server for good. The log stays: others may have begun here.
    pub(super) fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        inner.pooler = None;
        if let Some(cluster) = inner.cluster.take() {
            cluster.crash().ok();
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.lock().cluster.is_some()
    }

    /// Runs SQL as the superuser on the running server.
    pub(super) fn psql(&self, database: &str, sql: &str) -> Result<String, PostgresError> {
        let inner = self.lock();
        let cluster = inner.cluster.as_ref().ok_or(PostgresError::NotRunning)?;
        cluster.psql(database, sql)
    }

    /// A database's schema as text.
    pub(super) fn schema(&self, database: &str) -> Result<String, PostgresError> {
        let inner = self.lock();
        let cluster = inner.cluster.as_ref().ok_or(PostgresError::NotRunning)?;
        let mut dump = cluster.client("pg_dump", database)?;
        run(dump.args(["--schema-only", "--no-comments", "--restrict-key=x"]))
    }

    /// From now on, what is there counts as having been there since the beginning.
    pub(super) fn mark_seeded(&self) -> Result<(), PostgresError> {
        let mut inner = self.lock();
        inner.seeded = self.advance(&mut inner)?;
        Ok(())
    }

    /// How a new timeline shows this one as it was.
    pub(super) fn fork(self: &Arc<Self>, at: At) -> Result<Fork, ForkError> {
        let mut inner = self.lock();
        let head = self.advance(&mut inner)?;
        let before = match at {
            At::Head => false,
            At::Time(time) => time < self.born,
            At::Lsn(lsn) => inner.begin_lsn.is_some_and(|begin| lsn < begin),
        };
        if before {
            drop(inner);
            return match &self.begin {
                Begin::Fork { of, .. } => of.fork(at),
                Begin::Base(_) => Err(ForkError::Before),
            };
        }
        let Some((ended, end)) = head else {
            // Nobody has ever written here: a copy of the promise will do.
            return match at {
                At::Lsn(lsn) if inner.begin_lsn.is_some_and(|begin| lsn > begin) => {
                    Err(ForkError::After)
                }
                At::Head | At::Time(_) | At::Lsn(_) => Ok(Fork {
                    begin: self.begin.clone(),
                    lsn: inner.begin_lsn,
                }),
            };
        };
        let point = match (at, inner.seeded) {
            (At::Lsn(lsn), _) if lsn > end => return Err(ForkError::After),
            (At::Lsn(lsn), _) => Point::Lsn(lsn),
            (At::Time(time), Some((seeded, lsn))) if time <= seeded => Point::Lsn(lsn),
            (At::Time(time), _) if time < ended => Point::Time(time),
            (At::Head | At::Time(_), _) => Point::Lsn(end),
        };
        let lsn = match point {
            Point::Lsn(lsn) => Some(lsn),
            Point::Time(_) => None,
        };
        Ok(Fork {
            begin: Begin::Fork {
                of: self.clone(),
                at: point,
            },
            lsn,
        })
    }

    /// The end of the log, if anybody has ever written here. The message behind it makes the replay able to see that
    /// it has arrived, and puts everything before it into the file.
    fn advance(&self, inner: &mut Inner) -> Result<Option<(Timestamp, Lsn)>, PostgresError> {
        if let Some(cluster) = &inner.cluster {
            let answer = cluster.psql(
                "postgres",
                "SELECT pg_current_wal_insert_lsn();
                 SELECT pg_logical_emit_message(true, 'stand-in', 'branch');",
            )?;
            let lsn = answer.lines().next().and_then(Lsn::parse);
            let lsn = lsn.ok_or(PostgresError::NotRunning)?;
            inner.head = Some((super::now(), lsn));
        }
        Ok(inner.head)
    }

    /// Copies the base, and says with which settings the server replays what followed it.
    fn make(&self) -> Result<Vec<String>, PostgresError> {
        let mut archives = Vec::new();
        let mut begin = &self.begin;
        let base = loop {
            match begin {
                Begin::Base(base) => break base,
                Begin::Fork { of, .. } => {
                    archives.push(of.home.join("data/pg_wal").display().to_string());
                    begin = &of.begin;
                }
            }
        };
        // An earlier attempt may have been interrupted.
        fs::remove_dir_all(&self.home).ok();
        run(Command::new("cp")
            .args(["-a", "--reflink=auto"])
            .arg(&*base.dir)
            .arg(&self.home))?;
        let Begin::Fork { at, .. } = &self.begin else {
            return Ok(Vec::new());
        };
        let signal = self.home.join("data/recovery.signal");
        fs::write(&signal, "").map_err(|source| PostgresError::file(&signal, source))?;
        let target = match at {
            Point::Lsn(lsn) => {
                format!("recovery_target_lsn = '{lsn}'\nrecovery_target_inclusive = off")
            }
            Point::Time(time) => {
                // Read before the server knows any zone's name, so that even Z is none.
                let time = time.strftime("%Y-%m-%d %H:%M:%S%.6f");
                format!("recovery_target_time = '{time}+00'")
            }
        };
        let archives = archives.join(" ");
        Ok(vec![
            target,
            "recovery_target_action = 'promote'".to_owned(),
            format!(
                "restore_command = 'for archive in {archives}; do cp \"$archive/%f\" \"%p\" 2>/dev/null && exit 0; done; exit 1'"
            ),
        ])
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes what is missing, and gives everybody the password that the API tells.
fn logins_sql(logins: &[Login]) -> String {
    logins.iter().fold(String::new(), |sql, (role, password)| {
        let (name, literal) = (quoted(role), role.replace('\'', "''"));
        format!(
            "{sql}SELECT 'CREATE ROLE {} LOGIN CREATEDB CREATEROLE REPLICATION BYPASSRLS IN ROLE neon_superuser'
               WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{literal}') \\gexec\n\
             ALTER ROLE {name} PASSWORD '{password}';\n",
            name.replace('\'', "''"),
        )
    })
}
