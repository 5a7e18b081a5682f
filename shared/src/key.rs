//! Every S3 key in the system. No other module builds or takes apart a key.

use std::fmt;

use jiff::Timestamp;

use crate::backup::{BackupId, DatabaseName};
use crate::verdict::Check;

/// A key of the vault or of the work bucket.
///
/// Who may write where follows from the first segment alone: `backups/` dump, `verdicts/`
/// verify and drill, `evidence/` drill, restore, recover and snapshot-branch; in the work bucket
/// `verify/` verify, `plans/` restore, `recoveries/` recover, `drills/` drill.
#[derive(Clone, Copy, Debug)]
pub enum Key<'a> {
    /// Vault. One object of the archive, under the name of the attempt that wrote it.
    Archive {
        database: &'a DatabaseName,
        id: BackupId,
        attempt: &'a str,
        object: &'a str,
    },
    /// Vault. The commit record, written last.
    Manifest(&'a DatabaseName, BackupId),
    /// Vault. Evidence, never overwritten: `nonce` keeps two of one second apart.
    Verdict {
        database: &'a DatabaseName,
        id: BackupId,
        at: Timestamp,
        nonce: &'a str,
        check: Check,
    },
    /// Work. What one invocation of a verify that needs several has found.
    VerifyPart {
        database: &'a DatabaseName,
        id: BackupId,
        run: &'a str,
        part: u32,
    },
    /// Vault. The record of a drill, a restore or an inspection, and what was written beside
    /// it: `file` is `drill.json`, `drill.html`, `restore.json`, `posture.json`, …
    Evidence {
        database: &'a DatabaseName,
        at: Timestamp,
        nonce: &'a str,
        file: &'a str,
    },
    /// Work. One step in the life of a plan: `plan`, `decision`, `consumed`, …
    Plan {
        of: PlanOf,
        plan_id: &'a str,
        step: &'a str,
    },
    /// Work. What one invocation of a drill did; their keys sort by time.
    DrillStep {
        database: &'a DatabaseName,
        drill_id: &'a str,
        at: Timestamp,
        nonce: &'a str,
        step: &'a str,
    },
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Archive {
                database,
                id,
                attempt,
                object,
            } => write!(f, "backups/{database}/{id}/archive-{attempt}/{object}"),
            Self::Manifest(database, id) => write!(f, "backups/{database}/{id}/manifest.json"),
            Self::Verdict {
                database,
                id,
                at,
                nonce,
                check,
            } => {
                let at = at.strftime("%Y%m%dT%H%M%SZ");
                write!(f, "verdicts/{database}/{id}/{at}-{nonce}-{check}.json")
            }
            Self::VerifyPart {
                database,
                id,
                run,
                part,
            } => write!(f, "verify/{database}/{id}/{run}/{part:05}.json"),
            Self::Evidence {
                database,
                at,
                nonce,
                file,
            } => {
                let (month, at) = (at.strftime("%Y/%m"), at.strftime("%Y%m%dT%H%M%SZ"));
                write!(f, "evidence/{database}/{month}/{at}-{nonce}-{file}")
            }
            Self::Plan { of, plan_id, step } => write!(f, "{of}/{plan_id}/{step}.json"),
            Self::DrillStep {
                database,
                drill_id,
                at,
                nonce,
                step,
            } => {
                let at = at.strftime("%Y%m%dT%H%M%S%3fZ");
                write!(f, "drills/{database}/{drill_id}/{at}-{nonce}-{step}.json")
            }
        }
    }
}

/// Whose plans: each function's lie apart from the other's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanOf {
    /// Of a backup, into something new.
    Restore,
    /// Of production, to an earlier moment.
    Recovery,
}

impl fmt::Display for PlanOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Restore => "plans",
            Self::Recovery => "recoveries",
        })
    }
}

/// The prefix of everything `dump` ever wrote; one folder for each database.
pub const BACKUPS: &str = "backups/";

/// The prefix of everything `dump` ever wrote for a database.
pub fn backups_prefix(database: &DatabaseName) -> String {
    format!("backups/{database}/")
}

