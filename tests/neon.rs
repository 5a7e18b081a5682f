//! Neon: its API's stand-in, and what Lifeboat does with it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod branch_states;
mod branches;
mod by_command;
mod by_shell;
mod client;
mod command_line;
mod drill;
mod dump_source;
mod every_fault;
mod faults;
mod leftovers;
mod new_project;
mod rate;
mod recover;
mod rehearsal;
mod rights;
pub(crate) mod stage;
mod standin;
mod time_travel;
