//! The message: what failed, since when, what it means, what there is instead, what to do.

use jiff::Timestamp;
use shared::backup::{BackupId, BackupItem, DatabaseName};
use shared::history::VerifiedBackup;
use shared::redact::redact;
use shared::words;

use crate::advice::{Subject, advice};
use crate::cause::Cause;
use crate::execution::Execution;

/// SNS takes fewer than 100 characters, and only ASCII.
const SUBJECT_BYTES_MAX: usize = 99;

pub(crate) const ANOTHER_MAY_FOLLOW: &str = "Another message about the same failure may follow: one that begins with \"Backstop:\" \
     comes from the stack itself and does not depend on this one.";

/// All that is known when the message is written.
#[derive(Clone, Debug)]
pub struct Situation<'a> {
    /// None when the run failed as a whole.
    pub backup: Option<&'a BackupItem>,
    pub error: &'a str,
    pub cause: Option<&'a str>,
    pub execution: &'a str,
    pub noticed_at: Timestamp,
    pub vault: Vault,
}

/// What the vault said, if it could be asked.
#[derive(Clone, Debug)]
pub enum Vault {
    Known(Known),
    Unknown { reason: String },
}

#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Whether the backup that failed has a manifest.
    pub committed: Option<bool>,
    pub standings: Vec<Standing>,
    /// May be more than `standings` holds.
    pub databases_total: usize,
}

/// What could be restored now.
#[derive(Clone, Debug)]
pub struct Standing {
    pub database: DatabaseName,
    pub verified: Option<VerifiedBackup>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub subject: String,
    pub body: String,
}

pub fn compose(situation: &Situation<'_>) -> Message {
    let execution = Execution::read(situation.execution);
    let cause = Cause::read(situation.cause);
    let error = if situation.error.is_empty() {
        "an error without a name".to_owned()
    } else {
        redact(situation.error)
    };
    let subject = Subject {
        backup: situation.backup,
        committed: situation.committed(),
        is_watch: execution.is_watch(),
        verdict: cause.verdict,
    };
    let headline = headline(&subject);
    let mut blocks = vec![format!("Lifeboat: {headline}.")];
    blocks.push(if cause.text.is_empty() {
        format!("What failed: {error}. No cause was given.")
    } else {
        format!("What failed: {error}\n{}", cause.text)
    });
    blocks.extend(
        situation
            .backup
            .map(|item| since_when(item, situation.noticed_at)),
    );
    let advice = advice(&subject, situation.error);
    blocks.push(format!("What it means: {}", advice.meaning));
    blocks.push(last_verified(&situation.vault, situation.noticed_at));
    let start = execution.start_command(&advice.start_input);
    blocks.push(format!(
        "What to do now: {}\n{}\n    {start}",
        advice.do_first, advice.then_start
    ));
    blocks.push(format!("The execution: {}", execution.link()));
    blocks.push(ANOTHER_MAY_FOLLOW.to_owned());
    Message {
        subject: one_line_of_ascii(&format!("Lifeboat: {headline} - {error}")),
        body: blocks.join("\n\n") + "\n",
    }
}

impl Situation<'_> {
    /// None when it could not be told.
    fn committed(&self) -> Option<bool> {
        if self.backup?.committed {
            return Some(true);
        }
        match &self.vault {
            Vault::Known(known) => known.committed,
            Vault::Unknown { .. } => None,
        }
    }
}

fn headline(subject: &Subject<'_>) -> String {
    match subject.backup {
        Some(item) => format!("{} backup of {} FAILED", item.kind, item.database),
        None if subject.is_watch => "the watch for late backups FAILED".to_owned(),
        None => "the backup run FAILED".to_owned(),
    }
}

fn since_when(item: &BackupItem, noticed_at: Timestamp) -> String {
    let after = noticed_at.duration_since(item.scheduled_time);
    format!(
        "Database: {}\nBackup: {}\nScheduled: {}\nNoticed: {}, {} later",
        item.database,
        BackupId::new(item.scheduled_time, item.kind),
        words::time(item.scheduled_time),
        words::time(noticed_at),
        words::duration(after),
    )
}

pub(crate) fn last_verified(vault: &Vault, now: Timestamp) -> String {
    let known = match vault {
        Vault::Known(known) => known,
        Vault::Unknown { reason } => {
            return format!(
                "Last verified backup: could not be told, because the vault did not answer as it should:\n{}",
                redact(reason)
            );
        }
    };
    let mut lines = vec!["Last verified backup, which can be restored:".to_owned()];
    for Standing { database, verified } in &known.standings {
        lines.push(match verified {
            Some(VerifiedBackup {
                id, snapshot_at, ..
            }) => format!(
                "- {database}: {id}, its data is of {} ({} old)",
                words::time(*snapshot_at),
                words::duration(now.duration_since(*snapshot_at)),
            ),
            None => format!("- {database}: NONE. There is nothing to restore from."),
        });
    }
    if known.standings.is_empty() {
        lines.push("- NONE, of any database. There is nothing to restore from.".to_owned());
    }
    let more = known.databases_total.saturating_sub(known.standings.len());
    if more > 0 {
        lines.push(format!(
            "- and {more} more databases that were not looked at"
        ));
    }
    lines.join("\n")
}

pub(crate) fn one_line_of_ascii(text: &str) -> String {
    let plain = |c: char| {
        if c == ' ' || c.is_ascii_graphic() {
            c
        } else {
            '?'
        }
    };
    text.chars().map(plain).take(SUBJECT_BYTES_MAX).collect()
}

#[cfg(test)]
mod tests;
