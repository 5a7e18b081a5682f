//! What went wrong with Neon, by what the operator does about it. No key, no password and no
//! page of HTML gets into a message.

use crate::error::Name;

/// Longer words of the API are cut.
const MESSAGE_CHARS_MAX: usize = 300;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NeonError {
    #[error("{doing}: Neon does not answer as it should: {reason}")]
    Unavailable { doing: &'static str, reason: String },
    #[error(
        "{doing}: the project was busy with another change for {waited_seconds} s: see its operations in the console if this does not pass"
    )]
    Locked {
        doing: &'static str,
        waited_seconds: u64,
    },
    /// A change that may or may not have happened. Whoever tries again looks first.
    #[error(
        "{doing}: the answer was lost ({reason}), and nothing shows yet whether it was done; nothing was sent twice, and the next try looks first"
    )]
    Unknown { doing: &'static str, reason: String },
    /// Begun, and not done when the time was over. It goes on at Neon: whoever asks again finds
    /// it there, and waits on.
    #[error("{doing}: Neon has not done it within {waited_seconds} s (last seen: {last})")]
    NotDone {
        doing: &'static str,
        waited_seconds: u64,
        last: String,
    },
    #[error(
        "{doing}: Neon's operation {action} ended as {status}{}",
        said(.message)
    )]
    OperationFailed {
        doing: &'static str,
        action: String,
        status: String,
        message: String,
    },
    #[error(
        "Neon does not take the API key in lifeboat/neon/{project}: it was revoked or mistyped; make a project-scoped key and store it there"
    )]
    KeyRejected { project: String },
    #[error(
        "{doing}: the API key in lifeboat/neon/{project} may not do that{}; it needs a key of this project",
        said(.message)
    )]
    KeyTooNarrow {
        doing: &'static str,
        project: String,
        message: String,
    },
    #[error(
        "there is no Neon project {project}, or the key in lifeboat/neon/{project} is of another one: correct project in lifeboat.toml, or the key"
    )]
    NoProject { project: String },
    #[error("{doing}: {what} is not there (any more)")]
    Missing { doing: &'static str, what: String },
    /// Which limit, as Neon names it.
    #[error(
        "{doing}: a limit of the Neon plan is reached: {code}{}; {remedy}",
        said(.message)
    )]
    LimitReached {
        doing: &'static str,
        code: String,
        message: String,
        remedy: String,
    },
    #[error(
        "{doing}: {at} is not in the restore window{}; what is older can only come from a snapshot branch or a backup",
        said(.message)
    )]
    OutsideWindow {
        doing: &'static str,
        at: String,
        message: String,
    },
    /// A branch has the name that ours must have, and is not ours.
    #[error(
        "{doing}: the branch {name} ({id}) exists, and is not the one that Lifeboat makes under this name: {why}; rename or delete it, Lifeboat will not touch it"
    )]
    NameTaken {
        doing: &'static str,
        name: String,
        id: String,
        why: String,
    },
    #[error("the project {project} has no default branch: nothing says which one is production")]
    NoDefaultBranch { project: String },
    /// The API says no, and none of the above is why.
    #[error("{doing}: Neon refuses (HTTP {status}{}){}", coded(.code), said(.message))]
    Rejected {
        doing: &'static str,
        status: u16,
        code: String,
        message: String,
    },
    #[error("{doing}: {reason}")]
    Malformed {
        doing: &'static str,
        reason: &'static str,
    },
    #[error("this machine cannot make TLS connections: {0}")]
    Machine(String),
}

fn said(message: &str) -> String {
    if message.is_empty() {
        return String::new();
    }
    format!(" (it says: {message})")
}

fn coded(code: &str) -> String {
    if code.is_empty() {
        return String::new();
    }
    format!(", {code}")
}

/// One line, and not too long.
pub(super) fn shortened(message: &str) -> String {
    let plain = message
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c });
    plain.take(MESSAGE_CHARS_MAX).collect()
}

impl NeonError {
    /// What the state machine is told.
    pub fn name(&self) -> Name {
        match self {
            Self::Unavailable { .. }
            | Self::Locked { .. }
            | Self::Unknown { .. }
            | Self::NotDone { .. }
            | Self::OperationFailed { .. } => Name::Transient,
            Self::KeyRejected { .. }
            | Self::KeyTooNarrow { .. }
            | Self::NoProject { .. }
            | Self::LimitReached { .. }
            | Self::OutsideWindow { .. }
            | Self::NameTaken { .. }
            | Self::NoDefaultBranch { .. }
            | Self::Missing { .. } => Name::Refused,
            Self::Rejected { .. } | Self::Malformed { .. } | Self::Machine(_) => Name::Failed,
        }
    }

    /// Whether a change may have happened all the same, so that somebody has to look.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }

    /// Whether the API has said no to what this is the answer to, so that it was not done.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Locked { .. }
            | Self::KeyRejected { .. }
            | Self::KeyTooNarrow { .. }
            | Self::NoProject { .. }
            | Self::Missing { .. }
            | Self::LimitReached { .. }
            | Self::OutsideWindow { .. } => true,
            Self::Rejected { status, .. } => {
                // Those say nothing of what became of it, or that there is one already.
                (400..500).contains(status) && ![408, 409, 425, 499].contains(status)
            }
            Self::Unavailable { .. }
            | Self::Unknown { .. }
            | Self::NotDone { .. }
            | Self::OperationFailed { .. }
            | Self::NameTaken { .. }
            | Self::NoDefaultBranch { .. }
            | Self::Malformed { .. }
            | Self::Machine(_) => false,
        }
    }

    /// Whether the API says that there is one already.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, Self::Rejected { status: 409, .. })
    }
}

