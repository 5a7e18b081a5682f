//! Which databases are late: the gauges behind the promise to notice within 15 minutes.
//!
//! A verified backup of any kind counts, if its scheduled time is not before the night that
//! it stands for: what is promised is a backup, not a way to it. That a nightly run failed is
//! told by the run itself.
//!
//! What is proven is looked at where the database has a drill policy: its newest proven data
//! may be as old as that allows. Of a database without one, nothing is ever proven, and
//! `proof_overdue_minutes` is null, since a number would say otherwise.
//!
//! A drill of a branch proves no backup, so its absence shows in none of these. Where the
//! database lives on Neon, it is looked at when the last one was held; how it ended, the drill
//! itself tells. No alarm may span the month between two of them, so this is measured, too.

use std::cmp::Reverse;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use lambda_runtime::Diagnostic;
use serde::{Deserialize, Serialize};
use shared::backup::{BackupId, DatabaseName};
use shared::config::{LayerError, read_policy};
use shared::error::Name;
use shared::history::{self, ProvenBackup};
use shared::policy::DatabasePolicy;
use shared::schedule::{Schedule, ScheduleError};
use shared::store::{Bucket, StoreError};
use shared::telemetry;

use crate::at_once::ask_each;
use crate::overdue::{Expectation, minutes_beyond};
use crate::{Config, Function, diagnostic};

