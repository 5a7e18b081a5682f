//! Looks at the project, sets what the policy lets Lifeboat set, and writes what was found
//! into the vault.

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use shared::backup::DatabaseName;
use shared::key::Key;
use shared::neon::ownership::{Class, Mark};
use shared::neon::{Branches, NeonError, NewBranch, Point, ProjectFacts};
use shared::store::StoreErrorKind;
use shared::verdict::Verdict;

use crate::create::{production, whole_second};
use crate::error::BranchesError;
use crate::posture::{self, Finding, Freshness, Seen};
use crate::request::Posture;
use crate::rotate::{branches_max, plan_of};
use crate::{Function, Invocation, Opened};

/// Of the state that must be restorable.
const FRESH: SignedDuration = SignedDuration::from_mins(15);
/// As [`crate::dump_source`]: for the case that nobody deletes it.
const PROBE_EXPIRES_AFTER: SignedDuration = SignedDuration::from_hours(24);
const TOLD_MAX: usize = 10;

#[derive(Clone, Debug, Serialize)]
pub struct Inspected {
    pub database: DatabaseName,
    pub verdict: Verdict,
    pub findings: Vec<Finding>,
    pub findings_total: usize,
    /// Whether any of them cannot wait until morning.
    pub wakes: bool,
    /// All of it in words, for a message.
    pub summary: String,
    pub evidence_key: String,
}

/// What is written down.
#[derive(Clone, Debug, Serialize)]
struct Evidence<'a> {
    format: u32,
    check: &'static str,
    database: &'a DatabaseName,
    project: &'a str,
    at: Timestamp,
    verdict: Verdict,
    findings: &'a [Finding],
    plan: &'a str,
    restore_window_seconds: Option<u64>,
    /// Set by this inspection.
    restore_window_was_set: bool,
    branches: usize,
    branches_max: Option<u64>,
    root_branches: usize,
    own_branches: usize,
    key_opens_others: Option<bool>,
    freshness: Option<&'a Freshness>,
    lifeboat: &'static str,
}

/// A second run with the same event finds its evidence written.
pub async fn inspect(
    function: &Function,
    invocation: &Invocation,
    request: &Posture,
) -> Result<Inspected, BranchesError> {
    let opened = function.open(invocation, &request.database).await?;
    let facts = opened.project.facts().await?;
    let (facts, was_set) = lengthen_window(&opened, facts).await?;
    let branches = opened.project.branches().await?;
    let freshness = match opened.policy.prove_freshness {
        true => Some(prove_freshness(&opened, invocation, &branches, request.at).await?),
        false => None,
    };
    let seen = Seen {
        now: invocation.now(),
        database: &opened.database,
        policy: &opened.policy,
        facts: &facts,
        plan: plan_of(&facts),
        branches: &branches,
        branches_max: branches_max(&facts),
        key_opens_others: opened.project.key_opens_others().await?,
        freshness,
    };
    let findings = posture::judge(&seen);
    let verdict = match findings.is_empty() {
        true => Verdict::Passed,
        false => Verdict::Failed,
    };
    let evidence_key = write(function, request, &seen, (verdict, &findings, was_set)).await?;
    tracing::info!(database = %opened.database, %verdict, findings = findings.len(), "inspected");
    Ok(answer(opened.database, verdict, findings, evidence_key))
}

fn answer(
    database: DatabaseName,
    verdict: Verdict,
    mut findings: Vec<Finding>,
    evidence_key: String,
) -> Inspected {
    let lines = findings.iter().map(|it| format!("- {}", it.message));
    Inspected {
        database,
        verdict,
        findings_total: findings.len(),
        wakes: findings.iter().any(|it| it.code.wakes()),
        summary: lines.collect::<Vec<_>>().join("\n"),
        findings: {
            findings.truncate(TOLD_MAX);
            findings
        },
        evidence_key,
    }
}

