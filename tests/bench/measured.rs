//! What a program takes from the machine: it runs under a copy of this one, whose only child it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde::{Deserialize, Serialize};

use crate::Error;

/// The first word of our own command line; then come the file for the result, the program and its arguments.
pub(crate) const COMMAND: &str = "measured";

/// CPU time of a program and all its children, and the highest resident memory of any one of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Usage {
    pub(crate) program: String,
    /// `None` where it is part of another's.
    pub(crate) cpu_seconds: Option<f64>,
    pub(crate) peak_memory_bytes: u64,
}

/// A program to measure, and where its usage will be.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) command: Command,
    usage: PathBuf,
}

impl Measured {
    /// `name` is also the name of a file in `folder`.
    pub(crate) fn new(folder: &Path, name: &str, program: &Path) -> std::io::Result<Self> {
        let usage = folder.join(format!("usage-{name}.json"));
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(COMMAND).arg(&usage).arg(program);
        Ok(Self { command, usage })
    }

    /// Once it has ended.
    pub(crate) fn usage(&self) -> Result<Usage, Error> {
        Ok(serde_json::from_slice(&fs::read(&self.usage)?)?)
    }
}

/// Runs the program, notes what it took, and ends as it ended.
pub(crate) fn run(words: &[String]) -> Result<ExitCode, Error> {
    let [usage_file, program, arguments @ ..] = words else {
        return Err("measured: which program?".into());
    };
    let status = Command::new(program).args(arguments).status()?;
    let took = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = (took.user_time() + took.system_time()).num_microseconds();
    let name = Path::new(program).file_name().unwrap_or_default();
    let usage = Usage {
        program: name.to_string_lossy().into_owned(),
        cpu_seconds: Some(micros as f64 / 1_000_000.0),
        peak_memory_bytes: u64::try_from(took.max_rss()).unwrap_or_default() * 1024,
    };
    fs::write(usage_file, serde_json::to_vec(&usage)?)?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}
