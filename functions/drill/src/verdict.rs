//! What a drill says of its backup. Pure.

use shared::verdict::{Code, Finding};

use crate::checks::{CheckResult, Status, proof};
use crate::request::Failure;
use crate::steps::{StepOutcome, Steps};

/// Everything that keeps the backup from being proven, worst first. Nothing: it is proven.
///
/// Checks of P2 do not decide. A drill without checks has shown nothing, and neither has one of
/// which nobody knows what was drilled.
pub fn findings(steps: &Steps, failure: Option<&Failure>, is_known: bool) -> Vec<Finding> {
    let checks = steps.checks();
    let proof = steps.restored().and_then(|it| it.proof.as_ref());
    let mut findings: Vec<Finding> = match (checks, proof) {
        (Some(checks), _) => checks.iter().filter_map(of_check).collect(),
        // It was killed between proof and checks: what is known is known.
        (None, Some(proof)) => proof::checks(proof).iter().filter_map(of_check).collect(),
        (None, None) => Vec::new(),
    };
    if let Some(failure) = failure {
        findings.push(of_failure(steps, failure));
    } else if checks.is_none() {
        findings.push(finding(
            Code::DrillInterrupted,
            "the drill did not reach its checks, and nothing says why".to_owned(),
        ));
    }
    if findings.is_empty() && !is_known {
        findings.push(finding(
            Code::CheckNotRun,
            "every check passed, but nothing says which manifest was drilled and as of when its data is: start the drill again".to_owned(),
        ));
    }
    findings.sort_by_key(|it| it.code.is_inconclusive());
    findings
}

/// What keeps the verdict from being `passed`, if anything.
pub fn of_check(check: &CheckResult) -> Option<Finding> {
    if !check.priority.decides() {
        return None;
    }
    let code = match check.status {
        Status::Failed => check.finding,
        Status::Inconclusive => Code::CheckNotRun,
        Status::Passed | Status::Note => return None,
    };
    let remedy = check.remedy.as_deref().unwrap_or_default();
    Some(finding(
        code,
        format!("{}: {}. What to do: {remedy}", check.name, check.summary),
    ))
}

/// The step that failed last has said more than the state machine was told; one that was
/// killed has said nothing.
fn of_failure(steps: &Steps, failure: &Failure) -> Finding {
    let last = steps.records.iter().rev().find(|it| match &it.outcome {
        StepOutcome::Restored(_) | StepOutcome::Checked(_) | StepOutcome::Failed { .. } => true,
        // Came after whatever ended the drill.
        StepOutcome::Destroyed | StepOutcome::NotDestroyed { .. } => false,
    });
    if let Some(StepOutcome::Failed {
        error,
        message,
        finding: code,
    }) = last.map(|it| &it.outcome)
        && *error == failure.error
    {
        return finding(*code, message.clone());
    }
    let (error, cause) = (&failure.error, failure.words());
    finding(
        Code::DrillInterrupted,
        format!("the drill was interrupted ({error}): {cause}; start it again"),
    )
}

