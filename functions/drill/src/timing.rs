//! What took how long, held against the budgets. Pure.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shared::policy::DrillPolicy;

use crate::steps::{StepOutcome, Steps};

/// One step, in the order in which they ran.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timed {
    /// Stable: the engine's phases, and `prepare`, `check`, `destroy`, `failed`.
    pub name: String,
    pub started_at: Timestamp,
    pub seconds: f64,
}

/// A part of the drill, and how long it may take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// `restore`, `verify`, `total`; of a branch `branch`, `checks`, `total`
    pub name: String,
    /// Null where the drill did not get that far.
    pub seconds: Option<f64>,
    pub budget_seconds: f64,
    pub kept: bool,
}

impl Budget {
    pub fn of(name: &str, seconds: Option<f64>, budget_seconds: u32) -> Self {
        let budget_seconds = f64::from(budget_seconds);
        Self {
            name: name.to_owned(),
            seconds,
            budget_seconds,
            // What was not reached was not in time either.
            kept: seconds.is_some_and(|it| it <= budget_seconds),
        }
    }

    /// In words, if it was.
    pub fn missed(&self) -> Option<String> {
        let part = part(&self.name);
        match self.seconds {
            _ if self.kept => None,
            Some(seconds) => Some(format!(
                "{part} took {}, its budget is {}",
                short_seconds(seconds),
                short_seconds(self.budget_seconds)
            )),
            None => Some(format!("{part} was not reached")),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// The drill's own beginning: its run may have drilled others before.
    pub begun_at: Timestamp,
    pub steps: Vec<Timed>,
    pub budgets: Vec<Budget>,
    /// From that beginning to the end of all checks: how long it takes until a restored database is
    /// known to be right.
    pub measured_rto_seconds: Option<f64>,
}

const PROOF: &str = "proof";

pub fn timing(
    begun_at: Timestamp,
    finished_at: Timestamp,
    steps: &Steps,
    policy: Option<&DrillPolicy>,
) -> Timing {
    let mut timed = phases(begun_at, steps);
    let restored_after = timed
        .iter()
        .filter(|it| it.name != PROOF)
        .map(|it| end(begun_at, it));
    let restored_after = restored_after.reduce(f64::max);
    let proof_seconds = timed
        .iter()
        .find(|it| it.name == PROOF)
        .map(|it| it.seconds);
    timed.extend(others(steps));
    let is_restored = steps.restored().is_some_and(|it| it.remaining == 0);
    let check = timed.iter().find(|it| it.name == "check");
    let restore_seconds = restored_after.filter(|_| is_restored);
    let verify_seconds = check.map(|it| it.seconds + proof_seconds.unwrap_or_default());
    let measured_rto_seconds = check.map(|it| end(begun_at, it));
    let total_seconds = Some(between(begun_at, finished_at));
    let budgets = policy.map(|policy| {
        [
            Budget::of("restore", restore_seconds, policy.restore_seconds),
            Budget::of("verify", verify_seconds, policy.verify_seconds),
            Budget::of("total", total_seconds, policy.total_seconds),
        ]
    });
    Timing {
        begun_at,
        steps: timed,
        budgets: budgets.into_iter().flatten().collect(),
        measured_rto_seconds,
    }
}

/// What the engine measured, and what came before it.
fn phases(begun_at: Timestamp, steps: &Steps) -> Vec<Timed> {
    let phases = steps.restored().map(|it| it.phases.as_slice());
    let phases: Vec<Timed> = phases
        .unwrap_or_default()
        .iter()
        .map(|it| Timed {
            name: it.name.clone(),
            started_at: it.started_at,
            seconds: it.seconds,
        })
        .collect();
    let prepared_at = phases.first().map(|it| it.started_at);
    let prepare = prepared_at.map(|at| Timed {
        name: "prepare".to_owned(),
        started_at: begun_at,
        seconds: between(begun_at, at),
    });
    prepare.into_iter().chain(phases).collect()
}

fn others(steps: &Steps) -> Vec<Timed> {
    let named = steps.records.iter().filter_map(|it| {
        let name = match &it.outcome {
            StepOutcome::Restored(_) => return None,
            StepOutcome::Checked(_) => "check",
            StepOutcome::Destroyed => "destroy",
            StepOutcome::NotDestroyed { .. } | StepOutcome::Failed { .. } => "failed",
        };
        Some(Timed {
            name: name.to_owned(),
            started_at: it.started_at,
            seconds: between(it.started_at, it.finished_at),
        })
    });
    named.collect()
}

/// Seconds; what is negative is none.
pub fn between(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64().max(0.0)
}

fn end(begun_at: Timestamp, step: &Timed) -> f64 {
    between(begun_at, step.started_at) + step.seconds
}

/// The name of a step for people.
pub fn label(name: &str) -> &str {
    match name {
        "prepare" => "Prepare",
        "pre_data" => "Schema",
        "data" => "Rows",
        "post_data" => "Indexes",
        "owners" => "Owners",
        "privileges" => "Grants",
        "refresh" => "Mat. views",
        "analyze" => "Statistics",
        "proof" => "Proof",
        "check" => "Checks",
        "destroy" => "Tear down",
        "failed" => "Failed",
        other => other,
    }
}

/// The name of a budget for people.
pub fn part(name: &str) -> &str {
    match name {
        "restore" => "Restore",
        "branch" => "The branch",
        "checks" => "The checks",
        "verify" => "Proof and checks",
        "total" => "Everything",
        other => other,
    }
}

/// `42 s`, `3 min 5 s`, `2 h 4 min`: short enough for a picture.
pub fn short_seconds(seconds: f64) -> String {
    if seconds == 0.0 {
        return "0".to_owned();
    }
    if seconds < 10.0 {
        return format!("{seconds:.1} s");
    }
    #[expect(clippy::cast_possible_truncation, reason = "far below 2^63 seconds")]
    let whole = seconds.round() as i64;
    let (hours, minutes, seconds) = (whole / 3_600, whole / 60 % 60, whole % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds} s"),
        (0, _) if seconds == 0 => format!("{minutes} min"),
        (0, _) => format!("{minutes} min {seconds} s"),
        (_, 0) => format!("{hours} h"),
        _ => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::StepRecord;
    use shared::restore::{Advance, PhaseTime};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + seconds).unwrap()
    }

