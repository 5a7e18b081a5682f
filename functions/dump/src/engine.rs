//! The dump itself, from the first connection to the manifest. Blocking: it runs on a thread
//! of its own, and its connections on more.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use age::x25519::Recipient;
use jiff::Timestamp;
use shared::archive::{TableOfContents, quote_ident, write_directory};
use shared::backup::{BackupId, BackupItem};
use shared::client_tools::{self, Client};
use shared::database_url::DatabaseUrl;
use shared::key::Key;
use shared::manifest::{Content, Manifest};
use shared::pg::{Connection, pin_reading, refuse_transaction_pooler};
use shared::planner::{self, Planned, PlannerError};
use shared::policy::{DatabasePolicy, Policy};
use shared::store::{Bucket, StoreErrorKind};
use tokio::runtime::Handle;
use tracing::{info, warn};

use crate::catalog::{self, Server, Snapshot};
use crate::commit::{self, TableFacts};
use crate::coordinator;
use crate::copy::{Copied, Copier};
use crate::crew::Crew;
use crate::describe;
use crate::error::DumpError;
use crate::names::Names;
use crate::plan::{self, Plan};
use crate::preflight;
use crate::progress::{COMMIT_MARGIN, Counters};
use crate::roles;
use crate::stop::Stop;
use crate::upload::Uploads;
use crate::usage::Usage;

/// How often a table may be rewritten between snapshot and locks before the run gives up.
const ATTEMPTS: u32 = 3;
/// Fast, and on the id- and hash-heavy rows of real applications hardly larger than 3.
pub const ZSTD_LEVEL: i32 = 1;

/// One dump to make.
#[derive(Debug)]
pub struct Order<'a> {
    pub item: &'a BackupItem,
    pub id: BackupId,
    /// Names this run's objects; nobody else's.
    pub attempt: &'a str,
    pub policy: &'a Policy,
    pub database: &'a DatabasePolicy,
    pub url: &'a DatabaseUrl,
    pub recipients: &'a [Recipient],
    pub pgtools: &'a std::path::Path,
    pub bucket: &'a Bucket,
    pub connections: u32,
    /// When the invocation is ended from outside.
    pub deadline: Instant,
    pub started_at: Timestamp,
    pub handle: Handle,
}

/// How it ended well.
#[derive(Debug)]
pub enum Outcome {
    Committed(Box<Manifest>),
    /// Another run of the same event was first; its numbers are in its manifest.
    AlreadyCommitted,
}

/// The open connections: the coordinator holds snapshot and locks, the watcher asks who waits
/// for us, the workers copy.
#[derive(Debug)]
pub struct Sessions {
    pub coordinator: Connection,
    pub watcher: Connection,
    pub workers: Vec<Connection>,
}

/// What is known once snapshot, locks and plan hold together.
struct Prepared {
    server: Server,
    snapshot: Snapshot,
    planned: Planned,
    plan: Plan,
    facts: TableFacts,
}

pub fn run(order: &Order<'_>) -> Result<Outcome, DumpError> {
    let usage = Usage::start();
    let stop = Arc::new(Stop::default());
    let (mut sessions, server) = open(order)?;
    let client = check(order, &mut sessions, &server)?;
    let prepared = prepare(order, &mut sessions, &server, &client, &stop)?;
    info!(
        snapshot_at = %prepared.snapshot.at,
        tables = prepared.plan.tables.len(),
        jobs = prepared.plan.jobs.len(),
        bytes_on_disk = prepared.plan.weight,
        "snapshot taken, every table locked"
    );
    let buffers = 2 * order.connections;
    let uploads = Uploads::new(
        order.bucket.clone(),
        order.handle.clone(),
        Arc::clone(&stop),
        buffers,
        order
            .deadline
            .checked_sub(COMMIT_MARGIN)
            .unwrap_or(order.deadline),
    );
    let uploads = Arc::new(uploads);
    let result = copy_and_commit(order, &mut sessions, prepared, &uploads, &usage);
    result.map_err(|error| {
        uploads.abort();
        stop.cause_of(error)
    })
}

fn open(order: &Order<'_>) -> Result<(Sessions, Server), DumpError> {
    let stall = Duration::from_secs(order.database.stall_seconds.into());
    let mut sessions = Vec::new();
    for _ in 0..order.connections + 2 {
        sessions.push(Connection::open(order.url, stall).map_err(DumpError::Connect)?);
    }
    // Before any setting is changed: a pooler would hand it to the application.
    refuse_transaction_pooler(&mut sessions, &order.url.host).map_err(DumpError::Connect)?;
    let server = catalog::server(&mut sessions[0])?;
    let pin = pin_reading(server.version_num, &server.encoding);
    for session in &mut sessions {
        let pinned = session.query(&pin);
        pinned.map_err(|source| DumpError::Query {
            doing: "to pin its settings",
            source,
        })?;
    }
    let (Some(coordinator), Some(mut watcher)) = (sessions.pop(), sessions.pop()) else {
        return Err(DumpError::Internal("no sessions"));
    };
    read_names_as_utf8(&mut watcher, &server)?;
    let workers = sessions;
    Ok((
        Sessions {
            coordinator,
            watcher,
            workers,
        },
        server,
    ))
}

