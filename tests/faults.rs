//! What a backup survives, and what it refuses: faults put into the real state machine, and the world afterwards.
//!
//! Whatever the fault, the same must hold: there is no manifest or a verified one, no upload is left open, somebody
//! was told, and no secret shows. [`subject::Subject`] asserts these; each test adds what is particular.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod connection;
mod duplicates;
mod locks;
mod planner;
mod refusals;
mod snapshot;
mod storage;
mod time;
mod tls;

pub(crate) mod clouds;
pub(crate) mod subject;
