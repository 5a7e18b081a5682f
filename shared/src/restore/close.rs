//! The end of a restore: the target is let go of, or marked.

use super::advance::{STALL, blocking};
use super::ledger::Ledger;
use super::{Backup, Order, RestoreError, Target, ask};
use crate::archive::lossy;
use crate::pg::Connection;

/// Removes the ledger and gives the database its own comment.
pub(super) async fn finish(
    backup: &Backup,
    target: &Target,
    order: &Order,
) -> Result<(), RestoreError> {
    let own = own_comment(backup);
    let (target, order) = (target.clone(), order.clone());
    blocking(move || {
        let ledger = Ledger::of(&order);
        if order.staging_schema.is_none() {
            return ledger.remove(&mut open(&target)?, &order, own);
        }
        // It leaves no setting behind, whatever it goes through: no need to look.
        let mut connection = target.session(STALL)?;
        ask::query(&mut connection, "to begin", IN_UTF8)?;
        ledger.remove(&mut connection, &order, own)?;
        ask::query(&mut connection, "to remove its ledger", "COMMIT").map(drop)
    })
    .await
}

/// Marks the target unusable, whatever state it is in.
pub(super) async fn abandon(
    target: &Target,
    order: &Order,
    reason: &str,
) -> Result<bool, RestoreError> {
    let (target, order, reason) = (target.clone(), order.clone(), reason.to_owned());
    blocking(move || {
        let mut connection = match open(&target) {
            // There is no such database.
            Err(RestoreError::Connect(error)) if error.sqlstate() == Some("3D000") => {
                return Ok(false);
            }
            connection => connection?,
        };
        let ledger = Ledger::of(&order);
        let is_there = ledger.exists(&mut connection)?;
        if is_there {
            ledger.fail(&mut connection, &reason)?;
        }
        Ok(is_there)
    })
    .await
}

/// The name of a staging schema is text; these two encodings have no way from UTF-8.
const IN_UTF8: &str = "BEGIN READ WRITE; SET LOCAL standard_conforming_strings = on;
    SELECT set_config('client_encoding', 'UTF8', true) FROM pg_catalog.pg_database
    WHERE datname = current_database()
      AND pg_catalog.pg_encoding_to_char(encoding) NOT IN ('SQL_ASCII', 'MULE_INTERNAL')";

fn open(target: &Target) -> Result<Connection, RestoreError> {
    let (mut connection, _) = target.sessions(STALL)?;
    let sql = "SET standard_conforming_strings = on; SET default_transaction_read_only = off";
    ask::query(&mut connection, "to take our settings", sql)?;
    Ok(connection)
}

/// `'…'`, as the archive's own statement has it, in the archive's encoding.
fn own_comment(backup: &Backup) -> Option<Vec<u8>> {
    let entries = backup.toc.entries.iter();
    let mut comments =
        entries.filter(|it| it.is("COMMENT") && lossy(&it.tag).starts_with("DATABASE "));
    let Some(entry) = comments.next() else {
        return Some(b"NULL".to_vec());
    };
    // The tag has the name as the statement does: quoted where it has to be.
    let tag = entry.tag.as_deref()?;
    let statement = [b"COMMENT ON ", tag, b" IS "].concat();
    let literal = entry.definition.as_deref()?.strip_prefix(&statement[..])?;
    let literal = literal.trim_ascii_end();
    Some(literal.strip_suffix(b";").unwrap_or(literal).to_vec())
}
