//! Sessions in the target: connected, pinned, and able to be ended from outside.

use std::time::Duration;

use super::RestoreError;
use super::ask;
use super::run::Context;
use crate::database_url::DatabaseUrl;
use crate::pg::{Cancel, Connection, Hangup, PgError, TIMEOUTS_OFF};

/// An index is built without a byte on the wire; the deadline ends what hangs.
pub(super) const STALL: Duration = Duration::from_secs(3 * 3600);

/// What a session is pinned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Mode {
    Loading,
    Reading,
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) connection: Connection,
    /// What it is pinned for, if for anything yet.
    mode: Option<Mode>,
}

impl Session {
    pub(super) fn open(url: &DatabaseUrl) -> Result<Self, RestoreError> {
        let connection = Connection::open(url, STALL).map_err(RestoreError::Connect)?;
        Ok(Self {
            connection,
            mode: None,
        })
    }

    /// One in which nothing was set yet; it may be long until it is needed.
    pub(super) fn keep(mut connection: Connection) -> Result<Self, RestoreError> {
        connection
            .set_timeouts(STALL)
            .map_err(RestoreError::Connect)?;
        ask::query(&mut connection, "to keep its session", TIMEOUTS_OFF)?;
        Ok(Self {
            connection,
            mode: None,
        })
    }

    /// Pins for `mode`, unless it is pinned for that already.
    pub(super) fn enter(&mut self, context: &Context, mode: Mode) -> Result<(), RestoreError> {
        if self.mode == Some(mode) {
            return Ok(());
        }
        let pins = context.pins.get(&mode).cloned().unwrap_or_default();
        // What it was pinned for before does not hold any more.
        let pins = match self.mode.take() {
            Some(_) => [b"RESET ALL; ", &pins[..]].concat(),
            None => pins,
        };
        let pinned = self.connection.query(pins);
        pinned.map_err(|source| RestoreError::Query {
            doing: "to take the settings of the backup (encoding, lc_monetary, time zone, …)",
            source,
        })?;
        self.mode = Some(mode);
        Ok(())
    }

    pub(super) fn handles(&self, url: &DatabaseUrl) -> Result<(Cancel, Hangup), PgError> {
        Ok((self.connection.cancel(url), self.connection.hangup()?))
    }
}
