//! Snapshot branches: made, rotated and looked at by their state machine.

use std::time::Duration;

use localcloud::neon::{Limits, NeonBranch, NeonFault, NeonFaultAction, Plan, ProjectOptions};
use reqwest::Method;
use serde_json::{Value, json};

use super::stage::Stage;

fn project() -> ProjectOptions {
    ProjectOptions {
        // Old enough for the state of 15 minutes ago.
        age: Duration::from_secs(7_200),
        history_retention_seconds: Some(7 * 86_400),
        ..ProjectOptions::default()
    }
}

/// A project that is as the default policy wants it but for production's protection.
async fn protect(stage: &Stage) {
    let url = format!(
        "{}/projects/{}/branches/{}",
        stage.neon.url(),
        stage.seeded.project,
        stage.seeded.branch
    );
    let patch = reqwest::Client::new()
        .patch(url)
        .bearer_auth(stage.neon.key());
    let patch = patch.json(&json!({"branch": {"protected": true}})).send();
    assert_eq!(patch.await.unwrap().status(), 200);
}

fn named(branches: &[NeonBranch], name: &str) -> NeonBranch {
    branches.iter().find(|it| it.name == name).unwrap().clone()
}

#[tokio::test]
async fn a_sunday_makes_a_daily_and_a_weekly_branch_once_and_finds_everything_in_order() {
    let stage = Stage::new("neon-sunday", project(), "prove_freshness = true").await;
    protect(&stage).await;
    stage.sql("CREATE TABLE t (i int)");
    let ended = stage.run_branches("2026-01-11T02:00:00Z").await;
    assert_eq!(ended.status, "SUCCEEDED", "{ended:?}\n{}", stage.story());
    assert_eq!(
        stage.names(),
        ["backup-2026-01-11", "main", "weekly-2026-01-11"]
    );
    let daily = named(&stage.branches(), "backup-2026-01-11");
    assert_eq!(daily.parent.as_deref(), Some(&*stage.seeded.branch));
    // A snapshot needs no compute, and must not expire: drills branch off it.
    assert_eq!((daily.endpoint, daily.expires_at), (None, None));
    assert_eq!(daily.annotation["note-who"], "the schedule");
    assert_eq!(daily.annotation["note-why"], "the daily snapshot");
    assert_eq!(daily.annotation["database"], stage.name);

    // The schedule delivers at least once, and the next day sees what changed.
    let before = stage.branches();
    let again = stage.run_branches("2026-01-11T02:00:00Z").await;
    assert_eq!(again.status, "SUCCEEDED", "{again:?}");
    assert_eq!(stage.branches(), before);
    stage.sql("CREATE TABLE added (i int)");
    let next = stage.run_branches("2026-01-12T02:00:00Z").await;
    assert_eq!(next.status, "SUCCEEDED", "{next:?}");
    let daily = named(&stage.branches(), "backup-2026-01-12");
    let change = &daily.annotation["note-schema-change"];
    assert!(
        change.contains("since backup-2026-01-11") && change.contains("added"),
        "{change}"
    );
}

#[tokio::test]
async fn what_is_not_as_it_should_be_is_told_with_its_remedy_and_written_down() {
    let short = ProjectOptions {
        plan: Plan::Launch,
        history_retention_seconds: Some(86_400),
        ..ProjectOptions::default()
    };
    let stage = Stage::new("neon-posture", short, "").await;
    let project = &stage.seeded.project;
    stage
        .neon
        .set(project, json!({"data_transfer_bytes": 90_000_000_000_u64}))
        .unwrap();
    let ended = stage.run_branches("2026-01-12T02:00:00Z").await;
    // Findings are no failure of the run.
    assert_eq!(ended.status, "SUCCEEDED", "{ended:?}\n{}", stage.story());
    let pages = stage.messages(&ended, "PageTopic").await;
    assert_eq!(pages.len(), 1, "{pages:?}");
    for words in [
        "Database: neon-posture\n",
        "the last 1 days can be restored, and the policy wants 7 days; lengthen it in the project's settings",
        "the production branch main is not protected",
        "90000000000 of 100000000000 bytes of the transfer",
    ] {
        assert!(pages[0].text.contains(words), "{}", pages[0].text);
    }
    let key = ended.output.unwrap()["databases"][0]["evidence_key"].clone();
    let evidence = stage.cloud.object("VaultBucket", key.as_str().unwrap());
    let evidence: Value = serde_json::from_slice(&evidence.await.unwrap()).unwrap();
    assert_eq!(
        (&evidence["verdict"], &evidence["check"]),
        (&json!("failed"), &json!("posture"))
    );

    // What may be set is set; what is left can wait until morning.
    stage.configure("set_restore_window = true").await;
    let ended = stage.run_branches("2026-01-13T02:00:00Z").await;
    assert!(stage.messages(&ended, "PageTopic").await.is_empty());
    let notices = stage.messages(&ended, "NoticeTopic").await;
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(
        !notices[0].text.contains("can be restored, and the policy"),
        "{}",
        notices[0].text
    );
    assert!(notices[0].text.contains("main is not protected"));
}

