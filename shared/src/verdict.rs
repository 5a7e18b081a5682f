//! The outcome of `verify` or `drill` on one backup: evidence, appended, never overwritten.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::backup::{BackupId, DatabaseName};
use crate::manifest::Totals;

/// The only format there is.
pub const FORMAT: u32 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Passed,
    Failed,
    /// It could not be told: never the same as passed.
    Inconclusive,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Inconclusive => "inconclusive",
        })
    }
}

/// What reached the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    Verify,
    Drill,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Verify => "verify",
            Self::Drill => "drill",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerdictRecord {
    /// Always [`FORMAT`].
    pub format: u32,
    pub check: Check,
    pub database: DatabaseName,
    pub backup_id: BackupId,
    pub verdict: Verdict,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    /// Null when the manifest could not be read.
    pub snapshot_at: Option<Timestamp>,
    /// Lower-case hex of the manifest's bytes that this verdict is about.
    pub manifest_sha256: Option<String>,
    pub manifest_version_id: Option<String>,
    /// What was read back, not what the manifest claims.
    pub totals: Totals,
    pub findings: Vec<Finding>,
    pub lifeboat: String,
}

/// One thing found wrong, or not determinable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub code: Code,
    /// The key it is about; null when it is about the backup as a whole.
    pub object: Option<String>,
    /// The stored bytes `[from, to)` in which the damage lies, as narrow as can be told.
    pub window: Option<(u64, u64)>,
    /// What was found, what it means, what to do. No row content.
    pub message: String,
}

/// Stable: alerts, documents and people refer to these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    ManifestMissing,
    ManifestUnreadable,
    /// The manifest is of another backup than the one it lies under.
    ManifestForeign,
    /// A second version lies on top of the commit record.
    ManifestOverwritten,
    /// The manifest contradicts itself.
    ManifestInconsistent,
    /// The manifest does not follow from the backup it names as the previous one.
    ChainBroken,
    ObjectMissing,
    /// A later version or a delete marker lies on top: who reads by key alone does not get it.
    ObjectHidden,
    ObjectTruncated,
    ObjectExtended,
    ChecksumDiffers,
    DecryptionFailed,
    DecompressionFailed,
    TerminatorMissing,
    RowsDiffer,
    CopyBytesDiffer,
    FingerprintDiffers,
    TocUnreadable,
    TocDiffers,
    LargeObjectsDiffer,
    /// Could not be read just now (rights, storage): makes a verdict inconclusive.
    ObjectUnreadable,
    /// None of the identities opens the object, or it names another set of recipients.
    IdentityUnusable,
    /// The manifest is not the one that earlier verdicts are about. Only drills find this and
    /// what follows.
    ManifestChanged,
    /// A statement of the archive does not run on the drill's server.
    RestoreFailed,
    /// The drill itself ended early (network, time, a crash): makes a verdict inconclusive.
    DrillInterrupted,
    /// What `pg_dump` sees in the restored database is not what the backup lists.
    CatalogDiffers,
    ExtensionsDiffer,
    SequenceBehind,
    IndexInvalid,
    ConstraintInvalid,
    ViewBroken,
    NotPopulated,
    TooFewRows,
    NotFresh,
    AssertionFailed,
    ApplicationFailed,
    /// No branch could be had of the provider, or nobody could connect to it.
    BranchUnusable,
    /// There is no table, or one that cannot be read.
    TableUnreadable,
    /// A check could not run: makes a verdict inconclusive.
    CheckNotRun,
}

impl Code {
    /// Whether the finding only says that nothing could be told.
    pub fn is_inconclusive(self) -> bool {
        matches!(
            self,
            Self::ObjectUnreadable
                | Self::IdentityUnusable
                | Self::DrillInterrupted
                | Self::CheckNotRun
        )
    }

    /// Whether a drill that finds it has seen wrong bytes in the vault, so that the backup is
    /// not `verified` either.
    ///
    /// What else a drill may find keeps a backup from being proven: rows that came out
    /// different on its server, a server without an extension, an application that answers
    /// wrongly, a rule of the business that does not hold. A faulty server would find them in
    /// every backup; it does not take all of them out of the hands of whoever has to restore
    /// tonight. Whether rows are wrong in the vault, verify tells.
    pub fn is_damage(self) -> bool {
        match self {
            Self::RestoreFailed
            | Self::RowsDiffer
            | Self::CopyBytesDiffer
            | Self::FingerprintDiffers
            | Self::LargeObjectsDiffer
            | Self::CatalogDiffers
            | Self::ExtensionsDiffer
            | Self::SequenceBehind
            | Self::IndexInvalid
            | Self::ConstraintInvalid
            | Self::ViewBroken
            | Self::NotPopulated
            | Self::TooFewRows
            | Self::NotFresh
            | Self::AssertionFailed
            | Self::ApplicationFailed
            | Self::BranchUnusable
            | Self::TableUnreadable
            | Self::ObjectUnreadable
            | Self::IdentityUnusable
            | Self::DrillInterrupted
            | Self::CheckNotRun => false,
            Self::ManifestMissing
            | Self::ManifestUnreadable
            | Self::ManifestForeign
            | Self::ManifestOverwritten
            | Self::ManifestInconsistent
            | Self::ChainBroken
            | Self::ObjectMissing
            | Self::ObjectHidden
            | Self::ObjectTruncated
            | Self::ObjectExtended
            | Self::ChecksumDiffers
            | Self::DecryptionFailed
            | Self::DecompressionFailed
            | Self::TerminatorMissing
            | Self::TocUnreadable
            | Self::TocDiffers
            | Self::ManifestChanged => true,
        }
    }

    /// Whether only a verify can tell that the vault's rows are right after all: the drill has
    /// seen other rows than the manifest describes, on a server that may be at fault.
    pub fn is_for_verify(self) -> bool {
        matches!(
            self,
            Self::RowsDiffer
                | Self::CopyBytesDiffer
                | Self::FingerprintDiffers
                | Self::LargeObjectsDiffer
        )
    }
}

/// Any proof of damage outweighs any doubt, and any doubt outweighs the rest.
pub fn decide(findings: &[Finding]) -> Verdict {
    if findings.iter().any(|it| !it.code.is_inconclusive()) {
        Verdict::Failed
    } else if findings.is_empty() {
        Verdict::Passed
    } else {
        Verdict::Inconclusive
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubt_is_not_a_pass_and_damage_is_not_a_doubt() {
        let finding = |code| Finding {
            code,
            object: None,
            window: None,
            message: String::new(),
        };
        let damage = finding(Code::RowsDiffer);
        let doubt = finding(Code::ObjectUnreadable);
        assert_eq!(decide(&[]), Verdict::Passed);
        assert_eq!(decide(std::slice::from_ref(&doubt)), Verdict::Inconclusive);
        assert_eq!(decide(&[doubt, damage]), Verdict::Failed);
    }
}
