//! Which databases are drilled, and which backup of each.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use lambda_runtime::Diagnostic;
use serde::{Deserialize, Serialize};
use shared::backup::{BackupId, DatabaseName, InvalidBackupId};
use shared::config::{LayerError, read_policy};
use shared::error::Name;
use shared::history;
use shared::policy::{DatabasePolicy, DrillPolicy, Policy};
use shared::store::{Bucket, StoreError};

use crate::item::{Item, Turn, branch_item, item};
use crate::request::DrillKind;
use crate::{Function, calendar, choice, diagnostic};

/// Clocks differ by less.
const AHEAD_MAX: SignedDuration = SignedDuration::from_mins(5);
/// With two drills and a branch each they stay far below the state machine's 256 KB.
const DATABASES_MAX: usize = 100;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choose {
    /// What the state machine was started with.
    pub request: DrillRequest,
    pub execution: String,
    /// When the state machine came to this step: its own clock, the same on every retry.
    pub started: Timestamp,
}

/// All optional, so that `{}` drills the latest backup of every database now.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrillRequest {
    #[serde(default)]
    pub kind: DrillKind,
    #[serde(default)]
    pub scheduled_time: Option<Timestamp>,
    #[serde(default)]
    pub databases: Option<Vec<String>>,
    /// Of the one database that is named; it need not be verified.
    #[serde(default)]
    pub backup_id: Option<String>,
    /// A person's name, for the evidence.
    #[serde(default)]
    pub started_by: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Chosen {
    pub drills: Vec<Item>,
    /// Databases without a drill policy: nothing of them is ever proven.
    pub not_drilled: Vec<DatabaseName>,
    /// Today is a holiday: to be asked again then.
    pub not_before: Option<Timestamp>,
}

/// Nothing was chosen, so nothing is drilled.
#[derive(Debug, thiserror::Error)]
pub enum ChooseError {
    #[error("nothing can be drilled")]
    Layer(#[source] LayerError),
    #[error(
        "there is nothing to drill: no database in lifeboat.toml has a [database.drill] block, so no backup is ever proven; add one, with a [[target]] to drill on, and deploy"
    )]
    NoDrillConfigured,
    #[error("`databases` is an empty list: name at least one, or leave it out for all")]
    NoDatabaseAsked,
    #[error("lifeboat.toml does not know {}: correct `databases`; it knows {}", unknown.join(", "), known.join(", "))]
    UnknownDatabases {
        unknown: Vec<String>,
        known: Vec<String>,
    },
    #[error(
        "{} cannot be drilled: lifeboat.toml has no [database.drill] block for it; add one and deploy",
        .0.join(", ")
    )]
    WithoutPolicy(Vec<String>),
    #[error(
        "{} cannot be drilled as a branch: lifeboat.toml has no [database.neon] block for it; leave `kind` out to drill a backup",
        .0.join(", ")
    )]
    NotOnNeon(Vec<String>),
    #[error("a drill of a branch takes no backup: leave out `backup_id`, or `kind`")]
    BackupOfBranch,
    #[error("backup_id {given:?}: name the one database that it is of in `databases`")]
    BackupWithoutDatabase { given: String },
    #[error("backup_id")]
    BackupId(#[source] InvalidBackupId),
    #[error(
        "{database} has no backup {id}: list the vault for those that it has, and correct backup_id"
    )]
    NoSuchBackup {
        database: DatabaseName,
        id: BackupId,
    },
    #[error("started_by is {0} characters long: write a name of 1 to 80 on one line")]
    StartedBy(usize),
    #[error("scheduled_time {0} is in the future: leave it out for a drill now")]
    InFuture(Timestamp),
    #[error(
        "{asked} databases are more than the {DATABASES_MAX} that one run can carry: start several runs, each with part of them in `databases`"
    )]
    TooMany { asked: usize },
    #[error("TIME_ZONE: {name:?} is no IANA time zone: correct the stack's parameter TimeZone")]
    TimeZone {
        name: String,
        #[source]
        source: jiff::Error,
    },
    #[error("look for what {database} has in the vault")]
    Storage {
        database: DatabaseName,
        #[source]
        source: StoreError,
    },
}