#[tokio::test]
async fn old_branches_go_and_whatever_is_not_ours_stays() {
    let stage = Stage::new("neon-rotation", project(), "").await;
    for day in ["2026-01-05", "2026-01-06", "2026-01-07"] {
        let create = json!({"create": {"database": stage.name, "class": "daily", "date": day}});
        stage.invoke(&create).await.unwrap();
    }
    stage.age("backup-2026-01-05", 40);
    stage.age("backup-2026-01-06", 31);
    let parent = named(&stage.branches(), "backup-2026-01-06").id;
    stage
        .foreign("preview-of-it", json!({"parent_id": parent}))
        .await;
    stage.foreign("backup-2025-01-01", Value::Null).await;
    stage.age("backup-2025-01-01", 365);
    let rotate = json!({"rotate": {"database": stage.name, "dry_run": true}});
    let planned = stage.invoke(&rotate).await.unwrap();
    assert_eq!(planned["deleted"][0]["name"], "backup-2026-01-05");
    assert_eq!(
        (&planned["deleted_total"], &planned["foreign_total"]),
        (&json!(1), &json!(3))
    );
    assert_eq!(stage.branches().len(), 6, "a dry run deletes nothing");
    let rotate = json!({"rotate": {"database": stage.name}});
    stage.invoke(&rotate).await.unwrap();
    assert_eq!(
        stage.names(),
        [
            "backup-2025-01-01",
            "backup-2026-01-06",
            "backup-2026-01-07",
            "main",
            "preview-of-it"
        ]
    );
    let again = stage.invoke(&rotate).await.unwrap();
    assert_eq!(again["deleted_total"], 0);
}

#[tokio::test]
async fn an_old_branch_that_cannot_be_deleted_does_not_keep_tonights_from_being_made() {
    let stage = Stage::new("neon-stuck", project(), "").await;
    for day in ["2026-01-05", "2026-01-06"] {
        let create = json!({"create": {"database": stage.name, "class": "daily", "date": day}});
        stage.invoke(&create).await.unwrap();
    }
    stage.age("backup-2026-01-05", 40);
    stage.neon.faults().add(NeonFault {
        method: Some(Method::DELETE),
        path: format!("/projects/{}/branches/", stage.seeded.project),
        times: 100,
        action: NeonFaultAction::Limit("SOMETHING_OF_TOMORROW"),
        ..NeonFault::default()
    });
    let ended = stage.run_branches("2026-01-12T02:00:00Z").await;
    assert_eq!(
        (&*ended.status, ended.error.as_deref()),
        ("FAILED", Some("BranchesFailed"))
    );
    assert_eq!(
        stage.names(),
        [
            "backup-2026-01-05",
            "backup-2026-01-06",
            "backup-2026-01-12",
            "main"
        ]
    );
}

#[tokio::test]
async fn a_full_project_gives_up_its_oldest_superseded_branch_or_says_that_it_has_none() {
    let limited = ProjectOptions {
        limits: Some(Limits {
            branches: 4,
            ..Plan::Scale.limits()
        }),
        ..project()
    };
    let stage = Stage::new("neon-full", limited, "").await;
    let create = |name: &str| json!({"create": {"database": stage.name, "class": "pre-deploy", "name": name, "by": "Ada", "migration_head": "0042"}});
    let daily =
        |day: &str| json!({"create": {"database": stage.name, "class": "daily", "date": day}});
    stage.invoke(&daily("2026-01-05")).await.unwrap();
    stage.age("backup-2026-01-05", 2);
    stage.invoke(&daily("2026-01-06")).await.unwrap();
    stage.foreign("preview", Value::Null).await;
    stage.invoke(&create("add-invoices")).await.unwrap();
    assert_eq!(
        stage.names(),
        [
            "backup-2026-01-06",
            "main",
            "pre-deploy-add-invoices",
            "preview"
        ]
    );
    let note = named(&stage.branches(), "pre-deploy-add-invoices").annotation;
    assert_eq!(
        (&*note["note-who"], &*note["note-migration-head"]),
        ("Ada", "0042")
    );
    // The newest daily one and an unreported deployment are not superseded.
    let error = stage.invoke(&create("drop-invoices")).await.unwrap_err();
    for words in [
        "Refused",
        "BRANCHES_LIMIT_EXCEEDED",
        "The project has 4 branches, 2 of them Lifeboat's; of others, the oldest are preview",
    ] {
        assert!(error.contains(words), "{error}");
    }
    assert_eq!(stage.branches().len(), 4);
}

