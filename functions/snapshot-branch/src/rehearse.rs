//! Tries a migration on a branch of production as it is now: whether it runs, what it changes,
//! how long it takes, and whom it would keep waiting. Production is not connected to.
//!
//! That it fails is an answer, and no error.

use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use shared::backup::DatabaseName;
use shared::key::Key;
use shared::neon::ownership::{Class, KEEP, Mark};
use shared::neon::{Branch, Ensured, NeonError, NewBranch, Point};
use shared::sealed::sha256;
use shared::store::StoreErrorKind;
use shared::verdict::Verdict;

use crate::create::{ensure_if_room, production, whole_second};
use crate::error::BranchesError;
use crate::migration::{self, Migration, Ran};
use crate::request::Rehearse;
use crate::{Function, Invocation, Opened, rotate};

/// Kept back of the function's own time, to compare, to delete and to answer.
const RESERVE: Duration = Duration::from_secs(45);
/// A branch that nobody keeps, should nobody delete it.
const EXPIRES_AFTER: SignedDuration = SignedDuration::from_hours(24);
/// Of the difference in the answer; all of it is in the evidence.
const DIFFERENCE_BYTES_MAX: usize = 16 << 10;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rehearsed {
    pub database: DatabaseName,
    pub verdict: Verdict,
    #[serde(flatten)]
    pub ran: Ran,
    /// As a unified diff from before to after; null where it could not be told.
    pub schema_difference: Option<String>,
    pub branch: String,
    /// Until the branch took connections.
    pub branch_seconds: f64,
    /// When a branch that was kept goes; null: it is gone.
    pub kept_until: Option<Timestamp>,
    pub evidence_key: String,
}

#[derive(Serialize)]
struct Evidence<'a> {
    format: u32,
    check: &'static str,
    by: &'a str,
    at: Timestamp,
    /// The text itself is not kept: it may hold data.
    sql_sha256: String,
    sql_bytes: usize,
    in_one_transaction: bool,
    limit_seconds: u64,
    lifeboat: &'static str,
    #[serde(flatten)]
    rehearsed: &'a Rehearsed,
}

/// Every call is a rehearsal of its own, on a branch of its own.
pub async fn rehearse(
    function: &Function,
    invocation: &Invocation,
    request: &Rehearse,
) -> Result<Rehearsed, BranchesError> {
    let opened = function.open(invocation, &request.database).await?;
    let all = opened.project.branches().await?;
    rotate::sweep(function, invocation, &opened, &all).await;
    let parent = production(&opened, &all)?;
    let by = (&*request.by, request.keep_days);
    let new = new_branch(invocation, &opened, parent, by);
    let begun = Instant::now();
    let ensured = match ensure_if_room(&opened, &new).await {
        Ok(ensured) => ensured,
        Err(error) => {
            // Nobody asks for it again: its name is this call's own.
            if let Err(left) = opened.project.remove(&new.mark).await {
                let branch = new.mark.branch_name();
                tracing::warn!(%left, branch, "a rehearsal's branch may be left");
            }
            return Err(error);
        }
    };
    let branch_seconds = begun.elapsed().as_secs_f64();
    let tried = tried(&opened, invocation, request, (&ensured, begun)).await;
    let difference = match &tried {
        Ok(_) => difference(&opened, &ensured.branch).await,
        Err(_) => None,
    };
    let is_kept = request.keep_days > 0 && tried.is_ok();
    let mut notes = Vec::new();
    // Also after a failure of ours; what stays expires, and the next run tries again.
    if !is_kept && let Err(error) = opened.project.remove(&new.mark).await {
        tracing::warn!(%error, branch = ensured.branch.name, "a rehearsal's branch is left");
        notes.push(format!(
            "its branch could not be deleted, and expires: {error}"
        ));
    }
    let mut ran = tried?;
    ran.notes.extend(notes);
    let mut rehearsed = Rehearsed {
        database: opened.database,
        verdict: match ran.failure {
            None => Verdict::Passed,
            Some(_) => Verdict::Failed,
        },
        ran,
        schema_difference: difference,
        branch: ensured.branch.name,
        branch_seconds,
        kept_until: ensured.branch.expires_at.filter(|_| is_kept),
        evidence_key: String::new(),
    };
    write(function, invocation, request, &mut rehearsed).await?;
    tracing::info!(verdict = %rehearsed.verdict, rehearsed.branch, "rehearsed a migration");
    if let Some(difference) = &mut rehearsed.schema_difference {
        shorten(difference);
    }
    Ok(rehearsed)
}

/// With a name of this invocation's own.
pub(crate) fn new_branch(
    invocation: &Invocation,
    opened: &Opened,
    parent: &Branch,
    (by, keep_days): (&str, u8),
) -> NewBranch {
    let at = invocation.started_at.strftime("%Y%m%dT%H%M%SZ");
    let key = format!("{at}-{}", nonce(invocation));
    let mark = Mark::new(Class::Rehearsal, &opened.database, &key)
        .with_note("who", by.trim())
        .with_note("why", "a migration is tried on it");
    let (mark, lives) = match keep_days {
        0 => (mark, EXPIRES_AFTER),
        days => (
            mark.with_note(KEEP, &format!("{days} days")),
            SignedDuration::from_hours(24 * i64::from(days)),
        ),
    };
    NewBranch {
        parent_id: parent.id.clone(),
        point: Point::Head,
        mark,
        compute: Some(opened.policy.dump_compute),
        expires_at: Some(whole_second(invocation.now()) + lives),
    }
}

