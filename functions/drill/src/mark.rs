//! What tells that a database or a role was made for a drill, for which, and since when. Pure.

use std::fmt;

use jiff::{SignedDuration, Timestamp};

/// No drill lasts longer: it gives up before.
const OLD: SignedDuration = SignedDuration::from_hours(24);

/// `<RFC 3339 time> <drill id>`, behind the words that say what it marks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    pub made_at: Timestamp,
    pub drill_id: String,
}

impl Mark {
    /// `None`: it is nobody's but a person's to judge.
    pub fn parse(text: &str) -> Option<Self> {
        let (made_at, drill_id) = text.split_once(' ')?;
        let is_one = !drill_id.is_empty() && !drill_id.contains([' ', ',']);
        let made_at = made_at.parse().ok()?;
        is_one.then(|| Self {
            made_at,
            drill_id: drill_id.to_owned(),
        })
    }

    /// Whether its drill has ended, one way or the other.
    pub fn is_old(&self, now: Timestamp) -> bool {
        now.duration_since(self.made_at) > OLD
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.made_at, self.drill_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_older_than_a_day_and_says_so_is_old() {
        let now = "2026-11-22T02:00:00Z".parse().unwrap();
        for (mark, expected) in [
            ("2026-11-21T01:59:59Z 20261121T015959Z-7f", Some(true)),
            ("2026-11-21T02:00:01Z 20261121T020001Z-7f", Some(false)),
            ("2026-11-23T02:00:00Z 20261123T020000Z-7f", Some(false)),
            ("2026-11-21T01:59:59Z", None),
            ("2026-11-21T01:59:59Z ", None),
            ("2026-11-21T01:59:59Z a person's words", None),
            ("yesterday 20261121T015959Z-7f", None),
            ("", None),
        ] {
            let found = Mark::parse(mark).map(|it| it.is_old(now));
            assert_eq!(found, expected, "{mark}");
        }
    }

    #[test]
    fn a_mark_is_read_back() {
        let mark = Mark {
            made_at: "2026-11-20T02:00:00.125Z".parse().unwrap(),
            drill_id: "20261120T020000Z-7f".to_owned(),
        };
        assert_eq!(Mark::parse(&mark.to_string()), Some(mark));
    }
}
