//! The first step: a scratch database that becomes the backup, over as many invocations as it
//! takes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use serde::Serialize;
use shared::config::read_policy;
use shared::database_url::DatabaseUrl;
use shared::error::chain;
use shared::pg::Connection;
use shared::policy::{DrillPolicy, Policy, Roles};
use shared::restore::{Advance, Backup, LeaveOut, Order, Scope, advance, estimate, guard, scratch};

use crate::error::DrillError;
use crate::request::DrillItem;
use crate::steps::{self, Plan, StepOutcome, Steps};
use crate::{Function, Invocation, janitor, roles};

/// Kept back from every invocation to write down how far it came: a fifth, at most this.
const MARGIN_MAX: Duration = Duration::from_secs(20);

/// The state machine asks again while `remaining` is above 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Restored {
    pub remaining: u64,
    pub done: u64,
    pub total: u64,
}

/// Goes on where the invocation before stopped, or begins.
pub async fn restore(
    function: &Function,
    invocation: &Invocation,
    drill: &DrillItem,
) -> Result<Restored, DrillError> {
    let steps = Steps::read(&function.work, drill).await?;
    if let Some(ended) = steps.restored().filter(|it| it.remaining == 0) {
        // Its answer was lost.
        return Ok(report(ended));
    }
    let work = &function.work;
    match go_on(function, invocation, drill, steps).await {
        Ok((advance, notes)) => {
            let restored = report(&advance);
            let outcome = StepOutcome::Restored(Box::new(advance));
            steps::keep(work, drill, invocation, "restore", (outcome, notes)).await?;
            Ok(restored)
        }
        Err(error) => Err(fail(function, invocation, drill, error).await),
    }
}

/// Writes down why, for the evidence. The error counts, whether that succeeds or not.
pub async fn fail(
    function: &Function,
    invocation: &Invocation,
    drill: &DrillItem,
    error: DrillError,
) -> DrillError {
    let outcome = StepOutcome::Failed {
        error: error.name().as_str().to_owned(),
        message: chain(&error),
        finding: error.finding(),
    };
    let kept = steps::keep(
        &function.work,
        drill,
        invocation,
        "failed",
        (outcome, Vec::new()),
    );
    if let Err(unkept) = kept.await {
        tracing::warn!(
            error = chain(&unkept),
            "the failure could not be written down"
        );
    }
    error
}

fn report(advance: &Advance) -> Restored {
    Restored {
        remaining: advance.remaining,
        done: advance.done,
        total: advance.total,
    }
}

async fn go_on(
    function: &Function,
    invocation: &Invocation,
    drill: &DrillItem,
    steps: Steps,
) -> Result<(Advance, Vec<String>), DrillError> {
    let policy = read_policy(&function.config.layer_root).map_err(DrillError::Layer)?;
    let drill_policy = policy_of(&policy, drill)?;
    let limit = SignedDuration::from_mins(drill_policy.give_up_minutes.into());
    if invocation.started_at.duration_since(drill.started_at) > limit {
        let minutes = drill_policy.give_up_minutes;
        return Err(DrillError::GivenUp { minutes });
    }
    let server = function.secrets.target_url(&drill.target).await;
    let server = server.map_err(DrillError::Target)?;
    let backup = open_backup(function, drill).await?;
    let (plan, notes) = match steps.plan {
        Some(plan) => (plan, Vec::new()),
        None => begin(function, invocation, (&policy, drill), (&backup, &server)).await?,
    };
    let until = until(invocation);
    let target = server.with_database(&drill.scratch);
    let advance = advance(&backup, &target, &plan.order, until).await?;
    Ok((advance, notes))
}

pub fn policy_of<'a>(policy: &'a Policy, drill: &DrillItem) -> Result<&'a DrillPolicy, DrillError> {
    let database = policy.database(&drill.database);
    let found = database.and_then(|it| it.drill.as_ref());
    found.ok_or_else(|| DrillError::NoPolicy(drill.database.clone()))
}

