//! Which snapshot branches are due on a date. Pure.

use std::collections::BTreeSet;

use jiff::civil::{Date, Weekday};
use shared::policy::Recurring;

/// Of those that the policy wants: the daily one every day, the weekly one on Sundays.
pub fn due(wanted: &BTreeSet<Recurring>, date: Date) -> Vec<Recurring> {
    let is_due = |it: &Recurring| match it {
        Recurring::Daily => true,
        Recurring::Weekly => date.weekday() == Weekday::Sunday,
    };
    wanted.iter().copied().filter(is_due).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use Recurring::{Daily, Weekly};

    #[test]
    fn weekly_branches_are_made_on_sundays_beside_the_daily_ones() {
        let all = BTreeSet::from([Daily, Weekly]);
        let on = |date: &str| due(&all, date.parse().unwrap());
        assert_eq!(on("2026-11-21"), [Daily]);
        assert_eq!(on("2026-11-22"), [Daily, Weekly]);
        assert_eq!(on("2026-11-23"), [Daily]);
        assert_eq!(due(&BTreeSet::new(), "2026-11-22".parse().unwrap()), []);
    }
}
