//! The client against the stand-in, with every fault at every request: whatever is lost, there
//! is one branch in the end, nothing of ours is left over, and nothing foreign was touched.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use localcloud::neon::{
    Neon, NeonBranch, NeonCall, NeonFault, NeonFaultAction, NeonOptions, OperationFault,
    ProjectOptions,
};
use reqwest::Method;
use shared::backup::DatabaseName;
use shared::error::Name;
use shared::neon::ownership::{Class, Mark};
use shared::neon::{Neon as Client, NeonError, NewBranch, Point, Project, Removed};
use shared::policy::ProjectId;
use shared::secret::ApiKey;

/// As often as the state machine tries a step.
const TRIES: u32 = 5;

/// A project of its own in a stand-in.
struct Stage {
    neon: Arc<Neon>,
    project: String,
    main: String,
    foreign: Vec<NeonBranch>,
}

fn start() -> Arc<Neon> {
    let neon = Neon::start(NeonOptions {
        operation_delay: Duration::from_millis(5),
        // A hundred clients at once are not the subject here.
        is_rate_limited: false,
        ..NeonOptions::default()
    });
    Arc::new(neon.unwrap())
}

impl Stage {
    fn new() -> Self {
        static SHARED: OnceLock<Arc<Neon>> = OnceLock::new();
        Self::of(SHARED.get_or_init(start).clone())
    }

    fn of(neon: Arc<Neon>) -> Self {
        let seeded = neon.project(ProjectOptions::default()).unwrap();
        let foreign = neon.branches(&seeded.project).unwrap();
        Self {
            neon,
            project: seeded.project,
            main: seeded.branch,
            foreign,
        }
    }

    /// In this project only.
    fn fault(&self, fault: NeonFault) {
        let path = format!("/projects/{}{}", self.project, fault.path);
        self.neon.faults().add(NeonFault { path, ..fault });
    }

    fn calls(&self) -> Vec<NeonCall> {
        let of_this = format!("/projects/{}/", self.project);
        let mut calls = self.neon.calls();
        calls.retain(|it| it.path.starts_with(&of_this));
        calls
    }

    /// As an invocation of its own has it.
    fn client(&self) -> Project {
        self.client_for(Duration::from_secs(300))
    }

    fn client_for(&self, time: Duration) -> Project {
        let id = ProjectId::try_from(self.project.clone()).unwrap();
        let key = ApiKey::parse(&self.neon.project_key(&self.project)).unwrap();
        let client = Client::new(self.neon.url().parse().unwrap()).unwrap();
        client.project(&id, key, Instant::now() + time)
    }

    fn daily(&self) -> NewBranch {
        let app: DatabaseName = "app".parse().unwrap();
        NewBranch {
            parent_id: self.main.clone(),
            point: Point::Head,
            mark: Mark::new(Class::Daily, &app, "2026-11-21").with_note("who", "a test"),
            compute: None,
            expires_at: None,
        }
    }

    async fn create(&self) -> Result<bool, NeonError> {
        let ensured = self.client().ensure(&self.daily()).await?;
        Ok(ensured.is_new)
    }

    async fn remove(&self) -> Result<Removed, NeonError> {
        self.client().remove(&self.daily().mark).await
    }

    fn own(&self) -> Vec<NeonBranch> {
        let all = self.neon.branches(&self.project).unwrap();
        let own = all.into_iter().filter(|it| it.name == "backup-2026-11-21");
        own.collect()
    }

    fn assert_foreign_untouched(&self) {
        let mut all = self.neon.branches(&self.project).unwrap();
        all.retain(|it| it.name != "backup-2026-11-21");
        assert_eq!(all, self.foreign);
    }

