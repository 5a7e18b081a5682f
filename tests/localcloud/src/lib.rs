//! The cloud on one machine: what the functions, the template and the state machines run on without an AWS account.

pub mod bound_child;
pub mod every_kind;
pub mod postgres;
pub mod sample;
