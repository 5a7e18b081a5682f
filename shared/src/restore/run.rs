//! Runs the jobs of one invocation: a few connections, each with one job at a time.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use age::x25519::Identity;
use tokio::task::JoinSet;
use tracing::info;

use super::jobs::{Job, Program};
use super::ledger::{Ledger, Numbers};
use super::queue::{Outlook, Queue};
use super::session::{Mode, Session};
use super::task::Task;
use super::{RestoreError, Until, prove};
use crate::archive::TableOfContents;
use crate::database_url::DatabaseUrl;
use crate::manifest::Manifest;
use crate::pg::{Cancel, Hangup, PgError};
use crate::store::{Bucket, StoreError};

/// What was cancelled at the deadline rolls back in this time, or is hung up.
const GRACE: Duration = Duration::from_secs(3);
const LOG_EVERY: Duration = Duration::from_secs(2);

/// What every job of a run needs. Behind an `Arc`.
#[allow(missing_debug_implementations, reason = "holds keys")]
pub(super) struct Context {
    pub(super) manifest: Arc<Manifest>,
    pub(super) toc: Arc<TableOfContents>,
    pub(super) vault: Bucket,
    pub(super) identities: Arc<[Identity]>,
    pub(super) program: Program,
    pub(super) ledger: Ledger,
    pub(super) url: DatabaseUrl,
    /// Statements that every session begins with, for loading and for reading.
    pub(super) pins: HashMap<Mode, Vec<u8>>,
    /// Blocks of the tables that are proven in slices, once measured.
    pub(super) sizes: Mutex<prove::Sizes>,
    pub(super) board: Switchboard,
}

/// Why a job did not end with its record.
#[derive(Debug)]
pub(super) enum Failure {
    Server(PgError),
    /// Another session committed it.
    AlreadyDone,
    Damaged {
        key: String,
        what: String,
    },
    /// The body broke off; why, its feed knows.
    Storage(io::Error),
    Store(StoreError),
    Error(RestoreError),
    Internal(String),
    /// There was no time left for it. Never a failure of the restore.
    Cut,
}

impl Failure {
    pub(super) fn of(source: PgError) -> Self {
        let is_claimed = matches!(&source, PgError::Server(error)
            if error.code == "23505" && error.message.contains(super::ledger::CLAIMED));
        if is_claimed {
            Self::AlreadyDone
        } else {
            Self::Server(source)
        }
    }
}

