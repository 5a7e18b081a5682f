//! How far the copy is, and whether it can finish in time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Before this, a rate says nothing.
const SETTLING: Duration = Duration::from_secs(15);
/// Kept for completing uploads and writing the manifest.
pub const COMMIT_MARGIN: Duration = Duration::from_secs(5);
/// A forecast may be off by this factor before the run is given up on it.
const DOUBT: f64 = 1.3;
/// A running job counts at most this share of its weight: only its end proves the rest.
const RUNNING_SHARE: f64 = 0.95;

/// Shared by all connections.
#[derive(Debug, Default)]
pub struct Counters {
    pub copy_bytes: AtomicU64,
    pub jobs_done: AtomicU64,
    /// Bytes on disk whose rows have been copied, as far as can be told.
    pub weight_done: AtomicU64,
}

/// Turns the bytes of one job into its share of the work.
#[derive(Debug)]
pub struct JobProgress<'a> {
    counters: &'a Counters,
    weight: u64,
    counted: u64,
    pending: u64,
}

/// Counting every row on its own would cost more than hashing it.
const COUNT_AT_BYTES: u64 = 256 << 10;

impl<'a> JobProgress<'a> {
    pub fn new(counters: &'a Counters, weight: u64) -> Self {
        Self {
            counters,
            weight,
            counted: 0,
            pending: 0,
        }
    }

    /// True now and then: time to look whether the run was stopped.
    pub fn add(&mut self, bytes: usize) -> bool {
        self.pending += bytes as u64;
        if self.pending < COUNT_AT_BYTES {
            return false;
        }
        self.flush();
        true
    }

    fn flush(&mut self) {
        self.counters
            .copy_bytes
            .fetch_add(self.pending, Ordering::Relaxed);
        // A row's text takes about what the row takes on disk.
        let most = (self.weight as f64 * RUNNING_SHARE) as u64;
        let step = self.pending.min(most.saturating_sub(self.counted));
        self.counters.weight_done.fetch_add(step, Ordering::Relaxed);
        self.counted += step;
        self.pending = 0;
    }

    pub fn finish(mut self) {
        self.flush();
        self.counters
            .weight_done
            .fetch_add(self.weight - self.counted, Ordering::Relaxed);
        self.counters.jobs_done.fetch_add(1, Ordering::Relaxed);
    }
}

/// Where the copy stands.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    pub weight_done: u64,
    pub weight_total: u64,
    /// Of the copy, not of the whole run.
    pub elapsed: Duration,
    /// Until the invocation ends.
    pub left: Duration,
}

impl Standing {
    fn share(&self) -> f64 {
        if self.weight_total == 0 {
            return 1.0;
        }
        self.weight_done as f64 / self.weight_total as f64
    }

    pub fn percent(&self) -> u64 {
        (self.share() * 100.0) as u64
    }

    /// Seconds that the whole copy takes, if it goes on like this.
    pub fn forecast_seconds(&self) -> Option<f64> {
        let share = self.share();
        (share > 0.0).then(|| self.elapsed.as_secs_f64() / share)
    }

    /// Whether to give up now, cleanly, rather than be killed later.
    pub fn cannot_finish(&self) -> bool {
        if self.left <= COMMIT_MARGIN {
            return true;
        }
        if self.elapsed < SETTLING {
            return false;
        }
        let usable = (self.left - COMMIT_MARGIN).as_secs_f64();
        match self.forecast_seconds() {
            Some(all) => (all - self.elapsed.as_secs_f64()) > usable * DOUBT,
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(weight_done: u64, elapsed: u64, left: u64) -> Standing {
        Standing {
            weight_done,
            weight_total: 1_000,
            elapsed: Duration::from_secs(elapsed),
            left: Duration::from_secs(left),
        }
    }

    #[test]
    fn a_dump_that_cannot_finish_is_given_up_early() {
        // A tenth in a minute: nine more minutes needed.
        assert!(standing(100, 60, 300).cannot_finish());
        assert!(!standing(100, 60, 600).cannot_finish());
    }

    #[test]
    fn the_first_seconds_prove_nothing() {
        assert!(!standing(1, 10, 300).cannot_finish());
    }

    #[test]
    fn the_last_seconds_belong_to_the_commit() {
        assert!(standing(999, 600, 4).cannot_finish());
    }

    #[test]
    fn a_running_job_never_counts_as_done() {
        let counters = Counters::default();
        let mut job = JobProgress::new(&counters, 1_000_000);
        while !job.add(100_000) {}
        for _ in 0..100 {
            job.add(100_000);
        }
        assert_eq!(counters.weight_done.load(Ordering::Relaxed), 950_000);
        job.finish();
        assert_eq!(counters.weight_done.load(Ordering::Relaxed), 1_000_000);
    }
}
