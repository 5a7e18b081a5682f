//! Whether the project is as its policy wants it: each deviation with its remedy. Pure.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use shared::backup::DatabaseName;
use shared::neon::ownership::{Class, Mark};
use shared::neon::plan::Plan;
use shared::neon::{Branch, Branches, ProjectFacts};
use shared::policy::{NeonPolicy, Recurring};

/// From here on somebody is told.
const NEAR_PERCENT: u64 = 80;
/// A day, and the time that a late schedule may take.
const DAILY_MAX: SignedDuration = SignedDuration::from_hours(26);
const WEEKLY_MAX: SignedDuration = SignedDuration::from_hours(8 * 24);
/// A deployment that nobody reports as done keeps its branch for ever.
const UNREPORTED_MAX: SignedDuration = SignedDuration::from_hours(30 * 24);
const DAY_SECONDS: u64 = 86_400;

/// All that was seen.
#[derive(Clone, Debug)]
pub struct Seen<'a> {
    pub now: Timestamp,
    pub database: &'a DatabaseName,
    pub policy: &'a NeonPolicy,
    pub facts: &'a ProjectFacts,
    /// None: one that is not known.
    pub plan: Option<Plan>,
    pub branches: &'a Branches,
    pub branches_max: Option<u64>,
    /// None: the API does not say.
    pub key_opens_others: Option<bool>,
    /// Where the policy asks for the proof.
    pub freshness: Option<Freshness>,
}

/// Whether the state of 15 minutes ago could be had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Freshness {
    Proven { of: Timestamp },
    Failed { of: Timestamp, why: String },
}

/// Stable: messages, documents and people refer to these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    WindowTooShort,
    NotFresh,
    DailyMissing,
    WeeklyMissing,
    NoProduction,
    NotProtected,
    BranchesNearLimit,
    RootsNearLimit,
    StorageNearLimit,
    QuotaNearLimit,
    TransferNearLimit,
    KeyOpensOthers,
    DeploymentNotReported,
}

