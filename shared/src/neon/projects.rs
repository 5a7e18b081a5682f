//! A new project, for a database that has lost its own. It takes an organization's key: one of
//! a single project can make none.

use reqwest::Method;
use serde_json::json;

use super::answers::{ProjectAnswer, ProjectsAnswer};
use super::transport::Call;
use super::{ConnectionUri, NeonError, Project};
use crate::policy::ProjectId;

const DOING: &str = "create a project";
/// The API gives no more at once; names are searched for, so more than a few are a surprise.
const PAGE: &str = "400";

/// A project as we make it: by its name it is found again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewProject {
    pub name: String,
    /// Such as `aws-eu-central-1`.
    pub region: String,
    /// Of PostgreSQL.
    pub major: u8,
    pub role: String,
    pub database: String,
}

impl Project {
    /// Finds the project of that name, or makes it; its id, and whether it is new. `self` is
    /// opened with an organization's key, and no project itself.
    ///
    /// The creation is sent at most once. Names of projects are not unique, so where its answer
    /// is lost and nothing shows, a person has to look before asking again.
    pub async fn ensure_project(&self, new: &NewProject) -> Result<(ProjectId, bool), NeonError> {
        if let Some(id) = self.project_named(&new.name).await? {
            return Ok((id, false));
        }
        let project = json!({
            "name": new.name, "region_id": new.region, "pg_version": new.major,
            "branch": {"role_name": new.role, "database_name": new.database},
        });
        let call = Call::change(DOING, Method::POST, "/projects".to_owned());
        let answer: Result<Option<ProjectAnswer>, NeonError> =
            self.send(&call.body(json!({"project": project}))).await;
        match answer {
            Ok(answer) => {
                let id = answer.and_then(|it| it.project.id.try_into().ok());
                Ok((id.ok_or(MALFORMED)?, true))
            }
            Err(error) if error.is_unknown() => {
                let found = self.project_named(&new.name).await?;
                found.map(|id| (id, true)).ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    async fn project_named(&self, name: &str) -> Result<Option<ProjectId>, NeonError> {
        let call = Call::read("look for a project", "/projects".to_owned())
            .with("search", name)
            .with("limit", PAGE);
        let answer: Option<ProjectsAnswer> = self.send(&call).await?;
        let found = answer.into_iter().flat_map(|it| it.projects);
        let mut found: Vec<_> = found.filter(|it| it.name == name).collect();
        if let [_, other, ..] = &found[..] {
            return Err(NeonError::NameTaken {
                doing: DOING,
                name: name.to_owned(),
                id: other.id.clone(),
                why: "two projects have it: delete the one that is not needed".to_owned(),
            });
        }
        let id = found
            .pop()
            .map(|it| it.id.try_into().map_err(|_| MALFORMED));
        id.transpose()
    }

    /// How to reach a project that was just made, once it is ready: its default branch,
    /// directly.
    pub async fn new_project_uri(
        &self,
        role: &str,
        database: &str,
    ) -> Result<ConnectionUri, NeonError> {
        let branches = self.branches().await?;
        let default = branches.default_branch();
        let default = default.ok_or_else(|| NeonError::NoDefaultBranch {
            project: self.id().to_string(),
        })?;
        let operations = self.operations_at(DOING, &default.id).await?;
        self.finish(DOING, &operations).await?;
        self.ask_uri(&default.id, role, database).await
    }
}

const MALFORMED: NeonError = NeonError::Malformed {
    doing: DOING,
    reason: "the id of the project is none",
};
