//! Whether a branch is a database that can be used: reachable, and every table readable. Pure.

use shared::policy::Priority;
use shared::verdict::Code;
use shared::words::grouped;

use super::{CheckCode, CheckResult, Status, Subject};
use crate::timing::short_seconds;

/// What the tables answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// With rows, and without.
    pub readable: u64,
    pub with_rows: u64,
    /// With what the server said.
    pub unreadable: Vec<String>,
    /// Asked in vain, for lack of time.
    pub untold: Vec<String>,
}

/// `seconds`: from the moment it was said to be ready to the first connection.
pub fn reachable(answer: &Result<(), String>, seconds: f64) -> CheckResult {
    let subject = Subject {
        code: CheckCode::Reachable,
        name: "The branch takes connections".to_owned(),
        priority: Priority::P0,
        finding: Code::BranchUnusable,
        remedy: "connect to a branch by hand, as the role of [database.neon]; see the project's operations and, in its settings, which addresses may connect",
    };
    let seconds_in_words = short_seconds(seconds);
    match answer {
        Ok(()) => subject.passed(format!("{seconds_in_words} after it was ready")),
        Err(why_not) => {
            let says = format!("not within {seconds_in_words}: {why_not}");
            subject.failed(says, Vec::new())
        }
    }
    .taking(seconds)
}

pub fn tables(answer: &Result<Tables, String>) -> CheckResult {
    let subject = Subject {
        code: CheckCode::TablesReadable,
        name: "Every table that is there can be read".to_owned(),
        priority: Priority::P0,
        finding: Code::TableUnreadable,
        remedy: "read the table on production: if that fails, too, see to the role's rights; otherwise this moment cannot be restored, and Neon's support has to know",
    };
    match answer {
        Err(why_not) => subject.inconclusive(why_not.clone()),
        Ok(tables) if !tables.unreadable.is_empty() => {
            subject.judge(String::new(), tables.unreadable.clone())
        }
        Ok(tables) if !tables.untold.is_empty() => subject.inconclusive(format!(
            "{} tables were not read, the first of them {}",
            tables.untold.len(),
            tables.untold[0]
        )),
        Ok(tables) if tables.readable == 0 => subject.failed("there is no table", Vec::new()),
        Ok(tables) => subject.passed(format!(
            "{} tables, {} of them with rows",
            grouped(tables.readable),
            grouped(tables.with_rows)
        )),
    }
}

/// What was asked for and was not there: younger than that, or lost. No drill of a branch leaves
/// any other note.
pub fn absent(checks: &[CheckResult]) -> Vec<String> {
    let absent = checks.iter().filter(|it| it.status == Status::Note);
    let told = absent.map(|it| {
        let (name, summary) = (&it.name, &it.summary);
        format!("{name}: {summary}. It is younger than that, or was lost: if it is older, see whether production and the backups of that time have it")
    });
    told.collect()
}

/// What `[database.drill]` asks, as it came out of a branch of the past.
///
/// What was not there is a note, and told by day. Where that is so of every single question, none
/// was answered, and the drill has shown no more than that some database can be read: the role's or
/// the database's name in `[database.neon]` may be wrong, or its search path. So it is
/// inconclusive, which wakes somebody once, and not passed.
pub fn not_all_absent(configured: Vec<CheckResult>) -> Vec<CheckResult> {
    if configured.iter().any(|it| it.status != Status::Note) {
        return configured;
    }
    let remedy = "see whether role and database of [database.neon] are those of the application; if all that [database.drill] asks for is younger than drill.days_back, ask for something older, too";
    let inconclusive = configured.into_iter().map(|it| CheckResult {
        status: Status::Inconclusive,
        remedy: Some(remedy.to_owned()),
        ..it
    });
    inconclusive.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_nothing_that_is_asked_for_was_there_the_drill_has_shown_nothing() {
        let subject = Subject {
            code: CheckCode::Sql,
            name: "invoices add up".to_owned(),
            priority: Priority::P1,
            finding: Code::AssertionFailed,
            remedy: "look",
        };
        let absent = subject.note("not there yet", Vec::new());
        let statuses = |configured: &[CheckResult]| -> Vec<Status> {
            let checks = not_all_absent(configured.to_vec());
            checks.iter().map(|it| it.status).collect()
        };
        let passed = subject.passed("as expected");
        let told = super::absent(&[absent.clone(), passed.clone()]);
        assert_eq!(told.len(), 1);
        assert!(
            told[0].starts_with("invoices add up: not there"),
            "{told:?}"
        );
        assert_eq!(
            statuses(&[absent.clone(), passed]),
            [Status::Note, Status::Passed]
        );
        let nothing = [absent.clone(), absent];
        assert_eq!(statuses(&nothing), [Status::Inconclusive; 2]);
        let check = not_all_absent(nothing.to_vec()).remove(0);
        let found = crate::verdict::of_check(&check).unwrap();
        assert_eq!(found.code, Code::CheckNotRun);
        assert!(
            found.message.contains("ask for something older"),
            "{found:?}"
        );
        assert!(not_all_absent(Vec::new()).is_empty());
    }

    #[test]
    fn one_table_that_cannot_be_read_fails_and_none_at_all_does_too() {
        let of = |readable, unreadable: &[&str], untold: &[&str]| {
            let texts = |all: &[&str]| all.iter().map(|it| (*it).to_owned()).collect();
            let check = tables(&Ok(Tables {
                readable,
                with_rows: readable / 2,
                unreadable: texts(unreadable),
                untold: texts(untold),
            }));
            (check.status, check.summary)
        };
        let well = "2 tables, 1 of them with rows".to_owned();
        assert_eq!(of(2, &[], &[]), (Status::Passed, well));
        assert_eq!(
            of(9, &["public.t: permission denied"], &["x"]).0,
            Status::Failed
        );
        assert_eq!(of(0, &[], &[]).0, Status::Failed);
        assert_eq!(of(9, &[], &["public.t: no time"]).0, Status::Inconclusive);
        let unknown = tables(&Err("lost".to_owned()));
        assert_eq!(unknown.status, Status::Inconclusive);
    }
}
