//! The temporary branch that one dump reads, so that production sees neither its load nor its
//! locks. How to reach it goes into a secret of its own, which dump may read; the state machine
//! carries the branch's id and the secret's name.
//!
//! Branch and secret are of one backup in one execution: two executions of the same backup share
//! nothing, and the step of one, tried again, finds its own.
//!
//! Order for the crash: branch, then secret; on the way back secret, then branch. So whatever
//! is left, the branch is there to tell of it: by its name, its mark, and its expiry.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use shared::backup::{DatabaseName, SourceBranch};
use shared::neon::ownership::{Class, Mark};
use shared::neon::{Ensured, NewBranch, Point, Removed};
use shared::secret::branch_secret;

use crate::create::{ensure, production, whole_second};
use crate::error::BranchesError;
use crate::request::DumpBranch;
use crate::{Function, Invocation, Opened, rotate};

/// Neon deletes the branch by then, should nobody else. Longer than the next night, so that
/// its sweep still finds the branch, and by it the secret.
pub const EXPIRES_AFTER: SignedDuration = SignedDuration::from_hours(48);

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Source {
    /// What dump is told.
    pub source_branch: SourceBranch,
    pub branch: String,
    pub is_new: bool,
    pub expires_at: Option<Timestamp>,
}

/// Safe to call again: the branch is found by backup and execution.
pub async fn create(
    function: &Function,
    invocation: &Invocation,
    dump: &DumpBranch,
) -> Result<Source, BranchesError> {
    let lent_as = dump.lent_as().map_err(BranchesError::Item)?;
    let opened = function.open(invocation, &dump.backup.database).await?;
    let all = opened.project.branches().await?;
    rotate::sweep(function, invocation, &opened, &all).await;
    let mark = Mark::new(Class::DumpSource, &opened.database, &lent_as)
        .with_note("why", "a dump reads it; it is deleted afterwards");
    let new = NewBranch {
        parent_id: production(&opened, &all)?.id.clone(),
        point: Point::Head,
        mark,
        compute: Some(opened.policy.dump_compute),
        expires_at: Some(whole_second(invocation.now()) + EXPIRES_AFTER),
    };
    let ensured = ensure(function, invocation, &opened, &new).await?;
    let secret = branch_secret(&opened.database, &lent_as);
    lend(function, &opened, &ensured, &secret).await?;
    tracing::info!(
        branch = ensured.branch.name,
        ensured.is_new,
        "a dump can read its branch"
    );
    let parent_at = ensured.branch.parent_timestamp;
    Ok(Source {
        source_branch: SourceBranch {
            branch_id: ensured.branch.id,
            data_as_of: parent_at.unwrap_or(ensured.branch.created_at),
            lent_as,
        },
        branch: ensured.branch.name,
        is_new: ensured.is_new,
        expires_at: ensured.branch.expires_at,
    })
}

/// Writes how to reach the branch into the secret of that name.
pub async fn lend(
    function: &Function,
    opened: &Opened,
    ensured: &Ensured,
    secret: &str,
) -> Result<(), BranchesError> {
    let (role, database) = (&opened.policy.role, &opened.policy.database);
    let uri = opened.project.connection_uri(&ensured.own, role, database);
    let uri = uri.await?;
    // A pooled host, or one that cannot be verified, is refused here already.
    uri.parse().map_err(BranchesError::Uri)?;
    let (secrets, branch_id) = (&function.secrets, &ensured.branch.id);
    let stored = secrets.put_branch_url(secret, branch_id, &uri);
    stored.await.map_err(BranchesError::Secret)
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourceDeleted {
    pub database: DatabaseName,
    pub branch: String,
    /// False: it was gone already.
    pub deleted: bool,
}

/// What is not there is deleted already.
pub async fn delete(
    function: &Function,
    invocation: &Invocation,
    dump: &DumpBranch,
) -> Result<SourceDeleted, BranchesError> {
    let lent_as = dump.lent_as().map_err(BranchesError::Item)?;
    let database = &dump.backup.database;
    // Before anything that may be refused: nothing else would ever remove it.
    let secret = branch_secret(database, &lent_as);
    let deleted = function.secrets.delete_branch_url(&secret).await;
    deleted.map_err(BranchesError::Secret)?;
    let opened = function.open(invocation, database).await?;
    let mark = Mark::new(Class::DumpSource, &opened.database, &lent_as);
    let removed = opened.project.remove(&mark).await?;
    let branch = mark.branch_name();
    tracing::info!(branch, ?removed, "no branch of this dump is left");
    Ok(SourceDeleted {
        database: opened.database,
        branch,
        deleted: matches!(removed, Removed::Deleted(_)),
    })
}
