//! The floor: the dump's own `COPY` statements on as many connections, read and forgotten.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use dump::names::Names;
use dump::plan::Job;
use dump::{catalog, coordinator, plan};
use serde::{Deserialize, Serialize};
use shared::client_tools;
use shared::database_url::DatabaseUrl;
use shared::pg::{Connection, CopyError, pin_reading};
use shared::planner;

use crate::Error;

/// The first word of our own command line; orders come on standard input.
pub(crate) const COMMAND: &str = "floor";

const STALL: Duration = Duration::from_secs(60);
/// As in the configuration, where nothing else is set.
const SLICE_BYTES: u64 = 256 << 20;

#[derive(Serialize, Deserialize)]
struct Orders {
    url: String,
    connections: u32,
    /// Before anything else, on each connection.
    pin: String,
    /// The last comes first.
    statements: Vec<String>,
}

/// Plans as the dump does; the file holds a password.
pub(crate) fn write_orders(url: &str, connections: u32, file: &Path) -> Result<(), Error> {
    let parsed = DatabaseUrl::parse(url)?;
    let mut connection = Connection::open(&parsed, STALL)?;
    let server = catalog::server(&mut connection)?;
    let pin = pin_reading(server.version_num, &server.encoding);
    connection.query(&pin)?;
    let (snapshot, _) = coordinator::begin(&mut connection)?;
    let tools = Path::new("/usr/lib/postgresql");
    let client = client_tools::find(tools, "pg_dump", server.version_num / 10_000)?;
    let planned = planner::run(&client, &parsed, Some(&snapshot.id), STALL, &|| false)?;
    let relations = catalog::relations(&mut connection, &plan::table_oids(&planned.toc)?)?;
    let plan = plan::plan(&planned.toc, &relations, &Names::default(), SLICE_BYTES)?;
    let statements = plan.jobs.into_iter().filter_map(|job| match job {
        Job::Slice(slice) => String::from_utf8(slice.copy).ok(),
        Job::LargeObjects { .. } => None,
    });
    let orders = Orders {
        url: url.to_owned(),
        connections,
        pin,
        statements: statements.collect(),
    };
    let mut private = OpenOptions::new();
    private.write(true).create_new(true).mode(0o600);
    Ok(private
        .open(file)?
        .write_all(&serde_json::to_vec(&orders)?)?)
}

pub(crate) fn run() -> Result<ExitCode, Error> {
    let orders: Orders = serde_json::from_reader(std::io::stdin())?;
    let url = DatabaseUrl::parse(&orders.url)?;
    let queue = Mutex::new(orders.statements);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..orders.connections)
            .map(|_| scope.spawn(|| read(&url, &orders.pin, &queue)))
            .collect();
        readers
            .into_iter()
            .try_for_each(|reader| reader.join().map_err(|_| "a reader panicked")?)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn read(url: &DatabaseUrl, pin: &str, queue: &Mutex<Vec<String>>) -> Result<(), Error> {
    let mut connection = Connection::open(url, STALL)?;
    connection.query(pin)?;
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let Some(statement) = next else {
            return Ok(());
        };
        let copied = connection.copy_out(statement.as_bytes(), |_, _| Ok::<(), Error>(()));
        copied.map_err(|error| match error {
            CopyError::Pg(error) => error.into(),
            CopyError::Receiver(error) | CopyError::Giver(error) => error,
        })?;
    }
}
