//! How a recovery ended, in words and for the record. Pure.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shared::approval::Decision;
use shared::checks::{CheckResult, Status};
use shared::redact::redact;
use shared::words;

use super::plan::Plan;
use super::request::{Close, Failure, PlanRequest};
use super::steps::{Asked, Compared, Prepared, Promoted, Proof, Smoked, Taken, Validated};

/// The only format there is.
pub const FORMAT: u32 = 1;
/// An answer is at most 32 KB; everything is in the evidence.
const WORDS_BYTES_MAX: usize = 12_000;
const CAUSE_CHARS_MAX: usize = 4_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Production was put back, and is good.
    Recovered,
    Refused,
    Expired,
    Failed,
}

/// Whether production was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Nothing that could change it was sent, or Neon has refused it.
    No,
    /// What it was is kept beside it.
    Yes,
    /// The change was sent, and does not show.
    Unknown,
}

/// The plan's life is over; this is what was said about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    pub plan_id: String,
    pub verdict: Verdict,
    /// Production is where it should be, and writes go on.
    pub is_good: bool,
    /// A person ended it, production is as it was, and writes go on: nobody has to be woken.
    pub is_quiet: bool,
    /// What the execution ends with where it is not good.
    pub error: String,
    pub words: String,
    /// Whether production was changed, and what that means now.
    pub production: String,
    pub change: Change,
    pub evidence_key: String,
}

/// All that was found of a recovery when it is closed.
#[derive(Clone, Debug)]
pub struct Known<'a> {
    pub plan: &'a Plan,
    pub close: &'a Close,
    pub decision: Option<&'a Decision>,
    pub prepared: Option<&'a Prepared>,
    pub validated: Option<&'a Validated>,
    pub promoted: Option<&'a Promoted>,
    pub change: Change,
    pub smoked: Option<&'a Smoked>,
    pub compared: Option<&'a Compared>,
    /// Branches that only served the recovery and could not be deleted.
    pub left: Vec<String>,
}

/// What is kept in `evidence/`, never overwritten.
#[derive(Clone, Debug, Serialize)]
pub struct Record<'a> {
    pub format: u32,
    /// `recovery`
    pub check: &'static str,
    pub plan_id: &'a str,
    pub verdict: Verdict,
    pub request: &'a PlanRequest,
    pub plan: &'a Plan,
    pub decision: Option<&'a Decision>,
    pub frozen_at: &'a str,
    pub prepared: Option<&'a Prepared>,
    pub validated: Option<&'a Validated>,
    pub promoted: Option<&'a Promoted>,
    pub change: Change,
    pub smoked: Option<&'a Smoked>,
    pub unfrozen_at: &'a str,
    pub compared: Option<&'a Compared>,
    pub failure: &'a Failure,
    pub unfreeze_failure: &'a Failure,
    pub compare_failure: &'a Failure,
    pub execution: &'a str,
    pub closed_at: Timestamp,
    pub lifeboat: &'static str,
}

