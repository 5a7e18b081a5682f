//! What a recovery would do to production, what it rests on, and all that is in its way. Pure.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use shared::backup::DatabaseName;
use shared::neon::plan::plan as known_plan;
use shared::neon::{Branch, Branches, Past, ProjectFacts};
use shared::plan::{Basis, plan_id};
use shared::policy::NeonPolicy;
use shared::sealed::sha256;

use super::request::PlanRequest;
use crate::request::RestorePoint;

/// The only format there is.
pub const FORMAT: u32 = 1;
/// A decision that is made in the last moment still has to be carried out within the window.
const MARGIN: SignedDuration = SignedDuration::from_mins(15);
/// The branch of the point, the branch of what is kept, and what is kept.
const BRANCHES_NEEDED: u64 = 3;
const NAME_CHARS: usize = 6;

/// As the work bucket keeps it. Written once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Always [`FORMAT`].
    pub format: u32,
    pub plan_id: String,
    pub planned_at: Timestamp,
    /// Nobody may approve it after this.
    pub expires_at: Timestamp,
    pub request: PlanRequest,
    /// Of the state machine; null: it was made to be looked at.
    pub execution: Option<String>,
    pub project: String,
    pub production: Production,
    /// What production is now is kept under this name.
    pub preserve_under: String,
    pub freeze_function: Option<String>,
    pub unfreeze_function: Option<String>,
    /// What is in the way, with its remedy.
    pub obstacles: Vec<String>,
    pub notes: Vec<String>,
    /// Everything that the plan depends on, by what a person calls it.
    pub basis: Basis,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Production {
    pub id: String,
    pub name: String,
}

impl Plan {
    /// What a person types to approve it.
    pub fn target_name(&self) -> String {
        format!("{}/{}", self.request.database, self.production.name)
    }

    /// None: the point names a branch, which the plan has as an obstacle.
    pub fn past(&self) -> Option<Past> {
        match &self.request.point {
            RestorePoint::Time(at) => Some(Past::Time(*at)),
            RestorePoint::Lsn(lsn) => Some(Past::Lsn(lsn.clone())),
            RestorePoint::Branch(_) => None,
        }
    }
}

/// All that a plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    pub policy: &'a NeonPolicy,
    pub facts: &'a ProjectFacts,
    pub branches: &'a Branches,
    pub production: &'a Branch,
    /// Other databases of `lifeboat.toml` that live in the same project.
    pub neighbours: &'a [DatabaseName],
    /// What `[database.drill]` asks, of rows and by SQL; and requests to an application.
    pub checks: (usize, usize),
    /// That a project may have.
    pub branches_max: Option<u64>,
    /// Of the same project, and not over.
    pub open_plans: &'a [Plan],
}

/// Makes the plan of this moment.
pub fn plan(
    world: &World<'_>,
    request: &PlanRequest,
    now: Timestamp,
    lifetime: SignedDuration,
) -> Plan {
    let stamp = now.strftime("%Y%m%dT%H%M%SZ");
    // Of this plan alone, also where another one is of the same second.
    let own = sha256(format!("{now} {} {}", request.database, request.point).as_bytes());
    let own = &own[..NAME_CHARS];
    let preserve_under = format!("{}-before-{stamp}-{own}", world.production.name);
    let basis = basis(world, request, &preserve_under);
    let expires_at = expires_at(world, request, now, lifetime);
    let hook = |it: &Option<shared::policy::HookName>| it.clone().map(String::from);
    Plan {
        format: FORMAT,
        plan_id: plan_id(&basis, now),
        planned_at: now,
        expires_at,
        request: request.clone(),
        execution: None,
        project: world.policy.project.to_string(),
        production: Production {
            id: world.production.id.clone(),
            name: world.production.name.clone(),
        },
        obstacles: obstacles(world, request, &preserve_under, now, expires_at),
        notes: notes(world, request, &preserve_under),
        preserve_under,
        freeze_function: hook(&world.policy.freeze_function),
        unfreeze_function: hook(&world.policy.unfreeze_function),
        basis,
    }
}

