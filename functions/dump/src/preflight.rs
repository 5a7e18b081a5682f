//! Whether a dump of this database would be whole. Decided before any byte is copied, and
//! every offender is named, not the first alone.

use std::fmt;

/// Servers below this lack `TID Range Scan` and are no longer maintained.
pub const OLDEST_SERVER: u32 = 140_000;
/// Names in one message; all of them are in the log.
const NAMES_MAX: usize = 100;
/// How far the locks of everybody may go beyond the slots that the server's settings name.
///
/// The lock table may also grow into spare shared memory: with default settings (7,808 slots)
/// PostgreSQL 15 takes between 12,000 and 13,000 locks. This stays a fifth below, for the
/// application.
const LOCK_SHARE: f64 = 1.25;

/// What was found out about the database, for the role that dumps.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub server_version: u32,
    /// Qualified names, quoted as SQL wants them.
    pub row_security: Vec<String>,
    pub unreadable_tables: Vec<String>,
    pub unreadable_sequences: Vec<String>,
    /// Object ids.
    pub unreadable_large_objects: Vec<String>,
    pub role: String,
    /// Tables that will be locked, and locks of everybody at this moment.
    pub tables: u64,
    pub locks_held: u64,
    pub max_locks_per_transaction: u64,
    /// Server processes that may hold locks, prepared transactions included.
    pub backends_max: u64,
}

/// One reason not to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    ServerTooOld {
        version: u32,
    },
    RowSecurity {
        role: String,
        tables: Vec<String>,
    },
    UnreadableTables {
        role: String,
        tables: Vec<String>,
    },
    UnreadableSequences {
        role: String,
        sequences: Vec<String>,
    },
    UnreadableLargeObjects {
        role: String,
        oids: Vec<String>,
    },
    TooFewLockSlots {
        needed: u64,
        slots: u64,
        setting: u64,
        suggested: u64,
    },
}

/// All of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusals(pub Vec<Refusal>);

impl std::error::Error for Refusals {}

pub fn decide(facts: &Facts) -> Result<(), Refusals> {
    let mut refusals = Vec::new();
    if facts.server_version < OLDEST_SERVER {
        let version = facts.server_version;
        refusals.push(Refusal::ServerTooOld { version });
    }
    let role = || facts.role.clone();
    if !facts.row_security.is_empty() {
        let tables = facts.row_security.clone();
        refusals.push(Refusal::RowSecurity {
            role: role(),
            tables,
        });
    }
    if !facts.unreadable_tables.is_empty() {
        let tables = facts.unreadable_tables.clone();
        refusals.push(Refusal::UnreadableTables {
            role: role(),
            tables,
        });
    }
    if !facts.unreadable_sequences.is_empty() {
        let sequences = facts.unreadable_sequences.clone();
        refusals.push(Refusal::UnreadableSequences {
            role: role(),
            sequences,
        });
    }
    if !facts.unreadable_large_objects.is_empty() {
        let oids = facts.unreadable_large_objects.clone();
        refusals.push(Refusal::UnreadableLargeObjects { role: role(), oids });
    }
    refusals.extend(lock_slots(facts));
    if refusals.is_empty() {
        Ok(())
    } else {
        Err(Refusals(refusals))
    }
}

/// The lock table is shared by the whole server: who overflows it breaks the application too.
fn lock_slots(facts: &Facts) -> Option<Refusal> {
    let sessions = facts.backends_max;
    let slots = facts.max_locks_per_transaction * sessions;
    let needed = facts.tables + facts.locks_held;
    let usable = slots as f64 * LOCK_SHARE;
    if needed as f64 <= usable {
        return None;
    }
    let suggested = (needed as f64 / LOCK_SHARE / sessions.max(1) as f64).ceil() as u64 + 1;
    Some(Refusal::TooFewLockSlots {
        needed,
        slots,
        setting: facts.max_locks_per_transaction,
        suggested,
    })
}

impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("refused before anything was copied")?;
        for refusal in &self.0 {
            write!(f, "; {refusal}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServerTooOld { version } => write!(
                f,
                "the server is PostgreSQL {}.{}; 14 and newer are supported: upgrade it",
                version / 10_000,
                version % 10_000
            ),
            Self::RowSecurity { role, tables } => write!(
                f,
                "row-level security would hide rows from {role} in {}: ALTER ROLE {role} BYPASSRLS, or use a role that has it",
                list(tables)
            ),
            Self::UnreadableTables { role, tables } => write!(
                f,
                "{role} may not read {}: GRANT USAGE ON SCHEMA and SELECT ON these tables TO {role}, or GRANT pg_read_all_data TO {role}",
                list(tables)
            ),
            Self::UnreadableSequences { role, sequences } => write!(
                f,
                "{role} may not read the sequences {}: GRANT SELECT ON these sequences TO {role}, or GRANT pg_read_all_data TO {role}",
                list(sequences)
            ),
            Self::UnreadableLargeObjects { role, oids } => write!(
                f,
                "{role} may not read the large objects {}: GRANT SELECT ON LARGE OBJECT … TO {role} for each (pg_read_all_data does not cover them)",
                list(oids)
            ),
            Self::TooFewLockSlots {
                needed,
                slots,
                setting,
                suggested,
            } => write!(
                f,
                "the dump needs {needed} of the server's {slots} lock slots, which leaves too few for the application: set max_locks_per_transaction to {suggested} or more (it is {setting}) and restart the server"
            ),
        }
    }
}

fn list(names: &[String]) -> String {
    let shown = &names[..names.len().min(NAMES_MAX)];
    let mut text = shown.join(", ");
    if names.len() > shown.len() {
        text.push_str(&format!(
            " and {} more (all are in the log)",
            names.len() - shown.len()
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fine() -> Facts {
        Facts {
            server_version: 150_018,
            role: "backup".to_owned(),
            tables: 9_000,
            locks_held: 3,
            max_locks_per_transaction: 64,
            backends_max: 122,
            ..Facts::default()
        }
    }

    fn check(facts: &Facts, expected: &str) {
        let text = decide(facts).unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn lock_slots_are_counted_with_those_in_use() {
        assert_eq!(decide(&fine()), Ok(()));
        check(
            &Facts {
                locks_held: 761,
                ..fine()
            },
            "needs 9761 of the server's 7808 lock slots",
        );
        let many = Facts {
            tables: 25_000,
            ..fine()
        };
        check(
            &many,
            "set max_locks_per_transaction to 165 or more (it is 64)",
        );
    }

    #[test]
    fn every_offender_is_named_with_the_remedy() {
        let facts = Facts {
            tables: 4,
            row_security: vec!["app.a".to_owned()],
            unreadable_tables: vec!["app.b".to_owned(), "app.\"C\"".to_owned()],
            unreadable_sequences: vec!["app.b_id_seq".to_owned()],
            unreadable_large_objects: vec!["16500".to_owned()],
            ..fine()
        };
        check(
            &facts,
            "hide rows from backup in app.a: ALTER ROLE backup BYPASSRLS",
        );
        check(&facts, "may not read app.b, app.\"C\": GRANT");
        check(&facts, "the sequences app.b_id_seq: GRANT");
        check(&facts, "the large objects 16500: GRANT");
    }

    #[test]
    fn an_old_server_is_refused() {
        check(
            &Facts {
                tables: 4,
                server_version: 130_012,
                ..fine()
            },
            "PostgreSQL 13.12",
        );
    }

    #[test]
    fn a_long_list_says_how_long_it_is() {
        let tables = (0..250).map(|n| format!("app.t{n}")).collect();
        check(
            &Facts {
                tables: 4,
                unreadable_tables: tables,
                ..fine()
            },
            "and 150 more",
        );
    }
}
