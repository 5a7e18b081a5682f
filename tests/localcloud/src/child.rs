//! Processes that never outlive this one.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{ChildStderr, ChildStdout, Command};

/// How a process is started: nothing of our own environment reaches it.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    pub(crate) program: &'a Path,
    pub(crate) args: Vec<OsString>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) directory: PathBuf,
    pub(crate) output: Output,
}

/// Where standard output and standard error go.
#[derive(Debug)]
pub(crate) enum Output {
    Piped,
    File(std::fs::File),
}

/// A process in a process group of its own, killed with its group when dropped.
#[derive(Debug)]
pub(crate) struct Child {
    child: tokio::process::Child,
    group: Pid,
}

impl Child {
    /// Starts a process that the kernel kills when the calling thread ends, however it ends.
    ///
    /// Call it from a thread that lives as long as the process may: a worker of the cloud's own runtime.
    /// `setpriv` sets the parent-death signal, because doing so here would need `unsafe`.
    pub(crate) fn spawn(start: Start<'_>) -> std::io::Result<Self> {
        let mut command = Command::new("setpriv");
        command
            .args([
                OsStr::new("--pdeathsig"),
                OsStr::new("KILL"),
                OsStr::new("--"),
                start.program.as_os_str(),
            ])
            .args(start.args)
            .env_clear()
            .envs(start.environment)
            .current_dir(start.directory)
            .process_group(0)
            .stdin(Stdio::null());
        match start.output {
            Output::Piped => command.stdout(Stdio::piped()).stderr(Stdio::piped()),
            Output::File(file) => command.stdout(file.try_clone()?).stderr(file),
        };
        let child = command.spawn()?;
        let id = child
            .id()
            .ok_or_else(|| std::io::Error::other("the process ended at once"))?;
        let id = i32::try_from(id).map_err(std::io::Error::other)?;
        Ok(Self {
            child,
            group: Pid::from_raw(id),
        })
    }

    /// The process's id: `setpriv` replaces itself by the program.
    pub(crate) fn id(&self) -> i32 {
        self.group.as_raw()
    }

    pub(crate) fn take_output(&mut self) -> (Option<ChildStdout>, Option<ChildStderr>) {
        (self.child.stdout.take(), self.child.stderr.take())
    }

    pub(crate) async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    pub(crate) fn kill_group(&self) {
        kill_group(self.group.as_raw());
    }
}

/// Kills a process group; one that is gone already is no error.
pub(crate) fn kill_group(group: i32) {
    let _already_gone = killpg(Pid::from_raw(group), Signal::SIGKILL);
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill_group();
    }
}
