//! Faults that a test puts between a client and the stand-in, and into its operations.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::Method;
use tokio::sync::Semaphore;

use super::server::NeonCall;
use super::{Neon, NeonError};

/// Which requests a fault meets, and what becomes of them.
#[derive(Clone, Debug)]
pub struct NeonFault {
    /// That they are about, or whose key they bring. Any project when absent.
    pub project: Option<String>,
    /// Any method when absent.
    pub method: Option<Method>,
    /// How the path ends, such as `/branches`; or, with `/` at its own end, a piece of it. Empty for any.
    pub path: String,
    /// As [`NeonCall::route`] gives it. Any route when absent.
    pub route: Option<String>,
    /// The first match that is hit, counted from 1.
    pub from: u32,
    /// How many matches are hit from there on.
    pub times: u32,
    pub action: NeonFaultAction,
}

impl Default for NeonFault {
    /// Meets the first request, once, with a 503.
    fn default() -> Self {
        Self {
            project: None,
            method: None,
            path: String::new(),
            route: None,
            from: 1,
            times: 1,
            action: NeonFaultAction::Unavailable,
        }
    }
}

impl NeonFault {
    fn concerns(&self, call: &NeonCall, route: &str) -> bool {
        let is_path = if self.path.ends_with('/') {
            call.path.contains(&self.path)
        } else {
            call.path.ends_with(&self.path)
        };
        let is_project = |it: &String| call.project.as_ref() == Some(it);
        is_path
            && self.project.as_ref().is_none_or(is_project)
            && self.method.as_ref().is_none_or(|it| *it == call.method)
            && self.route.as_ref().is_none_or(|it| it == route)
    }
}

#[derive(Clone, Debug)]
pub enum NeonFaultAction {
    /// 423, as while another operation of the project runs. Not carried out.
    Locked,
    /// 429. Not carried out.
    TooManyRequests { retry_after: Option<String> },
    /// 503 in the API's own form. Not carried out.
    Unavailable,
    /// A page of whatever stands before the API (500, 503, 524). Not carried out.
    Html(u16),
    /// 404, as for what was made a moment ago. Not carried out.
    NotFound,
    /// 422 with this code. Not carried out.
    Limit(&'static str),
    /// Carried out after a pause; for longer than a client waits, a timeout.
    Delay(Duration),
    /// Carried out when the test lets it through: each request uses up one permit.
    Hold(Arc<Semaphore>),
    /// Not carried out, and never answered.
    Silence,
    /// Not carried out; the connection is closed without an answer.
    Reset,
    /// Carried out; the answer is lost with the connection.
    LoseAnswer,
    /// Carried out; what arrives is a page and status 524, as when the API took too long.
    HideAnswer,
    /// Carried out; half of the answer's text arrives as if it were whole.
    CutAnswer,
}

/// What becomes of the next operation of some action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationFault {
    /// `failed`, then tried again with success after this long.
    FailsOnce(Duration),
    /// Ends as `failed`, for good, though one source says that such an operation is tried again; nothing of it is done.
    Fails,
    /// Ends as `error`; nothing of it is done.
    IsInError,
    /// Ends as `cancelled`; nothing of it is done.
    IsCancelled,
    /// `running` until [`NeonFaults::clear`].
    Hangs,
}

/// The faults in force. Shared between the stand-in and the tests.
#[derive(Clone, Debug, Default)]
pub struct NeonFaults {
    rules: Arc<Mutex<Rules>>,
}

#[derive(Debug, Default)]
struct Rules {
    requests: Vec<(NeonFault, u32)>,
    /// Of one project, or of any.
    operations: Vec<(Option<String>, &'static str, OperationFault)>,
}

impl NeonFaults {
    pub fn add(&self, fault: NeonFault) {
        self.rules().requests.push((fault, 0));
    }

    /// The next operation with this action, such as `create_branch` or `start_compute`.
    pub fn add_operation(&self, action: &'static str, fault: OperationFault) {
        self.rules().operations.push((None, action, fault));
    }

    /// The next one of this project.
    pub fn add_operation_of(&self, project: &str, action: &'static str, fault: OperationFault) {
        let rule = (Some(project.to_owned()), action, fault);
        self.rules().operations.push(rule);
    }

    fn operations_left(&self, project: &str) -> Vec<&'static str> {
        let rules = self.rules();
        let of_this = rules.operations.iter();
        let of_this = of_this.filter(|(whose, _, _)| whose.as_deref() == Some(project));
        of_this.map(|(_, action, _)| *action).collect()
    }

    pub fn clear(&self) {
        *self.rules() = Rules::default();
    }

    /// How often each request fault's pattern has matched, in the order they were added.
    #[must_use]
    pub fn matches(&self) -> Vec<u32> {
        self.rules()
            .requests
            .iter()
            .map(|(_, seen)| *seen)
            .collect()
    }

    /// Counts the request against every rule and returns the first action that is due.
    pub(super) fn meet(&self, call: &NeonCall) -> Option<NeonFaultAction> {
        let (mut due, route) = (None, call.route());
        for (fault, seen) in &mut self.rules().requests {
            if !fault.concerns(call, &route) {
                continue;
            }
            *seen += 1;
            let hit = *seen >= fault.from && *seen - fault.from < fault.times;
            if hit && due.is_none() {
                due = Some(fault.action.clone());
            }
        }
        due
    }

    pub(super) fn take_operation(&self, project: &str, action: &str) -> Option<OperationFault> {
        let operations = &mut self.rules().operations;
        let is_due = |(whose, of, _): &(Option<String>, &str, OperationFault)| {
            *of == action && whose.as_deref().is_none_or(|it| it == project)
        };
        let index = operations.iter().position(is_due)?;
        Some(operations[index].2).inspect(|fault| {
            if *fault != OperationFault::Hangs {
                operations.remove(index);
            }
        })
    }

    fn rules(&self) -> std::sync::MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Neon {
    /// The actions whose faults, made for this project, no operation has met when all have ended.
    ///
    /// # Errors
    ///
    /// There is no such project.
    pub fn unmet_operations(&self, project: &str) -> Result<Vec<&'static str>, NeonError> {
        self.settle(project)?;
        Ok(self.faults().operations_left(project))
    }
}
