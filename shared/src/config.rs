//! Reading settings from the environment.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::policy::{Policy, PolicyError};

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{0} is not set")]
    Missing(&'static str),
    #[error("{name} has a value that does not parse")]
    Invalid {
        name: &'static str,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

/// Reads and parses the setting `name`. `var` is [`process_env`], or a closure in tests.
pub fn required<T>(
    var: impl Fn(&str) -> Option<String>,
    name: &'static str,
) -> Result<T, ConfigError>
where
    T: FromStr,
    T::Err: Error + Send + Sync + 'static,
{
    let value = var(name).ok_or(ConfigError::Missing(name))?;
    value.parse().map_err(|error: T::Err| ConfigError::Invalid {
        name,
        source: error.into(),
    })
}

/// Where the configuration and client tool layers are unpacked: `/opt` on Lambda.
pub fn layer_root(var: impl Fn(&str) -> Option<String>) -> PathBuf {
    var("LAYER_ROOT")
        .unwrap_or_else(|| "/opt".to_owned())
        .into()
}

/// The configuration layer does not hold what it should; a person has to change it.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    #[error("read {}: is the configuration layer attached to the function?", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("read the configuration")]
    Policy(#[source] PolicyError),
}

/// Reads `lifeboat.toml` from where its layer is unpacked.
pub fn read_policy(layer_root: &Path) -> Result<Policy, LayerError> {
    let path = layer_root.join("lifeboat.toml");
    let text = std::fs::read_to_string(&path);
    let text = text.map_err(|source| LayerError::Unreadable { path, source })?;
    Policy::parse(&text).map_err(LayerError::Policy)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the environment"
)]
pub fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
