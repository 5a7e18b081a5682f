//! Storage that is slow, refuses, or breaks off.

use std::time::Duration;

use lambda_runtime::Diagnostic;
use shared::verdict::{Code, Verdict};

use crate::sample::{backup, noisy_rows, plain, seal, slice};
use crate::vault::{Cloud, found};

#[tokio::test]
async fn an_object_that_may_not_be_read_is_a_doubt_never_a_pass() {
    let backup = backup();
    let cloud = Cloud::with(&backup).await;
    cloud.weather.refuse("33.dat.zst.00000.age", 403);
    let report = cloud.verify(&backup).await;
    assert_eq!(report.verdict, Some(Verdict::Inconclusive));
    let expected = (Code::ObjectUnreadable, "33.dat.zst.00000.age".to_owned());
    assert_eq!(found(&report), [expected]);
}

#[tokio::test]
async fn a_storage_that_stays_away_is_a_doubt_about_the_object() {
    let backup = backup();
    let cloud = Cloud::with(&backup).await;
    cloud.weather.refuse("33.dat.zst.00000.age", 503);
    let report = cloud.verify(&backup).await;
    assert_eq!(report.verdict, Some(Verdict::Inconclusive));
    assert_eq!(report.findings[0].code, Code::ObjectUnreadable);
}

#[tokio::test]
async fn a_manifest_that_may_not_be_read_is_a_doubt() {
    let backup = backup();
    let cloud = Cloud::with(&backup).await;
    cloud.weather.refuse("manifest.json", 403);
    let report = cloud.verify(&backup).await;
    assert_eq!(report.verdict, Some(Verdict::Inconclusive));
    assert_eq!(report.findings[0].code, Code::ObjectUnreadable);
}

#[tokio::test]
async fn a_manifest_that_does_not_come_just_now_is_tried_again() {
    let backup = backup();
    let cloud = Cloud::with(&backup).await;
    cloud.weather.refuse("manifest.json", 503);
    let time = Duration::from_secs(60);
    let error = cloud.verify_within(&backup, time, None).await.unwrap_err();
    assert_eq!(Diagnostic::from(error).error_type, "Transient");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_is_taken_up_where_it_broke() {
    let mut plain = plain();
    plain[0] = slice(31, 0, &noisy_rows(8_000_000), false);
    let backup = seal(plain);
    let cloud = Cloud::with(&backup).await;
    cloud.weather.break_off_after(1_000_000, 3);
    let report = cloud.verify(&backup).await;
    assert_eq!(
        report.verdict,
        Some(Verdict::Passed),
        "{:#?}",
        report.findings
    );
    assert_eq!(cloud.weather.breaks_left(), 0);
}
