//! What one invocation reads: as many objects as its deadline allows, a few at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use age::x25519::Identity;
use shared::body::{Source, body};
use shared::store::{Bucket, StoreError, StoreErrorKind};
use shared::verdict::{Code, Finding};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
use tracing::info;

use crate::jobs::{Job, Jobs, Outlook};
use crate::object::{Checked, Claims};
use crate::progress::Progress;

const LOG_EVERY: Duration = Duration::from_secs(2);
/// An object that would need this many invocations will not fit the next one either.
const INVOCATIONS_HOPELESS: f64 = 1.5;
/// Decoded for a smaller part of an invocation, an object says nothing about its rate.
const SHARE_TELLING: f64 = 0.5;

/// What all objects of an invocation are read with. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Pass {
    pub(crate) vault: Bucket,
    pub(crate) claims: Arc<Claims>,
    pub(crate) identities: Arc<[Identity]>,
    /// One for each vCPU: decoding is bound by it.
    pub(crate) threads: Arc<Semaphore>,
    /// Reading stops here, so that there is time to write down what was found.
    pub(crate) until: Instant,
}

#[derive(Debug, thiserror::Error)]
pub enum PassError {
    #[error(
        "{key} does not fit into one invocation: {fetched_bytes} of its {stored_bytes} bytes were read in the {seconds:.1} s there were, it needs about {needed:.1} s: give the function more time or memory"
    )]
    OutOfTime {
        key: String,
        fetched_bytes: u64,
        stored_bytes: u64,
        seconds: f64,
        needed: f64,
    },
    #[error("a thread that reads an object ended by itself")]
    Thread(#[source] JoinError),
}

/// One object, read or given up.
struct Ended {
    job: Job,
    outcome: Outcome,
    /// How long it was decoded.
    seconds: f64,
    fetched_bytes: u64,
}

/// How far one object has come.
#[derive(Debug, Default)]
struct Reading {
    decoded_since: OnceLock<Instant>,
    fetched_bytes: AtomicU64,
}

enum Outcome {
    Checked { checked: Checked, busy: Duration },
    Unread(StoreError),
    OutOfTime,
    Broken(JoinError),
}

impl Pass {
    /// Reads objects that `progress` does not have yet, and says how many are left.
    ///
    /// # Errors
    ///
    /// Not one object could be read to its end, or one never will be.
    pub(crate) async fn run(
        &self,
        progress: &mut Progress,
        is_left: impl Fn(usize) -> bool,
    ) -> Result<usize, PassError> {
        let objects = &self.claims.manifest.objects;
        let mut jobs = Jobs::new(objects, is_left, self.threads.available_permits());
        let begun = Instant::now();
        let fetched = Arc::new(AtomicU64::new(progress.totals.stored_bytes));
        let mut meter = Meter::new(progress.work_per_second);
        let mut tasks = JoinSet::new();
        let mut given_up = Vec::new();
        let mut logged = Instant::now();
        let (mut n_started, mut n_read) = (0, 0);
        loop {
            let outlook = Outlook {
                seconds_left: seconds(begun, self.until) - begun.elapsed().as_secs_f64(),
                work_per_second: meter.work_per_second(),
            };
            if let Some(job) = jobs.start(outlook, n_started == 0) {
                tasks.spawn(self.clone().read_in_time(job, fetched.clone()));
                n_started += 1;
                continue;
            }
            if logged.elapsed() >= LOG_EVERY {
                self.log(progress, begun, &fetched);
                logged = Instant::now();
            }
            let ended = tokio::select! {
                ended = tasks.join_next() => ended,
                () = tokio::time::sleep(LOG_EVERY) => continue,
            };
            let Some(ended) = ended else { break };
            let ended = ended.map_err(PassError::Thread)?;
            jobs.end(ended.job);
            match ended.outcome {
                Outcome::Checked { checked, busy } => {
                    n_read += 1;
                    meter.add(ended.job, busy);
                    progress.add(ended.job.index, checked);
                }
                Outcome::Unread(error) => {
                    n_read += 1;
                    progress.add(ended.job.index, self.unread(ended.job.index, &error));
                }
                Outcome::OutOfTime => given_up.push(ended),
                Outcome::Broken(error) => return Err(PassError::Thread(error)),
            }
        }
        progress.work_per_second = meter.work_per_second();
        progress.seconds += begun.elapsed().as_secs_f64();
        self.log(progress, begun, &fetched);
        // The largest is what is in the way.
        given_up.sort_by_key(|it: &Ended| std::cmp::Reverse(it.job.work));
        self.refuse_the_hopeless(&given_up, n_read == 0, seconds(begun, self.until))?;
        Ok(jobs.waiting() + given_up.len())
    }

