//! Makes a branch exist, once: by its name, which follows from what it is for.

use std::time::Duration;

use super::ownership::{Deletable, Mark, Own};
use super::{Branch, Branches, NeonError, NewBranch, Project};
use crate::policy::ComputeUnits;

const DOING: &str = "create a branch";
/// The state of a branch whose creation came to no end.
const UNFINISHED: &str = "init";
/// After a lost answer: the branch shows within seconds, or the next try finds it.
const LOOKS: u32 = 4;
const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// For how long a branch that was just made may be unknown to reads.
pub(super) const FLICKER: Duration = Duration::from_secs(1);
pub(super) const FLICKERS_MAX: u32 = 10;

/// A branch that is there and ready.
#[derive(Clone, Debug)]
pub struct Ensured {
    pub branch: Branch,
    pub own: Own,
    /// False: an earlier try made it.
    pub is_new: bool,
}

impl Project {
    /// Finds the branch of that mark, or makes it; returns when it is ready.
    ///
    /// The creation is sent at most once. When its answer is lost, the branch is looked for,
    /// and taken if it appears; if not, the error says so, and whoever calls again begins by
    /// looking. Names are unique within a project, so even a creation that is carried out late
    /// cannot make a second branch.
    ///
    /// # Errors
    ///
    /// [`NeonError::NameTaken`] where the name belongs to a branch that is not ours.
    pub async fn ensure(&self, new: &NewBranch) -> Result<Ensured, NeonError> {
        if let Some(found) = self.find(&new.mark).await? {
            return self.adopt(found, new, false).await;
        }
        match self.post_branch(new).await {
            Ok((branch, operations)) => {
                if let Err(error) = self.finish(DOING, &operations).await {
                    return Err(self.clear_away(&new.mark, error).await);
                }
                let branch = self.settled(&branch.id).await?;
                checked(branch, new, true)
            }
            Err(error) if error.is_unknown() || error.is_conflict() => {
                match self.look_for(&new.mark.branch_name()).await? {
                    Some(found) => self.adopt(found, new, error.is_unknown()).await,
                    None => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// The branch that has this mark's name, whoever's it is.
    pub async fn find(&self, mark: &Mark) -> Result<Option<Branch>, NeonError> {
        self.find_named(&mark.branch_name()).await
    }

    async fn find_named(&self, name: &str) -> Result<Option<Branch>, NeonError> {
        let listed = self.list_branches(Some(name)).await?;
        Ok(listed.named(name).cloned())
    }

    pub(super) async fn look_for(&self, name: &str) -> Result<Option<Branch>, NeonError> {
        for look in 0..LOOKS {
            if look > 0 {
                tokio::time::sleep(LOOK_PAUSE).await;
            }
            if let Some(found) = self.find_named(name).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Takes a branch that is there: if it is ours, and when it is ready.
    async fn adopt(
        &self,
        found: Branch,
        new: &NewBranch,
        is_new: bool,
    ) -> Result<Ensured, NeonError> {
        let mut ensured = checked(found, new, is_new)?;
        let id = ensured.branch.id.clone();
        let operations = self.operations_at(DOING, &id).await?;
        if let Err(error) = self.finish(DOING, &operations).await {
            return Err(self.clear_away(&new.mark, error).await);
        }
        ensured.branch = self.settled(&id).await?;
        let state = &ensured.branch.current_state;
        if !ensured.branch.is_usable() && state != UNFINISHED && !new.mark.class.is_temporary() {
            // It may be what somebody keeps it for, in a state that is not known here.
            return Err(NeonError::Unavailable {
                doing: DOING,
                reason: format!("the branch {id} is in the state {state}"),
            });
        }
        if !ensured.branch.is_usable() {
            let error = NeonError::OperationFailed {
                doing: DOING,
                action: "create_branch".to_owned(),
                status: format!("a branch in the state {}", ensured.branch.current_state),
                message: String::new(),
            };
            return Err(self.clear_away(&new.mark, error).await);
        }
        if let Some(size) = new.compute {
            self.ensure_compute(&id, size).await?;
        }
        Ok(ensured)
    }

    /// The branch as the API has it when it is not unknown for having just been made.
    async fn settled(&self, id: &str) -> Result<Branch, NeonError> {
        for _ in 0..FLICKERS_MAX {
            if let Some(branch) = self.branch(id).await? {
                return Ok(branch);
            }
            tokio::time::sleep(FLICKER).await;
        }
        Err(NeonError::Unavailable {
            doing: DOING,
            reason: format!("the branch {id} was made, and is not there to be read"),
        })
    }

    async fn ensure_compute(&self, branch_id: &str, size: ComputeUnits) -> Result<(), NeonError> {
        if self.has_compute(branch_id).await? {
            return Ok(());
        }
        match self.post_endpoint(branch_id, size).await {
            Ok(operations) => self.finish("create a compute", &operations).await,
            // A branch has one such compute: whoever made it, it is the one.
            Err(error) if error.is_unknown() || error.is_conflict() => {
                if self.has_compute(branch_id).await? {
                    let operations = self.operations_at(DOING, branch_id).await?;
                    self.finish("create a compute", &operations).await
                } else {
                    Err(error)
                }
            }
            Err(error) => Err(error),
        }
    }

    async fn has_compute(&self, branch_id: &str) -> Result<bool, NeonError> {
        let endpoints = self.endpoints(branch_id).await?;
        Ok(endpoints.iter().any(|it| it.kind == "read_write"))
    }

    /// A branch whose making failed is removed, so that the next try makes a whole one; what
    /// cannot be removed now, the next run finds. One that is ready is whole, whatever failed.
    async fn clear_away(&self, mark: &Mark, error: NeonError) -> NeonError {
        if !matches!(error, NeonError::OperationFailed { .. }) {
            return error;
        }
        let removed = async {
            let is_whole = self.find(mark).await?.is_some_and(|it| it.is_usable());
            if is_whole && !mark.class.is_temporary() {
                return Ok(());
            }
            self.remove(mark).await.map(drop)
        };
        if let Err(failed) = removed.await {
            tracing::warn!(%failed, branch = mark.branch_name(), "a branch that came out wrong is left");
        }
        error
    }

    /// Deletes one branch of ours, having looked at it once more.
    ///
    /// # Errors
    ///
    /// Also where it has become somebody else's meanwhile; gone is no error.
    pub async fn remove(&self, mark: &Mark) -> Result<Removed, NeonError> {
        let all: Branches = self.branches().await?;
        let name = mark.branch_name();
        let Some(found) = all.named(&name) else {
            return Ok(Removed::WasGone);
        };
        let judged = Deletable::judge(found, &all, &mark.database);
        match judged {
            Ok(deletable) if deletable.mark().is_same(mark) => {
                self.delete(&deletable).await?;
                Ok(Removed::Deleted(found.id.clone()))
            }
            Ok(_) => Err(untouched(found, "it is of something else")),
            Err(why) => Err(untouched(found, &why.to_string())),
        }
    }
}

/// Ours, and of this very work; anything else under the name is left alone.
fn checked(branch: Branch, new: &NewBranch, is_new: bool) -> Result<Ensured, NeonError> {
    let taken = |why: String| NeonError::NameTaken {
        doing: DOING,
        name: new.mark.branch_name(),
        id: branch.id.clone(),
        why,
    };
    let own = Own::of(&branch);
    let own = own.ok_or_else(|| taken("it does not carry Lifeboat's mark".to_owned()))?;
    if !own.mark().is_same(&new.mark) {
        return Err(taken(format!("it is of {}", own.mark().database)));
    }
    if branch.parent_id.is_none() {
        return Err(taken("it is a root branch".to_owned()));
    }
    Ok(Ensured {
        branch,
        own,
        is_new,
    })
}

fn untouched(branch: &Branch, why: &str) -> NeonError {
    NeonError::NameTaken {
        doing: "delete a branch",
        name: branch.name.clone(),
        id: branch.id.clone(),
        why: why.to_owned(),
    }
}

/// What came of [`Project::remove`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    Deleted(String),
    WasGone,
}
