//! The end of every drill: evidence, a page for people, and a verdict.

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use shared::backup::{BackupId, DatabaseName};
use shared::config::read_policy;
use shared::history;
use shared::key::Key;
use shared::manifest::Totals;
use shared::restore::Advance;
use shared::restore::estimate::{Rates, measured};
use shared::sealed::sha256;
use shared::store::{Bucket, StoreErrorKind};
use shared::telemetry;
use shared::verdict::{Check, FORMAT, Finding, Verdict, decide};

use crate::checks::proof;
use crate::error::DrillError;
use crate::evidence::{Evidence, Hashed, Prediction, RestsOn, Teardown, Versions};
use crate::objectives::objectives;
use crate::request::{DrillItem, Failure, Record};
use crate::restoring::open_backup;
use crate::steps::{Drilled, Plan, Steps};
use crate::timing::timing;
use crate::{Function, Invocation, earlier, report, verdict};

/// Of findings in the answer; all are in the evidence.
pub const FINDINGS_MAX: usize = 10;
const MESSAGE_BYTES_MAX: usize = 1_000;
/// Guards the reader's memory.
pub const EVIDENCE_BYTES_MAX: u64 = 64 << 20;
/// Verified backups looked at for gaps.
const GAPS_MAX: usize = 12;

/// Shaped as verify's report, so that the alert about either reads the same.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recorded {
    pub database: DatabaseName,
    pub backup_id: Option<BackupId>,
    pub verdict: Verdict,
    /// The worst; all of them are in the evidence.
    pub findings: Vec<Finding>,
    pub findings_total: usize,
    /// Budgets and objectives, in words.
    pub missed: Vec<String>,
    pub is_destroyed: bool,
    /// Why not.
    pub teardown_failure: Option<String>,
    pub seconds: f64,
    pub verdict_key: Option<String>,
    pub evidence_key: String,
    pub report_key: String,
}

/// Writes evidence, page and verdict, in that order: the page shows what the evidence says, and
/// only the last one makes anything proven. A second run completes what the first has begun,
/// and changes none of it.
pub async fn record(
    function: &Function,
    invocation: &Invocation,
    step: Record,
) -> Result<Recorded, DrillError> {
    let vault = &function.vault;
    let drill = &step.drill;
    let key = |file| {
        Key::Evidence {
            database: &drill.database,
            at: drill.started_at,
            nonce: nonce(drill),
            file,
        }
        .to_string()
    };
    let (evidence_key, report_key) = (key("drill.json"), key("drill.html"));
    let evidence = match written(vault, &evidence_key).await? {
        Some(evidence) => evidence,
        None => {
            let mut evidence = gather(function, invocation, &step).await?;
            let page = report::page(&evidence).into_bytes();
            evidence.rests_on.report_sha256 = Some(sha256(&page));
            let json = json(&evidence, "the evidence")?;
            put(vault, &evidence_key, json, "the evidence").await?;
            // Another invocation may have been faster: what lies there is what counts.
            written(vault, &evidence_key).await?.unwrap_or(evidence)
        }
    };
    let page = report::page(&evidence).into_bytes();
    put(vault, &report_key, page, "the report").await?;
    let verdict_key = write_verdict(vault, &evidence).await?;
    tell(&evidence, invocation.now());
    Ok(answer(&evidence, (verdict_key, evidence_key, report_key)))
}

/// The second half of the drill's id.
fn nonce(drill: &DrillItem) -> &str {
    let id = drill.drill_id.as_str();
    id.rsplit('-').next().unwrap_or(id)
}

async fn written(vault: &Bucket, key: &str) -> Result<Option<Evidence>, DrillError> {
    match vault.get(key, None, EVIDENCE_BYTES_MAX).await {
        Ok(json) => evidence_of(&json).map(Some),
        Err(error) if matches!(error.kind, StoreErrorKind::NotFound) => Ok(None),
        Err(source) => Err(DrillError::Write {
            what: "the evidence",
            source,
        }),
    }
}

fn evidence_of(json: &[u8]) -> Result<Evidence, DrillError> {
    let what = "the evidence";
    serde_json::from_slice(json).map_err(|source| DrillError::Json { what, source })
}

