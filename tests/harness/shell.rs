//! A person at a shell, with stock programs and nothing of ours.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use localcloud::postgres::{Cluster, Major, bin_dir};
use localcloud::{Cloud, client_environment};

use super::{Document, cloud, scratch};

/// Runs a command to its end and returns what it printed.
pub fn succeeds(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    output.stdout
}

/// A folder of its own, the environment that a document asks for, and the document.
#[derive(Debug)]
pub struct Shell {
    pub folder: PathBuf,
    command: Command,
    document: Document,
}

/// The documents are for version 2 of the AWS CLI; PyPI has version 1, which takes payloads as
/// they are and does not know how to be told so.
const AWS_OF_VERSION_1: &str = r#"aws() {
    local words=()
    for word in "$@"; do
        case $word in --cli-binary-format | raw-in-base64-out) ;; *) words+=("$word") ;; esac
    done
    command aws "${words[@]}"
}
"#;

impl Shell {
    /// `name` is unique among the tests. PostgreSQL's programs are those of `major`.
    pub fn new(document: &str, name: &str, major: Major) -> Self {
        Self::of(cloud(), document, name, major)
    }

    /// The same, before another cloud.
    pub fn of(cloud: &Cloud, document: &str, name: &str, major: Major) -> Self {
        let folder = scratch().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let tools = localcloud::workspace::root().join(".tools/venv/bin");
        let path = [bin_dir(major).unwrap(), tools]
            .map(|folder| folder.display().to_string())
            .join(":");
        let mut command = Command::new("bash");
        command
            .args(["-e", "-o", "pipefail"])
            .current_dir(&folder)
            .env_clear()
            .envs(client_environment(cloud))
            .env("PATH", format!("{path}:/usr/bin:/bin"))
            .env("HOME", &folder)
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null());
        Self {
            folder,
            command,
            document: Document::read(document),
        }
    }

    pub fn env(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.command.env(name, value.as_ref());
        self
    }

    /// Points PostgreSQL's programs at `database` of `cluster`.
    pub fn connect(mut self, cluster: &Cluster, database: &str) -> Self {
        cluster.connect(&mut self.command, database);
        self
    }

    /// Runs the document's blocks of these names, one after the other in one shell; what they
    /// print and what they complain about.
    pub fn run(&mut self, blocks: &[&str]) -> (String, String) {
        let (is_success, stdout, stderr) = self.try_run(blocks);
        assert!(is_success, "{blocks:?}: {stderr}");
        (stdout, stderr)
    }

    /// The same, whether it succeeds or not.
    pub fn try_run(&mut self, blocks: &[&str]) -> (bool, String, String) {
        let blocks = blocks.iter().map(|name| self.document.block(name));
        let script: String = std::iter::once(AWS_OF_VERSION_1.to_owned())
            .chain(blocks)
            .collect();
        let file = self.folder.join("script");
        std::fs::write(&file, script).unwrap();
        let mut command = Command::new(self.command.get_program());
        command
            .args(self.command.get_args())
            .arg(&file)
            .current_dir(&self.folder)
            .env_clear()
            .envs(
                self.command
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            )
            .stdin(Stdio::null());
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.success(),
            text(&output.stdout),
            text(&output.stderr),
        )
    }
}
