//! Which backups are due: from the configuration and what the vault holds.

use jiff::{SignedDuration, Timestamp};
use lambda_runtime::Diagnostic;
use serde::{Deserialize, Serialize};
use shared::backup::{BackupId, BackupItem, DatabaseName, Kind, PreviousBackup};
use shared::config::{LayerError, read_policy};
use shared::error::Name;
use shared::history;
use shared::policy::Policy;
use shared::store::{Bucket, StoreError};

use crate::at_once::ask_each;
use crate::{Function, diagnostic};

/// Clocks differ by less; more is a typing error that would make a backup id of the future.
const AHEAD_MAX: SignedDuration = SignedDuration::from_mins(5);
/// The plan is a list of work, not a report, so it may exceed a report's 32 KB. The state
/// machine's limit of 256 KB holds twice as many.
const DATABASES_MAX: usize = 400;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanBackups {
    /// What the state machine was started with.
    pub request: BackupRequest,
    #[serde(default)]
    pub execution: Option<String>,
    /// When the state machine came to the plan: its own clock, the same on every retry.
    pub started: Timestamp,
}

/// All optional, so that `{}` backs up every database now.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupRequest {
    #[serde(default)]
    pub kind: Option<Kind>,
    /// As written, so that what is wrong with it can be told; so are the databases.
    #[serde(default)]
    pub scheduled_time: Option<String>,
    #[serde(default)]
    pub databases: Option<Vec<String>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedBackups {
    /// What is left to do: dump and verify, or verify alone where it is committed.
    pub backups: Vec<BackupItem>,
    pub already_verified: Vec<BackupId>,
}

/// No plan, so no backup of any database.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error("nothing can be planned")]
    Layer(#[source] LayerError),
    #[error(
        "there is nothing to back up: lifeboat.toml names no database; add a [[database]] block and deploy"
    )]
    NoDatabaseConfigured,
    #[error(
        "there is nothing to back up: `databases` is an empty list; name at least one, or leave it out for all"
    )]
    NoDatabaseAsked,
    #[error(
        "lifeboat.toml does not know {}: correct `databases`, or add them; it knows {}",
        unknown.join(", "),
        known.join(", ")
    )]
    UnknownDatabases {
        unknown: Vec<String>,
        known: Vec<String>,
    },
    #[error("scheduled_time {given:?} is not a time: write one such as 2026-11-21T01:00:00Z")]
    MalformedTime {
        given: String,
        #[source]
        source: jiff::Error,
    },
    #[error(
        "scheduled_time {scheduled} is in the future (it is {now} now): leave it out for a backup now"
    )]
    InFuture {
        scheduled: Timestamp,
        now: Timestamp,
    },
    #[error(
        "{asked} databases are more than the {DATABASES_MAX} that one run can carry: start several runs, each with part of them in `databases`"
    )]
    TooMany { asked: usize },
    #[error("look for what {database} has in the vault")]
    Storage {
        database: DatabaseName,
        #[source]
        source: StoreError,
    },
}

impl From<PlanError> for Diagnostic {
    fn from(error: PlanError) -> Self {
        let name = match &error {
            PlanError::Layer(_)
            | PlanError::NoDatabaseConfigured
            | PlanError::NoDatabaseAsked
            | PlanError::UnknownDatabases { .. }
            | PlanError::MalformedTime { .. }
            | PlanError::InFuture { .. }
            | PlanError::TooMany { .. } => Name::Refused,
            PlanError::Storage { source, .. } => source.name(),
        };
        diagnostic(name, &error)
    }
}

