//! Which backups a drill takes. Pure.

use std::cmp::Reverse;

use jiff::{SignedDuration, Timestamp};
use shared::backup::BackupId;

/// What the monthly simulation takes beside the latest is at least this old.
const OLD: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The old backups in the order in which they should be drilled, with when they last were.
///
/// Those that never were come first, and of these the oldest, which is the next to be pruned;
/// then those whose drill is longest ago. So every retained backup has its turn.
pub fn rotation(
    backups: &[BackupId],
    drilled: &[(BackupId, Timestamp)],
    now: Timestamp,
) -> Vec<(BackupId, Option<Timestamp>)> {
    let is_old = |id: &&BackupId| now.duration_since(id.scheduled_at()) >= OLD;
    let last = |id: &BackupId| {
        let of_it = drilled.iter().filter(|(drilled, _)| drilled == id);
        of_it.map(|(_, at)| *at).max()
    };
    let old = backups.iter().filter(is_old);
    let mut turns: Vec<_> = old.map(|id| (*id, last(id))).collect();
    turns.sort_by_key(|(id, last)| (*last, id.scheduled_at(), Reverse(*id)));
    turns
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(day: &str) -> BackupId {
        format!("202611{day}T010000Z-nightly").parse().unwrap()
    }

    fn check(backups: &[&str], drilled: &[(&str, &str)], expected: &[&str]) {
        let backups: Vec<_> = backups.iter().map(|day| id(day)).collect();
        let at = |at: &str| format!("2026-11-{at}:00:00Z").parse().unwrap();
        let drilled: Vec<_> = drilled.iter().map(|(day, on)| (id(day), at(on))).collect();
        let turns = rotation(&backups, &drilled, at("20T02"));
        let found: Vec<_> = turns.into_iter().map(|(id, _)| id).collect();
        let expected: Vec<_> = expected.iter().map(|day| id(day)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_younger_than_a_week_is_not_among_them() {
        check(&["20", "14", "13", "12"], &[], &["12", "13"]);
    }

    #[test]
    fn every_backup_has_its_turn_before_one_has_a_second() {
        let backups = ["13", "12", "11"];
        check(&backups, &[("11", "12T02")], &["12", "13", "11"]);
        let twice = [
            ("11", "12T02"),
            ("12", "13T02"),
            ("13", "14T02"),
            ("11", "15T02"),
        ];
        check(&backups, &twice, &["12", "13", "11"]);
    }

    #[test]
    fn without_an_old_backup_there_is_no_turn() {
        check(&["19"], &[("19", "20T01")], &[]);
    }
}
