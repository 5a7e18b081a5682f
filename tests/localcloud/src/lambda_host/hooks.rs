//! Functions of a user's own, which no template knows: a test answers for them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Invoked, request_id};

type Answer = Box<dyn Fn(Value) -> Result<Value, String> + Send + Sync>;

/// By name.
#[derive(Default)]
pub(super) struct Hooks(Mutex<BTreeMap<String, Answer>>);

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hooks").finish_non_exhaustive()
    }
}

impl Hooks {
    pub(super) fn add(
        &self,
        name: &str,
        answer: impl Fn(Value) -> Result<Value, String> + Send + Sync + 'static,
    ) {
        let mut hooks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        hooks.insert(name.to_owned(), Box::new(answer));
    }

    /// None: there is no hook of that name.
    pub(super) fn invoke(&self, name: &str, payload: &Bytes) -> Option<Invoked> {
        let hooks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let event = serde_json::from_slice(payload).unwrap_or_default();
        let answer = hooks.get(name)?(event);
        let (failed, payload) = match answer {
            Ok(answer) => (false, answer),
            Err(message) => (
                true,
                json!({"errorType": "HookFailed", "errorMessage": message}),
            ),
        };
        Some(Invoked {
            request_id: request_id(),
            failed,
            payload: payload.to_string().into(),
        })
    }
}
