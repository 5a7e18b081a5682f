//! The stand-in answers as documented: statuses, bodies, limits, faults.

use localcloud::neon::{
    Limits, NeonFault, NeonFaultAction, NeonOptions, OperationFault, Plan, ProjectOptions,
};
use serde_json::{Value, json};

use super::client::Project;

fn empty() -> Project {
    Project::new(NeonOptions::default(), ProjectOptions::default())
}

#[tokio::test]
async fn a_branch_is_created_listed_changed_and_deleted_as_documented() {
    let project = empty();
    let body = json!({
        "branch": {"name": "backup-2026-11-21"},
        "annotation_value": {"managed-by": "somebody"},
    });
    let faults = project.neon.faults();
    faults.add_operation("create_branch", OperationFault::Hangs);
    let (status, answer) = project.ask("POST", "/branches", body.clone()).await;
    assert_eq!(status, 201, "{answer}");
    let branch = &answer["branch"];
    assert_eq!(branch["parent_id"], project.seeded.branch.as_str());
    assert_eq!(
        (&branch["current_state"], &branch["pending_state"]),
        (&json!("init"), &json!("ready"))
    );
    assert_eq!(answer["operations"][0]["action"], "create_branch");
    assert_eq!(answer["operations"][0]["status"], "running");
    let path = format!("/branches/{}", branch["id"].as_str().unwrap());

    let (status, answer) = project.ask("POST", "/branches", body.clone()).await;
    assert_eq!(status, 423);
    assert_eq!(
        answer["message"],
        "project already has running conflicting operations, scheduling of new ones is prohibited"
    );
    faults.clear();
    project.settled().await;
    let (status, _) = project.ask("POST", "/branches", body).await;
    assert_eq!(status, 409);

    let (_, listed) = project.ask("GET", "/branches", Value::Null).await;
    let listed_branch = &listed["branches"][0];
    assert_eq!(listed_branch["current_state"], "ready");
    let id = listed_branch["id"].as_str().unwrap();
    assert_eq!(listed["annotations"][id]["value"]["managed-by"], "somebody");
    assert!(listed["pagination"].get("next").is_none());

    let day = json!({"branch": {"expires_at": "2026-11-20T00:00:00Z"}});
    assert_eq!(project.ask("PATCH", &path, day).await.0, 400);
    let body = json!({"branch": {"name": "renamed", "protected": true}});
    let changed = project.done("PATCH", &path, body).await;
    assert_eq!(changed["branch"]["name"], "renamed");
    assert_eq!(project.ask("DELETE", &path, Value::Null).await.0, 422);
    let main = format!("/branches/{}", project.seeded.branch);
    assert_eq!(project.ask("DELETE", &main, Value::Null).await.0, 422);

    let body = json!({"branch": {"protected": false}});
    project.done("PATCH", &path, body).await;
    project.done("DELETE", &path, Value::Null).await;
    assert_eq!(
        project.ask("DELETE", &path, Value::Null).await,
        (204, json!(""))
    );
    let (status, answer) = project.ask("GET", &path, Value::Null).await;
    assert_eq!(status, 404);
    assert_eq!(answer["message"], "branch not found");
    assert!(answer["request_id"].is_string());
}

#[tokio::test]
async fn limits_windows_and_keys_are_enforced() {
    let limits = Limits {
        branches: 3,
        ..Plan::Launch.limits()
    };
    let project = Project::new(
        NeonOptions::default(),
        ProjectOptions {
            plan: Plan::Launch,
            limits: Some(limits),
            ..ProjectOptions::default()
        },
    );
    let long_ago = json!({"branch": {"parent_timestamp": "2020-01-01T00:00:00Z"}});
    assert_eq!(project.ask("POST", "/branches", long_ago).await.0, 400);
    let window = json!({"project": {"history_retention_seconds": 2_592_000}});
    let (status, answer) = project.ask("PATCH", "", window).await;
    assert_eq!(status, 400);
    assert!(
        answer["message"]
            .as_str()
            .unwrap()
            .ends_with("max:\"604800\""),
        "{answer}"
    );
    let window = json!({"project": {"history_retention_seconds": 604_800}});
    let changed = project.done("PATCH", "", window).await;
    assert_eq!(changed["project"]["history_retention_seconds"], 604_800);
    assert_eq!(
        changed["project"]["owner"],
        json!({"name": "stand-in", "email": "", "branches_limit": 3, "subscription_type": "launch_v3"})
    );

    let child = project.branch("one", false, Value::Null).await;
    let grandchild = json!({"branch": {"parent_id": child, "parent_lsn": "0/1"}});
    assert_eq!(project.ask("POST", "/branches", grandchild).await.0, 422);
    project.branch("two", false, Value::Null).await;
    let (status, answer) = project.ask("POST", "/branches", Value::Null).await;
    assert_eq!(
        (status, &answer["code"]),
        (422, &json!("BRANCHES_LIMIT_EXCEEDED"))
    );

    let http = reqwest::Client::new();
    let status = async |path: &str, key: &str| {
        let url = format!("{}{path}", project.neon.url());
        let answer = http.get(url).bearer_auth(key).send().await.unwrap();
        answer.status().as_u16()
    };
    assert_eq!(status("/projects", "napi_wrong").await, 401);
    let key = project.neon.project_key(&project.seeded.project);
    assert_eq!(status("/projects", &key).await, 200);
    assert_eq!(status("/projects/floral-king-1", &key).await, 404);
    assert_eq!(
        status("/projects/floral-king-1", project.neon.key()).await,
        404
    );
    assert_eq!(status("/nowhere", &key).await, 404);
}

