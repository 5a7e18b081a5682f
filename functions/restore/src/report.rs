//! What came of a restore, in words and for the record. Pure.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shared::approval::Decision;
use shared::backup::{BackupId, DatabaseName};
use shared::restore::estimate::Rates;
use shared::restore::guard::Obstacle;
use shared::restore::staging::Difference;
use shared::restore::{Advance, Proof, table_name};
use shared::words;

use crate::outcome::{Mark, verdict_of};
use crate::plan::{Plan, Target};
use crate::plans::Consumed;
use crate::request::{Failure, Outcome, PlanRequest};

/// The only format there is.
pub const FORMAT: u32 = 1;
/// An answer is at most 32 KB.
const DIFFERENCES_MAX: usize = 10;
const CAUSE_CHARS_MAX: usize = 4_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every table came out equal, fingerprint by fingerprint.
    Proven,
    /// All that was asked for is there; there were no rows to prove, or something was left
    /// out on purpose, or could not be compared.
    Restored,
    /// Something is not what the backup holds.
    NotProven,
    Failed,
    Refused,
    Expired,
}

/// The answer of `report`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub plan_id: String,
    pub database: DatabaseName,
    pub backup_id: BackupId,
    pub target: String,
    pub verdict: Verdict,
    /// What was asked for is there.
    pub is_good: bool,
    /// The whole outcome as a person reads it.
    pub words: String,
    /// What state the target is in, and what to do about it.
    pub target_state: String,
    /// How tables differ from the backup, the first ones.
    pub differences: Vec<String>,
    pub differences_total: usize,
    pub rows: u64,
    pub copy_bytes: u64,
    pub bytes_read: u64,
    /// From the first job to the last.
    pub seconds: f64,
    /// In the vault: the record, and with a staging schema the differences and the script.
    pub evidence_key: String,
    pub difference_key: Option<String>,
    pub merge_script_key: Option<String>,
    pub differing_keys_key: Option<String>,
}

/// What is kept in `evidence/`, never overwritten.
#[derive(Debug, Serialize)]
pub struct Record<'a> {
    pub format: u32,
    /// `restore`
    pub check: &'static str,
    pub plan_id: &'a str,
    pub database: &'a DatabaseName,
    pub backup_id: BackupId,
    pub snapshot_at: Timestamp,
    pub verdict: Verdict,
    pub request: &'a PlanRequest,
    pub target_name: &'a str,
    pub target: &'a Target,
    pub planned_at: Timestamp,
    pub expires_at: Timestamp,
    /// Who said yes or no.
    pub decision: Option<&'a Decision>,
    /// Which execution did it.
    pub applied: Option<&'a Consumed>,
    pub finished_at: Timestamp,
    pub reported_by: &'a str,
    pub verified: bool,
    pub obstacles: &'a [Obstacle],
    pub notes: &'a [String],
    pub failure: Option<&'a Failure>,
    pub advance: Option<&'a Advance>,
    pub rates: Option<Rates>,
    /// Where the comparison with the live tables is written, after this.
    pub difference_key: Option<&'a str>,
    pub target_state: &'a str,
    pub lifeboat: &'a str,
    /// What all of this rests on.
    pub hashes: Hashes<'a>,
}

#[derive(Debug, Serialize)]
pub struct Hashes<'a> {
    pub manifest_sha256: &'a str,
    pub plan_sha256: String,
}

/// What is known when the report is written.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    pub plan: &'a Plan,
    pub outcome: Outcome,
    pub failure: Option<&'a Failure>,
    pub decision: Option<&'a Decision>,
    /// Set as soon as the target may have been touched.
    pub applied: Option<&'a Consumed>,
    pub advance: Option<&'a Advance>,
    /// Of a target that could not be closed in order.
    pub mark: Option<Mark>,
    /// Of the bucket, for the report itself.
    pub reread_bytes: u64,
}

/// Whether the target may be let go: everything asked for is there and nothing differs.
pub fn is_as_planned(plan: &Plan, advance: &Advance) -> bool {
    advance.remaining == 0 && verdict_of(plan, advance) != Verdict::NotProven
}

