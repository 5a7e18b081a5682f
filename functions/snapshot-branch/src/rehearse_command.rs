//! Lends whoever asks a branch of production as it is now, on which he tries a command of his own
//! (a migration tool, a script), and tells afterwards what that has changed.
//!
//! How to reach the branch goes into a secret, as for a dump ([`crate::dump_source`]), in the same
//! order, but under a prefix of its own; its password opens nothing else. That the command failed
//! is an answer, and no error.

use std::time::Instant;

use jiff::Timestamp;
use serde::Serialize;
use shared::backup::DatabaseName;
use shared::neon::ownership::{Class, KEEP, Mark};
use shared::neon::{Branch, Branches, Ensured, NewBranch};
use shared::secret::rehearsal_secret;
use shared::verdict::Verdict;

use crate::create::{ensure_if_room, production, whole_second};
use crate::dump_source::EXPIRES_AFTER;
use crate::error::BranchesError;
use crate::rehearse::{difference, evidence_key, new_branch, put, shorten};
use crate::request::{BeginRehearsal, EndRehearsal, is_id};
use crate::rotation::LEFTOVER;
use crate::{Function, Invocation, Opened, rotate};

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Begun {
    pub database: DatabaseName,
    /// What the end is told.
    pub branch: String,
    pub branch_id: String,
    /// The name of the secret with the branch's URL.
    pub secret: String,
    /// The state that it begins with.
    pub parent_lsn: Option<String>,
    /// Until the branch could be lent.
    pub branch_seconds: f64,
    /// When Neon deletes the branch, should nobody else.
    pub expires_at: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ended {
    pub database: DatabaseName,
    pub verdict: Verdict,
    pub exit_status: u8,
    /// What the command took, as the caller has measured it.
    pub seconds: Option<f64>,
    /// From when there was the branch until the end was told.
    pub lent_seconds: f64,
    /// As a unified diff from before to after; null where it could not be told.
    pub schema_difference: Option<String>,
    pub branch: String,
    /// When a branch that was kept goes; null: it is gone.
    pub kept_until: Option<Timestamp>,
    /// What a person should know of the above.
    pub notes: Vec<String>,
    pub evidence_key: String,
}

/// Not what was run, which only the caller knows.
#[derive(Serialize)]
struct Evidence<'a> {
    format: u32,
    check: &'static str,
    by: Option<&'a str>,
    at: Timestamp,
    lifeboat: &'static str,
    #[serde(flatten)]
    ended: &'a Ended,
}

/// Every call makes a branch of its own.
pub async fn begin(
    function: &Function,
    invocation: &Invocation,
    request: &BeginRehearsal,
) -> Result<Begun, BranchesError> {
    let opened = function.open(invocation, &request.database).await?;
    let all = opened.project.branches().await?;
    rotate::sweep(function, invocation, &opened, &all).await;
    let parent = production(&opened, &all)?;
    let by = (&*request.by, request.keep_days);
    let mut new = new_branch(invocation, &opened, parent, by);
    // Should the end never be told, the next night's run still finds the branch, and by it the secret.
    let swept_before = whole_second(invocation.now()) + EXPIRES_AFTER;
    new.expires_at = new.expires_at.max(Some(swept_before));
    let begun = Instant::now();
    let branch = match lend(function, &opened, &new).await {
        Ok(ensured) => ensured.branch,
        Err(error) => {
            // Nobody asks for it again: its name is this call's own.
            if let Err(left) = take_back(function, &opened, &new.mark).await {
                let (left, branch) = (shared::error::chain(&left), new.mark.branch_name());
                tracing::warn!(left, branch, "a rehearsal's branch may be left");
            }
            return Err(error);
        }
    };
    tracing::info!(
        branch = branch.name,
        "a command can be rehearsed on its branch"
    );
    Ok(Begun {
        secret: rehearsal_secret(&opened.database, &branch.name),
        database: opened.database,
        branch: branch.name,
        branch_id: branch.id,
        parent_lsn: branch.parent_lsn,
        branch_seconds: begun.elapsed().as_secs_f64(),
        expires_at: branch.expires_at,
    })
}