impl From<ChooseError> for Diagnostic {
    fn from(error: ChooseError) -> Self {
        let name = match &error {
            ChooseError::Storage { source, .. } => source.name(),
            ChooseError::Layer(_)
            | ChooseError::NoDrillConfigured
            | ChooseError::NoDatabaseAsked
            | ChooseError::UnknownDatabases { .. }
            | ChooseError::WithoutPolicy(_)
            | ChooseError::NotOnNeon(_)
            | ChooseError::BackupOfBranch
            | ChooseError::BackupWithoutDatabase { .. }
            | ChooseError::BackupId(_)
            | ChooseError::NoSuchBackup { .. }
            | ChooseError::StartedBy(_)
            | ChooseError::InFuture(_)
            | ChooseError::TooMany { .. }
            | ChooseError::TimeZone { .. } => Name::Refused,
        };
        diagnostic(name, &error)
    }
}

/// Changes nothing; the same request chooses the same, if nothing happened meanwhile.
pub async fn choose(function: &Function, asked: Choose) -> Result<Chosen, ChooseError> {
    let policy = read_policy(&function.config.layer_root).map_err(ChooseError::Layer)?;
    let due = decide(&policy, &asked)?;
    if let Some(not_before) = wait_for(function, &policy, &asked)? {
        return Ok(Chosen {
            drills: Vec::new(),
            not_drilled: due.not_drilled,
            not_before: Some(not_before),
        });
    }
    let mut drills = Vec::new();
    for (database, drill) in &due.databases {
        let turns = turns(&function.vault, database, due.backup_id, &asked).await?;
        let items = turns
            .into_iter()
            .map(|turn| item(&asked, database, drill, turn));
        drills.extend(items.map(|it| Item::Backup(Box::new(it))));
    }
    let branches = due.branches.iter();
    drills.extend(branches.map(|it| Item::Branch(branch_item(&asked, it))));
    tracing::info!(
        execution = asked.execution,
        drill_ids = ?drills.iter().map(Item::drill_id).collect::<Vec<_>>(),
        n_not_drilled = due.not_drilled.len(),
        "chose what to drill"
    );
    Ok(Chosen {
        drills,
        not_drilled: due.not_drilled,
        not_before: None,
    })
}

#[derive(Debug)]
struct Due<'a> {
    databases: Vec<(DatabaseName, &'a DrillPolicy)>,
    /// Those of which a branch is drilled.
    branches: Vec<DatabaseName>,
    backup_id: Option<BackupId>,
    not_drilled: Vec<DatabaseName>,
}

fn decide<'a>(policy: &'a Policy, asked: &Choose) -> Result<Due<'a>, ChooseError> {
    let request = &asked.request;
    if let Some(scheduled) = request.scheduled_time
        && scheduled > asked.started + AHEAD_MAX
    {
        return Err(ChooseError::InFuture(scheduled));
    }
    if let Some(by) = &request.started_by {
        let length = by.chars().count();
        if !(1..=80).contains(&length) || by.chars().any(char::is_control) {
            return Err(ChooseError::StartedBy(length));
        }
    }
    let names = asked_names(policy, request)?;
    let backup_id = match &request.backup_id {
        Some(given) if request.databases.is_none() || names.len() != 1 => {
            let given = given.clone();
            return Err(ChooseError::BackupWithoutDatabase { given });
        }
        Some(given) => Some(given.parse().map_err(ChooseError::BackupId)?),
        None => None,
    };
    let mut due = Due {
        databases: Vec::new(),
        branches: Vec::new(),
        backup_id,
        not_drilled: Vec::new(),
    };
    let kind = request.kind;
    let is_asked = |it: &&DatabasePolicy| names.contains(&it.name);
    for database in policy.databases.iter().filter(is_asked) {
        if database.neon.is_some() && matches!(kind, DrillKind::Monthly | DrillKind::Branch) {
            due.branches.push(database.name.clone());
        }
        if kind == DrillKind::Branch {
            continue;
        }
        match &database.drill {
            Some(drill) => due.databases.push((database.name.clone(), drill)),
            None => due.not_drilled.push(database.name.clone()),
        }
    }
    if kind == DrillKind::Branch {
        return check_branches(due, &names, request);
    }
    // In a monthly one, its branch is drilled at least.
    let without = due
        .not_drilled
        .iter()
        .filter(|it| !due.branches.contains(it));
    let without: Vec<String> = without.map(ToString::to_string).collect();
    if request.databases.is_some() && !without.is_empty() {
        return Err(ChooseError::WithoutPolicy(without));
    }
    match due.databases.len().max(due.branches.len()) {
        0 => Err(ChooseError::NoDrillConfigured),
        asked if asked > DATABASES_MAX => Err(ChooseError::TooMany { asked }),
        _ => Ok(due),
    }
}

