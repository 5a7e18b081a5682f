//! The plan: what would be restored, from what, into what, how long it takes, and everything
//! that stands in its way. Pure.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use shared::backup::BackupId;
use shared::plan::{Basis, plan_id};
use shared::restore::guard::{Obstacle, TargetFacts};
use shared::restore::{Destination, Estimate, Order};
use shared::sealed::sha256;

use crate::request::PlanRequest;

/// The only format there is.
pub const FORMAT: u32 = 1;

/// One plan, as the work bucket keeps it. Written once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Always [`FORMAT`].
    pub format: u32,
    pub plan_id: String,
    pub planned_at: Timestamp,
    /// Nothing is begun after this.
    pub expires_at: Timestamp,
    pub request: PlanRequest,
    pub backup_id: BackupId,
    /// The data is as of this moment.
    pub snapshot_at: Timestamp,
    /// Read back and found whole; false only where the request asked for that.
    pub verified: bool,
    pub manifest_sha256: String,
    /// What a person types to approve: `server/database` or `server/schema`.
    pub target_name: String,
    pub target: Target,
    pub order: Order,
    pub estimate: Estimate,
    /// Rates come from an earlier restore of this database, and are not assumed.
    pub is_rate_measured: bool,
    pub obstacles: Vec<Obstacle>,
    /// What will be left out and why, and what else a person should know.
    pub notes: Vec<String>,
    /// Everything that the plan depends on, by what a person calls it.
    pub basis: Basis,
}

/// What was found where the restore will go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    pub host: String,
    pub port: u16,
    pub database: String,
    pub system_identifier: Option<String>,
    /// As `server_version_num`, such as 180006.
    pub server_version: u32,
}

/// All that a plan is made from.
#[derive(Clone, Debug)]
pub struct World {
    pub request: PlanRequest,
    pub backup_id: BackupId,
    pub snapshot_at: Timestamp,
    pub verified: bool,
    pub manifest_sha256: String,
    pub target: TargetFacts,
    pub is_live: bool,
    /// Its `plan_id` is empty: the plan has none yet.
    pub order: Order,
    pub estimate: Estimate,
    pub is_rate_measured: bool,
    pub obstacles: Vec<Obstacle>,
    pub notes: Vec<String>,
}

/// Makes the plan of this moment.
pub fn plan(world: World, now: Timestamp, lifetime: SignedDuration) -> Plan {
    let basis = basis(&world);
    let plan_id = plan_id(&basis, now);
    let World {
        request, target, ..
    } = world;
    Plan {
        format: FORMAT,
        planned_at: now,
        expires_at: now.checked_add(lifetime).unwrap_or(now),
        backup_id: world.backup_id,
        snapshot_at: world.snapshot_at,
        verified: world.verified,
        manifest_sha256: world.manifest_sha256,
        target_name: target_name(&request.target, &target.database),
        target: Target {
            host: target.endpoint.host,
            port: target.endpoint.port,
            database: target.database,
            system_identifier: target.system_identifier,
            server_version: target.server_version,
        },
        order: Order {
            plan_id: plan_id.clone(),
            ..world.order
        },
        estimate: world.estimate,
        is_rate_measured: world.is_rate_measured,
        obstacles: world.obstacles,
        notes: world.notes,
        request,
        plan_id,
        basis,
    }
}

fn target_name(destination: &Destination, database: &str) -> String {
    match destination {
        Destination::NewDatabase { target, database }
        | Destination::ExistingTables { target, database } => format!("{target}/{database}"),
        Destination::Staging { target, schema } => format!("{target}/{database}/{schema}"),
    }
}