/// The backup that lies under the drill's name, if it is the one that it says it is.
pub async fn open_backup(function: &Function, drill: &DrillItem) -> Result<Backup, DrillError> {
    let Some(id) = drill.backup_id else {
        let problem = drill.problem.clone().unwrap_or_default();
        return Err(DrillError::NothingToDrill(problem));
    };
    let identities = function.secrets.identities().await;
    let identities: Arc<[_]> = identities.map_err(DrillError::Identities)?.into();
    let backup = Backup::open(&function.vault, identities, &drill.database, id).await?;
    let manifest = &backup.manifest;
    if manifest.database != drill.database || manifest.backup_id != id {
        return Err(DrillError::Foreign {
            database: drill.database.clone(),
            id,
            found_database: manifest.database.clone(),
            found_id: manifest.backup_id,
        });
    }
    Ok(backup)
}

/// Cleans up after others, decides how it is restored, and makes the scratch database.
async fn begin(
    function: &Function,
    invocation: &Invocation,
    (policy, drill): (&Policy, &DrillItem),
    (backup, server): (&Backup, &DatabaseUrl),
) -> Result<(Plan, Vec<String>), DrillError> {
    let mut notes = janitor::clean(server, invocation.now()).await?;
    let drill_policy = policy_of(policy, drill)?.clone();
    let leave_out = policy.database(&drill.database).map(|it| &it.restore);
    let mut order = Order {
        plan_id: drill.drill_id.clone(),
        scope: Scope::Everything,
        leave_out: leave_out.map(LeaveOut::from).unwrap_or_default(),
        owners: true,
        privileges: true,
        connections: drill_policy.connections,
        staging_schema: None,
    };
    let needed = guard::roles(backup, &order);
    let (missing_roles, target_server_version) = facts(server, needed).await?;
    let with_roles = missing_roles.is_empty() || drill_policy.roles == Roles::Create;
    (order.owners, order.privileges) = (with_roles, with_roles);
    if !missing_roles.is_empty() {
        let names = missing_roles.join(", ");
        notes.push(match drill_policy.roles {
            Roles::Create => format!("made for this drill, without login: {names}"),
            Roles::Existing => format!("the drill's server lacks the roles {names}"),
        });
    }
    let plan = Plan {
        prediction: estimate::predict(backup, &order, estimate::ASSUMED),
        drill: drill.clone(),
        policy: drill_policy,
        order,
        missing_roles,
        target_server_version,
        manifest_sha256: backup.manifest_sha256.clone(),
    };
    let plan = steps::keep_plan(&function.work, drill, plan).await?;
    if plan.policy.roles == Roles::Create && !plan.missing_roles.is_empty() {
        let (server, missing) = (server.clone(), plan.missing_roles.clone());
        let drill_id = drill.drill_id.clone();
        aside(move || roles::create(&server, &missing, &drill_id)).await?;
    }
    let mark = janitor::mark(drill.started_at, &drill.drill_id);
    let settings = &backup.manifest.settings;
    scratch::create_database(server, &drill.scratch, settings, &mark).await?;
    Ok((plan, notes))
}

async fn facts(
    server: &DatabaseUrl,
    needed: BTreeSet<String>,
) -> Result<(Vec<String>, String), DrillError> {
    let server = server.clone();
    aside(move || {
        let failed = |source| DrillError::Server {
            doing: "ask for its version",
            source,
        };
        let mut connection = Connection::open(&server, Duration::from_secs(60)).map_err(failed)?;
        let version = connection
            .query_value("SHOW server_version")
            .map_err(failed)?;
        // Debian appends its own version in parentheses.
        let version = version.split(' ').next().unwrap_or_default().to_owned();
        Ok((roles::missing(&server, &needed)?, version))
    })
    .await
}

/// Runs what blocks beside the executor.
pub async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DrillError> + Send + 'static,
) -> Result<T, DrillError> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.map_err(|error| DrillError::Thread(error.to_string()))?
}

/// When an invocation must stop to have time left to write down what it did.
pub fn until(invocation: &Invocation) -> Instant {
    let whole = invocation
        .deadline
        .saturating_duration_since(invocation.begun);
    let margin = (whole / 5).min(MARGIN_MAX);
    invocation
        .deadline
        .checked_sub(margin)
        .unwrap_or(invocation.begun)
}
