//! The judgement itself: what the target is, and what is there already. Pure.

use super::endpoint::{is_local, is_same};
use super::{Obstacle, ObstacleCode, SourceFacts, TargetFacts, Wish};
use crate::database_url::Tls;
use crate::restore::{Destination, Scope};

/// Everything that stands in the way, at once.
pub fn judge(target: &TargetFacts, source: &SourceFacts, wish: &Wish<'_>) -> Vec<Obstacle> {
    let judge = Judge {
        target,
        source,
        wish,
    };
    let mut obstacles: Vec<Obstacle> = [
        judge.source(),
        judge.live(),
        judge.mismatch(),
        judge.tls(),
        judge.standby(),
        judge.version(),
        judge.rights(),
        judge.job(),
    ]
    .into_iter()
    .flatten()
    .collect();
    obstacles.extend(judge.place());
    obstacles.extend(judge.tables());
    obstacles.extend(judge.needs());
    obstacles
}

/// How it is known that the target's server is the source's; `None` as far as nothing says so.
pub fn same_server(target: &TargetFacts, source: &SourceFacts) -> Option<String> {
    let same_cluster = matches!(
        (&target.system_identifier, &source.system_identifier),
        (Some(target), Some(source)) if target == source
    );
    let endpoint = &target.endpoint;
    let twin = source.endpoints.iter().find(|it| is_same(it, endpoint));
    match twin {
        Some(twin) => Some(format!(
            "{}:{} leads to the source at {}:{}",
            endpoint.host, endpoint.port, twin.host, twin.port
        )),
        None => same_cluster.then(|| {
            format!(
                "{}:{} is the source's own server, by its system identifier",
                endpoint.host, endpoint.port
            )
        }),
    }
}

/// How many names a message has.
const NAMES_MAX: usize = 10;
/// The oldest server that is restored into.
const MAJOR_MIN: u32 = 14;

pub(super) struct Judge<'a> {
    pub(super) target: &'a TargetFacts,
    source: &'a SourceFacts,
    pub(super) wish: &'a Wish<'a>,
}

pub(super) fn obstacle(
    code: ObstacleCode,
    message: String,
    remedy: impl Into<String>,
) -> Option<Obstacle> {
    Some(Obstacle {
        code,
        message,
        remedy: remedy.into(),
    })
}

