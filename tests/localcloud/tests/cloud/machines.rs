use serde_json::json;

use crate::start;

#[tokio::test]
async fn a_machine_runs_the_function_and_answers_with_what_it_said() {
    let (cloud, _home) = start(|_| {}).await;
    let run = cloud
        .run("ProbeMachine", &json!({"hello": 1}))
        .await
        .unwrap();
    assert_eq!(run.status, "SUCCEEDED", "{run:?}");
    assert_eq!(run.output.unwrap()["answer"]["event"], json!({"hello": 1}));
    let counted = cloud.metrics().all();
    assert!(
        counted
            .iter()
            .any(|point| point.metric == "ExecutionsSucceeded"),
        "{counted:?}"
    );
}

#[tokio::test]
async fn a_failed_run_carries_the_functions_error_and_is_told_by_the_rule() {
    let (cloud, _home) = start(|_| {}).await;
    let run = cloud
        .run("ProbeMachine", &json!({"fail": "Refused"}))
        .await
        .unwrap();
    assert_eq!(
        (run.status.as_str(), run.error.as_deref()),
        ("FAILED", Some("Refused"))
    );
    assert!(run.cause.unwrap().contains("as asked"));
    let name = run.arn.rsplit(':').next().unwrap();
    let messages = cloud.published_messages().await.unwrap();
    let texts: Vec<_> = messages
        .iter()
        .map(|message| message.text.as_str())
        .collect();
    assert_eq!(texts, [format!("Backstop: execution {name} ended FAILED.")]);
}

#[tokio::test]
async fn a_timeout_and_too_many_at_once_reach_the_machine_under_their_names() {
    let (cloud, _home) = start(|_| {}).await;
    let run = cloud
        .run("ProbeMachine", &json!({"sleep_ms": 5000}))
        .await
        .unwrap();
    assert_eq!(run.error.as_deref(), Some("Sandbox.Timedout"), "{run:?}");

    let sleep = json!({"sleep_ms": 1900});
    let occupy = || cloud.invoke("probe", &sleep);
    let (_, _, _, run) = tokio::join!(occupy(), occupy(), occupy(), async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        cloud.run("ProbeMachine", &json!({})).await.unwrap()
    });
    // Refused at first, and then retried by the definition.
    assert_eq!(run.status, "SUCCEEDED", "{run:?}");
    assert!(cloud.home().join("logs/probe.log").exists());
}

#[tokio::test]
async fn what_the_schedule_starts_carries_the_scheduled_time() {
    let (cloud, _home) = start(|_| {}).await;
    let (from, to) = (
        "2026-11-20T00:00:00Z".parse().unwrap(),
        "2026-11-21T00:00:00Z".parse().unwrap(),
    );
    let started = cloud.fire_due(from, to).await.unwrap();
    assert_eq!(started.len(), 1);
    let run = cloud.wait(&started[0]).await.unwrap();
    assert_eq!(
        run.output.unwrap()["answer"]["event"],
        json!({"scheduled_time": "2026-11-20T01:00:00Z"})
    );
}

#[tokio::test]
async fn two_clouds_at_once_do_not_meet() {
    let ((one, _home_one), (two, _home_two)) = tokio::join!(start(|_| {}), start(|_| {}));
    one.overwrite("VaultBucket", "only-in-one", "1")
        .await
        .unwrap();
    assert!(two.objects("VaultBucket").await.unwrap().is_empty());
    let input = json!({});
    let (a, b) = tokio::join!(
        one.run("ProbeMachine", &input),
        two.run("ProbeMachine", &input)
    );
    assert_eq!(
        (a.unwrap().status.as_str(), b.unwrap().status.as_str()),
        ("SUCCEEDED", "SUCCEEDED")
    );
}
