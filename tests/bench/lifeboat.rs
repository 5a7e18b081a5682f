//! Ourselves: the real function programs, started cold by the Lambda host.

use std::time::Instant;

use jiff::Timestamp;
use localcloud::postgres::{Cluster, SUPERUSER};
use localcloud::{Database, Invoked};
use serde_json::{Value, json};

use crate::contestant::Contestant;
use crate::measured::Usage;
use crate::report::{Sample, Verify};
use crate::stage::{DATABASE, Stage};
use crate::{Error, check};

/// What the configuration says of the database.
pub(crate) fn database(cluster: &Cluster, connections: u32) -> Database {
    Database {
        name: DATABASE.to_owned(),
        provider: "postgres".to_owned(),
        url: cluster.url(DATABASE, SUPERUSER),
        extra: format!("connections = {connections}"),
    }
}

/// Dump and verify, each in a new process, as at night.
pub(crate) async fn perform(
    stage: &Stage,
    at: Timestamp,
    load_before: f64,
) -> Result<Sample, Error> {
    // Ends what is warm.
    let database = database(&stage.cluster, stage.connections);
    stage.cloud.configure(vec![database]).await?;
    let item = json!({
        "database": DATABASE,
        "kind": "on-demand",
        "scheduled_time": at.to_string(),
    });

    let begun = Instant::now();
    let dumped = answer(&stage.cloud.invoke("dump", &item).await?)?;
    let wall = begun.elapsed();
    check(dumped["outcome"] == "committed", "lifeboat")?;
    let stored = stage.cloud.objects("VaultBucket").await?.values().sum();

    let verify = verify(stage, &item).await?;
    stage.sweep("VaultBucket").await?;
    stage.sweep("WorkBucket").await?;
    let bytes = |name: &str| dumped[name].as_u64().unwrap_or_default();
    let programs = vec![
        Usage {
            program: "dump".to_owned(),
            cpu_seconds: dumped["cpu_seconds"].as_f64(),
            peak_memory_bytes: bytes("peak_memory_bytes"),
        },
        Usage {
            program: "pg_dump".to_owned(),
            cpu_seconds: None,
            peak_memory_bytes: bytes("planner_peak_memory_bytes"),
        },
    ];
    Ok(Sample {
        contestant: Contestant::Lifeboat.to_string(),
        wall_seconds: wall.as_secs_f64(),
        programs,
        copy_bytes: Some(bytes("copy_bytes")),
        stored_bytes: stored,
        verify: Some(verify),
        load_before,
    })
}

async fn verify(stage: &Stage, item: &Value) -> Result<Verify, Error> {
    let begun = Instant::now();
    let mut event = json!({ "backup": item });
    let report = loop {
        let report = answer(&stage.cloud.invoke("verify", &event).await?)?;
        if !report["verdict"].is_null() {
            break report;
        }
        event["next"] = report["next"].clone();
    };
    let wall_seconds = begun.elapsed().as_secs_f64();
    check(report["verdict"] == "passed", "verify")?;
    let peaks = stage.cloud.function_peak_rss("verify");
    Ok(Verify {
        wall_seconds,
        peak_memory_bytes: peaks.last().map_or(0, |it| it.process_bytes),
    })
}

fn answer(invoked: &Invoked) -> Result<Value, Error> {
    let value: Value = serde_json::from_slice(&invoked.payload)?;
    if invoked.failed {
        return Err(format!("{}: {}", value["errorType"], value["errorMessage"]).into());
    }
    Ok(value)
}
