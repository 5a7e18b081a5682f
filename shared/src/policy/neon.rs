//! `[database.neon]`: the project that a database lives in, and what Lifeboat does there.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Neon's own name of a project, such as `autumn-disk-484331`. Its API key is the secret
/// `lifeboat/neon/<project>`.
///
/// Invariant: 1 to 60 of `[a-z0-9-]`, so it is safe in paths and secret names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProjectId(String);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not the id of a Neon project: copy it from the project's settings, such as autumn-disk-484331"
)]
pub struct InvalidProjectId(String);

impl ProjectId {
    /// No project, but under whose name the organization's key is kept: it alone can make one.
    pub fn organization() -> Self {
        Self("organization".to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ProjectId {
    type Error = InvalidProjectId;

    fn try_from(id: String) -> Result<Self, InvalidProjectId> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if id.is_empty() || id.len() > 60 || !id.chars().all(allowed) {
            return Err(InvalidProjectId(id));
        }
        Ok(Self(id))
    }
}

impl From<ProjectId> for String {
    fn from(id: ProjectId) -> Self {
        id.0
    }
}

impl fmt::Display for ProjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The size of a compute, in Neon's units: 0.25, 0.5, or 1 to 56.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct ComputeUnits {
    quarters: u8,
}

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("{0} is not the size of a Neon compute: write 0.25, 0.5, or a whole number from 1 to 56")]
pub struct InvalidComputeUnits(f64);

impl ComputeUnits {
    pub const ONE: Self = Self { quarters: 4 };

    pub fn as_f64(self) -> f64 {
        f64::from(self.quarters) / 4.0
    }
}

impl TryFrom<f64> for ComputeUnits {
    type Error = InvalidComputeUnits;

    fn try_from(units: f64) -> Result<Self, InvalidComputeUnits> {
        let sizes = [1_u8, 2].into_iter().chain((1..=56).map(|it| it * 4));
        let mut sizes = sizes.map(|quarters| Self { quarters });
        let found = sizes.find(|it| (it.as_f64() - units).abs() < f64::EPSILON);
        found.ok_or(InvalidComputeUnits(units))
    }
}

impl From<ComputeUnits> for f64 {
    fn from(units: ComputeUnits) -> Self {
        units.as_f64()
    }
}

/// A Lambda function of the user's own, by its name. The state machine that recovers production
/// may invoke what begins with `lifeboat-hook-`, and nothing else of theirs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HookName(String);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not the name of a hook: name the Lambda function lifeboat-hook-…, of letters, digits, - and _, at most 64 characters"
)]
pub struct InvalidHookName(String);

impl HookName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for HookName {
    type Error = InvalidHookName;

    fn try_from(name: String) -> Result<Self, InvalidHookName> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let rest = name.strip_prefix("lifeboat-hook-").unwrap_or_default();
        if rest.is_empty() || name.len() > 64 || !rest.chars().all(allowed) {
            return Err(InvalidHookName(name));
        }
        Ok(Self(name))
    }
}

impl From<HookName> for String {
    fn from(name: HookName) -> Self {
        name.0
    }
}