    fn refuse_the_hopeless(
        &self,
        given_up: &[Ended],
        is_stuck: bool,
        seconds_in_all: f64,
    ) -> Result<(), PassError> {
        for ended in given_up {
            let object = &self.claims.manifest.objects[ended.job.index];
            let share = ended.fetched_bytes.max(1) as f64 / object.stored_bytes.max(1) as f64;
            let needed = ended.seconds / share;
            let is_hopeless = ended.seconds > SHARE_TELLING * seconds_in_all
                && needed > INVOCATIONS_HOPELESS * seconds_in_all;
            if is_stuck || is_hopeless {
                return Err(PassError::OutOfTime {
                    key: object.key.clone(),
                    fetched_bytes: ended.fetched_bytes,
                    stored_bytes: object.stored_bytes,
                    seconds: seconds_in_all,
                    needed,
                });
            }
        }
        Ok(())
    }

    async fn read_in_time(self, job: Job, fetched_of_all: Arc<AtomicU64>) -> Ended {
        let reading = Reading::default();
        let read = self.read(job.index, &reading, &fetched_of_all);
        let outcome = tokio::time::timeout_at(self.until.into(), read).await;
        let since = reading.decoded_since.get();
        Ended {
            job,
            outcome: outcome.unwrap_or(Outcome::OutOfTime),
            seconds: since.map_or(0.0, |it| it.elapsed().as_secs_f64()),
            fetched_bytes: reading.fetched_bytes.into_inner(),
        }
    }

    /// Dropped on the way, the thread ends by itself: its body breaks off.
    async fn read(&self, index: usize, reading: &Reading, fetched_of_all: &AtomicU64) -> Outcome {
        let object = &self.claims.manifest.objects[index];
        let source = Source {
            bucket: &self.vault,
            key: &object.key,
            version_id: object.version_id.as_deref(),
            fetched_bytes: [&reading.fetched_bytes, fetched_of_all],
        };
        let opened = match self.vault.open(source.key, source.version_id, 0).await {
            Ok(opened) => opened,
            Err(error) => return Outcome::Unread(error),
        };
        let found_bytes = opened.1;
        let (feed, body) = body();
        let check = async {
            // Never closed, so this never fails; held until the thread is done.
            let permit = self.threads.acquire().await;
            let begun = *reading.decoded_since.get_or_init(Instant::now);
            let (claims, identities) = (self.claims.clone(), self.identities.clone());
            let thread = tokio::task::spawn_blocking(move || {
                claims.check(index, body, found_bytes, &identities)
            });
            let checked = thread.await;
            drop(permit);
            (checked, begun.elapsed())
        };
        let (fed, (checked, busy)) = tokio::join!(source.feed(opened, feed), check);
        match (fed, checked) {
            (Ok(()), Ok(Ok(checked))) => Outcome::Checked { checked, busy },
            (_, Err(error)) => Outcome::Broken(error),
            (Err(error), Ok(_)) => Outcome::Unread(error),
            (Ok(()), Ok(Err(error))) => Outcome::Unread(StoreError {
                operation: "read",
                key: object.key.clone(),
                kind: StoreErrorKind::Unavailable(error.to_string()),
            }),
        }
    }

    fn unread(&self, index: usize, error: &StoreError) -> Checked {
        let object = &self.claims.manifest.objects[index];
        let (code, message) = if matches!(error.kind, StoreErrorKind::NotFound) {
            let version = object.version_id.as_deref();
            let version = version.map_or(String::new(), |it| format!(" in its version {it}"));
            let message = format!(
                "the object does not exist{version}: what it held is lost; restore from another backup"
            );
            (Code::ObjectMissing, message)
        } else {
            let message = format!("it could not be read, so nothing is known about it: {error}");
            (Code::ObjectUnreadable, message)
        };
        Checked {
            findings: vec![Finding {
                code,
                object: Some(object.key.clone()),
                window: None,
                message,
            }],
            ..Checked::default()
        }
    }

    fn log(&self, progress: &Progress, begun: Instant, fetched: &AtomicU64) {
        info!(
            objects_done = progress.done.len(),
            objects_total = self.claims.manifest.objects.len(),
            stored_bytes = fetched.load(Ordering::Relaxed),
            copy_bytes = progress.totals.copy_bytes,
            seconds = begun.elapsed().as_secs_f64(),
            "progress"
        );
    }
}

fn seconds(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64()
}

/// Measures how fast one thread works, on objects large enough to tell.
struct Meter {
    before: Option<f64>,
    work: u64,
    busy: Duration,
}

impl Meter {
    fn new(before: Option<f64>) -> Self {
        Self {
            before,
            work: 0,
            busy: Duration::ZERO,
        }
    }

    fn add(&mut self, job: Job, busy: Duration) {
        if !job.is_small {
            self.work += job.work;
            self.busy += busy;
        }
    }

    fn work_per_second(&self) -> Option<f64> {
        if self.busy.is_zero() {
            return self.before;
        }
        Some(self.work as f64 / self.busy.as_secs_f64())
    }
}