    fn steps(remaining: u64) -> Steps {
        let phase = |name: &str, from: i64, seconds: f64| PhaseTime {
            name: name.to_owned(),
            started_at: at(from),
            seconds,
        };
        let advance = Advance {
            remaining,
            phases: vec![
                phase("pre_data", 5, 5.0),
                phase("data", 10, 100.0),
                phase("post_data", 110, 30.0),
                phase("proof", 140, 40.0),
            ],
            ..Advance::default()
        };
        let record = |from: i64, to: i64, outcome| StepRecord {
            started_at: at(from),
            finished_at: at(to),
            outcome,
            notes: vec![],
        };
        Steps {
            plan: None,
            records: vec![
                record(0, 185, StepOutcome::Restored(Box::new(advance))),
                record(190, 200, StepOutcome::Checked(vec![])),
                record(201, 203, StepOutcome::Destroyed),
            ],
        }
    }

    fn policy() -> DrillPolicy {
        let json = serde_json::json!({"target": "standby", "restore_seconds": 100});
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn every_step_is_held_against_its_budget() {
        let timing = timing(at(0), at(210), &steps(0), Some(&policy()));
        let names: Vec<&str> = timing.steps.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "prepare",
                "pre_data",
                "data",
                "post_data",
                "proof",
                "check",
                "destroy"
            ]
        );
        let found: Vec<_> = timing
            .budgets
            .iter()
            .map(|it| (it.seconds.unwrap(), it.kept))
            .collect();
        assert_eq!(found, [(140.0, false), (50.0, true), (210.0, true)]);
        assert_eq!(timing.measured_rto_seconds, Some(200.0));
    }

    #[test]
    fn what_was_not_reached_keeps_no_budget() {
        let mut early = steps(3);
        early.records.truncate(1);
        let timing = timing(at(0), at(210), &early, Some(&policy()));
        assert_eq!(
            (timing.budgets[0].seconds, timing.budgets[0].kept),
            (None, false)
        );
        assert_eq!(timing.measured_rto_seconds, None);
    }
}