impl Code {
    /// Whether it cannot wait until morning: what is promised of restoring does not hold.
    pub fn wakes(self) -> bool {
        match self {
            Self::WindowTooShort | Self::NotFresh | Self::DailyMissing | Self::NoProduction => true,
            Self::WeeklyMissing
            | Self::NotProtected
            | Self::BranchesNearLimit
            | Self::RootsNearLimit
            | Self::StorageNearLimit
            | Self::QuotaNearLimit
            | Self::TransferNearLimit
            | Self::KeyOpensOthers
            | Self::DeploymentNotReported => false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub code: Code,
    /// What is so, and what to do.
    pub message: String,
}

/// The worst first.
pub fn judge(seen: &Seen<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = [
        window(seen),
        freshness(seen),
        production(seen),
        branch_count(seen),
        root_count(seen),
        key_scope(seen),
    ]
    .into_iter()
    .flatten()
    .collect();
    findings.extend(missing(seen));
    findings.extend(consumption(seen));
    findings.extend(unreported(seen));
    findings.sort_by_key(|it| it.code);
    findings
}

fn finding(code: Code, message: String) -> Option<Finding> {
    Some(Finding { code, message })
}

fn days(seconds: u64) -> String {
    if seconds.is_multiple_of(DAY_SECONDS) && seconds > 0 {
        format!("{} days", seconds / DAY_SECONDS)
    } else {
        format!("{} hours", seconds / 3_600)
    }
}

fn window(seen: &Seen<'_>) -> Option<Finding> {
    let target = u64::from(seen.policy.restore_window_days) * DAY_SECONDS;
    let is = seen.facts.history_retention_seconds.unwrap_or_default();
    if is >= target {
        return None;
    }
    let remedy = match seen.plan {
        Some(plan) if plan.window_seconds_max < target => format!(
            "the {} plan allows {} at most: take a larger plan, or lower restore_window_days to what is true",
            plan.name,
            days(plan.window_seconds_max)
        ),
        Some(_) | None => {
            "lengthen it in the project's settings, or write set_restore_window = true".to_owned()
        }
    };
    finding(
        Code::WindowTooShort,
        format!(
            "any moment of the last {} can be restored, and the policy wants {}; {remedy}",
            days(is),
            days(target)
        ),
    )
}

fn freshness(seen: &Seen<'_>) -> Option<Finding> {
    match seen.freshness.as_ref()? {
        Freshness::Proven { .. } => None,
        Freshness::Failed { of, why } => finding(
            Code::NotFresh,
            format!(
                "the state of {of}, 15 minutes ago, could not be had as a branch: {why}; see whether Neon is well, and restore from a snapshot branch or a backup meanwhile"
            ),
        ),
    }
}

fn production(seen: &Seen<'_>) -> Option<Finding> {
    let Some(production) = seen.branches.default_branch() else {
        return finding(
            Code::NoProduction,
            "no branch is the default one: nothing says which is production; set one in the console".to_owned(),
        );
    };
    let can_protect = seen.plan.is_none_or(|it| it.protected_max > 0);
    if production.protected || !can_protect {
        return None;
    }
    finding(
        Code::NotProtected,
        format!(
            "the production branch {} is not protected: anybody with access to the project can delete or reset it; protect it in the branch's settings",
            production.name
        ),
    )
}

fn is_near(used: u64, limit: u64) -> bool {
    limit > 0 && used.saturating_mul(100) >= limit.saturating_mul(NEAR_PERCENT)
}

fn branch_count(seen: &Seen<'_>) -> Option<Finding> {
    let (count, limit) = (seen.branches.0.len() as u64, seen.branches_max?);
    if !is_near(count, limit) {
        return None;
    }
    let own = seen.branches.0.iter().filter(|it| Mark::of(it).is_some());
    let own = own.count();
    finding(
        Code::BranchesNearLimit,
        format!(
            "{count} of {limit} branches are used, {own} of them Lifeboat's, which are rotated; delete others that nobody needs, or the next dump has no branch to read"
        ),
    )
}

fn root_count(seen: &Seen<'_>) -> Option<Finding> {
    let (count, limit) = (seen.branches.roots() as u64, seen.plan?.roots_max);
    if !is_near(count, limit) {
        return None;
    }
    finding(
        Code::RootsNearLimit,
        format!(
            "{count} of {limit} root branches are used, and an instant restore makes another one: delete those that earlier restores left"
        ),
    )
}

fn key_scope(seen: &Seen<'_>) -> Option<Finding> {
    if seen.key_opens_others != Some(true) {
        return None;
    }
    let project = &seen.policy.project;
    finding(
        Code::KeyOpensOthers,
        format!(
            "the API key in lifeboat/neon/{project} opens other projects as well: make a project-scoped key, store it there, and revoke this one"
        ),
    )
}

/// The newest snapshot of each class that the policy asks for.
fn missing(seen: &Seen<'_>) -> Vec<Finding> {
    let classes = [
        (
            Recurring::Daily,
            Class::Daily,
            Code::DailyMissing,
            DAILY_MAX,
        ),
        (
            Recurring::Weekly,
            Class::Weekly,
            Code::WeeklyMissing,
            WEEKLY_MAX,
        ),
    ];
    let mut findings = Vec::new();
    for (wanted, class, code, age_max) in classes {
        if !seen.policy.create.contains(&wanted) {
            continue;
        }
        let newest = own(seen, class).map(|it| it.created_at).max();
        let is_young = newest.is_some_and(|it| seen.now.duration_since(it) <= age_max);
        // The first Sunday is still to come.
        let is_new = class == Class::Weekly && newest.is_none() && !has_been_here(seen);
        if is_young || is_new {
            continue;
        }
        let since = newest.map_or_else(
            || format!("there is no {class} branch"),
            |it| format!("the newest {class} branch is of {it}"),
        );
        findings.extend(finding(
            code,
            format!("{since}: see why the branches run has not made one, and start it by hand"),
        ));
    }
    findings
}

fn own<'a>(seen: &Seen<'a>, class: Class) -> impl Iterator<Item = &'a Branch> {
    let database = seen.database;
    seen.branches.0.iter().filter(move |it| {
        let mark = Mark::of(it);
        it.is_usable() && mark.is_some_and(|it| it.class == class && it.database == *database)
    })
}

/// Whether Lifeboat has made branches here for long enough to have met a Sunday.
fn has_been_here(seen: &Seen<'_>) -> bool {
    let oldest = own(seen, Class::Daily).map(|it| it.created_at).min();
    oldest.is_some_and(|it| seen.now.duration_since(it) > WEEKLY_MAX)
}

/// What is used up, of how much; 0 where there is no limit.
struct Usage {
    code: Code,
    what: &'static str,
    used: u64,
    limit: u64,
}

fn consumption(seen: &Seen<'_>) -> Vec<Finding> {
    let near = usages(seen).into_iter();
    let near = near.filter(|it| is_near(it.used, it.limit));
    near.filter_map(|Usage { code, what, used, limit }| {
        let percent = used.saturating_mul(100) / limit;
        finding(
            code,
            format!("{used} of {limit} {what} are used, {percent} %: beyond it, Neon stops or charges; raise the limit, take a larger plan, or use less"),
        )
    })
    .collect()
}

