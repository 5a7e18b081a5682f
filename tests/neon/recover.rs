//! Production put back to an earlier moment, through its state machine, with a person's approval.

mod incident;
mod interrupted;

use localcloud::neon::NeonFault;
use serde_json::{Value, json};

use incident::{AFTER, BEFORE, Incident, Setup};

#[tokio::test]
async fn production_goes_back_what_it_was_is_kept_and_what_changed_since_is_counted() {
    let setup = Setup {
        restore_keeps_id: false,
        policy: "[database.drill]\ntarget = \"standby\"\n[[database.drill.sql]]\nname = \"three orders\"\nquery = \"SELECT count(*) FROM orders\"\nexpect = \"3\"",
        ..Setup::default()
    };
    let incident = Incident::new("recover-good", setup).await;
    let stage = &incident.stage;
    let execution = incident.start().await;
    let (plan_id, question) = incident.asked(&execution).await;
    for words in [
        "Production has not been changed",
        "Back to:    ",
        "freeze: lifeboat-hook-freeze-recover-good",
        "1 checks of [database.drill] decide",
        "recover-good/main typed out",
    ] {
        assert!(question.contains(words), "{words}\n{question}");
    }
    assert_eq!(incident.hooks(), [incident.told("freeze", "")]);
    for typed in ["", "main", "recover-good/Main"] {
        let error = incident.approve(&plan_id, typed).await.unwrap_err();
        assert!(error.contains("nothing was approved"), "{error}");
    }
    incident.assert_untouched();
    incident
        .approve(&plan_id, "recover-good/main")
        .await
        .unwrap();
    let ended = stage.cloud.wait(&execution).await.unwrap();
    assert_eq!(ended.status, "SUCCEEDED", "{ended:?}\n{}", stage.story());

    assert_eq!(incident.orders_of("main"), BEFORE);
    let made = "SELECT to_regclass('made') IS NULL";
    assert_eq!(stage.sql(made), "t");
    let branches = stage.branches();
    assert_eq!(branches.len(), 2, "{branches:?}");
    let production = branches.iter().find(|it| it.is_default).unwrap();
    assert_eq!(production.endpoint, Some(stage.seeded.endpoint.clone()));
    let kept = branches.iter().find(|it| !it.is_default).unwrap();
    assert!(kept.name.starts_with("main-before-2"), "{}", kept.name);
    assert_eq!((kept.expires_at, &kept.parent), (None, &None));
    assert_eq!(incident.orders_of(&kept.name), AFTER);
    // Once more before the change: somebody may have let writes go on.
    let freeze = incident.told("freeze", "");
    let hooks = [freeze.clone(), freeze, incident.told("unfreeze", "")];
    assert_eq!(incident.hooks(), hooks);

    let output = ended.output.clone().unwrap();
    let words = output["words"].as_str().unwrap();
    for expected in [
        "RECOVERED: production of recover-good",
        "Approved by Grace",
        "- public.orders: 2 rows added since, 1 gone, 1 changed",
        "- public.made: 7 rows added since, 0 gone, 0 changed; it was made since",
        "it had 2 rows then and 3 when it was kept, and they differ",
        "- public.prices: 0 rows added since, 0 gone, 1 changed",
        "- 1 tables are the same",
        "4 tables compared and equal, 0 not compared",
        "freeze hook called",
        "production put back, ",
    ] {
        assert!(words.contains(expected), "{expected}\n{words}");
    }
    let key = output["evidence_key"].as_str().unwrap();
    let record = stage.cloud.object("VaultBucket", key).await.unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    assert_eq!(record["verdict"], "recovered");
    assert_eq!(record["smoked"]["asked"]["checks"][0]["status"], "passed");
    let notices = stage.messages(&ended, "NoticeTopic").await;
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(
        notices[0]
            .text
            .contains("production of recover-good was put back")
    );
    assert!(
        notices[0].text.contains("2 rows added since"),
        "{}",
        notices[0].text
    );
    let history = stage.subject().history(&ended).await;
    for secret in ["npg_", "napi_", stage.neon.key(), "CANARY"] {
        assert!(!history.contains(secret), "{secret} travelled");
        assert!(!stage.cloud.logs("snapshot-branch").contains(secret));
    }

    // A plan is used once, and what was kept is nobody's but a person's.
    let again = incident.tell("promote", json!({"plan_id": plan_id})).await;
    assert!(again.unwrap_err().contains("is over"));
    stage.age(&kept.name, 400);
    let rotate = json!({"rotate": {"database": stage.name}});
    assert_eq!(stage.invoke(&rotate).await.unwrap()["deleted_total"], 0);
}

#[tokio::test]
async fn a_project_that_changed_since_it_was_approved_is_left_as_it_is() {
    let incident = Incident::new("recover-other", Setup::default()).await;
    let stage = &incident.stage;
    // One to look at keeps nobody from a recovery, and cannot be approved.
    let request = json!({"database": stage.name, "point": {"time": incident.before}, "by": "Ada"});
    let looked_at = incident.tell("plan", request).await.unwrap();
    assert_eq!(looked_at["can_be_done"], true, "{looked_at}");
    let looked_at = looked_at["plan_id"].as_str().unwrap();
    let error = incident.approve(looked_at, "recover-other/main").await;
    assert!(error.unwrap_err().contains("made to be looked at"));

    let execution = incident.start().await;
    let (plan_id, _) = incident.asked(&execution).await;
    let window = json!({"history_retention_seconds": 86_000});
    stage.neon.set(&stage.seeded.project, window).unwrap();
    incident
        .approve(&plan_id, "recover-other/main")
        .await
        .unwrap();
    let ended = stage.cloud.wait(&execution).await.unwrap();
    let end = (&*ended.status, ended.error.as_deref());
    assert_eq!(end, ("FAILED", Some("Refused")), "{ended:?}");
    let cause = ended.cause.clone().unwrap();
    for words in [
        "the restore window in seconds",
        "production was NOT changed",
    ] {
        assert!(cause.contains(words), "{words}\n{cause}");
    }
    incident.assert_untouched();
    let (hook, error) = incident.hooks().pop().unwrap();
    assert_eq!((&*hook, &*error), ("unfreeze", "Refused"));
}

