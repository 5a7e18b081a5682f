//! Every fault at every request, through the state machines: whatever is lost on the way, what
//! is not ours stays as it is, nothing exists twice, and after the next run that nothing
//! disturbs all is as if nothing had been.
//!
//! All of it takes long, and is for `make slow`. Here is a diagonal for the nightly backup and for
//! the branches: fault n at request n, each list counted round, so that each request of an
//! undisturbed run meets one fault, and each fault meets one request; and operations that fail.
//! All other pairs, silence until the client gives up, 404 and limits at any request, the
//! comparison of schemas, and the other kinds of run are in `everywhere`.

mod everywhere;

use std::sync::Arc;
use std::time::Duration;

use localcloud::neon::{
    NeonBranch, NeonCall, NeonFault, NeonFaultAction, NeonOptions, OperationFault, Traffic,
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::{OnceCell, Semaphore};

use super::drill::{configure, old_project};
use super::faults::actions;
use super::stage::{Stage, World};

/// Each of them waits most of the time: Lifeboat keeps below the API's limits.
static TURNS: Semaphore = Semaphore::const_new(16);

const PAUSE: Duration = Duration::from_millis(300);
const CHECKSUM: &str = "SELECT md5(string_agg(orders::text, ',' ORDER BY i)) FROM orders";
const TEMPORARY: [&str; 5] = ["dump-source", "probe", "drill", "rehearsal", "recovery"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    /// Lends a branch to a dump, and deletes it.
    Backup,
    /// Creates, rotates, inspects; `compares` its schema with an earlier branch's.
    Branches { compares: bool },
    /// Lends a branch to a drill, and deletes it.
    Drill,
    /// Tries a migration on a branch, and deletes it.
    Rehearsal,
    /// Makes a branch for a person.
    RestoreBranch,
}

impl Job {
    fn tag(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Branches { compares: false } => "branches",
            Self::Branches { compares: true } => "compares",
            Self::Drill => "drill",
            Self::Rehearsal => "rehearsal",
            Self::RestoreBranch => "restore",
        }
    }

    /// What Neon does for it, besides answering.
    fn operations(self) -> &'static [&'static str] {
        match self {
            Self::Backup | Self::Drill | Self::Rehearsal => &[
                "create_branch",
                "start_compute",
                "suspend_compute",
                "delete_timeline",
            ],
            Self::Branches { .. } => &["create_branch", "delete_timeline"],
            Self::RestoreBranch => &["create_branch", "start_compute"],
        }
    }
}

/// The n-th request of its kind in a run.
#[derive(Clone, Debug)]
struct Spot {
    method: Method,
    route: String,
    nth: u32,
}

impl Spot {
    fn is_kind_of(&self, call: &NeonCall) -> bool {
        self.method == call.method && self.route == call.route()
    }
}

fn spots(calls: &[NeonCall]) -> Vec<Spot> {
    let spot = |(index, call): (usize, &NeonCall)| {
        let mut spot = Spot {
            method: call.method.clone(),
            route: call.route(),
            nth: 1,
        };
        let earlier = calls[..index].iter().filter(|it| spot.is_kind_of(it));
        let earlier = u32::try_from(earlier.count()).unwrap();
        spot.nth += earlier;
        spot
    };
    calls.iter().enumerate().map(spot).collect()
}

#[derive(Clone, Debug)]
enum Trouble {
    Nothing,
    Request(Spot, NeonFaultAction),
    Operation(&'static str, OperationFault),
}

/// What no run may change.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bystanders {
    production: NeonBranch,
    rows: String,
    traffic: Traffic,
    foreign: Vec<NeonBranch>,
}

fn is_own(branch: &NeonBranch) -> bool {
    let managed_by = branch.annotation.get("managed-by");
    managed_by.is_some_and(|it| it == "lifeboat")
}

async fn world() -> &'static World {
    static WORLD: OnceCell<World> = OnceCell::const_new();
    let start = || {
        let neon = NeonOptions {
            operation_delay: Duration::from_millis(10),
            // So many at once as no account has.
            is_rate_limited: false,
            ..NeonOptions::default()
        };
        World::start("neon-every-fault", neon, |options| {
            options.retry_seconds = Some(1);
        })
    };
    WORLD.get_or_init(start).await
}

/// A project with branches that are not ours, and where something is to be rotated.
struct Ground {
    job: Job,
    stage: Stage,
    before: Bystanders,
}