fn usages(seen: &Seen<'_>) -> Vec<Usage> {
    let facts = seen.facts;
    let (used, quota) = (facts.used, facts.settings.quota.unwrap_or_default());
    let production = seen.branches.default_branch();
    let largest = production
        .and_then(|it| it.logical_size)
        .unwrap_or_default();
    let stored = facts.synthetic_storage_size.unwrap_or(largest);
    let plan_storage = seen.plan.and_then(|it| it.storage_bytes);
    let plan_transfer = seen.plan.map(|it| it.transfer_bytes);
    let usage = |code, what, used, limit: Option<u64>| Usage {
        code,
        what,
        used,
        limit: limit.unwrap_or_default(),
    };
    let of_quota = |what, used, limit| usage(Code::QuotaNearLimit, what, used, Some(limit));
    vec![
        usage(
            Code::StorageNearLimit,
            "bytes of production's largest possible size",
            largest,
            facts.branch_logical_size_limit_bytes,
        ),
        usage(
            Code::StorageNearLimit,
            "bytes of the plan's storage",
            stored,
            plan_storage,
        ),
        usage(
            Code::TransferNearLimit,
            "bytes of the transfer that the plan includes (dumps count)",
            used.data_transfer_bytes,
            plan_transfer,
        ),
        of_quota(
            "seconds of the quota of compute time",
            used.compute_time_seconds,
            quota.compute_time_seconds,
        ),
        of_quota(
            "seconds of the quota of active time",
            used.active_time_seconds,
            quota.active_time_seconds,
        ),
        of_quota(
            "bytes of the quota of written data",
            used.written_data_bytes,
            quota.written_data_bytes,
        ),
        of_quota(
            "bytes of the quota of transfer",
            used.data_transfer_bytes,
            quota.data_transfer_bytes,
        ),
        of_quota(
            "bytes of the quota of a branch's size",
            largest,
            quota.logical_size_bytes,
        ),
    ]
}

