//! What the state machine is answered: counts, and the ten worst findings.

use jiff::Timestamp;
use serde::Serialize;
use shared::backup::{BackupId, DatabaseName};
use shared::manifest::Totals;
use shared::verdict::{Finding, Verdict, VerdictRecord};

use crate::progress::{Next, Progress};

const FINDINGS_MAX: usize = 10;
/// Ten of them, with keys of at most 1 KB, stay below the 32 KB of an answer.
const MESSAGE_BYTES_MAX: usize = 1_000;

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub database: DatabaseName,
    pub backup_id: BackupId,
    /// `None` exactly while objects remain.
    pub verdict: Option<Verdict>,
    pub remaining: usize,
    pub next: Option<Next>,
    /// The worst; all of them are in the verdict.
    pub findings: Vec<Finding>,
    pub findings_total: usize,
    /// Where the verdict lies in the vault.
    pub verdict_key: Option<String>,
    pub snapshot_at: Option<Timestamp>,
    pub objects_done: u64,
    pub objects_total: usize,
    /// What was read back so far.
    pub totals: Totals,
    /// Spent reading, over all invocations.
    pub seconds: f64,
    pub copy_bytes_per_second: f64,
}

impl Report {
    pub(crate) fn new(database: &DatabaseName, backup_id: BackupId, objects_total: usize) -> Self {
        Self {
            database: database.clone(),
            backup_id,
            verdict: None,
            remaining: 0,
            next: None,
            findings: Vec::new(),
            findings_total: 0,
            verdict_key: None,
            snapshot_at: None,
            objects_done: 0,
            objects_total,
            totals: Totals::default(),
            seconds: 0.0,
            copy_bytes_per_second: 0.0,
        }
    }

    pub(crate) fn go_on(&mut self, progress: &Progress, remaining: usize, next: Next) {
        self.remaining = remaining;
        self.next = Some(next);
        self.set_findings(&progress.findings);
        self.set_totals(progress.totals.clone(), progress.seconds);
    }

    pub(crate) fn end(&mut self, verdict: VerdictRecord, seconds: f64, key: String) {
        self.verdict = Some(verdict.verdict);
        self.verdict_key = Some(key);
        self.set_findings(&verdict.findings);
        self.set_totals(verdict.totals, seconds);
    }

    fn set_findings(&mut self, findings: &[Finding]) {
        self.findings_total = findings.len();
        self.findings = findings.iter().take(FINDINGS_MAX).cloned().collect();
        for finding in &mut self.findings {
            cut(&mut finding.message);
        }
    }

    fn set_totals(&mut self, totals: Totals, seconds: f64) {
        self.objects_done = totals.objects;
        self.seconds = seconds;
        if seconds > 0.0 {
            self.copy_bytes_per_second = totals.copy_bytes as f64 / seconds;
        }
        self.totals = totals;
    }
}

fn cut(message: &mut String) {
    if message.len() > MESSAGE_BYTES_MAX {
        let end = message.floor_char_boundary(MESSAGE_BYTES_MAX);
        message.truncate(end);
        message.push('…');
    }
}
