//! `localcloud backup | restore | drill | up | down`: the cloud on one machine from the command line.

mod arguments;
mod ask;
mod backup;
mod drill;
mod elsewhere;
mod home;
mod neon;
mod progress;
mod report;
mod restore;
mod source;
mod target;
mod up;

use std::process::ExitCode;

use arguments::{Arguments, Command};
use tokio::signal::unix::{SignalKind, signal};

/// What the shell expects of a program that a signal ended.
const INTERRUPTED: u8 = 130;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(wrong) => {
            eprintln!("{wrong}\n\n{}", arguments::USAGE);
            return ExitCode::from(2);
        }
    };
    // Dropping what runs stops everything that it started.
    let ended = tokio::select! {
        ended = run(arguments) => ended,
        () = interrupted() => {
            eprintln!("\ninterrupted; everything is stopped. No backup was left half done; a restore that had begun is marked unusable in its database");
            return ExitCode::from(INTERRUPTED);
        }
    };
    match ended {
        Ok(code) => code,
        Err(error) => {
            eprintln!("localcloud: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    match arguments.command {
        Command::Help => {
            println!("{}", arguments::USAGE);
            Ok(ExitCode::SUCCESS)
        }
        Command::Backup => backup::backup(arguments).await,
        Command::Restore => match arguments.restore.vault.clone() {
            Some(vault) => elsewhere::restore(arguments, vault).await,
            None => restore::restore(arguments).await,
        },
        Command::Drill => drill::drill(arguments).await,
        Command::Up => up::up(arguments).await,
        Command::Down => up::down(&arguments),
    }
}

/// Returns at Ctrl-C, TERM or HUP.
async fn interrupted() {
    let wait = async |kind| match signal(kind) {
        Ok(mut signal) => drop(signal.recv().await),
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        () = wait(SignalKind::interrupt()) => {}
        () = wait(SignalKind::terminate()) => {}
        () = wait(SignalKind::hangup()) => {}
    }
}

/// Why a command did not do what it was asked; printed with everything that led to it.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{}", chain(.0))]
    Cloud(#[from] localcloud::CloudError),
    #[error("{}", chain(.0))]
    Postgres(#[from] localcloud::postgres::PostgresError),
    #[error("{}", chain(.0))]
    Neon(#[from] localcloud::neon::NeonError),
    #[error("{what}: {source}")]
    File {
        what: String,
        source: std::io::Error,
    },
    #[error("another localcloud uses {0}; stop it with `localcloud down`, or give another --home")]
    HomeInUse(String),
    #[error("not a database URL: expected postgresql://user:password@host:port/database")]
    NotAUrl,
    #[error("the preparation was broken off")]
    BrokenOff,
    #[error("there is no backup in {0}: take one first, with `make backup`")]
    NoBackup(String),
    #[error("there are backups of {}: say which with --database", .0.join(", "))]
    WhichDatabase(Vec<String>),
    #[error("a restore from a bucket needs {0} as well: see `localcloud help`")]
    Incomplete(&'static str),
    /// What the restore function has answered; a person understands it.
    #[error("{0}")]
    Function(String),
}

/// An error with its causes, each said once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}
