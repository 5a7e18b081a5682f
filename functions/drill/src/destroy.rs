//! The last step on the server, which always runs: the scratch database and the roles that
//! were made for it are dropped.

use std::time::Duration;

use serde::Serialize;
use shared::archive::quote_ident;
use shared::database_url::DatabaseUrl;
use shared::pg::Connection;
use shared::restore::scratch;

use crate::error::DrillError;
use crate::request::DrillItem;
use crate::restoring::{aside, fail};
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
        Err(error) => Err(fail(function, invocation, drill, error).await),
    }
}

async fn tear_down(function: &Function, drill: &DrillItem) -> Result<Vec<String>, DrillError> {
    let server = function.secrets.target_url(&drill.target).await;
    let server = server.map_err(DrillError::Target)?;
    let (own, item) = (server.clone(), drill.clone());
    aside(move || claim(&own, &item)).await?;
    scratch::drop_database(&server, &drill.scratch).await?;
    let (own, drill_id) = (server.clone(), drill.drill_id.clone());
    let kept = aside(move || roles::remove(&own, &drill_id)).await?;
    Ok(kept
        .iter()
        .map(|role| format!("the role {role} was made for this drill and is used by others now"))
        .collect())
}

/// A restore that was killed right between making the database and marking it left one that
/// has our name and no mark. The name holds this drill's own id, so it is nobody else's.
fn claim(server: &DatabaseUrl, drill: &DrillItem) -> Result<(), DrillError> {
    let failed = |source| DrillError::Server {
        doing: "look for the scratch database",
        source,
    };
    let mut connection = Connection::open(server, Duration::from_secs(60)).map_err(failed)?;
    let unmarked = connection.query(format!(
        "SELECT FROM pg_database WHERE datname = '{}' AND shobj_description(oid, 'pg_database') IS NULL",
        drill.scratch
    ));
    if unmarked.map_err(failed)?.is_empty() {
        return Ok(());
    }
    let name = quote_ident(drill.scratch.as_bytes());
    let name = String::from_utf8_lossy(&name).into_owned();
    let mark = janitor::mark(drill.started_at, &drill.drill_id);
    let comment = format!("COMMENT ON DATABASE {name} IS '{mark}'");
    connection.query(comment).map(drop).map_err(failed)
}
