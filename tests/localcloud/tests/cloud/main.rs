//! The cloud itself, tried with a function that does what its event says.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::path::Path;

use localcloud::{Cloud, Options};
use tempfile::TempDir;

mod gateway;
mod host;
mod machines;
mod modelled;
mod project;

/// A cloud that runs the fixture's template; the home disappears with the guard.
async fn start(change: impl FnOnce(&mut Options)) -> (Cloud, TempDir) {
    let home = tempfile::tempdir().unwrap();
    let mut options = Options::new(home.path());
    options.template = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixture/template.yaml");
    change(&mut options);
    (Cloud::start(options).await.unwrap(), home)
}

/// Fails with the text, after the cloud's own words.
fn json(bytes: &[u8]) -> serde_json::Value {
    serde_json::from_slice(bytes)
        .unwrap_or_else(|_| panic!("not JSON: {}", String::from_utf8_lossy(bytes)))
}
