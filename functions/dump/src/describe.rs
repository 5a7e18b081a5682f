//! What the manifest says of the source, beside its rows.

use std::collections::HashMap;

use jiff::Timestamp;
use shared::manifest::{
    self, DatabaseSettings, Extension, Manifest, MigrationHead, QualifiedName, Run, Source, Tools,
};
use shared::pg::{Connection, PgError};
use shared::planner::Planned;

use crate::catalog::{Relation, Server, Snapshot, Values, asking};
use crate::commit::TableFacts;
use crate::copy::Copier;
use crate::engine::{Order, Sessions, ZSTD_LEVEL};
use crate::error::DumpError;

/// Everything in the manifest that is known before the copy.
pub fn describe(
    order: &Order<'_>,
    sessions: &mut Sessions,
    server: &Server,
    copier: &Copier<'_>,
    (snapshot, planned, facts): (&Snapshot, &Planned, &TableFacts),
) -> Result<Manifest, DumpError> {
    let worker = sessions
        .workers
        .first_mut()
        .ok_or(DumpError::Internal("no workers"))?;
    let begin = copier.begin();
    let (migration_head, warning) = migration_head(worker, &facts.relations, &begin)?;
    let pg_dump = shared::archive::lossy(&planned.toc.pg_dump_version);
    Ok(Manifest {
        format: manifest::FORMAT,
        backup_id: order.id,
        database: order.item.database.clone(),
        kind: order.item.kind,
        attempt: order.attempt.to_owned(),
        previous: order.item.previous.clone(),
        scheduled_at: order.id.scheduled_at(),
        started_at: order.started_at,
        snapshot_at: data_as_of(order, snapshot),
        finished_at: order.started_at,
        source: Source {
            provider: order.database.provider,
            host: order.url.host.clone(),
            port: order.url.port,
            database: order.url.database.clone(),
            user: order.url.user.clone(),
            server_version: server.version.clone(),
            server_version_num: server.version_num,
            lsn: snapshot.lsn.clone(),
            system_identifier: system_identifier(&mut sessions.watcher)?,
            branch_id: order
                .item
                .source_branch
                .as_ref()
                .map(|it| it.branch_id.clone()),
        },
        tools: Tools {
            lifeboat: env!("CARGO_PKG_VERSION").to_owned(),
            pg_dump: pg_dump.split(' ').next().unwrap_or_default().to_owned(),
        },
        archive_version: planned.toc.version_text(),
        recipients: order.policy.recipients.clone(),
        settings: settings(&mut sessions.coordinator, server)?,
        extensions: extensions(&mut sessions.coordinator)?,
        objects: Vec::new(),
        tables: Vec::new(),
        sequences: Vec::new(),
        large_objects: Vec::new(),
        migration_head,
        left_out: planned.warnings.clone(),
        warnings: warning.into_iter().collect(),
        totals: manifest::Totals::default(),
        run: Run {
            connections: order.connections,
            zstd_level: ZSTD_LEVEL,
            seconds: 0.0,
            copy_bytes_per_second: 0.0,
            cpu_seconds: 0.0,
            peak_memory_bytes: 0,
            planner_seconds: planned.seconds,
            planner_peak_memory_bytes: planned.peak_memory_bytes,
        },
    })
}

/// A branch may be read long after it was made.
fn data_as_of(order: &Order<'_>, snapshot: &Snapshot) -> Timestamp {
    let branch = order.item.source_branch.as_ref();
    branch.map_or(snapshot.at, |it| it.data_as_of.min(snapshot.at))
}

fn extensions(connection: &mut Connection) -> Result<Vec<Extension>, DumpError> {
    let rows = connection
        .query(
            "SELECT e.extname, e.extversion, n.nspname
             FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace ORDER BY 1",
        )
        .map_err(asking("its extensions"))?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let mut row = Values::of(row);
            Extension {
                name: row.text(),
                version: row.text(),
                schema: row.text(),
            }
        })
        .collect())
}

