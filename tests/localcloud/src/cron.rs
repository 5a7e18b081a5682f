//! EventBridge Scheduler's expressions: `cron(…)`, `rate(…)`, `at(…)`. Pure.

use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Span, Timestamp, ToSpan};

/// More firings than this between two instants are a mistake in the question.
const FIRINGS_MAX: usize = 100_000;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Expression {
    Cron(Box<Cron>),
    /// Every so many seconds; counted from the epoch, where AWS counts from the schedule's creation.
    Rate(i64),
    At(DateTime),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cron {
    minutes: Vec<i16>,
    hours: Vec<i16>,
    days: Days,
    months: Vec<i16>,
    years: Vec<i16>,
}

/// Days of the month or days of the week: exactly one of the two fields is `?`.
#[derive(Clone, Debug, PartialEq)]
enum Days {
    OfMonth(Vec<i16>),
    /// `L`
    LastOfMonth,
    /// `15W`: the weekday nearest to that day, within its month.
    NearestWeekday(i8),
    /// `LW`
    LastWeekday,
    /// 1 is Sunday.
    OfWeek(Vec<i16>),
    /// `2#1`: the first Monday.
    Nth(i16, i8),
    /// `6L`: the last Friday.
    LastOfWeek(i16),
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a schedule expression: {0}")]
pub(crate) struct ExpressionError(pub(crate) String);

const MONTHS: [&str; 12] = [
    "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

impl Expression {
    pub(crate) fn parse(text: &str) -> Result<Self, ExpressionError> {
        let bad = || ExpressionError(text.to_owned());
        let (kind, rest) = text.trim().split_once('(').ok_or_else(bad)?;
        let inner = rest.strip_suffix(')').ok_or_else(bad)?.trim();
        match kind {
            "cron" => Cron::parse(inner)
                .map(|cron| Self::Cron(Box::new(cron)))
                .ok_or_else(bad),
            "rate" => rate(inner).map(Self::Rate).ok_or_else(bad),
            "at" => inner.parse().map(Self::At).map_err(|_| bad()),
            _ => Err(bad()),
        }
    }

    /// When it fires after `from` and not after `to`, in order.
    pub(crate) fn between(
        &self,
        zone: &TimeZone,
        from: Timestamp,
        to: Timestamp,
    ) -> Vec<Timestamp> {
        match self {
            Self::Rate(seconds) => {
                let first = (from.as_second().div_euclid(*seconds) + 1) * seconds;
                let mut times = Vec::new();
                let mut next = first;
                while next <= to.as_second() && times.len() < FIRINGS_MAX {
                    times.extend(Timestamp::from_second(next));
                    next += seconds;
                }
                times
            }
            Self::At(moment) => instant(zone, *moment)
                .into_iter()
                .filter(|at| *at > from && *at <= to)
                .collect(),
            Self::Cron(cron) => cron.between(zone, from, to),
        }
    }
}

/// `15 minutes` in seconds.
fn rate(text: &str) -> Option<i64> {
    let (number, unit) = text.split_once(' ')?;
    let number: i64 = number.parse().ok().filter(|number| *number > 0)?;
    let unit = match unit.trim().trim_end_matches('s') {
        "minute" => 60,
        "hour" => 3600,
        "day" => 86_400,
        _ => return None,
    };
    Some(number * unit)
}

/// As on AWS, a time that the clocks skip does not fire, and one that they repeat fires once.
fn instant(zone: &TimeZone, moment: DateTime) -> Option<Timestamp> {
    let ambiguous = zone.to_ambiguous_timestamp(moment);
    match ambiguous.offset() {
        AmbiguousOffset::Gap { .. } => None,
        AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => {
            ambiguous.earlier().ok()
        }
    }
}

impl Cron {
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, of_month, months, of_week, years] = fields.as_slice() else {
            return None;
        };
        let days = match (*of_month, *of_week) {
            (of_month, "?") => days_of_month(of_month)?,
            ("?", of_week) => days_of_week(of_week)?,
            _ => return None,
        };
        Some(Self {
            minutes: numbers(minutes, 0, 59, &[])?,
            hours: numbers(hours, 0, 23, &[])?,
            days,
            months: numbers(months, 1, 12, &MONTHS)?,
            years: numbers(years, 1970, 2199, &[])?,
        })
    }

    fn between(&self, zone: &TimeZone, from: Timestamp, to: Timestamp) -> Vec<Timestamp> {
        let mut times = Vec::new();
        let mut date = from.to_zoned(zone.clone()).date();
        let last = to.to_zoned(zone.clone()).date();
        while date <= last && times.len() < FIRINGS_MAX {
            if self.falls_on(date) {
                for (hour, minute) in self
                    .hours
                    .iter()
                    .flat_map(|hour| self.minutes.iter().map(move |minute| (*hour, *minute)))
                {
                    let (hour, minute) = (
                        i8::try_from(hour).unwrap_or(0),
                        i8::try_from(minute).unwrap_or(0),
                    );
                    times.extend(
                        instant(zone, date.at(hour, minute, 0, 0))
                            .filter(|at| *at > from && *at <= to),
                    );
                }
            }
            let Ok(tomorrow) = date.tomorrow() else { break };
            date = tomorrow;
        }
        times.sort_unstable();
        times
    }

    fn falls_on(&self, date: Date) -> bool {
        let in_month =
            self.months.contains(&i16::from(date.month())) && self.years.contains(&date.year());
        let weekday = i16::from(date.weekday().to_sunday_one_offset());
        let last = date.last_of_month();
        in_month
            && match &self.days {
                Days::OfMonth(days) => days.contains(&i16::from(date.day())),
                Days::LastOfMonth => date == last,
                Days::NearestWeekday(day) => {
                    date.day() <= last.day() && nearest_weekday(date, *day) == Some(date)
                }
                Days::LastWeekday => nearest_weekday(date, last.day()) == Some(date),
                Days::OfWeek(days) => days.contains(&weekday),
                Days::Nth(day, nth) => weekday == *day && (date.day() - 1) / 7 + 1 == *nth,
                Days::LastOfWeek(day) => weekday == *day && date.day() > last.day() - 7,
            }
    }
}

/// The weekday nearest to a day of the month of `date`, never in another month.
fn nearest_weekday(date: Date, day: i8) -> Option<Date> {
    let wanted = Date::new(date.year(), date.month(), day).ok()?;
    let shift: Span = match wanted.weekday().to_monday_one_offset() {
        6 if wanted.day() == 1 => 2.days(),
        6 => (-1).days(),
        7 if wanted == wanted.last_of_month() => (-2).days(),
        7 => 1.days(),
        _ => 0.days(),
    };
    wanted.checked_add(shift).ok()
}

fn days_of_month(text: &str) -> Option<Days> {
    match text {
        "L" => Some(Days::LastOfMonth),
        "LW" => Some(Days::LastWeekday),
        _ => match text.strip_suffix('W') {
            Some(day) => day
                .parse()
                .ok()
                .filter(|day| (1..=31).contains(day))
                .map(Days::NearestWeekday),
            None => numbers(text, 1, 31, &[]).map(Days::OfMonth),
        },
    }
}

fn days_of_week(text: &str) -> Option<Days> {
    if let Some((day, nth)) = text.split_once('#') {
        return Some(Days::Nth(
            number(day, 1, 7, &WEEKDAYS)?,
            nth.parse().ok().filter(|nth| (1..=5).contains(nth))?,
        ));
    }
    match text.strip_suffix('L') {
        Some("") => Some(Days::OfWeek(vec![7])),
        Some(day) => Some(Days::LastOfWeek(number(day, 1, 7, &WEEKDAYS)?)),
        None => numbers(text, 1, 7, &WEEKDAYS).map(Days::OfWeek),
    }
}

/// `*`, `1,2`, `1-5`, `0/15`, `*/5`, names.
fn numbers(text: &str, least: i16, most: i16, names: &[&str]) -> Option<Vec<i16>> {
    let mut all = Vec::new();
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (
                range,
                Some(step.parse::<usize>().ok().filter(|step| *step > 0)?),
            ),
            None => (part, None),
        };
        let (first, last) = match (range, range.split_once('-')) {
            ("*", _) => (least, most),
            (_, Some((first, last))) => (
                number(first, least, most, names)?,
                number(last, least, most, names)?,
            ),
            (one, None) => {
                let one = number(one, least, most, names)?;
                (one, if step.is_some() { most } else { one })
            }
        };
        all.extend((first..=last).step_by(step.unwrap_or(1)));
    }
    all.sort_unstable();
    all.dedup();
    Some(all).filter(|all| !all.is_empty())
}

