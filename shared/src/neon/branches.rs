//! Branches and the project around them.

use std::collections::BTreeSet;

use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::answers::{
    Annotation, BranchAnswer, BranchesAnswer, Changed, DifferenceAnswer, EndpointsAnswer,
    ProjectAnswer, ProjectsAnswer,
};
use super::ownership::{Deletable, Mark, Own};
use super::transport::Call;
use super::{Branch, Endpoint, NeonError, Operation, Project, ProjectFacts};
use crate::policy::ComputeUnits;

/// The API gives no more at once, whatever is asked for.
const PAGE: u32 = 100;
/// 5,000 branches is the most that any plan has.
const PAGES_MAX: usize = 60;

/// All branches of a project, each once, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Branches(pub Vec<Branch>);

impl Branches {
    pub fn named(&self, name: &str) -> Option<&Branch> {
        self.0.iter().find(|it| it.name == name)
    }

    pub fn with_id(&self, id: &str) -> Option<&Branch> {
        self.0.iter().find(|it| it.id == id)
    }

    /// Production.
    pub fn default_branch(&self) -> Option<&Branch> {
        self.0.iter().find(|it| it.default)
    }

    pub fn has_children(&self, id: &str) -> bool {
        self.0.iter().any(|it| it.parent_id.as_deref() == Some(id))
    }

    pub fn roots(&self) -> usize {
        self.0.iter().filter(|it| it.parent_id.is_none()).count()
    }
}

/// From where a branch is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Point {
    /// The parent as it is now.
    Head,
    Time(Timestamp),
    /// Such as `0/1AA6408`.
    Lsn(String),
}

/// A branch as we make it: always a child, and always with our mark.
#[derive(Clone, Debug, PartialEq)]
pub struct NewBranch {
    pub parent_id: String,
    pub point: Point,
    pub mark: Mark,
    /// With a compute of this size; a branch that only keeps a state needs none.
    pub compute: Option<ComputeUnits>,
    /// When Neon deletes it, should nobody else. At most 30 days ahead; nothing can be branched
    /// off a branch that expires.
    pub expires_at: Option<Timestamp>,
}

impl NewBranch {
    pub(super) fn body(&self) -> Value {
        let mut branch = Map::new();
        branch.insert("name".to_owned(), self.mark.branch_name().into());
        branch.insert("parent_id".to_owned(), self.parent_id.clone().into());
        match &self.point {
            Point::Head => {}
            Point::Time(at) => {
                branch.insert("parent_timestamp".to_owned(), at.to_string().into());
            }
            Point::Lsn(lsn) => {
                branch.insert("parent_lsn".to_owned(), lsn.clone().into());
            }
        }
        if let Some(at) = self.expires_at {
            branch.insert("expires_at".to_owned(), at.to_string().into());
        }
        let endpoints: Vec<Value> = self.compute.map(endpoint).into_iter().collect();
        json!({"branch": branch, "endpoints": endpoints, "annotation_value": self.mark.annotation()})
    }
}

/// Without a suspend timeout, which the free plan refuses.
fn endpoint(size: ComputeUnits) -> Value {
    json!({
        "type": "read_write",
        "autoscaling_limit_min_cu": size.as_f64(),
        "autoscaling_limit_max_cu": size.as_f64(),
    })
}

impl Project {
    pub async fn facts(&self) -> Result<ProjectFacts, NeonError> {
        let call = Call::read("read the project", self.path(""));
        let answer: Option<ProjectAnswer> = self.send(&call).await?;
        answer.map(|it| it.project).ok_or_else(|| self.missing())
    }

    fn missing(&self) -> NeonError {
        NeonError::NoProject {
            project: self.id.to_string(),
        }
    }

    /// Sets how far back any moment can be restored. The same value again changes nothing.
    pub async fn set_restore_window(&self, seconds: u64) -> Result<ProjectFacts, NeonError> {
        let call = Call::change("set the restore window", Method::PATCH, self.path(""))
            .body(json!({"project": {"history_retention_seconds": seconds}}));
        let answer: Option<ProjectAnswer> = self.send(&call).await?;
        let answer = answer.ok_or_else(|| self.missing())?;
        self.finish(call.doing, &answer.operations).await?;
        Ok(answer.project)
    }

