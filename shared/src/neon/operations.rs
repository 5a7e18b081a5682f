//! Waits for what was begun: every change answers before it is done.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::answers::{OperationAnswer, OperationsAnswer};
use super::transport::Call;
use super::{NeonError, Operation, Project};

/// Hardly anything of ours takes longer, on a project that is well. What does is waited for by
/// the next try, as often as the state machine tries.
const WAIT_MAX: Duration = Duration::from_secs(300);
/// Left to the caller, to say what came of it.
const RESERVE: Duration = Duration::from_secs(10);
/// Neon tries a failed operation again when it says so; when it has not for so long, it will not.
const RETRIED_MAX: Duration = Duration::from_secs(90);
/// One source says that it may do so without saying it.
const FAILED_MAX: Duration = Duration::from_secs(10);
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(3);
const PAGE: &str = "100";

/// How far one operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Done,
    /// States that are not known count as this.
    Going,
    /// May be tried again by Neon.
    Failed,
    /// Will not.
    Ended,
}

fn standing(status: &str) -> Standing {
    match status {
        "finished" | "skipped" => Standing::Done,
        "failed" => Standing::Failed,
        "error" | "cancelled" => Standing::Ended,
        _ => Standing::Going,
    }
}

/// What is still awaited, by id.
#[derive(Debug, Default)]
struct Awaited {
    pending: BTreeMap<String, Operation>,
}

impl Awaited {
    fn of(operations: &[Operation]) -> Self {
        let going = operations
            .iter()
            .filter(|it| standing(&it.status) != Standing::Done);
        Self {
            pending: going.map(|it| (it.id.clone(), it.clone())).collect(),
        }
    }

    fn see(&mut self, seen: Operation) {
        match standing(&seen.status) {
            Standing::Done => {
                self.pending.remove(&seen.id);
            }
            Standing::Going | Standing::Failed | Standing::Ended => {
                if let Some(known) = self.pending.get_mut(&seen.id) {
                    *known = seen;
                }
            }
        }
    }

    fn find(&self, wanted: Standing) -> Option<&Operation> {
        self.pending
            .values()
            .find(|it| standing(&it.status) == wanted)
    }
}

impl Project {
    /// Returns when all of `operations` are done.
    pub async fn finish(
        &self,
        doing: &'static str,
        operations: &[Operation],
    ) -> Result<(), NeonError> {
        let begun = Instant::now();
        let mut awaited = Awaited::of(operations);
        let mut failed_since: Option<Instant> = None;
        let mut pause = PAUSE_FIRST;
        loop {
            if awaited.pending.is_empty() {
                return Ok(());
            }
            if let Some(ended) = awaited.find(Standing::Ended) {
                return Err(failed(doing, ended));
            }
            match (awaited.find(Standing::Failed), failed_since) {
                (None, _) => failed_since = None,
                (Some(_), None) => failed_since = Some(Instant::now()),
                (Some(operation), Some(since)) if since.elapsed() > patience(operation) => {
                    return Err(failed(doing, operation));
                }
                (Some(_), Some(_)) => {}
            }
            let is_late =
                begun.elapsed() > WAIT_MAX || Instant::now() + pause + RESERVE > self.deadline;
            if is_late {
                return Err(not_done(doing, begun, &awaited));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(PAUSE_MAX);
            self.look(doing, &mut awaited).await?;
        }
    }

    /// One request for all that are new enough for the first page; each other one by itself.
    async fn look(&self, doing: &'static str, awaited: &mut Awaited) -> Result<(), NeonError> {
        let mut missing: Vec<String> = awaited.pending.keys().cloned().collect();
        for operation in self.newest_operations(doing).await? {
            missing.retain(|it| *it != operation.id);
            awaited.see(operation);
        }
        for id in missing {
            let path = self.path(&format!("/operations/{id}"));
            // One that is not there yet is only young.
            let answer: Option<OperationAnswer> = self.send(&Call::read(doing, path)).await?;
            if let Some(answer) = answer {
                awaited.see(answer.operation);
            }
        }
        Ok(())
    }

    async fn newest_operations(&self, doing: &'static str) -> Result<Vec<Operation>, NeonError> {
        let call = Call::read(doing, self.path("/operations")).with("limit", PAGE);
        let answer: Option<OperationsAnswer> = self.send(&call).await?;
        Ok(answer.map(|it| it.operations).unwrap_or_default())
    }

    /// What still goes on at one branch, of the newest hundred operations of the project. What
    /// ended long ago says nothing about the branch as it is.
    pub(super) async fn operations_at(
        &self,
        doing: &'static str,
        branch_id: &str,
    ) -> Result<Vec<Operation>, NeonError> {
        let mut operations = self.newest_operations(doing).await?;
        operations.retain(|it| {
            it.branch_id.as_deref() == Some(branch_id)
                && matches!(standing(&it.status), Standing::Going | Standing::Failed)
        });
        Ok(operations)
    }

    /// What goes on in the project, and what failed and is announced to be tried again.
    pub(super) async fn operations_open(
        &self,
        doing: &'static str,
    ) -> Result<Vec<Operation>, NeonError> {
        let mut operations = self.newest_operations(doing).await?;
        operations.retain(|it| match standing(&it.status) {
            Standing::Going => true,
            Standing::Failed => it.retry_at.is_some(),
            Standing::Done | Standing::Ended => false,
        });
        Ok(operations)
    }
}

fn patience(operation: &Operation) -> Duration {
    match operation.retry_at {
        Some(_) => RETRIED_MAX,
        None => FAILED_MAX,
    }
}

fn failed(doing: &'static str, operation: &Operation) -> NeonError {
    NeonError::OperationFailed {
        doing,
        action: operation.action.clone(),
        status: operation.status.clone(),
        message: super::error::shortened(operation.error.as_deref().unwrap_or_default()),
    }
}

fn not_done(doing: &'static str, begun: Instant, awaited: &Awaited) -> NeonError {
    let last = awaited.pending.values().next();
    NeonError::NotDone {
        doing,
        waited_seconds: begun.elapsed().as_secs(),
        last: last
            .map(|it| format!("{} {}", it.action, it.status))
            .unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(id: &str, status: &str) -> Operation {
        Operation {
            id: id.to_owned(),
            branch_id: None,
            action: "create_branch".to_owned(),
            status: status.to_owned(),
            error: None,
            retry_at: None,
        }
    }

    #[test]
    fn everything_is_awaited_until_it_is_finished_or_skipped() {
        let begun = [
            operation("a", "running"),
            operation("b", "scheduling"),
            operation("c", "finished"),
        ];
        let mut awaited = Awaited::of(&begun);
        awaited.see(operation("a", "finished"));
        awaited.see(operation("of-somebody-else", "running"));
        assert_eq!(awaited.pending.len(), 1);
        awaited.see(operation("b", "a_state_of_tomorrow"));
        assert!(awaited.find(Standing::Ended).is_none());
        awaited.see(operation("b", "skipped"));
        assert!(awaited.pending.is_empty());
    }

    #[test]
    fn a_failed_operation_may_recover_and_a_cancelled_one_does_not() {
        let mut awaited = Awaited::of(&[operation("a", "running")]);
        awaited.see(operation("a", "failed"));
        assert!(awaited.find(Standing::Ended).is_none());
        assert!(awaited.find(Standing::Failed).is_some());
        awaited.see(operation("a", "running"));
        assert!(awaited.find(Standing::Failed).is_none());
        for status in ["error", "cancelled"] {
            awaited.see(operation("a", status));
            assert!(awaited.find(Standing::Ended).is_some());
        }
    }
}
