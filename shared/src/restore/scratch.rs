//! Databases made for a restore, and dropped after a drill.

use crate::database_url::DatabaseUrl;
use crate::manifest::DatabaseSettings;

use super::RestoreError;

/// What the comment of every scratch database begins with. Nothing without it is dropped.
pub const MARK: &str = "lifeboat scratch ";

/// A database whose comment begins with [`MARK`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    pub database: String,
    /// What follows [`MARK`]: `<RFC 3339 time of creation> <drill id>`.
    pub mark: String,
}

/// Creates `name` from `template0` with the encoding and locale of the backup, on the server
/// of `server` (any database of it). `comment`: for a scratch database [`MARK`] and what
/// identifies it; empty for none. The engine leaves a comment with the mark alone.
pub async fn create_database(
    server: &DatabaseUrl,
    name: &str,
    settings: &DatabaseSettings,
    comment: &str,
) -> Result<(), RestoreError> {
    let _parameters = (server, name, settings, comment);
    Err(RestoreError::Internal("not there yet".to_owned()))
}

/// Drops `name`, if it exists and its comment begins with [`MARK`]: first its subscriptions
/// are disabled and cut from their slots, so that no publisher loses one.
pub async fn drop_database(server: &DatabaseUrl, name: &str) -> Result<(), RestoreError> {
    let _parameters = (server, name);
    Err(RestoreError::Internal("not there yet".to_owned()))
}

/// Every database of the server that carries the mark.
pub async fn marked_leftovers(server: &DatabaseUrl) -> Result<Vec<Leftover>, RestoreError> {
    let _parameters = server;
    Err(RestoreError::Internal("not there yet".to_owned()))
}