/// Everything that can be found out before a byte is copied.
fn check(order: &Order<'_>, sessions: &mut Sessions, server: &Server) -> Result<Client, DumpError> {
    let facts = catalog::facts(&mut sessions.watcher, server)?;
    let decided = preflight::decide(&facts);
    if decided.is_err() {
        warn!(?facts, "preflight refused");
    }
    let client = client_tools::find(order.pgtools, "pg_dump", server.version_num / 10_000);
    decided?;
    Ok(client?)
}

fn run_planner(
    order: &Order<'_>,
    client: &Client,
    snapshot: &Snapshot,
    stop: &Stop,
) -> Result<Planned, DumpError> {
    let stall = Duration::from_secs(order.database.stall_seconds.into());
    let is_stopped = || stop.is_stopped();
    let planned = planner::run(client, order.url, Some(&snapshot.id), stall, &is_stopped);
    planned.map_err(|error| {
        let is_stopped = matches!(error, PlannerError::Stopped);
        let error = DumpError::from(error);
        if is_stopped {
            stop.cause_of(error)
        } else {
            error
        }
    })
}

/// Locks, snapshot and plan that belong together: what was rewritten, truncated or dropped in
/// between would come out empty, so then all three are made anew.
fn prepare(
    order: &Order<'_>,
    sessions: &mut Sessions,
    server: &Server,
    client: &Client,
    stop: &Stop,
) -> Result<Prepared, DumpError> {
    let slice_bytes = u64::from(order.database.slice_mib) << 20;
    let mut rewritten = String::new();
    for _ in 0..ATTEMPTS {
        let coordinator = &mut sessions.coordinator;
        let (snapshot, locked) = coordinator::begin(coordinator)?;
        let planned = run_planner(order, client, &snapshot, stop)?;
        let oids = plan::table_oids(&planned.toc)?;
        let late = late_tables(&planned.toc, &locked)?;
        if coordinator::lock_more(coordinator, late.iter().map(Vec::as_slice))? {
            read_names_as_utf8(coordinator, server)?;
            let relations = catalog::relations(coordinator, &oids)?;
            let gone: Vec<String> = relations
                .values()
                .filter(|it| it.is_rewritten)
                .map(|it| format!("{}.{}", it.schema, it.name))
                .collect();
            if gone.is_empty() {
                let names = if server.encoding == "UTF8" || !is_convertible(server) {
                    Names::default()
                } else {
                    Names::convert(coordinator, &planned.toc)?
                };
                let plan = plan::plan(&planned.toc, &relations, &names, slice_bytes)?;
                let facts = TableFacts {
                    columns: catalog::columns(coordinator, &oids)?,
                    primary_keys: catalog::primary_keys(coordinator, &oids)?,
                    relations,
                    names,
                };
                return Ok(Prepared {
                    server: server.clone(),
                    snapshot,
                    planned,
                    plan,
                    facts,
                });
            }
            rewritten = gone.join(", ");
        } else {
            rewritten = "a table created meanwhile cannot be locked".to_owned();
        }
        warn!(
            tables = rewritten,
            "changed between snapshot and locks: starting over"
        );
        coordinator::rollback(coordinator)?;
        reset_encoding(coordinator, server)?;
    }
    Err(DumpError::Rewritten {
        attempts: ATTEMPTS,
        tables: rewritten,
    })
}

/// The quoted names of tables in the archive that the coordinator does not hold yet.
fn late_tables(toc: &TableOfContents, locked: &HashSet<u32>) -> Result<Vec<Vec<u8>>, DumpError> {
    let mut late = Vec::new();
    for entry in &toc.entries {
        let is_table = entry.data()? == Some(shared::archive::Data::Table);
        if is_table && !locked.contains(&entry.oid_number()) {
            let part = |text: &Option<Vec<u8>>| quote_ident(text.as_deref().unwrap_or_default());
            late.push([part(&entry.namespace), part(&entry.tag)].join(&b'.'));
        }
    }
    Ok(late)
}

/// Encodings without a conversion to UTF-8: names come as they are.
const NOT_CONVERTIBLE: [&str; 2] = ["SQL_ASCII", "MULE_INTERNAL"];

