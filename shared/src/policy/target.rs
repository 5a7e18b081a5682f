//! Where backups may be restored to, and what of a database a restore leaves out.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::backup::{DatabaseName, InvalidDatabaseName};

/// The name of one `[[target]]`. Its secret is `lifeboat/target/<name>`.
///
/// Invariant: as [`DatabaseName`], so it is safe in keys, secret names and subjects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TargetName(DatabaseName);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the name of a target: use 1 to 40 of a-z, 0-9 and -, not starting with -")]
pub struct InvalidTargetName(String);

impl TargetName {
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl TryFrom<String> for TargetName {
    type Error = InvalidTargetName;

    fn try_from(name: String) -> Result<Self, InvalidTargetName> {
        let parsed: Result<DatabaseName, InvalidDatabaseName> = name.parse();
        parsed.map(Self).map_err(|_| InvalidTargetName(name))
    }
}

impl FromStr for TargetName {
    type Err = InvalidTargetName;

    fn from_str(name: &str) -> Result<Self, InvalidTargetName> {
        Self::try_from(name.to_owned())
    }
}

impl From<TargetName> for String {
    fn from(name: TargetName) -> Self {
        name.0.into()
    }
}

impl fmt::Display for TargetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A server, or a live database, that a restore may be told to write to. There is no other
/// way to name a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetPolicy {
    pub name: TargetName,
    /// Production. Only a staging schema beside the live tables is ever made there, and the
    /// secret is the URL of the live database itself; otherwise it is the URL of a
    /// maintenance database, as a role that may create databases.
    #[serde(default)]
    pub live: bool,
}

/// What every restore and drill of a database leaves out: a platform's own objects, which
/// no other server has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RestorePolicy {
    pub leave_out_extensions: Vec<String>,
    pub leave_out_schemas: Vec<String>,
    pub leave_out_publications: Vec<String>,
}
