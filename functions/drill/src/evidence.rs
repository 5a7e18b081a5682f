//! The record of a drill, appended under `evidence/` and never overwritten: enough for an
//! auditor to see who did what, what it rests on, and what came of it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shared::manifest::{Source, Totals};
use shared::restore::estimate::Rates;
use shared::verdict::{Check, FORMAT, Finding, Verdict, VerdictRecord};

use crate::checks::CheckResult;
use crate::objectives::Objective;
use crate::request::DrillItem;
use crate::steps::Plan;
use crate::timing::{Budget, Timing, short_seconds};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Always [`FORMAT`].
    pub format: u32,
    /// Who or what began it, when, why this backup, and where to.
    pub drill: DrillItem,
    pub finished_at: Timestamp,
    pub verdict: Verdict,
    /// What keeps the backup from being proven, worst first.
    pub findings: Vec<Finding>,
    /// Null where the manifest could not be read.
    pub source: Option<Source>,
    pub snapshot_at: Option<Timestamp>,
    /// What was read back from the restored database.
    pub totals: Totals,
    pub checks: Vec<CheckResult>,
    pub timing: Timing,
    pub objectives: Vec<Objective>,
    pub prediction: Prediction,
    /// What this one measured, for the next prediction of a drill or a restore.
    pub rates: Option<Rates>,
    pub teardown: Teardown,
    /// Of the steps and of the engine, in words.
    pub notes: Vec<String>,
    pub versions: Versions,
    pub rests_on: RestsOn,
    /// What was decided before anything was done. Null where the drill ended before that.
    pub plan: Option<Plan>,
}

/// How long a full restore takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// What was predicted before this one.
    pub before_seconds: Option<f64>,
    /// From what earlier drills and restores of the database measured; otherwise from what is
    /// assumed.
    pub is_from_measured: bool,
    /// What this one took, and the next of the same size is expected to take.
    pub measured_seconds: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Teardown {
    pub is_destroyed: bool,
    /// Why the scratch database may still be there.
    pub failure: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    pub lifeboat: String,
    pub source_server: Option<String>,
    pub target_server: Option<String>,
    pub pg_dump: Option<String>,
    pub archive: Option<String>,
}

/// Lower-case hex of what was there before the drill and is what it says something about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestsOn {
    pub manifest_sha256: Option<String>,
    pub table_of_contents_sha256: Option<String>,
    pub verdicts: Vec<Hashed>,
    pub plan_sha256: Option<String>,
    /// The page beside this record.
    pub report_sha256: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hashed {
    pub key: String,
    pub sha256: String,
}

impl Evidence {
    pub fn is_proven(&self) -> bool {
        self.verdict == Verdict::Passed
    }

    /// The verdict on the backup, where there was one to drill.
    pub fn verdict_record(&self) -> Option<VerdictRecord> {
        Some(VerdictRecord {
            format: FORMAT,
            check: Check::Drill,
            database: self.drill.database.clone(),
            backup_id: self.drill.backup_id?,
            verdict: self.verdict,
            started_at: self.timing.begun_at,
            finished_at: self.finished_at,
            snapshot_at: self.snapshot_at,
            manifest_sha256: self.rests_on.manifest_sha256.clone(),
            manifest_version_id: None,
            totals: self.totals.clone(),
            findings: self.findings.clone(),
            lifeboat: self.versions.lifeboat.clone(),
        })
    }

    /// Budgets and objectives that were missed, in words. They say nothing about the backup.
    pub fn missed(&self) -> Vec<String> {
        let budgets = self.timing.budgets.iter().filter_map(Budget::missed);
        let objectives = self.objectives.iter().filter(|it| it.kept == Some(false));
        let objectives = objectives.map(|it| {
            let objective = f64::from(it.objective_minutes.unwrap_or_default()) * 60.0;
            let (name, words) = (it.name.words(), &it.words);
            format!(
                "{name}: {words}; the objective is {}",
                short_seconds(objective)
            )
        });
        budgets.chain(objectives).collect()
    }
}
