//! The branch that one drill looks at: production as it was a week ago. How to reach it goes
//! into a secret, as for a dump ([`crate::dump_source`]), in the same order.

use jiff::Timestamp;
use serde::Serialize;
use shared::neon::ownership::{Class, Mark};
use shared::neon::{NewBranch, Removed};
use shared::secret::branch_secret;

use crate::create::{ensure_if_room, production, whole_second};
use crate::dump_source::{EXPIRES_AFTER, SourceDeleted, lend};
use crate::error::BranchesError;
use crate::reach::{History, reach};
use crate::request::DrillBranch;
use crate::{Function, Invocation, rotate};

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lent {
    pub branch: String,
    pub branch_id: String,
    pub ready_at: Timestamp,
    pub data_as_of: Timestamp,
    /// Why that is not as far back as it should be.
    pub short: Option<String>,
    pub is_new: bool,
}

/// Safe to call again: the branch is found by the drill's id.
pub async fn create(
    function: &Function,
    invocation: &Invocation,
    drill: &DrillBranch,
) -> Result<Lent, BranchesError> {
    let opened = function.open(invocation, &drill.database).await?;
    let facts = opened.project.facts().await?;
    let all = opened.project.branches().await?;
    let production = production(&opened, &all)?;
    let history = History {
        window_seconds: facts.history_retention_seconds,
        begins_at: production.created_at,
        now: invocation.now(),
    };
    let reach = reach(opened.policy.drill.days_back, &history);
    let new = NewBranch {
        parent_id: production.id.clone(),
        point: reach.point,
        mark: mark(drill).with_note("why", "a drill looks at it; it is deleted afterwards"),
        compute: Some(opened.policy.dump_compute),
        expires_at: Some(whole_second(invocation.now()) + EXPIRES_AFTER),
    };
    let ensured = ensure_if_room(&opened, &new).await?;
    let secret = branch_secret(&opened.database, &drill.drill_id);
    lend(function, &opened, &ensured, &secret).await?;
    tracing::info!(
        branch = ensured.branch.name,
        ensured.is_new,
        reach.short,
        "a drill can look at its branch"
    );
    let branch = ensured.branch;
    Ok(Lent {
        ready_at: invocation.now(),
        data_as_of: branch.parent_timestamp.unwrap_or(branch.created_at),
        branch: branch.name,
        branch_id: branch.id,
        short: reach.short,
        is_new: ensured.is_new,
    })
}

fn mark(drill: &DrillBranch) -> Mark {
    Mark::new(Class::Drill, &drill.database, &drill.drill_id)
}

/// What is not there is deleted already.
pub async fn delete(
    function: &Function,
    invocation: &Invocation,
    drill: &DrillBranch,
) -> Result<SourceDeleted, BranchesError> {
    let secret = branch_secret(&drill.database, &drill.drill_id);
    let deleted = function.secrets.delete_branch_url(&secret).await;
    deleted.map_err(BranchesError::Secret)?;
    let opened = function.open(invocation, &drill.database).await?;
    let mark = mark(drill);
    let removed = opened.project.remove(&mark).await?;
    let branch = mark.branch_name();
    tracing::info!(branch, ?removed, "no branch of this drill is left");
    // What earlier runs left. Not on the way there: that is timed.
    let all = opened.project.branches().await?;
    rotate::sweep(function, invocation, &opened, &all).await;
    Ok(SourceDeleted {
        database: opened.database,
        branch,
        deleted: matches!(removed, Removed::Deleted(_)),
    })
}
