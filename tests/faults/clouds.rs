//! The clouds and servers that tests share: starting one costs seconds.

use std::path::{Path, PathBuf};

use localcloud::postgres::{Cluster, Major};
use localcloud::{Cloud, Options, Override};
use serde_json::json;
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use crate::harness::{self, scratch, trusting_our_authority};

/// The timeout of the dump function in the cloud of [`alone`].
pub(crate) const SHORT_SECONDS: u64 = 14;

/// A cloud of the project's own template.
pub(crate) async fn start(name: &str, change: impl FnOnce(&mut Options)) -> Cloud {
    let mut options = Options::new(scratch().join(name));
    options.environment = trusting_our_authority();
    change(&mut options);
    Cloud::start(options).await.unwrap()
}

/// For tests that only touch what carries their database's name.
pub(crate) async fn shared() -> &'static Cloud {
    // The harness blocks while it starts.
    tokio::task::spawn_blocking(harness::cloud).await.unwrap()
}

/// A cloud for one test at a time: with faults in S3, killed processes, a short timeout or a false `pg_dump`.
pub(crate) struct Alone {
    pub(crate) cloud: &'static Cloud,
    pub(crate) pgtools: &'static Path,
    _turn: MutexGuard<'static, ()>,
}

pub(crate) async fn alone() -> Alone {
    static CLOUD: OnceCell<(Cloud, PathBuf)> = OnceCell::const_new();
    static TURN: Mutex<()> = Mutex::const_new(());
    let turn = TURN.lock().await;
    let (cloud, pgtools) = CLOUD
        .get_or_init(|| async {
            let pgtools = scratch().join("false-pgtools");
            super::planner::lay_out(&pgtools);
            let tools = pgtools.clone();
            let cloud = start("alone", |options| {
                options.pgtools = tools;
                options.overrides.push(Override {
                    logical_id: "DumpFunction".into(),
                    property: "Timeout".into(),
                    value: json!(SHORT_SECONDS),
                });
            });
            (cloud.await, pgtools)
        })
        .await;
    cloud.faults().clear();
    super::planner::behave(pgtools, "");
    Alone {
        cloud,
        pgtools,
        _turn: turn,
    }
}

/// A server with default settings.
pub(crate) fn cluster() -> &'static Cluster {
    harness::cluster(Major::debian().unwrap())
}
