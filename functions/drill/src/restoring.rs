//! The first step: a scratch database that becomes the backup, over as many invocations as it
//! takes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use shared::archive::lossy;
use shared::config::read_policy;
use shared::database_url::DatabaseUrl;
use shared::error::chain;
use shared::history;
use shared::policy::{DrillPolicy, Policy, Roles};
use shared::restore::{
    Advance, Backup, Destination, LeaveOut, Order, Scope, Target, advance, estimate, guard, scratch,
};

use crate::error::DrillError;
use crate::mark::Mark;
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

/// Writes down why, for the evidence.
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
    steps::keep_failure(&function.work, drill, invocation, outcome).await;
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
    let begun_at = steps.begun_at().unwrap_or(invocation.started_at);
    let limit = SignedDuration::from_mins(drill_policy.give_up_minutes.into());
    if invocation.started_at.duration_since(begun_at) > limit {
        let minutes = drill_policy.give_up_minutes;
        return Err(DrillError::GivenUp { minutes });
    }
    let server = function.secrets.target_url(&drill.target).await;
    let server = server.map_err(DrillError::Target)?;
    let backup = open_backup(function, drill).await?;
    let is_begun = steps.restored().is_some();
    let (plan, notes) = match steps.plan {
        Some(plan) => (plan, Vec::new()),
        None => begin(function, (&policy, drill), (&backup, &server), begun_at).await?,
    };
    if !is_begun {
        // Of the invocation that wrote the plan nobody knows how far it came after that.
        make_room(&plan, &backup, &server).await?;
    }
    let until = until(invocation);
    let target = Target::new(server.with_database(&drill.scratch));
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

/// Sees whether it may be drilled there, cleans up after others, and decides how.
async fn begin(
    function: &Function,
    (policy, drill): (&Policy, &DrillItem),
    (backup, server): (&Backup, &DatabaseUrl),
    begun_at: Timestamp,
) -> Result<(Plan, Vec<String>), DrillError> {
    let manifest = &backup.manifest;
    let destination = Destination::NewDatabase {
        target: drill.target.clone(),
        database: drill.scratch.clone(),
    };
    let target = guard::gather(manifest, server, &destination).await?;
    let source = guard::source_facts(manifest).await;
    if let Some(reason) = guard::same_server(&target, &source) {
        return Err(DrillError::IsTheSource(reason));
    }
    let mut notes = janitor::clean(server, begun_at).await?;
    let drill_policy = policy_of(policy, drill)?.clone();
    let leave_out = policy.database(&drill.database).map(|it| &it.restore);
    let is_compared = drill_policy.roles != Roles::Ignore;
    let order = Order {
        plan_id: drill.drill_id.clone(),
        scope: Scope::Everything,
        leave_out: leave_out.map(LeaveOut::from).unwrap_or_default(),
        owners: is_compared,
        privileges: is_compared,
        connections: drill_policy.connections,
        staging_schema: None,
    };
    let (order, missing_roles) = with_roles(backup, server, order, drill_policy.roles).await?;
    if !missing_roles.is_empty() {
        let names = missing_roles.join(", ");
        notes.push(match drill_policy.roles {
            Roles::Create => format!("made for this drill, without login: {names}"),
            Roles::Existing | Roles::Ignore => {
                format!("the drill's server lacks the roles {names}")
            }
        });
    }
    notes.extend(of_the_database_itself(backup));
    let rates = history::rates(&function.vault, &drill.database).await;
    let plan = Plan {
        prediction: estimate::predict(backup, &order, rates.unwrap_or(estimate::ASSUMED)),
        is_predicted_from_measured: rates.is_some(),
        drill: drill.clone(),
        policy: drill_policy,
        order,
        begun_at,
        missing_roles,
        target_server_version: version(target.server_version),
        backup: backup.into(),
    };
    let plan = steps::keep_plan(&function.work, drill, plan).await?;
    Ok((plan, notes))
}

/// As servers call themselves: `15.18`.
fn version(number: u32) -> String {
    format!("{}.{}", number / 10_000, number % 10_000)
}

/// The order as far as the server's roles allow it, and the roles that are missing there.
async fn with_roles(
    backup: &Backup,
    server: &DatabaseUrl,
    mut order: Order,
    roles: Roles,
) -> Result<(Order, Vec<String>), DrillError> {
    let needed = guard::roles(backup, &order);
    let own = server.clone();
    let missing = aside(move || roles::missing(&own, &needed)).await?;
    if missing.is_empty() || roles == Roles::Create {
        return Ok((order, missing));
    }
    (order.owners, order.privileges) = (false, false);
    // A policy cannot be made without its roles, whatever is compared.
    let of_policies = guard::roles(backup, &order);
    let mut lacking = missing.clone();
    lacking.retain(|it| of_policies.contains(it));
    if lacking.is_empty() {
        Ok((order, missing))
    } else {
        Err(DrillError::RolesMissing(lacking))
    }
}

/// What is set on the database as a whole: a scratch database has its own.
fn of_the_database_itself(backup: &Backup) -> Option<String> {
    let entries = backup.toc.entries.iter();
    let mut entries = entries.filter(|it| {
        let is_grant = it.is("ACL") && lossy(&it.tag).starts_with("DATABASE ");
        is_grant || it.is("DATABASE PROPERTIES")
    });
    entries.next().map(|_| {
        "settings of the database itself (ALTER DATABASE … SET) and grants on it are neither restored nor compared; a restore for use has to make them by hand".to_owned()
    })
}

/// Makes roles and scratch database. What is there already is as good.
async fn make_room(plan: &Plan, backup: &Backup, server: &DatabaseUrl) -> Result<(), DrillError> {
    let drill = &plan.drill;
    let mark = Mark {
        made_at: plan.begun_at,
        drill_id: drill.drill_id.clone(),
    };
    let (own, own_mark, scratch) = (server.clone(), mark.clone(), drill.scratch.clone());
    let roles = match plan.policy.roles {
        Roles::Create => plan.missing_roles.clone(),
        Roles::Existing | Roles::Ignore => Vec::new(),
    };
    aside(move || {
        if !roles.is_empty() {
            roles::create(&own, &roles, &own_mark)?;
        }
        janitor::claim(&own, &scratch, &own_mark)
    })
    .await?;
    let settings = &backup.manifest.settings;
    let comment = janitor::comment(&mark);
    Ok(scratch::create_database(server, &drill.scratch, settings, &comment).await?)
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