    /// Requests, whatever became of their answers.
    fn arrived(&self, method: &Method, path: &str) -> usize {
        let calls = self.calls();
        let of = calls
            .iter()
            .filter(|it| it.method == *method && it.path.ends_with(path));
        of.count()
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Create,
    Remove,
}

/// Tries as the state machine does: again where it is told that this may help, and not else.
/// Whether the branch was made, or deleted, by the try that succeeded.
async fn tried(stage: &Stage, step: Step) -> bool {
    let mut errors = Vec::new();
    for _ in 0..TRIES {
        let done = match step {
            Step::Create => stage.create().await,
            Step::Remove => stage.remove().await.map(|it| it != Removed::WasGone),
        };
        match done {
            Ok(done) => return done,
            Err(error) => {
                assert_eq!(error.name(), Name::Transient, "{error}");
                errors.push(error.to_string());
            }
        }
    }
    panic!("{step:?} never succeeded: {errors:#?}");
}

async fn story(action: NeonFaultAction, from: u32) -> String {
    let what = format!("{action:?} at request {from}");
    let stage = Stage::new();
    stage.fault(NeonFault {
        path: "/".to_owned(),
        from,
        action,
        ..NeonFault::default()
    });
    tried(&stage, Step::Create).await;
    let own = stage.own();
    assert_eq!(own.len(), 1, "{what}: {own:#?}");
    assert_eq!(own[0].annotation["managed-by"], "lifeboat");
    // A second run of the same event finds it.
    let is_new = tried(&stage, Step::Create).await;
    assert!(!is_new, "{what}");
    assert_eq!(stage.own(), own, "{what}");
    tried(&stage, Step::Remove).await;
    let nothing: [NeonBranch; 0] = [];
    assert_eq!(stage.own(), nothing, "{what}");
    stage.assert_foreign_untouched();
    what
}

pub(super) fn actions() -> Vec<NeonFaultAction> {
    let seconds = |it: &str| NeonFaultAction::TooManyRequests {
        retry_after: Some(it.to_owned()),
    };
    vec![
        NeonFaultAction::Locked,
        seconds("1"),
        NeonFaultAction::TooManyRequests { retry_after: None },
        NeonFaultAction::Unavailable,
        NeonFaultAction::Html(500),
        NeonFaultAction::Html(524),
        NeonFaultAction::Reset,
        NeonFaultAction::LoseAnswer,
        NeonFaultAction::HideAnswer,
        NeonFaultAction::CutAnswer,
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_any_fault_at_any_request_there_is_one_branch_and_then_none() {
    let clean = Stage::new();
    clean.create().await.unwrap();
    clean.create().await.unwrap();
    clean.remove().await.unwrap();
    let requests = u32::try_from(clean.calls().len()).unwrap();
    assert!((8..20).contains(&requests), "{requests}");
    let mut stories = tokio::task::JoinSet::new();
    for action in actions() {
        for from in 1..=requests {
            stories.spawn(story(action.clone(), from));
        }
    }
    let stories = stories.join_all().await;
    assert_eq!(stories.len(), actions().len() * requests as usize);
}

#[tokio::test]
async fn a_creation_whose_answer_is_lost_is_looked_for_and_never_sent_again() {
    for action in [
        NeonFaultAction::LoseAnswer,
        NeonFaultAction::HideAnswer,
        NeonFaultAction::CutAnswer,
    ] {
        let stage = Stage::new();
        stage.fault(NeonFault {
            method: Some(Method::POST),
            path: "/branches".to_owned(),
            action,
            ..NeonFault::default()
        });
        assert!(stage.create().await.unwrap(), "it is this try's own");
        assert_eq!(stage.arrived(&Method::POST, "/branches"), 1);
        assert_eq!(stage.own().len(), 1);
    }
}

#[tokio::test]
async fn a_creation_that_did_not_arrive_is_left_to_the_next_try() {
    let stage = Stage::new();
    stage.fault(NeonFault {
        method: Some(Method::POST),
        path: "/branches".to_owned(),
        action: NeonFaultAction::Reset,
        ..NeonFault::default()
    });
    let error = stage.create().await.unwrap_err();
    assert_eq!(error.name(), Name::Transient, "{error}");
    assert!(
        error.to_string().contains("nothing was sent twice"),
        "{error}"
    );
    assert_eq!(stage.arrived(&Method::POST, "/branches"), 1);
    assert!(stage.create().await.unwrap());
    assert_eq!(stage.own().len(), 1);
}

#[tokio::test]
async fn an_operation_that_fails_is_waited_for_or_cleared_away() {
    // Faults of operations are of the whole stand-in.
    let stage = Stage::of(start());
    let pause = Duration::from_millis(300);
    let faults = stage.neon.faults();
    faults.add_operation("create_branch", OperationFault::FailsOnce(pause));
    assert!(stage.create().await.unwrap());
    stage.remove().await.unwrap();
    for fault in [OperationFault::Fails, OperationFault::IsCancelled] {
        stage.neon.faults().add_operation("create_branch", fault);
        tried(&stage, Step::Create).await;
        assert_eq!(stage.own().len(), 1);
        stage.remove().await.unwrap();
    }
    stage.assert_foreign_untouched();
}

#[tokio::test]
async fn a_creation_that_outlasts_a_try_is_waited_for_by_the_next_and_sent_once() {
    // Faults of operations are of the whole stand-in.
    let stage = Stage::of(start());
    let faults = stage.neon.faults();
    faults.add_operation("create_branch", OperationFault::Hangs);
    // The try that makes it, and one that finds it; ten seconds of each are kept to answer.
    for _ in 0..2 {
        let client = stage.client_for(Duration::from_secs(12));
        let error = client.ensure(&stage.daily()).await.unwrap_err();
        assert_eq!(error.name(), Name::Transient, "{error}");
        for expected in [
            "create a branch: Neon has not done it within ",
            " s (last seen: create_branch running)",
        ] {
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
    faults.clear();
    assert!(!stage.create().await.unwrap(), "an earlier try made it");
    assert_eq!(stage.arrived(&Method::POST, "/branches"), 1);
    assert_eq!(stage.own().len(), 1);
    stage.assert_foreign_untouched();
}

#[tokio::test]
async fn a_branch_that_is_unknown_for_a_moment_is_waited_for() {
    let stage = Stage::new();
    stage.fault(NeonFault {
        method: Some(Method::GET),
        path: "/branches/".to_owned(),
        times: 2,
        action: NeonFaultAction::NotFound,
        ..NeonFault::default()
    });
    assert!(stage.create().await.unwrap());
}

#[tokio::test]
async fn a_name_that_somebody_else_uses_is_refused_and_left_alone() {
    let stage = Stage::new();
    let taken = reqwest::Client::new()
        .post(format!(
            "{}/projects/{}/branches",
            stage.neon.url(),
            stage.project
        ))
        .bearer_auth(stage.neon.key())
        .json(&serde_json::json!({"branch": {"name": "backup-2026-11-21"}}))
        .send();
    assert_eq!(taken.await.unwrap().status(), 201);
    let before = stage.own();
    for error in [
        stage.create().await.unwrap_err(),
        stage.remove().await.map(drop).unwrap_err(),
    ] {
        assert_eq!(error.name(), Name::Refused, "{error}");
        assert!(
            error.to_string().contains("Lifeboat will not touch it"),
            "{error}"
        );
    }
    assert_eq!(stage.own(), before);
}

#[tokio::test]
async fn a_key_that_is_wrong_and_a_project_that_is_not_there_are_named() {
    let stage = Stage::new();
    let id = ProjectId::try_from(stage.project.clone()).unwrap();
    let client = Client::new(stage.neon.url().parse().unwrap()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let wrong = client.project(&id, ApiKey::parse("napi_wrong").unwrap(), deadline);
    let error = wrong.branches().await.unwrap_err();
    assert_eq!(error.name(), Name::Refused);
    assert!(error.to_string().contains("revoked or mistyped"), "{error}");
    assert!(!format!("{error} {error:?}").contains("napi_wrong"));
    let key = ApiKey::parse(stage.neon.key()).unwrap();
    let gone = ProjectId::try_from("no-such-1".to_owned()).unwrap();
    let error = client
        .project(&gone, key.clone(), deadline)
        .facts()
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("no Neon project no-such-1"),
        "{error}"
    );
    // A key of the whole organization says so; the project's own does not open others.
    let other = stage.neon.project(ProjectOptions::default());
    other.unwrap();
    let wide = client.project(&id, key, deadline);
    assert_eq!(wide.key_opens_others().await.unwrap(), Some(true));
    assert_eq!(
        stage.client().key_opens_others().await.unwrap(),
        Some(false)
    );
}

/// 120 branches are two pages; the last one is found, and so is what lies on the first.
#[tokio::test]
async fn branches_are_read_to_the_last_page() {
    let stage = Stage::new();
    let http = reqwest::Client::new();
    let url = format!("{}/projects/{}/branches", stage.neon.url(), stage.project);
    // Faster than the client's own pace, and the stand-in's limits are not the subject.
    let mut made = 0;
    while made < 120 {
        let body = serde_json::json!({"branch": {"name": format!("preview-{made}")}});
        let post = http
            .post(&url)
            .bearer_auth(stage.neon.key())
            .json(&body)
            .send();
        match post.await.unwrap().status().as_u16() {
            201 => made += 1,
            423 | 429 => tokio::time::sleep(Duration::from_millis(10)).await,
            status => panic!("{status}"),
        }
    }
    let all = stage.client().branches().await.unwrap();
    assert_eq!(all.0.len(), 121);
    assert!(all.named("preview-0").is_some() && all.named("preview-119").is_some());
    assert!(all.default_branch().is_some_and(|it| it.name == "main"));
}
