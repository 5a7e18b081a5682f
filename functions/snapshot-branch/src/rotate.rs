//! Deletes what [`crate::rotation`] says, one branch after the other, each looked at once more
//! before.

use serde::Serialize;
use shared::backup::DatabaseName;
use shared::neon::ownership::{Class, Deletable, Mark};
use shared::neon::plan::{Plan, plan as known_plan};
use shared::neon::{Branches, ProjectFacts};
use shared::secret::{branch_secret, rehearsal_secret};

use crate::error::BranchesError;
use crate::request::{Rotate, is_id};
use crate::rotation::{self, Deletion, Kept, ROOM, Rotation, Rules};
use crate::{Function, Invocation, Opened, rehearse_command};

/// An answer is no report: what is kept is told by number.
const TOLD_MAX: usize = 10;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rotated {
    pub database: DatabaseName,
    /// Oldest first, with the reason.
    pub deleted: Vec<Kept>,
    pub deleted_total: usize,
    pub kept_total: usize,
    pub foreign_total: usize,
    /// Places that only branches which are not Lifeboat's could make.
    pub missing_room: u64,
    pub dry_run: bool,
}

/// A second run deletes nothing more.
pub async fn rotate(
    function: &Function,
    invocation: &Invocation,
    request: &Rotate,
) -> Result<Rotated, BranchesError> {
    let opened = function.open(invocation, &request.database).await?;
    let facts = opened.project.facts().await?;
    let all = opened.project.branches().await?;
    let rotation = rotation::plan(&rules(&opened, &facts, invocation, ROOM), &all);
    if !request.dry_run {
        rehearse_command::forget(function, invocation, &opened, &all).await;
        carry_out(function, &opened, &all, &rotation.delete).await?;
    }
    tracing::info!(
        database = %opened.database,
        deleted = rotation.delete.len(),
        kept = rotation.keep.len(),
        foreign = rotation.foreign,
        dry_run = request.dry_run,
        "rotated branches"
    );
    Ok(answer(opened.database, rotation, request.dry_run))
}

fn answer(database: DatabaseName, rotation: Rotation, dry_run: bool) -> Rotated {
    let told = rotation.delete.iter().take(TOLD_MAX);
    Rotated {
        database,
        deleted: told
            .map(|it| Kept {
                name: it.name.clone(),
                reason: it.reason.clone(),
            })
            .collect(),
        deleted_total: rotation.delete.len(),
        kept_total: rotation.keep.len(),
        foreign_total: rotation.foreign,
        missing_room: rotation.missing_room,
        dry_run,
    }
}

/// The limit as the project's owner has it; what nobody says is not guessed.
pub fn branches_max(facts: &ProjectFacts) -> Option<u64> {
    let said = facts.owner.branches_limit;
    let said = said
        .and_then(|it| u64::try_from(it).ok())
        .filter(|it| *it > 0);
    said.or_else(|| plan_of(facts).map(|it| it.branches_max))
}

pub fn plan_of(facts: &ProjectFacts) -> Option<Plan> {
    known_plan(&facts.owner.subscription_type)
}

fn rules<'a>(
    opened: &'a Opened,
    facts: &ProjectFacts,
    invocation: &Invocation,
    room: u64,
) -> Rules<'a> {
    Rules {
        database: &opened.database,
        keep: &opened.policy.keep,
        is_free: plan_of(facts).is_some_and(|it| it.is_free),
        branches_max: branches_max(facts),
        room,
        parent: None,
        now: invocation.now(),
    }
}

/// Makes room for one more branch of `parent` now, of superseded ones of ours; false: there are
/// none.
pub async fn make_room(
    function: &Function,
    invocation: &Invocation,
    opened: &Opened,
    parent: &str,
) -> Result<bool, BranchesError> {
    let facts = opened.project.facts().await?;
    let all = opened.project.branches().await?;
    let mut rules = rules(opened, &facts, invocation, 1);
    // The API has just said that there is no room, so its own number is not what counts.
    rules.branches_max = Some(all.0.len() as u64);
    rules.parent = Some(parent);
    let rotation = rotation::plan(&rules, &all);
    // One may resist and another go: whether there is room now, the API says.
    if let Err(error) = carry_out(function, opened, &all, &rotation.delete).await {
        let error = shared::error::chain(&error);
        tracing::warn!(error, "not all that should make room went");
    }
    Ok(!rotation.delete.is_empty())
}

/// Removes what earlier runs of this database left, as far as that goes now: what resists
/// keeps nobody from a backup, and the daily rotation tries again and says so.
pub async fn sweep(function: &Function, invocation: &Invocation, opened: &Opened, all: &Branches) {
    let rules = Rules {
        database: &opened.database,
        keep: &opened.policy.keep,
        is_free: false,
        branches_max: None,
        room: 0,
        parent: None,
        now: invocation.now(),
    };
    let left = rotation::leftovers(&rules, all);
    if let Err(error) = carry_out(function, opened, all, &left).await {
        let error = shared::error::chain(&error);
        tracing::warn!(error, "temporary branches of earlier runs are left");
    }
    rehearse_command::forget(function, invocation, opened, all).await;
}

/// One that fails does not keep the others from going.
async fn carry_out(
    function: &Function,
    opened: &Opened,
    all: &Branches,
    deletions: &[Deletion],
) -> Result<(), BranchesError> {
    let mut failures: Vec<BranchesError> = Vec::new();
    for deletion in deletions {
        match delete(function, opened, all, deletion).await {
            Ok(()) => {
                tracing::info!(branch = deletion.name, deletion.reason, "deleted a branch");
            }
            Err(error) => failures.push(error),
        }
    }
    let failed = failures.len();
    match failures.into_iter().next() {
        None => Ok(()),
        Some(source) => Err(BranchesError::NotAllDeleted {
            failed,
            planned: deletions.len(),
            source: Box::new(source),
        }),
    }
}

async fn delete(
    function: &Function,
    opened: &Opened,
    all: &Branches,
    deletion: &Deletion,
) -> Result<(), BranchesError> {
    forget(function, opened, deletion.branch.mark()).await?;
    // It may have been renamed, protected, or made the default since it was listed.
    let Some(found) = opened.project.branch(deletion.branch.id()).await? else {
        return Ok(());
    };
    let Ok(deletable) = Deletable::judge(&found, all, &opened.database) else {
        tracing::warn!(
            branch = deletion.name,
            "a branch changed hands; it is left alone"
        );
        return Ok(());
    };
    Ok(opened.project.delete(&deletable).await?)
}

/// Removes the secret that tells how to reach a branch whose run is over. Before anything is
/// asked of the branch: where that has expired or changed hands since it was listed, nothing
/// would ever lead to its secret again.
async fn forget(function: &Function, opened: &Opened, mark: &Mark) -> Result<(), BranchesError> {
    let name = mark.branch_name();
    let secret = match mark.class {
        Class::DumpSource | Class::Drill if is_id(&mark.key) => {
            branch_secret(&opened.database, &mark.key)
        }
        Class::Rehearsal if is_id(&name) => rehearsal_secret(&opened.database, &name),
        // The key is not one that we give.
        Class::DumpSource | Class::Drill | Class::Rehearsal => return Ok(()),
        Class::Daily
        | Class::Weekly
        | Class::PreDeploy
        | Class::Probe
        | Class::Restore
        | Class::Recovery => return Ok(()),
    };
    let deleted = function.secrets.delete_branch_url(&secret).await;
    deleted.map_err(BranchesError::Secret)
}