/// Changes nothing; the same request gives the same plan, less what was done meanwhile.
pub async fn plan_backups(
    function: &Function,
    request: PlanBackups,
) -> Result<PlannedBackups, PlanError> {
    let policy = read_policy(&function.config.layer_root).map_err(PlanError::Layer)?;
    let due = decide(&policy, &request.request, request.started)?;
    let found = ask_each(due.databases, |database| {
        find(function.vault.clone(), database, due.id)
    });
    let plan = arrange(due.id, &policy, found.await?);
    tracing::info!(
        execution = request.execution,
        backup_id = %due.id,
        n_due = plan.backups.len(),
        n_already_verified = plan.already_verified.len(),
        "planned backups"
    );
    Ok(plan)
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Due {
    id: BackupId,
    /// In the configuration's order, each once.
    databases: Vec<DatabaseName>,
}

fn decide(policy: &Policy, request: &BackupRequest, now: Timestamp) -> Result<Due, PlanError> {
    if policy.databases.is_empty() {
        return Err(PlanError::NoDatabaseConfigured);
    }
    let configured = policy.databases.iter().map(|it| it.name.clone());
    let databases: Vec<DatabaseName> = match &request.databases {
        None => configured.collect(),
        Some(asked) if asked.is_empty() => return Err(PlanError::NoDatabaseAsked),
        Some(asked) => {
            let is_known =
                |name: &&String| policy.databases.iter().any(|it| it.name.as_str() == **name);
            let unknown: Vec<String> = asked.iter().filter(|it| !is_known(it)).cloned().collect();
            if !unknown.is_empty() {
                return Err(PlanError::UnknownDatabases {
                    unknown,
                    known: configured.map(String::from).collect(),
                });
            }
            let is_asked = |name: &DatabaseName| asked.iter().any(|it| it == name.as_str());
            configured.filter(is_asked).collect()
        }
    };
    if databases.len() > DATABASES_MAX {
        return Err(PlanError::TooMany {
            asked: databases.len(),
        });
    }
    let scheduled = match &request.scheduled_time {
        None => now,
        Some(given) => given.parse().map_err(|source| PlanError::MalformedTime {
            given: given.clone(),
            source,
        })?,
    };
    if scheduled.duration_since(now) > AHEAD_MAX {
        return Err(PlanError::InFuture { scheduled, now });
    }
    let kind = request.kind.unwrap_or(Kind::OnDemand);
    Ok(Due {
        id: BackupId::new(scheduled, kind),
        databases,
    })
}

/// What the vault has of one database.
#[derive(Clone, Debug)]
struct Found {
    database: DatabaseName,
    committed: bool,
    verified: bool,
    previous: Option<PreviousBackup>,
}

async fn find(vault: Bucket, database: DatabaseName, id: BackupId) -> Result<Found, PlanError> {
    let found = find_in(&vault, &database, id).await;
    found.map_err(|source| PlanError::Storage { database, source })
}

async fn find_in(
    vault: &Bucket,
    database: &DatabaseName,
    id: BackupId,
) -> Result<Found, StoreError> {
    let begun = history::backups(vault, database).await?;
    let committed = begun.contains(&id) && history::is_committed(vault, database, id).await?;
    let verified = committed && history::verified(vault, database, id).await?.is_some();
    let mut found = Found {
        database: database.clone(),
        committed,
        verified,
        previous: None,
    };
    if !verified {
        let is_before = |it: &BackupId| it.kind() == id.kind() && *it < id;
        let before = begun.into_iter().filter(is_before);
        if let Some(backup_id) = history::newest_committed(vault, database, before).await? {
            found.previous = Some(PreviousBackup {
                backup_id,
                manifest_sha256: history::manifest_sha256(vault, database, backup_id).await?,
            });
        }
    }
    Ok(found)
}

fn arrange(id: BackupId, policy: &Policy, found: Vec<Found>) -> PlannedBackups {
    let reads_branch = |database: &DatabaseName| {
        let neon = policy.database(database).and_then(|it| it.neon.as_ref());
        neon.is_some_and(|it| it.dump_from_branch)
    };
    let (verified, due): (Vec<Found>, Vec<Found>) = found.into_iter().partition(|it| it.verified);
    let item = |found: Found| BackupItem {
        // What is committed is only read back.
        from_branch: !found.committed && reads_branch(&found.database),
        source_branch: None,
        database: found.database,
        kind: id.kind(),
        scheduled_time: id.scheduled_at(),
        backup_id: Some(id),
        committed: found.committed,
        previous: found.previous,
    };
    PlannedBackups {
        backups: due.into_iter().map(item).collect(),
        already_verified: verified.iter().map(|_| id).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: &str = "2026-11-21T01:00:07.5Z";

    fn policy(names: &[&str]) -> Policy {
        let databases: Vec<String> = names
            .iter()
            .map(|name| format!("[[database]]\nname = \"{name}\"\nprovider = \"postgres\"\n"))
            .collect();
        Policy::parse(&format!(
            "recipients = [\"age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p\",
                \"age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj\"]\n{}",
            databases.concat()
        ))
        .unwrap()
    }

    /// The id and the databases, or the error's name and text.
    fn check(configured: &[&str], request: serde_json::Value, expected: &str) {
        let parsed: BackupRequest = serde_json::from_value(request.clone()).unwrap();
        let decided = match decide(&policy(configured), &parsed, NOW.parse().unwrap()) {
            Ok(due) => {
                let names: Vec<&str> = due.databases.iter().map(DatabaseName::as_str).collect();
                format!("{} {}", due.id, names.join(" "))
            }
            Err(error) => {
                let diagnostic = Diagnostic::from(error);
                format!("{}: {}", diagnostic.error_type, diagnostic.error_message)
            }
        };
        assert!(decided.contains(expected), "{request}\n{decided}");
    }

    #[test]
    fn an_empty_request_is_every_database_now() {
        check(
            &["app", "shop"],
            json!({}),
            "20261121T010007Z-on-demand app shop",
        );
    }

    #[test]
    fn the_schedule_names_the_backup_and_not_the_clock() {
        check(
            &["app"],
            json!({"kind": "nightly", "scheduled_time": "2026-11-21T01:00:00Z"}),
            "20261121T010000Z-nightly app",
        );
    }

    #[test]
    fn each_database_asked_for_is_planned_once() {
        check(
            &["app", "blog", "shop"],
            json!({"kind": "pre-deploy", "databases": ["shop", "app", "shop"]}),
            "Z-pre-deploy app shop",
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_what_to_do() {
        for (configured, request, expected) in [
            (
                vec![],
                json!({}),
                "Refused: there is nothing to back up: lifeboat.toml names no database; add a",
            ),
            (
                vec!["app"],
                json!({"databases": []}),
                "Refused: there is nothing to back up: `databases` is an empty",
            ),
            (
                vec!["app", "shop"],
                json!({"databases": ["shpo", "app", "x/y"]}),
                "Refused: lifeboat.toml does not know shpo, x/y: correct `databases`, or add them; it knows app, shop",
            ),
            (
                vec!["app"],
                json!({"scheduled_time": "tonight"}),
                "Refused: scheduled_time \"tonight\" is not a time: write one such as",
            ),
            (
                vec!["app"],
                json!({"scheduled_time": "2026-11-21T01:05:08Z"}),
                "Refused: scheduled_time 2026-11-21T01:05:08Z is in the future (it is 2026-11-21T01:00:07.5Z now)",
            ),
        ] {
            check(&configured, request, expected);
        }
    }

    #[test]
    fn a_clock_that_is_a_little_ahead_is_no_future() {
        check(
            &["app"],
            json!({"scheduled_time": "2026-11-21T01:05:07Z"}),
            "20261121T010507Z-on-demand app",
        );
    }

    #[test]
    fn a_malformed_request_names_what_is_wrong() {
        for (request, expected) in [
            (json!({"kind": "weekly"}), "unknown variant `weekly`"),
            (json!({"database": "app"}), "unknown field `database`"),
        ] {
            let error = serde_json::from_value::<BackupRequest>(request).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
