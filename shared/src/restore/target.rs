//! The database that is restored into, with the sessions that one call leaves to the next.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::RestoreError;
use super::connect::connect_several;
use super::run::lock;
use crate::database_url::DatabaseUrl;
use crate::pg::{Connection, PgError};

/// Between two calls lies a write into the bucket, or nothing.
const IDLE_MAX: Duration = Duration::from_secs(5);
/// A session that is still there answers at once.
const RESET_STALL: Duration = Duration::from_secs(5);

/// For the calls of one restore, one right after the other. Clones share their sessions.
#[derive(Clone, Debug)]
pub struct Target {
    pub(super) url: DatabaseUrl,
    idle: Arc<Mutex<Option<Idle>>>,
}

#[derive(Debug)]
struct Idle {
    since: Instant,
    sessions: Vec<Connection>,
}

impl Target {
    pub fn new(url: DatabaseUrl) -> Self {
        Self {
            url,
            idle: Arc::default(),
        }
    }

    /// A session in which nothing is set, with a server process of its own, and the others that
    /// came with it: those of the call before, or new ones.
    pub(super) fn sessions(
        &self,
        stall: Duration,
    ) -> Result<(Connection, Vec<Connection>), RestoreError> {
        let mut idle = self.take(stall);
        match idle.next() {
            Some(first) => Ok((first, idle.collect())),
            None => connect_several(&self.url, stall),
        }
    }

    /// A session for one transaction: a new one may be a pooler's.
    pub(super) fn session(&self, stall: Duration) -> Result<Connection, RestoreError> {
        match self.take(stall).next() {
            Some(session) => Ok(session),
            None => Connection::open(&self.url, stall).map_err(RestoreError::Connect),
        }
    }

    /// For the next call, the first one foremost. All have been told apart from a pooler's, and
    /// none is in a transaction or about to be cancelled.
    pub(super) fn keep(&self, sessions: impl IntoIterator<Item = Connection>) {
        let idle = Idle {
            since: Instant::now(),
            sessions: sessions.into_iter().collect(),
        };
        *lock(&self.idle) = Some(idle);
    }

    /// What is lost by now is left out; what is left over ends.
    fn take(&self, stall: Duration) -> impl Iterator<Item = Connection> {
        let idle = lock(&self.idle).take();
        let idle = idle.filter(|it| it.since.elapsed() < IDLE_MAX);
        let sessions = idle.map(|it| it.sessions).unwrap_or_default();
        let reset = move |it| reset(it, stall).ok();
        sessions.into_iter().filter_map(reset)
    }
}

/// As if it were new: without settings, locks and temporary objects.
fn reset(mut session: Connection, stall: Duration) -> Result<Connection, PgError> {
    session.set_timeouts(RESET_STALL)?;
    session.query("DISCARD ALL")?;
    session.set_timeouts(stall)?;
    Ok(session)
}
