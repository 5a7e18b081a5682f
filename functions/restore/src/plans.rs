//! What the work bucket keeps of a plan of ours, beside the decision and its tokens: the plan,
//! that it was used, what came of it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shared::approval::{ApprovalError, Step};
use shared::restore::Advance;

use crate::Function;
use crate::error::RestoreFailed;
use crate::plan::{FORMAT, Plan};
use crate::report::Summary;

/// Whose it is from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consumed {
    /// The execution, or that a person did it by hand.
    pub by: String,
    pub at: Timestamp,
}

/// Every job is done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Done {
    pub at: Timestamp,
    pub advance: Advance,
}

/// The plan's life is over; this is what was said about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Closed {
    pub summary: Summary,
}

impl Step for Plan {
    const NAME: &'static str = "plan";
}
impl Step for Consumed {
    const NAME: &'static str = "consumed";
}
impl Step for Done {
    const NAME: &'static str = "done";
}
impl Step for Closed {
    const NAME: &'static str = "closed";
}

impl Function {
    /// The plan of this id.
    pub(crate) async fn plan_of(&self, plan_id: &str) -> Result<Plan, RestoreFailed> {
        let plan: Option<Plan> = self.approvals.read(plan_id).await?;
        match plan {
            Some(plan) if plan.format == FORMAT && plan.plan_id == plan_id => Ok(plan),
            Some(_) => {
                let key = self.approvals.key(plan_id, Plan::NAME);
                Err(ApprovalError::Malformed { key }.into())
            }
            None => Err(RestoreFailed::NoPlan(plan_id.to_owned())),
        }
    }
}
