//! What two or more functions need. What one function needs stays in that function.

// Decides and describes. No I/O: `tests/tidy.rs` checks.
pub mod archive;
pub mod backup;
pub mod database_url;
pub mod fingerprint;
pub mod key;
pub mod manifest;
pub mod plan;
pub mod policy;
pub mod redact;
pub mod schedule;
pub mod verdict;
pub mod words;

// Touches the world.
pub mod approval;
pub mod aws;
pub mod body;
pub mod checks;
pub mod client_tools;
pub mod config;
pub mod error;
pub mod history;
pub mod neon;
pub mod opened;
pub mod pg;
pub mod planner;
pub mod restore;
pub mod sealed;
pub mod secret;
pub mod store;
pub mod telemetry;
