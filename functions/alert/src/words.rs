//! Times and durations as a person says them.

use jiff::{SignedDuration, Timestamp};

pub(crate) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// The two largest units, rounded down; what is negative is no time at all.
pub(crate) fn duration(duration: SignedDuration) -> String {
    let minutes = duration.as_mins().max(0);
    let (days, hours, minutes) = (minutes / 1440, minutes / 60 % 24, minutes % 60);
    match (days, hours) {
        (0, 0) => counted(minutes, "minute"),
        (0, _) => join(counted(hours, "hour"), minutes, "minute"),
        _ => join(counted(days, "day"), hours, "hour"),
    }
}

fn join(larger: String, smaller: i64, unit: &str) -> String {
    if smaller == 0 {
        return larger;
    }
    format!("{larger} {}", counted(smaller, unit))
}

fn counted(n: i64, unit: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {unit}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_said() {
        for (seconds, expected) in [
            (-5, "0 minutes"),
            (59, "0 minutes"),
            (60, "1 minute"),
            (3600, "1 hour"),
            (7260, "2 hours 1 minute"),
            (86_100, "23 hours 55 minutes"),
            (86_400, "1 day"),
            (187_260, "2 days 4 hours"),
        ] {
            assert_eq!(duration(SignedDuration::from_secs(seconds)), expected);
        }
    }
}
