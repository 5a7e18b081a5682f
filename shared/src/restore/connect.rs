//! Connecting to a target for the first time, when nobody knows yet what answers there.

use std::thread;
use std::time::Duration;

use super::RestoreError;
use crate::database_url::DatabaseUrl;
use crate::pg::{Connection, PgError, refuse_transaction_pooler};

/// As many as it takes to see that two of them share a server process.
const SESSIONS: usize = 3;

/// A session of which no setting was changed yet, with a server process of its own.
pub(super) fn connect(url: &DatabaseUrl, stall: Duration) -> Result<Connection, RestoreError> {
    Ok(connect_several(url, stall)?.0)
}

/// The same, with the others that it was told apart from: just as unused.
///
/// Behind a transaction pooler, settings would stay on a process that the application uses next:
/// so it is told apart before the first one is made.
pub(super) fn connect_several(
    url: &DatabaseUrl,
    stall: Duration,
) -> Result<(Connection, Vec<Connection>), RestoreError> {
    // A password that is wrong is shown once, lest the server shut us out.
    let first = Connection::open(url, stall).map_err(RestoreError::Connect)?;
    // Most of a session's beginning is waiting, so the others begin together.
    let others: Result<Vec<Connection>, PgError> = thread::scope(|scope| {
        let open = || Connection::open(url, stall);
        let others: Vec<_> = (1..SESSIONS).map(|_| scope.spawn(open)).collect();
        let joined = others.into_iter().map(|it| match it.join() {
            Ok(opened) => opened,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.collect()
    });
    let mut sessions = others.map_err(RestoreError::Connect)?;
    sessions.insert(0, first);
    refuse_transaction_pooler(&mut sessions, &url.host).map_err(RestoreError::Connect)?;
    Ok((sessions.swap_remove(0), sessions))
}
