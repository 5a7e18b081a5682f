//! One invocation of a restore: from the ledger as it was to the ledger as it is.

use std::collections::{HashMap, HashSet};
use std::iter;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::ask;
use super::assemble::Assembled;
use super::estimate::ASSUMED;
use super::ledger::{Ledger, Record};
use super::plan::plan;
use super::queue::Queue;
use super::run::{Context, Ran, Switchboard, run};
use super::select::select;
use super::session::{Mode, Session};
use super::staged::{self, Types};
use super::statements::{Part, sql};
use super::{Advance, Backup, Order, RestoreError, Scope, Target, Until};
use crate::archive::lossy;
use crate::error::{Name, chain};
use crate::manifest::{Manifest, Table};
use crate::pg::{Connection, PgError, pin_loading, pin_reading};

/// Of the coordinator, which asks for little.
pub(super) const STALL: Duration = Duration::from_secs(60);
/// To write down what was done, there is little time left.
const NOTE_STALL: Duration = Duration::from_secs(10);
/// Others than superusers may be allowed to set a parameter from this version on.
const PARAMETER_PRIVILEGES: u32 = 150_000;
const ADVISORY_UNLOCK: &str = "SELECT pg_advisory_unlock_all()";

/// The coordinator's session, and what it found.
struct Begun {
    connection: Connection,
    /// For the first jobs.
    spare: Vec<Session>,
    records: Vec<Record>,
    bytes_read: u64,
    version: u32,
    /// For staging: the types of the backup's columns that the target has.
    types: Types,
}

pub(super) async fn advance(
    backup: &Backup,
    target: &Target,
    order: &Order,
    until: Until,
) -> Result<Advance, RestoreError> {
    check(order)?;
    if let Scope::Tables(tables) = &order.scope {
        // Nothing is made for tables that the backup does not have.
        staged::find(&backup.manifest, tables)?;
    }
    if order.owners {
        // Nothing is made of an archive that cannot be restored to its end.
        refuse_unknown_kinds(backup, order)?;
    }
    let began_at = Instant::now();
    let ledger = Ledger::of(order);
    let mut begun = {
        let (backup, target, order) = (backup.clone(), target.clone(), order.clone());
        blocking(move || begin(&backup, &target, &order)).await?
    };
    let (program, findings) = match &order.scope {
        Scope::Tables(tables) => staged::program(&backup.manifest, order, tables, &begun.types)?,
        Scope::Everything | Scope::SchemaOnly | Scope::DataOnly => {
            (plan(&backup.toc, &backup.manifest, order), Vec::new())
        }
    };
    let context = Arc::new(Context {
        manifest: Arc::clone(&backup.manifest),
        toc: Arc::clone(&backup.toc),
        vault: backup.vault.clone(),
        identities: Arc::clone(&backup.identities),
        pins: pins(backup, order, begun.version),
        program,
        ledger: ledger.clone(),
        url: target.url.clone(),
        sizes: Mutex::new(sizes(&begun.records)),
        board: Switchboard::default(),
    });
    let done: HashSet<String> = begun.records.iter().map(|it| it.id.clone()).collect();
    let mut queue = Queue::new(&context.program.jobs, &done, ASSUMED);
    let crew = (connections(order), std::mem::take(&mut begun.spare));
    let mut ran = run(&context, &mut queue, crew, until).await;
    let remaining = queue.remaining();
    let bytes = ran.bytes_read
        + if done.is_empty() {
            backup.opened_bytes
        } else {
            0
        };
    let reason = ran.failure.as_ref().and_then(lasting);
    let begun = {
        let (target, ledger) = (target.clone(), ledger.clone());
        let manifest = Arc::clone(&backup.manifest);
        blocking(move || note(begun, &target, (&ledger, &manifest), (bytes, reason))).await?
    };
    let spare = ran.sessions.pop();
    check_progress(ran, remaining, began_at, until.stop)?;
    if remaining == 0 {
        let spare = spare.map(|it| it.connection);
        target.keep(iter::once(begun.connection).chain(spare));
    }
    let assembled = Assembled {
        toc: &backup.toc,
        manifest: &backup.manifest,
        order,
        program: &context.program,
    };
    let mut advance = assembled.advance(&begun.records, begun.bytes_read);
    advance.notes.extend(findings);
    Ok(advance)
}

fn check(order: &Order) -> Result<(), RestoreError> {
    let refused = |what: &str| Err(RestoreError::Refused(what.to_owned()));
    match (&order.scope, &order.staging_schema) {
        (Scope::Tables(tables), Some(_)) if !tables.is_empty() => Ok(()),
        (Scope::Tables(_), Some(_)) => refused("no table is named: name one, as schema.table"),
        (Scope::Tables(_), None) => refused("tables need a staging schema to go to"),
        (Scope::Everything | Scope::SchemaOnly | Scope::DataOnly, None) => Ok(()),
        (Scope::Everything | Scope::SchemaOnly | Scope::DataOnly, Some(_)) => refused(
            "only named tables go to a staging schema: write {\"tables\": [\"schema.table\"]}",
        ),
    }
}