fn check_branches<'a>(
    due: Due<'a>,
    names: &[DatabaseName],
    request: &DrillRequest,
) -> Result<Due<'a>, ChooseError> {
    let others = names.iter().filter(|it| !due.branches.contains(it));
    let others: Vec<String> = others.map(ToString::to_string).collect();
    let all_asked = request.databases.is_some();
    match due.branches.len() {
        _ if due.backup_id.is_some() => Err(ChooseError::BackupOfBranch),
        0 => Err(ChooseError::NotOnNeon(others)),
        _ if all_asked && !others.is_empty() => Err(ChooseError::NotOnNeon(others)),
        asked if asked > DATABASES_MAX => Err(ChooseError::TooMany { asked }),
        _ => Ok(due),
    }
}

fn asked_names(policy: &Policy, request: &DrillRequest) -> Result<Vec<DatabaseName>, ChooseError> {
    let known: Vec<DatabaseName> = policy.databases.iter().map(|it| it.name.clone()).collect();
    let Some(asked) = &request.databases else {
        return Ok(known);
    };
    if asked.is_empty() {
        return Err(ChooseError::NoDatabaseAsked);
    }
    let is_known = |name: &&String| known.iter().any(|it| it.as_str() == **name);
    let unknown: Vec<String> = asked.iter().filter(|it| !is_known(it)).cloned().collect();
    if unknown.is_empty() {
        let is_asked = |it: &DatabaseName| asked.iter().any(|name| name == it.as_str());
        return Ok(known.into_iter().filter(is_asked).collect());
    }
    let known = known.iter().map(ToString::to_string).collect();
    Err(ChooseError::UnknownDatabases { unknown, known })
}

/// Only a run that the schedule began waits; whoever starts one by hand means now.
fn wait_for(
    function: &Function,
    policy: &Policy,
    asked: &Choose,
) -> Result<Option<Timestamp>, ChooseError> {
    let is_scheduled = asked.request.scheduled_time.is_some();
    if !is_scheduled || asked.request.kind != DrillKind::Monthly {
        return Ok(None);
    }
    let name = &function.config.time_zone;
    let zone = TimeZone::get(name).map_err(|source| ChooseError::TimeZone {
        name: name.clone(),
        source,
    })?;
    // Asked again after the wait, it is the clock that counts.
    Ok(calendar::not_before(asked.started, &zone, &policy.holidays))
}

async fn turns(
    vault: &Bucket,
    database: &DatabaseName,
    backup_id: Option<BackupId>,
    asked: &Choose,
) -> Result<Vec<Turn>, ChooseError> {
    let failed = |source| ChooseError::Storage {
        database: database.clone(),
        source,
    };
    if let Some(id) = backup_id {
        let is_there = history::is_committed(vault, database, id).await;
        let database = database.clone();
        return match is_there.map_err(failed)? {
            true => Ok(vec![Ok((id, "asked for by its id".to_owned()))]),
            false => Err(ChooseError::NoSuchBackup { database, id }),
        };
    }
    let backups = history::backups(vault, database).await.map_err(failed)?;
    let latest = history::newest_verified(vault, database, backups.iter().copied()).await;
    let Some(latest) = latest.map_err(failed)? else {
        return Ok(vec![Err(format!(
            "{database} has no verified backup: nothing can be drilled, and nothing could be restored; see why the nightly backup fails"
        ))]);
    };
    let newest = "the latest verified backup".to_owned();
    if asked.request.kind != DrillKind::Monthly {
        return Ok(vec![Ok((latest.id, newest))]);
    }
    let mut others = backups;
    others.retain(|id| *id != latest.id);
    let turn = old_turn(vault, database, &others, asked.started).await;
    Ok(match turn.map_err(failed)? {
        Ok(old) => vec![Ok((latest.id, newest)), Ok(old)],
        Err(why_none) => vec![Ok((latest.id, format!("{newest}; {why_none}")))],
    })
}

