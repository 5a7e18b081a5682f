//! How long a restore takes, predicted before it begins. Pure.

use serde::{Deserialize, Serialize};

use super::jobs::Work;
use super::plan::plan;
use super::select::Stage;
use super::{Advance, Backup, Order, Scope, staged};

/// What was measured before, or what is assumed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Bytes of `COPY` text that one connection loads.
    pub load_bytes_per_second: f64,
    /// Bytes of `COPY` text of a table that one connection indexes once.
    pub index_bytes_per_second: f64,
    /// Bytes of `COPY` text that one connection reads back.
    pub proof_bytes_per_second: f64,
}

/// Careful: what two cores of a small machine did, halved.
pub const ASSUMED: Rates = Rates {
    load_bytes_per_second: 25e6,
    index_bytes_per_second: 60e6,
    proof_bytes_per_second: 60e6,
};

impl Rates {
    pub(super) fn of(self, stage: Stage) -> f64 {
        match stage {
            Stage::Pre | Stage::Metadata | Stage::Data | Stage::Settle => {
                self.load_bytes_per_second
            }
            Stage::Proof => self.proof_bytes_per_second,
            Stage::Post | Stage::Owners | Stage::Privileges | Stage::Last | Stage::Analyze => {
                self.index_bytes_per_second
            }
        }
    }
}

/// The prediction.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// With the order's connections.
    pub seconds: f64,
    pub jobs: u64,
    /// Stored bytes that are read.
    pub bytes: u64,
    /// Of rows, as text.
    pub copy_bytes: u64,
    pub tables: u64,
    pub rows: u64,
    /// No part of it can be split over invocations.
    pub longest_job: String,
    pub longest_job_seconds: f64,
}

/// Every job costs a few round trips.
const SECONDS_PER_JOB: f64 = 0.01;

pub fn predict(backup: &Backup, order: &Order, rates: Rates) -> Estimate {
    let manifest = &backup.manifest;
    let program = match &order.scope {
        Scope::Tables(tables) => {
            let types = staged::Types::default();
            let staged = staged::program(manifest, order, tables, &types);
            staged.map(|it| it.0).unwrap_or_default()
        }
        Scope::Everything | Scope::SchemaOnly | Scope::DataOnly => {
            plan(&backup.toc, manifest, order)
        }
    };
    let mut estimate = Estimate {
        jobs: program.jobs.len() as u64,
        bytes: backup.opened_bytes,
        copy_bytes: program.units.iter().map(|it| it.copy_bytes).sum(),
        tables: program.units.len() as u64,
        rows: program.units.iter().map(|it| it.rows).sum(),
        ..Estimate::default()
    };
    let mut work = 0.0;
    for job in &program.jobs {
        let seconds = SECONDS_PER_JOB + job.bytes as f64 / rates.of(job.stage).max(1.0);
        work += seconds;
        if seconds > estimate.longest_job_seconds {
            estimate.longest_job_seconds = seconds;
            estimate.longest_job.clone_from(&job.what);
        }
        if let Work::Load { object, .. } | Work::LargeObjects { object } = &job.work {
            estimate.bytes += manifest.objects[*object].stored_bytes;
        }
    }
    let side_by_side = work / f64::from(order.connections.max(1));
    estimate.seconds = side_by_side.max(estimate.longest_job_seconds);
    estimate
}

/// What a finished restore has shown; 0 bytes or seconds show nothing.
pub fn measured(advance: &Advance, connections: u32) -> Option<Rates> {
    let seconds = |phase: &str| {
        let found = advance.phases.iter().find(|it| it.name == phase);
        found.map(|it| it.seconds).filter(|it| *it > 0.0)
    };
    let rate = |phase| {
        let rate = advance.copy_bytes as f64 / seconds(phase)? / f64::from(connections.max(1));
        (rate > 0.0).then_some(rate)
    };
    Some(Rates {
        load_bytes_per_second: rate("data")?,
        index_bytes_per_second: rate("post_data").unwrap_or(ASSUMED.index_bytes_per_second),
        proof_bytes_per_second: rate("proof")?,
    })
}