#[tokio::test]
async fn pages_of_branches_end_where_the_branches_end() {
    let project = empty();
    let mut wanted = std::collections::BTreeSet::from(["main".to_owned()]);
    for number in 0..4 {
        let name = format!("branch-{number}");
        project.branch(&name, false, Value::Null).await;
        wanted.insert(name);
    }
    let mut seen = Vec::new();
    let mut path = "/branches?limit=2".to_owned();
    loop {
        let (_, page) = project.ask("GET", &path, Value::Null).await;
        let branches = page["branches"].as_array().unwrap();
        seen.extend(
            branches
                .iter()
                .map(|it| it["name"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["pagination"]["next"].as_str() else {
            break;
        };
        path = format!("/branches?limit=2&cursor={next}");
    }
    assert_eq!(seen.len(), 5);
    assert_eq!(
        seen.into_iter().collect::<std::collections::BTreeSet<_>>(),
        wanted
    );
    let (_, found) = project
        .ask("GET", "/branches?search=branch-3", Value::Null)
        .await;
    assert_eq!(found["branches"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn every_fault_meets_the_call_that_it_is_for() {
    let project = empty();
    let fault = |action| {
        project.neon.faults().clear();
        project.neon.faults().add(NeonFault {
            path: "/branches".to_owned(),
            action,
            ..NeonFault::default()
        });
    };
    let too_many = NeonFaultAction::TooManyRequests {
        retry_after: Some("3".to_owned()),
    };
    for (action, expected) in [
        (NeonFaultAction::Locked, 423),
        (too_many, 429),
        (NeonFaultAction::Unavailable, 503),
        (NeonFaultAction::Html(524), 524),
        (NeonFaultAction::NotFound, 404),
        (NeonFaultAction::Limit("BRANCHES_LIMIT_EXCEEDED"), 422),
    ] {
        fault(action);
        let answer = project
            .send("POST", "/branches", Value::Null)
            .await
            .unwrap();
        assert_eq!(answer.status().as_u16(), expected);
        let retry_after = answer.headers().get("retry-after").cloned();
        assert_eq!(retry_after.is_some(), expected == 429);
        let is_page = answer.text().await.unwrap().starts_with("<!DOCTYPE html>");
        assert_eq!(is_page, expected == 524);
    }
    let count = || {
        project
            .neon
            .branches(&project.seeded.project)
            .unwrap()
            .len()
    };
    assert_eq!(count(), 1);
    fault(NeonFaultAction::Reset);
    assert!(
        project
            .send("POST", "/branches", Value::Null)
            .await
            .is_err()
    );
    assert_eq!(count(), 1);
    for (action, branches) in [
        (NeonFaultAction::LoseAnswer, 2),
        (NeonFaultAction::HideAnswer, 3),
        (NeonFaultAction::CutAnswer, 4),
    ] {
        fault(action);
        let answer = project.send("POST", "/branches", Value::Null).await;
        let is_whole = match answer {
            Ok(answer) => answer.json::<Value>().await.is_ok(),
            Err(_) => false,
        };
        assert!(!is_whole);
        assert_eq!(count(), branches);
        project.settled().await;
    }

    let pause = std::time::Duration::from_millis(50);
    let faults = project.neon.faults();
    faults.add_operation("create_branch", OperationFault::FailsOnce(pause));
    project.branch("tried-again", false, Value::Null).await;
    let again = project.settled().await;
    assert_eq!(
        (&again[0]["status"], &again[0]["failures_count"]),
        (&json!("finished"), &json!(1))
    );
    for (fault, status) in [
        (OperationFault::Fails, "failed"),
        (OperationFault::IsInError, "error"),
        (OperationFault::IsCancelled, "cancelled"),
    ] {
        faults.add_operation("create_branch", fault);
        project.branch(status, false, Value::Null).await;
        assert_eq!(project.settled().await[0]["status"], status);
    }
    let calls = project.neon.calls();
    assert!(
        calls
            .iter()
            .any(|it| it.status == 0 && it.route() == "projects/{}/branches")
    );
}

#[tokio::test]
async fn two_hundred_projects_are_told_in_pages_and_not_too_fast() {
    let project = empty();
    for _ in 1..200 {
        project.neon.project(ProjectOptions::default()).unwrap();
    }
    let http = reqwest::Client::new();
    let list = async |query: &str| {
        let url = format!("{}/projects?{query}", project.neon.url());
        let answer = http.get(url).bearer_auth(project.neon.key()).send().await;
        let answer = answer.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json::<Value>().await.unwrap())
    };
    let mut seen = std::collections::BTreeSet::new();
    let mut query = "limit=90".to_owned();
    loop {
        let (_, page) = list(&query).await;
        let Some(cursor) = page["pagination"]["cursor"].as_str() else {
            break;
        };
        query = format!("limit=90&cursor={cursor}");
        let ids = page["projects"].as_array().unwrap().iter();
        seen.extend(ids.map(|it| it["id"].as_str().unwrap().to_owned()));
    }
    assert_eq!(seen.len(), 200);

    // Of forty-one calls to one route within a second, one at least is refused.
    let calls: Vec<_> = (0..60).map(|_| list("limit=1")).collect();
    let mut refused = 0;
    let begun = std::time::Instant::now();
    for call in calls {
        refused += usize::from(call.await.0 == 429);
    }
    let seconds = usize::try_from(begun.elapsed().as_secs()).unwrap();
    assert!(refused > 0 || seconds > 0, "none of 60 in {seconds} s");
}