/// The prefix of everything `dump` ever wrote for one backup, attempts that failed included.
pub fn backup_prefix(database: &DatabaseName, id: BackupId) -> String {
    format!("backups/{database}/{id}/")
}

/// The prefix of the verdicts on all backups of a database.
pub fn verdicts_prefix(database: &DatabaseName) -> String {
    format!("verdicts/{database}/")
}

/// The prefix of the verdicts on one backup.
pub fn verdicts_of_prefix(database: &DatabaseName, id: BackupId) -> String {
    format!("verdicts/{database}/{id}/")
}

/// The prefix of every record of a database's drills, restores and inspections, in order of
/// time.
pub fn evidence_prefix(database: &DatabaseName) -> String {
    format!("evidence/{database}/")
}

/// Whether `key` is the record of a drill or of a restore, and not what was written beside it,
/// nor one of the inspections of every day, which would crowd these out.
pub fn is_record(key: &str) -> bool {
    ["-drill.json", "-restore.json"]
        .iter()
        .any(|it| key.ends_with(it))
}

/// The prefix of all plans.
pub fn plans_prefix(of: PlanOf) -> String {
    format!("{of}/")
}

/// The id of the plan whose own document `key` is.
pub fn plan_of(of: PlanOf, key: &str) -> Option<&str> {
    let id = key
        .strip_prefix(&plans_prefix(of))?
        .strip_suffix("/plan.json")?;
    (!id.contains('/')).then_some(id)
}

/// The prefix of the task tokens of a plan, in the work bucket.
pub fn tokens_prefix(of: PlanOf, plan_id: &str) -> String {
    format!("{of}/{plan_id}/token-")
}

/// The step under which a plan keeps one task token; their names sort by time.
pub fn token_step(at: Timestamp, nonce: &str) -> String {
    format!("token-{}-{nonce}", at.strftime("%Y%m%dT%H%M%SZ"))
}

/// The prefix of what the steps of one drill left.
pub fn drill_steps_prefix(database: &DatabaseName, drill_id: &str) -> String {
    format!("drills/{database}/{drill_id}/")
}

/// The backup that a drill's verdict is about, and when that was written, if `key` is one.
pub fn drill_verdict(database: &DatabaseName, key: &str) -> Option<(BackupId, Timestamp)> {
    let (id, name) = key
        .strip_prefix(&verdicts_prefix(database))?
        .split_once('/')?;
    let (at, rest) = name.split_once('-')?;
    let ending = format!("-{}.json", Check::Drill);
    let is_drill = rest.ends_with(&ending) && !rest.contains('/');
    let at = moment(at)?;
    is_drill.then_some((id.parse().ok()?, at))
}

/// When the drill of a branch was begun whose record `key` is, if it is one.
pub fn branch_drill(database: &DatabaseName, key: &str) -> Option<Timestamp> {
    let below = key.strip_prefix(&evidence_prefix(database))?;
    let (_month, name) = below.rsplit_once('/')?;
    let (at, rest) = name.split_once('-')?;
    let at = moment(at)?;
    rest.ends_with("-branch.json").then_some(at)
}

