//! The API's JSON, and the URLs in it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::world::{Branch, Database, Endpoint, Operation, Project, Snapshot};

/// Left out by [`object`].
const ABSENT: Value = Value::Null;

/// Where every project seems to be.
const REGION: &str = "aws-us-east-2";

/// The object without the fields that are absent.
fn object(mut value: Value) -> Value {
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|_, it| !it.is_null());
    }
    value
}

fn optional(value: Option<impl ToString>) -> Value {
    value.map_or(ABSENT, |value| Value::String(value.to_string()))
}

pub(super) fn project(project: &Project, pg_version: u16) -> Value {
    let mut value = object(json!({
        "id": project.id, "name": project.name, "region_id": REGION, "platform_id": "aws",
        "pg_version": pg_version, "proxy_host": "us-east-2.aws.neon.tech", "provisioner": "k8s-neonvm",
        "history_retention_seconds": project.history_retention_seconds,
        "store_passwords": project.store_passwords, "settings": project.settings,
        "org_id": "org-calm-moon-12345678", "owner_id": "org-calm-moon-12345678",
        "owner": {"name": "stand-in", "email": "", "branches_limit": project.limits.branches,
            "subscription_type": project.plan.subscription()},
        "default_endpoint_settings": {"autoscaling_limit_min_cu": 0.25, "autoscaling_limit_max_cu": 2,
            "suspend_timeout_seconds": 0},
        "branch_logical_size_limit": 16_384, "branch_logical_size_limit_bytes": 17_179_869_184_u64,
        "synthetic_storage_size": 0, "data_storage_bytes_hour": 0, "data_transfer_bytes": 0,
        "written_data_bytes": 0, "compute_time_seconds": 0, "active_time_seconds": 0, "active_time": 0,
        "cpu_used_sec": 0, "creation_source": "console",
        "consumption_period_start": project.created_at.to_string(),
        "consumption_period_end": (project.created_at + SignedDuration::from_hours(30 * 24)).to_string(),
        "created_at": project.created_at.to_string(), "updated_at": project.updated_at.to_string(),
    }));
    if let Value::Object(fields) = &mut value {
        fields.extend(project.overrides.clone());
    }
    value
}

pub(super) fn branch(project: &Project, branch: &Branch) -> Value {
    let (state, pending) = match branch.state {
        Some(state) => (state, ABSENT),
        None if branch.is_ready => ("ready", ABSENT),
        None => ("init", json!("ready")),
    };
    let parent = branch.parent.as_ref();
    object(json!({
        "id": branch.id, "project_id": project.id, "name": branch.name,
        "parent_id": optional(parent.map(|it| &it.branch)),
        "parent_lsn": optional(parent.and_then(|it| it.lsn)),
        "parent_timestamp": optional(parent.and_then(|it| it.time)),
        "current_state": state, "pending_state": pending,
        "state_changed_at": branch.updated_at.to_string(), "creation_source": "console",
        "init_source": branch.init_source, "default": branch.is_default, "primary": branch.is_default,
        "protected": branch.is_protected, "logical_size": 30_842_880, "cpu_used_sec": 0,
        "active_time_seconds": 0, "compute_time_seconds": 0, "written_data_bytes": 0, "data_transfer_bytes": 0,
        "created_at": branch.created_at.to_string(), "updated_at": branch.updated_at.to_string(),
        "created_by": {"name": "stand-in", "image": ""},
        "expires_at": optional(branch.expires_at), "last_reset_at": optional(branch.last_reset_at),
        "restore_status": optional(branch.restore_status),
        "restored_from": optional(branch.restored_from.as_ref()),
        "restored_as": optional(branch.restored_as.as_ref()),
    }))
}

pub(super) fn annotation(branch: &Branch) -> Value {
    json!({
        "object": {"type": "console/branch", "id": branch.id}, "value": branch.annotation,
        "created_at": branch.created_at.to_string(), "updated_at": branch.created_at.to_string(),
    })
}

/// The name of an endpoint's address. It resolves nowhere: URLs say where the stand-in listens.
pub(super) fn host(endpoint: &str, is_pooled: bool) -> String {
    let pooler = if is_pooled { "-pooler" } else { "" };
    format!("{endpoint}{pooler}.localhost")
}

pub(super) fn endpoint(project: &Project, endpoint: &Endpoint) -> Value {
    object(json!({
        "id": endpoint.id, "host": host(&endpoint.id, false), "project_id": project.id,
        "branch_id": endpoint.branch, "name": optional(endpoint.name.as_ref()),
        "autoscaling_limit_min_cu": endpoint.min_cu, "autoscaling_limit_max_cu": endpoint.max_cu,
        "region_id": REGION, "type": "read_write", "current_state": endpoint.state,
        "pending_state": optional(endpoint.pending), "settings": {"pg_settings": {}}, "pooler_enabled": false,
        "pooler_mode": "transaction", "disabled": endpoint.is_disabled, "passwordless_access": true,
        "creation_source": "console", "created_at": endpoint.created_at.to_string(),
        "updated_at": endpoint.created_at.to_string(), "proxy_host": "localhost",
        "started_at": optional(endpoint.started_at), "suspended_at": optional(endpoint.suspended_at),
        "last_active": optional(endpoint.started_at),
        "suspend_timeout_seconds": endpoint.suspend_timeout_seconds, "provisioner": "k8s-neonvm",
    }))
}

