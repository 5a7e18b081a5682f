//! Each kind of run with every fault at every request, for `make slow`.

use super::{Job, everything};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "minutes of both processors: make slow"]
async fn a_backup_survives_every_fault_at_every_request() {
    everything(Job::Backup).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "minutes of both processors: make slow"]
async fn a_run_over_the_branches_survives_every_fault_at_every_request() {
    everything(Job::Branches { compares: true }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "minutes of both processors: make slow"]
async fn a_drill_of_a_branch_survives_every_fault_at_every_request() {
    everything(Job::Drill).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "minutes of both processors: make slow"]
async fn a_rehearsal_survives_every_fault_at_every_request() {
    everything(Job::Rehearsal).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "minutes of both processors: make slow"]
async fn a_restore_into_a_branch_survives_every_fault_at_every_request() {
    everything(Job::RestoreBranch).await;
}
