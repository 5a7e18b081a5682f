//! The second step: the restored database, held against everything that is known of the backup
//! and wanted of the database.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;
use shared::archive::TableOfContents;
use shared::checks::queries;
use shared::checks::session::share;
use shared::client_tools;
use shared::database_url::DatabaseUrl;
use shared::manifest::Manifest;
use shared::pg::PgError;
use shared::planner::{self, PlannerError};
use shared::policy::{DrillPolicy, SqlAssertion, TableExpectation};
use shared::restore::{Backup, Order, Target, finish, kept};

use crate::checks::{
    CheckResult, Status, application, assertion, catalog, proof, provenance, state, table,
};
use crate::error::DrillError;
use crate::request::DrillItem;
use crate::restoring::{aside, fail, open_backup, until};
use crate::steps::{self, Plan, StepOutcome, Steps};
use crate::{Function, Invocation, call, earlier, inspect};

/// `pg_dump` that shows no sign of life for that long is ended.
const STALL: Duration = Duration::from_secs(120);

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checked {
    pub passed: usize,
    pub failed: usize,
    pub inconclusive: usize,
}

pub async fn check(
    function: &Function,
    invocation: &Invocation,
    drill: &DrillItem,
) -> Result<Checked, DrillError> {
    let steps = Steps::read(&function.work, drill).await?;
    if let Some(checks) = steps.checks() {
        // Its answer was lost.
        return Ok(report(checks));
    }
    match run(function, invocation, drill, &steps).await {
        Ok(checks) => {
            let checked = report(&checks);
            let outcome = (StepOutcome::Checked(checks), Vec::new());
            steps::keep(&function.work, drill, invocation, "check", outcome).await?;
            Ok(checked)
        }
        Err(error) => Err(fail(function, invocation, drill, error).await),
    }
}

fn report(checks: &[CheckResult]) -> Checked {
    let count = |status| checks.iter().filter(|it| it.status == status).count();
    Checked {
        passed: count(Status::Passed),
        failed: count(Status::Failed),
        inconclusive: count(Status::Inconclusive),
    }
}

async fn run(
    function: &Function,
    invocation: &Invocation,
    drill: &DrillItem,
    steps: &Steps,
) -> Result<Vec<CheckResult>, DrillError> {
    let restored = steps.restored().filter(|it| it.remaining == 0);
    let proof = restored.and_then(|it| it.proof.as_ref());
    let (Some(plan), Some(proof)) = (&steps.plan, proof) else {
        return Err(DrillError::NotRestored);
    };
    let server = function.secrets.target_url(&drill.target).await;
    let target = server
        .map_err(DrillError::Target)?
        .with_database(&drill.scratch);
    let backup = open_backup(function, drill).await?;
    // Its ledger would be an extra schema in what is compared.
    finish(&backup, &Target::new(target.clone()), &plan.order).await?;

    let until = until(invocation);
    let mut checks = vec![provenance(function, drill, plan, &backup).await?];
    checks.extend(proof::checks(proof));
    checks.extend(compare_catalog(function, plan, (&backup, &target), until).await?);
    checks.extend(inspect_state(&backup, &target, until).await?);
    let (policy, snapshot_at) = (&plan.policy, backup.manifest.snapshot_at);
    checks.extend(ask_tables(policy, snapshot_at, &target, until, table::checks).await?);
    checks.extend(ask_assertions(policy, &target, until, assertion::check).await?);
    for expected in &plan.policy.requests {
        let secrets = &function.secrets;
        let (answer, seconds) = call::call(expected, &drill.scratch, secrets, until).await;
        checks.push(application::check(expected, &answer).taking(seconds));
    }
    Ok(checks)
}

async fn provenance(
    function: &Function,
    drill: &DrillItem,
    plan: &Plan,
    backup: &Backup,
) -> Result<CheckResult, DrillError> {
    let begun = Instant::now();
    let id = backup.manifest.backup_id;
    let verdicts = earlier::verdicts(&function.vault, &drill.database, id).await;
    let verdicts = verdicts.map_err(DrillError::Verdicts)?;
    let mut earlier = earlier::about_manifests(&verdicts);
    earlier.push(provenance::Earlier {
        key: "this drill's own restore".to_owned(),
        manifest_sha256: plan.backup.manifest_sha256.clone(),
    });
    let check = provenance::check(&backup.manifest_sha256, &earlier);
    Ok(check.taking(begun.elapsed().as_secs_f64()))
}

/// The checks of one question share the time that it took.
fn sharing(checks: Vec<CheckResult>, begun: Instant) -> Vec<CheckResult> {
    let seconds = begun.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "dozens")]
    let each = seconds / checks.len().max(1) as f64;
    checks.into_iter().map(|it| it.taking(each)).collect()
}

