//! The six fields of `cron(minute hour day-of-month month day-of-week year)`.

use jiff::civil::{Date, Weekday};

use super::ScheduleError;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cron {
    minutes: Vec<Span>,
    hours: Vec<Span>,
    days: Days,
    months: Vec<Span>,
    years: Vec<Span>,
}

/// `from`, `from + step`, … up to `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    from: i16,
    to: i16,
    step: i16,
}

/// Exactly one of the two fields counts; the other is `?`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Days {
    OfMonth(Vec<DayOfMonth>),
    OfWeek(Vec<DayOfWeek>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DayOfMonth {
    In(Span),
    /// `L`
    Last,
    /// `15W`: the weekday nearest to the 15th, in the same month.
    WeekdayNearest(i8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DayOfWeek {
    /// Sunday is 1.
    In(Span),
    /// `6L`: the last Friday of the month.
    LastOfMonth(Weekday),
    /// `6#3`: the third Friday of the month.
    NthOfMonth(Weekday, i8),
}

/// What a field is called, and what may stand in it.
struct Field {
    name: &'static str,
    min: i16,
    max: i16,
    /// Names of `min`, `min + 1`, …
    names: &'static [&'static str],
    allowed: &'static str,
}

const MINUTE: Field = Field {
    name: "minute",
    min: 0,
    max: 59,
    names: &[],
    allowed: "0-59 , - * /",
};
const HOUR: Field = Field {
    name: "hour",
    min: 0,
    max: 23,
    names: &[],
    allowed: "0-23 , - * /",
};
const DAY_OF_MONTH: Field = Field {
    name: "day-of-month",
    min: 1,
    max: 31,
    names: &[],
    allowed: "1-31 , - * / ? L and W",
};
const MONTH: Field = Field {
    name: "month",
    min: 1,
    max: 12,
    names: &[
        "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
    ],
    allowed: "1-12 or JAN-DEC , - * /",
};
const DAY_OF_WEEK: Field = Field {
    name: "day-of-week",
    min: 1,
    max: 7,
    names: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
    allowed: "1-7 or SUN-SAT , - * / ? L and #",
};
const YEAR: Field = Field {
    name: "year",
    min: 1970,
    max: 2199,
    names: &[],
    allowed: "1970-2199 , - * /",
};

impl Cron {
    pub(super) fn parse(text: &str) -> Result<Self, ScheduleError> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let &[minute, hour, day_of_month, month, day_of_week, year] = fields.as_slice() else {
            return Err(ScheduleError::FieldCount {
                text: text.to_owned(),
                found: fields.len(),
            });
        };
        let days = match (day_of_month, day_of_week) {
            ("?", "?") => return Err(ScheduleError::Days(text.to_owned())),
            (of_month, "?") => Days::OfMonth(DAY_OF_MONTH.list(of_month, day_of_month_item)?),
            ("?", of_week) => Days::OfWeek(DAY_OF_WEEK.list(of_week, day_of_week_item)?),
            _ => return Err(ScheduleError::Days(text.to_owned())),
        };
        Ok(Self {
            minutes: MINUTE.list(minute, |item| MINUTE.span(item))?,
            hours: HOUR.list(hour, |item| HOUR.span(item))?,
            days,
            months: MONTH.list(month, |item| MONTH.span(item))?,
            years: YEAR.list(year, |item| YEAR.span(item))?,
        })
    }

    /// Hour and minute of each local time on `date`, in order.
    pub(super) fn times_on(&self, date: Date) -> impl Iterator<Item = (i8, i8)> {
        let hours = if self.is_on(date) { 0..24 } else { 0..0 };
        let hours = hours.filter(|hour| any(&self.hours, *hour));
        hours.flat_map(|hour| {
            let minutes = (0..60).filter(|minute| any(&self.minutes, *minute));
            minutes.map(move |minute| (hour, minute))
        })
    }

    fn is_on(&self, date: Date) -> bool {
        any(&self.years, date.year())
            && any(&self.months, date.month())
            && match &self.days {
                Days::OfMonth(items) => items.iter().any(|item| item.is_on(date)),
                Days::OfWeek(items) => items.iter().any(|item| item.is_on(date)),
            }
    }
}

fn any(spans: &[Span], value: impl Into<i16>) -> bool {
    let value = value.into();
    spans.iter().any(|span| span.contains(value))
}

impl Span {
    fn contains(self, value: i16) -> bool {
        (self.from..=self.to).contains(&value) && (value - self.from) % self.step == 0
    }
}

impl DayOfMonth {
    fn is_on(self, date: Date) -> bool {
        match self {
            Self::In(span) => span.contains(date.day().into()),
            Self::Last => date == date.last_of_month(),
            Self::WeekdayNearest(day) => date.day() == weekday_nearest(date, day),
        }
    }
}

/// Never leaves the month: the first, a Saturday, moves to Monday the third.
fn weekday_nearest(in_month_of: Date, day: i8) -> i8 {
    let last = in_month_of.last_of_month().day();
    if day > last {
        return 0;
    }
    match in_month_of.first_of_month().weekday().wrapping_add(day - 1) {
        Weekday::Saturday if day == 1 => 3,
        Weekday::Saturday => day - 1,
        Weekday::Sunday if day == last => day - 2,
        Weekday::Sunday => day + 1,
        Weekday::Monday
        | Weekday::Tuesday
        | Weekday::Wednesday
        | Weekday::Thursday
        | Weekday::Friday => day,
    }
}

impl DayOfWeek {
    fn is_on(self, date: Date) -> bool {
        let (n, weekday) = match self {
            Self::In(span) => return span.contains(date.weekday().to_sunday_one_offset().into()),
            Self::LastOfMonth(weekday) => (-1, weekday),
            Self::NthOfMonth(weekday, n) => (n, weekday),
        };
        // A month without a fifth one is an error.
        let nth = date.nth_weekday_of_month(n, weekday);
        nth.is_ok_and(|nth| nth == date)
    }
}

fn day_of_month_item(item: &str) -> Option<DayOfMonth> {
    if item == "L" {
        return Some(DayOfMonth::Last);
    }
    if let Some(day) = item.strip_suffix('W') {
        let day = DAY_OF_MONTH.value(day)?;
        return i8::try_from(day).ok().map(DayOfMonth::WeekdayNearest);
    }
    DAY_OF_MONTH.span(item).map(DayOfMonth::In)
}

fn day_of_week_item(item: &str) -> Option<DayOfWeek> {
    if item == "L" {
        // The last day of the week.
        return DAY_OF_WEEK.span("SAT").map(DayOfWeek::In);
    }
    if let Some(day) = item.strip_suffix('L') {
        return weekday(day).map(DayOfWeek::LastOfMonth);
    }
    if let Some((day, n)) = item.split_once('#') {
        let n = n.parse().ok().filter(|n| (1..=5).contains(n))?;
        return weekday(day).map(|day| DayOfWeek::NthOfMonth(day, n));
    }
    DAY_OF_WEEK.span(item).map(DayOfWeek::In)
}

fn weekday(text: &str) -> Option<Weekday> {
    let day = i8::try_from(DAY_OF_WEEK.value(text)?).ok()?;
    Weekday::from_sunday_one_offset(day).ok()
}

impl Field {
    /// Items between commas; `what` tells one.
    fn list<T>(
        &self,
        text: &str,
        what: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, ScheduleError> {
        let text = text.to_ascii_uppercase();
        let items = text.split(',').map(|item| {
            what(item).ok_or_else(|| ScheduleError::Field {
                field: self.name,
                text: item.to_owned(),
                allowed: self.allowed,
            })
        });
        items.collect()
    }

    /// `*`, `3`, `3-7`, each with `/2` or without; `3/2` runs to the end.
    fn span(&self, item: &str) -> Option<Span> {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(step.parse().ok().filter(|step| *step > 0)?)),
            None => (item, None),
        };
        let (from, to) = if range == "*" {
            (self.min, self.max)
        } else if let Some((from, to)) = range.split_once('-') {
            (self.value(from)?, self.value(to)?)
        } else {
            let from = self.value(range)?;
            (from, if step.is_some() { self.max } else { from })
        };
        let step = step.unwrap_or(1);
        (from <= to).then_some(Span { from, to, step })
    }

    fn value(&self, text: &str) -> Option<i16> {
        let named = self.names.iter().position(|name| *name == text);
        let value = match named {
            Some(position) => self.min + i16::try_from(position).ok()?,
            None => text.parse().ok()?,
        };
        (self.min..=self.max).contains(&value).then_some(value)
    }
}
