//! Whatever happens to the change of production, it is done once or not at all, and told as it is.

use std::sync::Arc;
use std::time::Duration;

use localcloud::neon::{NeonCall, NeonFault, NeonFaultAction, NeonOptions, OperationFault};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::{OnceCell, Semaphore};

use super::incident::{AFTER, BEFORE, Incident, NOW, ORDERS, Setup};
use crate::drill::interrupted::kill_functions;
use crate::faults::subject::wait_until;
use crate::neon::stage::World;

const KEPT: &str = "main-before-";

impl Incident {
    fn kept(&self) -> Vec<String> {
        let mut names = self.stage.names();
        names.retain(|it| it.starts_with(KEPT));
        names
    }

    fn log_of(&self, branch: &str, line: &str) -> bool {
        let sql = format!("SELECT count(*) FROM log WHERE line = '{line}'");
        let project = &self.stage.seeded.project;
        let neon = self.stage.neon;
        neon.psql(project, branch, "neondb", &sql).unwrap() == "1"
    }

    /// One recovery with a line written after its point; then the world is as it says.
    async fn survive(&mut self, line: &str) {
        self.before = self.stage.sql(NOW);
        self.stage
            .sql(&format!("INSERT INTO log VALUES ('{line}')"));
        let kept = self.kept();
        let ended = self.recover().await;
        let words = match (&ended.output, &ended.cause) {
            (Some(output), _) => output["words"].as_str().unwrap().to_owned(),
            (None, cause) => cause.clone().unwrap(),
        };
        let now = self.kept();
        let case = format!("{line}: {words}\n{}", self.stage.story());
        let is_changed = words.contains("production WAS put back");
        assert_ne!(is_changed, words.contains("NOT changed"), "{case}");
        assert_eq!(now.len(), kept.len() + usize::from(is_changed), "{case}");
        assert_eq!(self.log_of("main", line), !is_changed, "{case}");
        if is_changed {
            let new = now.iter().find(|it| !kept.contains(it)).unwrap();
            assert!(self.log_of(new, line), "{case}");
        }
        assert_eq!(ended.status == "SUCCEEDED", is_changed, "{case}");
        let (hook, error) = self.hooks().pop().unwrap();
        assert_eq!(
            (&*hook, error.is_empty()),
            ("unfreeze", is_changed),
            "{case}"
        );
        // Nothing is left but what is kept.
        assert_eq!(self.stage.branches().len(), now.len() + 1, "{case}");
    }
}

#[tokio::test]
#[ignore = "half a minute: make slow"]
async fn production_is_put_back_once_though_it_is_busy_and_the_answer_is_lost() {
    let incident = Incident::new("recover-lost", Setup::default()).await;
    let stage = &incident.stage;
    let own = format!(
        "/projects/{}/branches/{}/restore",
        stage.seeded.project, stage.seeded.branch
    );
    for (from, action) in [
        (1, NeonFaultAction::Locked),
        (2, NeonFaultAction::LoseAnswer),
    ] {
        stage.neon.faults().add(NeonFault {
            method: Some(Method::POST),
            path: own.clone(),
            from,
            action,
            ..NeonFault::default()
        });
    }
    let ended = incident.recover().await;
    assert_eq!(ended.status, "SUCCEEDED", "{ended:?}\n{}", stage.story());
    let calls = stage.neon.calls();
    let is_sent = |it: &&NeonCall| it.path.ends_with(&own);
    assert_eq!(calls.iter().filter(is_sent).count(), 2);
    // It was not sent again without another look.
    let project = format!("/projects/{}/branches", stage.seeded.project);
    let mut between = calls.iter().skip_while(|it| !is_sent(it)).skip(1);
    let mut between = between.by_ref().take_while(|it| !is_sent(it));
    assert!(between.any(|it| it.path.ends_with(&project)));
    assert_eq!(stage.branches().len(), 2);
    assert_eq!(incident.orders_of("main"), BEFORE);
}

