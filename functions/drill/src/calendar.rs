//! The first business day of a month: Monday to Friday, and no holiday. Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;

/// When a run that was scheduled for the first business day may begin: `None` if now.
///
/// The schedule (`1W`) knows weekends and no holidays. On a holiday the run waits for the same
/// time of the next day that is neither.
pub fn not_before(
    scheduled: Timestamp,
    zone: &TimeZone,
    holidays: &BTreeSet<Date>,
) -> Option<Timestamp> {
    let local = zone.to_datetime(scheduled);
    let first = first_business_day(local.date(), holidays)?;
    if local.date() >= first {
        return None;
    }
    let at = zone.to_ambiguous_timestamp(first.to_datetime(local.time()));
    at.compatible().ok()
}

/// In the month of `date`. `None` if a whole month is holidays.
pub fn first_business_day(date: Date, holidays: &BTreeSet<Date>) -> Option<Date> {
    let mut day = date.first_of_month();
    while day.month() == date.month() {
        let is_weekend = matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday);
        if !is_weekend && !holidays.contains(&day) {
            return Some(day);
        }
        day = day.tomorrow().ok()?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holidays(days: &[&str]) -> BTreeSet<Date> {
        days.iter().map(|day| day.parse().unwrap()).collect()
    }

    #[test]
    fn weekends_and_holidays_are_no_business_days() {
        let known = holidays(&["2027-01-01", "2026-12-01", "2026-12-02"]);
        for (month, expected) in [
            ("2026-11-15", "2026-11-02"), // The 1st is a Sunday.
            ("2026-08-31", "2026-08-03"), // The 1st is a Saturday.
            ("2027-01-20", "2027-01-04"), // Friday the 1st is a holiday.
            ("2026-12-24", "2026-12-03"),
            ("2026-10-01", "2026-10-01"),
        ] {
            let found = first_business_day(month.parse().unwrap(), &known);
            assert_eq!(found, Some(expected.parse().unwrap()), "{month}");
        }
    }

    #[test]
    fn a_month_of_holidays_has_none() {
        let all: BTreeSet<Date> = (1..=28)
            .map(|day| jiff::civil::date(2027, 2, day))
            .collect();
        assert_eq!(
            first_business_day(jiff::civil::date(2027, 2, 1), &all),
            None
        );
    }

    #[test]
    fn a_run_on_a_holiday_waits_for_the_same_time_of_the_next_business_day() {
        let known = holidays(&["2027-01-01"]);
        let check = |zone: &str, scheduled: &str, expected: Option<&str>| {
            let zone = TimeZone::get(zone).unwrap();
            let found = not_before(scheduled.parse().unwrap(), &zone, &known);
            assert_eq!(found, expected.map(|at| at.parse().unwrap()), "{scheduled}");
        };
        check("UTC", "2027-01-01T03:00:00Z", Some("2027-01-04T03:00:00Z"));
        check("UTC", "2027-01-04T03:00:00Z", None);
        check("UTC", "2027-01-15T03:00:00Z", None);
        // Still the holiday in New York, and the last of December in Honolulu.
        check(
            "America/New_York",
            "2027-01-02T03:00:00Z",
            Some("2027-01-05T03:00:00Z"),
        );
        check("Pacific/Honolulu", "2027-01-01T03:00:00Z", None);
    }
}
