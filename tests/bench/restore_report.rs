//! What came of restoring: medians, ratios, and whether the targets are met.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Serialize;

use crate::report::{Limit, Target, median, target};
use crate::restore::{RestoreSample, Restorer};
use crate::stage::Stage;

/// What Lifeboat's line is called without its proof.
const WITHOUT_PROOF: &str = "lifeboat, without proof";
/// What is asked for.
const MEMORY_BYTES_MAX: f64 = 256.0 * 1024.0 * 1024.0;

/// The median of every number on its own.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RestoreLine {
    pub(crate) restorer: String,
    pub(crate) wall_seconds: f64,
    pub(crate) client_cpu_seconds: f64,
    pub(crate) peak_memory_bytes: f64,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct RestoreReport {
    pub(crate) started_at: Timestamp,
    pub(crate) server_version: String,
    pub(crate) cpus: usize,
    pub(crate) scale: f64,
    pub(crate) connections: u32,
    pub(crate) runs: usize,
    pub(crate) medians: Vec<RestoreLine>,
    pub(crate) targets: Vec<Target>,
    pub(crate) samples: Vec<RestoreSample>,
}

impl RestoreReport {
    pub(crate) fn new(
        stage: &Stage,
        runs: usize,
        started_at: Timestamp,
        samples: Vec<RestoreSample>,
    ) -> Self {
        let mut medians = Vec::new();
        for restorer in Restorer::ALL {
            let line = line(restorer, &samples);
            if restorer == Restorer::Lifeboat {
                let of = samples.iter().filter(|it| it.restorer == line.restorer);
                let wall_seconds = median(of.filter_map(|it| it.wall_seconds_without_proof));
                medians.push(RestoreLine {
                    restorer: WITHOUT_PROOF.to_owned(),
                    wall_seconds,
                    ..line.clone()
                });
            }
            medians.push(line);
        }
        Self {
            started_at,
            server_version: stage.server_version.clone(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            scale: stage.scale,
            connections: stage.connections,
            runs,
            targets: targets(&medians),
            medians,
            samples,
        }
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let mut text = format!(
            "restore: PostgreSQL {}, {} CPUs, {} connections, median of {}\n",
            self.server_version, self.cpus, self.connections, self.runs
        );
        for line in &self.medians {
            // Writing to a String cannot fail.
            let _infallible = writeln!(
                text,
                "{:<34}{:>7.2} s {:>7.2} s of CPU {:>6.0} MB",
                line.restorer,
                line.wall_seconds,
                line.client_cpu_seconds,
                line.peak_memory_bytes / 1e6
            );
        }
        for target in &self.targets {
            let verdict = if target.is_met { "met   " } else { "MISSED" };
            let limit = match target.limit {
                Limit::AtMost(limit) => format!("at most {limit}"),
                Limit::AtLeast(limit) => format!("at least {limit}"),
            };
            let _infallible = writeln!(
                text,
                "{verdict}  {:<60}{:>7.3}  {limit}",
                target.what, target.measured
            );
        }
        text
    }
}

fn line(restorer: Restorer, samples: &[RestoreSample]) -> RestoreLine {
    let restorer = restorer.to_string();
    let of = |value: &dyn Fn(&RestoreSample) -> f64| {
        let samples = samples.iter().filter(|it| it.restorer == restorer);
        median(samples.map(value))
    };
    RestoreLine {
        wall_seconds: of(&|it| it.wall_seconds),
        client_cpu_seconds: of(&|it| it.programs.iter().filter_map(|it| it.cpu_seconds).sum()),
        peak_memory_bytes: of(&|it| {
            let bytes: u64 = it.programs.iter().map(|it| it.peak_memory_bytes).sum();
            bytes as f64
        }),
        restorer,
    }
}

fn targets(medians: &[RestoreLine]) -> Vec<Target> {
    let find = |name: &str| medians.iter().find(|it| it.restorer == name);
    let of = |restorer: Restorer| find(&restorer.to_string());
    let (Some(bare), Some(ours), Some(sync), Some(table), Some(stock)) = (
        find(WITHOUT_PROOF),
        of(Restorer::Lifeboat),
        of(Restorer::Sync),
        of(Restorer::LifeboatTable),
        of(Restorer::StockTable),
    ) else {
        return Vec::new();
    };
    let rows = [
        (
            "wall time without the proof, of sync and pg_restore -jN",
            bare.wall_seconds / sync.wall_seconds,
            0.8,
        ),
        (
            "wall time with the proof, of sync and pg_restore -jN",
            ours.wall_seconds / sync.wall_seconds,
            1.1,
        ),
        (
            "one table, of the same table out of the -Fc file",
            table.wall_seconds / stock.wall_seconds,
            0.1,
        ),
        (
            "memory, of 256 MiB",
            ours.peak_memory_bytes / MEMORY_BYTES_MAX,
            1.0,
        ),
    ];
    rows.into_iter()
        .map(|(what, measured, limit)| target(what.to_owned(), measured, Limit::AtMost(limit)))
        .collect()
}
