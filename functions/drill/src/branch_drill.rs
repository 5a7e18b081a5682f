//! What a drill of a branch says, from what its steps left. Pure.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shared::backup::DatabaseName;
use shared::policy::BranchDrill;
use shared::verdict::{Code, Finding, Verdict, decide};

use crate::checks::CheckResult;
use crate::checks::branch::absent;
use crate::request::{BranchItem, Ended, Failure};
use crate::timing::{Budget, Timed, between, short_seconds};
use crate::verdict::{finding, of_check};

/// What was looked at, and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Examined {
    pub started_at: Timestamp,
    /// The first connection. Null: there was none.
    pub connected_at: Option<Timestamp>,
    pub finished_at: Timestamp,
    pub checks: Vec<CheckResult>,
}

/// The record of one drill, for an auditor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BranchEvidence {
    pub format: u32,
    /// Always `branch`: what was drilled.
    pub check: String,
    pub drill: BranchItem,
    pub finished_at: Timestamp,
    pub verdict: Verdict,
    /// Worst first.
    pub findings: Vec<Finding>,
    /// What was promised and not kept, and what was asked for and was not there; it does not decide.
    pub missed: Vec<String>,
    pub steps: Vec<Timed>,
    pub budgets: Vec<Budget>,
    pub ended: Ended,
    pub examined: Option<Examined>,
    pub lifeboat: String,
}

/// What the state machine, and whoever is told, needs of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BranchRecorded {
    pub database: DatabaseName,
    pub branch: String,
    pub verdict: Verdict,
    pub missed: Vec<String>,
    pub is_deleted: bool,
    /// Under which name somebody is told of it; null: there is nothing to tell.
    pub told_as: Option<&'static str>,
    /// Whether that cannot wait until morning.
    pub wakes: bool,
    /// All of it in words, for a message.
    pub summary: String,
    pub evidence_key: String,
}

/// Names of the alert, not of errors.
const FAILED: &str = "BranchDrillFailed";
const MISSED: &str = "BranchDrillMissed";

