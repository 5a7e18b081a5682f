//! A Neon branch of a week ago that was lent to a drill: connected to, read, and asked what the
//! configuration wants to know. It is made and deleted by snapshot-branch, whose the project's
//! key is; how to reach it is in a secret.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;
use shared::checks::session::{Session, Unanswered, qualified, texts};
use shared::config::read_policy;
use shared::database_url::DatabaseUrl;
use shared::key::Key;
use shared::pg::{Connection, PgError};
use shared::policy::{BranchDrill, DrillPolicy};
use shared::store::StoreErrorKind;
use shared::telemetry;
use shared::verdict::Verdict;

use crate::branch_drill::{self, BranchEvidence, BranchRecorded, Examined};
use crate::check::{ask_assertions, ask_tables, asked};
use crate::checks::branch::{Tables, not_all_absent, reachable, tables};
use crate::checks::{CheckResult, Status, assertion, table};
use crate::error::DrillError;
use crate::record::{EVIDENCE_BYTES_MAX, json, put};
use crate::request::{BranchItem, Examine, Lent, RecordBranch};
use crate::restoring::{aside, until};
use crate::steps::StepsError;
use crate::{Function, Invocation};

/// A compute that does not take connections by then is one that cannot be used.
const CONNECT_MAX: Duration = Duration::from_secs(300);
const CONNECT_PAUSE: Duration = Duration::from_secs(1);
const STALL: Duration = Duration::from_secs(30);

/// Views have no rows of their own, and what an extension brings is its own business.
const TABLES: &str = "SELECT n.nspname, c.relname
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE (c.relkind IN ('r', 'p') OR c.relkind = 'm' AND c.relispopulated)
       AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND NOT EXISTS (
         SELECT FROM pg_catalog.pg_depend
         WHERE classid = 'pg_catalog.pg_class'::regclass AND objid = c.oid AND deptype = 'e')
     ORDER BY 1, 2";

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Counted {
    pub passed: usize,
    pub not_passed: usize,
}

/// What was found lies in the work bucket; a second call finds it there.
pub async fn examine(
    function: &Function,
    invocation: &Invocation,
    step: &Examine,
) -> Result<Counted, DrillError> {
    let drill = &step.drill;
    let examined = match kept(function, drill).await? {
        // Its answer was lost.
        Some(examined) => examined,
        None => {
            let examined = look(function, invocation, step).await?;
            let json = json(&examined, "what was found")?;
            put(&function.work, &step_key(drill), json, "what was found").await?;
            examined
        }
    };
    let count = |status| {
        let checks = examined.checks.iter();
        checks.filter(|it| it.status == status).count()
    };
    Ok(Counted {
        passed: count(Status::Passed),
        not_passed: count(Status::Failed) + count(Status::Inconclusive),
    })
}

fn step_key(drill: &BranchItem) -> String {
    Key::DrillStep {
        database: &drill.database,
        drill_id: &drill.drill_id,
        at: drill.started_at,
        nonce: "0",
        step: "examined",
    }
    .to_string()
}

async fn kept(function: &Function, drill: &BranchItem) -> Result<Option<Examined>, DrillError> {
    let key = step_key(drill);
    match function.work.get(&key, None, EVIDENCE_BYTES_MAX).await {
        Ok(json) => match serde_json::from_slice(&json) {
            Ok(examined) => Ok(Some(examined)),
            Err(source) => Err(DrillError::Steps(StepsError::Malformed { key, source })),
        },
        Err(error) if matches!(error.kind, StoreErrorKind::NotFound) => Ok(None),
        Err(error) => Err(DrillError::Steps(StepsError::Storage(error))),
    }
}

async fn look(
    function: &Function,
    invocation: &Invocation,
    step: &Examine,
) -> Result<Examined, DrillError> {
    let (drill, lent) = (&step.drill, &step.lent);
    let policy = read_policy(&function.config.layer_root).map_err(DrillError::Layer)?;
    let secrets = &function.secrets;
    let url = secrets.branch_url(&drill.database, &drill.drill_id, &lent.branch_id);
    let url = url.await.map_err(DrillError::Target)?;
    let until = until(invocation);
    let (own, patience) = (url.clone(), until.min(Instant::now() + CONNECT_MAX));
    let connected = aside(move || Ok(connect(&own, patience))).await?;
    let connected_at = invocation.now();
    let waited = connected_at.duration_since(lent.ready_at).as_secs_f64();
    let mut examined = Examined {
        started_at: invocation.started_at,
        connected_at: connected.is_ok().then_some(connected_at),
        finished_at: connected_at,
        checks: vec![reachable(&connected, waited.max(0.0))],
    };
    if connected.is_ok() {
        let configured = policy.database(&drill.database);
        let wanted = configured.and_then(|it| it.drill.as_ref());
        examined
            .checks
            .extend(ask(&url, lent, wanted, until).await?);
        examined.finished_at = invocation.now();
    }
    Ok(examined)
}

