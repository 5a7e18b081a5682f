//! `make bench`: Lifeboat beside what people do today, on the same database and the same storage.
//!
//! A benchmark, never a test: its numbers are read as ratios, on a machine that does nothing else.

mod chart;
mod contestant;
mod floor;
mod lifeboat;
mod measured;
mod pipeline;
mod report;
mod restore;
mod restore_report;
mod stage;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};

use crate::contestant::Contestant;
use crate::report::Report;
use crate::restore::Restorer;
use crate::restore_report::RestoreReport;
use crate::stage::Stage;

/// Between contestants: what the one before wrote is on the disk, and nothing else is going on.
const REST: Duration = Duration::from_secs(1);

const USAGE: &str =
    "usage: bench [--only backup|restore] [--runs N] [--scale X] [--connections N] [--output DIR] [--chart FILE]
  --only         leave out the other half (both)
  --runs         rounds of which the median counts (3)
  --scale        1 is 1.15 GB of COPY text (1)
  --connections  of Lifeboat, pg_dump -j and the floor (2: what the function's two vCPUs get)
  --output       where bench-<time>.json and bench-<time>-restore.json go (.)
  --chart        where the chart goes (beside it, bench-<time>.svg); that of restore is beside the JSON";

type Error = Box<dyn std::error::Error + Send + Sync>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Half {
    Backup,
    Restore,
}

struct Arguments {
    only: Option<Half>,
    runs: usize,
    scale: f64,
    connections: u32,
    output: PathBuf,
    chart: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.first().map(String::as_str) {
        // This program again, around a contestant or as one.
        Some(measured::COMMAND) => measured::run(&arguments[1..]),
        Some(floor::COMMAND) => floor::run(),
        Some(restore::COMMAND) => restore::run(),
        _ => parse(&arguments).and_then(|arguments| start(&arguments)),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bench: {}", shared::error::chain(&*error));
            ExitCode::FAILURE
        }
    }
}

fn parse(words: &[String]) -> Result<Arguments, Error> {
    let mut arguments = Arguments {
        only: None,
        runs: 3,
        scale: 1.0,
        connections: 2,
        output: PathBuf::from("."),
        chart: None,
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let value = words.next().ok_or(USAGE)?;
        match word.as_str() {
            "--only" if value == "backup" => arguments.only = Some(Half::Backup),
            "--only" if value == "restore" => arguments.only = Some(Half::Restore),
            "--runs" => arguments.runs = value.parse()?,
            "--scale" => arguments.scale = value.parse()?,
            "--connections" => arguments.connections = value.parse()?,
            "--output" => arguments.output = value.into(),
            "--chart" => arguments.chart = Some(value.into()),
            _ => return Err(USAGE.into()),
        }
    }
    if arguments.runs == 0 {
        return Err(USAGE.into());
    }
    Ok(arguments)
}

#[tokio::main]
async fn start(arguments: &Arguments) -> Result<ExitCode, Error> {
    let mut terminated = signal(SignalKind::terminate())?;
    // What runs is dropped, and with it go servers, processes and files.
    tokio::select! {
        done = bench(arguments) => done,
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
        _ = terminated.recv() => Err("terminated".into()),
    }
}

async fn bench(arguments: &Arguments) -> Result<ExitCode, Error> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the clock"
    )]
    let started_at = Timestamp::now();
    let stage = Stage::set(arguments.scale, arguments.connections).await?;
    if arguments.only != Some(Half::Restore) {
        backups(arguments, &stage, started_at).await?;
    }
    if arguments.only != Some(Half::Backup) {
        restores(arguments, &stage, started_at).await?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn backups(arguments: &Arguments, stage: &Stage, started_at: Timestamp) -> Result<(), Error> {
    let contestants = Contestant::all(arguments.connections);
    let mut samples = Vec::new();

    println!("bench: read everything once, so that nobody is the first");
    stage.perform(&Contestant::Floor, started_at).await?;
    for round in 0..arguments.runs {
        // Another order each time: whatever drifts hits all alike.
        for turn in 0..contestants.len() {
            let contestant = &contestants[(turn + round) % contestants.len()];
            nix::unistd::sync();
            tokio::time::sleep(REST).await;
            // Names the backup: one second, one backup.
            let at = started_at + jiff::SignedDuration::from_secs(samples.len() as i64);
            let sample = stage.perform(contestant, at).await?;
            let name = &sample.contestant;
            let (wall, cpu) = (sample.wall_seconds, sample.cpu_seconds());
            println!(
                "bench: round {} of {}: {name:<34} {wall:>7.2} s, {cpu:>6.2} s of CPU, load {:.1} before",
                round + 1,
                arguments.runs,
                sample.load_before
            );
            samples.push(sample);
        }
    }
    let report = Report::new(stage, arguments.runs, started_at, samples);
    println!("\n{}", report.table());
    write(arguments, &report, started_at)
}

async fn restores(
    arguments: &Arguments,
    stage: &Stage,
    started_at: Timestamp,
) -> Result<(), Error> {
    println!("bench: put ours and stock archives into the storage");
    let at = started_at + jiff::SignedDuration::from_hours(1);
    let taken = restore::prepare(stage, at).await?;
    println!("bench: restore once, so that nobody is the first to make the server's log files");
    restore::perform(stage, Restorer::Sync, &taken).await?;
    let mut samples = Vec::new();
    let restorers = Restorer::ALL;
    for round in 0..arguments.runs {
        for turn in 0..restorers.len() {
            let restorer = restorers[(turn + round) % restorers.len()];
            let sample = restore::perform(stage, restorer, &taken).await?;
            println!(
                "bench: round {} of {}: {:<34} {:>7.2} s, load {:.1} before",
                round + 1,
                arguments.runs,
                sample.restorer,
                sample.wall_seconds,
                sample.load_before
            );
            samples.push(sample);
        }
    }
    let report = RestoreReport::new(stage, arguments.runs, started_at, samples);
    println!("\n{}", report.table());
    let name = started_at.strftime("bench-%Y%m%dT%H%M%SZ-restore");
    let json = arguments.output.join(format!("{name}.json"));
    let chart = arguments.output.join(format!("{name}.svg"));
    std::fs::create_dir_all(&arguments.output)?;
    std::fs::write(&json, serde_json::to_string_pretty(&report)? + "\n")?;
    std::fs::write(&chart, chart::restore_svg(&report))?;
    println!(
        "bench: written to {} and {}",
        json.display(),
        chart.display()
    );
    Ok(())
}

fn write(arguments: &Arguments, report: &Report, started_at: Timestamp) -> Result<(), Error> {
    let name = started_at.strftime("bench-%Y%m%dT%H%M%SZ").to_string();
    let json = arguments.output.join(format!("{name}.json"));
    let beside = arguments.output.join(format!("{name}.svg"));
    let chart: &Path = arguments.chart.as_deref().unwrap_or(&beside);
    std::fs::create_dir_all(&arguments.output)?;
    std::fs::write(&json, serde_json::to_string_pretty(report)? + "\n")?;
    std::fs::write(chart, chart::svg(report))?;
    println!(
        "bench: written to {} and {}",
        json.display(),
        chart.display()
    );
    Ok(())
}

/// The system's load over the last minute; 0 where it does not tell.
fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first = text.split(' ').next().and_then(|it| it.parse().ok());
    first.unwrap_or_default()
}

/// A sample of something that ended well is all that counts.
fn check(is_success: bool, contestant: &str) -> Result<(), Error> {
    if is_success {
        return Ok(());
    }
    Err(format!("{contestant} failed").into())
}