/// Writes, unless somebody has.
pub async fn put(
    vault: &Bucket,
    key: &str,
    bytes: Vec<u8>,
    what: &'static str,
) -> Result<(), DrillError> {
    match vault.put_once(key, Bytes::from(bytes)).await {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.kind, StoreErrorKind::AlreadyExists) => Ok(()),
        Err(source) => Err(DrillError::Write { what, source }),
    }
}

pub fn json(value: &impl Serialize, what: &'static str) -> Result<Vec<u8>, DrillError> {
    serde_json::to_vec_pretty(value).map_err(|source| DrillError::Json { what, source })
}

async fn write_verdict(vault: &Bucket, evidence: &Evidence) -> Result<Option<String>, DrillError> {
    let Some(record) = evidence.verdict_record() else {
        return Ok(None);
    };
    let key = Key::Verdict {
        database: &record.database,
        id: record.backup_id,
        at: record.finished_at,
        nonce: nonce(&evidence.drill),
        check: Check::Drill,
    }
    .to_string();
    put(vault, &key, json(&record, "the verdict")?, "the verdict").await?;
    Ok(Some(key))
}

async fn gather(
    function: &Function,
    invocation: &Invocation,
    step: &Record,
) -> Result<Evidence, DrillError> {
    let drill = &step.drill;
    let steps = Steps::read(&function.work, drill).await?;
    let plan = steps.plan.as_ref();
    let backup = match plan {
        Some(plan) => Some(plan.backup.clone()),
        // Nothing was restored: a backup that cannot be opened is what the findings are about.
        None => open_backup(function, drill)
            .await
            .ok()
            .map(|it| (&it).into()),
    };
    let rests_on = rests_on(function, drill, plan, backup.as_ref()).await?;
    let findings = verdict::findings(&steps, step.failure.as_ref(), backup.is_some());
    let policy = plan.map(|it| it.policy.clone());
    let policy = policy.or_else(|| configured(function, drill));
    let verified = verified(function, &drill.database).await?;
    let finished_at = invocation.now();
    let begun_at = steps.begun_at().unwrap_or(invocation.started_at);
    let timing = timing(begun_at, finished_at, &steps, policy.as_ref());
    let provider = backup.as_ref().map(|it| it.source.provider);
    let rto = timing.measured_rto_seconds;
    let objectives = objectives(policy.as_ref(), provider, rto, &verified, finished_at);
    Ok(Evidence {
        format: FORMAT,
        drill: drill.clone(),
        finished_at,
        verdict: decide(&findings),
        findings,
        source: backup.as_ref().map(|it| it.source.clone()),
        snapshot_at: backup.as_ref().map(|it| it.snapshot_at),
        totals: steps.restored().map(totals).unwrap_or_default(),
        checks: checks(&steps),
        timing,
        objectives,
        prediction: Prediction {
            before_seconds: plan.map(|it| it.prediction.seconds),
            is_from_measured: plan.is_some_and(|it| it.is_predicted_from_measured),
            measured_seconds: rto,
        },
        rates: rates(&steps),
        teardown: Teardown {
            is_destroyed: steps.is_destroyed(),
            failure: step.teardown_failure.as_ref().map(in_words),
        },
        notes: notes(&steps),
        versions: versions(&steps, backup.as_ref()),
        rests_on,
        plan: steps.plan,
    })
}

async fn rests_on(
    function: &Function,
    drill: &DrillItem,
    plan: Option<&Plan>,
    backup: Option<&Drilled>,
) -> Result<RestsOn, DrillError> {
    let verdicts = match drill.backup_id {
        Some(id) => earlier::verdicts(&function.vault, &drill.database, id).await,
        None => Ok(Vec::new()),
    };
    let verdicts = verdicts.map_err(DrillError::Verdicts)?.into_iter();
    let plan_json = json(&plan, "the plan")?;
    Ok(RestsOn {
        manifest_sha256: backup.map(|it| it.manifest_sha256.clone()),
        table_of_contents_sha256: backup.and_then(|it| it.table_of_contents_sha256.clone()),
        verdicts: verdicts
            .map(|it| Hashed {
                key: it.key,
                sha256: it.sha256,
            })
            .collect(),
        plan_sha256: plan.map(|_| sha256(&plan_json)),
        report_sha256: None,
    })
}

/// What the engine has shown, for the next prediction.
fn rates(steps: &Steps) -> Option<Rates> {
    let connections = steps.plan.as_ref()?.order.connections;
    measured(steps.restored()?, connections)
}

