//! What to do about an error of the target. Pure.

use crate::pg::PgError;

/// By SQLSTATE (PostgreSQL documentation, appendix "PostgreSQL Error Codes").
pub(super) fn of(error: &PgError) -> &'static str {
    if error.is_transient() {
        return "the connection or the server gave up; try again, the restore goes on where it stopped";
    }
    let code = error.sqlstate().unwrap_or_default();
    match code {
        "0A000" | "58P01" | "22023" => {
            "the target lacks something that the backup needs: install it there, or leave it out ([database.restore] in lifeboat.toml), and restore anew"
        }
        "42501" => {
            "the role of the target may not do this: use a role that may, or leave the object out ([database.restore] in lifeboat.toml), and restore anew"
        }
        "42704" | "42883" | "3F000" | "42P01" => {
            "the target lacks what this refers to: a role (restore without owners and privileges), an extension, or what was left out; restore anew"
        }
        "42710" | "42P06" | "42P07" | "42723" => {
            "it exists in the target already: only an empty database is restored into"
        }
        "53200" => {
            "the target's server is out of memory or of room in its lock table: raise max_locks_per_transaction or its memory, and restore anew"
        }
        "53100" => "the target's disk is full: make room, and restore anew",
        _ if code.starts_with("23") => {
            "the rows do not meet the schema's own rules; see whether another backup does, and whether functions in it depend on a search_path"
        }
        _ => "see docs/RUNBOOK.md, \"A restore failed\"; drop the target and restore anew",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::ServerError;

    fn remedy(code: &str) -> &'static str {
        of(&PgError::Server(ServerError {
            position: None,
            code: code.to_owned(),
            message: String::new(),
            is_raised: false,
        }))
    }

    #[test]
    fn a_full_disk_is_not_to_be_tried_again() {
        assert!(remedy("53100").contains("disk is full"));
        assert!(remedy("53200").contains("max_locks_per_transaction"));
        assert!(remedy("53300").contains("try again"));
        assert!(remedy("57P01").contains("try again"));
    }
}