/// The old backup whose turn it is, and why; or why there is none, which is no failure: the
/// first week of every database is so.
async fn old_turn(
    vault: &Bucket,
    database: &DatabaseName,
    backups: &[BackupId],
    now: Timestamp,
) -> Result<Result<(BackupId, String), &'static str>, StoreError> {
    let drilled = history::drills(vault, database).await?;
    let rotation = choice::rotation(backups, &drilled, now);
    if rotation.is_empty() {
        return Ok(Err("there is no other that is a week old or more"));
    }
    // Most of what was ever begun is gone by now, or was never verified.
    let judged = history::judged(vault, database).await?;
    for (id, last) in rotation.into_iter().filter(|(id, _)| judged.contains(id)) {
        let is_committed = history::is_committed(vault, database, id).await?;
        if is_committed && history::verified(vault, database, id).await?.is_some() {
            let reason = match last {
                None => "a week old or more, and never drilled before".to_owned(),
                Some(at) => format!(
                    "a week old or more, and last drilled the longest time ago ({})",
                    shared::words::time(at)
                ),
            };
            return Ok(Ok((id, reason)));
        }
    }
    Ok(Err(
        "of those that are a week old or more, none is still there and verified",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const POLICY: &str = "
        recipients = ['age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p',
                      'age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj']
        [[target]]
        name = 'standby'
        [[database]]
        name = 'app'
        provider = 'postgres'
        [database.drill]
        target = 'standby'
        [[database]]
        name = 'blog'
        provider = 'postgres'
    ";

    fn asked(request: Value) -> Choose {
        serde_json::from_value(
            json!({"request": request, "execution": "arn:e", "started": "2026-11-22T02:00:00Z"}),
        )
        .unwrap()
    }

    #[test]
    fn a_database_without_a_policy_is_told_apart_and_refused_when_asked_for() {
        let policy = Policy::parse(POLICY).unwrap();
        let due = decide(&policy, &asked(json!({}))).unwrap();
        assert_eq!(due.databases.len(), 1);
        assert_eq!(due.not_drilled[0].as_str(), "blog");
        for (request, expected) in [
            (json!({"databases": ["blog"]}), "blog cannot be drilled"),
            (json!({"databases": ["shop"]}), "does not know shop"),
            (json!({"databases": []}), "an empty list"),
            (
                json!({"backup_id": "20261121T010000Z-nightly"}),
                "name the one database",
            ),
            (
                json!({"databases": ["app"], "backup_id": "latest"}),
                "backup_id",
            ),
            (
                json!({"scheduled_time": "2026-11-22T02:06:00Z"}),
                "in the future",
            ),
            (json!({"started_by": ""}), "started_by is 0 characters"),
        ] {
            let error = decide(&policy, &asked(request.clone())).unwrap_err();
            assert!(error.to_string().contains(expected), "{request}: {error}");
        }
    }

    #[test]
    fn without_any_policy_it_is_said_that_nothing_is_ever_proven() {
        let text = POLICY.replace("[database.drill]\n        target = 'standby'", "");
        let policy = Policy::parse(&text).unwrap();
        let error = decide(&policy, &asked(json!({}))).unwrap_err().to_string();
        assert!(error.contains("no backup is ever proven"), "{error}");
    }

    #[test]
    fn branches_are_drilled_monthly_and_when_asked_for_and_only_where_there_are_any() {
        let neon = "[[database]]\nname = 'shop'\nprovider = 'neon'\n[database.neon]\nproject = 'p'\nrole = 'r'\ndatabase = 'd'\n";
        let policy = Policy::parse(&format!("{POLICY}\n{neon}")).unwrap();
        let check = |request: Value| {
            let due = decide(&policy, &asked(request)).map_err(|it| it.to_string())?;
            let databases = due.databases.iter().map(|it| it.0.to_string());
            let branches = due.branches.iter().map(|it| format!("branch of {it}"));
            Ok::<_, String>(databases.chain(branches).collect::<Vec<_>>())
        };
        for (request, expected) in [
            (json!({}), vec!["app"]),
            (json!({"kind": "weekly"}), vec!["app"]),
            (json!({"kind": "monthly"}), vec!["app", "branch of shop"]),
            (json!({"kind": "branch"}), vec!["branch of shop"]),
            (
                json!({"kind": "monthly", "databases": ["shop"]}),
                vec!["branch of shop"],
            ),
        ] {
            assert_eq!(check(request.clone()).unwrap(), expected, "{request}");
        }
        for (request, expected) in [
            (
                json!({"kind": "branch", "databases": ["app", "shop"]}),
                "app cannot be drilled as a branch",
            ),
            (
                json!({"kind": "branch", "databases": ["shop"], "backup_id": "20261121T010000Z-nightly"}),
                "takes no backup",
            ),
            (
                json!({"kind": "monthly", "databases": ["blog"]}),
                "blog cannot be drilled",
            ),
        ] {
            let error = check(request.clone()).unwrap_err();
            assert!(error.contains(expected), "{request}: {error}");
        }
    }
}