fn configured(function: &Function, drill: &DrillItem) -> Option<shared::policy::DrillPolicy> {
    let policy = read_policy(&function.config.layer_root).ok()?;
    policy.database(&drill.database)?.drill.clone()
}

/// The newest, newest first.
async fn verified(
    function: &Function,
    database: &DatabaseName,
) -> Result<Vec<BackupId>, DrillError> {
    let vault = &function.vault;
    let backups = history::backups(vault, database).await;
    let mut verified = Vec::new();
    for id in backups
        .map_err(DrillError::Verdicts)?
        .into_iter()
        .take(GAPS_MAX)
    {
        let found = history::verified(vault, database, id).await;
        verified.extend(found.map_err(DrillError::Verdicts)?.map(|it| it.id));
    }
    Ok(verified)
}

/// Of a drill that died between proof and checks, the proof.
fn checks(steps: &Steps) -> Vec<crate::checks::CheckResult> {
    let proof = steps.restored().and_then(|it| it.proof.as_ref());
    match (steps.checks(), proof) {
        (Some(checks), _) => checks.to_vec(),
        (None, Some(proof)) => proof::checks(proof),
        (None, None) => Vec::new(),
    }
}

fn totals(advance: &Advance) -> Totals {
    let proof = advance.proof.as_ref();
    Totals {
        tables: proof.map_or(0, |it| it.tables.len() as u64),
        rows: proof.map_or(advance.rows, |it| {
            it.tables.iter().map(|it| it.found_rows).sum()
        }),
        copy_bytes: advance.copy_bytes,
        objects: 0,
        stored_bytes: advance.bytes_read,
        large_objects: proof.map_or(0, |it| {
            it.large_objects.iter().map(|it| it.found_count).sum()
        }),
    }
}

pub fn in_words(failure: &Failure) -> String {
    format!("{}: {}", failure.error, failure.words())
}

fn notes(steps: &Steps) -> Vec<String> {
    let own = steps.records.iter().flat_map(|it| it.notes.clone());
    let engines = steps.restored().map(|it| it.notes.clone());
    own.chain(engines.into_iter().flatten()).collect()
}

fn versions(steps: &Steps, backup: Option<&Drilled>) -> Versions {
    let plan = steps.plan.as_ref();
    Versions {
        lifeboat: env!("CARGO_PKG_VERSION").to_owned(),
        source_server: backup.map(|it| it.source.server_version.clone()),
        target_server: plan.map(|it| it.target_server_version.clone()),
        pg_dump: backup.map(|it| it.pg_dump.clone()),
        archive: backup.map(|it| it.archive_version.clone()),
    }
}

/// For dashboards; what raises an alarm is the watch's own gauge.
fn tell(evidence: &Evidence, now: Timestamp) {
    let database = Some(evidence.drill.database.as_str());
    let proven = if evidence.is_proven() { 1.0 } else { 0.0 };
    telemetry::gauge(now, "DrillPassed", proven, database);
    if let Some(seconds) = evidence.timing.measured_rto_seconds {
        telemetry::gauge(now, "DrillRecoverySeconds", seconds, database);
    }
    tracing::info!(
        database,
        drill_id = evidence.drill.drill_id,
        verdict = %evidence.verdict,
        findings = evidence.findings.len(),
        "drilled"
    );
}

fn answer(
    evidence: &Evidence,
    (verdict_key, evidence_key, report_key): (Option<String>, String, String),
) -> Recorded {
    let mut findings = evidence.findings.clone();
    let findings_total = findings.len();
    findings.truncate(FINDINGS_MAX);
    for finding in &mut findings {
        finding.message = shortened(std::mem::take(&mut finding.message));
    }
    let begun_at = evidence.timing.begun_at;
    Recorded {
        database: evidence.drill.database.clone(),
        backup_id: evidence.drill.backup_id,
        verdict: evidence.verdict,
        findings,
        findings_total,
        missed: evidence.missed(),
        is_destroyed: evidence.teardown.is_destroyed,
        teardown_failure: evidence.teardown.failure.clone().map(shortened),
        seconds: evidence.finished_at.duration_since(begun_at).as_secs_f64(),
        verdict_key,
        evidence_key,
        report_key,
    }
}

/// As much as a message shows.
pub fn shortened(mut message: String) -> String {
    if message.len() > MESSAGE_BYTES_MAX {
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        message.push('…');
    }
    message
}