/// A refusal of the API: status, code and message as it gave them.
#[derive(Clone, Debug)]
pub(super) struct Refusal<'a> {
    pub(super) doing: &'static str,
    pub(super) project: &'a str,
    pub(super) status: u16,
    pub(super) code: String,
    pub(super) message: String,
}

impl From<Refusal<'_>> for NeonError {
    fn from(refusal: Refusal<'_>) -> Self {
        let Refusal {
            doing,
            project,
            status,
            code,
            message,
        } = refusal;
        let message = shortened(&message);
        let project = project.to_owned();
        let says = |words: &str| message.to_ascii_lowercase().contains(words);
        let is_limit = code.ends_with("_EXCEEDED")
            || code.contains("_LIMIT_")
            || (code.is_empty() && says("limit exceeded"));
        match status {
            401 => Self::KeyRejected { project },
            403 => Self::KeyTooNarrow {
                doing,
                project,
                message,
            },
            409 | 422 if is_limit => Self::LimitReached {
                doing,
                remedy: remedy(&code).to_owned(),
                code,
                message,
            },
            400 | 404 | 406 | 422 if says("history") || says("retention") => Self::OutsideWindow {
                doing,
                at: "the moment".to_owned(),
                message,
            },
            _ => Self::Rejected {
                doing,
                status,
                code,
                message,
            },
        }
    }
}

/// What to make room with, by the limit's own name.
fn remedy(code: &str) -> &'static str {
    match code {
        "BRANCHES_LIMIT_EXCEEDED" => {
            "delete branches that nobody needs; Lifeboat deletes its own superseded ones only"
        }
        "ROOT_BRANCHES_LIMIT_EXCEEDED" => {
            "delete root branches (backups left by restores) that nobody needs"
        }
        "BRANCHES_PROTECTED_LIMIT_EXCEEDED" => "unprotect a branch that is not production",
        "ACTIVE_ENDPOINTS_LIMIT_EXCEEDED" | "ENDPOINTS_LIMIT_EXCEEDED" => {
            "suspend or delete computes of branches that nobody uses"
        }
        "BRANCH_SIZE_LIMIT_EXCEEDED_THRESHOLD" => {
            "delete data, or take a plan with larger branches"
        }
        "COMPUTE_TIME_EXCEEDED" | "NON_PRIMARY_BRANCH_COMPUTE_TIME_EXCEEDED" => {
            "the compute time of this billing period is used up: raise the quota, or take a larger plan; until then dumps can read production's endpoint only (dump_from_branch = false)"
        }
        "DATA_TRANSFER_LIMIT_EXCEEDED" => {
            "the transfer of this billing period is used up, and dumps count: take a larger plan"
        }
        _ => "make room, or take a larger plan",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, code: &str, message: &str) -> NeonError {
        NeonError::from(Refusal {
            doing: "create a branch",
            project: "p-1",
            status,
            code: code.to_owned(),
            message: message.to_owned(),
        })
    }

    #[test]
    fn each_refusal_says_what_to_do() {
        for (status, code, message, name, expected) in [
            (
                401,
                "",
                "Unauthorized",
                Name::Refused,
                "revoked or mistyped",
            ),
            (
                403,
                "",
                "no",
                Name::Refused,
                "may not do that (it says: no)",
            ),
            (
                422,
                "BRANCHES_LIMIT_EXCEEDED",
                "branches limit exceeded",
                Name::Refused,
                "delete branches that nobody needs",
            ),
            (
                409,
                "ROOT_BRANCHES_LIMIT_EXCEEDED",
                "",
                Name::Refused,
                "delete root branches",
            ),
            (
                422,
                "COMPUTE_TIME_EXCEEDED",
                "",
                Name::Refused,
                "dump_from_branch = false",
            ),
            (
                422,
                "SOMETHING_NEW_LIMIT_EXCEEDED",
                "",
                Name::Refused,
                "make room, or take a larger plan",
            ),
            (
                400,
                "",
                "timestamp is outside of the history retention",
                Name::Refused,
                "is not in the restore window",
            ),
            (
                409,
                "",
                "branch already exists",
                Name::Failed,
                "refuses (HTTP 409) (it says: branch already exists)",
            ),
            (
                412,
                "",
                "suspend interval is too short for your plan",
                Name::Failed,
                "HTTP 412",
            ),
        ] {
            let error = refused(status, code, message);
            assert_eq!(error.name(), name, "{error}");
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn only_an_answer_that_says_no_is_a_refusal() {
        for (status, expected) in [
            (400, true),
            (422, true),
            (408, false),
            (409, false),
            (500, false),
        ] {
            assert_eq!(refused(status, "", "").is_refusal(), expected, "{status}");
        }
        let reason = String::new();
        let lost = NeonError::Unknown { doing: "x", reason };
        assert!(!lost.is_refusal());
    }

    #[test]
    fn what_takes_long_is_waited_for_again_and_says_what_it_is() {
        let error = NeonError::NotDone {
            doing: "restore production",
            waited_seconds: 300,
            last: "create_timeline running".to_owned(),
        };
        assert_eq!(error.name(), Name::Transient);
        assert_eq!(
            error.to_string(),
            "restore production: Neon has not done it within 300 s (last seen: create_timeline running)"
        );
    }

    #[test]
    fn what_the_api_says_stays_one_short_line() {
        let error = refused(400, "", &format!("a\nb{}", "x".repeat(1_000))).to_string();
        assert!(!error.contains('\n') && error.len() < 400, "{error}");
    }
}
