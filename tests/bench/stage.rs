//! What everybody runs on: one server, one database, one storage. It goes when it is dropped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use jiff::Timestamp;
use localcloud::postgres::{Cluster, Major, SUPERUSER, bin_dir};
use localcloud::{Cloud, client_environment, sample, workspace};

use crate::contestant::Contestant;
use crate::pipeline::{self, Taken};
use crate::report::Sample;
use crate::{Error, floor, lifeboat, load};

pub(crate) const DATABASE: &str = "bench";

/// Like a small managed server: its log is of the default kind, which can be archived, so that
/// nobody restores without writing one.
const SETTINGS: [&str; 3] = [
    "shared_buffers = '512MB'",
    "max_wal_size = '4GB'",
    "autovacuum = off",
];

pub(crate) struct Stage {
    pub(crate) server_version: String,
    pub(crate) scale: f64,
    pub(crate) connections: u32,
    pub(crate) paths: Arc<Paths>,
    /// For the floor: the statements of the dump's own plan.
    orders: PathBuf,
    // In this order they are dropped.
    pub(crate) cloud: Cloud,
    pub(crate) cluster: Cluster,
    _home: Home,
}

/// What the pipelines need to know.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    pub(crate) work: PathBuf,
    pub(crate) pg_dump: PathBuf,
    pub(crate) aws: PathBuf,
    pub(crate) postgres_environment: BTreeMap<String, String>,
    pub(crate) aws_environment: BTreeMap<String, String>,
}

/// A folder beside the project's other ignored ones: `/tmp` may be memory.
struct Home(PathBuf);

impl Home {
    fn create() -> std::io::Result<Self> {
        let path = workspace::root().join(format!(".lifeboat-bench-{}", std::process::id()));
        std::fs::create_dir_all(path.join("work"))?;
        Ok(Self(path))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("bench: {} is left behind: {error}", self.0.display());
        }
    }
}

impl Stage {
    pub(crate) async fn set(scale: f64, connections: u32) -> Result<Self, Error> {
        let home = Home::create()?;
        let work = home.0.join("work");
        println!(
            "bench: make the database, {:.1} GB of COPY text",
            scale * 1.17
        );
        let made = tokio::task::spawn_blocking(move || make_database(scale));
        let (cluster, server_version) = made.await??;

        println!("bench: start the local cloud");
        let mut options = localcloud::Options::new(home.0.join("cloud"));
        options.databases = vec![lifeboat::database(&cluster, connections)];
        let cloud = Cloud::start(options).await?;

        let orders = work.join("floor.json");
        let (url, file) = (cluster.url(DATABASE, SUPERUSER), orders.clone());
        let written =
            tokio::task::spawn_blocking(move || floor::write_orders(&url, connections, &file));
        written.await??;
        let paths = Paths {
            pg_dump: bin_dir(cluster.major())?.join("pg_dump"),
            aws: workspace::root().join(".tools/venv/bin/aws"),
            postgres_environment: environment(&cluster),
            aws_environment: client_environment(&cloud),
            work,
        };
        Ok(Self {
            server_version,
            scale,
            connections,
            paths: Arc::new(paths),
            orders,
            cloud,
            cluster,
            _home: home,
        })
    }

    /// One run of one contestant; afterwards the storage is as empty as before.
    pub(crate) async fn perform(
        &self,
        contestant: &Contestant,
        at: Timestamp,
    ) -> Result<Sample, Error> {
        let load_before = load();
        if *contestant == Contestant::Lifeboat {
            return lifeboat::perform(self, at, load_before).await;
        }
        let (contestant, paths) = (contestant.clone(), Arc::clone(&self.paths));
        let orders = self.orders.clone();
        let bucket = self.cloud.physical("WorkBucket").ok_or("no work bucket")?;
        let to = format!("s3://{bucket}/pipeline");
        let name = contestant.to_string();
        let taken = tokio::task::spawn_blocking(move || run(&contestant, &paths, &orders, &to));
        let Taken { wall, programs } = taken.await??;
        Ok(Sample {
            contestant: name,
            wall_seconds: wall.as_secs_f64(),
            programs,
            copy_bytes: None,
            stored_bytes: self.sweep("WorkBucket").await?,
            verify: None,
            load_before,
        })
    }

    /// Empties a bucket, and says how much was in it.
    pub(crate) async fn sweep(&self, bucket: &str) -> Result<u64, Error> {
        let mut bytes = 0;
        for (key, size) in self.cloud.objects(bucket).await? {
            self.cloud.remove(bucket, &key).await?;
            bytes += size;
        }
        Ok(bytes)
    }
}

fn run(contestant: &Contestant, paths: &Paths, orders: &Path, to: &str) -> Result<Taken, Error> {
    match contestant {
        Contestant::Lifeboat => Err("Lifeboat is no pipeline".into()),
        Contestant::Custom { level } => pipeline::custom(paths, *level, to),
        // A name of its own: what was a folder of files cannot become a file.
        Contestant::Directory { connections } => {
            pipeline::directory(paths, *connections, &format!("{to}.folder"))
        }
        Contestant::Floor => pipeline::floor(paths, orders),
    }
}

fn make_database(scale: f64) -> Result<(Cluster, String), Error> {
    let options = localcloud::postgres::Options {
        settings: SETTINGS.map(str::to_owned).to_vec(),
        ..localcloud::postgres::Options::default()
    };
    let cluster = Cluster::temporary_with(Major::debian()?, &options)?;
    sample::create_bench(&cluster, DATABASE, scale)?;
    // Not while somebody is measured.
    cluster.psql(DATABASE, "CHECKPOINT")?;
    let version = cluster.psql(DATABASE, "SHOW server_version")?;
    let version = version.split(' ').next().unwrap_or_default().to_owned();
    Ok((cluster, version))
}

fn environment(cluster: &Cluster) -> BTreeMap<String, String> {
    let mut command = Command::new("pg_dump");
    cluster.connect(&mut command, DATABASE);
    let text = |it: &std::ffi::OsStr| it.to_string_lossy().into_owned();
    command
        .get_envs()
        .filter_map(|(name, value)| Some((text(name), text(value?))))
        .collect()
}