impl Known<'_> {
    fn differences(&self) -> Vec<String> {
        let proof = self.advance.and_then(|it| it.proof.as_ref());
        proof.map(Proof::differences).unwrap_or_default()
    }

    fn headline(&self) -> String {
        let (plan, database) = (self.plan, &self.plan.request.database);
        let what = format!(
            "{} of {database} from {} into {}",
            plan.request.scope, plan.backup_id, plan.target_name
        );
        match self.verdict() {
            Verdict::Proven => {
                format!("PROVEN: {what}. Every table came out equal, fingerprint by fingerprint.")
            }
            Verdict::Restored => format!("RESTORED: {what}."),
            Verdict::NotProven => format!(
                "NOT PROVEN: {what}. What is there now is not what the backup holds. Do not use it."
            ),
            Verdict::Failed if self.applied.is_none() => {
                format!("FAILED: {what}. Nothing was changed.")
            }
            Verdict::Failed => format!("FAILED: {what}. Do not use what is there."),
            Verdict::Refused => format!("REFUSED: {what}. Nothing was changed."),
            Verdict::Expired => {
                format!("EXPIRED: {what}. Nobody decided in time; nothing was changed.")
            }
        }
    }

    fn words(&self) -> String {
        let mut lines = vec![self.headline()];
        if let Some(decision) = self.decision {
            let verb = if decision.approved {
                "Approved"
            } else {
                "Refused"
            };
            let at = words::time(decision.at);
            lines.push(format!("{verb} by {}, {at}.", decision.operator));
        }
        lines.extend(self.failure.map(|it| {
            let or_nothing = |text: &Option<String>| text.clone().unwrap_or_default();
            let (error, cause) = (or_nothing(&it.error), or_nothing(&it.cause));
            format!("What failed: {error}\n{cause}")
        }));
        if let Some(advance) = self.advance {
            lines.push(format!(
                "{} rows, {} of COPY text, {} read from the bucket, in {}.",
                words::grouped(advance.rows),
                words::bytes(advance.copy_bytes),
                words::bytes(advance.bytes_read + self.reread_bytes),
                words::seconds(seconds(advance))
            ));
            let proof = advance.proof.iter();
            let left = proof.clone().flat_map(|it| &it.left_out);
            lines.extend(left.map(|it| format!("Left out: {it}")));
            let doubts = proof.flat_map(|it| &it.inconclusive);
            lines.extend(doubts.map(|it| format!("Could not be compared: {it}")));
            lines.extend(advance.notes.iter().map(|it| format!("Note: {it}")));
        }
        let differences = self.differences();
        let shown = differences.iter().take(DIFFERENCES_MAX);
        lines.extend(shown.map(|it| format!("Differs: {it}")));
        if differences.len() > DIFFERENCES_MAX {
            let more = differences.len() - DIFFERENCES_MAX;
            lines.push(format!("Differs: {more} more, in the record"));
        }
        lines.push(format!("Now: {}.", self.target_state()));
        limited(lines)
    }

    /// The answer, without the keys of what was written.
    pub fn summary(&self) -> Summary {
        let verdict = self.verdict();
        let advance = self.advance.cloned().unwrap_or_default();
        let mut differences = self.differences();
        let differences_total = differences.len();
        differences.truncate(DIFFERENCES_MAX);
        Summary {
            plan_id: self.plan.plan_id.clone(),
            database: self.plan.request.database.clone(),
            backup_id: self.plan.backup_id,
            target: self.plan.target_name.clone(),
            verdict,
            is_good: matches!(verdict, Verdict::Proven | Verdict::Restored),
            words: self.words(),
            target_state: self.target_state(),
            differences,
            differences_total,
            rows: advance.rows,
            copy_bytes: advance.copy_bytes,
            bytes_read: advance.bytes_read + self.reread_bytes,
            seconds: seconds(&advance),
            evidence_key: String::new(),
            difference_key: None,
            merge_script_key: None,
            differing_keys_key: None,
        }
    }

    /// What one connection did in a second, for the next plan.
    pub fn rates(&self) -> Option<Rates> {
        let advance = self.advance.filter(|it| it.remaining == 0)?;
        let connections = f64::from(self.plan.order.connections.max(1));
        let rate = |phase: &str| {
            let phases = advance.phases.iter().filter(|it| it.name == phase);
            let seconds: f64 = phases.map(|it| it.seconds).sum();
            (seconds > 1.0).then(|| as_float(advance.copy_bytes) / seconds / connections)
        };
        let (load, proof) = (rate("data")?, rate("proof")?);
        Some(Rates {
            load_bytes_per_second: load,
            proof_bytes_per_second: proof,
            ..shared::restore::estimate::ASSUMED
        })
    }
}

impl Summary {
    /// Adds how staged tables differ from the live ones.
    pub fn compare(&mut self, difference: &Difference) {
        let count = |n: Option<u64>| n.map_or("?".to_owned(), words::grouped);
        let lines = difference.tables.iter().map(|it| {
            let name = table_name(&it.live);
            match &it.not_compared {
                Some(why) => format!("{name}: not compared: {why}"),
                None => format!(
                    "{name}: {} rows only in the backup, {} only live, {} changed",
                    count(it.only_backup),
                    count(it.only_live),
                    count(it.changed)
                ),
            }
        });
        self.words.push_str(&limited(lines));
    }
}

/// Lines of ten thousand tables stay in the record.
fn limited(lines: impl IntoIterator<Item = String>) -> String {
    const BYTES_MAX: usize = 12_000;
    let mut text = String::new();
    for line in lines {
        if text.len() + line.len() > BYTES_MAX {
            text.push_str("… more in the record\n");
            break;
        }
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// A cause is kept short: its whole is in the execution.
pub fn shortened(failure: Failure) -> Failure {
    /// A function's error, as Lambda words it.
    #[derive(Deserialize)]
    struct LambdaError {
        #[serde(rename = "errorMessage")]
        message: String,
    }
    let cause = failure.cause.map(|cause| {
        let message: Result<LambdaError, _> = serde_json::from_str(&cause);
        let cause = message.map_or(cause, |it| it.message);
        cause.chars().take(CAUSE_CHARS_MAX).collect()
    });
    Failure {
        error: failure.error,
        cause,
    }
}

/// From the first phase's begin to the last one's end, waits between invocations included.
fn seconds(advance: &Advance) -> f64 {
    let begin = advance.phases.iter().map(|it| it.started_at).min();
    let ends = advance.phases.iter().map(|it| {
        let took = jiff::SignedDuration::try_from_secs_f64(it.seconds).unwrap_or_default();
        it.started_at.checked_add(took).unwrap_or(it.started_at)
    });
    match (begin, ends.max()) {
        (Some(begin), Some(end)) => end.duration_since(begin).as_secs_f64(),
        _ => 0.0,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn as_float(n: u64) -> f64 {
    n as f64
}
