//! For how long a verified backup has been missing.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use shared::schedule::Schedule;

/// When backups are expected.
#[derive(Clone, Debug)]
pub struct Expectation {
    pub schedule: Schedule,
    pub zone: TimeZone,
}

impl Expectation {
    /// Minutes since a scheduled backup should have been verified, rounded up; 0 when fine.
    ///
    /// Counted from the first scheduled time that no verified backup covers, so it grows until
    /// there is one, and does not start anew each night. `newest` is the scheduled time of the
    /// newest verified backup. Without any there is no first time to count from, and the last
    /// one that is late stands in: so a fresh deployment is overdue until its first backup.
    pub fn overdue_minutes(
        &self,
        newest: Option<Timestamp>,
        late_after: SignedDuration,
        now: Timestamp,
    ) -> u64 {
        let missed = match newest {
            Some(newest) => self.schedule.first_after(newest, &self.zone),
            None => self.schedule.latest_by(now - late_after, &self.zone),
        };
        let Some(late_for) = missed.map(|missed| now.duration_since(missed) - late_after) else {
            return 0;
        };
        if late_for.is_negative() {
            return 0;
        }
        let seconds = late_for.as_secs().unsigned_abs();
        seconds.div_ceil(60).max(1)
    }
}

/// Minutes for which the newest proven data, or the last drill of a branch, has been older than
/// it may be, rounded up; 0 when fine. `since`: as of when that data is, or when that drill was
/// begun; where there is none, when the oldest backup was taken. Without any backup it is the
/// backup that is overdue.
pub fn minutes_beyond(since: Option<Timestamp>, within: SignedDuration, now: Timestamp) -> u64 {
    let late_for = since.map(|since| now.duration_since(since) - within);
    match late_for {
        Some(late_for) if late_for.is_positive() => {
            late_for.as_secs().unsigned_abs().div_ceil(60).max(1)
        }
        Some(_) | None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(schedule: &str, zone: &str, newest: Option<&str>, now: &str, expected: u64) {
        let expectation = Expectation {
            schedule: schedule.parse().unwrap(),
            zone: TimeZone::get(zone).unwrap(),
        };
        let late_after = SignedDuration::from_mins(60);
        let newest = newest.map(|it| it.parse().unwrap());
        let minutes = expectation.overdue_minutes(newest, late_after, now.parse().unwrap());
        assert_eq!(minutes, expected, "{schedule} {zone} {newest:?} at {now}");
    }

    #[test]
    fn a_proof_may_be_as_old_as_its_objective() {
        let within = SignedDuration::from_hours(192);
        let check = |since: Option<&str>, now: &str, expected: u64| {
            let since = since.map(|it| it.parse().unwrap());
            let minutes = minutes_beyond(since, within, now.parse().unwrap());
            assert_eq!(minutes, expected, "{since:?} at {now}");
        };
        let sunday = Some("2026-11-15T01:00:00Z");
        check(sunday, "2026-11-23T01:00:00Z", 0);
        check(sunday, "2026-11-23T01:00:01Z", 1);
        check(sunday, "2026-11-24T01:00:00Z", 1_440);
        check(None, "2026-11-24T01:00:00Z", 0);
    }

    const NIGHTLY: &str = "cron(0 1 * * ? *)";

    #[test]
    fn tonights_backup_has_until_it_is_late() {
        for (now, expected) in [
            ("2026-11-21T00:59:59Z", 0),
            ("2026-11-21T01:00:00Z", 0),
            ("2026-11-21T01:59:59Z", 0),
            ("2026-11-21T02:00:00Z", 1),
            ("2026-11-21T02:15:00Z", 15),
            ("2026-11-21T02:15:01Z", 16),
        ] {
            check(NIGHTLY, "UTC", Some("2026-11-20T01:00:00Z"), now, expected);
        }
    }

    #[test]
    fn a_backup_of_tonight_or_later_is_enough() {
        for newest in ["2026-11-21T01:00:00Z", "2026-11-21T01:40:00Z"] {
            check(NIGHTLY, "UTC", Some(newest), "2026-11-22T01:59:00Z", 0);
        }
    }

    #[test]
    fn what_is_missing_for_nights_keeps_growing() {
        let newest = Some("2026-11-18T01:00:00Z");
        check(
            NIGHTLY,
            "UTC",
            newest,
            "2026-11-21T00:59:00Z",
            2 * 1440 - 61,
        );
        check(
            NIGHTLY,
            "UTC",
            newest,
            "2026-11-21T01:01:00Z",
            2 * 1440 - 59,
        );
    }

    #[test]
    fn without_any_backup_the_last_late_one_counts() {
        check(NIGHTLY, "UTC", None, "2026-11-21T12:00:00Z", 600);
        check(NIGHTLY, "UTC", None, "2026-11-21T01:30:00Z", 1410);
        check(NIGHTLY, "UTC", None, "2026-11-21T02:00:00Z", 1);
    }

    #[test]
    fn backups_more_often_than_they_may_be_late_are_missed_too() {
        check(
            "cron(0/30 * * * ? *)",
            "UTC",
            Some("2026-11-21T00:00:00Z"),
            "2026-11-21T01:45:00Z",
            15,
        );
        check(
            "rate(30 minutes)",
            "UTC",
            Some("2026-11-21T00:00:00Z"),
            "2026-11-21T01:45:00Z",
            15,
        );
        check("rate(1 day)", "UTC", None, "2026-11-21T01:45:00Z", 1);
    }

    #[test]
    fn the_night_is_that_of_the_time_zone() {
        let newest = Some("2026-03-28T01:00:00Z");
        check(
            "cron(0 2 * * ? *)",
            "Europe/Berlin",
            newest,
            "2026-03-30T00:59:00Z",
            0,
        );
        // The night of the 29th has no 02:00, so the next one is expected.
        check(
            "cron(0 2 * * ? *)",
            "Europe/Berlin",
            newest,
            "2026-03-30T01:10:00Z",
            10,
        );
    }

    #[test]
    fn a_schedule_that_has_ended_expects_nothing() {
        check(
            "cron(0 1 * * ? 2020)",
            "UTC",
            Some("2026-11-18T01:00:00Z"),
            "2026-11-21T01:00:00Z",
            0,
        );
    }
}
