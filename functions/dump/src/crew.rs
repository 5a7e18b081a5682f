//! The threads of a copy: workers on the snapshot, the coordinator for what only it may
//! copy, and a watcher that looks whom we keep waiting and how much time is left.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use shared::pg::Connection;
use tracing::info;

use crate::coordinator;
use crate::copy::{Copied, Copier, Holds, JobError};
use crate::engine::Sessions;
use crate::error::DumpError;
use crate::plan::{Job, Plan};
use crate::progress::Standing;
use crate::stop::Stop;

/// The coordinator is asked for a sign of life this often; providers end idle sessions.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const REPORT_EVERY: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub struct Crew<'a> {
    pub copier: &'a Copier<'a>,
    pub plan: &'a Plan,
    pub deadline: Instant,
    pub yield_after: Duration,
    /// Jobs that have not been copied yet, whoever has them.
    pub remaining: AtomicUsize,
    pub queue: Mutex<Vec<Job>>,
    /// Jobs whose lock a worker was refused.
    pub refused: Mutex<Vec<Job>>,
    pub copied: Mutex<Vec<Copied>>,
}

impl Crew<'_> {
    /// Runs every job, or fails with the first failure of any thread.
    pub fn copy(&self, sessions: &mut Sessions) -> Result<Vec<Copied>, DumpError> {
        let stop = self.copier.stop;
        let Sessions {
            coordinator,
            watcher,
            workers,
        } = sessions;
        let failed = |source| DumpError::Query {
            doing: "for a second handle",
            source,
        };
        let mut ours = Vec::new();
        for session in workers.iter_mut().chain([&mut *coordinator, &mut *watcher]) {
            stop.watch(session.hangup().map_err(failed)?);
            // Not the id of the key data: a session pooler makes its own.
            let pid = session
                .query_value("SELECT pg_backend_pid()")
                .map_err(failed)?;
            ours.extend(pid.parse::<i32>());
        }
        let is_done = AtomicBool::new(false);
        thread::scope(|scope| {
            for worker in workers.iter_mut() {
                scope.spawn(|| self.guarded(|| self.work(worker)));
            }
            scope.spawn(|| self.guarded(|| self.look(watcher, &ours, &is_done)));
            self.guarded(|| self.coordinate(coordinator));
            is_done.store(true, Ordering::Release);
        });
        stop.check()?;
        Ok(std::mem::take(&mut *lock(&self.copied)))
    }

    /// A thread that panics must not leave the others waiting for it.
    fn guarded(&self, work: impl FnOnce()) {
        struct Guard<'a>(&'a Stop);
        impl Drop for Guard<'_> {
            fn drop(&mut self) {
                if thread::panicking() {
                    self.0.fail(DumpError::Internal("a thread panicked"));
                }
            }
        }
        let _guard = Guard(self.copier.stop);
        work();
    }

    fn work(&self, connection: &mut Connection) {
        while !self.copier.stop.is_stopped() {
            let Some(job) = lock(&self.queue).pop() else {
                return;
            };
            match self.copier.run(connection, Holds::Imports, &job) {
                Ok(copied) => self.keep(copied),
                Err(JobError::LockRefused) => lock(&self.refused).push(job),
                Err(JobError::Dump(error)) => self.copier.stop.fail(error),
            }
        }
    }

    fn keep(&self, copied: Copied) {
        lock(&self.copied).push(copied);
        self.remaining.fetch_sub(1, Ordering::AcqRel);
    }

    /// Copies what workers were refused, and otherwise stays alive.
    fn coordinate(&self, connection: &mut Connection) {
        let stop = self.copier.stop;
        let mut asked = Instant::now();
        while !stop.is_stopped() && self.remaining.load(Ordering::Acquire) > 0 {
            let job = lock(&self.refused).pop();
            if let Some(job) = job {
                match self.copier.run(connection, Holds::Itself, &job) {
                    Ok(copied) => self.keep(copied),
                    Err(JobError::LockRefused) => {
                        stop.fail(DumpError::Internal("the coordinator asked for a lock"));
                    }
                    Err(JobError::Dump(error)) => stop.fail(error),
                }
                continue;
            }
            if asked.elapsed() > KEEP_ALIVE {
                asked = Instant::now();
                if let Err(error) = coordinator::is_alive(connection) {
                    stop.fail(error);
                }
            }
            thread::sleep(TICK);
        }
    }

    fn look(&self, connection: &mut Connection, ours: &[i32], is_done: &AtomicBool) {
        let stop = self.copier.stop;
        let started = Instant::now();
        let (mut reported, mut looked) = (started, started);
        while !stop.is_stopped() && !is_done.load(Ordering::Acquire) {
            thread::sleep(TICK);
            let standing = self.standing(started);
            if standing.cannot_finish() {
                stop.fail(out_of_time(&standing));
            }
            if reported.elapsed() > REPORT_EVERY {
                reported = Instant::now();
                self.report(&standing);
            }
            if looked.elapsed() > LOOK_EVERY {
                looked = Instant::now();
                match coordinator::blocked_session(connection, ours, self.yield_after) {
                    Ok(None) => {}
                    Ok(Some(error)) => stop.fail(error),
                    Err(source) if stop.is_stopped() => drop(source),
                    Err(source) => {
                        stop.fail(DumpError::Query {
                            doing: "who waits for us",
                            source,
                        });
                    }
                }
            }
        }
        self.report(&self.standing(started));
    }

    fn standing(&self, started: Instant) -> Standing {
        Standing {
            weight_done: self.copier.counters.weight_done.load(Ordering::Relaxed),
            weight_total: self.plan.weight,
            elapsed: started.elapsed(),
            left: self.deadline.saturating_duration_since(Instant::now()),
        }
    }

    fn report(&self, standing: &Standing) {
        let copy_bytes = self.copier.counters.copy_bytes.load(Ordering::Relaxed);
        let seconds = standing.elapsed.as_secs_f64();
        let left = standing
            .forecast_seconds()
            .map(|all| (all - seconds).max(0.0));
        info!(
            jobs_done = self.copier.counters.jobs_done.load(Ordering::Relaxed),
            jobs_total = self.plan.jobs.len(),
            tables_total = self.plan.tables.len(),
            copy_bytes,
            percent = standing.percent(),
            seconds,
            seconds_left = left,
            "progress"
        );
    }
}

fn out_of_time(standing: &Standing) -> DumpError {
    let elapsed = standing.elapsed.as_secs();
    let needed = standing
        .forecast_seconds()
        .map_or(u64::MAX, |it| it.ceil() as u64);
    DumpError::OutOfTime {
        done_percent: standing.percent(),
        elapsed_seconds: elapsed,
        needed_seconds: needed,
        left_seconds: standing.left.as_secs(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
