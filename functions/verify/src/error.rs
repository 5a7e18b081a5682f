//! Why there is no verdict, and what the operator does about it.

use lambda_runtime::Diagnostic;
use shared::backup::MismatchedBackupId;
use shared::error::Name;
use shared::secret::SecretError;
use shared::store::{StoreError, StoreErrorKind};

use crate::diagnostic;
use crate::pass::PassError;
use crate::progress::ProgressError;

/// No verdict was written. The same event may be sent again.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error("the event contradicts itself")]
    Item(#[source] MismatchedBackupId),
    /// Without an identity nothing can be decrypted, and nothing is known about the backup.
    #[error("read the age identities")]
    Identities(#[source] SecretError),
    #[error("read the manifest")]
    Storage(#[source] StoreError),
    #[error("go on with a verify of several invocations")]
    Progress(#[source] ProgressError),
    #[error("read the backup back")]
    Pass(#[source] PassError),
    #[error("write the verdict")]
    Verdict(#[source] StoreError),
    #[error("write the verdict as JSON")]
    Json(#[source] serde_json::Error),
}

impl From<VerifyError> for Diagnostic {
    fn from(error: VerifyError) -> Self {
        let name = match &error {
            VerifyError::Item(_) => Name::Refused,
            VerifyError::Identities(source) if source.is_transient() => Name::Transient,
            VerifyError::Identities(_) => Name::Refused,
            VerifyError::Storage(source)
            | VerifyError::Verdict(source)
            | VerifyError::Progress(ProgressError::Read(source) | ProgressError::Write(source)) => {
                of_store(source)
            }
            VerifyError::Progress(ProgressError::Malformed { .. }) => Name::Failed,
            VerifyError::Pass(PassError::OutOfTime { .. }) => Name::OutOfTime,
            VerifyError::Pass(PassError::Thread(_)) | VerifyError::Json(_) => Name::Failed,
        };
        diagnostic(name, &error)
    }
}

fn of_store(error: &StoreError) -> Name {
    match &error.kind {
        StoreErrorKind::Unavailable(_) => Name::Transient,
        // The function's role has to change.
        StoreErrorKind::Denied(_) => Name::Refused,
        StoreErrorKind::NotFound
        | StoreErrorKind::AlreadyExists
        | StoreErrorKind::Damaged(_)
        | StoreErrorKind::TooLarge { .. }
        | StoreErrorKind::Rejected(_) => Name::Failed,
    }
}
