//! One failure ends everything: the first is kept, and every connection is hung up, so that
//! nobody waits for bytes that no longer matter.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use shared::pg::Hangup;

use crate::error::DumpError;

#[derive(Debug, Default)]
pub struct Stop {
    is_stopped: AtomicBool,
    failure: Mutex<Option<DumpError>>,
    hangups: Mutex<Vec<Hangup>>,
}

impl Stop {
    /// Registers a connection to hang up.
    pub fn watch(&self, hangup: Hangup) {
        self.lock(&self.hangups).push(hangup);
    }

    /// Keeps the first failure; those that follow from it are not the cause.
    pub fn fail(&self, error: DumpError) {
        let mut failure = self.lock(&self.failure);
        failure.get_or_insert(error);
        drop(failure);
        self.is_stopped.store(true, Ordering::Release);
        self.lock(&self.hangups).iter().for_each(Hangup::now);
    }

    pub fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    /// The failure, if there was one.
    pub fn check(&self) -> Result<(), DumpError> {
        match self.lock(&self.failure).take() {
            Some(error) => Err(error),
            None if self.is_stopped() => Err(DumpError::Internal("stopped before")),
            None => Ok(()),
        }
    }

    /// What `error` follows from: the first failure, unless that is `error` itself.
    pub fn cause_of(&self, error: DumpError) -> DumpError {
        self.lock(&self.failure).take().unwrap_or(error)
    }

    fn lock<'a, T>(&self, mutex: &'a Mutex<T>) -> std::sync::MutexGuard<'a, T> {
        // A thread that panicked has left a whole value behind: all updates are single steps.
        mutex
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
