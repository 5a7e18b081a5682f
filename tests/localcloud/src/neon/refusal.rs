//! The API's answers that say no, with the documented statuses, codes and sentences.

use super::timeline::ForkError;
use crate::postgres::PostgresError;

#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) code: String,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(status: u16, code: &str, message: &str) -> Self {
        Self {
            status,
            code: code.to_owned(),
            message: message.to_owned(),
        }
    }

    pub(super) fn invalid(message: &str) -> Self {
        Self::new(400, "", message)
    }

    pub(super) fn missing(message: &str) -> Self {
        Self::new(404, "", message)
    }

    pub(super) fn forbidden(message: &str) -> Self {
        Self::new(403, "", message)
    }

    pub(super) fn unprocessable(message: &str) -> Self {
        Self::new(422, "", message)
    }

    /// `BRANCHES_LIMIT_EXCEEDED` reads "branches limit exceeded".
    pub(super) fn limit(code: &str) -> Self {
        Self::new(422, code, &code.to_lowercase().replace('_', " "))
    }

    pub(super) fn locked() -> Self {
        Self::new(
            423,
            "",
            "project already has running conflicting operations, scheduling of new ones is prohibited",
        )
    }

    pub(super) fn no_route() -> Self {
        Self::missing("this route does not exist")
    }
}

impl From<PostgresError> for Refusal {
    fn from(error: PostgresError) -> Self {
        Self::new(500, "", &format!("stand-in: {error}"))
    }
}

impl From<ForkError> for Refusal {
    fn from(error: ForkError) -> Self {
        match error {
            ForkError::Before | ForkError::After => Self::invalid(&format!(
                "the requested point in time is {error}: it is not in its history"
            )),
            ForkError::Postgres(error) => error.into(),
        }
    }
}