impl Known<'_> {
    pub fn verdict(&self) -> Verdict {
        let error = self.close.failure.error.as_str();
        match (error, self.change) {
            ("", Change::Yes) if self.smoked.is_some() => Verdict::Recovered,
            ("ApprovalRefused", Change::No) => Verdict::Refused,
            ("ApprovalExpired", Change::No) => Verdict::Expired,
            _ => Verdict::Failed,
        }
    }

    /// Without the key of the evidence.
    pub fn closed(&self) -> Closed {
        let verdict = self.verdict();
        let goes_on = self.stopped().is_none();
        Closed {
            plan_id: self.plan.plan_id.clone(),
            verdict,
            is_good: verdict == Verdict::Recovered && goes_on,
            is_quiet: matches!(verdict, Verdict::Refused | Verdict::Expired) && goes_on,
            error: if goes_on {
                self.error(verdict)
            } else {
                "UnfreezeFailed".to_owned()
            },
            words: self.words(verdict),
            production: self.production(),
            change: self.change,
            evidence_key: String::new(),
        }
    }

    /// Why writes may still be stopped. That the hook was called is said by whoever called it; a
    /// person who closes the plan of a stopped execution cannot know.
    fn stopped(&self) -> Option<String> {
        let close = self.close;
        let failure = &close.unfreeze_failure;
        if failure.is_some() {
            return Some(format!(
                "the unfreeze hook failed: {}\n{}",
                failure.error, failure.cause
            ));
        }
        let hook = self.plan.unfreeze_function.as_ref()?;
        close.unfrozen_at.is_empty().then(|| {
            format!("nothing says that the unfreeze hook {hook} was called; call it yourself")
        })
    }

    fn error(&self, verdict: Verdict) -> String {
        match (verdict, self.close.failure.is_some()) {
            (Verdict::Recovered, _) => String::new(),
            (Verdict::Refused | Verdict::Expired | Verdict::Failed, true) => {
                self.close.failure.error.clone()
            }
            (Verdict::Refused | Verdict::Expired | Verdict::Failed, false) => "Failed".to_owned(),
        }
    }

    fn production(&self) -> String {
        let Plan {
            production,
            preserve_under,
            ..
        } = self.plan;
        match self.change {
            Change::Yes => format!(
                "production WAS put back. What it was until then is the branch {preserve_under}; nobody deletes it but you. The way back is docs/RUNBOOK.md, \"Undo a recovery\""
            ),
            Change::No => format!(
                "production was NOT changed: the branch {} is as it was",
                production.name
            ),
            Change::Unknown => format!(
                "production MAY have been changed: the restore was sent, and does not show yet. It was, as soon as the branch {preserve_under} is there; look for it before you do anything else"
            ),
        }
    }

    fn headline(&self, verdict: Verdict) -> String {
        let Plan {
            request, plan_id, ..
        } = self.plan;
        let what = format!(
            "production of {} to {}, plan {plan_id}",
            request.database, request.point
        );
        match verdict {
            Verdict::Recovered => format!("RECOVERED: {what}."),
            Verdict::Refused => format!("REFUSED: {what}."),
            Verdict::Expired => format!("EXPIRED: {what}. Nobody decided in time."),
            Verdict::Failed => format!("FAILED: {what}."),
        }
    }

    fn words(&self, verdict: Verdict) -> String {
        let close = self.close;
        let mut lines = vec![
            self.headline(verdict),
            format!("Now: {}.", self.production()),
        ];
        if let Some(why) = self.stopped() {
            lines.push(format!("WRITES MAY STILL BE STOPPED, {why}"));
        }
        if let Some(decision) = self.decision {
            let verb = if decision.approved {
                "Approved"
            } else {
                "Refused"
            };
            let at = words::time(decision.at);
            lines.push(format!("{verb} by {}, {at}.", decision.operator));
        }
        for (what, failure) in [
            ("What failed", &close.failure),
            (
                "What changed since could not be told",
                &close.compare_failure,
            ),
        ] {
            if failure.is_some() {
                lines.push(format!("{what}: {}\n{}", failure.error, failure.cause));
            }
        }
        lines.extend(self.steps());
        if let Some(smoked) = self.smoked {
            lines.extend(proof(smoked));
        }
        if let Some(compared) = self.compared {
            lines.push(format!(
                "What changed between {} and the recovery, and is in {} now (of this database only; every other one of the branch went back, too, and was not compared):",
                self.plan.request.point, self.plan.preserve_under
            ));
            lines.extend(
                compared
                    .difference
                    .words()
                    .iter()
                    .map(|it| format!("- {it}")),
            );
        }
        let left = self.left.iter();
        lines.extend(left.map(|it| {
            format!("Left: the branch {it} could not be deleted; the next rotation tries again.")
        }));
        limited(lines)
    }

    /// Each step that was taken, with its time.
    fn steps(&self) -> Vec<String> {
        let hook =
            |at: &str, name: &str| (!at.is_empty()).then(|| format!("{at} {name} hook called"));
        let step = |taken: Option<Taken>, name: &str| {
            let Taken { at, seconds } = taken?;
            Some(format!("{at} {name}, {seconds:.1} s"))
        };
        let steps = [
            Some(format!("{} planned", self.plan.planned_at)),
            hook(&self.close.frozen_at, "freeze"),
            self.decision.map(|it| format!("{} decided", it.at)),
            step(self.prepared.map(|it| it.taken), "branch of the point made"),
            step(self.validated.map(|it| it.taken), "branch checked"),
            step(self.promoted.map(|it| it.taken), "production put back"),
            step(self.smoked.map(|it| it.taken), "production checked"),
            hook(&self.close.unfrozen_at, "unfreeze"),
            step(self.compared.map(|it| it.taken), "compared"),
        ];
        steps.into_iter().flatten().collect()
    }
}