#[tokio::test]
async fn a_refused_recovery_changes_nothing_lets_writes_go_on_and_wakes_nobody() {
    let incident = Incident::new("recover-no", Setup::default()).await;
    let stage = &incident.stage;
    let execution = incident.start().await;
    let (plan_id, _) = incident.asked(&execution).await;
    // Nobody gets around the approval, nor around the function that asks for it.
    for step in ["prepare", "validate", "promote"] {
        let error = incident.tell(step, json!({"plan_id": plan_id})).await;
        let error = error.unwrap_err();
        assert!(error.contains("nobody has approved"), "{step}: {error}");
    }
    let promote = json!({"recover": {"promote": {"plan_id": plan_id}}});
    let error = stage.invoke(&promote).await.unwrap_err();
    assert!(error.contains("never changes production"), "{error}");
    let rotate = json!({"rotate": {"database": stage.name}});
    let error = stage.call("RecoverFunction", &rotate).await.unwrap_err();
    assert!(error.contains("does nothing else"), "{error}");
    // A second one would let writes go on that the first has stopped.
    let second = incident.start().await;
    let second = stage.cloud.wait(&second).await.unwrap();
    assert_eq!(second.error.as_deref(), Some("HasObstacles"), "{second:?}");
    assert!(second.cause.unwrap().contains(&plan_id));
    assert_eq!(incident.hooks(), [incident.told("freeze", "")]);

    // What was never begun was not done, also while Neon says nothing.
    stage.neon.faults().add(NeonFault {
        path: format!("/projects/{}/", stage.seeded.project),
        times: 10_000,
        ..NeonFault::default()
    });
    let refuse = json!({"plan_id": plan_id, "operator": "Ada"});
    incident.tell("refuse", refuse).await.unwrap();
    let ended = stage.cloud.wait(&execution).await.unwrap();
    let end = (&*ended.status, ended.error.as_deref());
    assert_eq!(end, ("FAILED", Some("ApprovalRefused")), "{ended:?}");
    let cause = ended.cause.clone().unwrap();
    assert!(cause.contains("production was NOT changed"), "{cause}");
    incident.assert_untouched();
    let hooks = [
        incident.told("freeze", ""),
        incident.told("unfreeze", "ApprovalRefused"),
    ];
    assert_eq!(incident.hooks(), hooks);
    // The question is the only message: no alert, and no backstop.
    assert_eq!(stage.messages(&ended, "PageTopic").await.len(), 1);
    let error = incident.approve(&plan_id, "recover-no/main").await;
    assert!(error.unwrap_err().contains("Ada has refused the plan"));
}

#[tokio::test]
async fn a_freeze_hook_that_fails_ends_it_and_an_unfreeze_hook_that_fails_wakes_somebody() {
    let setup = Setup {
        freeze: Err("the queue does not drain"),
        unfreeze: Err("postgres://u:CANARY@h/db does not answer"),
        ..Setup::default()
    };
    let incident = Incident::new("recover-hot", setup).await;
    let execution = incident.start().await;
    let ended = incident.stage.cloud.wait(&execution).await.unwrap();
    let end = (&*ended.status, ended.error.as_deref());
    assert_eq!(end, ("FAILED", Some("UnfreezeFailed")), "{ended:?}");
    incident.assert_untouched();
    let hooks = [
        incident.told("freeze", ""),
        incident.told("unfreeze", "HookFailed"),
    ];
    assert_eq!(incident.hooks(), hooks);
    let pages = incident.stage.messages(&ended, "PageTopic").await;
    assert!(pages.iter().all(|it| !it.text.contains("waits for your")));
    let told = pages.iter().find(|it| !it.text.starts_with("Backstop"));
    let told = &told.unwrap().text;
    for words in [
        "writes to recover-hot may STILL BE STOPPED",
        "production was NOT changed",
        "the queue does not drain",
        "postgres://u:***@h/db does not answer",
    ] {
        assert!(told.contains(words), "{words}\n{told}");
    }
}

#[tokio::test]
async fn a_branch_that_is_not_good_is_removed_and_production_stays() {
    let setup = Setup {
        policy: "[database.drill]\ntarget = \"standby\"\n[[database.drill.sql]]\nname = \"four orders\"\nquery = \"SELECT count(*) FROM orders\"\nexpect = \"4\"",
        ..Setup::default()
    };
    let incident = Incident::new("recover-bad", setup).await;
    let ended = incident.recover().await;
    let end = (&*ended.status, ended.error.as_deref());
    assert_eq!(end, ("FAILED", Some("Refused")), "{ended:?}");
    let cause = ended.cause.clone().unwrap();
    assert!(cause.contains("four orders: it is 3"), "{cause}");
    incident.assert_untouched();
    assert_eq!(incident.hooks()[1], incident.told("unfreeze", "Refused"));
}
