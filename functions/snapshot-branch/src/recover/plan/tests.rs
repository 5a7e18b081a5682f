use super::*;
use shared::neon::Owner;
use shared::plan::changes;

pub(in crate::recover) const NOW: &str = "2026-11-21T03:05:01Z";

fn branch(name: &str, parent: Option<&str>) -> Branch {
    Branch {
        id: format!("br-{name}"),
        name: name.to_owned(),
        parent_id: parent.map(str::to_owned),
        parent_lsn: parent.map(|_| "0/1AA6408".to_owned()),
        parent_timestamp: None,
        current_state: "ready".to_owned(),
        default: name == "main",
        protected: true,
        created_at: "2026-01-01T00:00:00Z".parse().unwrap(),
        expires_at: None,
        logical_size: None,
        annotation: std::collections::BTreeMap::new(),
    }
}

/// A project on Launch with a day's window.
pub(in crate::recover) struct Stage {
    pub(in crate::recover) branches: Branches,
    pub(in crate::recover) facts: ProjectFacts,
    pub(in crate::recover) policy: NeonPolicy,
}

impl Stage {
    pub(in crate::recover) fn new(policy: &str) -> Self {
        let policy =
            format!("project = 'autumn-disk-484331'\nrole = 'r'\ndatabase = 'd'\n{policy}");
        Self {
            branches: Branches(vec![
                branch("main", None),
                branch("backup-2026-11-20", Some("br-main")),
            ]),
            facts: ProjectFacts {
                history_retention_seconds: Some(86_400),
                owner: Owner {
                    branches_limit: None,
                    subscription_type: "launch_v3".to_owned(),
                },
                ..ProjectFacts::default()
            },
            policy: toml_of(&policy),
        }
    }

    fn world(&self) -> World<'_> {
        World {
            policy: &self.policy,
            facts: &self.facts,
            branches: &self.branches,
            production: self.branches.default_branch().unwrap(),
            neighbours: &[],
            checks: (0, 0),
            branches_max: Some(10),
            open_plans: &[],
        }
    }

    pub(in crate::recover) fn plan(&self, point: RestorePoint) -> Plan {
        let request = PlanRequest {
            database: "app".parse().unwrap(),
            point,
            by: "Ada".to_owned(),
            reason: None,
            skip_checks: false,
        };
        let lifetime = SignedDuration::from_hours(4);
        plan(&self.world(), &request, NOW.parse().unwrap(), lifetime)
    }
}

fn toml_of(text: &str) -> NeonPolicy {
    let keys = "recipients = ['age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p', 'age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj']";
    let text =
        format!("{keys}\n[[database]]\nname = 'app'\nprovider = 'neon'\n[database.neon]\n{text}");
    let policy = shared::policy::Policy::parse(&text).unwrap();
    policy.databases[0].neon.clone().unwrap()
}

pub(in crate::recover) fn time(at: &str) -> RestorePoint {
    RestorePoint::Time(at.parse().unwrap())
}

#[test]
fn a_plan_names_what_is_kept_and_says_that_nobody_is_stopped() {
    let plan = Stage::new("").plan(time("2026-11-21T02:30:00Z"));
    assert_eq!(plan.obstacles, [""; 0]);
    let kept = &plan.preserve_under;
    assert!(kept.starts_with("main-before-20261121T030501Z-"), "{kept}");
    let other = Stage::new("").plan(time("2026-11-21T02:31:00Z"));
    assert_ne!(*kept, other.preserve_under, "two plans of one second");
    assert_eq!(plan.target_name(), "app/main");
    assert_eq!(plan.expires_at, "2026-11-21T07:05:01Z".parse().unwrap());
    assert!(plan.notes[0].starts_with("WRITES ARE NOT STOPPED"));
    let told = plan.notes.join("\n");
    assert!(
        told.contains("1 branches that were made from production"),
        "{told}"
    );
    let frozen = "freeze_function = 'lifeboat-hook-a'\nunfreeze_function = 'lifeboat-hook-b'";
    let plan = Stage::new(frozen).plan(time("2026-11-21T02:30:00Z"));
    assert_eq!(plan.freeze_function.as_deref(), Some("lifeboat-hook-a"));
    assert!(!plan.notes.join("\n").contains("NOT STOPPED"));
}

