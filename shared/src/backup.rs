//! What a backup is called.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// Why a backup was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Nightly,
    OnDemand,
    PreDeploy,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Nightly => "nightly",
            Self::OnDemand => "on-demand",
            Self::PreDeploy => "pre-deploy",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Names one backup of a database: `20261121T010000Z-nightly`.
///
/// The same schedule tick always gives the same id, so running an event twice cannot
/// make two backups. Ids of one kind sort by time, and are safe as one key segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BackupId {
    scheduled_at: Timestamp,
    kind: Kind,
}

const TIME: &str = "%Y%m%dT%H%M%SZ";

impl BackupId {
    /// Fractions of a second are dropped.
    pub fn new(scheduled_at: Timestamp, kind: Kind) -> Self {
        let whole = Timestamp::from_second(scheduled_at.as_second());
        Self {
            scheduled_at: whole.unwrap_or(scheduled_at),
            kind,
        }
    }

    pub fn scheduled_at(&self) -> Timestamp {
        self.scheduled_at
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a backup id such as 20261121T010000Z-nightly")]
pub struct InvalidBackupId(String);

impl FromStr for BackupId {
    type Err = InvalidBackupId;

    fn from_str(id: &str) -> Result<Self, InvalidBackupId> {
        let invalid = || InvalidBackupId(id.to_owned());
        let (time, kind) = id.split_once('-').ok_or_else(invalid)?;
        let kind = [Kind::Nightly, Kind::OnDemand, Kind::PreDeploy]
            .into_iter()
            .find(|it| it.as_str() == kind)
            .ok_or_else(invalid)?;
        let scheduled_at = jiff::civil::DateTime::strptime(TIME, time)
            .and_then(|at| at.to_zoned(TimeZone::UTC))
            .map_err(|_| invalid())?
            .timestamp();
        let parsed = Self { scheduled_at, kind };
        if parsed.to_string() == id {
            Ok(parsed)
        } else {
            Err(invalid())
        }
    }
}

impl TryFrom<String> for BackupId {
    type Error = InvalidBackupId;

    fn try_from(id: String) -> Result<Self, InvalidBackupId> {
        id.parse()
    }
}

impl From<BackupId> for String {
    fn from(id: BackupId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.scheduled_at.strftime(TIME), self.kind)
    }
}

/// The name of one entry of the configuration.
///
/// Invariant: 1 to 40 of `[a-z0-9-]`, starting with a letter or digit, so it is safe in
/// keys, secret names and subjects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DatabaseName(String);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a database name: use 1 to 40 of a-z, 0-9 and -, not starting with -")]
pub struct InvalidDatabaseName(String);

impl DatabaseName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for DatabaseName {
    type Error = InvalidDatabaseName;

    fn try_from(name: String) -> Result<Self, InvalidDatabaseName> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > 40 || name.starts_with('-') || !name.chars().all(allowed)
        {
            return Err(InvalidDatabaseName(name));
        }
        Ok(Self(name))
    }
}

impl FromStr for DatabaseName {
    type Err = InvalidDatabaseName;

    fn from_str(name: &str) -> Result<Self, InvalidDatabaseName> {
        Self::try_from(name.to_owned())
    }
}

impl From<DatabaseName> for String {
    fn from(name: DatabaseName) -> Self {
        name.0
    }
}

impl fmt::Display for DatabaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One backup that is due: what `plan_backups` answers and `dump` and `verify` are sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupItem {
    pub database: DatabaseName,
    pub kind: Kind,
    pub scheduled_time: Timestamp,
    /// Follows from the two above; absent when a person starts `dump` by hand.
    #[serde(default)]
    pub backup_id: Option<BackupId>,
    /// A manifest exists, but no passed verdict: only `verify` is left to do.
    #[serde(default)]
    pub committed: bool,
    /// The newest committed backup of the same database and kind.
    #[serde(default)]
    pub previous: Option<PreviousBackup>,
    /// It is to be read from a temporary branch, never from production.
    #[serde(default)]
    pub from_branch: bool,
    /// That branch, once there is one.
    #[serde(default)]
    pub source_branch: Option<SourceBranch>,
}