/// Snapshot branches that the schedule makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recurring {
    Daily,
    /// On Sundays, beside the daily one.
    Weekly,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NeonPolicy {
    pub project: ProjectId,
    /// Whom a dump connects as, on the temporary branch.
    pub role: String,
    /// The database within the project's branches.
    pub database: String,
    /// Nightly dumps read a temporary branch; false: the endpoint of `lifeboat/database/…`.
    #[serde(default = "yes")]
    pub dump_from_branch: bool,
    /// Of the temporary branch that a dump reads.
    #[serde(default = "dump_compute")]
    pub dump_compute: ComputeUnits,
    /// Snapshot branches belong to a project: where two databases share one, only one of
    /// them may ask for any.
    #[serde(default = "create")]
    pub create: BTreeSet<Recurring>,
    #[serde(default)]
    pub keep: KeepBranches,
    /// For how many days any moment must be restorable: 7, or 30 for compliance; 0: whatever
    /// the project has is enough.
    #[serde(default = "restore_window_days")]
    pub restore_window_days: u32,
    /// Set the project's restore window when it is shorter and the plan allows more.
    #[serde(default)]
    pub set_restore_window: bool,
    /// Prove every day, by a branch, that the state of 15 minutes ago can be had.
    #[serde(default)]
    pub prove_freshness: bool,
    #[serde(default)]
    pub drill: BranchDrill,
    /// Stops whoever writes, before a recovery of production; absent: nobody is stopped.
    pub freeze_function: Option<HookName>,
    /// Lets them go on, however the recovery ended.
    pub unfreeze_function: Option<HookName>,
}

/// How the monthly drill of a branch is held, and how long each part may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BranchDrill {
    /// How old the state is that has to come back.
    pub days_back: u32,
    /// From the request to the first connection.
    pub branch_seconds: u32,
    /// All checks.
    pub checks_seconds: u32,
    /// From the request until the branch is gone.
    pub total_seconds: u32,
    /// Somebody is woken when the last one was begun before that; longer than a month, whose
    /// first business day may be its fifth.
    pub held_within_days: u32,
}

impl Default for BranchDrill {
    fn default() -> Self {
        Self {
            days_back: 7,
            branch_seconds: 120,
            checks_seconds: 600,
            total_seconds: 900,
            held_within_days: 40,
        }
    }
}

/// For how long snapshot branches are kept. The newest of each class always is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeepBranches {
    pub daily_days: u32,
    pub weekly_days: u32,
    /// After the deployment was reported as done.
    pub pre_deploy_days: u32,
    /// On the free plan, which has ten branches, no class is kept for longer.
    pub free_plan_days: u32,
}

impl Default for KeepBranches {
    fn default() -> Self {
        Self {
            daily_days: 30,
            weekly_days: 90,
            pre_deploy_days: 7,
            free_plan_days: 14,
        }
    }
}

fn yes() -> bool {
    true
}

fn dump_compute() -> ComputeUnits {
    ComputeUnits::ONE
}

fn create() -> BTreeSet<Recurring> {
    [Recurring::Daily, Recurring::Weekly].into()
}

fn restore_window_days() -> u32 {
    7
}

/// What is wrong with a `[database.neon]`, and what to write instead.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NeonPolicyError {
    #[error("it stands under a database whose provider is not \"neon\": correct one of the two")]
    OtherProvider,
    #[error("{setting} = {value} is out of range: {range}")]
    OutOfRange {
        setting: &'static str,
        value: u32,
        range: &'static str,
    },
    #[error("{0} is empty: write the name that the Neon console shows")]
    Empty(&'static str),
    #[error(
        "freeze_function stops writes, and nothing would let them go on: write unfreeze_function, too"
    )]
    FrozenForGood,
    #[error(
        "the project {project} has its snapshot branches from {other} already, and they hold all of the project's databases: write create = [] here"
    )]
    Shared { project: ProjectId, other: String },
}

