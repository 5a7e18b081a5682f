//! How far back a drill's branch goes. Pure.

use jiff::{SignedDuration, Timestamp};
use shared::neon::Point;
use shared::words;

use crate::create::whole_second;

/// The window moves on while the branch is being made, and clocks differ.
const MARGIN: SignedDuration = SignedDuration::from_mins(10);
/// By so much less is as good: a window of a week cannot give a whole one.
const ALMOST: SignedDuration = SignedDuration::from_hours(1);
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// What there is to go back into.
#[derive(Clone, Copy, Debug)]
pub struct History {
    /// Of the project; none where nobody says.
    pub window_seconds: Option<u64>,
    /// When the production branch came about.
    pub begins_at: Timestamp,
    pub now: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    pub point: Point,
    /// Why it is not as far back as it should be, and what to do.
    pub short: Option<String>,
}

/// As of `days` ago, or as near to it as the history allows.
pub fn reach(days: u32, history: &History) -> Reach {
    let wanted = history.now - DAY * i32::try_from(days).unwrap_or(i32::MAX);
    let window = history
        .window_seconds
        .map(|seconds| SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX / 2)));
    let in_window = window.map(|it| history.now - it + MARGIN);
    let oldest = in_window.map_or(history.begins_at, |it| it.max(history.begins_at));
    if wanted >= oldest {
        let point = Point::Time(whole_second(wanted));
        return Reach { point, short: None };
    }
    let why = if in_window.is_some_and(|it| it >= history.begins_at) {
        format!(
            "the project's restore window is {}: lengthen it in the project's settings, or with restore_window_days and set_restore_window of [database.neon], as far as the plan allows",
            window.map(words::duration).unwrap_or_default()
        )
    } else {
        format!(
            "the production branch began at {}: a later drill reaches farther",
            words::time(history.begins_at)
        )
    };
    // The API takes whole seconds, and the one before the branch began is not in its history.
    let at = whole_second(oldest) + SignedDuration::from_secs(1);
    let (point, of) = if at < history.now {
        (Point::Time(at), words::time(at))
    } else {
        (Point::Head, "now".to_owned())
    };
    let is_short = oldest.duration_since(wanted) > ALMOST;
    let short = is_short.then(|| {
        format!("a state of {days} days ago cannot be had, so the drill's branch is of {of}: {why}")
    });
    Reach { point, short }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-11-21T03:00:00Z";

    fn check(window_days: Option<u64>, begins: &str) -> (Option<String>, String) {
        let now: Timestamp = NOW.parse().unwrap();
        let history = History {
            window_seconds: window_days.map(|it| it * 86_400),
            begins_at: begins.parse().unwrap(),
            now,
        };
        let reach = reach(7, &history);
        let at = match reach.point {
            Point::Time(at) => Some(at.to_string()),
            Point::Head => None,
            Point::Lsn(lsn) => panic!("{lsn}"),
        };
        (at, reach.short.unwrap_or_default())
    }

    #[test]
    fn a_window_that_is_long_enough_gives_the_moment_that_is_wanted() {
        let week = (Some("2026-11-14T03:00:00Z".to_owned()), String::new());
        assert_eq!(check(Some(30), "2025-01-01T00:00:00Z"), week);
        assert_eq!(check(None, "2025-01-01T00:00:00Z"), week);
    }

    #[test]
    fn a_window_that_is_too_short_gives_its_far_end_and_says_what_to_change() {
        let (at, short) = check(Some(1), "2025-01-01T00:00:00Z");
        assert_eq!(at.as_deref(), Some("2026-11-20T03:10:01Z"));
        assert!(short.contains("restore window is 1 day: "), "{short}");
        assert!(short.contains("set_restore_window"), "{short}");
        // A window of a week moves on while it is asked for a week.
        let (at, short) = check(Some(7), "2025-01-01T00:00:00Z");
        assert_eq!((at.as_deref(), &*short), (Some("2026-11-14T03:10:01Z"), ""));
        let (at, short) = check(Some(0), "2025-01-01T00:00:00Z");
        assert_eq!(at, None);
        assert!(short.contains("branch is of now"), "{short}");
    }

    #[test]
    fn a_young_project_is_told_apart_from_a_short_window() {
        let (at, short) = check(Some(30), "2026-11-19T12:00:00.5Z");
        assert_eq!(at.as_deref(), Some("2026-11-19T12:00:01Z"));
        assert!(short.contains("a later drill reaches farther"), "{short}");
    }
}
