//! Whether a restore may go where it is told to, and everything that stands in its way. Pure;
//! what it is told about the target and the source, [`gather`] and [`source_facts`] ask.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Destination, Estimate, Order};
use crate::database_url::Tls;
use crate::manifest::Manifest;

mod contents;
mod endpoint;
mod gather;
mod judge;
mod locale;
mod needs;

pub use gather::{gather, source_facts};
pub use judge::{judge, same_server};
pub use needs::{forced_row_security, roles, superuser_only};

/// One way in which a database can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
    /// What the host resolves to. Empty where it did not.
    pub addresses: Vec<IpAddr>,
}

/// The database that the backup is of, as far as it is known; it may be gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceFacts {
    pub system_identifier: Option<String>,
    pub database: String,
    /// As the manifest has them.
    pub endpoints: Vec<Endpoint>,
}

/// What was found at the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetFacts {
    pub endpoint: Endpoint,
    pub tls: Tls,
    /// The database that would be written to.
    pub database: String,
    pub system_identifier: Option<String>,
    pub server_version: u32,
    pub role: String,
    pub is_superuser: bool,
    /// Its platform gives it what elsewhere takes a superuser.
    pub has_platform_rights: bool,
    pub can_create_database: bool,
    pub bypasses_row_security: bool,
    pub is_in_recovery: bool,
    pub database_exists: bool,
    /// Of a database that exists.
    pub encoding: Option<String>,
    /// A ledger of ours, by its plan id: this restore is under way already.
    pub ledger: Option<String>,
    pub user_tables: u64,
    /// Tables of the manifest that exist there: rows or not, and their columns.
    pub tables: BTreeMap<(String, String), TableFacts>,
    pub schema_exists: bool,
    /// By name, the versions that can be installed.
    pub extensions: BTreeMap<String, BTreeSet<String>>,
    /// Of these, those that nobody but a superuser may install.
    pub superuser_extensions: BTreeSet<String>,
    pub roles: BTreeSet<String>,
    /// What the server lacks of the backup's locale, in words.
    pub missing_locale: Option<String>,
    /// Live tables that the role may not read whole.
    pub unreadable: BTreeSet<(String, String)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableFacts {
    pub has_rows: bool,
    pub columns: Vec<String>,
    /// Triggers that fire even while others are turned off (`ENABLE ALWAYS`, `ENABLE REPLICA`).
    pub has_stubborn_triggers: bool,
}

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Wish<'a> {
    pub manifest: &'a Manifest,
    pub order: &'a Order,
    pub destination: &'a Destination,
    /// The target is marked live in `lifeboat.toml`.
    pub live: bool,
    /// Roles that owners and grants name.
    pub roles: &'a BTreeSet<String>,
    /// Tables with FORCE ROW LEVEL SECURITY.
    pub forced_row_security: &'a [String],
    /// What only a superuser may create.
    pub superuser_only: &'a [String],
    pub estimate: &'a Estimate,
    /// The longest that one job may take; `None` without a deadline.
    pub job_seconds_max: Option<f64>,
}

/// One reason not to start. `code` is stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obstacle {
    pub code: ObstacleCode,
    pub message: String,
    pub remedy: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObstacleCode {
    /// The target is, or may be, the database that the backup is of.
    IsTheSource,
    /// Production takes nothing but a staging schema.
    IsLive,
    /// The scope and the kind of target do not belong together.
    Mismatch,
    WeakTls,
    NotEmpty,
    Exists,
    Missing,
    ServerTooOld,
    ReadOnly,
    Rights,
    Extension,
    Role,
    Encoding,
    Locale,
    Columns,
    Triggers,
    RowSecurity,
    JobTooLong,
}

#[cfg(test)]
mod tests;
