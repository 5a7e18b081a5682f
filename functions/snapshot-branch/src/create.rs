//! Makes one snapshot branch, with a note of what it is.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use shared::backup::DatabaseName;
use shared::neon::ownership::{Class, Mark, Own};
use shared::neon::{Branch, Branches, Ensured, NeonError, NewBranch, Point};
use shared::policy::Recurring;

use crate::error::BranchesError;
use crate::rehearse::without_passwords;
use crate::request::{Create, Deployed, Snapshot};
use crate::{Function, Invocation, Opened, rotate};

/// Foreign branches named when a limit is reached.
const NAMED_MAX: usize = 5;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Created {
    pub database: DatabaseName,
    pub branch: String,
    pub branch_id: String,
    /// False: an earlier try had made it.
    pub is_new: bool,
    /// The state that it keeps.
    pub parent_lsn: Option<String>,
    pub parent_timestamp: Option<Timestamp>,
    pub created_at: Timestamp,
    pub schema_change: Option<String>,
}

/// Finds the branch of that name, or makes it off production as it is now.
pub async fn create(
    function: &Function,
    invocation: &Invocation,
    request: &Create,
) -> Result<Created, BranchesError> {
    let opened = function.open(invocation, &request.database).await?;
    let all = opened.project.branches().await?;
    let mark = marked(&opened, &all, request).await?;
    let new = NewBranch {
        parent_id: production(&opened, &all)?.id.clone(),
        point: Point::Head,
        mark,
        compute: None,
        // It is ours to delete: nothing could be branched off one that expires.
        expires_at: None,
    };
    let ensured = ensure(function, invocation, &opened, &new).await?;
    tracing::info!(
        branch = ensured.branch.name,
        ensured.is_new,
        "a snapshot branch is there"
    );
    let mark = ensured.own.mark();
    Ok(Created {
        database: opened.database.clone(),
        schema_change: mark.note("schema-change").map(str::to_owned),
        branch_id: ensured.branch.id,
        branch: ensured.branch.name,
        is_new: ensured.is_new,
        parent_lsn: ensured.branch.parent_lsn,
        parent_timestamp: ensured.branch.parent_timestamp,
        created_at: ensured.branch.created_at,
    })
}

/// Production is what the project says it is today.
pub fn production<'a>(opened: &Opened, all: &'a Branches) -> Result<&'a Branch, NeonError> {
    let default = all.default_branch();
    default.ok_or_else(|| NeonError::NoDefaultBranch {
        project: opened.project.id().to_string(),
    })
}

/// Makes the branch; where the project is full, in the place of superseded ones of ours.
pub async fn ensure(
    function: &Function,
    invocation: &Invocation,
    opened: &Opened,
    new: &NewBranch,
) -> Result<Ensured, BranchesError> {
    // A limit is an answer: nothing was made, so asking again after making room is no repetition.
    match opened.project.ensure(new).await {
        Err(error) if is_full(&error) => {
            if !rotate::make_room(function, invocation, opened, &new.parent_id).await? {
                return Err(explained(opened, error).await);
            }
            match opened.project.ensure(new).await {
                Err(error) if is_full(&error) => Err(explained(opened, error).await),
                ensured => Ok(ensured?),
            }
        }
        ensured => Ok(ensured?),
    }
}

/// The same for what is only looked at: nothing that is kept goes for it.
pub async fn ensure_if_room(opened: &Opened, new: &NewBranch) -> Result<Ensured, BranchesError> {
    match opened.project.ensure(new).await {
        Err(error) if is_full(&error) => Err(explained(opened, error).await),
        ensured => Ok(ensured?),
    }
}

fn is_full(error: &NeonError) -> bool {
    matches!(error, NeonError::LimitReached { code, .. } if code == "BRANCHES_LIMIT_EXCEEDED")
}

/// Which branches there are: what a person has to choose from.
async fn explained(opened: &Opened, source: NeonError) -> BranchesError {
    let Ok(all) = opened.project.branches().await else {
        return BranchesError::Neon(source);
    };
    let is_own = |it: &&Branch| Mark::of(it).is_some();
    let mut others: Vec<&Branch> = all
        .0
        .iter()
        .filter(|it| !is_own(it) && !it.default)
        .collect();
    others.sort_by_key(|it| it.created_at);
    let oldest: Vec<&str> = others.iter().take(NAMED_MAX).map(|it| &*it.name).collect();
    BranchesError::Limit {
        source: Box::new(source),
        total: all.0.len(),
        own: all.0.iter().filter(is_own).count(),
        oldest: if oldest.is_empty() {
            "none".to_owned()
        } else {
            oldest.join(", ")
        },
    }
}

