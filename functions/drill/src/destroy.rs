//! The last step on the server, which always runs: the scratch database is dropped, and the
//! roles that were made for it are let go of.

use serde::Serialize;
use shared::error::chain;
use shared::restore::scratch;

use crate::error::DrillError;
use crate::mark::Mark;
use crate::request::DrillItem;
use crate::restoring::aside;
use crate::steps::{self, StepOutcome};
use crate::{Function, Invocation, janitor, roles};

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Destroyed {
    pub scratch: String,
}

/// What is not there is destroyed already.
pub async fn destroy(
    function: &Function,
    invocation: &Invocation,
    drill: &DrillItem,
) -> Result<Destroyed, DrillError> {
    match tear_down(function, drill).await {
        Ok(notes) => {
            let outcome = (StepOutcome::Destroyed, notes);
            steps::keep(&function.work, drill, invocation, "destroy", outcome).await?;
            Ok(Destroyed {
                scratch: drill.scratch.clone(),
            })
        }
        Err(error) => {
            let outcome = StepOutcome::NotDestroyed {
                error: error.name().as_str().to_owned(),
                message: chain(&error),
            };
            steps::keep_failure(&function.work, drill, invocation, outcome).await;
            Err(error)
        }
    }
}

async fn tear_down(function: &Function, drill: &DrillItem) -> Result<Vec<String>, DrillError> {
    let server = function.secrets.target_url(&drill.target).await;
    let server = server.map_err(DrillError::Target)?;
    let (own, scratch) = (server.clone(), drill.scratch.clone());
    let mark = Mark {
        made_at: drill.started_at,
        drill_id: drill.drill_id.clone(),
    };
    aside(move || janitor::claim(&own, &scratch, &mark)).await?;
    scratch::drop_database(&server, &drill.scratch).await?;
    let (own, drill_id) = (server.clone(), drill.drill_id.clone());
    let released = aside(move || roles::remove(&own, &drill_id)).await?;
    let kept = released.kept.iter();
    Ok(kept
        .map(|role| format!("the role {role} was made for this drill and is used by others now"))
        .collect())
}
