//! Errors as the outside sees them: a stable name and one readable line.

use std::error::Error;

/// The names that the state machines match. Everything a function can answer is one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// A person has to change something; trying again cannot help.
    Refused,
    /// The same event may succeed later.
    Transient,
    /// The work does not fit into one invocation.
    OutOfTime,
    /// Everything else: not retried, somebody has to look.
    Failed,
}

impl Name {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "Refused",
            Self::Transient => "Transient",
            Self::OutOfTime => "OutOfTime",
            Self::Failed => "Failed",
        }
    }
}

/// Joins an error and its sources with `: `, outermost first.
pub fn chain(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some libraries print their source themselves.
        if !message.ends_with(&cause_text) {
            message.push_str(": ");
            message.push_str(&cause_text);
        }
        source = cause.source();
    }
    message
}
