//! What [`super::judge`] has to know of target and source. Changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, ToSocketAddrs};
use std::time::Duration;

use super::locale;
use super::{Endpoint, SourceFacts, TableFacts, TargetFacts};
use crate::database_url::DatabaseUrl;
use crate::manifest::{DatabaseSettings, Manifest};
use crate::pg::{Connection, PgError, Row, ServerError};
use crate::restore::advance::blocking;
use crate::restore::ask::{Fields, literal, query, value};
use crate::restore::connect::connect;
use crate::restore::ledger;
use crate::restore::{Destination, RestoreError};

/// Catalogs answer quickly, or not at all.
const STALL: Duration = Duration::from_secs(60);

/// Tables that rows go into, and which of their rows are the backup's.
type Conditions = BTreeMap<(String, String), Option<String>>;

/// Asks the target what [`super::judge`] needs. Changes nothing.
pub async fn gather(
    manifest: &Manifest,
    url: &DatabaseUrl,
    destination: &Destination,
) -> Result<TargetFacts, RestoreError> {
    let (url, destination) = (url.clone(), destination.clone());
    let settings = manifest.settings.clone();
    let tables: Conditions = match &destination {
        Destination::ExistingTables { .. } => {
            let tables = manifest.tables.iter();
            tables
                .map(|it| ((it.schema.clone(), it.name.clone()), it.condition.clone()))
                .collect()
        }
        Destination::NewDatabase { .. } | Destination::Staging { .. } => Conditions::new(),
    };
    blocking(move || ask(&url, &destination, &settings, &tables)).await
}

/// The source as the manifest has it.
pub async fn source_facts(manifest: &Manifest) -> SourceFacts {
    let source = manifest.source.clone();
    let resolved = tokio::task::spawn_blocking(move || endpoint(source.host, source.port));
    SourceFacts {
        system_identifier: manifest.source.system_identifier.clone(),
        database: manifest.source.database.clone(),
        // Names are compared even where they lead nowhere any more.
        endpoints: resolved.await.into_iter().collect(),
    }
}

fn endpoint(host: String, port: u16) -> Endpoint {
    let addresses = if host.starts_with('/') {
        Vec::new()
    } else {
        let resolved = (host.as_str(), port).to_socket_addrs();
        let mut addresses: Vec<IpAddr> = resolved
            .map(|found| found.map(|it| it.ip()).collect())
            .unwrap_or_default();
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    };
    Endpoint {
        host,
        port,
        addresses,
    }
}

fn ask(
    url: &DatabaseUrl,
    destination: &Destination,
    settings: &DatabaseSettings,
    wanted: &Conditions,
) -> Result<TargetFacts, RestoreError> {
    let mut server = open(url)?;
    let database = match destination {
        Destination::NewDatabase { database, .. }
        | Destination::ExistingTables { database, .. } => database.clone(),
        Destination::Staging { .. } => url.database.clone(),
    };
    let mut facts = of_server(&mut server, url, &database)?;
    let sql = format!(
        "SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = {}",
        literal(&database)
    );
    let found = query(&mut server, "for the database", &sql)?;
    if let Some(row) = found.into_iter().next() {
        facts.database_exists = true;
        facts.encoding = Some(Fields::of(Some(row)).text());
    }
    match destination {
        Destination::Staging { schema, .. } => of_schema(&mut server, schema, &mut facts)?,
        Destination::NewDatabase { .. } => {
            facts.missing_locale = locale::missing(&mut server, facts.server_version, settings)?;
        }
        Destination::ExistingTables { .. } => {}
    }
    let is_staging = matches!(destination, Destination::Staging { .. });
    if facts.database_exists && !is_staging {
        let mut inside = open(&url.with_database(&database))?;
        of_database(&mut inside, wanted, &mut facts)?;
    }
    Ok(facts)
}

/// A transaction that changes nothing, with settings that end with it.
fn open(url: &DatabaseUrl) -> Result<Connection, RestoreError> {
    let mut connection = connect(url, STALL)?;
    let sql = "BEGIN READ ONLY; SET LOCAL client_encoding = 'UTF8';
        SET LOCAL standard_conforming_strings = on; SET LOCAL search_path = '';
        SET LOCAL statement_timeout = '60s'";
    query(&mut connection, "to take our settings", sql)?;
    Ok(connection)
}

/// What a platform gives its customers instead of a superuser.
const PLATFORM_ROLES: &str = "'{rds_superuser, neon_superuser, cloudsqlsuperuser, azure_pg_admin, alloydbsuperuser}'::name[]";

fn of_server(
    server: &mut Connection,
    url: &DatabaseUrl,
    database: &str,
) -> Result<TargetFacts, RestoreError> {
    let sql = format!(
        "SELECT current_setting('server_version_num'), current_user, rolsuper, rolcreatedb,
            rolbypassrls, pg_is_in_recovery(), EXISTS (SELECT FROM pg_roles p
                WHERE p.rolname = ANY ({PLATFORM_ROLES}) AND pg_has_role(p.oid, 'MEMBER'))
         FROM pg_roles WHERE rolname = current_user"
    );
    let rows = query(server, "who we are there", &sql)?;
    let mut row = Fields::of(rows.into_iter().next());
    let (extensions, superuser_extensions) = extensions(server)?;
    Ok(TargetFacts {
        endpoint: endpoint(url.host.clone(), url.port),
        tls: url.tls,
        database: database.to_owned(),
        server_version: u32::try_from(row.number()).unwrap_or_default(),
        role: row.text(),
        is_superuser: row.flag(),
        can_create_database: row.flag(),
        bypasses_row_security: row.flag(),
        is_in_recovery: row.flag(),
        has_platform_rights: row.flag(),
        system_identifier: system_identifier(server)?,
        database_exists: false,
        encoding: None,
        ledger: None,
        user_tables: 0,
        tables: BTreeMap::new(),
        schema_exists: false,
        extensions,
        superuser_extensions,
        roles: roles(server)?,
        missing_locale: None,
        unreadable: BTreeSet::new(),
    })
}

