//! Programs that run to their end.

use std::io::Write as _;
use std::process::{Command, Stdio};

use super::PostgresError;

/// Runs a program to its end and returns what it printed.
///
/// # Errors
///
/// It cannot be started or fails; the error carries its standard error.
pub(crate) fn run(command: &mut Command) -> Result<String, PostgresError> {
    run_with_input(command, b"")
}

pub(super) fn run_with_input(command: &mut Command, input: &[u8]) -> Result<String, PostgresError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let spawn = |source| PostgresError::Spawn {
        program: program.clone(),
        source,
    };
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(spawn)?;
    let stdin = child.stdin.take();
    let output = std::thread::scope(|scope| {
        // Written beside the reading, or both sides could wait for a full pipe.
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input)));
        child.wait_with_output()
    });
    let output = output.map_err(spawn)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(PostgresError::Program {
        program,
        stderr: format!("{} ({stderr})", output.status),
    })
}
