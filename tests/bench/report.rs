//! What came of it: medians, ratios, and whether the targets are met.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Serialize;

use crate::contestant::{BASELINE, Contestant};
use crate::measured::Usage;
use crate::stage::Stage;

/// One run of one contestant.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sample {
    pub(crate) contestant: String,
    pub(crate) wall_seconds: f64,
    pub(crate) programs: Vec<Usage>,
    pub(crate) copy_bytes: Option<u64>,
    pub(crate) stored_bytes: u64,
    pub(crate) verify: Option<Verify>,
    pub(crate) load_before: f64,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Verify {
    pub(crate) wall_seconds: f64,
    pub(crate) peak_memory_bytes: u64,
}

impl Sample {
    /// Of all client programs; not of the server, not of the storage.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        self.programs.iter().filter_map(|it| it.cpu_seconds).sum()
    }

    fn cpu_seconds_of(&self, program: &str) -> f64 {
        let its = self.programs.iter().filter(|it| it.program == program);
        its.filter_map(|it| it.cpu_seconds).sum()
    }

    fn peak_memory_bytes(&self) -> u64 {
        self.programs.iter().map(|it| it.peak_memory_bytes).sum()
    }
}

/// The median of every number on its own.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Line {
    pub(crate) contestant: String,
    pub(crate) wall_seconds: f64,
    pub(crate) client_cpu_seconds: f64,
    /// Without the AWS command line's share.
    pub(crate) cpu_seconds_without_aws: f64,
    /// Of its programs together, were each at its peak at the same time.
    pub(crate) peak_memory_bytes: f64,
    pub(crate) stored_bytes: f64,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Target {
    pub(crate) what: String,
    pub(crate) measured: f64,
    #[serde(flatten)]
    pub(crate) limit: Limit,
    pub(crate) is_met: bool,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) started_at: Timestamp,
    pub(crate) server_version: String,
    pub(crate) cpus: usize,
    pub(crate) scale: f64,
    pub(crate) connections: u32,
    pub(crate) runs: usize,
    pub(crate) copy_bytes: u64,
    pub(crate) medians: Vec<Line>,
    pub(crate) verify_wall_seconds: f64,
    pub(crate) verify_peak_memory_bytes: f64,
    pub(crate) targets: Vec<Target>,
    pub(crate) samples: Vec<Sample>,
}

