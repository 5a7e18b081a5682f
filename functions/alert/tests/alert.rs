//! The message that arrives, with a real vault behind it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../../tests/s3_folder.rs"]
mod s3_folder;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alert::Function;
use jiff::Timestamp;
use lambda_runtime::Diagnostic;
use s3_folder::{S3Folder, aws_at};
use serde_json::{Value, json};
use shared::store::Bucket;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const TOPIC: &str = "arn:aws:sns:eu-central-1:123456789012:lifeboat-page";
const NOTICE: &str = "arn:aws:sns:eu-central-1:123456789012:lifeboat-notice";

/// Remembers what was published, or refuses it.
struct Sns {
    endpoint: String,
    published: Arc<Mutex<Vec<BTreeMap<String, String>>>>,
}

impl Sns {
    async fn start(status: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let published: Arc<Mutex<Vec<BTreeMap<String, String>>>> = Arc::default();
        let remembered = Arc::clone(&published);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let form = read_form(&mut stream).await;
                remembered.lock().unwrap().push(form);
                let body = "<PublishResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><PublishResult>\
                     <MessageId>m-1</MessageId></PublishResult></PublishResponse>";
                let answer = format!(
                    "HTTP/1.1 {status}\r\ncontent-type: text/xml\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        Self {
            endpoint,
            published,
        }
    }

    fn published(&self) -> Vec<BTreeMap<String, String>> {
        self.published.lock().unwrap().clone()
    }
}

async fn read_form(stream: &mut TcpStream) -> BTreeMap<String, String> {
    let mut request = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let length = head.split("content-length: ").nth(1).unwrap();
            let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
            if body.len() >= length {
                let decoded = |part: &str| {
                    let spaced = part.replace('+', " ");
                    let decoded = percent_encoding::percent_decode_str(&spaced);
                    decoded.decode_utf8().unwrap().into_owned()
                };
                let pairs = body.split('&').filter_map(|pair| pair.split_once('='));
                return pairs
                    .map(|(name, value)| (decoded(name), decoded(value)))
                    .collect();
            }
        }
        let mut piece = [0; 4096];
        let n = stream.read(&mut piece).await.unwrap();
        assert!(n > 0, "the request ended early");
        request.extend_from_slice(&piece[..n]);
    }
}

async fn alert(vault_endpoint: &str, sns: &Sns, event: Value) -> Result<Value, Diagnostic> {
    let function = Function {
        vault: Bucket::new(&aws_at(vault_endpoint).await, "vault".to_owned()),
        sns: aws_sdk_sns::Client::new(&aws_at(&sns.endpoint).await),
        page_topic: TOPIC.to_owned(),
        notice_topic: NOTICE.to_owned(),
    };
    let now: Timestamp = "2026-11-21T01:04:30Z".parse().unwrap();
    function.handle(event, now).await.map_err(Diagnostic::from)
}

