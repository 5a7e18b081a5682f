//! Why there is no verdict, and what the operator does about it.

use lambda_runtime::Diagnostic;
use shared::backup::MismatchedBackupId;
use shared::config::LayerError;
use shared::error::Name;
use shared::secret::SecretError;
use shared::store::StoreError;

use crate::diagnostic;
use crate::pass::PassError;
use crate::progress::ProgressError;

/// No verdict was written. The same event may be sent again.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error("the event contradicts itself")]
    Item(#[source] MismatchedBackupId),
    #[error("read how long a backup is to be locked")]
    Policy(#[source] LayerError),
    /// Without an identity nothing can be decrypted, and nothing is known about the backup.
    #[error("read the age identities")]
    Identities(#[source] SecretError),
    #[error("read the manifest")]
    Storage(#[source] StoreError),
    #[error("go on with a verify of several invocations")]
    Progress(#[source] ProgressError),
    #[error("read the backup back")]
    Pass(#[source] PassError),
    #[error("every byte reads back, but the backup cannot be protected from deletion for longer")]
    Lock(#[source] StoreError),
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
            VerifyError::Policy(_) => Name::Refused,
            VerifyError::Storage(source)
            | VerifyError::Lock(source)
            | VerifyError::Verdict(source)
            | VerifyError::Progress(ProgressError::Read(source) | ProgressError::Write(source)) => {
                source.name()
            }
            VerifyError::Progress(ProgressError::Malformed { .. }) => Name::Failed,
            VerifyError::Pass(PassError::OutOfTime { .. }) => Name::OutOfTime,
            VerifyError::Pass(PassError::Thread(_)) | VerifyError::Json(_) => Name::Failed,
        };
        diagnostic(name, &error)
    }
}