/// Some roles, and some providers, do not allow the question.
fn system_identifier(server: &mut Connection) -> Result<Option<String>, RestoreError> {
    let doing = "for its system identifier";
    let sql = "SELECT system_identifier FROM pg_control_system()";
    match try_value(server, doing, sql)? {
        Ok(identifier) => Ok(Some(identifier)),
        Err(_) => Ok(None),
    }
}

/// A question that may be refused, which ends no transaction.
pub(super) fn try_value(
    server: &mut Connection,
    doing: &'static str,
    sql: &str,
) -> Result<Result<String, ServerError>, RestoreError> {
    query(server, doing, "SAVEPOINT question")?;
    match server.query_value(sql) {
        Ok(value) => Ok(Ok(value)),
        Err(PgError::Server(error)) => {
            query(server, doing, "ROLLBACK TO SAVEPOINT question")?;
            Ok(Err(error))
        }
        Err(source) => Err(RestoreError::Query { doing, source }),
    }
}

type Versions = BTreeMap<String, BTreeSet<String>>;

/// All that it offers, and which of these only a superuser may install.
fn extensions(server: &mut Connection) -> Result<(Versions, BTreeSet<String>), RestoreError> {
    let sql =
        "SELECT name, version, superuser AND NOT trusted FROM pg_available_extension_versions";
    let (mut extensions, mut guarded) = (Versions::new(), BTreeSet::new());
    for row in query(server, "for the extensions it offers", sql)? {
        let mut row = Fields::of(Some(row));
        let (name, version) = (row.text(), row.text());
        if row.flag() {
            guarded.insert(name.clone());
        }
        extensions.entry(name).or_default().insert(version);
    }
    Ok((extensions, guarded))
}

fn roles(server: &mut Connection) -> Result<BTreeSet<String>, RestoreError> {
    let rows = query(server, "for its roles", "SELECT rolname FROM pg_roles")?;
    let name = |row: Row| Fields::of(Some(row)).text();
    Ok(rows.into_iter().map(name).collect())
}

fn of_schema(
    server: &mut Connection,
    schema: &str,
    facts: &mut TargetFacts,
) -> Result<(), RestoreError> {
    let sql = format!(
        "SELECT count(*) > 0 FROM pg_namespace WHERE nspname = {}",
        literal(schema)
    );
    facts.schema_exists = value(server, "for the schema", &sql)? == "t";
    let table = format!("\"{}\".\"lifeboat run\"", schema.replace('"', "\"\""));
    facts.ledger = plan_of(server, &table)?;
    let sql = "SELECT n.nspname, c.relname
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
           AND NOT (has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
                    AND NOT row_security_active(c.oid))";
    for row in query(server, "which live tables may not be read", sql)? {
        let mut row = Fields::of(Some(row));
        facts.unreadable.insert((row.text(), row.text()));
    }
    Ok(())
}

/// The plan of a restore that is not finished.
fn plan_of(connection: &mut Connection, table: &str) -> Result<Option<String>, RestoreError> {
    let sql = format!("SELECT to_regclass({}) IS NOT NULL", literal(table));
    if value(connection, "for an unfinished restore", &sql)? != "t" {
        return Ok(None);
    }
    let sql = format!("SELECT plan_id FROM {table}");
    let rows = query(connection, "whose unfinished restore that is", &sql)?;
    let plan = rows
        .into_iter()
        .next()
        .map(|row| Fields::of(Some(row)).text());
    // A table without its row is a restore that was cut while it began.
    Ok(Some(plan.unwrap_or_else(|| "unknown".to_owned())))
}

fn of_database(
    inside: &mut Connection,
    wanted: &Conditions,
    facts: &mut TargetFacts,
) -> Result<(), RestoreError> {
    facts.ledger = plan_of(inside, &format!("{}.run", ledger::SCHEMA))?;
    let count = value(inside, "for user tables", ledger::USER_RELATIONS)?;
    facts.user_tables = count.parse().unwrap_or_default();
    if wanted.is_empty() {
        return Ok(());
    }
    let sql = "SELECT n.nspname, c.relname, quote_ident(n.nspname) || '.' || quote_ident(c.relname),
            EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgenabled IN ('A', 'R')),
            coalesce((SELECT string_agg(attname, E'\\x01') FROM pg_attribute a
                WHERE a.attrelid = c.oid AND attnum > 0 AND NOT attisdropped), '')
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p')";
    for row in query(inside, "for its tables", sql)? {
        let mut row = Fields::of(Some(row));
        let key = (row.text(), row.text());
        let Some(condition) = wanted.get(&key) else {
            continue;
        };
        let (quoted, has_stubborn_triggers, columns) = (row.text(), row.flag(), row.text());
        // Of an extension's own table, rows that the extension brings are not in the way.
        let condition = condition.as_deref().unwrap_or_default();
        let sql = format!("SELECT EXISTS (SELECT FROM {quoted} {condition})");
        let found = TableFacts {
            has_rows: value(inside, "whether a table has rows", &sql)? == "t",
            columns: columns.split('\u{1}').map(str::to_owned).collect(),
            has_stubborn_triggers,
        };
        facts.tables.insert(key, found);
    }
    Ok(())
}