impl NeonPolicy {
    /// Everything that the types cannot say of one block.
    pub fn check(&self) -> Result<(), NeonPolicyError> {
        let (keep, drill) = (&self.keep, &self.drill);
        // Neon forgets a branch that expires after 30 days at most, and so does its history.
        let checks = [
            ("keep.daily_days", keep.daily_days, 1..=365, "1 to 365"),
            ("keep.weekly_days", keep.weekly_days, 7..=730, "7 to 730"),
            (
                "keep.pre_deploy_days",
                keep.pre_deploy_days,
                1..=30,
                "1 to 30",
            ),
            (
                "keep.free_plan_days",
                keep.free_plan_days,
                1..=30,
                "1 to 30",
            ),
            (
                "restore_window_days",
                self.restore_window_days,
                0..=30,
                "0 to 30",
            ),
            ("drill.days_back", drill.days_back, 1..=30, "1 to 30"),
            (
                "drill.branch_seconds",
                drill.branch_seconds,
                1..=86_400,
                "1 to 86400",
            ),
            (
                "drill.checks_seconds",
                drill.checks_seconds,
                1..=86_400,
                "1 to 86400",
            ),
            (
                "drill.total_seconds",
                drill.total_seconds,
                1..=86_400,
                "1 to 86400",
            ),
            (
                "drill.held_within_days",
                drill.held_within_days,
                1..=400,
                "1 to 400",
            ),
        ];
        for (setting, value, allowed, range) in checks {
            if !allowed.contains(&value) {
                return Err(NeonPolicyError::OutOfRange {
                    setting,
                    value,
                    range,
                });
            }
        }
        if self.freeze_function.is_some() && self.unfreeze_function.is_none() {
            return Err(NeonPolicyError::FrozenForGood);
        }
        for (name, value) in [("role", &self.role), ("database", &self.database)] {
            if value.trim().is_empty() {
                return Err(NeonPolicyError::Empty(name));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(more: &str) -> Result<NeonPolicy, String> {
        let text = format!("project = 'autumn-disk-484331'\nrole = 'r'\ndatabase = 'd'\n{more}");
        let policy: NeonPolicy = toml::from_str(&text).map_err(|it| it.to_string())?;
        policy.check().map_err(|it| it.to_string())?;
        Ok(policy)
    }

    #[test]
    fn project_role_and_database_are_enough() {
        let policy = parse("").unwrap();
        assert!(policy.dump_from_branch && !policy.set_restore_window && !policy.prove_freshness);
        assert_eq!(policy.create.len(), 2);
        assert_eq!(policy.restore_window_days, 7);
        let keep = policy.keep;
        assert_eq!(
            [
                keep.daily_days,
                keep.weekly_days,
                keep.pre_deploy_days,
                keep.free_plan_days
            ],
            [30, 90, 7, 14]
        );
    }

    #[test]
    fn sizes_of_a_compute_are_those_that_neon_has() {
        for (written, expected) in [("0.25", 0.25), ("0.5", 0.5), ("2", 2.0), ("56", 56.0)] {
            let policy = parse(&format!("dump_compute = {written}")).unwrap();
            assert!((policy.dump_compute.as_f64() - expected).abs() < f64::EPSILON);
        }
        for written in ["0", "0.75", "57", "-1", "nan"] {
            let error = parse(&format!("dump_compute = {written}")).unwrap_err();
            assert!(error.contains("is not the size"), "{error}");
        }
    }

    #[test]
    fn each_mistake_is_named() {
        for (text, expected) in [
            ("branch = 'main'", "unknown field `branch`"),
            ("create = ['hourly']", "unknown variant `hourly`"),
            (
                "restore_window_days = 31",
                "restore_window_days = 31 is out of range: 0 to 30",
            ),
            ("[keep]\nweekly_days = 6", "keep.weekly_days = 6 is out of"),
            ("[keep]\nmonthly_days = 6", "unknown field `monthly_days`"),
            ("[drill]\ndays_back = 31", "drill.days_back = 31 is out of"),
            (
                "[drill]\nheld_within_days = 0",
                "drill.held_within_days = 0 is out of",
            ),
            ("[drill]\nseconds = 1", "unknown field `seconds`"),
            (
                "freeze_function = 'freeze'",
                "name the Lambda function lifeboat-hook-",
            ),
            (
                "freeze_function = 'lifeboat-hook-a'",
                "write unfreeze_function, too",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}\n{error}");
        }
        for id in ["", "A", "a/b", "../x", &"a".repeat(61)] {
            assert!(ProjectId::try_from(id.to_owned()).is_err(), "{id}");
        }
    }
}