/// Only longer, only where the policy says so, and only as far as the plan allows.
async fn lengthen_window(
    opened: &Opened,
    facts: ProjectFacts,
) -> Result<(ProjectFacts, bool), BranchesError> {
    let target = u64::from(opened.policy.restore_window_days) * 86_400;
    // What is not known may be longer than what would be set.
    let Some(is) = facts.history_retention_seconds else {
        return Ok((facts, false));
    };
    let allowed = plan_of(&facts).is_none_or(|it| it.window_seconds_max >= target);
    if !opened.policy.set_restore_window || is >= target || !allowed {
        return Ok((facts, false));
    }
    match opened.project.set_restore_window(target).await {
        Ok(facts) => Ok((facts, true)),
        // What it is now decides; a refusal becomes a finding, with the value.
        Err(
            NeonError::Rejected { .. }
            | NeonError::OutsideWindow { .. }
            | NeonError::LimitReached { .. }
            | NeonError::Unknown { .. }
            | NeonError::KeyTooNarrow { .. },
        ) => Ok((opened.project.facts().await?, false)),
        Err(error) => Err(error.into()),
    }
}

/// A branch of 15 minutes ago, made and deleted. That it cannot be made is what is looked for;
/// that it cannot be deleted, or that nobody answers, is an error.
async fn prove_freshness(
    opened: &Opened,
    invocation: &Invocation,
    branches: &Branches,
    at: Timestamp,
) -> Result<Freshness, BranchesError> {
    let of = whole_second(invocation.now()) - FRESH;
    let key = at.strftime("%Y%m%dT%H%M%SZ").to_string();
    let mark = Mark::new(Class::Probe, &opened.database, &key).with_note(
        "why",
        "proves that this moment can be had; it is deleted at once",
    );
    let new = NewBranch {
        parent_id: production(opened, branches)?.id.clone(),
        point: Point::Time(of),
        mark: mark.clone(),
        compute: None,
        expires_at: Some(whole_second(invocation.now()) + PROBE_EXPIRES_AFTER),
    };
    let made = opened.project.ensure(&new).await;
    opened.project.remove(&mark).await?;
    match made {
        Ok(_) => Ok(Freshness::Proven { of }),
        Err(
            error @ (NeonError::OutsideWindow { .. }
            | NeonError::Rejected { .. }
            | NeonError::OperationFailed { .. }
            | NeonError::NotDone { .. }
            | NeonError::LimitReached { .. }),
        ) => Ok(Freshness::Failed {
            of,
            why: error.to_string(),
        }),
        Err(error) => Err(error.into()),
    }
}

async fn write(
    function: &Function,
    request: &Posture,
    seen: &Seen<'_>,
    (verdict, findings, was_set): (Verdict, &[Finding], bool),
) -> Result<String, BranchesError> {
    let evidence = Evidence {
        format: 1,
        check: "posture",
        database: seen.database,
        project: seen.policy.project.as_str(),
        at: seen.now,
        verdict,
        findings,
        plan: &seen.facts.owner.subscription_type,
        restore_window_seconds: seen.facts.history_retention_seconds,
        restore_window_was_set: was_set,
        branches: seen.branches.0.len(),
        branches_max: seen.branches_max,
        root_branches: seen.branches.roots(),
        own_branches: seen
            .branches
            .0
            .iter()
            .filter(|it| Mark::of(it).is_some())
            .count(),
        key_opens_others: seen.key_opens_others,
        freshness: seen.freshness.as_ref(),
        lifeboat: env!("CARGO_PKG_VERSION"),
    };
    let key = Key::Evidence {
        database: seen.database,
        at: request.at,
        nonce: "branches",
        file: "posture.json",
    }
    .to_string();
    let json = serde_json::to_vec_pretty(&evidence).map_err(BranchesError::Json)?;
    match function.vault.put_once(&key, Bytes::from(json)).await {
        Ok(_) => Ok(key),
        Err(error) if matches!(error.kind, StoreErrorKind::AlreadyExists) => Ok(key),
        Err(error) => Err(BranchesError::Evidence(error)),
    }
}
