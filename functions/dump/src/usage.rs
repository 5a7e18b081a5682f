//! What a run took from the machine.

use std::time::Instant;

use nix::sys::resource::{Usage as Resources, UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use shared::manifest::Run;

/// Taken at the start of a run, to be subtracted: a warm function has run before.
#[derive(Debug)]
pub struct Usage {
    started: Instant,
    cpu_before: f64,
}

impl Usage {
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
            cpu_before: cpu_seconds(),
        }
    }

    /// Time, CPU time of this process and its children, and the highest resident memory of
    /// this process; 0 where the system does not tell.
    pub fn record(&self, run: &mut Run, copy_bytes: u64) {
        run.seconds = self.started.elapsed().as_secs_f64();
        run.copy_bytes_per_second = copy_bytes as f64 / run.seconds.max(0.001);
        run.cpu_seconds = cpu_seconds() - self.cpu_before;
        let kib = getrusage(UsageWho::RUSAGE_SELF).map_or(0, |it| it.max_rss());
        run.peak_memory_bytes = u64::try_from(kib).unwrap_or_default() * 1024;
    }
}

fn cpu_seconds() -> f64 {
    let seconds = |it: Resources| {
        let micros = (it.user_time() + it.system_time()).num_microseconds();
        micros as f64 / 1_000_000.0
    };
    [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN]
        .into_iter()
        .filter_map(|who| getrusage(who).ok())
        .map(seconds)
        .sum()
}
