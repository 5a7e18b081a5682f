//! What the work bucket keeps of a recovery, beside the plan's decision: one object for each step
//! that was taken, with its time. A step that is repeated after a lost answer finds its own.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shared::approval::Step;
use shared::checks::CheckResult;

use super::difference::Difference;
use super::plan::Plan;

/// When a step was taken, and how long it took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Taken {
    pub at: Timestamp,
    pub seconds: f64,
}

/// The branch of the point is there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prepared {
    pub taken: Taken,
    pub branch: String,
    pub branch_id: String,
    pub parent_lsn: Option<String>,
    /// The moment that it is of, as Neon says.
    #[serde(default)]
    pub parent_at: Option<Timestamp>,
}

/// What a branch, or production, answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// `schema.table`, in order.
    pub tables: Vec<String>,
    pub checks: Vec<CheckResult>,
}

/// The branch of the point is good.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validated {
    pub taken: Taken,
    pub asked: Asked,
}

/// Production is about to be changed: from now on it may have been.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Promoting {
    pub at: Timestamp,
}

/// Somebody writes down how it ended: nothing that changes production is sent any more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Closing {
    pub at: Timestamp,
}

/// Neon has said no to the change, and to every sending of it before: production is as it was.
/// Nothing is sent for that plan any more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TurnedDown {
    pub at: Timestamp,
}

/// Production was put back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Promoted {
    pub taken: Taken,
    /// Production's, which may be another than before.
    pub branch_id: String,
    /// Of what production was.
    pub kept_id: String,
}

/// How many tables of production hold what the checked branch holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    pub equal: usize,
    /// No time, or nothing that can be compared.
    pub not_compared: usize,
}

/// Production is good.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Smoked {
    pub taken: Taken,
    pub asked: Asked,
    /// Not production itself, which let nobody of ours in, but a branch of it.
    #[serde(default)]
    pub of_branch: bool,
    /// Production against the branch of the point, as far as there was time; null: writes were
    /// not stopped, so that they may differ.
    pub proof: Option<Proof>,
}

/// What changed since the point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    pub taken: Taken,
    pub difference: Difference,
}

impl Step for Plan {
    const NAME: &'static str = "plan";
}
impl Step for Prepared {
    const NAME: &'static str = "prepared";
}
impl Step for Validated {
    const NAME: &'static str = "validated";
}
impl Step for Promoting {
    const NAME: &'static str = "promoting";
}
impl Step for Closing {
    const NAME: &'static str = "closing";
}
impl Step for TurnedDown {
    const NAME: &'static str = "turned-down";
}
impl Step for Promoted {
    const NAME: &'static str = "promoted";
}
impl Step for Smoked {
    const NAME: &'static str = "smoked";
}
impl Step for Compared {
    const NAME: &'static str = "compared";
}
impl Step for super::outcome::Closed {
    const NAME: &'static str = "closed";
}
