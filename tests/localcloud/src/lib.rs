//! The cloud on one machine: what the functions, the template and the state machines run on without an AWS account.

pub mod bound_child;
pub mod cutting_proxy;
pub mod every_kind;
pub mod pgbouncer;
pub mod postgres;
pub mod sample;
