use super::*;
use crate::manifest::Manifest;
use crate::restore::{LeaveOut, Scope};
use serde_json::json;

/// One that a table of cases changes.
struct Case {
    target: TargetFacts,
    source: SourceFacts,
    manifest: Manifest,
    order: Order,
    destination: Destination,
    live: bool,
    roles: BTreeSet<String>,
    forced: Vec<String>,
    estimate: Estimate,
    job_seconds_max: Option<f64>,
}

fn endpoint(host: &str, port: u16, addresses: &[&str]) -> Endpoint {
    Endpoint {
        host: host.to_owned(),
        port,
        addresses: addresses.iter().map(|it| it.parse().unwrap()).collect(),
    }
}

fn destination(json: serde_json::Value) -> Destination {
    serde_json::from_value(json).unwrap()
}

fn staging() -> Destination {
    destination(json!({"staging": {"target": "standby", "schema": "lifeboat_1"}}))
}

fn existing() -> Destination {
    destination(json!({"existing_tables": {"target": "standby", "database": "app"}}))
}

fn manifest() -> Manifest {
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
fn good() -> Case {
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
            locale_is_available: None,
            free_bytes: None,
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
        estimate: Estimate::default(),
        job_seconds_max: Some(700.0),
    }
}

/// Named tables beside the live ones, at the source itself.
fn good_staging() -> Case {
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
fn good_existing() -> Case {
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
        has_triggers: true,
    };
    let key = ("app".to_owned(), "users".to_owned());
    case.target.tables.insert(key, users);
    case
}

impl Case {
    fn judge(&self) -> Vec<Obstacle> {
        let wish = Wish {
            manifest: &self.manifest,
            order: &self.order,
            destination: &self.destination,
            live: self.live,
            roles: &self.roles,
            forced_row_security: &self.forced,
            estimate: &self.estimate,
            job_seconds_max: self.job_seconds_max,
        };
        judge(&self.target, &self.source, &wish)
    }
}

/// What comes of the case with this change: exactly these codes, each with words and a remedy.
fn check(mut case: Case, change: impl FnOnce(&mut Case), expected: &[ObstacleCode]) {
    change(&mut case);
    let obstacles = case.judge();
    let codes: Vec<ObstacleCode> = obstacles.iter().map(|it| it.code).collect();
    assert_eq!(codes, expected, "{obstacles:#?}");
    for obstacle in obstacles {
        assert!(
            obstacle.message.len() > 20 && obstacle.remedy.len() > 10,
            "{obstacle:?}"
        );
    }
}

#[test]
fn what_may_go_where_it_is_told_to_meets_no_obstacle() {
    check(good(), |_| {}, &[]);
    check(good_staging(), |_| {}, &[]);
    check(good_existing(), |_| {}, &[]);
    // Another database beside the source, on its own server.
    check(
        good(),
        |it| it.target.system_identifier = Some("7".to_owned()),
        &[],
    );
    // Another server of the same machine.
    check(
        good(),
        |it| {
            it.target.database = "app".to_owned();
            it.target.endpoint = endpoint("db.example", 5433, &["192.0.2.1"]);
        },
        &[],
    );
}

#[test]
fn the_source_is_refused_however_it_is_called() {
    use ObstacleCode::IsTheSource;
    let same_cluster = |it: &mut Case| it.target.system_identifier = Some("7".to_owned());
    check(
        good(),
        |it| {
            same_cluster(it);
            it.target.database = "app".to_owned();
        },
        &[IsTheSource],
    );
    // By its endpoint alone: the cluster behind it may be a new one since, or may not be asked.
    for (host, port, addresses) in [
        ("db.example", 5432, &[][..]),
        ("DB.Example.", 5432, &[]),
        ("alias.example", 5432, &["192.0.2.1"]),
        ("db-pooler.example", 5432, &[]),
        ("db-pooler.example", 6543, &[]),
        ("192.0.2.1", 5432, &["192.0.2.1"]),
    ] {
        for identifier in [None, Some("8".to_owned())] {
            check(
                good(),
                |it| {
                    it.target.database = "app".to_owned();
                    it.target.endpoint = endpoint(host, port, addresses);
                    it.target.system_identifier = identifier;
                },
                &[IsTheSource],
            );
        }
    }
    check(good_existing(), same_cluster, &[IsTheSource]);
    check(
        good(),
        |it| {
            // As its secret says today.
            it.source.endpoints.push(endpoint("new.example", 5432, &[]));
            it.target.endpoint = endpoint("new.example", 5432, &[]);
            it.target.database = "app".to_owned();
        },
        &[IsTheSource],
    );
}

#[test]
fn production_takes_nothing_but_a_staging_schema() {
    use ObstacleCode::{Exists, IsLive, Mismatch, Missing};
    check(good(), |it| it.live = true, &[IsLive]);
    check(good_existing(), |it| it.live = true, &[IsLive]);
    check(
        good_staging(),
        |it| it.target.schema_exists = true,
        &[Exists],
    );
    check(
        good_staging(),
        |it| it.order.scope = serde_json::from_value(json!({"tables": ["app.User"]})).unwrap(),
        &[Missing],
    );
    check(
        good_staging(),
        |it| it.order.scope = Scope::Tables(Vec::new()),
        &[Mismatch],
    );
    check(
        good_staging(),
        |it| {
            it.destination =
                destination(json!({"staging": {"target": "standby", "schema": "pg_temp"}}));
        },
        &[Mismatch],
    );
}