pub(super) fn operation(project: &str, operation: &Operation) -> Value {
    let took = operation.updated_at.duration_since(operation.created_at);
    object(json!({
        "id": operation.id, "project_id": project, "branch_id": optional(operation.branch.as_ref()),
        "endpoint_id": optional(operation.endpoint.as_ref()), "action": operation.action,
        "status": operation.status, "failures_count": operation.failures,
        "error": optional(operation.error.as_ref()), "retry_at": optional(operation.retry_at),
        "created_at": operation.created_at.to_string(), "updated_at": operation.updated_at.to_string(),
        "total_duration_ms": i64::try_from(took.as_millis()).unwrap_or_default(),
    }))
}

pub(super) fn operations(project: &str, operations: &[Operation]) -> Value {
    operations.iter().map(|it| operation(project, it)).collect()
}

pub(super) fn role(branch: &Branch, name: &str) -> Value {
    json!({
        "branch_id": branch.id, "name": name, "protected": false, "authentication_method": "password",
        "created_at": branch.created_at.to_string(), "updated_at": branch.created_at.to_string(),
    })
}

pub(super) fn roles(branch: &Branch) -> Value {
    let names = branch.logins.iter().map(|(name, _)| name);
    names.map(|name| role(branch, name)).collect()
}

pub(super) fn database(branch: &Branch, database: &Database) -> Value {
    json!({
        "id": database.id, "branch_id": branch.id, "name": database.name, "owner_name": database.owner,
        "created_at": branch.created_at.to_string(), "updated_at": branch.created_at.to_string(),
    })
}

pub(super) fn databases(branch: &Branch) -> Value {
    let databases = branch.databases.iter();
    databases.map(|it| database(branch, it)).collect()
}

pub(super) fn snapshot(snapshot: &Snapshot) -> Value {
    object(json!({
        "id": snapshot.id, "name": snapshot.name, "source_branch_id": snapshot.branch,
        "lsn": optional(snapshot.lsn), "timestamp": snapshot.taken_of.to_string(), "manual": true,
        "created_at": snapshot.created_at.to_string(), "expires_at": optional(snapshot.expires_at),
    }))
}

/// The URL of a database behind an endpoint.
pub(super) fn uri(
    endpoint: &Endpoint,
    (role, password): (&str, Option<&str>),
    database: &str,
    is_pooled: bool,
    has_tls: bool,
) -> String {
    let address = if is_pooled {
        format!("{}:{}", host(&endpoint.id, true), endpoint.gate.pooled)
    } else {
        format!("127.0.0.1:{}", endpoint.gate.direct)
    };
    let query = if has_tls { "?sslmode=require" } else { "" };
    let escape = |text: &str| {
        percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC)
            .to_string()
            .replace("%5F", "_")
            .replace("%2D", "-")
    };
    let password = password.map_or_else(String::new, |it| format!(":{}", escape(it)));
    format!(
        "postgresql://{}{password}@{address}/{}{query}",
        escape(role),
        escape(database)
    )
}

/// As a creation tells it: only where there is one role and one database, so that it is clear which.
pub(super) fn connection_uris(
    branch: &Branch,
    endpoint: Option<&Endpoint>,
    has_tls: bool,
) -> Option<Value> {
    let (Some(endpoint), [(role, password)], [database]) = (
        endpoint,
        branch.logins.as_slice(),
        branch.databases.as_slice(),
    ) else {
        return None;
    };
    let uri = uri(
        endpoint,
        (role, Some(password)),
        &database.name,
        false,
        has_tls,
    );
    Some(json!([{
        "connection_uri": uri,
        "connection_parameters": {"database": database.name, "password": password, "role": role,
            "host": host(&endpoint.id, false), "pooler_host": host(&endpoint.id, true)},
    }]))
}

/// A value of the API's query or body.
pub(super) fn time(text: &str) -> Result<Timestamp, super::refusal::Refusal> {
    text.parse()
        .map_err(|_| super::refusal::Refusal::invalid("invalid timestamp: want RFC 3339"))
}

/// Strings by name.
pub(super) fn strings(value: &Value) -> Option<BTreeMap<String, String>> {
    let empty = Map::new();
    let fields = if value.is_null() {
        &empty
    } else {
        value.as_object()?
    };
    let strings = fields
        .iter()
        .map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
    strings.collect()
}