/// A temporary branch, by reference: how to reach it is in its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceBranch {
    pub branch_id: String,
    /// The moment of production that it holds: whenever it is read, its data is no younger.
    pub data_as_of: Timestamp,
    /// Names the secret: of this backup, and of the execution that made the branch.
    pub lent_as: String,
}

impl SourceBranch {
    /// Whether it was made for that backup: an older branch is never recorded as tonight's data.
    pub fn is_of(&self, id: BackupId) -> bool {
        self.lent_as.starts_with(&format!("{id}-"))
    }
}

/// Links a manifest to the one before it, so that a gap or a rollback shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreviousBackup {
    pub backup_id: BackupId,
    /// Lower-case hex of the manifest's bytes.
    pub manifest_sha256: String,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "backup_id {given} does not belong to kind and scheduled_time, which make {expected}: leave backup_id out"
)]
pub struct MismatchedBackupId {
    given: BackupId,
    expected: BackupId,
}

impl BackupItem {
    /// The id that kind and scheduled time make.
    pub fn id(&self) -> Result<BackupId, MismatchedBackupId> {
        let expected = BackupId::new(self.scheduled_time, self.kind);
        match self.backup_id {
            Some(given) if given != expected => Err(MismatchedBackupId { given, expected }),
            Some(_) | None => Ok(expected),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_what_was_written() {
        for id in [
            "20261121T010000Z-nightly",
            "20240229T235959Z-on-demand",
            "20261121T010000Z-pre-deploy",
        ] {
            assert_eq!(id.parse::<BackupId>().unwrap().to_string(), id);
        }
    }

    #[test]
    fn what_is_not_exactly_an_id_is_refused() {
        for id in [
            "",
            "nightly",
            "20261121T010000Z",
            "20261121T010000Z-weekly",
            "20261321T010000Z-nightly",
            "20261121T010000-nightly",
            "20261121T010000Z-nightly/",
            "../20261121T010000Z-nightly",
            "20230229T010000Z-nightly",
        ] {
            assert_eq!(id.parse::<BackupId>(), Err(InvalidBackupId(id.to_owned())));
        }
    }

    #[test]
    fn a_database_name_is_safe_as_a_key_segment() {
        for name in ["a", "app-2", "0"] {
            assert!(name.parse::<DatabaseName>().is_ok(), "{name}");
        }
        for name in ["", "-a", "A", "a/b", "a_b", "a b", "é", &"a".repeat(41)] {
            assert!(name.parse::<DatabaseName>().is_err(), "{name}");
        }
    }

    #[test]
    fn a_branch_is_of_the_backup_that_it_was_made_for_alone() {
        let branch = SourceBranch {
            branch_id: "br-a".to_owned(),
            data_as_of: "2026-11-21T01:00:00Z".parse().unwrap(),
            lent_as: "20261121T010000Z-nightly-0a1b2c3d".to_owned(),
        };
        let is_of = |id: &str| branch.is_of(id.parse().unwrap());
        assert!(is_of("20261121T010000Z-nightly"));
        assert!(!is_of("20261122T010000Z-nightly") && !is_of("20261121T010000Z-on-demand"));
    }

    #[test]
    fn an_item_with_a_foreign_id_is_refused() {
        let item: BackupItem = serde_json::from_str(
            r#"{"database":"app","kind":"nightly","scheduled_time":"2026-11-21T01:00:00Z",
                "backup_id":"20261122T010000Z-nightly"}"#,
        )
        .unwrap();
        assert!(
            item.id()
                .unwrap_err()
                .to_string()
                .contains("20261121T010000Z-nightly")
        );
    }
}
