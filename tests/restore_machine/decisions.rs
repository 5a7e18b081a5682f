//! Who decides, how often, and until when.

use serde_json::json;

use super::rescue::{Rescue, SHOP, standby};

fn exists(database: &str) -> bool {
    let sql = format!("SELECT count(*) FROM pg_database WHERE datname = '{database}'");
    standby().psql("postgres", &sql).unwrap() == "1"
}

#[tokio::test]
async fn a_refused_plan_changes_nothing_and_wakes_nobody() {
    let rescue = Rescue::new("refused", SHOP).await;
    let asked = rescue.ask(&rescue.request("refused_copy")).await;
    let answer = rescue.refuse(&asked.plan_id).await.unwrap();
    assert_eq!(answer["approved"], false);
    let ended = rescue.subject.wait(&asked.execution).await;
    let causes = ["Refused by Ada", "Nothing was changed"];
    rescue.assert_failed(&ended, "ApprovalRefused", &causes);
    assert!(!exists("refused_copy"));
    let record = rescue.newest_record().await;
    assert_eq!(record["verdict"], "refused");
    assert_eq!(record["decision"]["operator"], "Ada");
    // The question is the only message: no alert, and no backstop.
    assert_eq!(rescue.messages_about(&asked).await.len(), 1);

    let (name, message) = rescue
        .approve(&asked, "standby/refused_copy")
        .await
        .unwrap_err();
    assert_eq!(name, "Refused");
    assert!(message.contains("Ada has refused the plan"), "{message}");
}

#[tokio::test]
async fn the_targets_name_is_typed_out_or_nothing_is_approved() {
    let rescue = Rescue::new("typed", SHOP).await;
    let asked = rescue.ask(&rescue.request("typed_copy")).await;
    for typed in ["", "typed_copy", "standby/typed_cop", "Standby/typed_copy"] {
        let (name, message) = rescue.approve(&asked, typed).await.unwrap_err();
        assert_eq!(name, "Refused");
        assert!(message.contains("nothing was approved"), "{message}");
    }
    rescue.refuse(&asked.plan_id).await.unwrap();
    rescue.subject.wait(&asked.execution).await;
    assert!(!exists("typed_copy"));
}

#[tokio::test]
async fn a_plan_is_used_once() {
    let rescue = Rescue::new("once", SHOP).await;
    let asked = rescue.ask(&rescue.request("once_copy")).await;
    let apply = json!({"apply": {"plan_id": asked.plan_id}});
    let (name, message) = rescue.call(&apply).await.unwrap_err();
    assert_eq!(name, "Refused");
    assert!(message.contains("nobody has approved"), "{message}");

    rescue.approve(&asked, "standby/once_copy").await.unwrap();
    // Heard twice, meant once.
    rescue.approve(&asked, "standby/once_copy").await.unwrap();
    let ended = rescue.subject.wait(&asked.execution).await;
    let report = rescue.assert_restored(&ended);
    for execution in [json!(null), json!(asked.execution)] {
        let apply = json!({"apply": {"plan_id": asked.plan_id, "execution": execution}});
        let (name, message) = rescue.call(&apply).await.unwrap_err();
        assert_eq!(name, "Refused");
        assert!(message.contains("a plan is used once"), "{message}");
    }
    // A report that is asked for again says what it said.
    let again = json!({"report": {"plan_id": asked.plan_id, "outcome": "failed"}});
    let again = rescue.call(&again).await.unwrap();
    assert_eq!(again["evidence_key"], report["evidence_key"]);
    assert_eq!(again["verdict"], "proven");
}

#[tokio::test]
async fn a_changed_world_refuses_an_approved_plan_and_says_what_changed() {
    let rescue = Rescue::new("changed", SHOP).await;
    let asked = rescue.ask(&rescue.request("changed_copy")).await;
    standby()
        .psql("postgres", "CREATE DATABASE changed_copy")
        .unwrap();
    standby()
        .psql("changed_copy", "CREATE TABLE precious AS SELECT 1 AS i")
        .unwrap();
    rescue
        .approve(&asked, "standby/changed_copy")
        .await
        .unwrap();
    let ended = rescue.subject.wait(&asked.execution).await;
    let causes = [
        "not the one that was planned for",
        "whether the target's database exists: it was no, and is yes now",
    ];
    rescue.assert_failed(&ended, "Refused", &causes);
    let precious = "SELECT count(*) FROM precious";
    assert_eq!(standby().psql("changed_copy", precious).unwrap(), "1");
    rescue.assert_no_secret(&ended).await;
    let record = rescue.newest_record().await;
    assert_eq!(record["verdict"], "failed");
    let state = record["target_state"].as_str().unwrap();
    assert!(state.contains("was not touched"), "{state}");
}

#[tokio::test]
async fn a_plan_that_nobody_decides_on_expires() {
    let cloud = super::interruptions::brisk().await;
    let rescue = Rescue::of(cloud, "expired", SHOP).await;
    let asked = rescue.ask(&rescue.request("expired_copy")).await;
    let ended = rescue.subject.wait(&asked.execution).await;
    rescue.assert_failed(&ended, "ApprovalExpired", &["nothing was changed"]);
    assert!(!exists("expired_copy"));
    let (name, message) = rescue
        .approve(&asked, "standby/expired_copy")
        .await
        .unwrap_err();
    assert_eq!(name, "Refused");
    assert!(message.contains("expired at"), "{message}");
    assert_eq!(rescue.newest_record().await["verdict"], "expired");
    assert_eq!(rescue.messages_about(&asked).await.len(), 1);
}

