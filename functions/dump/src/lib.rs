//! Takes one backup: a stock `pg_dump` archive, copied in parallel, encrypted, in the vault.

pub mod catalog;
pub mod commit;
pub mod coordinator;
pub mod copy;
pub mod crew;
pub mod describe;
pub mod engine;
pub mod error;
pub mod names;
pub mod plan;
pub mod preflight;
pub mod progress;
pub mod roles;
pub mod stop;
pub mod upload;
pub mod usage;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;
use shared::backup::{BackupId, BackupItem, DatabaseName};
use shared::config::{ConfigError, layer_root, read_policy, required};
use shared::database_url::DatabaseUrl;
use shared::key::Key;
use shared::manifest::Totals;
use shared::pg::PgError;
use shared::policy::Policy;
use shared::sealed;
use shared::secret::Secrets;
use shared::store::Bucket;
use tokio::runtime::Handle;
use tracing::info;

use crate::engine::{Order, Outcome};
use crate::error::DumpError;

/// One vCPU comes with this much memory.
const MEMORY_MB_PER_CPU: u32 = 1_769;

/// Settings, read once at cold start.
///
/// - `VAULT_BUCKET`: the bucket of the backups.
/// - `LAYER_ROOT`: where the layers are; `/opt` unless set.
/// - `AWS_LAMBDA_FUNCTION_MEMORY_SIZE`: in MB, set by Lambda; vCPUs follow from it.
#[derive(Debug)]
pub struct Config {
    pub vault_bucket: String,
    pub layer_root: PathBuf,
    pub memory_mb: u32,
}

impl Config {
    pub fn read(var: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        Ok(Self {
            vault_bucket: required(&var, "VAULT_BUCKET")?,
            layer_root: layer_root(&var),
            memory_mb: required(&var, "AWS_LAMBDA_FUNCTION_MEMORY_SIZE")?,
        })
    }
}

/// One invocation: who it is, and how long it may take.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Unique, and safe as a key segment.
    pub request_id: String,
    pub started_at: Timestamp,
    pub deadline: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Done {
    Committed,
    /// An earlier or concurrent run of the same event was first.
    AlreadyCommitted,
}

/// What the state machine gets back. Numbers are this run's own, so there are none when
/// another run was first.
#[derive(Debug, Serialize)]
pub struct Response {
    pub outcome: Done,
    pub database: DatabaseName,
    pub backup_id: BackupId,
    pub manifest_key: String,
    #[serde(flatten)]
    pub totals: Option<Totals>,
    pub snapshot_at: Option<Timestamp>,
    pub seconds: Option<f64>,
    pub cpu_seconds: Option<f64>,
    pub peak_memory_bytes: Option<u64>,
    pub planner_peak_memory_bytes: Option<u64>,
    pub warnings: u64,
}

/// Takes the backup that `item` names.
///
/// # Errors
///
/// Whatever happens before the manifest is written leaves no backup and nothing that looks
/// like one. Safe to call again after any error, also at the same time.
pub async fn dump(
    config: &Config,
    bucket: &Bucket,
    secrets: &Secrets,
    invocation: Invocation,
    item: BackupItem,
) -> Result<Response, DumpError> {
    let id = item.id()?;
    let policy = read_policy(&config.layer_root)?;
    let manifest_key = Key::Manifest(&item.database, id).to_string();
    let (database, bucket) = (item.database.clone(), bucket.clone());
    let url = source_url(secrets, &item, id).await?;
    let run = Run {
        item,
        id,
        policy,
        bucket,
        pgtools: config.layer_root.join("pgtools"),
        vcpus: config.memory_mb / MEMORY_MB_PER_CPU,
        invocation,
        handle: Handle::current(),
    };
    let run = std::sync::Arc::new(run);
    let outcome = match run.clone().attempt(url).await {
        Err(DumpError::Connect(PgError::Authentication { .. })) => {
            // The password may have been rotated between reading and connecting.
            let url = source_url(secrets, &run.item, id).await?;
            run.attempt(url).await?
        }
        outcome => outcome?,
    };
    Ok(respond(database, id, manifest_key, &outcome))
}

/// Production, or the temporary branch that was made for this backup; never the one for the
/// other.
async fn source_url(
    secrets: &Secrets,
    item: &BackupItem,
    id: BackupId,
) -> Result<DatabaseUrl, DumpError> {
    let database = &item.database;
    match &item.source_branch {
        Some(branch) if !branch.is_of(id) => Err(DumpError::OtherSourceBranch {
            lent_as: branch.lent_as.clone(),
            id,
        }),
        Some(branch) => Ok(secrets
            .branch_url(database, &branch.lent_as, &branch.branch_id)
            .await?),
        None if item.from_branch => Err(DumpError::NoSourceBranch(database.clone())),
        None => Ok(secrets.database_url(database).await?),
    }
}

/// Everything the blocking part needs, owned.
#[derive(Debug)]
struct Run {
    item: BackupItem,
    id: BackupId,
    policy: Policy,
    bucket: Bucket,
    pgtools: PathBuf,
    vcpus: u32,
    invocation: Invocation,
    handle: Handle,
}

impl Run {
    async fn attempt(self: std::sync::Arc<Self>, url: DatabaseUrl) -> Result<Outcome, DumpError> {
        let engine = tokio::task::spawn_blocking(move || {
            let database = self.policy.database(&self.item.database);
            let database =
                database.ok_or_else(|| DumpError::UnknownDatabase(self.item.database.clone()))?;
            let recipients = sealed::recipients(&self.policy.recipients)
                .map_err(|_| DumpError::Internal("recipients were valid before"))?;
            let connections = database.connections.unwrap_or(self.vcpus.clamp(2, 8));
            engine::run(&Order {
                item: &self.item,
                id: self.id,
                attempt: &self.invocation.request_id,
                policy: &self.policy,
                database,
                url: &url,
                recipients: &recipients,
                pgtools: &self.pgtools,
                bucket: &self.bucket,
                connections,
                deadline: self.invocation.deadline,
                started_at: self.invocation.started_at,
                handle: self.handle.clone(),
            })
        });
        engine
            .await
            .map_err(|_| DumpError::Internal("the engine panicked"))?
    }
}

fn respond(
    database: DatabaseName,
    backup_id: BackupId,
    manifest_key: String,
    outcome: &Outcome,
) -> Response {
    let (outcome, manifest) = match outcome {
        Outcome::Committed(manifest) => (Done::Committed, Some(manifest)),
        Outcome::AlreadyCommitted => (Done::AlreadyCommitted, None),
    };
    info!(?outcome, %database, %backup_id, "dump done");
    Response {
        outcome,
        database,
        backup_id,
        manifest_key,
        totals: manifest.map(|it| it.totals.clone()),
        snapshot_at: manifest.map(|it| it.snapshot_at),
        seconds: manifest.map(|it| it.run.seconds),
        cpu_seconds: manifest.map(|it| it.run.cpu_seconds),
        peak_memory_bytes: manifest.map(|it| it.run.peak_memory_bytes),
        planner_peak_memory_bytes: manifest.map(|it| it.run.planner_peak_memory_bytes),
        warnings: manifest.map_or(0, |it| (it.warnings.len() + it.left_out.len()) as u64),
    }
}

/// How long until the moment that Lambda gives as milliseconds since 1970.
pub fn until(now: Timestamp, deadline_millis: u64) -> Duration {
    let left = i128::from(deadline_millis) - i128::from(now.as_millisecond());
    Duration::from_millis(u64::try_from(left).unwrap_or_default())
}