pub fn finding(code: Code, message: String) -> Finding {
    Finding {
        code,
        object: None,
        window: None,
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::{CheckCode, Subject};
    use crate::steps::StepRecord;
    use jiff::Timestamp;
    use shared::policy::Priority;
    use shared::restore::{Advance, Proof, TableProof};
    use shared::verdict::{Verdict, decide};

    fn subject(priority: Priority) -> Subject {
        Subject {
            code: CheckCode::Rows,
            name: "Rows".to_owned(),
            priority,
            finding: Code::RowsDiffer,
            remedy: "look",
        }
    }

    fn steps(outcomes: Vec<StepOutcome>) -> Steps {
        let record = |outcome| StepRecord {
            started_at: Timestamp::UNIX_EPOCH,
            finished_at: Timestamp::UNIX_EPOCH,
            outcome,
            notes: vec![],
        };
        Steps {
            plan: None,
            records: outcomes.into_iter().map(record).collect(),
        }
    }

    fn codes(outcomes: Vec<StepOutcome>, failure: Option<(&str, &str)>) -> (Verdict, Vec<Code>) {
        let failure = failure.map(|(error, cause)| Failure {
            error: error.to_owned(),
            cause: cause.to_owned(),
        });
        let findings = findings(&steps(outcomes), failure.as_ref(), true);
        (
            decide(&findings),
            findings.iter().map(|it| it.code).collect(),
        )
    }

    fn checked(checks: Vec<CheckResult>) -> Vec<StepOutcome> {
        vec![StepOutcome::Checked(checks), StepOutcome::Destroyed]
    }

    #[test]
    fn only_checks_that_decide_decide() {
        let well = subject(Priority::P0).passed("");
        assert_eq!(
            codes(checked(vec![well.clone()]), None),
            (Verdict::Passed, vec![])
        );
        let minor = subject(Priority::P2).failed("x", vec![]);
        let untold = subject(Priority::P2).inconclusive("x");
        assert_eq!(codes(checked(vec![minor, untold]), None).0, Verdict::Passed);
        let failed = subject(Priority::P1).failed("x", vec![]);
        let untold = subject(Priority::P0).inconclusive("x");
        assert_eq!(
            codes(checked(vec![untold.clone(), well, failed]), None),
            (Verdict::Failed, vec![Code::RowsDiffer, Code::CheckNotRun])
        );
        assert_eq!(codes(checked(vec![untold]), None).0, Verdict::Inconclusive);
    }

    #[test]
    fn a_drill_without_checks_is_never_passed() {
        let interrupted = (Verdict::Inconclusive, vec![Code::DrillInterrupted]);
        assert_eq!(codes(vec![], None), interrupted);
        let killed = Some(("Sandbox.Timedout", r#"{"errorMessage": "timed out"}"#));
        assert_eq!(codes(vec![], killed), interrupted);
        assert_eq!(codes(checked(vec![]), killed), interrupted);
    }

    #[test]
    fn the_step_that_failed_says_what_it_means_for_the_backup() {
        let failed = StepOutcome::Failed {
            error: "Failed".to_owned(),
            message: "EXTENSION hstore: not available".to_owned(),
            finding: Code::RestoreFailed,
        };
        let outcomes = vec![failed, StepOutcome::Destroyed];
        assert_eq!(
            codes(outcomes.clone(), Some(("Failed", ""))),
            (Verdict::Failed, vec![Code::RestoreFailed])
        );
        // Another step was killed after that.
        assert_eq!(
            codes(outcomes, Some(("Runtime.ExitError", ""))).0,
            Verdict::Inconclusive
        );
    }

    #[test]
    fn a_teardown_that_fails_hides_no_damage() {
        let damaged = StepOutcome::Failed {
            error: "Failed".to_owned(),
            message: "1.dat.age: its SHA-256 is another".to_owned(),
            finding: Code::ChecksumDiffers,
        };
        let not_destroyed = StepOutcome::NotDestroyed {
            error: "Transient".to_owned(),
            message: "connect".to_owned(),
        };
        let outcomes = vec![damaged, not_destroyed];
        assert_eq!(
            codes(outcomes, Some(("Failed", ""))),
            (Verdict::Failed, vec![Code::ChecksumDiffers])
        );
    }

    #[test]
    fn nothing_is_passed_that_cannot_be_named() {
        let well = steps(checked(vec![subject(Priority::P0).passed("")]));
        assert_eq!(decide(&findings(&well, None, true)), Verdict::Passed);
        let findings = findings(&well, None, false);
        assert_eq!(decide(&findings), Verdict::Inconclusive);
        assert_eq!(findings[0].code, Code::CheckNotRun);
    }

    #[test]
    fn a_difference_that_was_found_before_the_end_counts() {
        let table = TableProof {
            schema: "app".to_owned(),
            name: "users".to_owned(),
            expected_rows: 2,
            found_rows: 1,
            expected_fingerprint: shared::fingerprint::Fingerprint::default(),
            found_fingerprint: shared::fingerprint::Fingerprint::default(),
            equal: false,
        };
        let advance = Advance {
            proof: Some(Proof {
                tables: vec![table],
                ..Proof::default()
            }),
            ..Advance::default()
        };
        let outcomes = vec![StepOutcome::Restored(Box::new(advance))];
        let (verdict, codes) = codes(outcomes, Some(("Sandbox.Timedout", "")));
        assert_eq!(verdict, Verdict::Failed);
        assert!(codes.contains(&Code::RowsDiffer) && codes.contains(&Code::DrillInterrupted));
    }
}