/// Tries until somebody takes the connection; what will not pass ends it at once.
fn connect(url: &DatabaseUrl, patience: Instant) -> Result<(), String> {
    loop {
        let error = match Connection::open(url, STALL) {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        if !error.is_transient() || Instant::now() + CONNECT_PAUSE > patience {
            return Err(shared::error::chain(&error.without_values()));
        }
        std::thread::sleep(CONNECT_PAUSE);
    }
}

async fn ask(
    url: &DatabaseUrl,
    lent: &Lent,
    wanted: Option<&DrillPolicy>,
    until: Instant,
) -> Result<Vec<CheckResult>, DrillError> {
    let begun = Instant::now();
    let own = url.clone();
    let answer = aside(move || Ok(read_tables(&own, until))).await?;
    let answer = asked(answer, "read the tables of the branch")?;
    let mut checks = vec![tables(&answer).taking(begun.elapsed().as_secs_f64())];
    if let Some(wanted) = wanted {
        let (at, of_tables) = (lent.data_as_of, table::checks_of_past);
        let mut configured = ask_tables(wanted, at, url, until, of_tables).await?;
        let of_assertions = assertion::check_of_past;
        configured.extend(ask_assertions(wanted, url, until, of_assertions).await?);
        checks.extend(not_all_absent(configured));
    }
    Ok(checks)
}

/// One row of each, so that a page of it is really read.
fn read_tables(url: &DatabaseUrl, until: Instant) -> Result<Tables, PgError> {
    let mut session = Session::new(url, until, Some("''"));
    let mut found = Tables::default();
    let listed = match session.ask(TABLES) {
        Ok(listed) => listed,
        Err(unanswered) => {
            found.untold.push(unanswered.here()?);
            return Ok(found);
        }
    };
    for row in listed {
        let [schema, name] = texts(row);
        let table = qualified(&schema, &name);
        match session.ask(format!(
            "SELECT 1 FROM (SELECT * FROM {table} LIMIT 1) AS a_row"
        )) {
            Ok(rows) => {
                found.readable += 1;
                found.with_rows += u64::from(!rows.is_empty());
            }
            Err(Unanswered::Refused(error)) => {
                let says = error.without_values();
                found.unreadable.push(format!("{schema}.{name}: {says}"));
            }
            Err(Unanswered::Here(why_not)) => {
                found.untold.push(format!("{schema}.{name}: {why_not}"));
            }
            Err(Unanswered::Lost(error)) => return Err(error),
        }
    }
    Ok(found)
}

/// Writes the evidence. A second run answers by what the first has written.
pub async fn record(
    function: &Function,
    invocation: &Invocation,
    step: RecordBranch,
) -> Result<BranchRecorded, DrillError> {
    let drill = &step.drill;
    let key = Key::Evidence {
        database: &drill.database,
        at: drill.started_at,
        nonce: drill.drill_id.rsplit('-').next().unwrap_or_default(),
        file: "branch.json",
    }
    .to_string();
    let examined = kept(function, drill).await?;
    let policy = budgets(function, drill)?;
    let now = invocation.now();
    let mut evidence = branch_drill::evidence(drill, &policy, step.ended, examined, now);
    let written = function
        .vault
        .put_once(&key, Bytes::from(json(&evidence, "the evidence")?));
    match written.await {
        Ok(_) => {}
        Err(error) if matches!(error.kind, StoreErrorKind::AlreadyExists) => {
            evidence = read(function, &key).await?;
        }
        Err(source) => {
            let what = "the evidence";
            return Err(DrillError::Write { what, source });
        }
    }
    let passed = evidence.verdict == Verdict::Passed;
    let database = Some(evidence.drill.database.as_str());
    telemetry::gauge(
        now,
        "BranchDrillPassed",
        f64::from(u8::from(passed)),
        database,
    );
    tracing::info!(database, evidence.drill.drill_id, verdict = %evidence.verdict, "drilled a branch");
    Ok(branch_drill::answer(&evidence, key))
}

fn budgets(function: &Function, drill: &BranchItem) -> Result<BranchDrill, DrillError> {
    let policy = read_policy(&function.config.layer_root).map_err(DrillError::Layer)?;
    let configured = policy.database(&drill.database);
    let neon = configured.and_then(|it| it.neon.as_ref());
    // The block may be gone since the drill began.
    Ok(neon.map(|it| it.drill.clone()).unwrap_or_default())
}

async fn read(function: &Function, key: &str) -> Result<BranchEvidence, DrillError> {
    let what = "the evidence";
    let json = function.vault.get(key, None, EVIDENCE_BYTES_MAX).await;
    let json = json.map_err(|source| DrillError::Write { what, source })?;
    serde_json::from_slice(&json).map_err(|source| DrillError::Json { what, source })
}
