//! What the API answers, as far as anybody here reads it. Unknown fields are ignored, and
//! what may grow new values (states, actions, codes, plans) is text.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Branch {
    pub id: String,
    pub name: String,
    /// None: a root branch.
    #[serde(default)]
    pub parent_id: Option<String>,
    #[serde(default)]
    pub parent_lsn: Option<String>,
    #[serde(default)]
    pub parent_timestamp: Option<Timestamp>,
    /// `init`, `ready`, `archived`, …
    #[serde(default)]
    pub current_state: String,
    /// Production, and the only branch for which it is true.
    #[serde(default)]
    pub default: bool,
    #[serde(default)]
    pub protected: bool,
    pub created_at: Timestamp,
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
    /// In bytes.
    #[serde(default)]
    pub logical_size: Option<u64>,
    /// What its maker wrote beside it; the API hands this out separately.
    #[serde(skip)]
    pub annotation: BTreeMap<String, String>,
}

impl Branch {
    /// Whether its data can be read, now or after it was taken out of the archive.
    pub fn is_usable(&self) -> bool {
        matches!(self.current_state.as_str(), "ready" | "archived")
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Endpoint {
    pub id: String,
    pub branch_id: String,
    /// `read_write` or `read_only`.
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub host: String,
}

/// One step of a change: changes are asynchronous.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Operation {
    pub id: String,
    #[serde(default)]
    pub branch_id: Option<String>,
    pub action: String,
    /// `scheduling`, `running`, `finished`, `failed`, `error`, `cancelled`, `skipped`, …
    pub status: String,
    #[serde(default)]
    pub error: Option<String>,
    /// When Neon tries a failed one again.
    #[serde(default)]
    pub retry_at: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct ProjectFacts {
    pub id: String,
    /// How far back any moment can be restored.
    #[serde(default)]
    pub history_retention_seconds: Option<u64>,
    /// Bytes of data and history that storage is charged for.
    #[serde(default)]
    pub synthetic_storage_size: Option<u64>,
    /// The largest that a branch of this project may be.
    #[serde(default)]
    pub branch_logical_size_limit_bytes: Option<u64>,
    #[serde(flatten)]
    pub used: Consumption,
    #[serde(default)]
    pub owner: Owner,
    #[serde(default)]
    pub settings: Settings,
}

/// Since the beginning of the billing period; it lags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Consumption {
    #[serde(default)]
    pub active_time_seconds: u64,
    #[serde(default)]
    pub compute_time_seconds: u64,
    #[serde(default)]
    pub written_data_bytes: u64,
    #[serde(default)]
    pub data_transfer_bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Owner {
    /// Branches that a project of this owner may have.
    #[serde(default)]
    pub branches_limit: Option<i64>,
    /// `free_v3`, `launch_v3`, `scale_v3`, …
    #[serde(default)]
    pub subscription_type: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Settings {
    #[serde(default)]
    pub quota: Option<Quota>,
}

/// What the owner allows a project per billing period; 0 and absent mean no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Quota {
    #[serde(default)]
    pub active_time_seconds: u64,
    #[serde(default)]
    pub compute_time_seconds: u64,
    #[serde(default)]
    pub written_data_bytes: u64,
    #[serde(default)]
    pub data_transfer_bytes: u64,
    /// Of one branch, whatever the period.
    #[serde(default)]
    pub logical_size_bytes: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Annotation {
    #[serde(default)]
    pub(super) value: BTreeMap<String, serde_json::Value>,
}

impl Annotation {
    /// What is not text is none that we wrote.
    pub(super) fn texts(self) -> BTreeMap<String, String> {
        let texts = self.value.into_iter().filter_map(|(name, value)| {
            let serde_json::Value::String(text) = value else {
                return None;
            };
            Some((name, text))
        });
        texts.collect()
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct ProjectAnswer {
    pub(super) project: ProjectFacts,
    #[serde(default)]
    pub(super) operations: Vec<Operation>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ProjectsAnswer {
    pub(super) projects: Vec<ProjectInList>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ProjectInList {
    pub(super) id: String,
    #[serde(default)]
    pub(super) name: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct BranchesAnswer {
    pub(super) branches: Vec<Branch>,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, Annotation>,
    #[serde(default)]
    pub(super) pagination: Option<NextPage>,
}

/// The cursor of branches.
#[derive(Debug, Deserialize)]
pub(super) struct NextPage {
    #[serde(default)]
    pub(super) next: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct BranchAnswer {
    pub(super) branch: Branch,
    #[serde(default)]
    pub(super) annotation: Option<Annotation>,
    #[serde(default)]
    pub(super) operations: Vec<Operation>,
}

#[derive(Debug, Deserialize)]
pub(super) struct EndpointsAnswer {
    pub(super) endpoints: Vec<Endpoint>,
}

/// Of a change that is only followed, not read.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Changed {
    #[serde(default)]
    pub(super) operations: Vec<Operation>,
}

#[derive(Debug, Deserialize)]
pub(super) struct OperationAnswer {
    pub(super) operation: Operation,
}

/// The newest ones: of what we have just begun, the first page is enough.
#[derive(Debug, Deserialize)]
pub(super) struct OperationsAnswer {
    pub(super) operations: Vec<Operation>,
}

#[derive(Deserialize)]
pub(super) struct UriAnswer {
    pub(super) uri: String,
}

#[derive(Deserialize)]
pub(super) struct ResetAnswer {
    pub(super) role: ResetRole,
    #[serde(default)]
    pub(super) operations: Vec<Operation>,
}

/// Holds a password: not to be printed.
#[derive(Deserialize)]
pub(super) struct ResetRole {
    pub(super) password: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct DifferenceAnswer {
    #[serde(default)]
    pub(super) diff: String,
}

/// Every answer that is none of success.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ErrorAnswer {
    #[serde(default)]
    pub(super) code: String,
    #[serde(default)]
    pub(super) message: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_recorded_creation_is_read_whatever_is_new_in_it() {
        let answer = json!({
            "branch": {"id": "br-dawn-scene-747675", "project_id": "autumn-disk-484331",
                "parent_id": "br-wispy-dew-591433", "parent_lsn": "0/1AA6408",
                "parent_timestamp": "2026-11-20T01:00:00Z", "name": "backup-2026-11-20",
                "current_state": "init", "pending_state": "ready", "creation_source": "console",
                "init_source": "parent-data", "default": false, "protected": false,
                "created_at": "2026-11-20T01:00:05Z", "updated_at": "2026-11-20T01:00:05Z",
                "a_new_field": {"x": [1]}},
            "endpoints": [], "roles": [], "databases": [],
            "operations": [{"id": "22acbb37", "project_id": "autumn-disk-484331",
                "branch_id": "br-dawn-scene-747675", "action": "a_new_action", "status": "a_new_status",
                "failures_count": 0, "created_at": "2026-11-20T01:00:05Z"}]});
        let read: BranchAnswer = serde_json::from_value(answer).unwrap();
        assert_eq!(read.branch.parent_id.unwrap(), "br-wispy-dew-591433");
        assert_eq!(read.operations[0].status, "a_new_status");
        assert!(read.annotation.is_none());
    }

    #[test]
    fn a_page_of_branches_has_annotations_beside_and_perhaps_a_next_page() {
        let answer = json!({
            "branches": [{"id": "br-a", "name": "main", "default": true, "created_at": "2026-11-20T01:00:05Z"}],
            "annotations": {"br-a": {"object": {"type": "console/branch", "id": "br-a"},
                "value": {"k": "v", "n": 1}, "created_at": "2026-11-20T01:00:05Z"}},
            "pagination": {"next": "eyJ", "sort_by": "created_at", "sort_order": "asc"}});
        let mut read: BranchesAnswer = serde_json::from_value(answer).unwrap();
        let texts = read.annotations.remove("br-a").unwrap().texts();
        assert_eq!(texts, BTreeMap::from([("k".to_owned(), "v".to_owned())]));
        assert_eq!(read.pagination.unwrap().next.unwrap(), "eyJ");
        let last: BranchesAnswer = serde_json::from_value(json!({"branches": []})).unwrap();
        assert!(last.pagination.is_none());
    }

    #[test]
    fn a_project_without_owner_or_quota_is_a_project() {
        let answer = json!({"project": {"id": "p", "data_transfer_bytes": 7,
            "settings": {"quota": {"data_transfer_bytes": 10}}}});
        let read: ProjectAnswer = serde_json::from_value(answer).unwrap();
        assert_eq!(read.project.used.data_transfer_bytes, 7);
        assert_eq!(read.project.settings.quota.unwrap().data_transfer_bytes, 10);
        assert_eq!(read.project.owner, Owner::default());
    }
}
