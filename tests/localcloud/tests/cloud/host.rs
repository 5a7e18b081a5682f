use std::collections::BTreeSet;
use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::{json, start};

#[tokio::test]
async fn a_function_gets_what_the_template_and_lambda_give_it() {
    let (cloud, _home) = start(|_| {}).await;
    let invoked = cloud
        .invoke("ProbeFunction", &json!({"hello": 1}))
        .await
        .unwrap();
    assert!(!invoked.failed);
    let answer = json(&invoked.payload);
    assert_eq!(answer["event"], json!({"hello": 1}));
    assert_eq!(answer["request_id"], invoked.request_id);
    let spec = cloud.function("probe").unwrap();
    assert_eq!(answer["arn"], spec.arn);

    let environment = &answer["environment"];
    let role = cloud.role_credentials("ProbeRole").unwrap();
    for (name, expected) in [
        ("VAULT_BUCKET", cloud.physical("VaultBucket").unwrap()),
        ("SCHEDULE", "cron(0 1 * * ? *)"),
        ("PAGE_TOPIC_ARN", cloud.physical("PageTopic").unwrap()),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
        ("AWS_LAMBDA_FUNCTION_NAME", &spec.name),
        ("AWS_ENDPOINT_URL", cloud.endpoint()),
        ("AWS_ACCESS_KEY_ID", &role.access_key),
        ("AWS_SESSION_TOKEN", role.session_token.as_deref().unwrap()),
        ("AWS_REGION", "us-east-1"),
    ] {
        assert_eq!(environment[name], expected, "{name}");
    }
    assert_eq!(
        environment["HOME"],
        Value::Null,
        "nothing of our own environment reaches a function"
    );
    let peak = &cloud.function_peak_rss("ProbeFunction")[0];
    assert!(
        peak.process_bytes > 1 << 20 && peak.process_bytes < 100 << 20,
        "{peak:?}"
    );
    // The log is written beside the answer, so it may come a moment later.
    for _ in 0..500 {
        if cloud.logs("probe").contains("probe got an event") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{}", cloud.logs("probe"));
}

#[tokio::test]
async fn the_deadline_is_a_time_and_a_warm_instance_is_used_again() {
    let (cloud, _home) = start(|_| {}).await;
    let first = json(&cloud.invoke("probe", &json!({})).await.unwrap().payload);
    let second = json(&cloud.invoke("probe", &json!({})).await.unwrap().payload);
    assert_eq!(first["pid"], second["pid"]);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_millis();
    let left = i128::from(second["deadline"].as_u64().unwrap()) - i128::try_from(now).unwrap();
    assert!(
        (1000..=2000).contains(&left),
        "{left} ms of the template's 2 s are left"
    );
}

#[tokio::test]
async fn every_way_to_fail_is_worded_as_lambda_words_it() {
    let (cloud, _home) = start(|_| {}).await;
    for (event, error_type, message) in [
        (json!({"fail": "Refused"}), "Refused", "as asked"),
        (
            json!({"sleep_ms": 10_000}),
            "Sandbox.Timedout",
            "Error: Task timed out after 2.00 seconds",
        ),
        (
            json!({"exit": 3}),
            "Runtime.ExitError",
            "Error: Runtime exited with error: exit status 3",
        ),
        (
            json!({"exit": 0}),
            "Runtime.ExitError",
            "Error: Runtime exited without providing a reason",
        ),
        (
            json!({"eat_mib": 300}),
            "Runtime.ExitError",
            "Error: Runtime exited with error: signal: killed",
        ),
        (
            json!({"answer_bytes": 7_000_000}),
            "Function.ResponseSizeTooLarge",
            "exceeded maximum allowed payload size",
        ),
    ] {
        let invoked = cloud.invoke("probe", &event).await.unwrap();
        let answer = json(&invoked.payload);
        assert!(invoked.failed, "{event}");
        assert_eq!(answer["errorType"], error_type, "{event}");
        assert!(
            answer["errorMessage"].as_str().unwrap().contains(message),
            "{answer}"
        );
        let after = cloud.invoke("probe", &json!({})).await.unwrap();
        assert!(!after.failed, "the function works again after {event}");
    }
    let eaten = cloud
        .function_peak_rss("probe")
        .iter()
        .map(|peak| peak.process_bytes)
        .max()
        .unwrap();
    assert!(eaten > 256 << 20, "{eaten}");
}

#[tokio::test]
async fn events_of_several_invocations_run_at_once_up_to_the_reserved_concurrency() {
    let (cloud, _home) = start(|_| {}).await;
    let sleep = json!({"sleep_ms": 1000});
    let invoke = || cloud.invoke("probe", &sleep);
    let (a, b, c, refused) = tokio::join!(invoke(), invoke(), invoke(), async {
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
        cloud.invoke("probe", &json!({})).await
    });
    let pids: BTreeSet<u64> = [a, b, c]
        .map(|invoked| json(&invoked.unwrap().payload)["pid"].as_u64().unwrap())
        .into();
    assert_eq!(pids.len(), 3);
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.contains("429") && refused.contains("Rate Exceeded"),
        "{refused}"
    );
}

#[tokio::test]
async fn an_event_above_six_megabytes_and_an_unknown_function_are_refused() {
    let (cloud, _home) = start(|_| {}).await;
    let large = cloud
        .invoke("probe", &json!("x".repeat(7_000_000)))
        .await
        .unwrap_err()
        .to_string();
    assert!(large.contains("413"), "{large}");
    let url = format!(
        "{}/2015-03-31/functions/nobody/invocations",
        cloud.endpoint()
    );
    let signature = "AWS4-HMAC-SHA256 Credential=a/20261121/us-east-1/lambda/aws4_request, SignedHeaders=host, Signature=0";
    let answer = reqwest::Client::new()
        .post(url)
        .header("authorization", signature)
        .body("{}")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    assert_eq!(
        answer.headers()["x-amzn-errortype"],
        "ResourceNotFoundException"
    );
    assert!(answer.headers().contains_key("x-amzn-requestid"));
}

#[tokio::test]
async fn nothing_a_cloud_started_outlives_it() {
    let (cloud, _home) = start(|_| {}).await;
    let pid = json(&cloud.invoke("probe", &json!({})).await.unwrap().payload)["pid"]
        .as_u64()
        .unwrap();
    assert!(std::path::Path::new(&format!("/proc/{pid}/exe")).exists());
    cloud.stop();
    let gone = || std::fs::read_link(format!("/proc/{pid}/exe")).is_err();
    for _ in 0..40 {
        if gone() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the function's process {pid} still runs");
}
