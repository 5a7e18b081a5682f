//! Restoring: the engine beside what people do today, from the same storage into the same server.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use age::x25519::Identity;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use jiff::Timestamp;
use localcloud::postgres::{Cluster, SUPERUSER, bin_dir};
use serde::{Deserialize, Serialize};
use serde_json::json;
use shared::database_url::DatabaseUrl;
use shared::manifest::{DatabaseSettings, Manifest};
use shared::restore::{
    Backup, LeaveOut, Order, Scope, Target, advance, finish, parse_table_name, scratch,
    staging::{self, Limits},
};
use shared::store::Bucket;

use crate::measured::{Measured, Usage};
use crate::pipeline::{Running, aws, custom, directory};
use crate::stage::{DATABASE, Paths, Stage};
use crate::{Error, check, load};

/// The first word of our own command line; orders come on standard input.
pub(crate) const COMMAND: &str = "restore";

const COPY: &str = "bench_copy";
/// About 10 MB of COPY text.
const ONE_TABLE: &str = "
    CREATE TABLE bench.accounts AS
        SELECT g AS id, 'account ' || g AS name, md5(g::text) || md5((g * 7)::text) AS token,
               md5((g * 13)::text) AS note FROM generate_series(1, round(80000 * $SCALE)::int) g;
    ALTER TABLE bench.accounts ADD PRIMARY KEY (id); VACUUM (ANALYZE) bench.accounts; CHECKPOINT";
const TABLE: &str = "bench.accounts";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restorer {
    /// The engine, in a process of its own, proof included.
    Lifeboat,
    /// `aws s3 cp - | pg_restore`
    Stream,
    /// `aws s3 sync`, then `pg_restore -jN`.
    Sync,
    /// The engine, one table into a staging schema.
    LifeboatTable,
    /// `aws s3 cp` of the -Fc file, then `pg_restore --table`.
    StockTable,
}

impl Restorer {
    pub(crate) const ALL: [Self; 5] = [
        Self::Lifeboat,
        Self::Stream,
        Self::Sync,
        Self::LifeboatTable,
        Self::StockTable,
    ];
}

impl fmt::Display for Restorer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lifeboat => "lifeboat, with proof",
            Self::Stream => "aws s3 cp - | pg_restore",
            Self::Sync => "aws s3 sync, pg_restore -jN",
            Self::LifeboatTable => "lifeboat: one table of 10 MB",
            Self::StockTable => "pg_restore: one table of 10 MB",
        })
    }
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct RestoreSample {
    pub(crate) restorer: String,
    pub(crate) wall_seconds: f64,
    /// Of Lifeboat: until the proof began.
    pub(crate) wall_seconds_without_proof: Option<f64>,
    pub(crate) bytes_read: Option<u64>,
    pub(crate) programs: Vec<Usage>,
    pub(crate) load_before: f64,
}

