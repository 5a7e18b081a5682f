//! Which branches go, and why. Pure: every branch of ours gets a reason, whatever happens to it.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use shared::backup::DatabaseName;
use shared::neon::ownership::{Class, Deletable, KEEP, Mark};
use shared::neon::{Branch, Branches};
use shared::policy::KeepBranches;

/// Free places that must be left: for the next daily and weekly branch, and a dump's source.
pub const ROOM: u64 = 3;
/// One run deletes no more; the next goes on.
pub const DELETIONS_MAX: usize = 20;
/// No run of ours takes longer: what is older serves nothing that still goes on.
pub const LEFTOVER: SignedDuration = SignedDuration::from_hours(6);
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// What decides beside the branches themselves.
#[derive(Clone, Debug)]
pub struct Rules<'a> {
    pub database: &'a DatabaseName,
    pub keep: &'a KeepBranches,
    /// The free plan keeps nothing for long.
    pub is_free: bool,
    /// That a project may have; none where nobody says.
    pub branches_max: Option<u64>,
    /// Free places that must be left.
    pub room: u64,
    /// The branch that another is being made from.
    pub parent: Option<&'a str>,
    pub now: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    pub branch: Deletable,
    pub name: String,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kept {
    pub name: String,
    pub reason: String,
}

/// Oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rotation {
    pub delete: Vec<Deletion>,
    pub keep: Vec<Kept>,
    /// Branches that are not of this database's Lifeboat.
    pub foreign: usize,
    /// Places that are missing even so: only branches that are not ours could make room.
    pub missing_room: u64,
}

/// What is to become of one branch of ours.
enum Fate {
    Delete(String),
    /// May go, if room is needed.
    Spare(String),
    Keep(String),
}

pub fn plan(rules: &Rules<'_>, all: &Branches) -> Rotation {
    let mut rotation = judge(rules, all);
    // What is deleted next time is needed until then.
    rotation.delete.truncate(DELETIONS_MAX);
    rotation
}

/// Only what runs have left: however many old snapshots wait for rotation, they do not keep it.
pub fn leftovers(rules: &Rules<'_>, all: &Branches) -> Vec<Deletion> {
    let mut left = judge(rules, all).delete;
    left.retain(|it| it.branch.mark().class.is_temporary());
    left.truncate(DELETIONS_MAX);
    left
}

fn judge(rules: &Rules<'_>, all: &Branches) -> Rotation {
    let mut rotation = Rotation::default();
    let mut spare: Vec<(&Branch, String)> = Vec::new();
    let mut branches: Vec<&Branch> = all.0.iter().collect();
    branches.sort_by(|a, b| (a.created_at, &a.name).cmp(&(b.created_at, &b.name)));
    for branch in branches {
        let own = Mark::of(branch).filter(|it| it.database == *rules.database);
        let Some(mark) = own else {
            rotation.foreign += 1;
            continue;
        };
        match fate(rules, all, branch, &mark) {
            Fate::Delete(reason) => delete(rules, all, &mut rotation, (branch, reason)),
            Fate::Spare(reason) => spare.push((branch, reason)),
            Fate::Keep(reason) => keep(&mut rotation, branch, reason),
        }
    }
    make_room(rules, all, &mut rotation, spare);
    rotation
}

/// Deletes spare ones, oldest first, while there is not enough room.
fn make_room(
    rules: &Rules<'_>,
    all: &Branches,
    rotation: &mut Rotation,
    spare: Vec<(&Branch, String)>,
) {
    let missing = |rotation: &Rotation| {
        let left = (all.0.len() - rotation.delete.len()) as u64;
        rules
            .branches_max
            .map_or(0, |max| (left + rules.room).saturating_sub(max))
    };
    for (branch, reason) in spare {
        if missing(rotation) == 0 {
            keep(rotation, branch, reason);
            continue;
        }
        let reason = format!("the project needs room for new branches; {reason}");
        delete(rules, all, rotation, (branch, reason));
    }
    rotation.missing_room = missing(rotation);
}