impl Ground {
    async fn new(job: Job, nth: usize) -> Self {
        let name: &'static str = format!("every-{}-{nth}", job.tag()).leak();
        let stage = Stage::of(world().await, name, old_project(), "").await;
        configure(&stage, "prove_freshness = true", "").await;
        for foreign in ["preview", "backup-2020-01-01"] {
            stage.foreign(foreign, Value::Null).await;
        }
        if let Job::Branches { compares } = job {
            let class = if compares { "daily" } else { "weekly" };
            for (date, age_days) in [("2025-10-05", 100), ("2026-01-04", 5)] {
                let prefix = if compares { "backup" } else { "weekly" };
                let branch = format!("{prefix}-{date}");
                let mark = json!({"managed-by": "lifeboat", "class": class, "database": name, "key": date});
                let body = json!({"branch": {"name": branch}, "annotation_value": mark});
                stage.post_branch(&body).await;
                stage.age(&branch, age_days);
            }
        }
        stage.neon.settle(&stage.seeded.project).unwrap();
        let before = bystanders(&stage);
        Self { job, stage, before }
    }

    fn calls(&self) -> Vec<NeonCall> {
        self.stage.neon.calls_of(&self.stage.seeded.project)
    }

    fn make(&self, trouble: &Trouble) {
        let (faults, project) = (self.stage.neon.faults(), &self.stage.seeded.project);
        match trouble {
            Trouble::Nothing => {}
            Trouble::Request(spot, action) => faults.add(NeonFault {
                project: Some(project.clone()),
                method: Some(spot.method.clone()),
                route: Some(spot.route.clone()),
                from: spot.nth,
                action: action.clone(),
                ..NeonFault::default()
            }),
            Trouble::Operation(action, fault) => {
                faults.add_operation_of(project, action, *fault);
            }
        }
    }

    /// What somebody was told, where it did not succeed.
    async fn run(&self, night: u32) -> Result<(), String> {
        let (stage, name) = (&self.stage, self.stage.name);
        let ended = match self.job {
            Job::Backup => stage.back_up(&format!("2026-01-1{night}T01:00:00Z")).await,
            // The same day again: what it has is found.
            Job::Branches { .. } => stage.run_branches("2026-01-12T02:00:00Z").await,
            Job::Drill => {
                let input = json!({"databases": [name], "kind": "branch", "started_by": "Ada"});
                stage.cloud.run("DrillMachine", &input).await.unwrap()
            }
            Job::Rehearsal if night == 1 => {
                let sql = "CREATE TABLE rehearsed (i int)";
                let event = json!({"rehearse": {"database": name, "by": "Ada", "sql": sql}});
                return self.ask(&event).await;
            }
            Job::Rehearsal => return self.ask(&json!({"rotate": {"database": name}})).await,
            Job::RestoreBranch => {
                let event = json!({"restore_branch": {"database": name, "point": {"branch": "preview"}, "by": "Ada", "reason": "a look"}});
                return self.ask(&event).await;
            }
        };
        if ended.status == "SUCCEEDED" {
            return Ok(());
        }
        assert_eq!(ended.status, "FAILED", "{ended:?}");
        let pages = stage.messages(&ended, "PageTopic").await;
        let told = pages.into_iter().find(|it| it.text.contains(name));
        Err(told
            .unwrap_or_else(|| panic!("told nobody: {ended:?}"))
            .text)
    }

    async fn ask(&self, event: &Value) -> Result<(), String> {
        let answer = self.stage.invoke(event).await.map(drop);
        answer.inspect_err(|error| {
            let names = ["Transient", "Refused", "Failed"];
            assert!(names.iter().any(|it| error.contains(it)), "{error}");
        })
    }

    fn leftovers(&self) -> Vec<String> {
        let is_left =
            |it: &NeonBranch| is_own(it) && TEMPORARY.contains(&it.annotation["class"].as_str());
        let left = self.stage.branches().into_iter().filter(is_left);
        left.map(|it| it.name).collect()
    }

    /// Branches by name and secrets of temporary ones, in order.
    async fn there_is(&self) -> Vec<String> {
        let mut all = self.stage.names();
        all.extend(self.stage.branch_secrets().await);
        all
    }

    /// Polls come as often as they must, so the last ones may be missing.
    fn assert_met(&self, trouble: &Trouble, before: usize) {
        let Trouble::Request(spot, _) = trouble else {
            let unmet = self.stage.neon.unmet_operations(&self.stage.seeded.project);
            return assert!(unmet.unwrap().is_empty(), "{trouble:?} met nobody");
        };
        let calls = &self.calls()[before..];
        let met = calls.iter().filter(|it| spot.is_kind_of(it)).count();
        let is_poll = spot.route.ends_with("/operations");
        assert!(
            met >= spot.nth as usize || is_poll,
            "{trouble:?} met nobody"
        );
    }

    fn assert_bystanders(&self, what: &str) {
        assert_eq!(bystanders(&self.stage), self.before, "{what}");
    }

