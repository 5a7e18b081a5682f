//! Times, durations and amounts as a person says them.

use jiff::{SignedDuration, Timestamp};

/// To the minute, in UTC.
pub fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// The two largest units, rounded down; what is negative is no time at all.
pub fn duration(duration: SignedDuration) -> String {
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

/// `1 table`, `2 tables`.
pub fn counted(n: i64, unit: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {unit}{plural}")
}

/// How long something took or will take.
pub fn seconds(seconds: f64) -> String {
    let whole = SignedDuration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(SignedDuration::MAX);
    if whole < SignedDuration::from_secs(120) {
        counted(whole.as_secs(), "second")
    } else {
        duration(whole)
    }
}

/// Decimal units, as disks and networks are sold.
pub fn bytes(bytes: u64) -> String {
    let units: [(u64, &str); 4] = [
        (1_000_000_000_000, "TB"),
        (1_000_000_000, "GB"),
        (1_000_000, "MB"),
        (1_000, "kB"),
    ];
    match units.into_iter().find(|(size, _)| bytes >= *size) {
        Some((size, unit)) if bytes / size < 10 => {
            format!("{}.{} {unit}", bytes / size, bytes % size * 10 / size)
        }
        Some((size, unit)) => format!("{} {unit}", bytes / size),
        None => format!("{bytes} B"),
    }
}

/// `1,234,567`
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
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

    #[test]
    fn amounts_read_as_said() {
        assert_eq!(
            [12, 1_500, 9_990_000, 2_500_000_000].map(bytes),
            ["12 B", "1.5 kB", "9.9 MB", "2.5 GB"]
        );
        assert_eq!(
            [7, 1_000, 12_345_678].map(grouped),
            ["7", "1,000", "12,345,678"]
        );
        assert_eq!(
            [0.4, 1.2, 90.0, 600.0].map(seconds),
            ["0 seconds", "1 second", "90 seconds", "10 minutes"]
        );
    }
}