/// What is known of production beyond its checks.
fn proof(smoked: &Smoked) -> Vec<String> {
    let mut lines = Vec::new();
    if smoked.of_branch {
        lines.push("Production itself could not be asked (no password is kept, or it takes certain addresses only): a branch of it was. Look whether the application connects.".to_owned());
    }
    if let Some(Proof {
        equal,
        not_compared,
    }) = smoked.proof
    {
        let count = |n: usize| words::counted(i64::try_from(n).unwrap_or(i64::MAX), "table");
        lines.push(match equal {
            0 => format!("Whether production holds what the checked branch holds was NOT compared ({}).", count(not_compared)),
            _ => format!("Production holds what the checked branch holds: {} compared and equal, {not_compared} not compared.", count(equal)),
        });
    }
    lines
}

/// Why what was asked is not good; nothing where it is. What is not said to be good is bad.
pub fn faults(asked: &Asked, expected_tables: Option<&[String]>) -> Vec<String> {
    let mut faults = Vec::new();
    if asked.tables.is_empty() {
        faults.push("there is no table at all".to_owned());
    }
    let missing = expected_tables.unwrap_or_default().iter();
    let missing = missing.filter(|it| !asked.tables.contains(it));
    faults.extend(missing.map(|it| format!("the table {it} is not there")));
    let is_bad = |it: &&CheckResult| {
        it.priority.decides() && matches!(it.status, Status::Failed | Status::Inconclusive)
    };
    let bad = asked.checks.iter().filter(is_bad);
    faults.extend(bad.map(|it| format!("{}: {}", it.name, it.summary)));
    faults
}

/// A cause is kept short: its whole is in the execution.
pub fn shortened(failure: Failure) -> Failure {
    /// A function's error, as Lambda words it.
    #[derive(Deserialize)]
    struct LambdaError {
        #[serde(rename = "errorMessage")]
        message: String,
    }
    let message: Result<LambdaError, _> = serde_json::from_str(&failure.cause);
    // Redacted first: half a secret is not recognised as one. A hook may say anything.
    let cause = redact(&message.map_or(failure.cause, |it| it.message));
    Failure {
        error: redact(&failure.error),
        cause: cause.chars().take(CAUSE_CHARS_MAX).collect(),
    }
}

