//! A new branch of how things were: at a moment, at a position of the log, or as a snapshot
//! branch holds them. Production stays as it is; nothing that exists is changed.

use std::time::Instant;

use jiff::Timestamp;
use serde::Serialize;
use shared::backup::DatabaseName;
use shared::neon::ownership::{Class, Mark};
use shared::neon::{NeonError, NewBranch, Point};

use crate::create::{ensure, production};
use crate::error::BranchesError;
use crate::request::{RestoreBranch, RestorePoint};
use crate::{Function, Invocation};

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Restored {
    pub database: DatabaseName,
    pub branch: String,
    pub branch_id: String,
    /// False: an earlier try had made it, and it may have been written to since.
    pub is_new: bool,
    pub parent: String,
    pub parent_lsn: Option<String>,
    pub parent_timestamp: Option<Timestamp>,
    /// Of its compute, as the console and the command line show it.
    pub host: Option<String>,
    pub seconds: f64,
}

/// The same point again is the same branch. It has a compute, and it is a person's to delete:
/// it neither expires nor is it rotated.
pub async fn restore(
    function: &Function,
    invocation: &Invocation,
    request: &RestoreBranch,
) -> Result<Restored, BranchesError> {
    let begun = Instant::now();
    let opened = function.open(invocation, &request.database).await?;
    let all = opened.project.branches().await?;
    let (parent, point, key) = match &request.point {
        RestorePoint::Time(at) => (
            production(&opened, &all)?,
            Point::Time(*at),
            // To the last digit: two moments of one second are two branches.
            at.to_string().replace(['-', ':'], ""),
        ),
        RestorePoint::Lsn(lsn) => (
            production(&opened, &all)?,
            Point::Lsn(lsn.clone()),
            format!("lsn-{}", lsn.to_lowercase().replace('/', "-")),
        ),
        RestorePoint::Branch(name) => (
            all.named(name).ok_or_else(|| NeonError::Missing {
                doing: "restore from a branch",
                what: format!("the branch {name}"),
            })?,
            Point::Head,
            format!("of-{name}"),
        ),
    };
    let mark = Mark::new(Class::Restore, &opened.database, &key)
        .with_note("who", request.by.trim())
        .with_note("why", request.reason.as_deref().unwrap_or("a restore"));
    let new = NewBranch {
        parent_id: parent.id.clone(),
        point,
        mark,
        compute: Some(opened.policy.dump_compute),
        expires_at: None,
    };
    let ensured = ensure(function, invocation, &opened, &new).await?;
    let endpoints = opened.project.endpoints(&ensured.branch.id).await?;
    tracing::info!(
        branch = ensured.branch.name,
        ensured.is_new,
        "restored into a branch"
    );
    Ok(Restored {
        database: opened.database,
        parent: parent.name.clone(),
        host: endpoints.into_iter().next().map(|it| it.host),
        branch_id: ensured.branch.id,
        branch: ensured.branch.name,
        is_new: ensured.is_new,
        parent_lsn: ensured.branch.parent_lsn,
        parent_timestamp: ensured.branch.parent_timestamp,
        seconds: begun.elapsed().as_secs_f64(),
    })
}