fn delete(
    rules: &Rules<'_>,
    all: &Branches,
    rotation: &mut Rotation,
    (branch, reason): (&Branch, String),
) {
    match Deletable::judge(branch, all, rules.database) {
        Ok(deletable) => rotation.delete.push(Deletion {
            branch: deletable,
            name: branch.name.clone(),
            reason,
        }),
        Err(why) => keep(rotation, branch, format!("{why}, though {reason}")),
    }
}

fn keep(rotation: &mut Rotation, branch: &Branch, reason: String) {
    rotation.keep.push(Kept {
        name: branch.name.clone(),
        reason,
    });
}

fn fate(rules: &Rules<'_>, all: &Branches, branch: &Branch, mark: &Mark) -> Fate {
    if rules.parent == Some(branch.id.as_str()) {
        return Fate::Keep("something is being made from it".to_owned());
    }
    let age = rules.now.duration_since(branch.created_at);
    if age < SignedDuration::ZERO {
        return Fate::Keep("it is from the future: one of two clocks is wrong".to_owned());
    }
    let days_max = |days: u32| match rules.is_free {
        true => days.min(rules.keep.free_plan_days),
        false => days,
    };
    match mark.class {
        Class::Rehearsal if mark.note(KEEP).is_some() => {
            Fate::Keep("somebody asked for it to be kept until it expires".to_owned())
        }
        Class::DumpSource | Class::Probe | Class::Drill | Class::Rehearsal | Class::Recovery
            if age > LEFTOVER =>
        {
            Fate::Delete("it was left by a run that is over".to_owned())
        }
        Class::DumpSource | Class::Probe | Class::Drill | Class::Rehearsal | Class::Recovery => {
            Fate::Keep("a run may still need it".to_owned())
        }
        Class::Daily => aged(all, branch, mark, (age, days_max(rules.keep.daily_days))),
        Class::Weekly => aged(all, branch, mark, (age, days_max(rules.keep.weekly_days))),
        Class::Restore => Fate::Keep("it was made for a person, whose it is to delete".to_owned()),
        Class::PreDeploy => match branch.expires_at {
            None => Fate::Keep("its deployment was not reported as done".to_owned()),
            Some(at) if at < rules.now => {
                Fate::Delete(format!("its days after the deployment ended at {at}"))
            }
            Some(at) => deployed(rules, all, branch, mark, at),
        },
    }
}

/// What the newest deployment has replaced may be what is asked for now, so its branch is never
/// given up for room; one after it that was begun and not reported replaces nothing yet. The newest
/// is the one that was reported last, which its expiry tells: not the one with the newest branch.
fn deployed(
    rules: &Rules<'_>,
    all: &Branches,
    branch: &Branch,
    mark: &Mark,
    until: Timestamp,
) -> Fate {
    let is_newer = |it: &&Branch| {
        let is_kept = it.expires_at.is_some_and(|at| at >= rules.now);
        let is_later = (it.expires_at, it.created_at) > (branch.expires_at, branch.created_at);
        is_kept && is_alike(it, mark) && it.is_usable() && is_later
    };
    match all.0.iter().find(is_newer) {
        Some(newer) => Fate::Spare(format!(
            "its deployment is done, and {} is of a newer one; it is kept until {until}",
            newer.name
        )),
        None => Fate::Keep(format!(
            "it is of the newest deployment that is done; it is kept until {until}"
        )),
    }
}

/// Whether both are of one class and one database.
fn is_alike(branch: &Branch, mark: &Mark) -> bool {
    let other = Mark::of(branch);
    other.is_some_and(|it| (it.class, &it.database) == (mark.class, &mark.database))
}

