//! End to end: the real functions, a real PostgreSQL, the cloud on this machine.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::too_many_lines, reason = "a test is one story")]
#![allow(unreachable_pub, reason = "a test binary has no outside")]

mod docs;
mod drill;
mod faults;
mod format;
mod harness;
mod infra;
mod neon;
mod nightly;
mod restore;
mod restore_machine;
mod roles;
mod tidy;
