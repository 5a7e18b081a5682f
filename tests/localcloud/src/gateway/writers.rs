//! One writer at a time per key.
//!
//! Both S3 servers look whether an object exists and write it later: of 16 concurrent writes with
//! `If-None-Match: *`, several would win.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

#[derive(Debug, Default)]
pub(crate) struct Writers {
    keys: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Writers {
    /// Waits until nobody else writes `key`.
    pub(super) async fn alone(&self, key: String) -> OwnedMutexGuard<()> {
        let lock = {
            let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
            // Nobody holds or awaits a lock that only the map refers to.
            keys.retain(|_, lock| Arc::strong_count(lock) > 1);
            keys.entry(key).or_default().clone()
        };
        lock.lock_owned().await
    }
}
