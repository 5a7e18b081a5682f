//! The temporary branch that one dump reads, so that production sees neither its load nor its
//! locks. How to reach it goes into a secret of that one backup, which dump may read; the
//! state machine carries the branch's id.
//!
//! Order for the crash: branch, then secret; on the way back secret, then branch. So whatever
//! is left, the branch is there to tell of it: by its name, its mark, and its expiry.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use shared::backup::{BackupItem, DatabaseName, SourceBranch};
use shared::neon::ownership::{Class, Mark};
use shared::neon::{Ensured, NewBranch, Point, Removed};

use crate::create::{ensure, production, whole_second};
use crate::error::BranchesError;
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

/// Safe to call again: the branch is found by the backup's id.
pub async fn create(
    function: &Function,
    invocation: &Invocation,
    item: &BackupItem,
) -> Result<Source, BranchesError> {
    let id = item.id().map_err(BranchesError::Item)?;
    let opened = function.open(invocation, &item.database).await?;
    let all = opened.project.branches().await?;
    rotate::sweep(function, invocation, &opened, &all).await;
    let mark = Mark::new(Class::DumpSource, &opened.database, &id.to_string())
        .with_note("why", "a dump reads it; it is deleted afterwards");
    let new = NewBranch {
        parent_id: production(&opened, &all)?.id.clone(),
        point: Point::Head,
        mark,
        compute: Some(opened.policy.dump_compute),
        expires_at: Some(whole_second(invocation.now()) + EXPIRES_AFTER),
    };
    let ensured = ensure(function, invocation, &opened, &new).await?;
    lend(function, &opened, &ensured, &id.to_string()).await?;
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
        },
        branch: ensured.branch.name,
        is_new: ensured.is_new,
        expires_at: ensured.branch.expires_at,
    })
}

/// Writes how to reach the branch into the secret of that work.
pub async fn lend(
    function: &Function,
    opened: &Opened,
    ensured: &Ensured,
    id: &str,
) -> Result<(), BranchesError> {
    let (role, database) = (&opened.policy.role, &opened.policy.database);
    let uri = opened.project.connection_uri(&ensured.own, role, database);
    let uri = uri.await?;
    // A pooled host, or one that cannot be verified, is refused here already.
    uri.parse().map_err(BranchesError::Uri)?;
    let (secrets, branch_id) = (&function.secrets, &ensured.branch.id);
    let stored = secrets.put_branch_url(&opened.database, id, branch_id, &uri);
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
    item: &BackupItem,
) -> Result<SourceDeleted, BranchesError> {
    let id = item.id().map_err(BranchesError::Item)?;
    // Before anything that may be refused: nothing else would ever remove it.
    let deleted = function
        .secrets
        .delete_branch_url(&item.database, &id.to_string())
        .await;
    deleted.map_err(BranchesError::Secret)?;
    let opened = function.open(invocation, &item.database).await?;
    let mark = Mark::new(Class::DumpSource, &opened.database, &id.to_string());
    let removed = opened.project.remove(&mark).await?;
    let branch = mark.branch_name();
    tracing::info!(branch, ?removed, "no branch of this dump is left");
    Ok(SourceDeleted {
        database: opened.database,
        branch,
        deleted: matches!(removed, Removed::Deleted(_)),
    })
}