    /// Whether the key opens other projects, too; None where the API does not say.
    pub async fn key_opens_others(&self) -> Result<Option<bool>, NeonError> {
        let call = Call::read("see which projects the key opens", "/projects".to_owned())
            .with("limit", "10");
        let answer: Result<Option<ProjectsAnswer>, NeonError> = self.send(&call).await;
        match answer {
            Ok(answer) => Ok(answer.map(|it| {
                let mut projects = it.projects.iter();
                projects.any(|it| it.id != self.id.as_str())
            })),
            Err(NeonError::KeyTooNarrow { .. }) => Ok(Some(false)),
            // What a person's key is told: it has to say whose projects it means.
            Err(NeonError::Rejected { message, .. }) if message.contains("org_id") => {
                Ok(Some(true))
            }
            Err(NeonError::Rejected { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All branches, to the last page.
    ///
    /// By creation, not by change: a branch that changes while pages are read would move to
    /// another page, and be missed.
    pub async fn branches(&self) -> Result<Branches, NeonError> {
        self.list_branches(None).await
    }

    /// Those whose name or id contains `search`.
    pub(super) async fn list_branches(&self, search: Option<&str>) -> Result<Branches, NeonError> {
        let doing = "list the branches";
        let mut found = Branches::default();
        let mut seen = BTreeSet::new();
        let mut cursor: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let mut call = Call::read(doing, self.path("/branches"))
                .with("limit", PAGE.to_string())
                .with("sort_by", "created_at")
                .with("sort_order", "asc");
            if let Some(search) = search {
                call = call.with("search", search);
            }
            if let Some(cursor) = &cursor {
                call = call.with("cursor", cursor);
            }
            let page: Option<BranchesAnswer> = self.send(&call).await?;
            let mut page = page.ok_or_else(|| self.missing())?;
            let is_last = page.branches.is_empty();
            for mut branch in page.branches {
                let annotation = page.annotations.remove(&branch.id);
                branch.annotation = annotation.map(Annotation::texts).unwrap_or_default();
                if seen.insert(branch.id.clone()) {
                    found.0.push(branch);
                }
            }
            let next = page.pagination.and_then(|it| it.next);
            match next.filter(|it| !it.is_empty()) {
                Some(next) if !is_last && Some(&next) != cursor.as_ref() => cursor = Some(next),
                Some(_) | None => return Ok(found),
            }
        }
        Err(NeonError::Malformed {
            doing,
            reason: "there are more pages than any plan has branches",
        })
    }

    /// None: it is not there (any more).
    pub async fn branch(&self, id: &str) -> Result<Option<Branch>, NeonError> {
        let call = Call::read("read a branch", self.path(&format!("/branches/{id}")));
        let answer: Option<BranchAnswer> = self.send(&call).await?;
        Ok(answer.map(|answer| {
            let mut branch = answer.branch;
            branch.annotation = answer.annotation.map(Annotation::texts).unwrap_or_default();
            branch
        }))
    }

    pub async fn endpoints(&self, branch_id: &str) -> Result<Vec<Endpoint>, NeonError> {
        let path = self.path(&format!("/branches/{branch_id}/endpoints"));
        let answer: Option<EndpointsAnswer> = self
            .send(&Call::read("list the computes of a branch", path))
            .await?;
        Ok(answer.map(|it| it.endpoints).unwrap_or_default())
    }

    /// Sends the creation, once. See [`Project::ensure`].
    pub(super) async fn post_branch(
        &self,
        new: &NewBranch,
    ) -> Result<(Branch, Vec<Operation>), NeonError> {
        let doing = "create a branch";
        let call = Call::change(doing, Method::POST, self.path("/branches")).body(new.body());
        let answer: Option<BranchAnswer> = self.send(&call).await?;
        let answer = answer.ok_or_else(|| NeonError::Missing {
            doing,
            what: format!("the parent branch {}", new.parent_id),
        })?;
        Ok((answer.branch, answer.operations))
    }

    /// Gives a branch its compute, once. See [`Project::ensure`].
    pub(super) async fn post_endpoint(
        &self,
        branch_id: &str,
        size: ComputeUnits,
    ) -> Result<Vec<Operation>, NeonError> {
        let doing = "create a compute";
        let mut body = endpoint(size);
        body["branch_id"] = branch_id.into();
        let call = Call::change(doing, Method::POST, self.path("/endpoints"));
        let answer: Option<Changed> = self.send(&call.body(json!({"endpoint": body}))).await?;
        let answer = answer.ok_or_else(|| NeonError::Missing {
            doing,
            what: format!("the branch {branch_id}"),
        })?;
        Ok(answer.operations)
    }

    /// Sets when Neon deletes the branch. The same moment again changes nothing.
    pub async fn expire(&self, branch: &Own, at: Timestamp) -> Result<(), NeonError> {
        let doing = "set when a branch expires";
        let path = self.path(&format!("/branches/{}", branch.id()));
        let call = Call::change(doing, Method::PATCH, path)
            .body(json!({"branch": {"expires_at": at.to_string()}}));
        let answer: Option<Changed> = self.send(&call).await?;
        let answer = answer.ok_or_else(|| NeonError::Missing {
            doing,
            what: format!("the branch {}", branch.id()),
        })?;
        self.finish(doing, &answer.operations).await
    }

    /// Deletes a branch that is proved to be ours; one that is gone is deleted already.
    ///
    /// Where the answer is lost, the branch is looked for: a deletion that did not happen is an
    /// error, and the next try finds the branch as it is.
    pub async fn delete(&self, branch: &Deletable) -> Result<(), NeonError> {
        let doing = "delete a branch";
        let path = self.path(&format!("/branches/{}", branch.id()));
        let call = Call::change(doing, Method::DELETE, path);
        let answer: Result<Option<Changed>, NeonError> = self.send(&call).await;
        match answer {
            Ok(None) => Ok(()),
            Ok(Some(answer)) => self.finish(doing, &answer.operations).await,
            Err(error) if error.is_unknown() => match self.branch(branch.id()).await? {
                None => Ok(()),
                Some(_) => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    /// How the schema of one branch differs from another's, as that was at `base_lsn` or is
    /// now, as a unified diff; None where the API does not say.
    pub async fn schema_difference(
        &self,
        branch_id: &str,
        (base_branch_id, base_lsn): (&str, Option<&str>),
        database: &str,
    ) -> Result<Option<String>, NeonError> {
        let path = self.path(&format!("/branches/{branch_id}/compare_schema"));
        let mut call = Call::read("compare two schemas", path)
            .with("db_name", database)
            .with("base_branch_id", base_branch_id);
        if let Some(lsn) = base_lsn {
            call = call.with("base_lsn", lsn);
        }
        let answer: Option<DifferenceAnswer> = self.send(&call).await?;
        Ok(answer.map(|it| it.diff))
    }
}

#[cfg(test)]
mod tests {
    use super::super::ownership::Class;
    use super::*;

    #[test]
    fn a_new_branch_names_its_parent_its_point_and_its_owner() {
        let mark = Mark::new(
            Class::DumpSource,
            &"app".parse().unwrap(),
            "20261121T010000Z-nightly",
        );
        let new = NewBranch {
            parent_id: "br-main".to_owned(),
            point: Point::Head,
            mark,
            compute: Some(ComputeUnits::ONE),
            expires_at: Some("2026-11-22T01:00:00Z".parse().unwrap()),
        };
        let expected = json!({
            "branch": {"name": "lifeboat-dump-app-20261121T010000Z-nightly", "parent_id": "br-main",
                "expires_at": "2026-11-22T01:00:00Z"},
            "endpoints": [{"type": "read_write", "autoscaling_limit_min_cu": 1.0, "autoscaling_limit_max_cu": 1.0}],
            "annotation_value": {"managed-by": "lifeboat", "class": "dump-source", "database": "app",
                "key": "20261121T010000Z-nightly"}});
        assert_eq!(new.body(), expected);
        let past = NewBranch {
            point: Point::Time("2026-11-21T00:45:00Z".parse().unwrap()),
            compute: None,
            expires_at: None,
            ..new
        };
        let body = past.body();
        assert_eq!(body["branch"]["parent_timestamp"], "2026-11-21T00:45:00Z");
        assert_eq!(body["endpoints"], json!([]));
    }
}