/// An approved plan, by hand.
async fn approved(rescue: &Rescue, into: &str) -> String {
    let request = json!({"plan": rescue.request(into)});
    let plan = rescue.call(&request).await.unwrap();
    assert_eq!(plan["can_be_done"], true, "{plan}");
    let typed = format!("standby/{into}");
    let approve = json!({"approve": {"plan_id": plan["plan_id"], "operator": "Grace", "target_name_typed": typed}});
    rescue.call(&approve).await.unwrap();
    plan["plan_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_restore_takes_only_the_database_that_its_plan_has_made() {
    let rescue = Rescue::new("only-own", SHOP).await;
    let plan_id = approved(&rescue, "only_own_copy").await;
    let apply = json!({"apply": {"plan_id": plan_id}});
    // As if an invocation had been killed as soon as the plan was its own; then somebody was quicker.
    let key = format!("plans/{plan_id}/consumed.json");
    let consumed = json!({"by": "a person, by hand", "at": "2026-11-21T03:00:00Z"}).to_string();
    let cloud = rescue.subject.cloud;
    cloud.overwrite("WorkBucket", &key, consumed).await.unwrap();
    let sql = |sql: &str| standby().psql("postgres", sql).unwrap();
    sql("CREATE DATABASE only_own_copy");
    let (name, message) = rescue.call(&apply).await.unwrap_err();
    assert_eq!(name, "Refused");
    assert!(
        message.contains("there is a database only_own_copy already"),
        "{message}"
    );
    let left = "SELECT count(*) FROM pg_namespace WHERE nspname IN ('shop', 'lifeboat_restore')";
    assert_eq!(standby().psql("only_own_copy", left).unwrap(), "0");

    // Killed a moment later, the plan has made one, and nothing is in it yet.
    sql("DROP DATABASE only_own_copy");
    sql("CREATE DATABASE only_own_copy");
    let comment = shared::restore::scratch::made_by(&plan_id);
    sql(&format!("COMMENT ON DATABASE only_own_copy IS '{comment}'"));
    while rescue.call(&apply).await.unwrap()["remaining"] != 0 {}
    let report = json!({"report": {"plan_id": plan_id, "outcome": "finished"}});
    assert_eq!(rescue.call(&report).await.unwrap()["verdict"], "proven");
    let comment = "SELECT shobj_description(oid, 'pg_database') IS NULL FROM pg_database WHERE datname = 'only_own_copy'";
    assert_eq!(sql(comment), "t");
}

#[tokio::test]
async fn a_plan_that_was_given_up_is_not_carried_out() {
    let rescue = Rescue::new("given-up", SHOP).await;
    let plan_id = approved(&rescue, "given_up_copy").await;
    let report = json!({"report": {"plan_id": plan_id, "outcome": "failed"}});
    let report = rescue.call(&report).await.unwrap();
    assert_eq!(report["verdict"], "failed");
    let state = report["target_state"].as_str().unwrap();
    assert!(state.contains("was not touched"), "{state}");
    let apply = json!({"apply": {"plan_id": plan_id}});
    let (name, message) = rescue.call(&apply).await.unwrap_err();
    assert_eq!(name, "Refused");
    assert!(message.contains("is over"), "{message}");
    assert!(!exists("given_up_copy"));
}

#[tokio::test]
async fn a_restore_can_be_done_by_hand_without_the_machine() {
    let rescue = Rescue::new("by-hand", SHOP).await;
    let request = json!({"plan": rescue.request("by_hand_copy")});
    let plan = rescue.call(&request).await.unwrap();
    assert_eq!(plan["can_be_done"], true, "{plan}");
    let plan_id = &plan["plan_id"];
    let report = |outcome: &str| json!({"report": {"plan_id": plan_id, "outcome": outcome}});
    // Nothing is taken for an end that it did not come to.
    let says = async |outcome: &str, expected: &str| {
        let (name, message) = rescue.call(&report(outcome)).await.unwrap_err();
        assert_eq!(name, "Refused");
        assert!(message.contains(expected), "{message}");
    };
    says("refused", "nobody has refused it").await;
    says("expired", "may be decided on until").await;
    let approve = json!({"approve": {"plan_id": plan_id, "operator": "Grace",
        "target_name_typed": "standby/by_hand_copy"}});
    let answer = rescue.call(&approve).await.unwrap();
    assert!(
        answer["next"].as_str().unwrap().contains("by hand"),
        "{answer}"
    );
    says("finished", "it is not finished").await;
    let apply = json!({"apply": {"plan_id": plan_id}});
    while rescue.call(&apply).await.unwrap()["remaining"] != 0 {}
    says("expired", "by a person, by hand").await;
    // All of it is there, whatever went wrong for whoever reports.
    let report = rescue.call(&report("failed")).await.unwrap();
    assert_eq!(report["verdict"], "proven", "{report}");
    assert_eq!(
        rescue.record(&report).await["applied"]["by"],
        "a person, by hand"
    );
}