    /// Ends its servers.
    async fn remove(self) {
        let Stage { neon, seeded, .. } = &self.stage;
        let url = format!("{}/projects/{}", neon.url(), seeded.project);
        let delete = reqwest::Client::new().delete(url).bearer_auth(neon.key());
        assert!(delete.send().await.unwrap().status().is_success());
    }
}

fn bystanders(stage: &Stage) -> Bystanders {
    let Stage { neon, seeded, .. } = stage;
    let (production, others): (Vec<_>, Vec<_>) =
        stage.branches().into_iter().partition(|it| it.is_default);
    Bystanders {
        production: production.into_iter().next().unwrap(),
        rows: stage.sql(CHECKSUM),
        traffic: neon.traffic(&seeded.project, &seeded.endpoint).unwrap(),
        foreign: others.into_iter().filter(|it| !is_own(it)).collect(),
    }
}

/// The requests of a run that nothing disturbs, and what there is after it.
async fn undisturbed(job: Job) -> (Vec<Spot>, Arc<Vec<String>>) {
    let ground = Ground::new(job, 0).await;
    let before = ground.calls().len();
    assert_eq!(ground.run(1).await, Ok(()), "{}", ground.stage.story());
    ground.assert_bystanders("undisturbed");
    let spots = spots(&ground.calls()[before..]);
    let nothing: [String; 0] = [];
    assert_eq!(ground.leftovers(), nothing);
    let there_is = ground.there_is().await;
    ground.remove().await;
    (spots, Arc::new(there_is))
}

async fn disturbed(job: Job, nth: usize, trouble: Trouble, expected: Arc<Vec<String>>) {
    let _turn = TURNS.acquire().await.unwrap();
    let what = format!("{job:?}, {trouble:?}");
    let ground = Ground::new(job, nth).await;
    let before = ground.calls().len();
    ground.make(&trouble);
    let first = ground.run(1).await;
    ground.assert_met(&trouble, before);
    ground.assert_bystanders(&what);
    // Where all is done and nothing is left already, the next run has nothing to make good.
    if first.is_err() || ground.there_is().await != *expected {
        for left in ground.leftovers() {
            ground.stage.age(&left, 1);
        }
        let next = ground.run(2).await;
        assert_eq!(next, Ok(()), "after {what}: {first:?}");
        ground.assert_bystanders(&what);
    }
    assert_eq!(ground.there_is().await, *expected, "{what}: {first:?}");
    ground.remove().await;
}

async fn all(job: Job, troubles: impl Iterator<Item = Trouble>, expected: Arc<Vec<String>>) {
    let mut stories = tokio::task::JoinSet::new();
    for (index, trouble) in troubles.enumerate() {
        stories.spawn(disturbed(job, index + 1, trouble, expected.clone()));
    }
    stories.join_all().await;
}

async fn a_diagonal(job: Job, failing: Vec<(&'static str, OperationFault)>) {
    let (spots, expected) = undisturbed(job).await;
    let actions = actions();
    let troubles = (0..spots.len().max(actions.len())).map(|n| {
        let (spot, action) = (&spots[n % spots.len()], &actions[n % actions.len()]);
        Trouble::Request(spot.clone(), action.clone())
    });
    let failing = failing.into_iter();
    let failing = failing.map(|(action, fault)| Trouble::Operation(action, fault));
    all(job, troubles.chain(failing), expected).await;
}

async fn everything(job: Job) {
    let (spots, expected) = undisturbed(job).await;
    let mut actions = actions();
    actions.extend([
        NeonFaultAction::NotFound,
        NeonFaultAction::Limit("BRANCHES_LIMIT_EXCEEDED"),
        NeonFaultAction::Silence,
    ]);
    let mut troubles = vec![Trouble::Nothing];
    for spot in &spots {
        let of = |action: &NeonFaultAction| Trouble::Request(spot.clone(), action.clone());
        troubles.extend(actions.iter().map(of));
    }
    for &operation in job.operations() {
        for fault in [
            OperationFault::FailsOnce(PAUSE),
            OperationFault::Fails,
            OperationFault::IsInError,
            OperationFault::IsCancelled,
        ] {
            troubles.push(Trouble::Operation(operation, fault));
        }
    }
    all(job, troubles.into_iter(), expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "a minute of both processors: make slow"]
async fn a_nightly_backup_survives_any_fault_and_leaves_nothing() {
    let failing = vec![
        ("create_branch", OperationFault::FailsOnce(PAUSE)),
        ("start_compute", OperationFault::IsInError),
        ("delete_timeline", OperationFault::IsCancelled),
    ];
    a_diagonal(Job::Backup, failing).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "half a minute of both processors: make slow"]
async fn a_branches_run_survives_any_fault_and_makes_nothing_twice() {
    let failing = vec![("create_branch", OperationFault::IsCancelled)];
    a_diagonal(Job::Branches { compares: false }, failing).await;
}
