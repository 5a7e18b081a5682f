//! The restore engine: what it makes of a backup is equal to the source, however it was interrupted.

mod interrupted;
mod live;
mod obstacles;
mod parts;
mod scratches;
mod tables;
mod whole;

use std::time::{Duration, Instant};

use localcloud::postgres::{Cluster, SUPERUSER};
use shared::database_url::DatabaseUrl;
use shared::restore::staging::Limits;
use shared::restore::{self, Advance, LeaveOut, Order, RestoreError, Scope, Target, scratch};

use crate::harness::{Backup, open};

/// Everything, with owners and grants, since the roles are there.
fn everything(plan_id: &str, connections: u32) -> Order {
    Order {
        plan_id: plan_id.to_owned(),
        scope: Scope::Everything,
        leave_out: LeaveOut::default(),
        owners: true,
        privileges: true,
        connections,
        staging_schema: None,
    }
}

fn url(cluster: &Cluster, database: &str) -> DatabaseUrl {
    DatabaseUrl::parse(&cluster.url(database, SUPERUSER)).unwrap()
}

fn target_of(cluster: &Cluster, database: &str) -> Target {
    Target::new(url(cluster, database))
}

fn in_an_hour() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

fn limits() -> Limits {
    Limits {
        keys_max: 100,
        until: in_an_hour(),
        yield_after: Duration::from_secs(30),
    }
}

/// Makes the database as the backup was.
async fn create(backup: &Backup, cluster: &Cluster, database: &str) {
    let settings = &backup.manifest.settings;
    scratch::create_database(&url(cluster, "postgres"), database, settings, "")
        .await
        .unwrap();
}

/// Restores without a deadline, and removes the ledger.
async fn restore_whole(
    backup: &Backup,
    (cluster, database): (&Cluster, &str),
    order: &Order,
) -> Result<Advance, RestoreError> {
    create(backup, cluster, database).await;
    let opened = open(backup).await;
    let target = target_of(cluster, database);
    let advance = restore::advance(&opened, &target, order, in_an_hour()).await?;
    assert_eq!(advance.remaining, 0);
    restore::finish(&opened, &target, order).await?;
    Ok(advance)
}

/// Of a restore that must be proven, what it says when it is not.
fn assert_advance_is_proven(advance: &Advance) {
    let proof = advance.proof.as_ref().unwrap();
    assert_eq!(proof.differences(), [""; 0]);
    assert_eq!(proof.inconclusive, [""; 0]);
    assert!(proof.is_proven);
    assert!(!proof.tables.is_empty());
}
