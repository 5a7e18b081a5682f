//! How a stand-in and its projects are set up.

use std::time::Duration;

use super::plan::{Limits, Plan};
use crate::postgres::{Certificate, Major};

/// What a stand-in is like.
#[derive(Clone, Debug)]
pub struct NeonOptions {
    /// Of every project. Debian's own major when absent: the only one with TLS.
    pub major: Option<Major>,
    /// What computes and poolers present. Without it they speak no TLS, and URLs ask for none.
    pub certificate: Option<Certificate>,
    /// How long each operation runs, besides what it does.
    pub operation_delay: Duration,
    /// Whether more than 700 requests a minute, or 40 a second to one route, are refused.
    pub is_rate_limited: bool,
}

impl Default for NeonOptions {
    fn default() -> Self {
        Self {
            major: None,
            certificate: None,
            operation_delay: Duration::from_millis(60),
            is_rate_limited: true,
        }
    }
}

/// A project to begin with.
#[derive(Clone, Debug)]
pub struct ProjectOptions {
    pub name: String,
    pub plan: Plan,
    /// The plan's, unless a test wants to reach one sooner.
    pub limits: Option<Limits>,
    /// The plan's default when absent.
    pub history_retention_seconds: Option<i64>,
    pub branch: String,
    /// Whether the default branch is protected.
    pub is_protected: bool,
    pub role: String,
    pub database: String,
    /// Run as `role` in `database`.
    pub seed: String,
    /// What was seeded counts as having been there for this long.
    pub age: Duration,
    pub store_passwords: bool,
    /// The sources disagree about a restored branch: whether it keeps its id and the old state moves to a new one,
    /// or a new branch takes over name and computes.
    pub restore_keeps_id: bool,
}

impl Default for ProjectOptions {
    fn default() -> Self {
        Self {
            name: "project".to_owned(),
            plan: Plan::default(),
            limits: None,
            history_retention_seconds: None,
            branch: "main".to_owned(),
            is_protected: false,
            role: "neondb_owner".to_owned(),
            database: "neondb".to_owned(),
            seed: String::new(),
            age: Duration::ZERO,
            store_passwords: true,
            restore_keeps_id: true,
        }
    }
}

/// The ids of a seeded project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seeded {
    pub project: String,
    /// Of the default branch.
    pub branch: String,
    /// Of the default branch's compute.
    pub endpoint: String,
}