/// What may not change. Data may, and branches may come and go; that somebody else restores or
/// replaces production shows in its id, or in a new root.
pub fn basis(world: &World<'_>, request: &PlanRequest, preserve_under: &str) -> Basis {
    let World {
        policy,
        facts,
        branches,
        production,
        ..
    } = world;
    let yes_no = |is| if is { "yes" } else { "no" }.to_owned();
    let roots = branches.0.iter().filter(|it| it.parent_id.is_none());
    let mut roots: Vec<String> = roots.map(|it| format!("{} ({})", it.name, it.id)).collect();
    roots.sort();
    let hook = |it: &Option<shared::policy::HookName>| {
        it.as_ref().map_or("none", |it| it.as_str()).to_owned()
    };
    let window = facts.history_retention_seconds;
    let facts = [
        ("the database", request.database.to_string()),
        ("the project", policy.project.to_string()),
        ("the point", request.point.to_string()),
        ("the production branch", production.id.clone()),
        ("the production branch's name", production.name.clone()),
        ("its state", production.current_state.clone()),
        ("whether it is protected", yes_no(production.protected)),
        ("the root branches", roots.join(", ")),
        (
            "the restore window in seconds",
            window.map_or_else(|| "unknown".to_owned(), |it| it.to_string()),
        ),
        ("the name of what is kept", preserve_under.to_owned()),
        ("the role that checks", policy.role.clone()),
        ("the database that is checked", policy.database.clone()),
        ("the freeze hook", hook(&policy.freeze_function)),
        ("the unfreeze hook", hook(&policy.unfreeze_function)),
    ];
    let owned = |(name, value): (&str, String)| (name.to_owned(), value);
    facts.into_iter().map(owned).collect()
}

/// Where the restore window begins at that moment.
fn window_begins(world: &World<'_>, now: Timestamp) -> Option<Timestamp> {
    let seconds = i64::try_from(world.facts.history_retention_seconds?).ok()?;
    now.checked_sub(SignedDuration::from_secs(seconds)).ok()
}

/// The point leaves the window by itself, and nobody may be asked beyond that.
fn expires_at(
    world: &World<'_>,
    request: &PlanRequest,
    now: Timestamp,
    lifetime: SignedDuration,
) -> Timestamp {
    let expires = now.checked_add(lifetime).unwrap_or(now);
    let (RestorePoint::Time(at), Some(begins)) = (&request.point, window_begins(world, now)) else {
        return expires;
    };
    let left = at.duration_since(begins) - MARGIN;
    expires.min(now.checked_add(left).unwrap_or(now))
}

fn obstacles(
    world: &World<'_>,
    request: &PlanRequest,
    preserve_under: &str,
    now: Timestamp,
    expires_at: Timestamp,
) -> Vec<String> {
    let mut obstacles = Vec::new();
    match &request.point {
        RestorePoint::Time(at) if *at > now => obstacles.push(format!(
            "{at} has not come yet (it is {now}): name the last good moment"
        )),
        RestorePoint::Time(at) => {
            if let Some(begins) = window_begins(world, now)
                && expires_at <= now
            {
                obstacles.push(format!(
                    "{at} is not in the restore window, which begins at {begins}, or leaves it within {} minutes: name a later moment, or restore a snapshot branch or a backup",
                    MARGIN.as_mins()
                ));
            }
        }
        RestorePoint::Lsn(_) => {}
        RestorePoint::Branch(name) => obstacles.push(of_branch(world, name)),
    }
    if world.production.parent_id.is_some() {
        obstacles.push(format!(
            "the production branch {} is a child of another branch, and Neon restores root branches only: restore into a branch of its own instead (restore_branch)",
            world.production.name
        ));
    }
    obstacles.extend(limits(world));
    obstacles.extend(world.open_plans.iter().map(not_over));
    if world.branches.named(preserve_under).is_some() {
        obstacles.push(format!(
            "there is a branch {preserve_under} already, which is the name for what production is now: plan again in a second"
        ));
    }
    obstacles
}

