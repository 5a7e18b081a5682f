//! Restores that nothing stands in the way of, for tests to put something there.

use super::super::*;
use crate::restore::{LeaveOut, Scope};
use serde_json::json;

/// One that a table of cases changes.
pub(super) struct Case {
    pub(super) target: TargetFacts,
    pub(super) source: SourceFacts,
    pub(super) manifest: Manifest,
    pub(super) order: Order,
    pub(super) destination: Destination,
    pub(super) live: bool,
    pub(super) roles: BTreeSet<String>,
    pub(super) forced: Vec<String>,
    pub(super) superuser_only: Vec<String>,
    pub(super) estimate: Estimate,
    pub(super) job_seconds_max: Option<f64>,
}

pub(super) fn endpoint(host: &str, port: u16, addresses: &[&str]) -> Endpoint {
    Endpoint {
        host: host.to_owned(),
        port,
        addresses: addresses.iter().map(|it| it.parse().unwrap()).collect(),
    }
}

pub(super) fn destination(json: serde_json::Value) -> Destination {
    serde_json::from_value(json).unwrap()
}

pub(super) fn staging() -> Destination {
    destination(json!({"staging": {"target": "standby", "schema": "lifeboat_1"}}))
}

pub(super) fn existing() -> Destination {
    destination(json!({"existing_tables": {"target": "standby", "database": "app"}}))
}

pub(super) fn manifest() -> Manifest {
    let zeros = "0".repeat(32);
    let manifest = json!({
        "format": 1, "backup_id": "20261121T010000Z-nightly", "database": "app", "kind": "nightly",
        "attempt": "a", "previous": null, "scheduled_at": "2026-11-21T01:00:00Z",
        "started_at": "2026-11-21T01:00:01Z", "snapshot_at": "2026-11-21T01:00:02Z",
        "finished_at": "2026-11-21T01:00:03Z",
        "source": {"provider": "postgres", "host": "db.example", "port": 5432, "database": "app",
            "user": "u", "server_version": "16.2", "server_version_num": 160002, "lsn": "0/0",
            "system_identifier": "7"},
        "tools": {"lifeboat": "0", "pg_dump": "16.2"}, "archive_version": "1.15", "recipients": [],
        "settings": {"encoding": "UTF8", "locale_provider": "libc", "collate": "C", "ctype": "C",
            "icu_locale": null, "lc_monetary": null},
        "extensions": [{"name": "plpgsql", "version": "1.0", "schema": "pg_catalog"},
            {"name": "hstore", "version": "1.8", "schema": "public"}],
        "objects": [],
        "tables": [{"oid": 1, "schema": "app", "name": "users", "dump_id": 5, "columns": [],
            "copy_columns": ["id", "name"], "primary_key": ["id"], "rows": 1, "copy_bytes": 10,
            "fingerprint": zeros, "objects": [], "unlogged": false, "load_via": null, "condition": null}],
        "sequences": [], "large_objects": [], "migration_head": null, "left_out": [], "warnings": [],
        "totals": {"tables": 1, "rows": 1, "copy_bytes": 10, "objects": 0, "stored_bytes": 0, "large_objects": 0},
        "run": {"connections": 1, "zstd_level": 1, "seconds": 1.0, "copy_bytes_per_second": 1.0,
            "cpu_seconds": 1.0, "peak_memory_bytes": 1, "planner_seconds": 1.0, "planner_peak_memory_bytes": 1},
    });
    serde_json::from_value(manifest).unwrap()
}

/// A restore that nothing stands in the way of.
pub(super) fn good() -> Case {
    let versions = |it: &str| BTreeSet::from([it.to_owned()]);
    Case {
        target: TargetFacts {
            endpoint: endpoint("standby.example", 5432, &["192.0.2.9"]),
            tls: Tls::VerifyFull,
            database: "app_restored".to_owned(),
            system_identifier: Some("8".to_owned()),
            server_version: 160_004,
            role: "restorer".to_owned(),
            is_superuser: false,
            has_platform_rights: false,
            can_create_database: true,
            bypasses_row_security: false,
            is_in_recovery: false,
            database_exists: false,
            encoding: None,
            ledger: None,
            user_tables: 0,
            tables: BTreeMap::new(),
            schema_exists: false,
            extensions: [("plpgsql", "1.0"), ("hstore", "1.8")]
                .map(|(name, version)| (name.to_owned(), versions(version)))
                .into(),
            roles: BTreeSet::from(["reader".to_owned()]),
            superuser_extensions: BTreeSet::new(),
            missing_locale: None,
            unreadable: BTreeSet::new(),
        },
        source: SourceFacts {
            system_identifier: Some("7".to_owned()),
            database: "app".to_owned(),
            endpoints: vec![endpoint("db.example", 5432, &["192.0.2.1"])],
        },
        manifest: manifest(),
        order: Order {
            plan_id: "p".to_owned(),
            scope: Scope::Everything,
            leave_out: LeaveOut::default(),
            owners: false,
            privileges: false,
            connections: 2,
            staging_schema: None,
        },
        destination: destination(
            json!({"new_database": {"target": "standby", "database": "app_restored"}}),
        ),
        live: false,
        roles: BTreeSet::new(),
        forced: Vec::new(),
        superuser_only: Vec::new(),
        estimate: Estimate::default(),
        job_seconds_max: Some(700.0),
    }
}

/// Named tables beside the live ones, at the source itself.
pub(super) fn good_staging() -> Case {
    let mut case = good();
    case.destination = staging();
    case.order.scope = serde_json::from_value(json!({"tables": ["app.users"]})).unwrap();
    case.order.staging_schema = Some("lifeboat_1".to_owned());
    case.live = true;
    case.target.database = "app".to_owned();
    case.target.database_exists = true;
    case.target.user_tables = 70;
    case.target.can_create_database = false;
    case.target.system_identifier = Some("7".to_owned());
    case.target.endpoint = endpoint("db.example", 5432, &["192.0.2.1"]);
    case
}

/// Rows into the tables of another server.
pub(super) fn good_existing() -> Case {
    let mut case = good();
    case.destination = existing();
    case.order.scope = Scope::DataOnly;
    case.target.database = "app".to_owned();
    case.target.database_exists = true;
    case.target.is_superuser = true;
    case.target.encoding = Some("UTF8".to_owned());
    case.target.user_tables = 1;
    let users = TableFacts {
        has_rows: false,
        columns: ["name", "id", "more"].map(str::to_owned).to_vec(),
        has_stubborn_triggers: false,
    };
    let key = ("app".to_owned(), "users".to_owned());
    case.target.tables.insert(key, users);
    case
}

impl Case {
    pub(super) fn judge(&self) -> Vec<Obstacle> {
        let wish = Wish {
            manifest: &self.manifest,
            order: &self.order,
            destination: &self.destination,
            live: self.live,
            roles: &self.roles,
            forced_row_security: &self.forced,
            superuser_only: &self.superuser_only,
            estimate: &self.estimate,
            job_seconds_max: self.job_seconds_max,
        };
        judge(&self.target, &self.source, &wish)
    }
}