fn refuse_unknown_kinds(backup: &Backup, order: &Order) -> Result<(), RestoreError> {
    let selection = select(&backup.toc, &order.scope, &order.leave_out);
    let entries = backup.toc.entries.iter().zip(&selection.uses);
    for (entry, _) in entries.filter(|(_, used)| used.statement.is_some()) {
        sql(&backup.toc, entry, Part::Owner)?;
    }
    Ok(())
}

fn begin(backup: &Backup, target: &Target, order: &Order) -> Result<Begun, RestoreError> {
    let (mut connection, others) = target.sessions(STALL)?;
    let sql = "SELECT current_setting('server_version_num'), pg_encoding_to_char(encoding)
         FROM pg_database WHERE datname = current_database()";
    let rows = ask::query(&mut connection, "its version", sql)?;
    let mut row = ask::Fields::of(rows.into_iter().next());
    let version = u32::try_from(row.number()).unwrap_or_default();
    let encoding = row.text();
    if order.staging_schema.is_none() && encoding != backup.manifest.settings.encoding {
        return Err(RestoreError::Refused(format!(
            "the target's encoding is {encoding}, the backup's {}: create it with the backup's own",
            backup.manifest.settings.encoding
        )));
    }
    // What the ledger says is ASCII; what it reads of the catalog is text.
    let pin = pin_loading(version, ledger_encoding(&encoding));
    ask::query(&mut connection, "to take our settings", &pin)?;
    let spare = others.into_iter().take(connections(order));
    let spare = spare.map(Session::keep).collect::<Result<_, _>>()?;
    let ledger = Ledger::of(order);
    ledger.lock(&mut connection)?;
    let is_new = ledger.open(&mut connection, backup, order)?;
    if is_new && order.scope == Scope::DataOnly {
        refuse_rows(&mut connection, backup, order)?;
    }
    let types = match &order.scope {
        Scope::Tables(tables) => staged::types(&mut connection, &backup.manifest, tables)?,
        Scope::Everything | Scope::SchemaOnly | Scope::DataOnly => Types::default(),
    };
    let records = if is_new {
        Vec::new()
    } else {
        ledger.forget_emptied(&mut connection, &unlogged(&backup.manifest))?;
        ledger.records(&mut connection)?
    };
    Ok(Begun {
        connection,
        spare,
        records,
        bytes_read: 0,
        version,
        types,
    })
}

fn connections(order: &Order) -> usize {
    order.connections.max(1) as usize
}

/// Tables that a crash of the server empties.
fn unlogged(manifest: &Manifest) -> Vec<&Table> {
    let tables = manifest
        .tables
        .iter()
        .filter(|it| it.unlogged && it.rows > 0);
    tables.collect()
}

/// A client encoding that any text of the catalog can be read in.
fn ledger_encoding(encoding: &str) -> &str {
    match encoding {
        "SQL_ASCII" | "MULE_INTERNAL" => encoding,
        _ => "UTF8",
    }
}

/// Rows go into existing tables only while these are empty.
fn refuse_rows(
    connection: &mut Connection,
    backup: &Backup,
    order: &Order,
) -> Result<(), RestoreError> {
    let program = plan(&backup.toc, &backup.manifest, order);
    let mut filled = Vec::new();
    let encoding = &backup.manifest.settings.encoding;
    let pin = format!("SET client_encoding = '{encoding}'");
    ask::query(connection, "to read names as the archive has them", &pin)?;
    for unit in &program.units {
        // Of an extension's own table, rows that the extension brings are not in the way.
        let condition = unit.condition.as_deref().unwrap_or_default();
        let sql = [
            b"SELECT EXISTS (SELECT FROM ",
            &unit.relation[..],
            b" ",
            condition.as_bytes(),
            b")",
        ]
        .concat();
        let has_rows = connection.query_value(sql);
        let has_rows = has_rows.map_err(|source| RestoreError::Query {
            doing: "for a table of the backup, which must exist there",
            source,
        })?;
        if has_rows == "t" {
            filled.push(format!("{}.{}", unit.display.schema, unit.display.name));
        }
    }
    if filled.is_empty() {
        return Ok(());
    }
    let ledger = Ledger::of(order);
    ledger.remove(connection, order, None)?;
    Err(RestoreError::Refused(format!(
        "rows are loaded into empty tables only, and these have rows: {}",
        filled.join(", ")
    )))
}