/// The newest one that can be used stays, however old it is.
fn aged(all: &Branches, branch: &Branch, mark: &Mark, (age, days): (SignedDuration, u32)) -> Fate {
    let is_newer =
        |it: &&Branch| is_alike(it, mark) && it.is_usable() && it.created_at > branch.created_at;
    let Some(newer) = all.0.iter().find(is_newer) else {
        return Fate::Keep(format!("it is the newest {} branch", mark.class));
    };
    if age > DAY * i32::try_from(days).unwrap_or(i32::MAX) {
        return Fate::Delete(format!("{} branches are kept for {days} days", mark.class));
    }
    Fate::Spare(format!("it is superseded by {}", newer.name))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const NOW: &str = "2026-11-21T02:00:00Z";

    fn app() -> DatabaseName {
        "app".parse().unwrap()
    }

    fn main_branch() -> Branch {
        Branch {
            id: "br-main".to_owned(),
            name: "main".to_owned(),
            parent_id: None,
            parent_lsn: None,
            parent_timestamp: None,
            current_state: "ready".to_owned(),
            default: true,
            protected: false,
            created_at: "2025-01-01T00:00:00Z".parse().unwrap(),
            expires_at: None,
            logical_size: None,
            annotation: BTreeMap::new(),
        }
    }

    /// A branch as our own code makes it, read back as the API would give it.
    fn own(class: Class, key: &str, days_old: f64) -> Branch {
        let mark = Mark::new(class, &app(), key);
        let annotation = [
            ("managed-by", "lifeboat"),
            ("class", class.as_str()),
            ("database", "app"),
            ("key", key),
        ];
        let hours = SignedDuration::from_secs_f64(days_old * 86_400.0);
        Branch {
            id: format!("br-{}", mark.branch_name()),
            name: mark.branch_name(),
            parent_id: Some("br-main".to_owned()),
            default: false,
            created_at: NOW.parse::<Timestamp>().unwrap() - hours,
            annotation: annotation
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            ..main_branch()
        }
    }

    fn daily(days_old: u32) -> Branch {
        own(Class::Daily, &format!("d{days_old:03}"), days_old.into())
    }

    struct Case {
        branches: Vec<Branch>,
        is_free: bool,
        branches_max: Option<u64>,
        parent: Option<String>,
    }

    impl Case {
        fn of(branches: impl IntoIterator<Item = Branch>) -> Self {
            Self {
                branches: [main_branch()].into_iter().chain(branches).collect(),
                is_free: false,
                branches_max: Some(5_000),
                parent: None,
            }
        }

        fn decide<T>(&self, decide: impl Fn(&Rules<'_>, &Branches) -> T) -> T {
            let rules = Rules {
                database: &app(),
                keep: &KeepBranches::default(),
                is_free: self.is_free,
                branches_max: self.branches_max,
                room: ROOM,
                parent: self.parent.as_deref(),
                now: NOW.parse().unwrap(),
            };
            decide(&rules, &Branches(self.branches.clone()))
        }

        fn plan(&self) -> Rotation {
            self.decide(plan)
        }

        fn deleted(&self) -> Vec<String> {
            self.plan().delete.into_iter().map(|it| it.name).collect()
        }
    }

    #[test]
    fn each_class_is_kept_for_its_days() {
        let weekly = |days: u32| own(Class::Weekly, &format!("w{days:03}"), days.into());
        let case = Case::of([
            daily(0),
            daily(29),
            daily(31),
            weekly(1),
            weekly(89),
            weekly(91),
        ]);
        assert_eq!(case.deleted(), ["weekly-w091", "backup-d031"]);
        let free = Case {
            is_free: true,
            ..Case::of([daily(0), daily(13), daily(15)])
        };
        assert_eq!(free.deleted(), ["backup-d015"]);
    }

    #[test]
    fn the_newest_that_can_be_used_stays_however_old_it_is() {
        let unusable = Branch {
            current_state: "init".to_owned(),
            ..daily(0)
        };
        let case = Case::of([daily(400), daily(200), unusable]);
        assert_eq!(case.deleted(), ["backup-d400"]);
        let kept = case.plan().keep;
        assert_eq!(kept[0].reason, "it is the newest daily branch");
    }

    #[test]
    fn what_something_is_being_made_from_stays_though_it_is_old_and_room_is_needed() {
        let case = Case {
            branches_max: Some(3),
            parent: Some(daily(40).id),
            ..Case::of([daily(0), daily(1), daily(40)])
        };
        assert_eq!(case.deleted(), ["backup-d001"]);
    }

    #[test]
    fn a_pre_deploy_branch_goes_only_after_its_deployment() {
        let deployed = |key: &str, expires: &str| Branch {
            expires_at: Some(expires.parse().unwrap()),
            ..own(Class::PreDeploy, key, 10.0)
        };
        let case = Case::of([
            own(Class::PreDeploy, "never-reported", 300.0),
            deployed("over", "2026-11-21T01:59:00Z"),
            deployed("recent", "2026-11-22T02:00:00Z"),
        ]);
        assert_eq!(case.deleted(), ["pre-deploy-over"]);
    }

    #[test]
    fn for_room_a_replaced_deployment_goes_and_never_the_newest_that_is_done() {
        let deployed = |key: &str, days_old: f64| Branch {
            expires_at: Some("2026-11-24T02:00:00Z".parse().unwrap()),
            ..own(Class::PreDeploy, key, days_old)
        };
        let unusable = Branch {
            current_state: "init".to_owned(),
            ..deployed("unusable", 0.5)
        };
        let of_another = Branch {
            annotation: deployed("x", 0.0).annotation,
            ..deployed("renamed", 0.0)
        };
        let case = Case {
            branches_max: Some(6),
            ..Case::of([
                deployed("replaced", 3.0),
                deployed("live", 2.0),
                own(Class::PreDeploy, "under-way", 1.0),
                unusable,
                of_another,
            ])
        };
        // Six with production: three places too few, and one that may be given up.
        let plan = case.plan();
        let deleted: Vec<&str> = plan.delete.iter().map(|it| &*it.name).collect();
        assert_eq!(deleted, ["pre-deploy-replaced"]);
        assert!(
            plan.delete[0]
                .reason
                .contains("pre-deploy-live is of a newer one")
        );
        assert_eq!(plan.missing_room, 2);
        let alone = Case {
            branches_max: Some(2),
            ..Case::of([deployed("live", 2.0)])
        };
        assert!(alone.plan().delete.is_empty());
    }

    #[test]
    fn the_newest_deployment_is_the_one_that_was_reported_last() {
        let deployed = |key: &str, days_old: f64, until: &str| Branch {
            expires_at: Some(until.parse().unwrap()),
            ..own(Class::PreDeploy, key, days_old)
        };
        let of = |second: Branch| Case {
            branches_max: Some(4),
            ..Case::of([deployed("begun-first", 3.0, "2026-11-27T02:00:00Z"), second])
        };
        let reported_first = of(deployed("begun-second", 2.0, "2026-11-26T02:00:00Z"));
        assert_eq!(reported_first.deleted(), ["pre-deploy-begun-second"]);
        // At the same moment: the newer branch is of what was begun last.
        let at_once = of(deployed("begun-second", 2.0, "2026-11-27T02:00:00Z"));
        assert_eq!(at_once.deleted(), ["pre-deploy-begun-first"]);
    }

    #[test]
    fn what_a_run_left_goes_and_what_one_may_still_read_stays() {
        let source = |key: &str, hours: f64| own(Class::DumpSource, key, hours / 24.0);
        let mut kept = own(Class::Rehearsal, "kept", 20.0);
        kept.annotation
            .insert("note-keep".to_owned(), "30 days".to_owned());
        let case = Case::of([
            source("20261120T010000Z-nightly", 25.0),
            source("20261121T010000Z-nightly", 1.0),
            own(Class::Probe, "20261120T020000Z", 24.0 / 24.0),
            own(Class::Drill, "old", 26.0 / 24.0),
            own(Class::Drill, "young", 1.0 / 24.0),
            own(Class::Rehearsal, "old", 27.0 / 24.0),
            kept,
        ]);
        assert_eq!(
            case.deleted(),
            [
                "rehearsal-old",
                "drill-old",
                "lifeboat-dump-app-20261120T010000Z-nightly",
                "lifeboat-probe-app-20261120T020000Z"
            ]
        );
    }

    #[test]
    fn however_many_old_snapshots_wait_what_a_run_left_does_not_wait_behind_them() {
        let left = own(Class::Rehearsal, "left", 7.0 / 24.0);
        let case = Case::of((31..60).map(daily).chain([daily(0), left]));
        let deleted = case.deleted();
        assert_eq!(deleted.len(), DELETIONS_MAX);
        assert!(deleted.iter().all(|it| it.starts_with("backup-")));
        let left: Vec<String> = case
            .decide(leftovers)
            .into_iter()
            .map(|it| it.name)
            .collect();
        assert_eq!(left, ["rehearsal-left"]);
    }

    #[test]
    fn near_the_limit_the_oldest_superseded_go_first_and_no_more_than_needed() {
        let case = Case {
            branches_max: Some(10),
            ..Case::of([
                daily(0),
                daily(1),
                daily(2),
                daily(3),
                daily(4),
                daily(5),
                daily(6),
                daily(7),
            ])
        };
        // Nine with production: two places too few.
        assert_eq!(case.deleted(), ["backup-d007", "backup-d006"]);
        assert_eq!(case.plan().missing_room, 0);
    }

    #[test]
    fn where_only_foreign_branches_could_make_room_nothing_goes_and_it_is_said() {
        let foreign = (0..8).map(|n| Branch {
            name: format!("preview-{n}"),
            id: format!("br-{n}"),
            annotation: BTreeMap::new(),
            ..daily(n)
        });
        let case = Case {
            branches_max: Some(10),
            ..Case::of(foreign.chain([daily(0)]))
        };
        let plan = case.plan();
        assert_eq!(
            (plan.delete.len(), plan.foreign, plan.missing_room),
            (0, 9, 3)
        );
    }

    /// Pseudo-random and the same every time: xorshift.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, sides: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % sides
        }

        fn branch(&mut self, n: u64, ids: &[String]) -> Branch {
            let classes = [
                Class::Daily,
                Class::Weekly,
                Class::PreDeploy,
                Class::DumpSource,
                Class::Probe,
                Class::Restore,
                Class::Drill,
                Class::Rehearsal,
                Class::Recovery,
            ];
            let class = classes[usize::try_from(self.roll(9)).unwrap()];
            let mut branch = own(class, &format!("k{n}"), self.roll(200) as f64 - 1.0);
            if class == Class::PreDeploy && self.roll(3) > 0 {
                let days = i64::try_from(self.roll(10)).unwrap() - 3;
                let now: Timestamp = NOW.parse().unwrap();
                branch.expires_at = Some(now + SignedDuration::from_hours(24 * days));
            }
            match self.roll(11) {
                0 => branch.name.push('x'),
                1 => branch.annotation.clear(),
                2 => drop(
                    branch
                        .annotation
                        .insert("database".to_owned(), "shop".to_owned()),
                ),
                3 => branch.protected = true,
                4 => branch.parent_id = None,
                5 => branch.current_state = "init".to_owned(),
                6 if !ids.is_empty() => {
                    let parent = usize::try_from(self.roll(ids.len() as u64)).unwrap();
                    branch.parent_id = Some(ids[parent].clone());
                }
                7 => branch.expires_at = Some(NOW.parse().unwrap()),
                9 => {
                    let keep = ("note-keep".to_owned(), "2 days".to_owned());
                    branch.annotation.extend([keep]);
                }
                8 => branch.default = true,
                _ => {}
            }
            branch
        }
    }

    /// What somebody needs first in an incident is there after it.
    fn assert_the_newest_stay(all: &Branches, plan: &Rotation) {
        let now: Timestamp = NOW.parse().unwrap();
        let of_class = |class: Class| {
            let is_of_it = move |it: &&Branch| {
                Mark::of(it).is_some_and(|it| it.class == class && it.database == app())
            };
            all.0.iter().filter(is_of_it)
        };
        let newest = |class: Class| {
            let usable = of_class(class).filter(|it| it.is_usable());
            let newest = usable.max_by_key(|it| it.created_at);
            newest.map(|it| it.id.clone())
        };
        // Reported last; those that never were stay, as the caller looks at each.
        let last_deployed = |is_wanted: &dyn Fn(&Branch) -> bool| {
            let done = of_class(Class::PreDeploy).filter(|it| it.expires_at >= Some(now));
            let last = done.filter(|it| is_wanted(it));
            let last = last.max_by_key(|it| (it.expires_at, it.created_at));
            last.map(|it| it.id.clone())
        };
        for id in [
            newest(Class::Daily),
            newest(Class::Weekly),
            last_deployed(&|_| true),
            last_deployed(&|it: &Branch| it.is_usable()),
        ]
        .into_iter()
        .flatten()
        {
            let goes = plan.delete.iter().any(|gone| gone.branch.id() == id);
            assert!(!goes, "{id} goes of {all:?}");
        }
    }

    #[test]
    fn whatever_the_history_nothing_goes_that_is_foreign_needed_or_the_last() {
        let mut dice = Dice(0x2545_F491_4F6C_DD1D);
        for _ in 0..3_000 {
            let mut branches = vec![main_branch()];
            let mut ids = Vec::new();
            for n in 0..dice.roll(14) {
                let branch = dice.branch(n, &ids);
                ids.push(branch.id.clone());
                branches.push(branch);
            }
            let case = Case {
                is_free: dice.roll(2) == 0,
                branches_max: [None, Some(5), Some(10)][usize::try_from(dice.roll(3)).unwrap()],
                parent: ids.first().filter(|_| dice.roll(2) == 0).cloned(),
                branches,
            };
            let all = Branches(case.branches.clone());
            let plan = case.plan();
            assert_the_newest_stay(&all, &plan);
            for deletion in &plan.delete {
                let branch = all.with_id(deletion.branch.id()).unwrap();
                assert_ne!(Some(&branch.id), case.parent.as_ref());
                let mark = Mark::of(branch).expect("a foreign branch");
                assert_eq!(mark.database, app());
                assert!(!branch.default && !branch.protected && branch.parent_id.is_some());
                assert!(!all.has_children(&branch.id), "{branch:?}");
                let survives = |class: Class| {
                    all.0.iter().any(|it| {
                        let is_alike = Mark::of(it)
                            .is_some_and(|it| it.class == class && it.database == app());
                        let goes = plan.delete.iter().any(|gone| gone.branch.id() == it.id);
                        is_alike && it.is_usable() && !goes
                    })
                };
                match mark.class {
                    Class::Daily | Class::Weekly => assert!(survives(mark.class), "{all:?}"),
                    Class::PreDeploy => assert!(branch.expires_at.is_some()),
                    Class::DumpSource | Class::Probe | Class::Drill | Class::Recovery => {}
                    Class::Rehearsal => assert!(mark.note(KEEP).is_none()),
                    Class::Restore => panic!("a restored branch"),
                }
            }
            let own = all
                .0
                .iter()
                .filter(|it| Mark::of(it).is_some_and(|it| it.database == app()))
                .count();
            assert_eq!(
                plan.delete.len() + plan.keep.len(),
                own,
                "each has a reason"
            );
        }
    }
}