/// Keeps what two invocations make in one second apart.
fn nonce(invocation: &Invocation) -> String {
    sha256(invocation.request_id.as_bytes())[..8].to_owned()
}

async fn tried(
    opened: &Opened,
    invocation: &Invocation,
    request: &Rehearse,
    (ensured, begun): (&Ensured, Instant),
) -> Result<Ran, BranchesError> {
    let (role, database) = (&opened.policy.role, &opened.policy.database);
    let uri = opened.project.connection_uri(&ensured.own, role, database);
    let url = uri.await?.parse().map_err(BranchesError::Uri)?;
    let left = invocation
        .deadline
        .saturating_duration_since(Instant::now());
    let limit = request.limit.min(left.saturating_sub(RESERVE));
    if limit.is_zero() {
        return Err(BranchesError::Neon(NeonError::NotDone {
            doing: "make a branch for a rehearsal",
            waited_seconds: begun.elapsed().as_secs(),
            last: "it is there, and no time is left to try anything on it".to_owned(),
        }));
    }
    let migration = request.migration.clone();
    let ran = tokio::task::spawn_blocking(move || migration::run(&url, &migration, limit)).await;
    let ran = ran.map_err(|error| BranchesError::Thread(error.to_string()))?;
    ran.map_err(|error| BranchesError::Branch(error.without_values()))
}

/// Against production as it was when the branch was made; never a reason to fail.
pub(crate) async fn difference(opened: &Opened, branch: &Branch) -> Option<String> {
    let base = (branch.parent_id.as_deref()?, branch.parent_lsn.as_deref());
    let database = &opened.policy.database;
    let compared = opened.project.schema_difference(&branch.id, base, database);
    let told = compared.await.unwrap_or_else(|error| {
        tracing::warn!(%error, "what the migration changes could not be told");
        None
    });
    told.map(|it| without_passwords(&it))
}

/// Options of user mappings, servers and subscriptions may be written out in a schema.
pub(crate) fn without_passwords(difference: &str) -> String {
    let mut told = String::with_capacity(difference.len());
    for line in difference.split_inclusive('\n') {
        match line.find('\'') {
            Some(quote) if line.to_lowercase().contains("password") => {
                told.push_str(&line[..quote]);
                told.push_str("'…'\n");
            }
            Some(_) | None => told.push_str(line),
        }
    }
    told
}

async fn write(
    function: &Function,
    invocation: &Invocation,
    request: &Rehearse,
    rehearsed: &mut Rehearsed,
) -> Result<(), BranchesError> {
    rehearsed.evidence_key = evidence_key(invocation, &request.database);
    let sql = request.migration.whole();
    let evidence = Evidence {
        format: 1,
        check: "rehearsal",
        by: &request.by,
        at: invocation.started_at,
        sql_sha256: sha256(sql.as_bytes()),
        sql_bytes: sql.len(),
        in_one_transaction: matches!(request.migration, Migration::Text(_)),
        limit_seconds: request.limit.as_secs(),
        lifeboat: env!("CARGO_PKG_VERSION"),
        rehearsed,
    };
    put(function, &rehearsed.evidence_key, &evidence).await
}

pub(crate) fn evidence_key(invocation: &Invocation, database: &DatabaseName) -> String {
    let key = Key::Evidence {
        database,
        at: invocation.started_at,
        nonce: &nonce(invocation),
        file: "rehearsal.json",
    };
    key.to_string()
}

pub(crate) async fn put(
    function: &Function,
    key: &str,
    evidence: &impl Serialize,
) -> Result<(), BranchesError> {
    let json = serde_json::to_vec_pretty(evidence).map_err(BranchesError::Json)?;
    match function.vault.put_once(key, Bytes::from(json)).await {
        Ok(_) => Ok(()),
        // The answer to the SDK's first try was lost: it is our own that lies there.
        Err(error) if matches!(error.kind, StoreErrorKind::AlreadyExists) => Ok(()),
        Err(error) => Err(BranchesError::Evidence(error)),
    }
}

pub(crate) fn shorten(difference: &mut String) {
    if difference.len() > DIFFERENCE_BYTES_MAX {
        difference.truncate(difference.floor_char_boundary(DIFFERENCE_BYTES_MAX));
        difference.push_str("\n… all of it is in the evidence\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_of_a_schema_is_told() {
        let told = without_passwords(
            "+CREATE USER MAPPING FOR app SERVER s OPTIONS (password 'hunter2', \"user\" 'a');\n\
             +    Password text DEFAULT 'x'::text\n+    name text DEFAULT 'y'::text\n",
        );
        let expected = "+CREATE USER MAPPING FOR app SERVER s OPTIONS (password '…'\n\
             +    Password text DEFAULT '…'\n+    name text DEFAULT 'y'::text\n";
        assert_eq!(told, expected);
    }
}