#[test]
fn scope_and_destination_belong_together() {
    use ObstacleCode::Mismatch;
    check(good(), |it| it.order.scope = Scope::DataOnly, &[Mismatch]);
    check(good(), |it| it.destination = staging(), &[Mismatch]);
    check(
        good(),
        |it| it.order.scope = serde_json::from_value(json!({"tables": ["app.users"]})).unwrap(),
        &[Mismatch],
    );
    for name in ["", &"x".repeat(64), "a\nb"] {
        check(
            good(),
            |it| {
                it.destination =
                    destination(json!({"new_database": {"target": "standby", "database": name}}));
            },
            &[Mismatch],
        );
    }
}

#[test]
fn nothing_is_restored_over_what_is_there() {
    use ObstacleCode::{Columns, Encoding, Exists, Missing, NotEmpty, Rights};
    check(good(), |it| it.target.database_exists = true, &[Exists]);
    check(
        good(),
        |it| {
            it.target.database_exists = true;
            it.target.user_tables = 3;
        },
        &[NotEmpty],
    );
    check(
        good(),
        |it| {
            it.target.database_exists = true;
            it.target.ledger = Some("20261121T030501Z-8f".to_owned());
        },
        &[Exists],
    );
    let users = |case: &mut Case, change: fn(&mut TableFacts)| {
        case.target.tables.values_mut().for_each(change);
    };
    check(
        good_existing(),
        |it| users(it, |it| it.has_rows = true),
        &[NotEmpty],
    );
    check(
        good_existing(),
        |it| users(it, |it| it.columns.clear()),
        &[Columns],
    );
    check(good_existing(), |it| it.target.tables.clear(), &[Missing]);
    check(
        good_existing(),
        |it| it.target.database_exists = false,
        &[Missing],
    );
    check(
        good_existing(),
        |it| it.target.is_superuser = false,
        &[Rights],
    );
    check(
        good_existing(),
        |it| it.target.encoding = Some("LATIN1".to_owned()),
        &[Encoding],
    );
}

#[test]
fn a_server_that_cannot_take_it_is_told_with_the_remedy() {
    use ObstacleCode::{
        Extension, JobTooLong, Locale, ReadOnly, Rights, Role, RowSecurity, ServerTooOld, Space,
        WeakTls,
    };
    check(
        good(),
        |it| it.target.server_version = 150_018,
        &[ServerTooOld],
    );
    check(good_staging(), |it| it.target.server_version = 150_018, &[]);
    check(good(), |it| it.target.is_in_recovery = true, &[ReadOnly]);
    check(
        good(),
        |it| it.target.can_create_database = false,
        &[Rights],
    );
    check(good(), |it| it.target.tls = Tls::Local, &[WeakTls]);
    check(
        good(),
        |it| {
            it.target.tls = Tls::Local;
            it.target.endpoint = endpoint("127.0.0.1", 5432, &["127.0.0.1"]);
        },
        &[],
    );
    let without = |name: &'static str| move |it: &mut Case| drop(it.target.extensions.remove(name));
    check(good(), without("hstore"), &[Extension]);
    check(
        good(),
        |it| {
            without("hstore")(it);
            it.order.leave_out.extensions = vec!["hstore".to_owned()];
        },
        &[],
    );
    let offers = |version: &'static str| {
        move |it: &mut Case| {
            let versions = BTreeSet::from([version.to_owned()]);
            it.target.extensions.insert("hstore".to_owned(), versions);
        }
    };
    check(good(), offers("1.7"), &[Extension]);
    check(good(), offers("1.10"), &[]);
    check(
        good(),
        |it| it.roles = BTreeSet::from(["writer".to_owned()]),
        &[Role],
    );
    check(
        good(),
        |it| it.roles = BTreeSet::from(["reader".to_owned()]),
        &[],
    );
    check(
        good(),
        |it| it.forced.push("app.users".to_owned()),
        &[RowSecurity],
    );
    check(
        good(),
        |it| {
            it.forced.push("app.users".to_owned());
            it.target.bypasses_row_security = true;
        },
        &[],
    );
    check(
        good(),
        |it| it.target.locale_is_available = Some(false),
        &[Locale],
    );
    check(good(), |it| it.target.free_bytes = Some(9), &[Space]);
    check(
        good(),
        |it| it.estimate.longest_job_seconds = 701.0,
        &[JobTooLong],
    );
    check(
        good(),
        |it| {
            it.estimate.longest_job_seconds = 701.0;
            it.job_seconds_max = None;
        },
        &[],
    );
}

#[test]
fn all_obstacles_are_told_at_once() {
    let mut case = good();
    case.live = true;
    case.target.is_in_recovery = true;
    case.target.server_version = 140_000;
    case.target.can_create_database = false;
    case.target.database_exists = true;
    case.target.extensions.clear();
    case.roles.insert("writer".to_owned());
    assert_eq!(case.judge().len(), 7);
}
