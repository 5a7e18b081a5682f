//! What can go wrong around a cluster, by what to do about it.

use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// Install the pinned Python packages, or Debian's `postgresql`.
    #[error("PostgreSQL {major} is not installed: not in /usr/lib/postgresql, not in .tools/venv")]
    NotInstalled { major: u16 },
    /// Install Debian's `postgresql`.
    #[error("Debian's PostgreSQL is not installed (apt-get install postgresql)")]
    NoDebianServer,
    /// Somebody made a folder where ours belongs: remove it.
    #[error("{} belongs to somebody else", path.display())]
    NotOurs { path: PathBuf },
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("start {program}: {source}")]
    Spawn { program: String, source: io::Error },
    /// What the program itself said.
    #[error("{program} failed: {stderr}")]
    Program { program: String, stderr: String },
    /// The end of the server's log says why.
    #[error("the server did not start: {log}")]
    NotStarted { log: String },
    #[error("the server does not run")]
    NotRunning,
}

impl PostgresError {
    pub(crate) fn file(path: &Path, source: io::Error) -> Self {
        Self::File {
            path: path.to_owned(),
            source,
        }
    }
}