/// What every session of the run begins with.
fn pins(backup: &Backup, order: &Order, version: u32) -> HashMap<Mode, Vec<u8>> {
    let settings = &backup.manifest.settings;
    // Staging is written in UTF-8; its copies name the encoding of their rows.
    let encoding = match order.staging_schema {
        Some(_) => "UTF8",
        None => &settings.encoding,
    };
    let mut loading = pin_loading(version, encoding).into_bytes();
    let mut reading = pin_reading(version, encoding).into_bytes();
    // A proof that a crash takes is made once more; the note at the end makes all of them last.
    reading.extend(b"; SET synchronous_commit = off");
    // The archive's own: how its strings are to be read.
    for entry in &backup.toc.entries {
        if entry.is("STDSTRINGS") || entry.is("SEARCHPATH") {
            loading.extend(b"; ");
            loading.extend(
                lossy(&entry.definition)
                    .trim()
                    .trim_end_matches(';')
                    .as_bytes(),
            );
        }
    }
    if let Some(locale) = &settings.lc_monetary {
        let set = format!("; SET lc_monetary = {}", ask::literal(locale));
        loading.extend(set.as_bytes());
        reading.extend(set.as_bytes());
    }
    // Sorting for an index in memory, where the server's own setting is a small one.
    loading.extend(
        b"; SELECT set_config('maintenance_work_mem', '131072', false) \
          WHERE (SELECT setting::bigint FROM pg_settings WHERE name = 'maintenance_work_mem') < 131072",
    );
    if order.scope == Scope::DataOnly {
        // Who may not has been told that no trigger may be there.
        let may = if version >= PARAMETER_PRIVILEGES {
            "has_parameter_privilege(current_user, 'session_replication_role', 'SET')"
        } else {
            "(SELECT rolsuper FROM pg_roles WHERE rolname = current_user)"
        };
        let set = "; SELECT set_config('session_replication_role', 'replica', false) WHERE ";
        loading.extend([set, may].concat().bytes());
    }
    HashMap::from([(Mode::Loading, loading), (Mode::Reading, reading)])
}

fn sizes(records: &[Record]) -> super::prove::Sizes {
    let measured = records.iter().find(|it| it.id == "proof:sizes");
    let found = measured.and_then(|it| it.found.as_deref());
    found
        .and_then(|it| serde_json::from_str(it).ok())
        .unwrap_or_default()
}

/// A failure that no later invocation gets around, in words.
fn lasting(error: &RestoreError) -> Option<String> {
    match error.name() {
        Name::Transient | Name::OutOfTime => None,
        Name::Refused | Name::Failed => Some(chain(error)),
    }
}

/// Writes down what this invocation did, on a new session where the old one is lost.
fn note(
    mut begun: Begun,
    target: &Target,
    (ledger, manifest): (&Ledger, &Manifest),
    (bytes, reason): (u64, Option<String>),
) -> Result<Begun, RestoreError> {
    // A connection that cannot be told is a lost one, of which the next statement tells.
    let _lost = begun.connection.set_timeouts(NOTE_STALL);
    let sum = match ledger.add_bytes_read(&mut begun.connection, bytes) {
        Err(RestoreError::Query {
            source: PgError::Lost(_) | PgError::Stalled(_),
            ..
        }) => {
            begun.connection =
                Connection::open(&target.url, NOTE_STALL).map_err(RestoreError::Connect)?;
            ledger.add_bytes_read(&mut begun.connection, bytes)?
        }
        sum => sum?,
    };
    begun.bytes_read = sum;
    if let Some(reason) = reason {
        ledger.fail(&mut begun.connection, &reason)?;
    }
    begun.records = ledger.records(&mut begun.connection)?;
    let emptied = ledger.forget_emptied(&mut begun.connection, &unlogged(manifest))?;
    if !emptied.is_empty() {
        return Err(RestoreError::Emptied(emptied.join(", ")));
    }
    ask::query(
        &mut begun.connection,
        "to let others go on",
        ADVISORY_UNLOCK,
    )?;
    Ok(begun)
}

/// A failure, or the news that a job can never end in time.
fn check_progress(
    ran: Ran,
    remaining: usize,
    began_at: Instant,
    until: Instant,
) -> Result<(), RestoreError> {
    if let Some(error) = ran.failure {
        return Err(error);
    }
    match ran.cut {
        // It had all the time there was, and nothing else was done meanwhile.
        Some((what, seconds, predicted)) if ran.done == 0 && remaining > 0 => {
            Err(RestoreError::OutOfTime {
                what,
                needed_seconds: predicted.max(seconds).ceil() as u64,
                available_seconds: until.saturating_duration_since(began_at).as_secs(),
            })
        }
        None if ran.done == 0 && remaining > 0 && Instant::now() < until => {
            let what = format!("{remaining} jobs are left, and none of them can run");
            Err(RestoreError::Internal(what))
        }
        // Called again, it would be no faster.
        None if ran.done == 0 && remaining > 0 => Err(RestoreError::OutOfTime {
            what: "to begin: to reach the target and to read its ledger".to_owned(),
            needed_seconds: began_at.elapsed().as_secs(),
            available_seconds: until.saturating_duration_since(began_at).as_secs(),
        }),
        Some(_) | None => Ok(()),
    }
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RestoreError> + Send + 'static,
) -> Result<T, RestoreError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| RestoreError::Internal(error.to_string()))?
}
