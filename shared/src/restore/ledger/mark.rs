//! What a target says of itself: that it is unusable, or nothing any more.

use super::Ledger;
use crate::archive::quote_ident;
use crate::pg::{Connection, PgError};
use crate::restore::ask::{literal, query, value};
use crate::restore::{Order, RestoreError, Scope, scratch};

const UNUSABLE: &str = "Lifeboat: UNUSABLE: ";
/// Of a reason, this much is kept.
const REASON_CHARS_MAX: usize = 2000;

impl Ledger {
    /// From here on nobody takes the target for a restored database.
    pub(in crate::restore) fn fail(
        &self,
        connection: &mut Connection,
        reason: &str,
    ) -> Result<(), RestoreError> {
        let reason = plain(reason);
        let sql = format!(
            "UPDATE {} SET state = 'failed', reason = {}",
            self.run,
            literal(&reason)
        );
        query(connection, "to note the failure", &sql)?;
        let comment = literal(&format!("{UNUSABLE}{reason}"));
        self.comment(connection, comment.as_bytes())
    }

    /// Removes the ledger. `own`: the comment that the archive has for its database, as SQL.
    pub(in crate::restore) fn remove(
        &self,
        connection: &mut Connection,
        order: &Order,
        own: Option<Vec<u8>>,
    ) -> Result<(), RestoreError> {
        if !self.exists(connection)? {
            return Ok(());
        }
        if self.is_staging {
            let runs = format!("SELECT count(*) FROM {}", self.run);
            if value(connection, "whether it is whole", &runs)? == "0" {
                return Err(self.emptied());
            }
            let sql = format!("DROP TABLE {}, {}", self.job, self.run);
            return query(connection, "to remove its ledger", &sql).map(drop);
        }
        let sql = format!(
            "SELECT coalesce(quote_literal(comment_before), 'NULL') FROM {}",
            self.run
        );
        let before = value(connection, "its comment", &sql)?;
        let comment = match own {
            // A comment that would have the database dropped as a scratch one is not given.
            Some(own) if is_mark(&own) => b"NULL".to_vec(),
            Some(own) if order.scope != Scope::DataOnly => own,
            Some(_) | None => before.into_bytes(),
        };
        self.comment(connection, &comment)?;
        // The database's own event triggers must not act on this. Who may not ask for that has
        // none that belong to a superuser, either.
        for quiet in [
            "SET event_triggers = off",
            "SET session_replication_role = replica",
        ] {
            let _best_effort = connection.query(quiet);
        }
        let sql = format!("DROP SCHEMA {} CASCADE", self.schema);
        query(connection, "to remove its ledger", &sql).map(drop)
    }

    /// Comments on the database, unless that is live, or scratch: whose mark must stay. Best
    /// effort: the ledger says the same.
    pub(super) fn comment(
        &self,
        connection: &mut Connection,
        sql_text: &[u8],
    ) -> Result<(), RestoreError> {
        if self.is_staging {
            return Ok(());
        }
        let sql = "SELECT coalesce(shobj_description(oid, 'pg_database'), ''), datname
             FROM pg_database WHERE datname = current_database()";
        let rows = query(connection, "its comment", sql)?;
        let mut row = rows.into_iter().next().unwrap_or_default().into_iter();
        let current = row.next().flatten().unwrap_or_default();
        let name = row.next().flatten().unwrap_or_default();
        if current.starts_with(scratch::MARK.as_bytes()) {
            return Ok(());
        }
        let comment = [
            b"COMMENT ON DATABASE ",
            &quote_ident(&name)[..],
            b" IS ",
            sql_text,
        ];
        match connection.query(comment.concat()) {
            // Not its owner.
            Ok(_) | Err(PgError::Server(_)) => Ok(()),
            Err(source) => Err(RestoreError::Query {
                doing: "to comment on it",
                source,
            }),
        }
    }
}

/// `'lifeboat scratch …'`, however it is quoted.
fn is_mark(literal: &[u8]) -> bool {
    let text = literal.iter().position(|it| *it == b'\'');
    let text = text.map_or(literal, |quote| &literal[quote + 1..]);
    text.starts_with(scratch::MARK.as_bytes())
}

/// In ASCII, which every encoding has.
fn plain(reason: &str) -> String {
    let ascii = |it: char| {
        if it.is_ascii_graphic() || it == ' ' {
            it
        } else {
            '?'
        }
    };
    reason.chars().take(REASON_CHARS_MAX).map(ascii).collect()
}