/// Who made it, why, at which migration, and what changed in the schema since the last one.
async fn marked(opened: &Opened, all: &Branches, request: &Create) -> Result<Mark, BranchesError> {
    let (class, key, why) = match &request.what {
        Snapshot::Recurring(Recurring::Daily, date) => {
            (Class::Daily, date.to_string(), "the daily snapshot")
        }
        Snapshot::Recurring(Recurring::Weekly, date) => {
            (Class::Weekly, date.to_string(), "the weekly snapshot")
        }
        Snapshot::PreDeploy(name) => (Class::PreDeploy, name.clone(), "before a deployment"),
    };
    let mark = Mark::new(class, &opened.database, &key);
    if all.named(&mark.branch_name()).is_some() {
        return Ok(mark);
    }
    let by = request.by.as_deref().unwrap_or("the schedule");
    let mark = mark
        .with_note("who", by)
        .with_note("why", request.reason.as_deref().unwrap_or(why))
        .with_note(
            "migration-head",
            request.migration_head.as_deref().unwrap_or_default(),
        );
    let change = schema_change(opened, all, class).await;
    Ok(mark.with_note("schema-change", &change))
}

/// Never a reason not to make the branch.
async fn schema_change(opened: &Opened, all: &Branches, class: Class) -> String {
    let of_class = |it: &&Branch| {
        let mark = Mark::of(it);
        it.is_usable() && mark.is_some_and(|it| it.class == class && it.database == opened.database)
    };
    let last = all.0.iter().filter(of_class).max_by_key(|it| it.created_at);
    let (Some(last), Some(production)) = (last, all.default_branch()) else {
        return "there is no earlier one to compare with".to_owned();
    };
    let database = &opened.policy.database;
    let compared = opened
        .project
        .schema_difference(&production.id, (&last.id, None), database);
    match compared.await {
        Ok(Some(difference)) => summary(&difference, &last.name),
        Ok(None) => format!("not compared with {}: Neon did not say", last.name),
        Err(error) => format!("not compared with {}: {error}", last.name),
    }
}

/// A unified diff in a few words, none of them a password: a note is one line, and is read by
/// whoever may list branches.
fn summary(difference: &str, last: &str) -> String {
    let difference = without_passwords(difference);
    let count = |sign: char, header: &str| {
        let lines = difference.lines().filter(|it| !it.starts_with(header));
        lines.filter(|it| it.starts_with(sign)).count()
    };
    let (added, gone) = (count('+', "+++"), count('-', "---"));
    if added == 0 && gone == 0 {
        return format!("none since {last}");
    }
    let first = difference
        .lines()
        .find(|it| it.starts_with('+') && !it.starts_with("+++") && it.len() > 1)
        .unwrap_or_default();
    format!("since {last}: {added} lines added, {gone} gone; {first}")
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reported {
    pub branch: String,
    pub branch_id: String,
    pub kept_until: Timestamp,
}

/// The deployment is done: from now on its branch is kept for some days. The branch's own
/// expiry is where that is written down, so Neon deletes it even should nobody else.
pub async fn deployed(
    function: &Function,
    invocation: &Invocation,
    request: &Deployed,
) -> Result<Reported, BranchesError> {
    let opened = function.open(invocation, &request.database).await?;
    let mark = Mark::new(Class::PreDeploy, &opened.database, &request.name);
    let found = opened.project.find(&mark).await?;
    let own = found.as_ref().and_then(Own::of);
    let own = own.filter(|it| it.mark().is_same(&mark));
    let (Some(own), Some(branch)) = (own, found) else {
        return Err(BranchesError::NoSuchDeployment {
            database: opened.database,
            name: request.name.clone(),
        });
    };
    let answer = |kept_until| Reported {
        branch: branch.name.clone(),
        branch_id: branch.id.clone(),
        kept_until,
    };
    // Reported before: the first time counts.
    if let Some(at) = branch.expires_at {
        return Ok(answer(at));
    }
    let days = i64::from(opened.policy.keep.pre_deploy_days);
    let at = whole_second(invocation.now()) + SignedDuration::from_hours(24 * days);
    match opened.project.expire(&own, at).await {
        Ok(()) => Ok(answer(at)),
        // Only the answer may be lost.
        Err(error) if error.is_unknown() => {
            let seen = opened.project.branch(own.id()).await?;
            match seen.and_then(|it| it.expires_at) {
                Some(at) => Ok(answer(at)),
                None => Err(error.into()),
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// The API keeps seconds.
pub fn whole_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_change_is_told_in_one_line() {
        assert_eq!(
            summary("", "backup-2026-11-20"),
            "none since backup-2026-11-20"
        );
        let diff = "--- a/d\n+++ b/d\n@@ -1,2 +1,3 @@\n CREATE TABLE a ();\n+CREATE TABLE b ();\n-CREATE TABLE c ();\n";
        assert_eq!(
            summary(diff, "backup-2026-11-20"),
            "since backup-2026-11-20: 1 lines added, 1 gone; +CREATE TABLE b ();"
        );
    }

    #[test]
    fn no_password_of_a_schema_is_written_into_a_note() {
        let diff = "--- a/d\n+++ b/d\n@@ -1 +1,2 @@\n+CREATE USER MAPPING FOR a SERVER s OPTIONS (\"user\" 'b', password 'hunter2');\n";
        assert_eq!(
            summary(diff, "backup-2026-11-20"),
            "since backup-2026-11-20: 1 lines added, 0 gone; +CREATE USER MAPPING FOR a SERVER s OPTIONS (\"user\" '…'"
        );
    }
}