/// What the engine's process is told.
#[derive(Serialize, Deserialize)]
struct Orders {
    environment: BTreeMap<String, String>,
    bucket: String,
    manifest_key: String,
    identity: String,
    target: String,
    connections: u32,
    table: Option<String>,
    answer: std::path::PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Answer {
    proof_seconds: f64,
    bytes_read: u64,
}

/// Backups in the bucket, ours and stock ones.
pub(crate) struct Taken {
    manifest_key: String,
    settings: DatabaseSettings,
}

/// Puts what is restored into the storage, once.
pub(crate) async fn prepare(stage: &Stage, at: Timestamp) -> Result<Taken, Error> {
    let sql = ONE_TABLE.replace("$SCALE", &stage.scale.to_string());
    stage.cluster.psql(DATABASE, &sql)?;
    let item = json!({"database": DATABASE, "kind": "on-demand", "scheduled_time": at.to_string()});
    let invoked = stage.cloud.invoke("dump", &item).await?;
    let answer: serde_json::Value = serde_json::from_slice(&invoked.payload)?;
    check(answer["outcome"] == "committed", "lifeboat's dump")?;
    let manifest_key = answer["manifest_key"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let json = stage.cloud.object("VaultBucket", &manifest_key).await?;
    let settings = Manifest::parse(&json)?.settings;
    let (paths, to, connections) = (Arc::clone(&stage.paths), stock(stage)?, stage.connections);
    let stored = tokio::task::spawn_blocking(move || {
        custom(&paths, None, &format!("{to}.dump"))?;
        directory(&paths, connections, &format!("{to}.folder"))
    });
    stored.await??;
    Ok(Taken {
        manifest_key,
        settings,
    })
}

fn stock(stage: &Stage) -> Result<String, Error> {
    let bucket = stage.cloud.physical("WorkBucket").ok_or("no work bucket")?;
    Ok(format!("s3://{bucket}/stock"))
}

pub(crate) async fn perform(
    stage: &Stage,
    restorer: Restorer,
    taken: &Taken,
) -> Result<RestoreSample, Error> {
    let cluster = &stage.cluster;
    cluster.psql("postgres", &format!("DROP DATABASE IF EXISTS {COPY}"))?;
    let postgres = DatabaseUrl::parse(&cluster.url("postgres", SUPERUSER))?;
    scratch::create_database(&postgres, COPY, &taken.settings, "").await?;
    if restorer == Restorer::StockTable {
        cluster.psql(COPY, "CREATE SCHEMA bench")?;
    }
    cluster.psql("postgres", "CHECKPOINT")?;
    nix::unistd::sync();
    tokio::time::sleep(Duration::from_secs(1)).await;

    let load_before = load();
    let (paths, from) = (Arc::clone(&stage.paths), stock(stage)?);
    let orders = orders(stage, restorer, taken)?;
    let (bin, target) = (bin_dir(cluster.major())?, cluster_environment(cluster));
    let connections = stage.connections;
    let done = tokio::task::spawn_blocking(move || match restorer {
        Restorer::Lifeboat | Restorer::LifeboatTable => engine(&paths, &orders),
        Restorer::Stream => stream(&paths, (&bin, &target), &from),
        Restorer::Sync => sync(&paths, (&bin, &target), &from, connections),
        Restorer::StockTable => stock_table(&paths, (&bin, &target), &from),
    });
    let mut sample = done.await??;
    sample.restorer = restorer.to_string();
    sample.load_before = load_before;
    Ok(sample)
}

fn orders(stage: &Stage, restorer: Restorer, taken: &Taken) -> Result<Orders, Error> {
    let identity = fs::read_to_string(stage.cloud.home().join("identity.txt"))?;
    let bucket = stage.cloud.physical("VaultBucket").ok_or("no vault")?;
    Ok(Orders {
        environment: stage.paths.aws_environment.clone(),
        bucket: bucket.to_owned(),
        manifest_key: taken.manifest_key.clone(),
        identity,
        target: stage.cluster.url(COPY, SUPERUSER),
        connections: stage.connections,
        table: (restorer == Restorer::LifeboatTable).then(|| TABLE.to_owned()),
        answer: stage.paths.work.join("restored.json"),
    })
}

fn cluster_environment(cluster: &Cluster) -> BTreeMap<String, String> {
    let mut command = std::process::Command::new("pg_restore");
    cluster.connect(&mut command, COPY);
    let text = |it: &std::ffi::OsStr| it.to_string_lossy().into_owned();
    let variables = command.get_envs();
    variables
        .filter_map(|(name, value)| Some((text(name), text(value?))))
        .collect()
}

fn sample(wall: Duration, programs: Vec<Usage>) -> RestoreSample {
    RestoreSample {
        restorer: String::new(),
        wall_seconds: wall.as_secs_f64(),
        wall_seconds_without_proof: None,
        bytes_read: None,
        programs,
        load_before: 0.0,
    }
}

fn engine(paths: &Paths, orders: &Orders) -> Result<RestoreSample, Error> {
    // The orders have passwords in them: not for others to read, and not an argument.
    let file = paths.work.join("restore-orders.json");
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    options
        .open(&file)?
        .write_all(&serde_json::to_vec(orders)?)?;
    let mut measured = Measured::new(&paths.work, "restore", &std::env::current_exe()?)?;
    measured.command.arg(COMMAND).stdin(File::open(&file)?);

    let begun = Instant::now();
    Running::start(&mut measured)?.end("the engine")?;
    let wall = begun.elapsed();
    let answer: Answer = serde_json::from_slice(&fs::read(&orders.answer)?)?;
    let mut usage = measured.usage()?;
    usage.program = "restore".to_owned();
    let mut sample = sample(wall, vec![usage]);
    sample.wall_seconds_without_proof = Some(wall.as_secs_f64() - answer.proof_seconds);
    sample.bytes_read = Some(answer.bytes_read);
    Ok(sample)
}

fn pg_restore(
    paths: &Paths,
    (bin, target): (&Path, &BTreeMap<String, String>),
) -> Result<Measured, Error> {
    let mut measured = Measured::new(&paths.work, "pg_restore", &bin.join("pg_restore"))?;
    measured.command.envs(target);
    measured
        .command
        .args(["--exit-on-error", "--no-owner", "--no-privileges"]);
    measured.command.arg(format!("--dbname={COPY}"));
    Ok(measured)
}

fn stream(
    paths: &Paths,
    target: (&Path, &BTreeMap<String, String>),
    from: &str,
) -> Result<RestoreSample, Error> {
    let mut download = aws(paths)?;
    download.command.args(["s3", "cp", "--only-show-errors"]);
    download.command.arg(format!("{from}.dump")).arg("-");
    download.command.stdout(Stdio::piped());
    let mut restore = pg_restore(paths, target)?;

    let begun = Instant::now();
    let mut downloading = Running::start(&mut download)?;
    let archive = downloading.0.stdout.take().ok_or("aws has no output")?;
    restore.command.stdin(archive);
    let restoring = Running::start(&mut restore)?;
    restore.command.stdin(Stdio::null());
    downloading.end("aws")?;
    restoring.end("pg_restore")?;
    let wall = begun.elapsed();
    Ok(sample(wall, vec![download.usage()?, restore.usage()?]))
}

fn sync(
    paths: &Paths,
    target: (&Path, &BTreeMap<String, String>),
    from: &str,
    connections: u32,
) -> Result<RestoreSample, Error> {
    let folder = paths.work.join("synced");
    let mut download = aws(paths)?;
    download.command.args(["s3", "sync", "--only-show-errors"]);
    download.command.arg(format!("{from}.folder")).arg(&folder);
    let mut restore = pg_restore(paths, target)?;
    restore.command.arg(format!("-j{connections}")).arg(&folder);

    let begun = Instant::now();
    Running::start(&mut download)?.end("aws")?;
    Running::start(&mut restore)?.end("pg_restore")?;
    let wall = begun.elapsed();
    fs::remove_dir_all(&folder)?;
    Ok(sample(wall, vec![download.usage()?, restore.usage()?]))
}

fn stock_table(
    paths: &Paths,
    target: (&Path, &BTreeMap<String, String>),
    from: &str,
) -> Result<RestoreSample, Error> {
    let file = paths.work.join("stock.dump");
    let mut download = aws(paths)?;
    download.command.args(["s3", "cp", "--only-show-errors"]);
    download.command.arg(format!("{from}.dump")).arg(&file);
    let mut restore = pg_restore(paths, target)?;
    restore
        .command
        .args(["--schema=bench", "--table=accounts"])
        .arg(&file);

    let begun = Instant::now();
    Running::start(&mut download)?.end("aws")?;
    Running::start(&mut restore)?.end("pg_restore")?;
    let wall = begun.elapsed();
    fs::remove_file(&file)?;
    Ok(sample(wall, vec![download.usage()?, restore.usage()?]))
}

/// This program again: the engine and nothing else.
pub(crate) fn run() -> Result<ExitCode, Error> {
    let orders: Orders = serde_json::from_reader(std::io::stdin())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let answer = runtime.block_on(restore(&orders))?;
    fs::write(&orders.answer, serde_json::to_vec(&answer)?)?;
    Ok(ExitCode::SUCCESS)
}

async fn restore(orders: &Orders) -> Result<Answer, Error> {
    let variable = |name: &str| orders.environment.get(name).cloned().unwrap_or_default();
    let (key, secret) = (
        variable("AWS_ACCESS_KEY_ID"),
        variable("AWS_SECRET_ACCESS_KEY"),
    );
    let config = aws_config::defaults(BehaviorVersion::latest())
        .credentials_provider(Credentials::new(key, secret, None, None, "bench"))
        .region(Region::new("us-east-1"))
        .endpoint_url(variable("AWS_ENDPOINT_URL"))
        .load()
        .await;
    let vault = Bucket::new(&config, orders.bucket.clone());
    let identities: Arc<[Identity]> = orders
        .identity
        .lines()
        .filter_map(|line| line.parse().ok())
        .collect();
    // backups/<database>/<backup id>/manifest.json
    let mut parts = orders.manifest_key.split('/').skip(1);
    let database = parts.next().unwrap_or_default().parse()?;
    let id = parts.next().unwrap_or_default().parse()?;
    let target = Target::new(DatabaseUrl::parse(&orders.target)?);
    let table = orders.table.as_deref().map(parse_table_name).transpose()?;
    let order = Order {
        plan_id: "bench".to_owned(),
        scope: table
            .clone()
            .map_or(Scope::Everything, |it| Scope::Tables(vec![it])),
        leave_out: LeaveOut::default(),
        owners: false,
        privileges: false,
        connections: orders.connections,
        staging_schema: table.is_some().then(|| "lifeboat_bench".to_owned()),
    };
    let backup = if table.is_some() {
        Backup::open_for_tables(&vault, identities, &database, id).await?
    } else {
        Backup::open(&vault, identities, &database, id).await?
    };
    let until = Instant::now() + Duration::from_secs(86_400);
    let done = advance(&backup, &target, &order, until).await?;
    let is_proven = done.proof.as_ref().is_some_and(|it| it.is_proven);
    check(is_proven, "the proof")?;
    if table.is_some() {
        let limits = Limits {
            keys_max: 100,
            until,
            yield_after: Duration::from_secs(30),
        };
        staging::difference(&backup, &target, &order, limits).await?;
    }
    finish(&backup, &target, &order).await?;
    let proof = done.phases.iter().find(|it| it.name == "proof");
    for phase in &done.phases {
        println!("bench:     {:<10} {:>7.2} s", phase.name, phase.seconds);
    }
    Ok(Answer {
        proof_seconds: proof.map_or(0.0, |it| it.seconds),
        bytes_read: done.bytes_read,
    })
}
