//! Faults that a test puts between a function and the cloud.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::Method;

/// Which requests a fault meets, and what becomes of them.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Any method when absent.
    pub method: Option<Method>,
    /// A piece of the path: `/bucket/key` for S3, `/2015-03-31/functions/…` for Lambda, `/` for most others.
    pub path: String,
    /// A piece of the query: `partNumber=2`, `uploads`, `uploadId=`; empty for any.
    pub query: String,
    /// A piece of the `X-Amz-Target` header (`GetSecretValue`); empty for any.
    pub target: String,
    /// The first match that is hit, counted from 1.
    pub from: u32,
    /// How many matches are hit from there on.
    pub times: u32,
    pub action: FaultAction,
}

impl Default for Fault {
    /// Meets every request, once, with a 500.
    fn default() -> Self {
        Self {
            method: None,
            path: String::new(),
            query: String::new(),
            target: String::new(),
            from: 1,
            times: 1,
            action: FaultAction::Status {
                status: 500,
                code: "InternalError".into(),
            },
        }
    }
}

#[derive(Clone, Debug)]
pub enum FaultAction {
    /// The request is not carried out; the answer is this status with an S3 error of this code.
    Status { status: u16, code: String },
    /// The request is not carried out; the connection is closed without an answer.
    Reset,
    /// The request is carried out after a pause.
    Delay(Duration),
    /// The request is carried out; its answer is lost with the connection.
    LoseAnswer,
    /// The request is carried out; the connection breaks after this many bytes of the answer's body.
    CutAnswer(u64),
}

/// The faults in force. Shared between the gateway and the tests.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    rules: Arc<Mutex<Vec<(Fault, u32)>>>,
}

impl Faults {
    pub fn add(&self, fault: Fault) {
        self.rules
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((fault, 0));
    }

    pub fn clear(&self) {
        self.rules
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// How often each fault's pattern has matched, in the order they were added.
    pub fn matches(&self) -> Vec<u32> {
        self.rules
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .map(|(_, seen)| *seen)
            .collect()
    }

    /// Counts the request against every rule and returns the first action that is due.
    pub(crate) fn meet(
        &self,
        method: &Method,
        path: &str,
        query: &str,
        target: &str,
    ) -> Option<FaultAction> {
        let mut due = None;
        for (fault, seen) in self
            .rules
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter_mut()
        {
            let matches = fault.method.as_ref().is_none_or(|wanted| wanted == method)
                && path.contains(&fault.path)
                && query.contains(&fault.query)
                && target.contains(&fault.target);
            if !matches {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_chosen_matches_are_hit() {
        let faults = Faults::default();
        faults.add(Fault {
            path: "/vault/backups/".into(),
            query: "partNumber=".into(),
            from: 2,
            times: 2,
            ..Fault::default()
        });
        let mut hits = Vec::new();
        for part in 1..=4 {
            let query = format!("partNumber={part}&uploadId=x");
            hits.push(
                faults
                    .meet(&Method::PUT, "/vault/backups/app/a", &query, "")
                    .is_some(),
            );
        }
        assert_eq!(hits, [false, true, true, false]);
        assert!(
            faults
                .meet(&Method::PUT, "/work/backups/", "partNumber=1", "")
                .is_none()
        );
        assert_eq!(faults.matches(), [4]);
    }

    #[test]
    fn a_fault_for_one_method_leaves_the_others_alone() {
        let faults = Faults::default();
        faults.add(Fault {
            method: Some(Method::DELETE),
            ..Fault::default()
        });
        assert!(faults.meet(&Method::PUT, "/", "", "").is_none());
        assert!(faults.meet(&Method::DELETE, "/", "", "").is_some());
    }
}