fn limited(lines: Vec<String>) -> String {
    let mut text = String::new();
    for line in lines {
        if text.len() + line.len() > WORDS_BYTES_MAX {
            text.push_str("… more in the record\n");
            break;
        }
        text.push_str(&line);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recover::difference::{Counts, Difference, TableDifference};
    use crate::recover::plan::tests::{NOW, Stage, time};
    use shared::checks::{CheckCode, Subject};
    use shared::policy::Priority;
    use shared::verdict::Code;

    fn failure(error: &str) -> Failure {
        Failure {
            error: error.to_owned(),
            cause: String::new(),
        }
    }

    fn taken() -> Taken {
        Taken {
            at: NOW.parse().unwrap(),
            seconds: 1.5,
        }
    }

    fn good() -> Asked {
        Asked {
            tables: vec!["app.users".to_owned()],
            checks: Vec::new(),
        }
    }

    /// Of a recovery that ended with `error`, and whose unfreeze hook ended with `unfreeze`.
    fn closed(error: &str, unfreeze: &str, change: Change, is_smoked: bool) -> Closed {
        let plan = Stage::new("").plan(time("2026-11-21T02:30:00Z"));
        let close = Close {
            plan_id: plan.plan_id.clone().try_into().unwrap(),
            execution: "arn:x".to_owned(),
            frozen_at: "2026-11-21T03:05:02Z".to_owned(),
            unfrozen_at: String::new(),
            failure: failure(error),
            unfreeze_failure: failure(unfreeze),
            compare_failure: failure(""),
        };
        let smoked = Smoked {
            taken: taken(),
            asked: good(),
            of_branch: false,
            proof: Some(Proof {
                equal: 3,
                not_compared: 1,
            }),
        };
        let mut orders = TableDifference {
            schema: "app".to_owned(),
            name: "orders".to_owned(),
            ..TableDifference::default()
        };
        orders.count(Counts {
            added: 2,
            ..Counts::default()
        });
        let compared = Compared {
            taken: taken(),
            difference: Difference {
                tables: vec![orders],
            },
        };
        Known {
            plan: &plan,
            close: &close,
            decision: None,
            prepared: None,
            validated: None,
            promoted: None,
            change,
            smoked: is_smoked.then_some(&smoked),
            compared: (change == Change::Yes).then_some(&compared),
            left: Vec::new(),
        }
        .closed()
    }

    #[test]
    fn a_recovery_is_good_only_when_production_was_put_back_checked_and_writes_go_on() {
        let recovered = closed("", "", Change::Yes, true);
        assert_eq!(recovered.verdict, Verdict::Recovered);
        assert!(recovered.is_good && recovered.error.is_empty());
        for words in [
            "RECOVERED: production of app",
            "production WAS put back",
            "2026-11-21T03:05:02Z freeze hook called",
            "production checked, 1.5 s",
            "holds what the checked branch holds: 3 tables compared and equal, 1 not compared",
            "- app.orders: 2 rows added since, 0 gone, 0 changed",
        ] {
            assert!(
                recovered.words.contains(words),
                "{words}\n{}",
                recovered.words
            );
        }
        for (case, error) in [
            (closed("", "", Change::No, false), "Failed"),
            (closed("", "", Change::Yes, false), "Failed"),
            (closed("Refused", "", Change::Yes, true), "Refused"),
            (closed("", "Failed", Change::Yes, true), "UnfreezeFailed"),
        ] {
            assert!(!case.is_good && !case.is_quiet, "{case:?}");
            assert_eq!(case.error, error);
        }
    }

    #[test]
    fn whoever_ends_a_stopped_recovery_is_told_that_writes_may_be_stopped() {
        let hooks = "freeze_function = 'lifeboat-hook-a'\nunfreeze_function = 'lifeboat-hook-b'";
        let mut plan = Stage::new(hooks).plan(time("2026-11-21T02:30:00Z"));
        let close: Close =
            serde_json::from_value(serde_json::json!({"plan_id": plan.plan_id})).unwrap();
        let smoked = Smoked {
            taken: taken(),
            asked: good(),
            of_branch: false,
            proof: None,
        };
        let ended = |plan: &Plan, close: &Close| {
            Known {
                plan,
                close,
                decision: None,
                prepared: None,
                validated: None,
                promoted: None,
                change: Change::Yes,
                smoked: Some(&smoked),
                compared: None,
                left: Vec::new(),
            }
            .closed()
        };
        let told = ended(&plan, &close);
        assert!(!told.is_good && !told.is_quiet);
        assert!(
            told.words
                .contains("nothing says that the unfreeze hook lifeboat-hook-b was called"),
            "{}",
            told.words
        );
        let called = Close {
            unfrozen_at: NOW.to_owned(),
            ..close.clone()
        };
        assert!(ended(&plan, &called).is_good);
        plan.unfreeze_function = None;
        assert!(ended(&plan, &close).is_good);
    }

    #[test]
    fn what_was_not_compared_is_not_called_equal() {
        let smoked = |equal, not_compared| Smoked {
            taken: taken(),
            asked: good(),
            of_branch: true,
            proof: Some(Proof {
                equal,
                not_compared,
            }),
        };
        let none = proof(&smoked(0, 12)).join("\n");
        assert!(none.contains("was NOT compared (12 tables)"), "{none}");
        assert!(none.contains("a branch of it was"), "{none}");
        let some = proof(&smoked(1, 2)).join("\n");
        assert!(
            some.contains("1 table compared and equal, 2 not compared"),
            "{some}"
        );
    }

    #[test]
    fn a_persons_no_wakes_nobody_unless_writes_stay_stopped() {
        for (error, verdict) in [
            ("ApprovalRefused", Verdict::Refused),
            ("ApprovalExpired", Verdict::Expired),
        ] {
            let quiet = closed(error, "", Change::No, false);
            assert_eq!((quiet.verdict, quiet.is_quiet), (verdict, true));
            assert_eq!(quiet.error, error);
            assert!(quiet.words.contains("production was NOT changed"));
            let frozen = closed(error, "Failed", Change::No, false);
            assert!(!frozen.is_quiet);
            assert!(
                frozen.words.contains("WRITES MAY STILL BE STOPPED"),
                "{}",
                frozen.words
            );
        }
        // Whoever says that nobody approved, while production is another, is not believed.
        assert_eq!(
            closed("ApprovalRefused", "", Change::Yes, false).verdict,
            Verdict::Failed
        );
    }

    #[test]
    fn what_is_not_known_is_not_denied() {
        let unknown = closed("Transient", "", Change::Unknown, false);
        assert!(!unknown.is_good && !unknown.is_quiet);
        assert!(unknown.words.contains("production MAY have been changed"));
        let refused = closed("ApprovalRefused", "", Change::Unknown, false);
        assert_eq!(refused.verdict, Verdict::Failed);
    }

    #[test]
    fn a_hooks_words_are_kept_without_its_secrets() {
        let failure = Failure {
            error: "Error".to_owned(),
            cause: r#"{"errorMessage":"cannot reach postgres://u:CANARY@h/db"}"#.to_owned(),
        };
        let kept = shortened(failure).cause;
        assert_eq!(kept, "cannot reach postgres://u:***@h/db");
    }

    #[test]
    fn what_is_not_said_to_be_good_is_bad() {
        let subject = Subject {
            code: CheckCode::Sql,
            name: "balanced".to_owned(),
            priority: Priority::P1,
            finding: Code::AssertionFailed,
            remedy: "",
        };
        let with = |check| Asked {
            checks: vec![check],
            ..good()
        };
        assert_eq!(faults(&good(), None), [""; 0]);
        assert_eq!(faults(&with(subject.passed("as expected")), None), [""; 0]);
        let unimportant = Subject {
            priority: Priority::P2,
            ..subject.clone()
        };
        assert_eq!(
            faults(&with(unimportant.failed("it is 7", Vec::new())), None),
            [""; 0]
        );
        let failed = subject.failed("it is 7", Vec::new());
        assert_eq!(faults(&with(failed), None), ["balanced: it is 7"]);
        assert_eq!(
            faults(&with(subject.inconclusive("no time")), None),
            ["balanced: no time"]
        );
        let expected = ["app.users".to_owned(), "app.orders".to_owned()];
        assert_eq!(
            faults(&good(), Some(&expected)),
            ["the table app.orders is not there"]
        );
        let empty = Asked {
            tables: Vec::new(),
            checks: Vec::new(),
        };
        assert_eq!(faults(&empty, None), ["there is no table at all"]);
    }
}