async fn compare_catalog(
    function: &Function,
    plan: &Plan,
    (backup, target): (&Backup, &DatabaseUrl),
    until: Instant,
) -> Result<Vec<CheckResult>, DrillError> {
    let begun = Instant::now();
    let scope = catalog::Scope {
        roles: catalog::Compared::of(plan.order.owners, plan.policy.roles),
        left_out: left_out(&backup.toc, &plan.order),
    };
    let client = match same_planner(function, &backup.manifest, &plan.target_server_version) {
        Ok(client) => client,
        Err(why_not) => return Ok(catalog::checks(&backup.toc, Err(&why_not), &scope)),
    };
    let target = target.clone();
    let share = share(until.saturating_duration_since(begun)).unwrap_or_default();
    let planned = aside(move || {
        let is_stopped = || begun.elapsed() >= share;
        Ok(planner::run(&client, &target, None, STALL, &is_stopped))
    });
    let checks = match planned.await? {
        Ok(planned) => catalog::checks(&backup.toc, Ok(&planned.toc), &scope),
        Err(PlannerError::Ended {
            is_transient: true,
            stderr,
        }) => return Err(DrillError::Planner(stderr)),
        Err(error) => {
            let why_not = shared::error::chain(&error);
            catalog::checks(&backup.toc, Err(&why_not), &scope)
        }
    };
    Ok(sharing(checks, begun))
}

/// What the order did not restore is not looked for.
fn left_out(toc: &TableOfContents, order: &Order) -> BTreeSet<i32> {
    let kept = kept(toc, order);
    let ids = toc.entries.iter().map(|it| it.dump_id);
    ids.filter(|id| !kept.contains(id)).collect()
}

/// `pg_dump` words its entries by its own major and the server's: only the same two can be
/// compared.
fn same_planner(
    function: &Function,
    manifest: &Manifest,
    target_version: &str,
) -> Result<client_tools::Client, String> {
    let major = |version: &str| -> u32 {
        let digits = version.split(|c: char| !c.is_ascii_digit()).next();
        digits.and_then(|it| it.parse().ok()).unwrap_or_default()
    };
    let (planned_by, source) = (
        major(&manifest.tools.pg_dump),
        major(&manifest.source.server_version),
    );
    let target = major(target_version);
    if source != target {
        return Err(format!(
            "the source is PostgreSQL {source} and the drill's server {target}: their catalogs cannot be compared entry by entry; drill on a server of the source's major"
        ));
    }
    let root = function.config.layer_root.join("pgtools");
    let client = client_tools::find(&root, "pg_dump", planned_by);
    let client = client.map_err(|error| shared::error::chain(&error))?;
    if client.major == planned_by {
        Ok(client)
    } else {
        Err(format!(
            "there is no pg_dump {planned_by}, which made the backup: add it to the tools layer"
        ))
    }
}

async fn inspect_state(
    backup: &Backup,
    target: &DatabaseUrl,
    until: Instant,
) -> Result<Vec<CheckResult>, DrillError> {
    let begun = Instant::now();
    let target = target.clone();
    let state = aside(move || Ok(inspect::state(&target, until))).await?;
    let checks = match asked(state, "look at its catalog")? {
        Ok(state) => state::checks(&state, &backup.toc, &backup.manifest.extensions),
        Err(why_not) => state::untold(&why_not),
    };
    Ok(sharing(checks, begun))
}

/// What may succeed later is tried again; anything else leaves the checks open.
pub fn asked<T>(
    answer: Result<T, PgError>,
    doing: &'static str,
) -> Result<Result<T, String>, DrillError> {
    match answer {
        Ok(answer) => Ok(Ok(answer)),
        Err(source) if source.is_transient() => Err(DrillError::Server { doing, source }),
        Err(error) => Ok(Err(shared::error::chain(&error.without_values()))),
    }
}

/// `snapshot_at`: as of when the data is.
pub async fn ask_tables(
    policy: &DrillPolicy,
    snapshot_at: Timestamp,
    target: &DatabaseUrl,
    until: Instant,
    judge: fn(&TableExpectation, &table::Answer) -> Vec<CheckResult>,
) -> Result<Vec<CheckResult>, DrillError> {
    let expected = policy.tables.clone();
    if expected.is_empty() {
        return Ok(Vec::new());
    }
    let target = target.clone();
    let answers =
        aside(move || Ok(queries::tables(&target, &expected, snapshot_at, until))).await?;
    let expected = &policy.tables;
    Ok(match asked(answers, "ask for rows")? {
        Ok(answers) => expected
            .iter()
            .zip(answers)
            .flat_map(|(expected, (answer, seconds))| {
                let checks = judge(expected, &answer).into_iter();
                checks.map(move |it| it.taking(seconds))
            })
            .collect(),
        Err(why_not) => {
            let why_not = table::WhyNot::Untold(why_not);
            let untold = table::Answer {
                rows: Err(why_not.clone()),
                age_seconds: Some(Err(why_not)),
            };
            expected.iter().flat_map(|it| judge(it, &untold)).collect()
        }
    })
}

pub async fn ask_assertions(
    policy: &DrillPolicy,
    target: &DatabaseUrl,
    until: Instant,
    judge: fn(&SqlAssertion, &assertion::Answer) -> CheckResult,
) -> Result<Vec<CheckResult>, DrillError> {
    let expected = policy.assertions.clone();
    if expected.is_empty() {
        return Ok(Vec::new());
    }
    let target = target.clone();
    let answers = aside(move || Ok(queries::assertions(&target, &expected, until))).await?;
    let expected = policy.assertions.iter();
    Ok(match asked(answers, "run the SQL assertions")? {
        Ok(answers) => expected
            .zip(answers)
            .map(|(expected, (answer, seconds))| judge(expected, &answer).taking(seconds))
            .collect(),
        Err(why_not) => {
            let untold = assertion::Answer::NotRun(why_not);
            expected.map(|it| judge(it, &untold)).collect()
        }
    })
}