fn event() -> Value {
    json!({"run_failed": {
        "backup": {"database": "app", "kind": "nightly", "scheduled_time": "2026-11-21T01:00:00Z",
            "backup_id": "20261121T010000Z-nightly", "committed": false, "previous": null},
        "failure": {"Error": "Transient",
            "Cause": r#"{"errorType":"Transient","errorMessage":"connect to postgres://app:CANARY@db/app: timed out"}"#},
        "execution": "arn:aws:states:eu-central-1:123456789012:execution:lifeboat-backup:a-1",
    }})
}

/// A verified backup of the night before.
fn keep_verified_backup(s3: &S3Folder, database: &str) {
    let id = "20261120T010000Z-nightly";
    s3.write(format!("backups/{database}/{id}/manifest.json"), "{}");
    let verdict = json!({"format": 1, "check": "verify", "database": database, "backup_id": id,
        "verdict": "passed", "finished_at": "2026-11-20T01:10:00Z",
        "snapshot_at": "2026-11-20T01:00:04Z", "findings": []});
    let key = format!("verdicts/{database}/{id}/20261120T011000Z-7f-verify.json");
    s3.write(key, verdict.to_string());
}

#[tokio::test]
async fn a_failed_backup_becomes_one_message_on_the_page_topic() {
    let (s3, sns) = (S3Folder::start().await, Sns::start("200 OK").await);
    keep_verified_backup(&s3, "app");
    let answer = alert(s3.endpoint(), &sns, event()).await.unwrap();

    let subject = "Lifeboat: nightly backup of app FAILED - Transient";
    assert_eq!(answer, json!({"message_id": "m-1", "subject": subject}));
    let published = sns.published();
    assert_eq!(published.len(), 1);
    assert_eq!(published[0]["TopicArn"], TOPIC);
    assert_eq!(published[0]["Subject"], subject);
    let body = &published[0]["Message"];
    assert!(body.contains("this backup does not exist"), "{body}");
    assert!(body.contains("- app: 20261120T010000Z-nightly"), "{body}");
    assert!(
        body.contains("connect to postgres://app:***@db/app: timed out"),
        "{body}"
    );
    assert!(!format!("{published:?}").contains("CANARY"));
}

#[tokio::test]
async fn a_backup_that_was_written_before_the_run_failed_is_not_called_missing() {
    let (s3, sns) = (S3Folder::start().await, Sns::start("200 OK").await);
    s3.write("backups/app/20261121T010000Z-nightly/manifest.json", "{}");
    alert(s3.endpoint(), &sns, event()).await.unwrap();
    let body = &sns.published()[0]["Message"];
    assert!(
        body.contains("this backup exists, but is not verified"),
        "{body}"
    );
    assert!(
        body.contains("- app: NONE. There is nothing to restore from."),
        "{body}"
    );
}

#[tokio::test]
async fn a_run_without_a_plan_tells_what_each_database_still_has() {
    let (s3, sns) = (S3Folder::start().await, Sns::start("200 OK").await);
    keep_verified_backup(&s3, "app");
    keep_verified_backup(&s3, "shop");
    let event = json!({"run_failed": {"failure": {"Error": "Refused"},
        "execution": "arn:aws:states:eu-central-1:123456789012:execution:lifeboat-backup:a-1"}});
    alert(s3.endpoint(), &sns, event).await.unwrap();
    let body = &sns.published()[0]["Message"];
    for expected in [
        "- app: 20261120T010000Z-nightly",
        "- shop: 20261120T010000Z-nightly",
    ] {
        assert!(body.contains(expected), "{body}");
    }
}

#[tokio::test]
async fn a_failed_restore_and_a_failed_drill_say_what_they_were_about() {
    let (s3, sns) = (S3Folder::start().await, Sns::start("200 OK").await);
    keep_verified_backup(&s3, "app");
    for what in ["restore_failed", "drill_failed"] {
        let event = json!({what: {
            "id": "20261121T030501Z-8f3a2c19d0b4", "database": "app",
            "backup_id": "20261120T010000Z-nightly", "target": "standby/app_restored",
            "failure": {"Error": "Transient", "Cause": "the target went away"},
            "execution": "arn:aws:states:eu-central-1:123456789012:execution:lifeboat-restore:a-1"}});
        alert(s3.endpoint(), &sns, event).await.unwrap();
    }
    let published = sns.published();
    let subjects: Vec<_> = published.iter().map(|it| it["Subject"].as_str()).collect();
    let expected = [
        "Lifeboat: the restore of app FAILED - Transient",
        "Lifeboat: the restore drill of app FAILED - Transient",
    ];
    assert_eq!(subjects, expected);
    for body in published.iter().map(|it| &it["Message"]) {
        for expected in [
            "the target went away",
            "Into: standby/app_restored",
            "- app: 20261120T010000Z-nightly",
        ] {
            assert!(body.contains(expected), "{body}");
        }
    }
}

/// As the drill's state machine sends it.
fn drilled(what: &str, verdict: &str) -> Value {
    let mut event = json!({"id": "20261122T020000Z-0a1b2c3d", "database": "app",
        "backup_id": "20261120T010000Z-nightly", "target": "standby",
        "report": {"database": "app", "backup_id": "20261120T010000Z-nightly", "verdict": verdict,
            "findings": [], "findings_total": 0, "missed": ["Restore took 9 min, its budget is 5 min"],
            "is_destroyed": true, "teardown_failure": null, "seconds": 4.5, "verdict_key": null,
            "evidence_key": "evidence/app/x-drill.json", "report_key": "evidence/app/x-drill.html"},
        "execution": "arn:aws:states:eu-central-1:123456789012:execution:lifeboat-drill:a-1"});
    if what == "drill_failed" {
        event["failure"] = json!({"Error": "NotProven", "Cause": "the drill came to its end"});
    }
    json!({what: event})
}

#[tokio::test]
async fn a_drill_that_missed_a_promise_goes_to_the_notice_topic_and_one_that_failed_pages() {
    let (s3, sns) = (S3Folder::start().await, Sns::start("200 OK").await);
    keep_verified_backup(&s3, "app");
    for event in [
        drilled("drill_missed", "passed"),
        drilled("drill_failed", "inconclusive"),
    ] {
        alert(s3.endpoint(), &sns, event).await.unwrap();
    }
    let published = sns.published();
    let topics: Vec<_> = published.iter().map(|it| it["TopicArn"].as_str()).collect();
    assert_eq!(topics, [NOTICE, TOPIC]);
    for message in published.iter().map(|it| &it["Message"]) {
        for expected in [
            "- Restore took 9 min",
            "s3://vault/evidence/app/x-drill.html",
        ] {
            assert!(message.contains(expected), "{message}");
        }
    }
}

#[tokio::test]
async fn a_report_that_cannot_be_read_does_not_keep_the_message_back() {
    let (s3, sns) = (S3Folder::start().await, Sns::start("200 OK").await);
    let mut event = drilled("drill_failed", "failed");
    event["drill_failed"]["report"] = json!("?");
    alert(s3.endpoint(), &sns, event).await.unwrap();
    let body = &sns.published()[0]["Message"];
    assert!(body.contains("this backup is NOT proven"), "{body}");
}

#[tokio::test]
async fn a_vault_that_refuses_does_not_keep_the_message_back() {
    let (s3, sns) = (S3Folder::start().await, Sns::start("200 OK").await);
    std::fs::remove_dir_all(s3.path("")).unwrap();
    alert(s3.endpoint(), &sns, event()).await.unwrap();
    let body = &sns.published()[0]["Message"];
    assert!(
        body.contains("Last verified backup: could not be told"),
        "{body}"
    );
    assert!(body.contains("What to do now"), "{body}");
}

#[tokio::test]
async fn a_vault_that_never_answers_does_not_keep_the_message_back() {
    let sns = Sns::start("200 OK").await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let told = alert(&endpoint, &sns, event());
    let told = tokio::time::timeout(Duration::from_secs(45), told).await;
    assert!(told.expect("within Lambda's 60 seconds").is_ok());
    let body = &sns.published()[0]["Message"];
    assert!(body.contains("no answer within 20 seconds"), "{body}");
}

#[tokio::test]
async fn a_second_call_sends_a_second_message() {
    let (s3, sns) = (S3Folder::start().await, Sns::start("200 OK").await);
    for _ in 0..2 {
        alert(s3.endpoint(), &sns, event()).await.unwrap();
    }
    let published = sns.published();
    assert_eq!(published.len(), 2);
    assert_eq!(published[0]["Message"], published[1]["Message"]);
}

#[tokio::test]
async fn what_cannot_be_published_is_tried_again_by_the_state_machine() {
    let (s3, sns) = (S3Folder::start().await, Sns::start("403 Forbidden").await);
    let error = alert(s3.endpoint(), &sns, event()).await.unwrap_err();
    assert_eq!(error.error_type, "Transient");
    assert!(error.error_message.contains(TOPIC), "{error:?}");
}

#[tokio::test]
async fn an_event_with_an_unknown_field_is_refused_and_nothing_is_sent() {
    let (s3, sns) = (S3Folder::start().await, Sns::start("200 OK").await);
    let mut event = event();
    event["run_failed"]["backups"] = json!([]);
    let error = alert(s3.endpoint(), &sns, event).await.unwrap_err();
    assert_eq!(error.error_type, "Refused");
    assert!(
        error.error_message.contains("unknown field `backups`"),
        "{error:?}"
    );
    assert!(sns.published().is_empty());
}