/// What may not change. Addresses, rates and the clock may.
#[expect(clippy::too_many_lines, reason = "one list")]
pub fn basis(world: &World) -> Basis {
    let World {
        request,
        target,
        order,
        ..
    } = world;
    let digest = |value: &dyn std::fmt::Debug| sha256(format!("{value:?}").as_bytes());
    let yes_no = |is| if is { "yes" } else { "no" }.to_owned();
    let or_unknown = |value: &Option<String>| value.clone().unwrap_or("unknown".to_owned());
    let facts = [
        ("the database", request.database.to_string()),
        ("the backup", world.backup_id.to_string()),
        ("the manifest's SHA-256", world.manifest_sha256.clone()),
        ("whether the backup is verified", yes_no(world.verified)),
        ("the scope", request.scope.to_string()),
        ("the destination", request.target.to_string()),
        ("whether owners are given", yes_no(order.owners)),
        ("whether rights are granted", yes_no(order.privileges)),
        ("what is left out", format!("{:?}", order.leave_out)),
        ("the number of connections", order.connections.to_string()),
        ("whether the target is live", yes_no(world.is_live)),
        (
            "the target's server",
            format!("{}:{}", target.endpoint.host, target.endpoint.port),
        ),
        ("the target's database", target.database.clone()),
        (
            "the target's system identifier",
            or_unknown(&target.system_identifier),
        ),
        (
            "the target's PostgreSQL version",
            target.server_version.to_string(),
        ),
        ("the role at the target", target.role.clone()),
        (
            "the rights of the role at the target",
            format!(
                "superuser {}, creates databases {}, bypasses row security {}",
                yes_no(target.is_superuser),
                yes_no(target.can_create_database),
                yes_no(target.bypasses_row_security)
            ),
        ),
        (
            "whether the target is a standby",
            yes_no(target.is_in_recovery),
        ),
        (
            "whether the target's database exists",
            yes_no(target.database_exists),
        ),
        ("the target's encoding", or_unknown(&target.encoding)),
        (
            "an unfinished restore in the target",
            target.ledger.clone().unwrap_or("none".to_owned()),
        ),
        (
            "the number of tables in the target",
            target.user_tables.to_string(),
        ),
        ("the tables that are to be filled", digest(&target.tables)),
        (
            "whether the staging schema exists",
            yes_no(target.schema_exists),
        ),
        (
            "the extensions that the target offers",
            digest(&target.extensions),
        ),
        ("the roles of the target", digest(&target.roles)),
    ];
    facts
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use shared::database_url::Tls;
    use shared::plan::changes;
    use shared::restore::guard::Endpoint;
    use shared::restore::{LeaveOut, Scope};

    use crate::request::Point;

    pub(crate) fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    pub(crate) fn world() -> World {
        World {
            request: PlanRequest {
                database: "app".parse().unwrap(),
                point: Point::Latest,
                scope: Scope::Everything,
                target: Destination::NewDatabase {
                    target: "standby".parse().unwrap(),
                    database: "app_restored".to_owned(),
                },
                owners: false,
                privileges: false,
                unverified: false,
                reason: None,
            },
            backup_id: "20261121T010000Z-nightly".parse().unwrap(),
            snapshot_at: at("2026-11-21T01:00:04Z"),
            verified: true,
            manifest_sha256: "00".repeat(32),
            target: TargetFacts {
                endpoint: Endpoint {
                    host: "standby.example".to_owned(),
                    port: 5432,
                    addresses: Vec::new(),
                },
                tls: Tls::VerifyFull,
                database: "app_restored".to_owned(),
                system_identifier: Some("7".to_owned()),
                server_version: 180_006,
                role: "restorer".to_owned(),
                is_superuser: false,
                has_platform_rights: false,
                can_create_database: true,
                bypasses_row_security: true,
                is_in_recovery: false,
                database_exists: false,
                encoding: None,
                ledger: None,
                user_tables: 0,
                tables: BTreeMap::new(),
                schema_exists: false,
                extensions: BTreeMap::new(),
                roles: std::collections::BTreeSet::new(),
                superuser_extensions: std::collections::BTreeSet::new(),
                missing_locale: None,
                unreadable: std::collections::BTreeSet::new(),
            },
            is_live: false,
            order: Order {
                plan_id: String::new(),
                scope: Scope::Everything,
                leave_out: LeaveOut::default(),
                owners: false,
                privileges: false,
                connections: 2,
                staging_schema: None,
            },
            estimate: Estimate::default(),
            is_rate_measured: false,
            obstacles: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn id(world: World) -> String {
        plan(
            world,
            at("2026-11-21T03:05:01Z"),
            SignedDuration::from_hours(4),
        )
        .plan_id
    }

    #[test]
    fn a_plan_is_named_by_its_time_and_all_it_depends_on() {
        let named = id(world());
        assert!(named.starts_with("20261121T030501Z-"), "{named}");
        assert_eq!(named, id(world()));
        let changes: [fn(&mut World); 7] = [
            |it| it.manifest_sha256 = "11".repeat(32),
            |it| it.target.system_identifier = Some("8".to_owned()),
            |it| it.target.database_exists = true,
            |it| it.request.scope = Scope::SchemaOnly,
            |it| it.order.owners = true,
            |it| it.order.leave_out.schemas = vec!["auth".to_owned()],
            |it| it.is_live = true,
        ];
        for change in changes {
            let mut other = world();
            change(&mut other);
            assert_ne!(named, id(other));
        }
    }

    #[test]
    fn what_changes_by_itself_changes_no_plan() {
        let mut later = world();
        let live = ("app".to_owned(), "users".to_owned());
        later.target.unreadable.insert(live);
        later.target.endpoint.addresses = vec!["192.0.2.1".parse().unwrap()];
        later.estimate.seconds = 7.0;
        assert_eq!(changes(&basis(&world()), &basis(&later)), [""; 0]);
    }

    #[test]
    fn a_change_is_told_by_its_name_with_both_values() {
        let mut later = world();
        later.target.database_exists = true;
        later.target.roles.insert("intruder".to_owned());
        assert_eq!(
            changes(&basis(&world()), &basis(&later)),
            [
                "the roles of the target: not the same as when it was planned",
                "whether the target's database exists: it was no, and is yes now",
            ]
        );
    }

    #[test]
    fn the_name_to_type_says_where_it_goes() {
        let plan = plan(
            world(),
            at("2026-11-21T03:05:01Z"),
            SignedDuration::from_hours(4),
        );
        assert_eq!(plan.target_name, "standby/app_restored");
        assert_eq!(plan.expires_at, at("2026-11-21T07:05:01Z"));
        assert_eq!(plan.order.plan_id, plan.plan_id);
        let staging = Destination::Staging {
            target: "live-app".parse().unwrap(),
            schema: "lifeboat_20261121".to_owned(),
        };
        assert_eq!(
            target_name(&staging, "app"),
            "live-app/app/lifeboat_20261121"
        );
    }
}
