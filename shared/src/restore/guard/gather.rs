//! What [`super::judge`] has to know of target and source. Changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, ToSocketAddrs};
use std::time::Duration;

use super::{Endpoint, SourceFacts, TableFacts, TargetFacts};
use crate::database_url::DatabaseUrl;
use crate::manifest::Manifest;
use crate::pg::{Connection, PgError, Row};
use crate::restore::advance::blocking;
use crate::restore::ask::{Fields, literal, query, value};
use crate::restore::ledger;
use crate::restore::{Destination, RestoreError};

/// Catalogs answer quickly, or not at all.
const STALL: Duration = Duration::from_secs(60);

/// Asks the target what [`super::judge`] needs. Changes nothing.
pub async fn gather(
    manifest: &Manifest,
    url: &DatabaseUrl,
    destination: &Destination,
) -> Result<TargetFacts, RestoreError> {
    let (url, destination) = (url.clone(), destination.clone());
    let tables: Vec<(String, String)> = match &destination {
        Destination::ExistingTables { .. } => {
            let tables = manifest.tables.iter();
            tables
                .map(|it| (it.schema.clone(), it.name.clone()))
                .collect()
        }
        Destination::NewDatabase { .. } | Destination::Staging { .. } => Vec::new(),
    };
    blocking(move || ask(&url, &destination, &tables)).await
}

/// The source as the manifest has it, and as the database's secret has it now.
pub async fn source_facts(manifest: &Manifest, secret: Option<&DatabaseUrl>) -> SourceFacts {
    let source = manifest.source.clone();
    let secret = secret.map(|it| (it.host.clone(), it.port));
    let resolved = tokio::task::spawn_blocking(move || {
        let written = [Some((source.host, source.port)), secret];
        let written = written.into_iter().flatten();
        written.map(|(host, port)| endpoint(host, port)).collect()
    });
    SourceFacts {
        system_identifier: manifest.source.system_identifier.clone(),
        database: manifest.source.database.clone(),
        // Names are compared even where they lead nowhere any more.
        endpoints: resolved.await.unwrap_or_default(),
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
    wanted: &[(String, String)],
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
        Destination::NewDatabase { .. } | Destination::ExistingTables { .. }
            if facts.database_exists =>
        {
            let mut inside = open(&url.with_database(&database))?;
            of_database(&mut inside, wanted, &mut facts)?;
        }
        Destination::NewDatabase { .. } | Destination::ExistingTables { .. } => {}
    }
    Ok(facts)
}

fn open(url: &DatabaseUrl) -> Result<Connection, RestoreError> {
    let mut connection = Connection::open(url, STALL).map_err(RestoreError::Connect)?;
    let sql = "SET client_encoding = 'UTF8'; SET standard_conforming_strings = on;
        SET default_transaction_read_only = on; SET statement_timeout = '60s'";
    query(&mut connection, "to take our settings", sql)?;
    Ok(connection)
}

fn of_server(
    server: &mut Connection,
    url: &DatabaseUrl,
    database: &str,
) -> Result<TargetFacts, RestoreError> {
    let sql = "SELECT current_setting('server_version_num'), current_user, rolsuper, rolcreatedb,
            rolbypassrls, pg_is_in_recovery()
         FROM pg_roles WHERE rolname = current_user";
    let rows = query(server, "who we are there", sql)?;
    let mut row = Fields::of(rows.into_iter().next());
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
        system_identifier: system_identifier(server)?,
        database_exists: false,
        encoding: None,
        ledger: None,
        user_tables: 0,
        tables: BTreeMap::new(),
        schema_exists: false,
        extensions: extensions(server)?,
        roles: roles(server)?,
        locale_is_available: None,
        free_bytes: None,
    })
}

/// Some roles, and some providers, do not allow the question.
fn system_identifier(server: &mut Connection) -> Result<Option<String>, RestoreError> {
    match server.query_value("SELECT system_identifier FROM pg_control_system()") {
        Ok(identifier) => Ok(Some(identifier)),
        Err(PgError::Server(_)) => Ok(None),
        Err(source) => Err(RestoreError::Query {
            doing: "for its system identifier",
            source,
        }),
    }
}

fn extensions(server: &mut Connection) -> Result<BTreeMap<String, BTreeSet<String>>, RestoreError> {
    let sql = "SELECT name, version FROM pg_available_extension_versions";
    let mut extensions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in query(server, "for the extensions it offers", sql)? {
        let mut row = Fields::of(Some(row));
        let (name, version) = (row.text(), row.text());
        extensions.entry(name).or_default().insert(version);
    }
    Ok(extensions)
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
    wanted: &[(String, String)],
    facts: &mut TargetFacts,
) -> Result<(), RestoreError> {
    facts.ledger = plan_of(inside, &format!("{}.run", ledger::SCHEMA))?;
    let count = value(inside, "for user tables", ledger::USER_RELATIONS)?;
    facts.user_tables = count.parse().unwrap_or_default();
    if wanted.is_empty() {
        return Ok(());
    }
    let sql = "SELECT n.nspname, c.relname, quote_ident(n.nspname) || '.' || quote_ident(c.relname),
            EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid),
            coalesce((SELECT string_agg(attname, E'\\x01') FROM pg_attribute a
                WHERE a.attrelid = c.oid AND attnum > 0 AND NOT attisdropped), '')
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p')";
    for row in query(inside, "for its tables", sql)? {
        let mut row = Fields::of(Some(row));
        let key = (row.text(), row.text());
        if !wanted.contains(&key) {
            continue;
        }
        let (quoted, has_triggers, columns) = (row.text(), row.flag(), row.text());
        let sql = format!("SELECT EXISTS (SELECT FROM {quoted})");
        let found = TableFacts {
            has_rows: value(inside, "whether a table has rows", &sql)? == "t",
            columns: columns.split('\u{1}').map(str::to_owned).collect(),
            has_triggers,
        };
        facts.tables.insert(key, found);
    }
    Ok(())
}
