//! A new Neon project as the target of a restore, for when the old one is gone. How to reach it
//! goes into the target's secret; the restore itself is the restore machine's, with its plan and
//! its approval.

use serde::Serialize;
use shared::config::read_policy;
use shared::neon::NewProject;
use shared::policy::{DatabasePolicy, ProjectId, TargetName};

use crate::error::BranchesError;
use crate::request::MakeProject;
use crate::{Function, Invocation};

/// Only secrets of targets with such a name may be written.
const TARGETS: &str = "neon-";
const ROLE: &str = "lifeboat_owner";
const DATABASE: &str = "neondb";

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Made {
    pub project: ProjectId,
    pub name: String,
    pub target: TargetName,
    /// False: an earlier call had made it.
    pub is_new: bool,
}

/// The same target again is the same project.
pub async fn make(
    function: &Function,
    invocation: &Invocation,
    request: &MakeProject,
) -> Result<Made, BranchesError> {
    let policy = read_policy(&function.config.layer_root).map_err(BranchesError::Layer)?;
    let target = &request.target;
    let refuse = |why| BranchesError::Target {
        target: target.clone(),
        why,
    };
    let configured = policy.targets.iter().find(|it| it.name == *target);
    let configured = configured.ok_or_else(|| refuse("lifeboat.toml has no such [[target]]"))?;
    if configured.live {
        return Err(refuse("lifeboat.toml says that it is live"));
    }
    let drills_on = |it: &DatabasePolicy| it.drill.as_ref().is_some_and(|it| it.target == *target);
    if policy.databases.iter().any(drills_on) {
        return Err(refuse(
            "drills are held on it, and would go to the new project",
        ));
    }
    if !target.as_str().starts_with(TARGETS) {
        return Err(refuse("its name has to begin with neon-"));
    }
    let organization = ProjectId::organization();
    let key = function.secrets.neon_key(&organization).await;
    let key = key.map_err(BranchesError::Secret)?;
    let (neon, deadline) = (&function.neon, invocation.deadline);
    let new = NewProject {
        name: format!("lifeboat-{target}"),
        region: request.region.clone(),
        major: request.major,
        role: ROLE.to_owned(),
        database: DATABASE.to_owned(),
    };
    let all = neon.project(&organization, key.clone(), deadline);
    let (id, is_new) = all.ensure_project(&new).await?;
    let made = neon.project(&id, key, deadline);
    let uri = made.new_project_uri(ROLE, DATABASE).await?;
    uri.parse().map_err(BranchesError::Uri)?;
    let stored = function.secrets.put_target_url(target, &uri).await;
    stored.map_err(BranchesError::Secret)?;
    tracing::info!(project = %id, %target, is_new, by = request.by, "a new project is a target");
    Ok(Made {
        project: id,
        name: new.name,
        target: target.clone(),
        is_new,
    })
}
