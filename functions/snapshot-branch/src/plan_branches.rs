//! Which databases have branches, and which snapshot branches are due.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Serialize;
use shared::backup::DatabaseName;
use shared::config::read_policy;
use shared::policy::{Policy, Recurring};

use crate::Function;
use crate::calendar::due;
use crate::error::BranchesError;
use crate::request::{BranchesRequest, PlanBranches};

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedBranches {
    pub databases: Vec<DueBranches>,
    /// Databases of other providers, or without a `[database.neon]`.
    pub without_branches: usize,
}

/// One database, to be rotated, given its snapshot branches, and inspected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DueBranches {
    pub database: DatabaseName,
    /// In the stack's time zone, on the scheduled time: names the branches.
    pub date: Date,
    pub create: Vec<Recurring>,
    /// The same on every retry.
    pub at: Timestamp,
}

/// Asks nobody and changes nothing.
pub fn plan(function: &Function, asked: &PlanBranches) -> Result<PlannedBranches, BranchesError> {
    let policy = read_policy(&function.config.layer_root).map_err(BranchesError::Layer)?;
    let name = &function.config.time_zone;
    let zone = TimeZone::get(name).map_err(|source| BranchesError::TimeZone {
        name: name.clone(),
        source,
    })?;
    let plan = decide(&policy, &asked.request, asked.started, &zone)?;
    tracing::info!(
        execution = asked.execution,
        databases = plan.databases.len(),
        "planned branches"
    );
    Ok(plan)
}

fn decide(
    policy: &Policy,
    request: &BranchesRequest,
    started: Timestamp,
    zone: &TimeZone,
) -> Result<PlannedBranches, BranchesError> {
    let known = |name: &String| policy.databases.iter().any(|it| it.name.as_str() == name);
    let asked = request.databases.as_deref();
    let unknown = asked.unwrap_or_default().iter().filter(|it| !known(it));
    let unknown: Vec<String> = unknown.cloned().collect();
    if !unknown.is_empty() {
        return Err(BranchesError::UnknownDatabases(unknown));
    }
    let at = match &request.scheduled_time {
        None => started,
        Some(given) => given
            .parse()
            .map_err(|source| BranchesError::MalformedTime {
                given: given.clone(),
                source,
            })?,
    };
    let date = at.to_zoned(zone.clone()).date();
    let is_asked =
        |name: &DatabaseName| asked.is_none_or(|names| names.iter().any(|it| it == name.as_str()));
    let mut plan = PlannedBranches {
        databases: Vec::new(),
        without_branches: 0,
    };
    for database in policy.databases.iter().filter(|it| is_asked(&it.name)) {
        match &database.neon {
            None => plan.without_branches += 1,
            Some(neon) => plan.databases.push(DueBranches {
                database: database.name.clone(),
                date,
                create: due(&neon.create, date),
                at,
            }),
        }
    }
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn policy() -> Policy {
        let neon = |name: &str, more: &str| {
            format!(
                "[[database]]\nname = '{name}'\nprovider = 'neon'\n[database.neon]\nproject = 'p-{name}'\nrole = 'r'\ndatabase = 'd'\n{more}\n"
            )
        };
        Policy::parse(&format!(
            "recipients = ['age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p', \
             'age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj']\n{}{}\
             [[database]]\nname = 'old'\nprovider = 'postgres'\n",
            neon("app", ""),
            neon("shop", "create = []"),
        ))
        .unwrap()
    }

    fn check(request: serde_json::Value, zone: &str) -> Result<String, BranchesError> {
        let request: BranchesRequest = serde_json::from_value(request).unwrap();
        let started = "2026-11-21T23:30:00Z".parse().unwrap();
        let plan = decide(&policy(), &request, started, &TimeZone::get(zone).unwrap())?;
        let lines = plan
            .databases
            .iter()
            .map(|it| format!("{} {} {:?}", it.database, it.date, it.create));
        Ok(lines.collect::<Vec<_>>().join("; "))
    }

    #[test]
    fn the_date_is_the_scheduled_times_in_the_stacks_time_zone() {
        let utc = check(json!({}), "UTC").unwrap();
        assert_eq!(utc, "app 2026-11-21 [Daily]; shop 2026-11-21 []");
        let berlin = check(json!({"databases": ["app"]}), "Europe/Berlin").unwrap();
        assert_eq!(berlin, "app 2026-11-22 [Daily, Weekly]");
        let scheduled = json!({"databases": ["app"], "scheduled_time": "2026-11-20T02:00:00Z"});
        assert_eq!(check(scheduled, "UTC").unwrap(), "app 2026-11-20 [Daily]");
    }

    #[test]
    fn a_database_without_branches_is_left_out_and_an_unknown_one_refused() {
        assert_eq!(check(json!({"databases": ["old"]}), "UTC").unwrap(), "");
        let error = check(json!({"databases": ["app", "ap"]}), "UTC").unwrap_err();
        assert!(error.to_string().contains("does not know ap"), "{error}");
    }
}