#[test]
fn nobody_is_asked_beyond_the_window() {
    let stage = Stage::new("");
    let soon = stage.plan(time("2026-11-20T04:05:01Z"));
    assert_eq!(soon.obstacles, [""; 0]);
    assert_eq!(soon.expires_at, "2026-11-21T03:50:01Z".parse().unwrap());
    for at in ["2026-11-20T03:20:01Z", "2026-11-19T00:00:00Z"] {
        let late = stage.plan(time(at));
        assert!(
            late.obstacles[0].contains("is not in the restore window"),
            "{at}"
        );
    }
}

#[test]
fn every_obstacle_is_told_at_once() {
    let mut stage = Stage::new("");
    for name in ["old-1", "old-2", "old-3", "old-4"] {
        stage.branches.0.push(branch(name, None));
    }
    for name in ["a", "b", "c", "d"] {
        stage.branches.0.push(branch(name, Some("br-old-1")));
    }
    let kept = stage.plan(time("2027-01-01T00:00:00Z")).preserve_under;
    let kept = branch(&kept, Some("br-main"));
    stage.branches.0.push(kept);
    stage.branches.0[0].parent_id = Some("br-old-1".to_owned());
    let told = stage
        .plan(time("2027-01-01T00:00:00Z"))
        .obstacles
        .join("\n");
    for words in [
        "has not come yet",
        "is a child of another branch",
        "has 11 of 10 branches, and a recovery needs 3",
        "there is a branch main-before-20261121T030501Z-",
    ] {
        assert!(told.contains(words), "{words}\n{told}");
    }
    stage.branches.0[0].parent_id = None;
    let told = stage
        .plan(time("2026-11-21T02:30:00Z"))
        .obstacles
        .join("\n");
    assert!(
        told.contains("has 5 root branches, as many as the plan Launch"),
        "{told}"
    );
}

#[test]
fn a_snapshot_branch_is_told_as_the_point_it_was_made_at() {
    let stage = Stage::new("");
    let of = |name: &str| stage.plan(RestorePoint::Branch(name.to_owned())).obstacles;
    assert!(of("backup-2026-11-20")[0].contains(r#"{"lsn": "0/1AA6408"}"#));
    assert!(of("gone")[0].contains(r#"{"time": "#));
}

#[test]
fn what_somebody_else_does_to_production_changes_the_basis_and_ordinary_branches_do_not() {
    let stage = Stage::new("");
    let plan = stage.plan(time("2026-11-21T02:30:00Z"));
    let now = |stage: &Stage| basis(&stage.world(), &plan.request, &plan.preserve_under);
    assert_eq!(changes(&plan.basis, &now(&stage)), [""; 0]);
    let mut other = Stage::new("");
    other.branches.0.push(branch("preview", Some("br-main")));
    assert_eq!(changes(&plan.basis, &now(&other)), [""; 0]);
    let changed: [fn(&mut Stage); 4] = [
        |it| it.branches.0[0].id = "br-other".to_owned(),
        |it| it.branches.0.push(branch("main-old", None)),
        |it| it.facts.history_retention_seconds = Some(3_600),
        |it| it.policy.role = "other".to_owned(),
    ];
    for change in changed {
        let mut other = Stage::new("");
        change(&mut other);
        assert!(!changes(&plan.basis, &now(&other)).is_empty());
    }
}

#[test]
fn two_plans_of_one_project_would_undo_each_others_freeze() {
    let stage = Stage::new("");
    let first = stage.plan(time("2026-11-21T02:30:00Z"));
    let world = World {
        open_plans: std::slice::from_ref(&first),
        ..stage.world()
    };
    let (now, lifetime) = (NOW.parse().unwrap(), SignedDuration::from_hours(4));
    let second = plan(&world, &first.request, now, lifetime);
    let told = second.obstacles.join("\n");
    assert!(
        told.contains(&format!("the plan {} of app", first.plan_id)),
        "{told}"
    );
    assert!(told.contains(r#"{"recover": {"refuse": "#), "{told}");
}
