//! Removes what no drill will: scratch databases and roles of one that was killed together with
//! its state machine. What does not carry our mark is not looked at twice.

use std::time::Duration;

use jiff::Timestamp;
use shared::archive::quote_ident;
use shared::database_url::DatabaseUrl;
use shared::error::Name;
use shared::pg::Connection;
use shared::restore::scratch;

use crate::error::DrillError;
use crate::mark::Mark;
use crate::request::DrillItem;
use crate::restoring::aside;
use crate::roles::{self, Released};

const STALL: Duration = Duration::from_secs(60);
/// What the engine's own comments on the database that it fills begin with.
const ENGINES: &str = "Lifeboat: ";

/// Drops what is older than a day, and says what it dropped and what it could not. A leftover
/// that resists keeps nobody from drilling.
pub async fn clean(server: &DatabaseUrl, now: Timestamp) -> Result<Vec<String>, DrillError> {
    let mut notes = Vec::new();
    for leftover in scratch::marked_leftovers(server).await? {
        if !is_to_go(&leftover.database, &leftover.mark, now) {
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
    let own = server.clone();
    let released = match aside(move || roles::sweep(&own, now)).await {
        Ok(released) => released,
        Err(error) if error.name() == Name::Transient => return Err(error),
        Err(error) => {
            let why_not = shared::error::chain(&error);
            notes.push(format!(
                "roles of earlier drills could not be removed: {why_not}"
            ));
            Released::default()
        }
    };
    let dropped = released.dropped.iter();
    notes.extend(dropped.map(|it| format!("removed the role {it} of an earlier drill")));
    let kept = released.kept.iter();
    notes.extend(kept.map(|it| {
        format!("the role {it} was made for an earlier drill and is used by others now")
    }));
    Ok(notes)
}

/// Old, and still under the name that its drill gave it: whoever renames one keeps it.
fn is_to_go(database: &str, mark: &str, now: Timestamp) -> bool {
    Mark::parse(mark)
        .is_some_and(|it| it.is_old(now) && database == DrillItem::scratch_name(&it.drill_id))
}

/// The comment of a scratch database.
pub fn comment(mark: &Mark) -> String {
    format!("{}{mark}", scratch::MARK)
}

/// Marks the drill's scratch database, if it is there without its mark. A restore that was cut
/// off right between making and marking left it so, or as the engine had begun to fill it. The
/// name holds this drill's own id, so it is nobody else's.
pub fn claim(server: &DatabaseUrl, scratch: &str, mark: &Mark) -> Result<(), DrillError> {
    let failed = |source| DrillError::Server {
        doing: "look for the scratch database",
        source,
    };
    let mut connection = Connection::open(server, STALL).map_err(failed)?;
    let unmarked = connection.query(format!(
        "SELECT FROM pg_database WHERE datname = '{scratch}'
         AND coalesce(shobj_description(oid, 'pg_database'), '{ENGINES}') LIKE '{ENGINES}%'"
    ));
    if unmarked.map_err(failed)?.is_empty() {
        return Ok(());
    }
    let name = quote_ident(scratch.as_bytes());
    let name = String::from_utf8_lossy(&name).into_owned();
    let sql = format!("COMMENT ON DATABASE {name} IS '{}'", comment(mark));
    connection.query(sql).map(drop).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_old_and_has_its_drills_name_goes() {
        let now = "2026-11-22T02:00:00Z".parse().unwrap();
        let (old, young) = (
            "2026-11-21T01:59:59Z 20261121T015959Z-0a1b2c3d",
            "2026-11-21T02:00:01Z 20261121T015959Z-0a1b2c3d",
        );
        let scratch = "lifeboat_drill_20261121t015959z_0a1b2c3d";
        for (database, mark, expected) in [
            (scratch, old, true),
            (scratch, young, false),
            ("kept_for_the_audit", old, false),
            (scratch, "2026-11-21T01:59:59Z", false),
            (scratch, "", false),
        ] {
            assert_eq!(is_to_go(database, mark, now), expected, "{database} {mark}");
        }
    }

    #[test]
    fn the_comment_of_a_scratch_database_is_read_back() {
        let mark = Mark {
            made_at: "2026-11-20T02:00:00Z".parse().unwrap(),
            drill_id: "20261120T020000Z-0a1b2c3d".to_owned(),
        };
        let comment = comment(&mark);
        let rest = comment.strip_prefix(scratch::MARK).unwrap();
        assert_eq!(Mark::parse(rest), Some(mark));
    }
}