/// Production goes along its own history; a snapshot branch knows the point it was made at.
fn of_branch(world: &World<'_>, name: &str) -> String {
    let found = world.branches.named(name);
    let is_of_production = |it: &&Branch| it.parent_id.as_deref() == Some(&*world.production.id);
    match found.filter(is_of_production) {
        Some(Branch {
            parent_lsn: Some(lsn),
            ..
        }) => format!(
            "production is restored along its own history, not from a branch: to go where {name} was made, write \"point\": {{\"lsn\": \"{lsn}\"}}"
        ),
        Some(_) | None => format!(
            "production is restored along its own history, not from the branch {name}: write \"point\": {{\"time\": \"…\"}}"
        ),
    }
}

/// One would let writes go on that the other has stopped.
pub fn not_over(open: &Plan) -> String {
    let Plan {
        plan_id, request, ..
    } = open;
    let event = |what: &str, more: &str| {
        format!("{{\"recover\": {{\"{what}\": {{\"plan_id\": \"{plan_id}\"{more}}}}}}}")
    };
    format!(
        "the plan {plan_id} of {}, which {} asked for, is not over: wait for its end; or refuse it, with {}; or, if its execution was stopped, end it, with {}",
        request.database,
        request.by.trim(),
        event("refuse", ", \"operator\": \"your name\""),
        event("close", "")
    )
}

fn limits(world: &World<'_>) -> Vec<String> {
    let mut limits = Vec::new();
    let total = world.branches.0.len() as u64;
    if let Some(max) = world.branches_max
        && total + BRANCHES_NEEDED > max
    {
        limits.push(format!(
            "the project has {total} of {max} branches, and a recovery needs {BRANCHES_NEEDED}: delete some that nobody needs"
        ));
    }
    let roots = world.branches.roots() as u64;
    let plan = known_plan(&world.facts.owner.subscription_type);
    if let Some(plan) = plan.filter(|it| roots + 1 > it.roots_max) {
        limits.push(format!(
            "the project has {roots} root branches, as many as the plan {} allows, and what production is now becomes one: delete root branches that earlier restores have left",
            plan.name
        ));
    }
    limits
}

fn notes(world: &World<'_>, request: &PlanRequest, preserve_under: &str) -> Vec<String> {
    let mut notes = Vec::new();
    if world.policy.freeze_function.is_none() {
        notes.push(format!(
            "WRITES ARE NOT STOPPED: there is no freeze_function in [database.neon]. Stop whatever writes by yourself, before you approve; what is written until the end is in {preserve_under} only"
        ));
    }
    if world.policy.freeze_function.is_some() {
        notes.push(
            "what the freeze hook sets in the database itself goes back with it: it has to stop those who write. Production is compared with the checked branch while they are stopped, so whatever still writes, a job within the database too, ends it as not good"
                .to_owned(),
        );
    }
    notes.push(
        "every database of the production branch goes back, not this one alone; connections are cut, connection strings stay"
            .to_owned(),
    );
    if !world.neighbours.is_empty() {
        let names: Vec<&str> = world.neighbours.iter().map(|it| it.as_str()).collect();
        notes.push(format!(
            "these go back with it, since they live in the same project: {}",
            names.join(", ")
        ));
    }
    let id = Some(&*world.production.id);
    let children = world.branches.0.iter();
    let children = children.filter(|it| it.parent_id.as_deref() == id).count();
    if children > 0 {
        notes.push(format!(
            "{children} branches that were made from production become branches of {preserve_under}, which cannot be deleted before them"
        ));
    }
    let (asked, requests) = world.checks;
    notes.push(match asked {
        n if request.skip_checks => format!("the {n} checks of [database.drill] are NOT asked: you wrote skip_checks"),
        0 => "no checks are configured ([database.drill] has none): only that the tables are there is looked at".to_owned(),
        n => format!("{n} checks of [database.drill] decide before and after"),
    });
    if requests > 0 {
        notes.push(format!(
            "{requests} requests to an application are not made: they are for drills"
        ));
    }
    if matches!(request.point, RestorePoint::Lsn(_)) {
        notes.push(
            "whether a position is in the restore window, Neon says only when its branch is made"
                .to_owned(),
        );
    }
    notes
}

#[cfg(test)]
pub(super) mod tests;
