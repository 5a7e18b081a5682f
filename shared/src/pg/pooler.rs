//! Telling a transaction pooler from a direct connection or a session pooler.

use super::{Connection, PgError};

/// Proves that every session has a server process of its own, or refuses.
///
/// In transaction mode a server process serves whichever session runs a transaction. So an
/// idle session's process may be taken by the next one that begins, which then has the same
/// process id, or the first must move to another. Direct connections and session poolers can
/// do neither. Leaves no trace: no setting is changed, since a pooler would hand it to the
/// application.
pub fn refuse_transaction_pooler(sessions: &mut [Connection], host: &str) -> Result<(), PgError> {
    let pid = "SELECT pg_backend_pid()";
    let Some((first, others)) = sessions.split_first_mut() else {
        return Ok(());
    };
    let home = first.query_value(pid)?;
    let mut seen = vec![home.clone()];
    let mut is_shared = false;
    for session in others.iter_mut() {
        let taken = session.query_value(format!("BEGIN READ ONLY; {pid}"))?;
        is_shared |= seen.contains(&taken);
        seen.push(taken);
        if is_shared || first.query_value(pid)? != home {
            is_shared = true;
            break;
        }
    }
    for session in others {
        session.query("ROLLBACK")?;
    }
    if is_shared {
        return Err(PgError::Pooled(format!(
            "{host} is a transaction pooler (two open sessions share one server process): it breaks dumps and the application's sessions; use the direct host or a session pooler"
        )));
    }
    Ok(())
}