impl Report {
    pub(crate) fn new(
        stage: &Stage,
        runs: usize,
        started_at: Timestamp,
        samples: Vec<Sample>,
    ) -> Self {
        let contestants = Contestant::all(stage.connections);
        let medians: Vec<Line> = contestants.iter().map(|it| line(it, &samples)).collect();
        let verified = || samples.iter().filter_map(|it| it.verify.as_ref());
        let verify_wall_seconds = median(verified().map(|it| it.wall_seconds));
        Self {
            started_at,
            server_version: stage.server_version.clone(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            scale: stage.scale,
            connections: stage.connections,
            runs,
            copy_bytes: samples.iter().find_map(|it| it.copy_bytes).unwrap_or(0),
            targets: targets(&medians, verify_wall_seconds),
            medians,
            verify_wall_seconds,
            verify_peak_memory_bytes: median(verified().map(|it| it.peak_memory_bytes as f64)),
            samples,
        }
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let mut text = format!(
            "{:.2} GB of COPY text, PostgreSQL {}, {} CPUs, {} connections, median of {}\n\
             {:<34}{:>15}{:>21}{:>11}{:>17}\n",
            self.copy_bytes as f64 / 1e9,
            self.server_version,
            self.cpus,
            self.connections,
            self.runs,
            "",
            "wall",
            "client CPU (no aws)",
            "memory",
            "stored"
        );
        let Some(baseline) = find(&self.medians, &BASELINE) else {
            return text;
        };
        for line in &self.medians {
            let stored = if line.stored_bytes > 0.0 {
                let ratio = line.stored_bytes / baseline.stored_bytes;
                format!("{:>7.1} MB {ratio:>6.3}", line.stored_bytes / 1e6)
            } else {
                format!("{:>17}", "nothing")
            };
            // Writing to a String cannot fail.
            let _infallible = writeln!(
                text,
                "{:<34}{:>6.2} s {:>6.3}{:>6.2} s {:>6.3} {:>6.2}{:>8.0} MB{stored}",
                line.contestant,
                line.wall_seconds,
                line.wall_seconds / baseline.wall_seconds,
                line.client_cpu_seconds,
                line.client_cpu_seconds / baseline.client_cpu_seconds,
                line.cpu_seconds_without_aws,
                line.peak_memory_bytes / 1e6,
            );
        }
        let _infallible = writeln!(
            text,
            "{:<34}{:>6.2} s {:>28}{:>8.0} MB\n",
            "verify of Lifeboat's backup",
            self.verify_wall_seconds,
            "",
            self.verify_peak_memory_bytes / 1e6
        );
        for target in &self.targets {
            let verdict = if target.is_met { "met   " } else { "MISSED" };
            let limit = match target.limit {
                Limit::AtMost(limit) => format!("at most {limit}"),
                Limit::AtLeast(limit) => format!("at least {limit}"),
            };
            let _infallible = writeln!(
                text,
                "{verdict}  {:<52}{:>7.3}  {limit}",
                target.what, target.measured
            );
        }
        text
    }
}

fn line(contestant: &Contestant, samples: &[Sample]) -> Line {
    let contestant = contestant.to_string();
    let of = |value: &dyn Fn(&Sample) -> f64| {
        median(
            samples
                .iter()
                .filter(|it| it.contestant == contestant)
                .map(value),
        )
    };
    Line {
        wall_seconds: of(&|it| it.wall_seconds),
        client_cpu_seconds: of(&Sample::cpu_seconds),
        cpu_seconds_without_aws: of(&|it| it.cpu_seconds() - it.cpu_seconds_of("aws")),
        peak_memory_bytes: of(&|it| it.peak_memory_bytes() as f64),
        stored_bytes: of(&|it| it.stored_bytes as f64),
        contestant,
    }
}

fn find<'a>(medians: &'a [Line], contestant: &Contestant) -> Option<&'a Line> {
    let name = contestant.to_string();
    medians.iter().find(|it| it.contestant == name)
}

fn targets(medians: &[Line], verify_wall_seconds: f64) -> Vec<Target> {
    let line = |contestant| find(medians, contestant);
    let (Some(ours), Some(baseline), Some(floor)) = (
        line(&Contestant::Lifeboat),
        line(&BASELINE),
        line(&Contestant::Floor),
    ) else {
        return Vec::new();
    };
    let name = &baseline.contestant;
    let rows = [
        (
            format!("wall time, of {name}"),
            ours.wall_seconds / baseline.wall_seconds,
            Limit::AtMost(0.33),
        ),
        (
            "client CPU, of pg_dump and aws together".to_owned(),
            ours.client_cpu_seconds / baseline.client_cpu_seconds,
            Limit::AtMost(0.25),
        ),
        (
            "client CPU, of pg_dump alone".to_owned(),
            ours.client_cpu_seconds / baseline.cpu_seconds_without_aws,
            Limit::AtMost(0.25),
        ),
        (
            "wall time, of the floor".to_owned(),
            ours.wall_seconds / floor.wall_seconds,
            Limit::AtMost(1.5),
        ),
        (
            "stored bytes, of pg_dump's gzip".to_owned(),
            ours.stored_bytes / baseline.stored_bytes,
            Limit::AtMost(0.85),
        ),
        (
            "rate of verify, of the dump's".to_owned(),
            ours.wall_seconds / verify_wall_seconds,
            Limit::AtLeast(3.0),
        ),
    ];
    rows.into_iter()
        .map(|(what, measured, limit)| target(what, measured, limit))
        .collect()
}

pub(crate) fn target(what: String, measured: f64, limit: Limit) -> Target {
    let is_met = match limit {
        Limit::AtMost(limit) => measured <= limit,
        Limit::AtLeast(limit) => measured >= limit,
    };
    Target {
        what,
        measured,
        limit,
        is_met,
    }
}

pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.get(middle) {
        None => f64::NAN,
        Some(value) if values.len() % 2 == 1 => *value,
        Some(value) => f64::midpoint(*value, values[middle - 1]),
    }
}