#[tokio::test]
async fn a_reported_deployment_lets_its_branch_expire() {
    let stage = Stage::new("neon-deployed", project(), "").await;
    let create = json!({"create": {"database": stage.name, "class": "pre-deploy", "name": "v1.2"}});
    stage.invoke(&create).await.unwrap();
    let deployed = json!({"deployed": {"database": stage.name, "name": "v1.2"}});
    let first = stage.invoke(&deployed).await.unwrap();
    let branch = named(&stage.branches(), "pre-deploy-v1.2");
    let left = branch.expires_at.unwrap().duration_since(branch.created_at);
    // From the report on, in whole seconds.
    assert_eq!((left.as_secs_f64() / 3_600.0).round(), 7.0 * 24.0);
    // Told again, nothing is prolonged.
    assert_eq!(stage.invoke(&deployed).await.unwrap(), first);
    let unknown = json!({"deployed": {"database": stage.name, "name": "v9"}});
    let error = stage.invoke(&unknown).await.unwrap_err();
    assert!(error.contains("no branch pre-deploy-v9"), "{error}");
}

#[tokio::test]
async fn a_point_is_restored_into_a_branch_of_its_own_and_production_stays_as_it_is() {
    let stage = Stage::new("neon-restore", project(), "dump_compute = 0.25").await;
    stage.sql("CREATE TABLE t (i int); INSERT INTO t VALUES (1)");
    let before = stage.sql(
        "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
    );
    let daily = json!({"create": {"database": stage.name, "class": "daily", "date": "2026-01-06"}});
    stage.invoke(&daily).await.unwrap();
    // One more committed, so that the log goes beyond the moment.
    stage.sql("INSERT INTO t VALUES (2)");
    let restore = |point: Value| json!({"restore_branch": {"database": stage.name, "point": point, "by": "Ada", "reason": "row 2"}});
    let rows = |branch: &str| {
        let project = &stage.seeded.project;
        let sql = "SELECT string_agg(i::text, ',' ORDER BY i) FROM t";
        stage.neon.psql(project, branch, "neondb", sql).unwrap()
    };
    let by_time = stage
        .invoke(&restore(json!({"time": before})))
        .await
        .unwrap();
    assert_eq!(
        (&by_time["is_new"], &by_time["parent"]),
        (&json!(true), &json!("main"))
    );
    assert!(
        by_time["host"].as_str().unwrap().starts_with("ep-"),
        "{by_time}"
    );
    assert_eq!(rows(by_time["branch"].as_str().unwrap()), "1");
    // The same again is the same branch.
    let again = stage
        .invoke(&restore(json!({"time": before})))
        .await
        .unwrap();
    assert_eq!(
        (&again["branch_id"], &again["is_new"]),
        (&by_time["branch_id"], &json!(false))
    );

    let from_snapshot = restore(json!({"branch": "backup-2026-01-06"}));
    let from_snapshot = stage.invoke(&from_snapshot).await.unwrap();
    assert_eq!(from_snapshot["branch"], "restore-of-backup-2026-01-06");
    assert_eq!(rows("restore-of-backup-2026-01-06"), "1");
    assert_eq!(rows("main"), "1,2");

    let too_old = restore(json!({"time": "2025-01-01T00:00:00Z"}));
    let error = stage.invoke(&too_old).await.unwrap_err();
    assert!(error.contains("is not in the restore window"), "{error}");
    // Nothing that a person was given is rotated away, nor what it stands on.
    stage.age("restore-of-backup-2026-01-06", 400);
    stage.age("backup-2026-01-06", 400);
    let rotate = json!({"rotate": {"database": stage.name}});
    assert_eq!(stage.invoke(&rotate).await.unwrap()["deleted_total"], 0);
}

#[tokio::test]
async fn a_run_that_fails_for_one_database_is_told_and_leaves_the_others_done() {
    let well = Stage::new("neon-well", project(), "").await;
    let ill = Stage::new("neon-ill", project(), "").await;
    protect(&well).await;
    let path = format!("/projects/{}/branches", ill.seeded.project);
    ill.neon.faults().add(NeonFault {
        method: Some(Method::POST),
        path,
        times: 100,
        action: NeonFaultAction::Limit("PROJECTS_LIMIT_EXCEEDED"),
        ..NeonFault::default()
    });
    let input =
        json!({"scheduled_time": "2026-01-12T02:00:00Z", "databases": [well.name, ill.name]});
    let ended = well.cloud.run("BranchesMachine", &input).await.unwrap();
    assert_eq!(
        (&*ended.status, ended.error.as_deref()),
        ("FAILED", Some("BranchesFailed"))
    );
    assert!(well.names().contains(&"backup-2026-01-12".to_owned()));
    assert_eq!(ill.names(), ["main"]);
    let summary: Value = serde_json::from_str(ended.cause.as_deref().unwrap()).unwrap();
    let of = |name: &str| {
        let mut entries = summary.as_array().unwrap().iter();
        entries.find(|it| it["database"] == name).unwrap().clone()
    };
    assert_eq!(of(ill.name)["error"], "Refused");
    assert_eq!(of(well.name)["outcome"], "done");
    let pages = ill.messages(&ended, "PageTopic").await;
    let told = pages
        .iter()
        .filter(|it| it.text.contains("the branches of neon-ill FAILED"));
    assert_eq!(told.count(), 1, "{pages:?}");
}
