//! The restore engine, called as the functions call it, against the bucket of the shared cloud.

use std::future::Future;
use std::sync::Arc;

use age::x25519::Identity;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use shared::restore;
use shared::store::Bucket;

use super::{Backup, cloud};

/// Runs a future of the engine to its end.
pub fn engine<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(future)
}

/// The vault, read as whoever deployed.
async fn vault() -> Bucket {
    let admin = cloud().admin_credentials();
    let credentials = Credentials::new(
        &admin.access_key,
        &admin.secret_key,
        admin.session_token.clone(),
        None,
        "tests",
    );
    let config = aws_config::defaults(BehaviorVersion::latest())
        .credentials_provider(credentials)
        .region(Region::new("us-east-1"))
        .endpoint_url(cloud().endpoint())
        .load()
        .await;
    Bucket::new(&config, cloud().physical("VaultBucket").unwrap().to_owned())
}

fn identities() -> Arc<[Identity]> {
    let file = std::fs::read_to_string(cloud().home().join("identity.txt")).unwrap();
    file.lines().filter_map(|line| line.parse().ok()).collect()
}

/// The backup, opened whole.
pub async fn open(backup: &Backup) -> restore::Backup {
    let manifest = &backup.manifest;
    let (database, id) = (&manifest.database, manifest.backup_id);
    restore::Backup::open(&vault().await, identities(), database, id)
        .await
        .unwrap()
}

/// The backup, opened for single tables: its manifest only.
pub async fn open_for_tables(backup: &Backup) -> restore::Backup {
    let manifest = &backup.manifest;
    let (database, id) = (&manifest.database, manifest.backup_id);
    restore::Backup::open_for_tables(&vault().await, identities(), database, id)
        .await
        .unwrap()
}
