//! What the API knows: projects and all that is in them.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::gate::Gate;
use super::lsn::Lsn;
use super::plan::{Limits, Plan};
use super::refusal::Refusal;
use super::timeline::{Begin, Login, Timeline};

/// Every project by its id.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) projects: BTreeMap<String, Project>,
}

#[derive(Debug)]
pub(super) struct Project {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) plan: Plan,
    pub(super) limits: Limits,
    pub(super) history_retention_seconds: i64,
    pub(super) store_passwords: bool,
    pub(super) restore_keeps_id: bool,
    pub(super) settings: Value,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
    /// Fields that a test has put over ours.
    pub(super) overrides: Map<String, Value>,
    pub(super) branches: Vec<Branch>,
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) operations: Vec<Operation>,
    pub(super) snapshots: Vec<Snapshot>,
}

#[derive(Clone, Debug)]
pub(super) struct Branch {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) parent: Option<Parent>,
    pub(super) timeline: Arc<Timeline>,
    pub(super) is_ready: bool,
    /// What a test has put over its state.
    pub(super) state: Option<&'static str>,
    pub(super) is_default: bool,
    pub(super) is_protected: bool,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) last_reset_at: Option<Timestamp>,
    pub(super) init_source: String,
    pub(super) annotation: BTreeMap<String, String>,
    pub(super) logins: Vec<Login>,
    pub(super) databases: Vec<Database>,
    pub(super) schedule: Value,
    /// The snapshot that it was made from; such a branch has no history yet.
    pub(super) restored_from: Option<String>,
    /// The branch that it is to replace, or has replaced.
    pub(super) restored_as: Option<String>,
    pub(super) restore_status: Option<&'static str>,
    /// Left behind when a root was restored from another branch.
    pub(super) is_undeletable: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Parent {
    pub(super) branch: String,
    pub(super) lsn: Option<Lsn>,
    pub(super) time: Option<Timestamp>,
}

#[derive(Clone, Debug)]
pub(super) struct Database {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) owner: String,
}

#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) id: String,
    pub(super) branch: String,
    pub(super) name: Option<String>,
    pub(super) min_cu: f64,
    pub(super) max_cu: f64,
    pub(super) suspend_timeout_seconds: i64,
    pub(super) is_disabled: bool,
    /// `init`, `active` or `idle`.
    pub(super) state: &'static str,
    pub(super) pending: Option<&'static str>,
    pub(super) created_at: Timestamp,
    pub(super) started_at: Option<Timestamp>,
    pub(super) suspended_at: Option<Timestamp>,
    pub(super) gate: Gate,
}

#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) id: String,
    pub(super) action: &'static str,
    pub(super) branch: Option<String>,
    pub(super) endpoint: Option<String>,
    pub(super) status: &'static str,
    pub(super) failures: u32,
    pub(super) error: Option<String>,
    pub(super) retry_at: Option<Timestamp>,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
}

#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) branch: String,
    pub(super) begin: Begin,
    pub(super) lsn: Option<Lsn>,
    pub(super) taken_of: Timestamp,
    pub(super) created_at: Timestamp,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) logins: Vec<Login>,
    pub(super) databases: Vec<Database>,
}

impl World {
    pub(super) fn project(&mut self, id: &str) -> Result<&mut Project, Refusal> {
        self.projects
            .get_mut(id)
            .ok_or_else(|| Refusal::missing("project not found"))
    }
}

impl Project {
    pub(super) fn branch(&self, id: &str) -> Result<&Branch, Refusal> {
        let found = self.branches.iter().find(|it| it.id == id);
        found.ok_or_else(|| Refusal::missing("branch not found"))
    }

    pub(super) fn branch_mut(&mut self, id: &str) -> Result<&mut Branch, Refusal> {
        let found = self.branches.iter_mut().find(|it| it.id == id);
        found.ok_or_else(|| Refusal::missing("branch not found"))
    }

    pub(super) fn default_branch(&self) -> Result<&Branch, Refusal> {
        let found = self.branches.iter().find(|it| it.is_default);
        found.ok_or_else(|| Refusal::missing("branch not found"))
    }

    pub(super) fn endpoint(&self, id: &str) -> Result<&Endpoint, Refusal> {
        let found = self.endpoints.iter().find(|it| it.id == id);
        found.ok_or_else(|| Refusal::missing("endpoint not found"))
    }

    pub(super) fn endpoint_mut(&mut self, id: &str) -> Result<&mut Endpoint, Refusal> {
        let found = self.endpoints.iter_mut().find(|it| it.id == id);
        found.ok_or_else(|| Refusal::missing("endpoint not found"))
    }

    pub(super) fn endpoint_of(&self, branch: &str) -> Option<&Endpoint> {
        self.endpoints.iter().find(|it| it.branch == branch)
    }

    pub(super) fn has_children(&self, branch: &str) -> bool {
        let is_child = |it: &Branch| it.parent.as_ref().is_some_and(|it| it.branch == branch);
        self.branches.iter().any(is_child)
    }

    pub(super) fn roots(&self) -> usize {
        self.branches
            .iter()
            .filter(|it| it.parent.is_none())
            .count()
    }

    pub(super) fn operation_mut(&mut self, id: &str) -> Option<&mut Operation> {
        self.operations.iter_mut().find(|it| it.id == id)
    }

    pub(super) fn is_busy(&self) -> bool {
        self.operations.iter().any(|it| !it.is_over())
    }

    /// Refused when another branch has this name.
    pub(super) fn claim_name(&self, name: &str, by: &str) -> Result<(), Refusal> {
        let taken = |it: &Branch| it.name == name && it.id != by;
        if self.branches.iter().any(taken) {
            return Err(Refusal::new(
                409,
                "",
                "branch with the provided name already exists",
            ));
        }
        if name.is_empty() || name.chars().count() > 256 {
            return Err(Refusal::invalid("branch name must be 1 to 256 characters"));
        }
        Ok(())
    }
}

impl Branch {
    pub(super) fn is_child(&self) -> bool {
        self.parent.is_some()
    }

    pub(super) fn password(&self, role: &str) -> Result<&str, Refusal> {
        let found = self.logins.iter().find(|(name, _)| name == role);
        found
            .map(|(_, password)| password.as_str())
            .ok_or_else(|| Refusal::missing("role not found"))
    }
}

impl Operation {
    /// One that failed may still be tried again.
    pub(super) fn is_over(&self) -> bool {
        match self.status {
            "finished" | "skipped" | "cancelled" | "error" => true,
            "failed" => self.retry_at.is_none(),
            _ => false,
        }
    }
}