fn number(text: &str, least: i16, most: i16, names: &[&str]) -> Option<i16> {
    let named = names
        .iter()
        .position(|name| name.eq_ignore_ascii_case(text));
    let number = match named {
        Some(index) => i16::try_from(index).ok()? + 1,
        None => text.parse().ok()?,
    };
    Some(number).filter(|number| (least..=most).contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(expression: &str, zone: &str, from: &str, to: &str, expected: &[&str]) {
        let zone = TimeZone::get(zone).unwrap();
        let times = Expression::parse(expression).unwrap().between(
            &zone,
            from.parse().unwrap(),
            to.parse().unwrap(),
        );
        let times: Vec<String> = times.iter().map(Timestamp::to_string).collect();
        assert_eq!(times, expected, "{expression}");
    }

    #[test]
    fn a_nightly_schedule_fires_once_a_day_and_not_at_the_start_of_the_span() {
        check(
            "cron(0 1 * * ? *)",
            "UTC",
            "2026-11-20T01:00:00Z",
            "2026-11-22T01:00:00Z",
            &["2026-11-21T01:00:00Z", "2026-11-22T01:00:00Z"],
        );
    }

    #[test]
    fn a_schedule_follows_its_time_zone() {
        check(
            "cron(0 1 * * ? *)",
            "Europe/Berlin",
            "2026-07-01T00:00:00Z",
            "2026-07-02T00:00:00Z",
            &["2026-07-01T23:00:00Z"],
        );
        check(
            "cron(0 1 * * ? *)",
            "Europe/Berlin",
            "2026-12-01T12:00:00Z",
            "2026-12-02T12:00:00Z",
            &["2026-12-02T00:00:00Z"],
        );
    }

    #[test]
    fn a_time_that_the_clocks_skip_does_not_fire_and_a_repeated_one_fires_once() {
        check(
            "cron(30 2 * * ? *)",
            "Europe/Berlin",
            "2026-03-28T12:00:00Z",
            "2026-03-29T12:00:00Z",
            &[],
        );
        check(
            "cron(30 2 * * ? *)",
            "Europe/Berlin",
            "2026-10-24T12:00:00Z",
            "2026-10-25T12:00:00Z",
            &["2026-10-25T00:30:00Z"],
        );
    }

    #[test]
    fn days_are_counted_from_both_ends_of_the_month_and_by_the_week() {
        let november = |expression, expected: &[&str]| {
            check(
                expression,
                "UTC",
                "2026-10-31T23:00:00Z",
                "2026-11-30T23:00:00Z",
                expected,
            );
        };
        november("cron(0 4 L * ? *)", &["2026-11-30T04:00:00Z"]);
        // The first is a Sunday, so the nearest weekday of this month is Monday the second.
        november("cron(0 4 1W * ? *)", &["2026-11-02T04:00:00Z"]);
        november("cron(0 4 28W * ? *)", &["2026-11-27T04:00:00Z"]);
        november("cron(0 4 LW * ? *)", &["2026-11-30T04:00:00Z"]);
        november("cron(0 4 ? * 1#1 *)", &["2026-11-01T04:00:00Z"]);
        november("cron(0 4 ? * MON#2 *)", &["2026-11-09T04:00:00Z"]);
        november("cron(0 4 ? * 6L *)", &["2026-11-27T04:00:00Z"]);
    }

    #[test]
    fn lists_ranges_steps_and_names_are_understood() {
        check(
            "cron(0/30 8,9 ? NOV MON-TUE 2026)",
            "UTC",
            "2026-11-22T00:00:00Z",
            "2026-11-23T23:00:00Z",
            &[
                "2026-11-23T08:00:00Z",
                "2026-11-23T08:30:00Z",
                "2026-11-23T09:00:00Z",
                "2026-11-23T09:30:00Z",
            ],
        );
    }

    #[test]
    fn a_rate_fires_on_whole_multiples() {
        check(
            "rate(15 minutes)",
            "UTC",
            "2026-11-20T00:50:00Z",
            "2026-11-20T01:15:00Z",
            &["2026-11-20T01:00:00Z", "2026-11-20T01:15:00Z"],
        );
        check(
            "at(2026-11-20T01:00:00)",
            "Europe/Berlin",
            "2026-11-19T00:00:00Z",
            "2026-11-21T00:00:00Z",
            &["2026-11-20T00:00:00Z"],
        );
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for text in [
            "cron(0 1 * * * *)",
            "cron(0 1 * * ?)",
            "cron(60 1 * * ? *)",
            "rate(0 minutes)",
            "rate(5 weeks)",
            "daily",
            "cron(0 1 ? * 8 *)",
        ] {
            assert!(Expression::parse(text).is_err(), "{text}");
        }
    }
}