/// As names have it.
fn moment(text: &str) -> Option<Timestamp> {
    let at = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    Some(at.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
}

/// The backup that `key` lies under, if it is a key of `prefix` (one of the above).
pub fn backup_under(prefix: &str, key: &str) -> Option<BackupId> {
    key.strip_prefix(prefix)?.split('/').next()?.parse().ok()
}

/// Whether `key` is the commit record of the backup it lies under.
pub fn is_manifest(database: &DatabaseName, key: &str) -> bool {
    backup_under(&backups_prefix(database), key)
        .is_some_and(|id| key == Key::Manifest(database, id).to_string())
}

/// The last segment: the name of an archive object within its attempt.
pub fn object_name(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_as_documented() {
        let database: DatabaseName = "app".parse().unwrap();
        let id: BackupId = "20261121T010000Z-nightly".parse().unwrap();
        let at = "2026-11-21T01:30:05Z".parse().unwrap();
        let check = Check::Verify;
        let keys = [
            Key::Archive {
                database: &database,
                id,
                attempt: "k3",
                object: "toc.dat.00000.age",
            },
            Key::Manifest(&database, id),
            Key::Verdict {
                database: &database,
                id,
                at,
                nonce: "7f",
                check,
            },
            Key::VerifyPart {
                database: &database,
                id,
                run: "r1",
                part: 2,
            },
            Key::Evidence {
                database: &database,
                at,
                nonce: "7f",
                file: "drill.html",
            },
            Key::Plan {
                of: PlanOf::Restore,
                plan_id: "20261121T013005Z-7f",
                step: "plan",
            },
            Key::Plan {
                of: PlanOf::Recovery,
                plan_id: "20261121T013005Z-7f",
                step: "plan",
            },
            Key::DrillStep {
                database: &database,
                drill_id: "20261121T013005Z-7f",
                at,
                nonce: "9a",
                step: "restore",
            },
        ];
        assert_eq!(
            keys.map(|key| key.to_string()),
            [
                "backups/app/20261121T010000Z-nightly/archive-k3/toc.dat.00000.age",
                "backups/app/20261121T010000Z-nightly/manifest.json",
                "verdicts/app/20261121T010000Z-nightly/20261121T013005Z-7f-verify.json",
                "verify/app/20261121T010000Z-nightly/r1/00002.json",
                "evidence/app/2026/11/20261121T013005Z-7f-drill.html",
                "plans/20261121T013005Z-7f/plan.json",
                "recoveries/20261121T013005Z-7f/plan.json",
                "drills/app/20261121T013005Z-7f/20261121T013005000Z-9a-restore.json",
            ]
        );
    }

    #[test]
    fn a_plan_is_told_from_its_steps_and_from_others_plans() {
        let of = |key| plan_of(PlanOf::Recovery, key);
        let id = "20261121T013005Z-7f";
        assert_eq!(of("recoveries/20261121T013005Z-7f/plan.json"), Some(id));
        assert_eq!(of("recoveries/20261121T013005Z-7f/decision.json"), None);
        assert_eq!(of("plans/20261121T013005Z-7f/plan.json"), None);
    }

    #[test]
    fn a_drills_verdict_is_told_from_others() {
        let database: DatabaseName = "app".parse().unwrap();
        let of = |name: &str| {
            let key = format!("verdicts/app/20261121T010000Z-nightly/{name}");
            drill_verdict(&database, &key).map(|(id, at)| format!("{id} {at}"))
        };
        assert_eq!(
            of("20261122T021000Z-7f-drill.json").as_deref(),
            Some("20261121T010000Z-nightly 2026-11-22T02:10:00Z")
        );
        for other in [
            "20261122T021000Z-7f-verify.json",
            "2026-7f-drill.json",
            "x/20261122T021000Z-7f-drill.json",
            "20261122T021000Z-drill.json.old",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn a_branch_drills_record_is_told_from_others() {
        let database: DatabaseName = "app".parse().unwrap();
        let at = "2026-11-02T03:00:00Z".parse().unwrap();
        let key = Key::Evidence {
            database: &database,
            at,
            nonce: "0a1b2c3d",
            file: "branch.json",
        };
        assert_eq!(branch_drill(&database, &key.to_string()), Some(at));
        for other in [
            "evidence/app/2026/11/20261102T030000Z-7f-drill.json",
            "evidence/app/2026/11/2026-7f-branch.json",
            "evidence/app/2026/11/20261102T030000Z-branch.json",
            "evidence/app-2/2026/11/20261102T030000Z-7f-branch.json",
        ] {
            assert_eq!(branch_drill(&database, other), None, "{other}");
        }
    }

    #[test]
    fn a_manifest_is_told_from_its_neighbours() {
        let database: DatabaseName = "app".parse().unwrap();
        for (key, expected) in [
            ("backups/app/20261121T010000Z-nightly/manifest.json", true),
            (
                "backups/app/20261121T010000Z-nightly/archive-a/manifest.json",
                false,
            ),
            (
                "backups/app/20261121T010000Z-nightly/manifest.json.old",
                false,
            ),
            (
                "backups/app-2/20261121T010000Z-nightly/manifest.json",
                false,
            ),
        ] {
            assert_eq!(is_manifest(&database, key), expected, "{key}");
        }
    }
}