impl Context {
    pub(super) fn sizes(&self) -> prove::Sizes {
        lock(&self.sizes).clone()
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A thread that panicked has left a whole value behind: all updates are single steps.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends what is running, from outside.
#[derive(Debug, Default)]
pub(super) struct Switchboard {
    is_stopped: AtomicBool,
    running: Mutex<HashMap<usize, (Cancel, Hangup)>>,
}

impl Switchboard {
    fn cancel_all(&self) {
        self.is_stopped.store(true, Ordering::Release);
        let running: Vec<Cancel> = lock(&self.running)
            .values()
            .map(|it| it.0.clone())
            .collect();
        for cancel in running {
            // Who cannot be asked is hung up after the grace.
            let _asked = cancel.now();
        }
    }

    fn hang_up_all(&self) {
        lock(&self.running).values().for_each(|it| it.1.now());
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    /// From now on it can be ended. False: it is too late to begin.
    pub(super) fn add(&self, index: usize, handles: (Cancel, Hangup)) -> bool {
        lock(&self.running).insert(index, handles);
        !self.is_stopped()
    }

    pub(super) fn remove(&self, index: usize) {
        lock(&self.running).remove(&index);
    }
}

/// What one invocation did.
#[derive(Debug, Default)]
pub(super) struct Ran {
    pub(super) bytes_read: u64,
    pub(super) done: usize,
    /// The largest job that the deadline cut: what, and for how long it ran.
    pub(super) cut: Option<(String, f64, f64)>,
    pub(super) failure: Option<RestoreError>,
    /// Idle, and nobody is about to cancel them.
    pub(super) sessions: Vec<Session>,
}

/// A job, done or not.
pub(super) struct Ended {
    pub(super) index: usize,
    pub(super) session: Option<Session>,
    pub(super) outcome: Result<Numbers, Failure>,
    pub(super) seconds: f64,
}

/// As many jobs as fit before `until`, on so many connections; some may be open already.
pub(super) async fn run(
    context: &Arc<Context>,
    queue: &mut Queue<'_>,
    (connections, sessions): (usize, Vec<Session>),
    until: Until,
) -> Ran {
    let fetched = Arc::new(AtomicU64::new(0));
    let mut crew = Crew {
        context,
        fetched: &fetched,
        tasks: JoinSet::new(),
        sessions,
        ran: Ran::default(),
        started: 0,
        until,
        hang_up_at: None,
    };
    let mut logged = Instant::now();
    loop {
        if crew.hang_up_at.is_none() {
            crew.start(queue, connections);
        }
        if crew.tasks.is_empty() {
            break;
        }
        let wake = crew.hang_up_at.unwrap_or(until.stop);
        tokio::select! {
            ended = crew.tasks.join_next() => match ended {
                Some(Ok(ended)) => crew.end(queue, ended),
                Some(Err(error)) => crew.fail(RestoreError::Internal(error.to_string())),
                None => break,
            },
            () = tokio::time::sleep_until(wake.into()) => {
                crew.wake();
            }
        }
        if logged.elapsed() >= LOG_EVERY {
            logged = Instant::now();
            let remaining = queue.remaining();
            info!(
                remaining,
                bytes_read = fetched.load(Ordering::Relaxed),
                "progress"
            );
        }
    }
    let mut ran = crew.ran;
    if crew.hang_up_at.is_none() {
        ran.sessions = crew.sessions;
    }
    ran.bytes_read = fetched.load(Ordering::Relaxed);
    ran
}

/// The running jobs.
struct Crew<'a> {
    context: &'a Arc<Context>,
    fetched: &'a Arc<AtomicU64>,
    tasks: JoinSet<Ended>,
    sessions: Vec<Session>,
    ran: Ran,
    started: usize,
    until: Until,
    /// Once it is stopped: when what does not end by itself is hung up.
    hang_up_at: Option<Instant>,
}

impl Crew<'_> {
    fn start(&mut self, queue: &mut Queue<'_>, connections: usize) {
        while self.tasks.len() < connections {
            let (now, is_first) = (Instant::now(), self.started == 0);
            let left = self.until.stop.saturating_duration_since(now);
            let is_late = now >= self.until.begin && !is_first;
            if left.is_zero() || is_late {
                return;
            }
            let outlook = Outlook {
                seconds_left: left.as_secs_f64(),
                is_first,
            };
            let Some(index) = queue.start(outlook) else {
                return;
            };
            self.started += 1;
            let task = Task {
                context: Arc::clone(self.context),
                fetched: Arc::clone(self.fetched),
                index,
                until: self.until.stop,
            };
            self.tasks.spawn(task.run(self.sessions.pop()));
        }
    }

    fn end(&mut self, queue: &mut Queue<'_>, ended: Ended) {
        let job = &self.context.program.jobs[ended.index];
        self.sessions.extend(ended.session);
        match ended.outcome {
            Ok(_) | Err(Failure::AlreadyDone) => {
                self.ran.done += 1;
                queue.end(ended.index, ended.seconds);
            }
            outcome if self.hang_up_at.is_some() || matches!(outcome, Err(Failure::Cut)) => {
                let is_longer = self.ran.cut.as_ref().is_none_or(|it| it.1 < ended.seconds);
                if is_longer {
                    let predicted = queue.seconds(ended.index);
                    self.ran.cut = Some((job.what.clone(), ended.seconds, predicted));
                }
            }
            Err(failure) => {
                let error = error_of(self.context, job, failure);
                self.fail(error);
            }
        }
    }

    /// The first failure is the cause of those that follow.
    fn fail(&mut self, error: RestoreError) {
        self.ran.failure.get_or_insert(error);
        self.stop();
    }

    /// The time is over, or that of those who were asked to end.
    fn wake(&mut self) {
        if self.hang_up_at.is_none() {
            return self.stop();
        }
        self.context.board.hang_up_all();
        self.hang_up_at = Some(Instant::now() + GRACE);
    }

    fn stop(&mut self) {
        self.context.board.is_stopped.store(true, Ordering::Release);
        self.hang_up_at.get_or_insert(Instant::now() + GRACE);
        let context = Arc::clone(self.context);
        drop(tokio::task::spawn_blocking(move || {
            context.board.cancel_all()
        }));
    }
}

fn error_of(context: &Context, job: &Job, failure: Failure) -> RestoreError {
    match failure {
        Failure::Server(source) => {
            // What was restored before the rows came can be told in full: it is no row.
            let is_definition = job.stage <= super::select::Stage::Pre;
            let source = if is_definition {
                source
            } else {
                source.without_values()
            };
            RestoreError::Job {
                what: job.what.clone(),
                remedy: super::remedy::of(&source).to_owned(),
                source: Box::new(source),
            }
        }
        Failure::Damaged { key, what } => RestoreError::Damaged { key, what },
        Failure::Store(source) => RestoreError::Store(source),
        Failure::Error(error) => error,
        Failure::Storage(error) => RestoreError::Internal(error.to_string()),
        Failure::AlreadyDone | Failure::Cut => {
            RestoreError::Internal("what is no failure was taken for one".to_owned())
        }
        Failure::Internal(what) => {
            let id = context.manifest.backup_id;
            RestoreError::Internal(format!("{}: {what} (backup {id})", job.what))
        }
    }
}