/// What a copy of this database has to be created with.
fn settings(connection: &mut Connection, server: &Server) -> Result<DatabaseSettings, DumpError> {
    let (provider, locale) = match server.version_num {
        ..150_000 => ("'c'", "NULL"),
        150_000..170_000 => ("datlocprovider", "daticulocale"),
        _ => ("datlocprovider", "datlocale"),
    };
    let sql = format!(
        "SELECT datcollate, datctype, {provider}, {locale},
                (SELECT current_setting('lc_monetary') WHERE EXISTS (
                    SELECT FROM pg_attribute WHERE atttypid IN ('money'::regtype, 'money[]'::regtype)))
         FROM pg_database WHERE datname = current_database()"
    );
    let mut row = Values::first(connection.query(sql).map_err(asking("its settings"))?);
    Ok(DatabaseSettings {
        encoding: server.encoding.clone(),
        collate: row.text(),
        ctype: row.text(),
        locale_provider: match row.text().as_str() {
            "i" => "icu",
            "b" => "builtin",
            _ => "libc",
        }
        .to_owned(),
        icu_locale: row.optional(),
        lc_monetary: row.optional(),
    })
}

/// Names the cluster; a role that may not ask gets `None`.
fn system_identifier(connection: &mut Connection) -> Result<Option<String>, DumpError> {
    match connection.query_value("SELECT system_identifier FROM pg_control_system()") {
        Ok(identifier) => Ok(Some(identifier)),
        Err(PgError::Server(_)) => Ok(None),
        Err(error) => Err(asking("who it is")(error)),
    }
}

/// The tables of known migration tools, and how each names its newest applied migration.
const MIGRATION_TOOLS: [(&str, &str, &str); 7] = [
    (
        "drizzle",
        "__drizzle_migrations",
        "SELECT hash FROM {} ORDER BY created_at DESC LIMIT 1",
    ),
    (
        "prisma",
        "_prisma_migrations",
        "SELECT migration_name FROM {} WHERE finished_at IS NOT NULL AND rolled_back_at IS NULL
         ORDER BY finished_at DESC LIMIT 1",
    ),
    (
        "sqlx",
        "_sqlx_migrations",
        "SELECT version || ' ' || description FROM {} WHERE success ORDER BY version DESC LIMIT 1",
    ),
    (
        "diesel",
        "__diesel_schema_migrations",
        "SELECT version FROM {} ORDER BY version DESC LIMIT 1",
    ),
    (
        "flyway",
        "flyway_schema_history",
        "SELECT concat_ws(' ', version, description) FROM {} WHERE success
         ORDER BY installed_rank DESC LIMIT 1",
    ),
    (
        "rails",
        "schema_migrations",
        "SELECT version FROM {} ORDER BY version DESC LIMIT 1",
    ),
    (
        "alembic",
        "alembic_version",
        "SELECT version_num FROM {} LIMIT 1",
    ),
];

/// The newest applied migration, asked on the snapshot by a session that may fail: a table of
/// the right name need not have the right columns.
fn migration_head(
    connection: &mut Connection,
    relations: &HashMap<u32, Relation>,
    begin: &str,
) -> Result<(Option<MigrationHead>, Option<String>), DumpError> {
    for (tool, table, question) in MIGRATION_TOOLS {
        let Some(relation) = relations.values().find(|it| it.name == table) else {
            continue;
        };
        let name = format!("\"{}\".\"{table}\"", relation.schema.replace('"', "\"\""));
        let answer = connection.query(format!("{begin}; {}", question.replace("{}", &name)));
        let answer = match answer {
            Ok(rows) => Ok(rows
                .into_iter()
                .next_back()
                .map(|row| Values::of(row).text())),
            Err(PgError::Server(error)) => Err(error),
            Err(error) => return Err(asking("its migrations")(error)),
        };
        connection
            .query("ROLLBACK")
            .map_err(asking("its migrations"))?;
        return Ok(match answer {
            Ok(head) => {
                let table = QualifiedName {
                    schema: relation.schema.clone(),
                    name: relation.name.clone(),
                };
                let tool = tool.to_owned();
                (head.map(|head| MigrationHead { tool, table, head }), None)
            }
            Err(error) => {
                let warning = format!(
                    "{name} looks like {tool}'s, but its newest migration cannot be read: {error}"
                );
                (None, Some(warning))
            }
        });
    }
    Ok((None, None))
}
