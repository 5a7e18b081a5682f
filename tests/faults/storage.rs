//! S3 that fails, on every call that a backup makes.

use localcloud::{Fault, FaultAction};
use reqwest::Method;

use super::clouds::{self, Alone};
use super::subject::Subject;

/// Does not compress: its sealed bytes are more than one part of an upload.
const INCOMPRESSIBLE: &str = "
    CREATE TABLE noise (i int, bytes bytea);
    ALTER TABLE noise ALTER bytes SET STORAGE EXTERNAL;
    INSERT INTO noise SELECT i, (SELECT string_agg(sha512((i * 1000 + j)::text::bytea), '') FROM generate_series(1, 1000) j)
        FROM generate_series(1, 300) i;
    CREATE TABLE small AS SELECT i FROM generate_series(1, 10) i;";

/// One kind of call: its name, method, a piece of its path and of its query.
type Call = (&'static str, Method, &'static str, &'static str);

fn calls_of_dump() -> [Call; 5] {
    [
        ("CreateMultipartUpload", Method::POST, ".age", "uploads"),
        ("UploadPart", Method::PUT, ".age", "partNumber=2"),
        ("CompleteMultipartUpload", Method::POST, ".age", "uploadId="),
        ("PutObject of a small object", Method::PUT, "/toc.dat.", ""),
        (
            "PutObject of the manifest",
            Method::PUT,
            "/manifest.json",
            "",
        ),
    ]
}

fn calls_of_verify() -> [Call; 3] {
    [
        (
            "GetObject of the manifest",
            Method::GET,
            "/manifest.json",
            "",
        ),
        ("GetObject of data", Method::GET, ".age", ""),
        ("PutObject of the verdict", Method::PUT, "/verdicts/", ""),
    ]
}

fn fault((_, method, path, query): &Call, times: u32, action: FaultAction) -> Fault {
    Fault {
        method: Some(method.clone()),
        path: (*path).into(),
        query: (*query).into(),
        times,
        action,
        ..Fault::default()
    }
}

fn status(status: u16, code: &str) -> FaultAction {
    FaultAction::Status {
        status,
        code: code.into(),
    }
}

async fn subject(name: &'static str) -> (Alone, Subject) {
    let alone = clouds::alone().await;
    let subject = Subject::of(alone.cloud, clouds::cluster(), name, INCOMPRESSIBLE).await;
    (alone, subject)
}

#[tokio::test]
async fn a_call_that_fails_once_is_made_again_by_the_sdk_whatever_it_is() {
    let (alone, subject) = subject("s3-hiccups").await;
    let calls: Vec<Call> = calls_of_dump()
        .into_iter()
        .chain(calls_of_verify())
        .collect();
    let hiccups = [
        status(500, "InternalError"),
        status(503, "SlowDown"),
        FaultAction::Reset,
    ];
    for (index, hiccup) in hiccups.into_iter().enumerate() {
        alone.cloud.faults().clear();
        for call in &calls {
            alone.cloud.faults().add(fault(call, 1, hiccup.clone()));
        }
        let list = ("ListObjects", Method::GET, "", "list-type=2");
        alone.cloud.faults().add(fault(&list, 1, hiccup.clone()));
        let ended = subject
            .back_up_at(&format!("2026-02-{:02}T01:00:00Z", index + 1))
            .await;
        let matched = alone.cloud.faults().matches();
        alone.cloud.faults().clear();
        subject.assert_verified(&ended).await;
        assert!(
            matched.iter().all(|times| *times >= 2),
            "{hiccup:?}: {matched:?}"
        );
    }
    assert_eq!(subject.messages().await, [], "nobody is woken for a hiccup");
}

#[tokio::test]
async fn an_answer_lost_after_the_deed_makes_one_backup_all_the_same() {
    let (alone, subject) = subject("s3-lost").await;
    let (begin, others) = calls_of_dump()
        .into_iter()
        .partition::<Vec<_>, _>(|call| call.0 == "CreateMultipartUpload");
    let verdict = calls_of_verify()
        .into_iter()
        .filter(|call| call.1 == Method::PUT);
    for call in others.into_iter().chain(verdict) {
        alone
            .cloud
            .faults()
            .add(fault(&call, 1, FaultAction::LoseAnswer));
    }
    let ended = subject.back_up_at("2026-02-01T01:00:00Z").await;
    let matched = alone.cloud.faults().matches();
    alone.cloud.faults().clear();
    subject.assert_verified(&ended).await;
    assert!(matched.iter().all(|times| *times >= 2), "{matched:?}");
    assert_eq!(
        (
            subject.manifests().await.len(),
            subject.verdicts().await.len()
        ),
        (1, 1)
    );

    // The id of an upload that was begun without our hearing of it is known to nobody: the bucket's lifecycle ends it.
    alone
        .cloud
        .faults()
        .add(fault(&begin[0], 1, FaultAction::LoseAnswer));
    let ended = subject.back_up_at("2026-02-02T01:00:00Z").await;
    alone.cloud.faults().clear();
    assert_eq!(ended.status, "SUCCEEDED", "{ended:?}");
    assert_eq!(subject.open_uploads().await.len(), 1);
    assert_eq!(subject.manifests().await.len(), 2);
}

#[tokio::test]
async fn an_error_inside_a_200_is_an_error() {
    let (alone, subject) = subject("s3-false-200").await;
    let complete = &calls_of_dump()[2];
    alone
        .cloud
        .faults()
        .add(fault(complete, 1, status(200, "InternalError")));
    let ended = subject.back_up().await;
    let matched = alone.cloud.faults().matches();
    alone.cloud.faults().clear();
    subject.assert_verified(&ended).await;
    assert!(matched[0] >= 2, "{matched:?}");
}

#[tokio::test]
async fn a_call_that_is_denied_fails_the_dump_and_leaves_nothing() {
    let (alone, subject) = subject("s3-denied").await;
    for (index, call) in calls_of_dump().iter().enumerate() {
        alone
            .cloud
            .faults()
            .add(fault(call, u32::MAX, status(403, "AccessDenied")));
        let ended = subject
            .back_up_at(&format!("2026-02-{:02}T01:00:00Z", index + 1))
            .await;
        let matched = alone.cloud.faults().matches();
        alone.cloud.faults().clear();
        assert!(matched[0] > 0, "{} was never called", call.0);
        subject
            .assert_failed(&ended, "Failed", &["access denied"])
            .await;
    }
    let ended = subject.back_up().await;
    subject.assert_verified(&ended).await;
}

#[tokio::test]
async fn a_storage_that_stays_down_fails_the_run_and_the_next_one_succeeds() {
    let (alone, subject) = subject("s3-down").await;
    for call in &calls_of_dump()[1..] {
        alone.cloud.faults().clear();
        alone
            .cloud
            .faults()
            .add(fault(call, u32::MAX, status(503, "SlowDown")));
        let invoked = alone.cloud.invoke("dump", &subject.item()).await.unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&invoked.payload).unwrap();
        // Which of the two depends on how long the SDK's retries waited.
        let is_clean = ["Transient", "OutOfTime"]
            .map(Into::into)
            .contains(&answer["errorType"]);
        assert!(invoked.failed && is_clean, "{}: {answer}", call.0);
        let nothing: [String; 0] = [];
        assert_eq!(subject.open_uploads().await, nothing, "{}", call.0);
        assert_eq!(subject.manifests().await.len(), 0, "{}", call.0);
    }
    alone.cloud.faults().clear();
    alone.cloud.faults().add(fault(
        &calls_of_dump()[0],
        u32::MAX,
        status(500, "InternalError"),
    ));
    let ended = subject.back_up().await;
    alone.cloud.faults().clear();
    subject
        .assert_failed(&ended, "Transient", &["begin upload of"])
        .await;
    let ended = subject.back_up().await;
    subject.assert_verified(&ended).await;
}