const WORST_MAX: usize = 10;
/// A backup id further ahead than this is none that a run of ours made: it must not hide
/// that backups are missing.
const AHEAD_MAX: SignedDuration = SignedDuration::from_mins(5);

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watch {}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Watched {
    /// The ten worst.
    pub databases: Vec<WatchedDatabase>,
    pub databases_total: usize,
    pub overdue_total: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WatchedDatabase {
    pub database: DatabaseName,
    /// 0 when fine.
    pub overdue_minutes: u64,
    /// 0 when fine; null without a drill policy.
    pub proof_overdue_minutes: Option<u64>,
    /// 0 when fine; null where the database does not live on Neon.
    pub branch_drill_overdue_minutes: Option<u64>,
    pub last_proven: Option<BackupId>,
    pub last_branch_drill: Option<Timestamp>,
    pub last_committed: Option<BackupId>,
    pub last_verified: Option<BackupId>,
}

/// Nobody knows what is late. No gauge was written, and a missing gauge raises the alarm too.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    #[error("nothing can be watched")]
    Layer(#[source] LayerError),
    #[error(
        "there is nothing to watch: lifeboat.toml names no database; add a [[database]] block and deploy"
    )]
    NoDatabaseConfigured,
    #[error("NIGHTLY_SCHEDULE: correct the stack's parameter NightlySchedule")]
    Schedule(#[source] ScheduleError),
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

impl From<WatchError> for Diagnostic {
    fn from(error: WatchError) -> Self {
        let name = match &error {
            WatchError::Layer(_)
            | WatchError::NoDatabaseConfigured
            | WatchError::Schedule(_)
            | WatchError::TimeZone { .. } => Name::Refused,
            WatchError::Storage { source, .. } => source.name(),
        };
        diagnostic(name, &error)
    }
}

/// Writes the gauges and answers the worst. Changes nothing else.
pub async fn watch(
    function: &Function,
    _request: Watch,
    now: Timestamp,
) -> Result<Watched, WatchError> {
    let policy = read_policy(&function.config.layer_root).map_err(WatchError::Layer)?;
    if policy.databases.is_empty() {
        return Err(WatchError::NoDatabaseConfigured);
    }
    let expectation = expectation(&function.config)?;
    let found = ask_each(policy.databases, |database| {
        find(function.vault.clone(), database, now)
    });
    let found = found.await?.into_iter();
    let watched: Vec<WatchedDatabase> = found.map(|it| judge(it, &expectation, now)).collect();
    emit(&watched, now);
    Ok(answer(watched))
}

fn judge(found: Found, expectation: &Expectation, now: Timestamp) -> WatchedDatabase {
    let newest = found.last_verified.map(|id| id.scheduled_at());
    let late_after = SignedDuration::from_mins(found.policy.late_after_minutes.into());
    let drill = found.policy.drill.as_ref();
    let proven_within = drill.map(|it| SignedDuration::from_hours(it.proven_within_hours.into()));
    let proven = found.last_proven.map(ProvenBackup::data_as_of);
    let proven = proven.or(found.oldest);
    let neon = found.policy.neon.as_ref();
    let held_within =
        neon.map(|it| SignedDuration::from_hours(i64::from(it.drill.held_within_days) * 24));
    let held = found.last_branch_drill.or(found.oldest);
    WatchedDatabase {
        database: found.policy.name,
        overdue_minutes: expectation.overdue_minutes(newest, late_after, now),
        proof_overdue_minutes: proven_within.map(|within| minutes_beyond(proven, within, now)),
        branch_drill_overdue_minutes: held_within.map(|within| minutes_beyond(held, within, now)),
        last_proven: found.last_proven.map(|it| it.id),
        last_branch_drill: found.last_branch_drill,
        last_committed: found.last_committed,
        last_verified: found.last_verified,
    }
}

fn expectation(config: &Config) -> Result<Expectation, WatchError> {
    let schedule: Result<Schedule, ScheduleError> = config.nightly_schedule.parse();
    let zone = TimeZone::get(&config.time_zone).map_err(|source| WatchError::TimeZone {
        name: config.time_zone.clone(),
        source,
    })?;
    Ok(Expectation {
        schedule: schedule.map_err(WatchError::Schedule)?,
        zone,
    })
}

struct Found {
    policy: DatabasePolicy,
    last_committed: Option<BackupId>,
    last_verified: Option<BackupId>,
    last_proven: Option<ProvenBackup>,
    last_branch_drill: Option<Timestamp>,
    /// The scheduled time of the oldest backup: a database that never had one proven is below
    /// `proven` since then, and one of which no branch was ever drilled waits for it since then.
    oldest: Option<Timestamp>,
}

async fn find(vault: Bucket, policy: DatabasePolicy, now: Timestamp) -> Result<Found, WatchError> {
    let database = policy.name.clone();
    let found = look(&vault, policy, now).await;
    found.map_err(|source| WatchError::Storage { database, source })
}

async fn look(vault: &Bucket, policy: DatabasePolicy, now: Timestamp) -> Result<Found, StoreError> {
    let database = &policy.name;
    let mut ids = history::backups(vault, database).await?;
    ids.retain(|id| id.scheduled_at().duration_since(now) <= AHEAD_MAX);
    let oldest = ids.last().map(BackupId::scheduled_at);
    let verified = history::newest_verified(vault, database, ids.iter().copied()).await?;
    let last_verified = verified.map(|it| it.id);
    // Every id that is newer than the verified one may be committed; that one is.
    let newer = ids.into_iter().take_while(|id| Some(*id) != last_verified);
    let committed = history::newest_committed(vault, database, newer).await?;
    let last_proven = match policy.drill {
        Some(_) => history::newest_proven(vault, database).await?,
        None => None,
    };
    let last_branch_drill = match policy.neon {
        Some(_) => history::newest_branch_drill(vault, database, now + AHEAD_MAX).await?,
        None => None,
    };
    Ok(Found {
        last_committed: committed.or(last_verified),
        last_verified,
        last_proven,
        last_branch_drill,
        oldest,
        policy,
    })
}

fn emit(watched: &[WatchedDatabase], now: Timestamp) {
    let overdue = |it: &WatchedDatabase| Some(it.overdue_minutes);
    let proof_overdue = |it: &WatchedDatabase| it.proof_overdue_minutes;
    let drill_overdue = |it: &WatchedDatabase| it.branch_drill_overdue_minutes;
    for (name, gauges) in [
        ("BackupOverdueMinutes", gauges(watched, overdue)),
        ("ProofOverdueMinutes", gauges(watched, proof_overdue)),
        ("BranchDrillOverdueMinutes", gauges(watched, drill_overdue)),
    ] {
        for (minutes, database) in gauges {
            #[expect(clippy::cast_precision_loss, reason = "minutes stay far below 2^52")]
            telemetry::gauge(now, name, minutes as f64, database);
        }
    }
}

/// One for each database that is measured, and the largest for all, which is what the alarm
/// is on: also when none is measured, since a missing gauge means a dead watcher.
fn gauges(
    watched: &[WatchedDatabase],
    minutes: impl Fn(&WatchedDatabase) -> Option<u64>,
) -> Vec<(u64, Option<&str>)> {
    let each = watched.iter();
    let each = each.filter_map(|it| Some((minutes(it)?, Some(it.database.as_str()))));
    let worst = watched.iter().filter_map(&minutes).max();
    each.chain([(worst.unwrap_or_default(), None)]).collect()
}

fn answer(mut watched: Vec<WatchedDatabase>) -> Watched {
    let databases_total = watched.len();
    let lateness = |it: &WatchedDatabase| {
        let proof = it.proof_overdue_minutes.unwrap_or_default();
        let drill = it.branch_drill_overdue_minutes.unwrap_or_default();
        it.overdue_minutes.max(proof).max(drill)
    };
    let overdue_total = watched.iter().filter(|it| lateness(it) > 0).count();
    watched.sort_by_key(|it| Reverse((it.overdue_minutes, lateness(it))));
    watched.truncate(WORST_MAX);
    Watched {
        databases: watched,
        databases_total,
        overdue_total,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_late_database_is_not_hidden_by_the_others() {
        let watched = [("app", 0), ("shop", 45), ("blog", 30)].map(|(name, overdue_minutes)| {
            WatchedDatabase {
                database: name.parse().unwrap(),
                overdue_minutes,
                proof_overdue_minutes: (name != "blog").then_some(overdue_minutes * 2),
                branch_drill_overdue_minutes: (name == "app").then_some(7),
                last_proven: None,
                last_branch_drill: None,
                last_committed: None,
                last_verified: None,
            }
        });
        assert_eq!(
            gauges(&watched, |it| Some(it.overdue_minutes)),
            [
                (0, Some("app")),
                (45, Some("shop")),
                (30, Some("blog")),
                (45, None)
            ]
        );
        assert_eq!(
            gauges(&watched, |it| it.proof_overdue_minutes),
            [(0, Some("app")), (90, Some("shop")), (90, None)]
        );
        assert_eq!(
            gauges(&watched, |it| it.branch_drill_overdue_minutes),
            [(7, Some("app")), (7, None)]
        );
        assert_eq!(gauges(&[], |it| it.proof_overdue_minutes), [(0, None)]);
        let answer = answer(watched.to_vec());
        let names = answer.databases.iter().map(|it| it.database.as_str());
        assert_eq!(names.collect::<Vec<_>>(), ["shop", "blog", "app"]);
        assert_eq!(answer.overdue_total, 3, "a drill that is not held counts");
    }
}