async fn lend(
    function: &Function,
    opened: &Opened,
    new: &NewBranch,
) -> Result<Ensured, BranchesError> {
    let ensured = ensure_if_room(opened, new).await?;
    let (role, database) = (&opened.policy.role, &opened.policy.database);
    let uri = opened
        .project
        .own_connection_uri(&ensured.own, role, database);
    let uri = uri.await?;
    // A pooled host, or one that cannot be verified, is refused here already.
    uri.parse().map_err(BranchesError::Uri)?;
    let branch = &ensured.branch;
    let secret = rehearsal_secret(&opened.database, &branch.name);
    let stored = function.secrets.put_branch_url(&secret, &branch.id, &uri);
    stored.await.map_err(BranchesError::Secret)?;
    Ok(ensured)
}

/// The record first, since the difference cannot be told again; then secret and branch.
pub async fn end(
    function: &Function,
    invocation: &Invocation,
    request: &EndRehearsal,
) -> Result<Ended, BranchesError> {
    let opened = function.open(invocation, &request.database).await?;
    let all = opened.project.branches().await?;
    let Some((branch, mark)) = rehearsal(&opened, &all, &request.branch) else {
        return Err(BranchesError::NoSuchRehearsal {
            database: opened.database,
            branch: request.branch.clone(),
        });
    };
    let is_kept = mark.note(KEEP).is_some();
    let lent = invocation.now().duration_since(branch.created_at);
    let mut ended = Ended {
        verdict: match request.exit_status {
            0 => Verdict::Passed,
            1.. => Verdict::Failed,
        },
        exit_status: request.exit_status,
        seconds: request.seconds,
        lent_seconds: lent.as_secs_f64().max(0.0),
        schema_difference: difference(&opened, branch).await,
        branch: branch.name.clone(),
        kept_until: branch.expires_at.filter(|_| is_kept),
        notes: Vec::new(),
        evidence_key: evidence_key(invocation, &opened.database),
        database: opened.database.clone(),
    };
    let evidence = Evidence {
        format: 1,
        check: "rehearsal",
        by: mark.note("who"),
        at: invocation.started_at,
        lifeboat: env!("CARGO_PKG_VERSION"),
        ended: &ended,
    };
    put(function, &ended.evidence_key, &evidence).await?;
    let gone = match is_kept {
        true => forget_secret(function, &opened, &branch.name).await,
        false => take_back(function, &opened, &mark).await,
    };
    if let Err(error) = gone {
        let error = shared::error::chain(&error);
        tracing::warn!(
            error,
            branch = branch.name,
            "something of a rehearsal is left"
        );
        let note = format!("its branch or its secret is left, and goes with a later run: {error}");
        ended.notes.push(note);
    }
    tracing::info!(verdict = %ended.verdict, ended.branch, "a command was rehearsed");
    if let Some(difference) = &mut ended.schema_difference {
        shorten(difference);
    }
    Ok(ended)
}

/// The branch of that name, if it is one of a rehearsal of this database.
fn rehearsal<'a>(opened: &Opened, all: &'a Branches, name: &str) -> Option<(&'a Branch, Mark)> {
    let branch = all.named(name)?;
    let mark = Mark::of(branch)?;
    let is_of_this = mark.class == Class::Rehearsal && mark.database == opened.database;
    is_of_this.then_some((branch, mark))
}

/// The secret goes first: the branch tells of it.
async fn take_back(function: &Function, opened: &Opened, mark: &Mark) -> Result<(), BranchesError> {
    forget_secret(function, opened, &mark.branch_name()).await?;
    opened.project.remove(mark).await?;
    Ok(())
}

async fn forget_secret(
    function: &Function,
    opened: &Opened,
    branch: &str,
) -> Result<(), BranchesError> {
    let secret = rehearsal_secret(&opened.database, branch);
    let deleted = function.secrets.delete_branch_url(&secret).await;
    deleted.map_err(BranchesError::Secret)
}

/// Deletes the secrets of branches that are kept though their end was never told: a branch that
/// is kept is a person's, who reaches it as the console says.
pub async fn forget(function: &Function, invocation: &Invocation, opened: &Opened, all: &Branches) {
    let is_over = |it: &&Branch| invocation.now().duration_since(it.created_at) > LEFTOVER;
    for branch in all.0.iter().filter(is_over) {
        let found = rehearsal(opened, all, &branch.name);
        let is_kept = found.is_some_and(|(_, mark)| mark.note(KEEP).is_some());
        if !is_kept || !is_id(&branch.name) {
            continue;
        }
        if let Err(error) = forget_secret(function, opened, &branch.name).await {
            let error = shared::error::chain(&error);
            tracing::warn!(
                error,
                branch = branch.name,
                "the secret of a kept branch is left"
            );
        }
    }
}
