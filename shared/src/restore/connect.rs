//! Connecting to a target for the first time, when nobody knows yet what answers there.

use std::time::Duration;

use super::RestoreError;
use crate::database_url::DatabaseUrl;
use crate::pg::{Connection, refuse_transaction_pooler};

/// As many as it takes to see that two of them share a server process.
const SESSIONS: usize = 3;

/// A session of which no setting was changed yet, with a server process of its own.
///
/// Behind a transaction pooler, settings would stay on a process that the application uses next:
/// so it is told apart before the first one is made.
pub(super) fn connect(url: &DatabaseUrl, stall: Duration) -> Result<Connection, RestoreError> {
    let mut sessions = Vec::with_capacity(SESSIONS);
    for _ in 0..SESSIONS {
        sessions.push(Connection::open(url, stall).map_err(RestoreError::Connect)?);
    }
    refuse_transaction_pooler(&mut sessions, &url.host).map_err(RestoreError::Connect)?;
    Ok(sessions.swap_remove(0))
}