#[tokio::test]
#[ignore = "half a minute: make slow"]
async fn what_failed_elsewhere_in_the_project_spoils_no_recovery() {
    let incident = Incident::new("recover-past", Setup::default()).await;
    let stage = &incident.stage;
    let faults = stage.neon.faults();
    faults.add_operation_of(
        &stage.seeded.project,
        "create_branch",
        OperationFault::Fails,
    );
    stage.foreign("preview", Value::Null).await;
    let ended = incident.recover().await;
    assert_eq!(ended.status, "SUCCEEDED", "{ended:?}\n{}", stage.story());
    assert_eq!(incident.orders_of("main"), BEFORE);
    assert_eq!(stage.branches().len(), 3, "{:?}", stage.names());
}

#[tokio::test]
#[ignore = "half a minute: make slow"]
async fn production_whose_passwords_are_not_kept_is_asked_through_a_branch_of_it() {
    let setup = Setup {
        store_passwords: false,
        ..Setup::default()
    };
    let incident = Incident::new("recover-closed", setup).await;
    let ended = incident.recover().await;
    let story = incident.stage.story();
    assert_eq!(ended.status, "SUCCEEDED", "{ended:?}\n{story}");
    let output = ended.output.unwrap();
    let words = output["words"].as_str().unwrap();
    for expected in ["a branch of it was", "4 tables compared and equal, 0 not"] {
        assert!(words.contains(expected), "{expected}\n{words}");
    }
    assert_eq!(incident.stage.branches().len(), 2, "{story}");
    let calls = incident.stage.neon.calls_of(&incident.stage.seeded.project);
    let reset = |it: &&NeonCall| it.path.ends_with("/reset_password");
    let of_production = format!("/branches/{}/", incident.stage.seeded.branch);
    let mut resets = calls.iter().filter(reset);
    assert!(resets.all(|it| !it.path.contains(&of_production)));
}

/// Neon may say what it likes: while writes are stopped, production is what was checked, or the
/// recovery is not good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "half a minute: make slow"]
async fn a_production_that_is_not_what_was_checked_is_not_called_good() {
    let incident = Incident::new("recover-unlike", Setup::default()).await;
    let stage = &incident.stage;
    let (project, faults) = (&stage.seeded.project, stage.neon.faults());
    let slow = OperationFault::FailsOnce(Duration::from_secs(3));
    faults.add_operation_of(project, "create_timeline", slow);
    let execution = incident.start().await;
    let (plan_id, _) = incident.asked(&execution).await;
    incident
        .approve(&plan_id, "recover-unlike/main")
        .await
        .unwrap();
    wait_until(|| !incident.kept().is_empty(), "what was kept");
    let gate = Arc::new(Semaphore::new(0));
    faults.add(NeonFault {
        path: format!("/projects/{project}/connection_uri"),
        action: NeonFaultAction::Hold(gate.clone()),
        ..NeonFault::default()
    });
    // Somebody writes in spite of the freeze.
    let is_back = || {
        let orders = stage.neon.psql(project, "main", "neondb", ORDERS);
        orders.is_ok_and(|it| it == BEFORE)
    };
    wait_until(is_back, "production");
    stage.sql("INSERT INTO log VALUES ('four')");
    gate.add_permits(1);
    let ended = stage.cloud.wait(&execution).await.unwrap();
    assert_eq!(ended.error.as_deref(), Some("Refused"), "{ended:?}");
    let cause = ended.cause.clone().unwrap();
    for words in [
        "production WAS put back",
        "public.log does not hold what the checked branch holds",
    ] {
        assert!(cause.contains(words), "{words}\n{cause}");
    }
    let pages = stage.messages(&ended, "PageTopic").await;
    let told = pages.iter().find(|it| it.text.contains("FAILED")).unwrap();
    assert!(told.text.contains("Undo a recovery"), "{}", told.text);
    assert!(!told.text.contains("To plan again"), "{}", told.text);
}

