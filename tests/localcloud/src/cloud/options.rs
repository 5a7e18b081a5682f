//! What a cloud is made of.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::deploy::Override;
use crate::layer::{Database, Target};
use crate::workspace;

/// What a cloud is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// Objects, identities, logs and layers; created when missing.
    pub home: PathBuf,
    pub template: PathBuf,
    /// Parameters of the template that differ from their defaults.
    pub parameters: BTreeMap<String, String>,
    pub overrides: Vec<Override>,
    /// So long state machines wait before each further try of a step, instead of what their definitions say.
    pub retry_seconds: Option<u32>,
    /// Where the functions' programs are.
    pub artifacts: PathBuf,
    /// PostgreSQL client tools, `<pgtools>/<major>/bin/pg_dump`.
    pub pgtools: PathBuf,
    pub s3: S3Backend,
    /// Every call of a function or a machine is checked against its role's policies and the buckets'.
    pub iam_enforced: bool,
    pub databases: Vec<Database>,
    pub targets: Vec<Target>,
    /// Added to every function's environment.
    pub environment: BTreeMap<String, String>,
    /// The gateway's port; 0 for any free one.
    pub port: u16,
}

impl Options {
    /// The project's own template and the programs built beside this one.
    pub fn new(home: impl Into<PathBuf>) -> Self {
        Self {
            home: home.into(),
            template: workspace::root().join("infra/template.yaml"),
            parameters: BTreeMap::new(),
            overrides: Vec::new(),
            retry_seconds: None,
            artifacts: workspace::artifacts(),
            pgtools: PathBuf::from(workspace::DEBIAN_TOOLS),
            s3: S3Backend::Folder,
            iam_enforced: false,
            databases: Vec::new(),
            targets: Vec::new(),
            environment: BTreeMap::new(),
            port: 0,
        }
    }
}

/// Who keeps the objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum S3Backend {
    /// Plain files under `<home>/s3`: fast; no versions, no locks.
    Folder,
    /// The control plane's S3, in memory: versions, locks, and its own check of roles.
    Moto,
}