pub fn evidence(
    drill: &BranchItem,
    policy: &BranchDrill,
    ended: Ended,
    examined: Option<Examined>,
    finished_at: Timestamp,
) -> BranchEvidence {
    let findings = findings(policy, &ended, examined.as_ref());
    let budgets = budgets(policy, &ended, examined.as_ref(), finished_at);
    let short = ended.lent.as_ref().and_then(|it| it.short.clone());
    let left = ended.teardown_failure.as_ref().map(|it| {
        let (branch, error, words) = (&drill.branch, &it.error, it.words());
        format!("the branch {branch} could not be deleted ({error}: {words}); the next run that makes a branch removes it, and it expires after two days")
    });
    // What was not reached, the findings tell.
    let reached = budgets.iter().filter(|it| it.seconds.is_some());
    let missed = reached.filter_map(Budget::missed);
    let absent = examined.as_ref().map(|it| absent(&it.checks));
    let absent = absent.into_iter().flatten();
    BranchEvidence {
        format: 1,
        check: "branch".to_owned(),
        drill: drill.clone(),
        finished_at,
        verdict: decide(&findings),
        missed: absent.chain(short).chain(left).chain(missed).collect(),
        findings,
        steps: steps(&ended, examined.as_ref(), finished_at),
        budgets,
        ended,
        examined,
        lifeboat: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

fn findings(policy: &BranchDrill, ended: &Ended, examined: Option<&Examined>) -> Vec<Finding> {
    let checks = examined.map(|it| it.checks.as_slice()).unwrap_or_default();
    let mut findings: Vec<Finding> = checks.iter().filter_map(of_check).collect();
    match &ended.failure {
        Some(failure) => findings.push(of_failure(policy, ended, failure)),
        None if examined.is_none() => findings.push(finding(
            Code::DrillInterrupted,
            "the drill did not reach its checks, and nothing says why".to_owned(),
        )),
        None => {}
    }
    findings.sort_by_key(|it| it.code.is_inconclusive());
    findings
}

/// That Neon gives no branch is what is looked for; that nobody answers says nothing, unless a
/// drill would have been over by then.
fn of_failure(policy: &BranchDrill, ended: &Ended, failure: &Failure) -> Finding {
    let (error, words) = (&failure.error, failure.words());
    let is_no = matches!(error.as_str(), "Refused" | "Failed");
    if ended.lent.is_none() && is_no {
        let message = format!("no branch of that time could be had ({error}): {words}");
        return finding(Code::BranchUnusable, message);
    }
    if let Some(seconds) = waited_too_long(policy, ended) {
        let waited = short_seconds(seconds);
        let message = format!("no branch of that time could be had in {waited} ({error}): {words}");
        return finding(Code::BranchUnusable, message);
    }
    let message = format!("the drill was interrupted ({error}): {words}; start it again");
    finding(Code::DrillInterrupted, message)
}

/// For how many seconds a branch was tried for that never came, where that is more than the
/// longest budget. By then it is late, whatever the last try failed with.
fn waited_too_long(policy: &BranchDrill, ended: &Ended) -> Option<f64> {
    let (from, to) = ended.begun_at.zip(ended.given_up_at)?;
    let seconds = between(from, to);
    let of_steps = policy.branch_seconds.max(policy.checks_seconds);
    let longest = f64::from(of_steps.max(policy.total_seconds));
    (ended.lent.is_none() && seconds > longest).then_some(seconds)
}

fn budgets(
    policy: &BranchDrill,
    ended: &Ended,
    examined: Option<&Examined>,
    finished_at: Timestamp,
) -> Vec<Budget> {
    let begun_at = ended.lent.as_ref().map(|it| it.begun_at);
    let begun_at = begun_at.or(ended.begun_at);
    let connected_at = examined.and_then(|it| it.connected_at);
    let branch = begun_at.zip(connected_at).map(|(a, b)| between(a, b));
    let verify = examined.zip(connected_at);
    let verify = verify.map(|(it, from)| between(from, it.finished_at));
    let total = begun_at.map(|it| between(it, finished_at));
    vec![
        Budget::of("branch", branch, policy.branch_seconds),
        Budget::of("checks", verify, policy.checks_seconds),
        Budget::of("total", total, policy.total_seconds),
    ]
}

fn steps(ended: &Ended, examined: Option<&Examined>, finished_at: Timestamp) -> Vec<Timed> {
    let step = |name: &str, from: Timestamp, to: Timestamp| Timed {
        name: name.to_owned(),
        started_at: from,
        seconds: between(from, to),
    };
    let mut steps = Vec::new();
    let mut last = None;
    if let Some(lent) = &ended.lent {
        steps.push(step("create", lent.begun_at, lent.ready_at));
        last = Some(lent.ready_at);
    }
    if let Some(examined) = examined {
        let connected_at = examined.connected_at.unwrap_or(examined.finished_at);
        let from = last.unwrap_or(examined.started_at);
        steps.push(step("connect", from, connected_at));
        steps.push(step("check", connected_at, examined.finished_at));
        last = Some(examined.finished_at);
    }
    steps.extend(last.map(|from| step("destroy", from, finished_at)));
    steps
}

pub fn answer(evidence: &BranchEvidence, evidence_key: String) -> BranchRecorded {
    let has_failed = evidence.verdict != Verdict::Passed;
    BranchRecorded {
        database: evidence.drill.database.clone(),
        branch: evidence.drill.branch.clone(),
        verdict: evidence.verdict,
        missed: evidence.missed.clone(),
        is_deleted: evidence.ended.teardown_failure.is_none(),
        told_as: match has_failed {
            true => Some(FAILED),
            false if evidence.missed.is_empty() => None,
            false => Some(MISSED),
        },
        wakes: has_failed,
        summary: summary(evidence, &evidence_key),
        evidence_key,
    }
}

fn summary(evidence: &BranchEvidence, evidence_key: &str) -> String {
    use crate::record::{FINDINGS_MAX, shortened};
    let mut lines = vec![format!("The verdict is {}.", evidence.verdict)];
    if let Some(lent) = &evidence.ended.lent {
        lines.push(format!(
            "The branch {} is of {}.",
            lent.branch,
            shared::words::time(lent.data_as_of)
        ));
    }
    let findings = evidence.findings.iter().map(|it| &it.message);
    let told = findings.take(FINDINGS_MAX).chain(&evidence.missed);
    lines.extend(told.map(|it| format!("- {}", shortened(it.clone()))));
    lines.push(format!("All of it is in the vault: {evidence_key}"));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::Status;
    use crate::checks::branch::{reachable, tables};
    use crate::request::{DrillKind, Lent};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + seconds).unwrap()
    }

    fn item() -> BranchItem {
        BranchItem {
            drill_id: "2026-11-22T030000Z-0a1b2c3d".to_owned(),
            kind: DrillKind::Monthly,
            database: "app".parse().unwrap(),
            branch: "drill-2026-11-22T030000Z-0a1b2c3d".to_owned(),
            started_at: at(-3_600),
            started_by: "the monthly schedule".to_owned(),
            execution: "arn:e".to_owned(),
        }
    }

    fn lent() -> Lent {
        Lent {
            branch: item().branch,
            branch_id: "br-a".to_owned(),
            begun_at: at(0),
            ready_at: at(20),
            data_as_of: at(-7 * 86_400),
            short: None,
            is_new: true,
        }
    }

    fn examined(connected: i64, finished: i64, checks: Vec<CheckResult>) -> Examined {
        Examined {
            started_at: at(25),
            connected_at: Some(at(connected)),
            finished_at: at(finished),
            checks,
        }
    }

    fn failure(error: &str) -> Failure {
        Failure {
            error: error.to_owned(),
            cause: r#"{"errorMessage": "it is so"}"#.to_owned(),
        }
    }

    fn judge(ended: Ended, examined: Option<Examined>, finished: i64) -> BranchRecorded {
        let policy = BranchDrill::default();
        let evidence = evidence(&item(), &policy, ended, examined, at(finished));
        answer(&evidence, "evidence/app/x-branch.json".to_owned())
    }

    fn there(name: &str, status: Status) -> CheckResult {
        CheckResult {
            name: name.to_owned(),
            status,
            summary: "not there at that time".to_owned(),
            ..reachable(&Ok(()), 1.0)
        }
    }

    fn well() -> Ended {
        Ended {
            lent: Some(lent()),
            ..Ended::default()
        }
    }

    #[test]
    fn a_drill_in_time_passes_and_nobody_is_told() {
        let recorded = judge(well(), Some(examined(30, 90, vec![])), 120);
        assert_eq!(recorded.verdict, Verdict::Passed);
        assert_eq!((recorded.told_as, recorded.missed), (None, vec![]));
    }

    #[test]
    fn each_budget_counts_from_its_own_beginning_and_a_missed_one_is_told_by_day() {
        for (connected, checked, finished, expected) in [
            (
                121,
                130,
                140,
                "The branch took 2 min 1 s, its budget is 2 min",
            ),
            (
                120,
                721,
                730,
                "The checks took 10 min 1 s, its budget is 10 min",
            ),
            (
                120,
                720,
                901,
                "Everything took 15 min 1 s, its budget is 15 min",
            ),
        ] {
            let examined = examined(connected, checked, vec![]);
            let recorded = judge(well(), Some(examined), finished);
            assert_eq!(recorded.verdict, Verdict::Passed);
            assert_eq!(recorded.missed, [expected]);
            assert_eq!(
                (recorded.told_as, recorded.wakes),
                (Some("BranchDrillMissed"), false)
            );
            assert!(recorded.summary.contains(expected));
        }
        let at_the_limit = judge(well(), Some(examined(120, 720, vec![])), 900);
        assert_eq!(at_the_limit.missed, Vec::<String>::new());
    }

    #[test]
    fn a_window_that_is_too_short_and_a_branch_that_is_left_are_told_and_fail_nothing() {
        let mut ended = well();
        ended.lent.as_mut().unwrap().short = Some("lengthen it".to_owned());
        let recorded = judge(ended, Some(examined(30, 90, vec![])), 120);
        assert_eq!(recorded.missed, ["lengthen it"]);
        assert_eq!(recorded.told_as, Some("BranchDrillMissed"));
        let left = Ended {
            teardown_failure: Some(failure("Transient")),
            ..well()
        };
        let recorded = judge(left, Some(examined(30, 90, vec![])), 120);
        assert!(!recorded.is_deleted && recorded.verdict == Verdict::Passed);
        assert!(recorded.summary.contains("could not be deleted"));
    }

    #[test]
    fn what_was_not_there_is_told_by_day_as_younger_or_lost() {
        let checks = vec![
            there("orders", Status::Passed),
            there("since", Status::Note),
        ];
        let recorded = judge(well(), Some(examined(30, 90, checks)), 120);
        assert_eq!(recorded.verdict, Verdict::Passed);
        assert_eq!(
            (recorded.told_as, recorded.wakes, recorded.missed.len()),
            (Some("BranchDrillMissed"), false, 1)
        );
        let says = "since: not there at that time. It is younger than that, or was lost";
        assert!(recorded.summary.contains(says), "{}", recorded.summary);
    }

    #[test]
    fn no_branch_is_a_failure_and_no_answer_is_none() {
        for (error, lent, expected) in [
            ("Refused", None, Verdict::Failed),
            ("Failed", None, Verdict::Failed),
            ("Transient", None, Verdict::Inconclusive),
            ("Sandbox.Timedout", None, Verdict::Inconclusive),
            ("Refused", Some(lent()), Verdict::Inconclusive),
        ] {
            let ended = Ended {
                lent,
                failure: Some(failure(error)),
                ..Ended::default()
            };
            let recorded = judge(ended, None, 60);
            assert_eq!(recorded.verdict, expected, "{error}");
            assert!(recorded.wakes && recorded.summary.contains("it is so"));
        }
        assert_eq!(judge(well(), None, 60).verdict, Verdict::Inconclusive);
    }

    #[test]
    fn a_branch_that_did_not_come_within_the_longest_budget_is_a_failure_whatever_it_is_called() {
        for (given_up_at, expected) in [
            (None, Verdict::Inconclusive),
            (Some(900), Verdict::Inconclusive),
            (Some(901), Verdict::Failed),
        ] {
            let ended = Ended {
                begun_at: Some(at(0)),
                given_up_at: given_up_at.map(at),
                failure: Some(failure("Transient")),
                ..Ended::default()
            };
            // The deletion takes as long as it does, and decides nothing.
            let recorded = judge(ended, None, 2_000);
            assert_eq!(recorded.verdict, expected, "{given_up_at:?}");
            let told = "no branch of that time could be had in 15 min 1 s (Transient): it is so";
            assert_eq!(
                recorded.summary.contains(told),
                expected == Verdict::Failed,
                "{}",
                recorded.summary
            );
            assert_eq!(
                recorded.missed,
                ["Everything took 33 min 20 s, its budget is 15 min"]
            );
        }
    }

    #[test]
    fn a_check_that_fails_fails_the_drill() {
        let unreachable = reachable(&Err("refused".to_owned()), 300.0);
        let unread = tables(&Err("no answer".to_owned()));
        let of = |checks| judge(well(), Some(examined(30, 90, checks)), 120).verdict;
        assert_eq!(of(vec![unread.clone()]), Verdict::Inconclusive);
        assert_eq!(of(vec![unread, unreachable]), Verdict::Failed);
    }
}