fn unreported(seen: &Seen<'_>) -> Vec<Finding> {
    let is_old = |it: &&Branch| {
        it.expires_at.is_none() && seen.now.duration_since(it.created_at) > UNREPORTED_MAX
    };
    let old = own(seen, Class::PreDeploy).filter(is_old);
    old.filter_map(|it| {
        finding(
            Code::DeploymentNotReported,
            format!(
                "{} is of {} and its deployment was never reported as done, so it is kept: report it, or delete the branch",
                it.name, it.created_at
            ),
        )
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use shared::neon::plan::plan;
    use shared::neon::{Consumption, Owner, Quota, Settings};

    struct World {
        policy: NeonPolicy,
        facts: ProjectFacts,
        branches: Branches,
        opens_others: Option<bool>,
        freshness: Option<Freshness>,
    }

    fn branch(id: &str, class: Option<(Class, &str)>, created_at: &str) -> Branch {
        let annotation = class.map(|(class, key)| {
            [
                ("managed-by", "lifeboat"),
                ("class", class.as_str()),
                ("database", "app"),
                ("key", key),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
        });
        let app = "app".parse().unwrap();
        let name = class.map(|(class, key)| Mark::new(class, &app, key).branch_name());
        Branch {
            id: id.to_owned(),
            name: name.unwrap_or_else(|| id.to_owned()),
            parent_id: class.map(|_| "main".to_owned()),
            parent_lsn: None,
            parent_timestamp: None,
            current_state: "ready".to_owned(),
            default: id == "main",
            protected: id == "main",
            created_at: created_at.parse().unwrap(),
            expires_at: None,
            logical_size: Some(1_000),
            annotation: annotation.map(BTreeMap::from).unwrap_or_default(),
        }
    }

    impl World {
        /// One in which everything is as it should be.
        fn well() -> Self {
            let policy = "project = 'p-1'\nrole = 'r'\ndatabase = 'd'";
            Self {
                policy: toml_of(policy),
                facts: ProjectFacts {
                    id: "p-1".to_owned(),
                    history_retention_seconds: Some(7 * DAY_SECONDS),
                    owner: Owner {
                        branches_limit: Some(5_000),
                        subscription_type: "launch_v3".to_owned(),
                    },
                    ..ProjectFacts::default()
                },
                branches: Branches(vec![
                    branch("main", None, "2025-01-01T00:00:00Z"),
                    branch(
                        "d",
                        Some((Class::Daily, "2026-11-21")),
                        "2026-11-21T02:00:10Z",
                    ),
                    branch(
                        "w",
                        Some((Class::Weekly, "2026-11-15")),
                        "2026-11-15T02:00:10Z",
                    ),
                ]),
                opens_others: Some(false),
                freshness: None,
            }
        }

        fn judge(&self) -> Vec<Finding> {
            judge(&Seen {
                now: "2026-11-21T02:05:00Z".parse().unwrap(),
                database: &"app".parse().unwrap(),
                policy: &self.policy,
                facts: &self.facts,
                plan: plan(&self.facts.owner.subscription_type),
                branches: &self.branches,
                branches_max: Some(5_000),
                key_opens_others: self.opens_others,
                freshness: self.freshness.clone(),
            })
        }

        fn check(&self, expected: &[(Code, &str)]) {
            let findings = self.judge();
            assert_eq!(findings.len(), expected.len(), "{findings:#?}");
            for (finding, (code, words)) in findings.iter().zip(expected) {
                assert_eq!(finding.code, *code);
                assert!(finding.message.contains(words), "{}", finding.message);
            }
        }
    }

    fn toml_of(text: &str) -> NeonPolicy {
        let table = format!(
            "recipients = ['age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p', \
             'age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj']\n\
             [[database]]\nname = 'app'\nprovider = 'neon'\n[database.neon]\n{text}"
        );
        let policy = shared::policy::Policy::parse(&table).unwrap();
        policy.databases[0].neon.clone().unwrap()
    }

    #[test]
    fn a_project_as_it_should_be_has_no_findings() {
        World::well().check(&[]);
    }

    #[test]
    fn a_window_that_is_too_short_names_value_plan_and_remedy() {
        let mut world = World::well();
        world.facts.history_retention_seconds = Some(DAY_SECONDS);
        world.check(&[(
            Code::WindowTooShort,
            "the last 1 days can be restored, and the policy wants 7 days; lengthen it",
        )]);
        world.policy.restore_window_days = 30;
        world.check(&[(
            Code::WindowTooShort,
            "the Launch plan allows 7 days at most",
        )]);
        world.policy.restore_window_days = 0;
        world.check(&[]);
    }

    #[test]
    fn production_is_protected_where_the_plan_can() {
        let mut world = World::well();
        world.branches.0[0].protected = false;
        world.check(&[(Code::NotProtected, "main is not protected")]);
        world.facts.owner.subscription_type = "free_v3".to_owned();
        world.policy.restore_window_days = 0;
        world.check(&[]);
        world.branches.0[0].default = false;
        world.check(&[(Code::NoProduction, "set one in the console")]);
    }

    #[test]
    fn a_snapshot_that_was_not_made_is_missed() {
        let mut world = World::well();
        world.branches.0[1].created_at = "2026-11-19T23:00:00Z".parse().unwrap();
        world.check(&[(
            Code::DailyMissing,
            "the newest daily branch is of 2026-11-19",
        )]);
        world.branches.0.truncate(1);
        world.check(&[(Code::DailyMissing, "there is no daily branch")]);
        world.policy.create.clear();
        world.check(&[]);
    }

    #[test]
    fn a_weekly_snapshot_is_missed_only_after_a_sunday() {
        let mut world = World::well();
        world.branches.0.truncate(2);
        world.check(&[]);
        world.branches.0.push(branch(
            "o",
            Some((Class::Daily, "2026-11-01")),
            "2026-11-01T02:00:00Z",
        ));
        world.check(&[(Code::WeeklyMissing, "there is no weekly branch")]);
    }

    #[test]
    fn what_comes_near_a_limit_is_told_at_80_percent() {
        let mut world = World::well();
        world.facts.used = Consumption {
            data_transfer_bytes: 80_000_000_000,
            compute_time_seconds: 79,
            ..Consumption::default()
        };
        world.facts.settings = Settings {
            quota: Some(Quota {
                compute_time_seconds: 100,
                logical_size_bytes: 1_250,
                ..Quota::default()
            }),
        };
        world.check(&[
            (
                Code::QuotaNearLimit,
                "1000 of 1250 bytes of the quota of a branch's size are used, 80 %",
            ),
            (Code::TransferNearLimit, "80000000000 of 100000000000"),
        ]);
        world.facts.branch_logical_size_limit_bytes = Some(1_001);
        assert_eq!(world.judge()[0].code, Code::StorageNearLimit);
    }

    #[test]
    fn roots_a_wide_key_a_stale_proof_and_a_forgotten_deployment_are_told() {
        let mut world = World::well();
        for id in ["r1", "r2", "r3"] {
            world
                .branches
                .0
                .push(branch(id, None, "2026-01-01T00:00:00Z"));
        }
        world.opens_others = Some(true);
        world.freshness = Some(Freshness::Failed {
            of: "2026-11-21T01:50:00Z".parse().unwrap(),
            why: "no".to_owned(),
        });
        world.branches.0.push(branch(
            "p",
            Some((Class::PreDeploy, "x")),
            "2026-01-01T00:00:00Z",
        ));
        world.check(&[
            (Code::NotFresh, "could not be had as a branch: no"),
            (Code::RootsNearLimit, "4 of 5 root branches"),
            (Code::KeyOpensOthers, "make a project-scoped key"),
            (Code::DeploymentNotReported, "pre-deploy-x is of 2026-01-01"),
        ]);
    }
}
