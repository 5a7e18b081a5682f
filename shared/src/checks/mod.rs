//! What a database is held against, by drills and by recoveries: the form of a check and of its
//! outcome, and the questions that `lifeboat.toml` asks. `table` and `assertion` judge, `queries`
//! asks.

pub mod assertion;
pub mod queries;
pub mod session;
pub mod table;

use serde::{Deserialize, Serialize};

use crate::policy::Priority;
use crate::verdict::Code;

/// Beyond it a list says how many more there are.
const DETAILS_MAX: usize = 50;

/// Stable: reports, alerts and people refer to these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckCode {
    ManifestUnchanged,
    Rows,
    Fingerprints,
    LargeObjects,
    SequenceValues,
    LeftOut,
    CatalogTables,
    CatalogPolicies,
    CatalogGrants,
    CatalogOwners,
    CatalogFunctions,
    CatalogTriggers,
    CatalogConstraints,
    CatalogIndexes,
    CatalogViews,
    CatalogExtensions,
    CatalogSequences,
    CatalogPublications,
    CatalogComments,
    CatalogTypes,
    CatalogOther,
    ExtensionVersions,
    IndexesValid,
    ConstraintsValid,
    ViewsCompile,
    MatviewsPopulated,
    SequencesAhead,
    Collations,
    RowFloor,
    Freshness,
    Sql,
    Http,
    Reachable,
    TablesReadable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Passed,
    Failed,
    /// It could not run: never the same as passed.
    Inconclusive,
    /// For information; nothing is expected.
    Note,
}

/// The outcome of one check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckResult {
    pub code: CheckCode,
    /// For people: what was looked at.
    pub name: String,
    pub priority: Priority,
    pub status: Status,
    /// One line. No row content.
    pub summary: String,
    /// Differences, one each. Definitions of objects at most, no row content.
    pub details: Vec<String>,
    /// What to do about it; only where it did not pass.
    pub remedy: Option<String>,
    /// What a verdict calls it when it fails.
    pub finding: Code,
    pub seconds: f64,
}

/// What is the same for all outcomes of a check.
#[derive(Clone, Debug)]
pub struct Subject {
    pub code: CheckCode,
    pub name: String,
    pub priority: Priority,
    pub finding: Code,
    pub remedy: &'static str,
}

impl Subject {
    pub fn passed(&self, summary: impl Into<String>) -> CheckResult {
        self.result(Status::Passed, summary.into(), Vec::new())
    }

    pub fn note(&self, summary: impl Into<String>, details: Vec<String>) -> CheckResult {
        self.result(Status::Note, summary.into(), details)
    }

    pub fn failed(&self, summary: impl Into<String>, details: Vec<String>) -> CheckResult {
        self.result(Status::Failed, summary.into(), details)
    }

    pub fn inconclusive(&self, summary: impl Into<String>) -> CheckResult {
        self.result(Status::Inconclusive, summary.into(), Vec::new())
    }

    /// Of a state of the past: what came into being since is no fault of it. Whether that is so, or
    /// it was lost by then, the state itself cannot tell.
    fn not_yet(&self, says: &str) -> CheckResult {
        self.note(format!("not there at that time: {says}"), Vec::new())
    }

    /// Passed without differences, failed with them.
    pub fn judge(&self, passed: impl Into<String>, differences: Vec<String>) -> CheckResult {
        match differences.as_slice() {
            [] => self.passed(passed),
            [only] => self.failed(first_line(only), differences),
            [first, more @ ..] => {
                let summary = format!("{}, and {} more", first_line(first), more.len());
                self.failed(summary, differences)
            }
        }
    }

    fn result(&self, status: Status, summary: String, details: Vec<String>) -> CheckResult {
        let is_well = matches!(status, Status::Passed | Status::Note);
        CheckResult {
            code: self.code,
            name: self.name.clone(),
            priority: self.priority,
            status,
            summary,
            details: listed(details),
            remedy: (!is_well).then(|| self.remedy.to_owned()),
            finding: self.finding,
            seconds: 0.0,
        }
    }
}

impl CheckResult {
    pub fn taking(self, seconds: f64) -> Self {
        Self { seconds, ..self }
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

fn listed(mut details: Vec<String>) -> Vec<String> {
    let more = details.len().saturating_sub(DETAILS_MAX);
    if more > 0 {
        details.truncate(DETAILS_MAX);
        details.push(format!("… and {more} more"));
    }
    details
}