#[tokio::test]
#[ignore = "half a minute: make slow"]
async fn a_recovery_that_somebody_stops_is_ended_by_hand_and_says_what_it_does_not_know() {
    let incident = Incident::new("recover-stopped", Setup::default()).await;
    let stage = &incident.stage;
    let execution = incident.start().await;
    let (plan_id, _) = incident.asked(&execution).await;
    stage.cloud.stop_execution(&execution).await.unwrap();
    let close = json!({"plan_id": plan_id});
    let early = incident.tell("close", close.clone()).await.unwrap_err();
    assert!(early.contains("refuse it"), "{early}");
    let refuse = json!({"plan_id": plan_id, "operator": "Ada"});
    incident.tell("refuse", refuse).await.unwrap();
    let closed = incident.tell("close", close.clone()).await.unwrap();
    assert_eq!(closed["is_good"], false, "{closed}");
    let words = closed["words"].as_str().unwrap();
    for expected in [
        "production was NOT changed",
        "WRITES MAY STILL BE STOPPED, nothing says that the unfreeze hook",
    ] {
        assert!(words.contains(expected), "{expected}\n{words}");
    }
    assert_eq!(incident.tell("close", close).await.unwrap(), closed);
    let late = incident.approve(&plan_id, "recover-stopped/main").await;
    assert!(late.unwrap_err().contains("Ada has refused the plan"));
    incident.assert_untouched();
    // The next one is not kept waiting.
    let ended = incident.recover().await;
    assert_eq!(ended.status, "SUCCEEDED", "{ended:?}\n{}", stage.story());
}

/// Of a function that dies while production goes back, another one takes over, and nothing is
/// sent again.
#[tokio::test]
#[ignore = "a cloud of its own, since its functions are killed: make slow"]
async fn a_function_that_dies_while_production_goes_back_is_replaced() {
    static WORLD: OnceCell<World> = OnceCell::const_new();
    let start = || World::start("neon-killed", NeonOptions::default(), |_| {});
    let world = WORLD.get_or_init(start).await;
    let incident = Incident::of(world, "recover-killed", Setup::default()).await;
    let stage = &incident.stage;
    let pause = Duration::from_secs(15);
    let slow = OperationFault::FailsOnce(pause);
    let faults = stage.neon.faults();
    faults.add_operation_of(&stage.seeded.project, "create_timeline", slow);
    let execution = incident.start().await;
    let (plan_id, _) = incident.asked(&execution).await;
    incident
        .approve(&plan_id, "recover-killed/main")
        .await
        .unwrap();
    wait_until(|| !incident.kept().is_empty(), "what was kept");
    kill_functions(stage.cloud, "RecoverFunction");
    let ended = stage.cloud.wait(&execution).await.unwrap();
    assert_eq!(ended.status, "SUCCEEDED", "{ended:?}\n{}", stage.story());
    assert_eq!(incident.orders_of("main"), BEFORE);
    assert_eq!(incident.kept().len(), 1);
    let history = stage.subject().history(&ended).await;
    assert!(history.contains("Runtime.ExitError"), "nobody was killed");
    let calls = stage.neon.calls();
    let is_sent = |it: &&NeonCall| it.path.ends_with("/restore");
    assert_eq!(calls.iter().filter(is_sent).count(), 1);
}

#[tokio::test]
async fn a_change_that_neon_refuses_is_known_not_to_have_happened_and_not_sent_again() {
    let incident = Incident::new("recover-limit", Setup::default()).await;
    let stage = &incident.stage;
    let own = format!(
        "/projects/{}/branches/{}/restore",
        stage.seeded.project, stage.seeded.branch
    );
    stage.neon.faults().add(NeonFault {
        method: Some(Method::POST),
        path: own.clone(),
        action: NeonFaultAction::Limit("ROOT_BRANCHES_LIMIT_EXCEEDED"),
        ..NeonFault::default()
    });
    let ended = incident.recover().await;
    assert_eq!(ended.error.as_deref(), Some("Refused"), "{ended:?}");
    let cause = ended.cause.clone().unwrap();
    for words in ["production was NOT changed", "delete root branches"] {
        assert!(cause.contains(words), "{words}\n{cause}");
    }
    incident.assert_untouched();
    let calls = stage.neon.calls();
    assert_eq!(calls.iter().filter(|it| it.path.ends_with(&own)).count(), 1);
}