fn is_convertible(server: &Server) -> bool {
    !NOT_CONVERTIBLE.contains(&server.encoding.as_str())
}

/// The manifest is UTF-8. `SET` fixes no snapshot and may stand in a transaction.
fn read_names_as_utf8(connection: &mut Connection, server: &Server) -> Result<(), DumpError> {
    let encoding = if is_convertible(server) {
        "UTF8"
    } else {
        &server.encoding
    };
    set_encoding(connection, encoding)
}

fn reset_encoding(connection: &mut Connection, server: &Server) -> Result<(), DumpError> {
    set_encoding(connection, &server.encoding)
}

fn set_encoding(connection: &mut Connection, encoding: &str) -> Result<(), DumpError> {
    let set = connection.query(format!("SET client_encoding = '{encoding}'"));
    set.map(drop).map_err(|source| DumpError::Query {
        doing: "to set its encoding",
        source,
    })
}

fn copy_and_commit(
    order: &Order<'_>,
    sessions: &mut Sessions,
    prepared: Prepared,
    uploads: &Arc<Uploads>,
    usage: &Usage,
) -> Result<Outcome, DumpError> {
    let Prepared {
        server,
        snapshot,
        planned,
        plan,
        mut facts,
    } = prepared;
    let counters = Counters::default();
    let copier = Copier {
        database: &order.item.database,
        id: order.id,
        attempt: order.attempt,
        recipients: order.recipients,
        zstd_level: ZSTD_LEVEL,
        snapshot: &snapshot.id,
        uploads,
        counters: &counters,
        stop: uploads.stop(),
    };
    let mut manifest = describe::describe(
        order,
        sessions,
        &server,
        &copier,
        (&snapshot, &planned, &facts),
    )?;
    reset_encoding(&mut sessions.coordinator, &server)?;

    let mut copied = store_small(sessions, &copier, &planned.toc, &mut manifest)?;
    let crew = Crew {
        copier: &copier,
        plan: &plan,
        deadline: order.deadline,
        yield_after: Duration::from_secs(order.database.yield_seconds.into()),
        remaining: AtomicUsize::new(plan.jobs.len()),
        queue: plan.jobs.clone().into(),
        refused: Vec::new().into(),
        copied: Vec::new().into(),
    };
    copied.extend(crew.copy(sessions)?);

    // Locks and snapshot held to the end, or nothing that was copied can be trusted.
    coordinator::is_alive(&mut sessions.coordinator)?;
    let written = uploads.commit()?;
    coordinator::is_alive(&mut sessions.coordinator)?;
    let inventory = commit::inventory(&plan, &planned.toc, &mut facts, copied, &written)?;
    manifest.objects = inventory.objects;
    manifest.tables = inventory.tables;
    manifest.sequences = inventory.sequences;
    manifest.large_objects = inventory.large_objects;
    manifest.totals = inventory.totals;
    usage.record(&mut manifest.run, manifest.totals.copy_bytes);
    manifest.finished_at = order.started_at
        + jiff::SignedDuration::from_millis((manifest.run.seconds * 1000.0) as i64);
    write_manifest(order, manifest)
}

/// The table of contents and the roles.
fn store_small(
    sessions: &mut Sessions,
    copier: &Copier<'_>,
    toc: &TableOfContents,
    manifest: &mut Manifest,
) -> Result<Vec<Copied>, DumpError> {
    let bytes = write_directory(toc)?;
    let mut objects =
        vec![copier.store("toc.dat.00000.age", &bytes, false, Content::TableOfContents)?];
    match roles::capture(&mut sessions.watcher)? {
        Ok(sql) => {
            objects.push(copier.store("roles.sql.zst.00000.age", &sql, true, Content::Roles)?);
        }
        Err(reason) => manifest
            .left_out
            .push(format!("roles and memberships: {reason}")),
    }
    let copied = |object| Copied {
        object,
        large_objects: None,
    };
    Ok(objects.into_iter().map(copied).collect())
}

/// The moment from which there is a backup. A manifest that is there already may be our own,
/// whose answer was lost: either way the event is done, and its numbers are in the manifest.
fn write_manifest(order: &Order<'_>, manifest: Manifest) -> Result<Outcome, DumpError> {
    let key = Key::Manifest(&order.item.database, order.id).to_string();
    let json = manifest
        .to_json()
        .map_err(|_| DumpError::Internal("manifest as JSON"))?;
    match order
        .handle
        .block_on(order.bucket.put_once(&key, json.into()))
    {
        Ok(_) => Ok(Outcome::Committed(Box::new(manifest))),
        Err(error) if matches!(error.kind, StoreErrorKind::AlreadyExists) => {
            Ok(Outcome::AlreadyCommitted)
        }
        Err(error) => Err(error.into()),
    }
}
