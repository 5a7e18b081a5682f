//! Which backups are due.

use lambda_runtime::Diagnostic;
use serde::{Deserialize, Serialize};
use shared::backup::{BackupId, BackupItem};

use crate::Function;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanBackups {}

#[derive(Clone, Debug, Serialize)]
pub struct PlannedBackups {
    pub backups: Vec<BackupItem>,
    pub already_verified: Vec<BackupId>,
}

pub async fn plan_backups(
    _function: &Function,
    _request: PlanBackups,
) -> Result<PlannedBackups, Diagnostic> {
    std::future::ready(()).await;
    Err(Diagnostic {
        error_type: "Failed".to_owned(),
        error_message: "plan_backups is not built in".to_owned(),
    })
}
