//! A point in the past, and a branch of it.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shared::backup::DatabaseName;

use super::{RequestError, is_text};

/// Makes a new branch of how things were; changes nothing that exists.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreBranch {
    pub database: DatabaseName,
    pub point: RestorePoint,
    /// Who asks, for the note.
    pub by: String,
    #[serde(default)]
    pub reason: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestorePoint {
    /// Of production, within the restore window.
    Time(Timestamp),
    /// Of production, such as `0/1AA6408`.
    Lsn(String),
    /// As a branch is now: a snapshot branch, by its name.
    Branch(String),
}

impl fmt::Display for RestorePoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(at) => at.fmt(f),
            Self::Lsn(lsn) => write!(f, "the position {lsn} of the log"),
            Self::Branch(name) => write!(f, "the branch {name}"),
        }
    }
}

impl RestorePoint {
    /// The error is what to write.
    pub fn check(&self) -> Result<(), &'static str> {
        let is_half = |it: &str| {
            let is_hex = it
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b));
            (1..=8).contains(&it.len()) && is_hex
        };
        let is_lsn = |it: &str| {
            it.split_once('/')
                .is_some_and(|(a, b)| is_half(a) && is_half(b))
        };
        match self {
            Self::Lsn(lsn) if !is_lsn(lsn) => Err("an `lsn` is written as 0/1AA6408"),
            Self::Branch(name) if name.is_empty() || !is_text(name) => {
                Err("`branch` is the name of a branch")
            }
            Self::Time(_) | Self::Lsn(_) | Self::Branch(_) => Ok(()),
        }
    }
}

impl RestoreBranch {
    pub(super) fn check(&self) -> Result<(), RequestError> {
        self.point.check().map_err(RequestError::Restore)?;
        if self.by.trim().is_empty() || !is_text(&self.by) {
            return Err(RequestError::Restore("`by` is your name, for the record"));
        }
        match self.reason.as_deref().is_none_or(is_text) {
            true => Ok(()),
            false => Err(RequestError::Restore(
                "`reason` is one line of at most 200 characters",
            )),
        }
    }
}
