//! What a restored database is held against. Each module judges; asking the database is
//! `crate::check`'s. What recoveries use, too, is in `shared`.

pub mod address;
pub mod application;
pub mod branch;
pub mod catalog;
pub mod difference;
pub mod groups;
pub mod proof;
pub mod provenance;
pub mod state;

pub use shared::checks::{CheckCode, CheckResult, Status, Subject, assertion, table};
