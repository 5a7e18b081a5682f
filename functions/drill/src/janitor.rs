//! Removes scratch databases that no drill will: of one that was killed together with its
//! state machine. What does not carry our mark is not looked at twice.

use jiff::{SignedDuration, Timestamp};
use shared::database_url::DatabaseUrl;
use shared::restore::scratch::{self, Leftover};

use crate::error::DrillError;

/// No drill lasts longer: it gives up before.
const OLD: SignedDuration = SignedDuration::from_hours(24);

/// Drops what is older than a day, and says what it dropped and what it could not. A leftover
/// that resists keeps nobody from drilling.
pub async fn clean(server: &DatabaseUrl, now: Timestamp) -> Result<Vec<String>, DrillError> {
    let mut notes = Vec::new();
    for leftover in scratch::marked_leftovers(server).await? {
        if !is_old(&leftover, now) {
            continue;
        }
        let database = &leftover.database;
        notes.push(match scratch::drop_database(server, database).await {
            Ok(()) => format!("removed the scratch database {database} of an earlier drill"),
            Err(error) => format!(
                "the scratch database {database} of an earlier drill could not be removed: {}",
                shared::error::chain(&error)
            ),
        });
    }
    Ok(notes)
}

/// A mark whose time cannot be read is nobody's but a person's to judge.
fn is_old(leftover: &Leftover, now: Timestamp) -> bool {
    let made_at = leftover.mark.split(' ').next();
    let made_at = made_at.and_then(|it| it.parse::<Timestamp>().ok());
    made_at.is_some_and(|made_at| now.duration_since(made_at) > OLD)
}

/// What identifies a scratch database, after [`scratch::MARK`].
pub fn mark(made_at: Timestamp, drill_id: &str) -> String {
    format!("{}{made_at} {drill_id}", scratch::MARK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_older_than_a_day_and_says_so_is_old() {
        let now = "2026-11-22T02:00:00Z".parse().unwrap();
        for (mark, expected) in [
            ("2026-11-21T01:59:59Z 20261121T015959Z-7f", true),
            ("2026-11-21T02:00:01Z 20261121T020001Z-7f", false),
            ("2026-11-23T02:00:00Z 20261123T020000Z-7f", false),
            ("yesterday", false),
            ("", false),
        ] {
            let leftover = Leftover {
                database: "x".to_owned(),
                mark: mark.to_owned(),
            };
            assert_eq!(is_old(&leftover, now), expected, "{mark}");
        }
    }

    #[test]
    fn a_mark_of_ours_is_read_back() {
        let made_at: Timestamp = "2026-11-20T02:00:00Z".parse().unwrap();
        let mark = mark(made_at, "d1");
        let leftover = Leftover {
            database: "x".to_owned(),
            mark: mark.strip_prefix(scratch::MARK).unwrap().to_owned(),
        };
        assert!(is_old(&leftover, "2026-11-21T02:00:01Z".parse().unwrap()));
    }
}
