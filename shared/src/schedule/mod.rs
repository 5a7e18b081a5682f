//! When a schedule fires: EventBridge Scheduler's `cron(…)` and `rate(…)`, in a time zone.
//!
//! Written here, since the cron crates that know `L`, `W` and `#` count weekdays from 0, lack
//! the year, cannot look back, or bring a second time library. As AWS documents it, and
//! not tried against AWS: a local time that a clock change skips is skipped; one that it
//! repeats counts once (we take the first).

mod cron;

use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use cron::Cron;

/// The 29th of February can be a given weekday every 40 years only.
const DAYS_MAX: u32 = 41 * 366;

/// A recurring schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    text: String,
    rule: Rule,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    Rate(SignedDuration),
    Cron(Cron),
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    #[error(
        "{0:?} is not a recurring schedule: write cron(minute hour day-of-month month day-of-week year) or rate(1 day)"
    )]
    Unknown(String),
    #[error("{0:?} is not a rate: write a number from 1 and minutes, hours or days")]
    Rate(String),
    #[error(
        "{text:?} has {found} fields; cron(…) has six: minute hour day-of-month month day-of-week year"
    )]
    FieldCount { text: String, found: usize },
    #[error("{text:?} in the field {field} is not understood: allowed are {allowed}")]
    Field {
        field: &'static str,
        text: String,
        allowed: &'static str,
    },
    #[error("{0:?} needs exactly one ?, as day-of-month or as day-of-week")]
    Days(String),
}

impl FromStr for Schedule {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let inside = |name: &str| text.trim().strip_prefix(name)?.strip_suffix(')');
        let rule = if let Some(fields) = inside("cron(") {
            Rule::Cron(Cron::parse(fields)?)
        } else if let Some(rate) = inside("rate(") {
            Rule::Rate(parse_rate(rate).ok_or_else(|| ScheduleError::Rate(text.to_owned()))?)
        } else {
            return Err(ScheduleError::Unknown(text.to_owned()));
        };
        Ok(Self {
            text: text.trim().to_owned(),
            rule,
        })
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

fn parse_rate(rate: &str) -> Option<SignedDuration> {
    let (count, unit) = rate.trim().split_once(' ')?;
    let count: u32 = count.parse().ok().filter(|count| *count > 0)?;
    let minutes = match unit.trim() {
        "minute" | "minutes" => 1,
        "hour" | "hours" => 60,
        "day" | "days" => 24 * 60,
        _ => return None,
    };
    Some(SignedDuration::from_mins(i64::from(count) * minutes))
}

impl Schedule {
    /// The first instant later than `after`; none when the schedule has ended.
    ///
    /// A rate runs from when its schedule was created, which only AWS knows: here it runs
    /// from `after`.
    pub fn first_after(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let cron = match &self.rule {
            Rule::Rate(period) => return after.checked_add(*period).ok(),
            Rule::Cron(cron) => cron,
        };
        let mut date = zone.to_datetime(after).date();
        for _ in 0..DAYS_MAX {
            let found = instants_on(cron, date, zone).find(|at| *at > after);
            if found.is_some() {
                return found;
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    /// The last instant not later than `by`; none when the schedule had not begun.
    ///
    /// A rate may have fired at any moment: `by` itself.
    pub fn latest_by(&self, by: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let cron = match &self.rule {
            Rule::Rate(_) => return Some(by),
            Rule::Cron(cron) => cron,
        };
        let mut date = zone.to_datetime(by).date();
        for _ in 0..DAYS_MAX {
            let found = instants_on(cron, date, zone)
                .take_while(|at| *at <= by)
                .last();
            if found.is_some() {
                return found;
            }
            date = date.yesterday().ok()?;
        }
        None
    }
}

/// In order of time.
fn instants_on(cron: &Cron, date: Date, zone: &TimeZone) -> impl Iterator<Item = Timestamp> {
    cron.times_on(date).filter_map(move |(hour, minute)| {
        let local = zone.to_ambiguous_timestamp(date.at(hour, minute, 0, 0));
        if matches!(local.offset(), AmbiguousOffset::Gap { .. }) {
            return None;
        }
        local.earlier().ok()
    })
}

#[cfg(test)]
mod tests;