#[tokio::test]
async fn an_abort_that_fails_hides_nothing() {
    let (alone, subject) = subject("s3-no-abort").await;
    alone.cloud.faults().add(fault(
        &calls_of_dump()[1],
        u32::MAX,
        status(403, "AccessDenied"),
    ));
    let abort = ("AbortMultipartUpload", Method::DELETE, ".age", "uploadId=");
    alone
        .cloud
        .faults()
        .add(fault(&abort, u32::MAX, status(500, "InternalError")));
    let ended = subject.back_up().await;
    alone.cloud.faults().clear();
    subject
        .assert_killed(&ended, "Failed", &["upload a part of", "access denied"])
        .await;
    // Of as many connections as had begun one by then.
    let left = subject.open_uploads().await;
    assert!((1..=2).contains(&left.len()), "{left:?}");
    assert!(alone.cloud.logs("dump").contains("upload not aborted"));
}

#[tokio::test]
async fn a_backup_that_cannot_be_read_back_is_never_called_verified() {
    let (alone, subject) = subject("s3-unreadable").await;
    for (index, call) in calls_of_verify()[1..].iter().enumerate() {
        alone
            .cloud
            .faults()
            .add(fault(call, u32::MAX, status(503, "SlowDown")));
        let scheduled = format!("2026-02-{:02}T01:00:00Z", index + 1);
        let ended = subject.back_up_at(&scheduled).await;
        alone.cloud.faults().clear();
        assert_eq!(ended.status, "FAILED", "{}: {ended:?}", call.0);
        subject.assert_alert(&ended, &[]).await;
        let verdicts = subject.verdicts().await;
        assert!(
            verdicts
                .iter()
                .filter(|it| it["verdict"] == "passed")
                .count()
                <= index,
            "{}",
            call.0
        );

        let ended = subject.back_up_at(&scheduled).await;
        subject.assert_verified(&ended).await;
        assert_eq!(
            subject.manifests().await.len(),
            index + 1,
            "what is committed is not dumped again"
        );
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_read_on_from_there() {
    let (alone, subject) = subject("s3-cut").await;
    let data = &calls_of_verify()[1];
    alone
        .cloud
        .faults()
        .add(fault(data, 1, FaultAction::CutAnswer(1_000)));
    let ended = subject.back_up().await;
    alone.cloud.faults().clear();
    subject.assert_verified(&ended).await;
}

#[tokio::test]
async fn a_damaged_object_fails_the_run_and_the_alert_names_it() {
    let (alone, subject) = subject("s3-damaged").await;
    let invoked = alone.cloud.invoke("dump", &subject.item()).await.unwrap();
    assert!(
        !invoked.failed,
        "{}",
        String::from_utf8_lossy(&invoked.payload)
    );
    let keys = subject.archive_keys().await;
    let key = keys.iter().find(|key| key.contains(".dat.zst.")).unwrap();
    let file = alone.cloud.object_file("VaultBucket", key).unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, &bytes).unwrap();

    let ended = subject.back_up().await;
    subject.assert_not_verified(&ended, "NotVerified").await;
    let verdict = subject.verdicts().await.pop().unwrap();
    assert_eq!(verdict["verdict"], "failed");
    assert_eq!(verdict["findings"][0]["object"], key.as_str());
    subject
        .assert_alert(&ended, &["failed", key.as_str()])
        .await;
}

#[tokio::test]
async fn a_storage_that_does_not_answer_in_time_is_given_up_and_cleaned_up_after() {
    let (alone, subject) = subject("s3-silent").await;
    let long = FaultAction::Delay(std::time::Duration::from_secs(60));
    alone
        .cloud
        .faults()
        .add(fault(&calls_of_dump()[1], u32::MAX, long));
    let ended = subject.back_up().await;
    alone.cloud.faults().clear();
    subject
        .assert_failed(&ended, "OutOfTime", &["the storage did not take all of it"])
        .await;
}

#[tokio::test]
async fn a_vault_that_may_not_be_looked_at_fails_the_run_as_a_whole_and_somebody_is_told() {
    let (alone, subject) = subject("s3-no-list").await;
    let list = ("ListObjects", Method::GET, "", "list-type=2");
    alone
        .cloud
        .faults()
        .add(fault(&list, u32::MAX, status(403, "AccessDenied")));
    let ended = subject.back_up().await;
    alone.cloud.faults().clear();
    assert_eq!(
        (ended.status.as_str(), ended.error.as_deref()),
        ("FAILED", Some("Refused")),
        "{ended:?}"
    );
    let name = ended.arn.rsplit(':').next().unwrap();
    let messages = alone.cloud.published_messages().await.unwrap();
    let alert = messages
        .iter()
        .find(|it| it.text.contains(name) && it.text.contains("access denied"))
        .unwrap();
    assert!(
        alert
            .subject
            .as_deref()
            .unwrap()
            .contains("the backup run FAILED"),
        "{alert:?}"
    );
    assert!(
        messages
            .iter()
            .any(|it| it.text.starts_with("Backstop:") && it.text.contains(name)),
        "{messages:#?}"
    );
    assert_eq!(subject.manifests().await.len(), 0);
}