#[tokio::test]
#[ignore = "minutes: make slow"]
async fn a_fault_at_the_change_never_makes_two_or_a_false_word() {
    for (name, restore_keeps_id) in [("recover-keeps", true), ("recover-moves", false)] {
        let setup = Setup {
            restore_keeps_id,
            ..Setup::default()
        };
        let mut incident = Incident::new(name, setup).await;
        let faults = [
            (NeonFaultAction::Locked, 3),
            (NeonFaultAction::Unavailable, 2),
            (NeonFaultAction::TooManyRequests { retry_after: None }, 2),
            (NeonFaultAction::Html(500), 2),
            (NeonFaultAction::Reset, 1),
            (NeonFaultAction::LoseAnswer, 1),
            (NeonFaultAction::HideAnswer, 1),
            (NeonFaultAction::CutAnswer, 1),
            (NeonFaultAction::Limit("ROOT_BRANCHES_LIMIT_EXCEEDED"), 1),
        ];
        for (n, (action, times)) in faults.into_iter().enumerate() {
            let branches = incident.stage.branches();
            let production = branches.iter().find(|it| it.is_default).unwrap();
            let project = &incident.stage.seeded.project;
            incident.stage.neon.faults().add(NeonFault {
                method: Some(Method::POST),
                path: format!("/projects/{project}/branches/{}/restore", production.id),
                times,
                action,
                ..NeonFault::default()
            });
            incident.survive(&format!("fault-{n}")).await;
        }
        let pause = std::time::Duration::from_secs(2);
        let faults = incident.stage.neon.faults();
        faults.add_operation("create_timeline", OperationFault::FailsOnce(pause));
        incident.survive("operation-fails-once").await;
        assert_eq!(incident.orders_of("main"), AFTER);
    }
}

#[tokio::test]
#[ignore = "minutes: make slow"]
async fn a_production_that_came_out_wrong_is_never_called_good() {
    let incident = Incident::new("recover-broken", Setup::default()).await;
    let faults = incident.stage.neon.faults();
    faults.add_operation("create_timeline", OperationFault::IsInError);
    let ended = incident.recover().await;
    assert_eq!(ended.status, "FAILED", "{ended:?}");
    let cause = ended.cause.clone().unwrap();
    assert!(cause.contains("production WAS put back"), "{cause}");
    assert!(!cause.contains("RECOVERED"), "{cause}");
    assert_eq!(incident.kept().len(), 1);
    assert_eq!(incident.orders_of(&incident.kept()[0]), AFTER);
}

/// The point leaves the restore window, and with it the plan its worth.
#[tokio::test]
#[ignore = "minutes: make slow"]
async fn a_recovery_that_nobody_decides_on_expires_and_writes_go_on() {
    let incident = Incident::new("recover-late", Setup::default()).await;
    let window: Value = json!({"history_retention_seconds": 15 * 60 + 25});
    let (neon, project) = (incident.stage.neon, &incident.stage.seeded.project);
    neon.set(project, window).unwrap();
    let execution = incident.start().await;
    let (plan_id, _) = incident.asked(&execution).await;
    let ended = incident.stage.cloud.wait(&execution).await.unwrap();
    assert_eq!(ended.error.as_deref(), Some("ApprovalExpired"), "{ended:?}");
    incident.assert_untouched();
    let (hook, error) = incident.hooks().pop().unwrap();
    assert_eq!((&*hook, &*error), ("unfreeze", "ApprovalExpired"));
    let error = incident.approve(&plan_id, "recover-late/main").await;
    assert!(error.unwrap_err().contains("expired at"));
    assert_ne!(incident.orders_of("main"), BEFORE);
}