/// `a, b, c and 7 more`
pub(super) fn listed(names: &[String]) -> String {
    let shown = names[..names.len().min(NAMES_MAX)].join(", ");
    match names.len().saturating_sub(NAMES_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

impl Judge<'_> {
    fn is_staging(&self) -> bool {
        matches!(self.wish.destination, Destination::Staging { .. })
    }

    pub(super) fn has_whole_schema(&self) -> bool {
        matches!(self.wish.order.scope, Scope::Everything | Scope::SchemaOnly)
    }

    /// Staging is made for the live database, and writes beside it only.
    fn source(&self) -> Option<Obstacle> {
        if self.is_staging() || self.target.database != self.source.database {
            return None;
        }
        let reason = same_server(self.target, self.source)?;
        obstacle(
            ObstacleCode::IsTheSource,
            format!(
                "the target is the database {} that the backup is of: {reason}",
                self.target.database
            ),
            "restore into a new database; for single tables, into a staging schema beside the live ones",
        )
    }

    fn live(&self) -> Option<Obstacle> {
        if !self.wish.live || self.is_staging() {
            return None;
        }
        obstacle(
            ObstacleCode::IsLive,
            format!(
                "lifeboat.toml marks the target {} as live: production takes nothing but a staging schema",
                self.wish.destination.target()
            ),
            "name a target that is not live, or stage single tables",
        )
    }

    fn mismatch(&self) -> Option<Obstacle> {
        let (scope, destination) = (&self.wish.order.scope, self.wish.destination);
        let belong = match (scope, destination) {
            (Scope::Everything | Scope::SchemaOnly, Destination::NewDatabase { .. })
            | (Scope::DataOnly, Destination::ExistingTables { .. }) => true,
            (Scope::Tables(tables), Destination::Staging { .. }) => !tables.is_empty(),
            (Scope::Everything | Scope::SchemaOnly | Scope::DataOnly | Scope::Tables(_), _) => {
                false
            }
        };
        if !belong {
            return obstacle(
                ObstacleCode::Mismatch,
                format!("{scope} cannot go into {destination}"),
                "everything and schema_only go into a new_database, data_only into existing_tables, tables (one or more) into staging",
            );
        }
        let (what, name) = match destination {
            Destination::NewDatabase { database, .. }
            | Destination::ExistingTables { database, .. } => ("database", database),
            Destination::Staging { schema, .. } => ("schema", schema),
        };
        let is_reserved = what == "schema" && name.starts_with("pg_");
        if name.is_empty() || name.len() > 63 || is_reserved || name.chars().any(char::is_control) {
            return obstacle(
                ObstacleCode::Mismatch,
                format!("{name:?} cannot be the name of a {what}"),
                "write 1 to 63 bytes; a schema's name may not begin with pg_",
            );
        }
        None
    }

    fn tls(&self) -> Option<Obstacle> {
        let host = &self.target.endpoint.host;
        if self.target.tls == Tls::VerifyFull || is_local(host) {
            return None;
        }
        obstacle(
            ObstacleCode::WeakTls,
            format!("the connection to {host} would not be encrypted and verified"),
            "write sslmode=verify-full into the target's secret",
        )
    }

    fn standby(&self) -> Option<Obstacle> {
        if !self.target.is_in_recovery {
            return None;
        }
        obstacle(
            ObstacleCode::ReadOnly,
            "the target's server is a standby, which nothing can be written to".to_owned(),
            "name its primary, or promote it",
        )
    }

    fn version(&self) -> Option<Obstacle> {
        let (target, source) = (
            self.target.server_version / 10_000,
            self.wish.manifest.source.server_version_num / 10_000,
        );
        let is_older = target < source && !self.is_staging();
        if target >= MAJOR_MIN && !is_older {
            return None;
        }
        obstacle(
            ObstacleCode::ServerTooOld,
            format!(
                "the target is PostgreSQL {target}, the backup is of PostgreSQL {source}: what a newer server writes, an older one need not understand"
            ),
            format!("restore into PostgreSQL {} or newer", source.max(MAJOR_MIN)),
        )
    }

    fn rights(&self) -> Option<Obstacle> {
        let (target, role) = (self.target, &self.target.role);
        if target.is_superuser {
            return None;
        }
        match self.wish.destination {
            Destination::NewDatabase { .. } if !target.can_create_database => obstacle(
                ObstacleCode::Rights,
                format!("the role {role} may not create databases at the target"),
                format!("ALTER ROLE \"{role}\" CREATEDB, or another role in the target's secret"),
            ),
            Destination::ExistingTables { .. } => obstacle(
                ObstacleCode::Rights,
                format!(
                    "the role {role} may not turn off triggers and foreign keys while rows are loaded"
                ),
                "a superuser in the target's secret; or restore everything into a new database",
            ),
            Destination::NewDatabase { .. } | Destination::Staging { .. } => None,
        }
    }

    fn job(&self) -> Option<Obstacle> {
        let (max, estimate) = (self.wish.job_seconds_max?, self.wish.estimate);
        if estimate.longest_job_seconds <= max {
            return None;
        }
        obstacle(
            ObstacleCode::JobTooLong,
            format!(
                "{} is expected to take {:.0} s; one piece of work has {max:.0} s in an invocation",
                estimate.longest_job, estimate.longest_job_seconds
            ),
            "restore on any machine that reaches the bucket, with `make restore`: the same engine without a deadline",
        )
    }

    /// What is there already where the restore would go.
    fn place(&self) -> Option<Obstacle> {
        let target = self.target;
        if let Some(plan_id) = &target.ledger {
            return obstacle(
                ObstacleCode::Exists,
                format!("an unfinished or failed restore is there already, of the plan {plan_id}"),
                match self.wish.destination {
                    Destination::Staging { schema, .. } => format!(
                        "name another schema, or DROP SCHEMA {} CASCADE",
                        quoted(schema)
                    ),
                    Destination::NewDatabase { database, .. }
                    | Destination::ExistingTables { database, .. } => {
                        format!(
                            "name another database, or DROP DATABASE {} WITH (FORCE)",
                            quoted(database)
                        )
                    }
                },
            );
        }
        match self.wish.destination {
            Destination::NewDatabase { database, .. } if target.user_tables > 0 => obstacle(
                ObstacleCode::NotEmpty,
                format!(
                    "there is a database {database} already, with {} tables, views or sequences",
                    target.user_tables
                ),
                "name a database that does not exist: nothing is ever restored over another",
            ),
            Destination::NewDatabase { database, .. } if target.database_exists => obstacle(
                ObstacleCode::Exists,
                format!("there is a database {database} already"),
                "name a database that does not exist: it is made with the backup's own encoding and locale",
            ),
            Destination::Staging { schema, .. } if target.schema_exists => obstacle(
                ObstacleCode::Exists,
                format!("there is a schema {schema} already"),
                "name a schema that does not exist",
            ),
            Destination::ExistingTables { database, .. } if !target.database_exists => obstacle(
                ObstacleCode::Missing,
                format!("there is no database {database}"),
                "create it with its tables (\"scope\": \"schema_only\" does), or restore everything into a new one",
            ),
            Destination::NewDatabase { .. }
            | Destination::Staging { .. }
            | Destination::ExistingTables { .. } => None,
        }
    }
}

pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
