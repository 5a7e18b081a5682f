//! What a drill means and what to do about it. Pure.

use serde_json::json;
use shared::backup::{BackupId, DatabaseName};
use shared::redact::redact;
use shared::verdict::{Finding, Verdict};

use crate::cause::Report;
use crate::execution::Execution;

/// Under which names the state machine reports what did not end a drill early.
pub(crate) const NOT_PROVEN: &str = "NotProven";
pub(crate) const NOT_DESTROYED: &str = "NotDestroyed";

/// One drill of one backup, as far as it is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drilled<'a> {
    pub(crate) database: Option<&'a DatabaseName>,
    pub(crate) backup_id: Option<BackupId>,
    pub(crate) report: Option<&'a Report>,
}

/// What the findings say of the stored backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt {
    /// Wrong bytes in the vault.
    Damage,
    /// Wrong rows on the drill's server.
    Rows,
    /// The copy is not as it should be.
    Copy,
    /// Nothing could be told.
    Unknown,
}

impl Drilled<'_> {
    fn doubt(&self) -> Doubt {
        let Some(report) = self.report else {
            return Doubt::Unknown;
        };
        let any = |is_so: fn(&Finding) -> bool| report.findings.iter().any(is_so);
        if any(|it| it.code.is_damage()) {
            Doubt::Damage
        } else if any(|it| it.code.is_for_verify()) {
            Doubt::Rows
        } else if report.verdict == Verdict::Failed {
            Doubt::Copy
        } else {
            Doubt::Unknown
        }
    }

    pub(crate) fn meaning(&self, error: &str) -> &'static str {
        if error == NOT_DESTROYED {
            return "the backup is proven. But a copy of the database may still lie on the drill's server, with all that is in it.";
        }
        match self.doubt() {
            Doubt::Damage => {
                "this backup is NOT proven and no longer counts as verified: what lies in the vault is not what was verified. Production was not touched."
            }
            Doubt::Rows => {
                "this backup is NOT proven: restored, it has other rows than it should have. Either they are wrong in the vault, or the drill's server changed them. Until verify has told, it still counts as verified. Production was not touched."
            }
            Doubt::Copy => {
                "this backup is NOT proven: restored, it is not what it should be. What is stored is what was verified. Production was not touched."
            }
            Doubt::Unknown => {
                "this backup is NOT proven: restoring it went wrong, or could not be tried. Nothing is known to be wrong with it. Production was not touched."
            }
        }
    }

    /// Where the drill came to its end; what ended it early has its own advice.
    pub(crate) fn do_now(&self, error: &str, execution: &Execution<'_>) -> String {
        if error == NOT_DESTROYED {
            return "DROP DATABASE it on the drill's server, where its name begins with lifeboat_drill_; or leave it to the next drill on that server, which removes it a day from now.".to_owned();
        }
        match self.doubt() {
            Doubt::Damage => format!(
                "delete nothing: what was changed is the evidence, and it is locked. Take another backup now, and find out who may write to the vault. Verify names each object and its bytes:\n    {}",
                self.verify(execution)
            ),
            Doubt::Rows => format!(
                "run verify on this backup now; it reads every stored byte again, and takes it out of `latest` if rows are wrong there (while its answer has `remaining` above 0, ask again with its `next`):\n    {}\nIf it passes, the drill's server is at fault: mend it, and drill again. If it fails, treat it as an incident.",
                self.verify(execution)
            ),
            Doubt::Copy => "open the report: it shows each difference and its remedy. In an emergency, this backup is still what to restore.".to_owned(),
            Doubt::Unknown => "remove what the findings above name, then drill again.".to_owned(),
        }
    }

    fn verify(&self, execution: &Execution<'_>) -> String {
        let event = match (self.database, self.backup_id) {
            (Some(database), Some(id)) => json!({"backup": {"database": database,
                "kind": id.kind(), "scheduled_time": id.scheduled_at()}})
            .to_string(),
            (None, _) | (_, None) => "<the backup>".to_owned(),
        };
        execution.invoke_command("verify", &event)
    }

    /// The same backup again.
    pub(crate) fn again(&self, execution: &Execution<'_>) -> String {
        let input = match (self.database, self.backup_id) {
            (Some(database), Some(id)) => {
                json!({"databases": [database], "backup_id": id}).to_string()
            }
            (Some(database), None) => json!({"databases": [database]}).to_string(),
            (None, _) => "{}".to_owned(),
        };
        execution.start_command(&input)
    }

    pub(crate) fn target_state(&self) -> String {
        let Some(report) = self.report else {
            return "could not be told. A scratch database may be left; it carries our mark, and the next drill on that server removes it after a day.".to_owned();
        };
        match (report.is_destroyed, &report.teardown_failure) {
            (Some(true), _) => "the scratch database is destroyed.".to_owned(),
            (_, Some(failure)) => format!(
                "the scratch database could NOT be destroyed: {}\nIt carries our mark; the next drill on that server removes it, and the roles made for it, after a day.",
                redact(failure)
            ),
            (_, None) => "nothing says that the scratch database is gone. It carries our mark, and the next drill on that server removes it after a day.".to_owned(),
        }
    }

    /// How a browser gets at the page. `None` where there is none.
    pub(crate) fn page(&self, vault: &str) -> Option<String> {
        let key = self.report.and_then(|it| it.report_key.as_deref())?;
        Some(format!(
            "The report, for a browser (the command prints a link that is good for an hour):\n    aws s3 presign 's3://{vault}/{key}'"
        ))
    }

    pub(crate) fn missed(&self) -> Option<String> {
        let missed = &self.report?.missed;
        let lines = missed.iter().map(|it| format!("- {}", redact(it)));
        let lines: Vec<String> = lines.collect();
        (!lines.is_empty()).then(|| format!("Missed:\n{}", lines.join("\n")))
    }
}
