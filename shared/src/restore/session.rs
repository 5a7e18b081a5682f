//! Sessions in the target: connected, pinned, and able to be ended from outside.

use std::time::Duration;

use super::RestoreError;
use super::run::Context;
use crate::database_url::DatabaseUrl;
use crate::pg::{Cancel, Connection, Hangup, PgError};

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
    mode: Mode,
}

impl Session {
    pub(super) fn open(context: &Context, mode: Mode) -> Result<Self, RestoreError> {
        let connection = Connection::open(&context.url, STALL).map_err(RestoreError::Connect)?;
        let mut session = Self { connection, mode };
        session.pin(context)?;
        Ok(session)
    }

    /// Pins for `mode`, unless it is pinned for that already.
    pub(super) fn enter(&mut self, context: &Context, mode: Mode) -> Result<(), RestoreError> {
        if self.mode == mode {
            return Ok(());
        }
        self.mode = mode;
        self.pin(context)
    }

    fn pin(&mut self, context: &Context) -> Result<(), RestoreError> {
        let pins = context.pins.get(&self.mode).cloned().unwrap_or_default();
        let pinned = self.connection.query(pins);
        pinned.map(drop).map_err(|source| RestoreError::Query {
            doing: "to take the settings of the backup (encoding, lc_monetary, time zone, …)",
            source,
        })
    }

    pub(super) fn handles(&self, url: &DatabaseUrl) -> Result<(Cancel, Hangup), PgError> {
        Ok((self.connection.cancel(url), self.connection.hangup()?))
    }
}
