//! Puts production back to a moment of its own history, once.

use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Map, Value};

use super::answers::Changed;
use super::transport::Call;
use super::{Branch, ConnectionUri, NeonError, Operation, Point, Project};

const DOING: &str = "restore production";

/// Which branch, to which point of its own history, and the name under which it is kept as it
/// is now. No other branch has that name, so the restore can happen once only.
#[derive(Clone, Debug, PartialEq)]
pub struct InPlace {
    pub branch_id: String,
    pub point: Past,
    pub preserve_under: String,
}

/// A point in the history of a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Past {
    Time(Timestamp),
    /// Such as `0/1AA6408`.
    Lsn(String),
}

impl From<Past> for Point {
    fn from(past: Past) -> Self {
        match past {
            Past::Time(at) => Self::Time(at),
            Past::Lsn(lsn) => Self::Lsn(lsn),
        }
    }
}

impl InPlace {
    fn body(&self) -> Value {
        let (name, point) = match &self.point {
            Past::Time(at) => ("source_timestamp", at.to_string()),
            Past::Lsn(lsn) => ("source_lsn", lsn.clone()),
        };
        let fields = [
            ("source_branch_id", self.branch_id.clone()),
            (name, point),
            ("preserve_under_name", self.preserve_under.clone()),
        ];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.into()));
        Value::Object(Map::from_iter(fields))
    }
}

impl Project {
    /// Sends the restore once; [`Self::settle_production`] waits for it. What somebody has looked
    /// at before holds for that one sending: a project that is busy, or an API that asks to come
    /// back later, is an error, and whoever calls again looks again first.
    ///
    /// When the answer is lost, the name under which the old state is kept is looked for: a root
    /// branch has it if, and only if, the restore was done. If none shows, the error says so.
    ///
    /// # Errors
    ///
    /// Nothing was changed where it is a [refusal](NeonError::is_refusal).
    pub async fn send_restore(&self, wanted: &InPlace) -> Result<Vec<Operation>, NeonError> {
        match self.post_restore(wanted).await {
            Err(error) if error.is_unknown() || error.is_conflict() => {
                // A look that fails answers nothing, and must not pass for an answer to the change.
                match self.look_for(&wanted.preserve_under).await {
                    Ok(Some(found)) if found.parent_id.is_none() => Ok(Vec::new()),
                    Ok(_) | Err(_) => Err(error),
                }
            }
            sent => sent,
        }
    }

    /// Waits for a restore that was sent, until production answers again. `kept` is the name of
    /// what it was.
    pub async fn finish_restore(
        &self,
        operations: &[Operation],
        kept: &str,
    ) -> Result<(), NeonError> {
        self.finish(DOING, operations).await?;
        self.settle_production(kept).await
    }

    /// Waits for what still goes on at production, and at what it was. What becomes of other
    /// branches, or failed days ago, says nothing: what counts is that production can be used.
    pub async fn settle_production(&self, kept: &str) -> Result<(), NeonError> {
        let all = self.branches().await?;
        let ids = [all.default_branch(), all.named(kept)].map(|it| it.map(|it| it.id.clone()));
        let mut operations = self.operations_open(DOING).await?;
        operations.retain(|it| it.branch_id.is_none() || ids.contains(&it.branch_id));
        match self.finish(DOING, &operations).await {
            Err(error @ NeonError::OperationFailed { .. }) => {
                tracing::warn!(%error, "an operation of the project ended badly");
            }
            finished => finished?,
        }
        let all = self.branches().await?;
        let production = all.default_branch();
        let production = production.ok_or_else(|| NeonError::NoDefaultBranch {
            project: self.id().to_string(),
        })?;
        if production.is_usable() {
            return Ok(());
        }
        Err(NeonError::OperationFailed {
            doing: DOING,
            action: "restore".to_owned(),
            status: format!(
                "a production branch in the state {}",
                production.current_state
            ),
            message: String::new(),
        })
    }

    async fn post_restore(&self, wanted: &InPlace) -> Result<Vec<Operation>, NeonError> {
        let path = self.path(&format!("/branches/{}/restore", wanted.branch_id));
        let call = Call::change(DOING, Method::POST, path)
            .body(wanted.body())
            .only_once();
        let answer: Option<Changed> = self.send(&call).await?;
        let answer = answer.ok_or_else(|| NeonError::Missing {
            doing: DOING,
            what: format!("the branch {}", wanted.branch_id),
        })?;
        Ok(answer.operations)
    }

    /// The direct endpoint of production, as `role`. None: the project keeps no passwords, and
    /// none of production is ever reset.
    pub async fn production_uri(
        &self,
        production: &Branch,
        role: &str,
        database: &str,
    ) -> Result<Option<ConnectionUri>, NeonError> {
        match self.ask_uri(&production.id, role, database).await {
            Err(NeonError::Rejected { status: 412, .. }) => Ok(None),
            Ok(uri) => Ok(uri.has_password().then_some(uri)),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_restore_names_its_point_and_what_the_old_state_is_kept_as() {
        let wanted = InPlace {
            branch_id: "br-main".to_owned(),
            point: Past::Time("2026-11-21T02:30:00Z".parse().unwrap()),
            preserve_under: "main-before-20261121T030501Z".to_owned(),
        };
        let expected = json!({"source_branch_id": "br-main", "source_timestamp": "2026-11-21T02:30:00Z",
            "preserve_under_name": "main-before-20261121T030501Z"});
        assert_eq!(wanted.body(), expected);
        let lsn = InPlace {
            point: Past::Lsn("0/1AA6408".to_owned()),
            ..wanted
        };
        assert_eq!(lsn.body()["source_lsn"], "0/1AA6408");
    }
}
