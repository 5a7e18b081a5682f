//! A verify that does not fit into one invocation.

use std::fs;
use std::time::Duration;

use lambda_runtime::Diagnostic;
use shared::verdict::{Code, Verdict};
use verify::report::Report;

use crate::sample::{Backup, noisy_rows, plain, seal, slice};
use crate::vault::Cloud;

/// 24 slices of 1.2 MB, and the rest of the sample, on a storage that takes its time: three
/// at once, so that reading them all takes two seconds whatever the machine.
async fn slow() -> (Backup, Cloud) {
    let text = noisy_rows(2_400_000);
    let mut plain = plain();
    let slices = (0..24).map(|number| slice(31, number, &text, number == 23));
    plain.splice(0..2, slices);
    let backup = seal(plain);
    let cloud = Cloud::with(&backup).await;
    cloud.weather.delay(Duration::from_millis(250));
    (backup, cloud)
}

const SHORT: Duration = Duration::from_millis(1_250);

async fn to_the_end(cloud: &Cloud, backup: &Backup, time: Duration) -> (Report, usize) {
    let mut next = None;
    let mut remaining = usize::MAX;
    for invocations in 1..100 {
        let answer = cloud.verify_within(backup, time, next).await;
        let report = answer.unwrap_or_else(|error| panic!("{}", shared::error::chain(&error)));
        assert_eq!(report.verdict.is_none(), report.remaining > 0);
        assert!(
            report.remaining < remaining,
            "every invocation makes progress"
        );
        remaining = report.remaining;
        if report.next.is_none() {
            return (report, invocations);
        }
        next = report.next;
    }
    panic!("no end");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_invocations_come_to_the_same_verdict_as_one() {
    let (backup, cloud) = slow().await;
    let damaged = cloud.file(&backup.manifest.objects[5].key);
    let mut bytes = fs::read(&damaged).unwrap();
    bytes[1_000_000] ^= 1;
    fs::write(&damaged, bytes).unwrap();

    let at_once = cloud.verify(&backup).await;
    let (report, invocations) = to_the_end(&cloud, &backup, SHORT).await;
    assert!(invocations > 1);
    let (one, several) = (cloud.verdict(&at_once).await, cloud.verdict(&report).await);
    assert_eq!(one.verdict, Verdict::Failed);
    assert_eq!(one.findings, several.findings);
    assert_eq!(one.totals, several.totals);
    assert_eq!(several.started_at, one.started_at);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_never_fits_is_refused_with_the_numbers() {
    let mut plain = plain();
    plain[0] = slice(31, 0, &noisy_rows(60_000_000), false);
    let backup = seal(plain);
    let cloud = Cloud::with(&backup).await;
    let mut next = None;
    let error = loop {
        match cloud
            .verify_within(&backup, Duration::from_millis(60), next)
            .await
        {
            Ok(report) => next = Some(report.next.expect("60 ms are too short for 60 MB")),
            Err(error) => break Diagnostic::from(error),
        }
    };
    assert_eq!(error.error_type, "OutOfTime");
    let message = error.error_message;
    assert!(
        message.contains("31.dat.zst.00000.age does not fit into one invocation"),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_changes_between_two_invocations_is_found() {
    let (mut backup, cloud) = slow().await;
    let first = cloud.verify_within(&backup, SHORT, None).await.unwrap();
    assert!(first.next.is_some());
    backup.manifest.warnings.push("changed".to_owned());
    fs::remove_file(cloud.manifest_file()).unwrap();
    cloud
        .put_manifest(&backup.manifest.to_json().unwrap())
        .await;
    let last = cloud
        .verify_within(&backup, SHORT, first.next)
        .await
        .unwrap();
    assert_eq!(last.verdict, Some(Verdict::Failed));
    assert_eq!(last.findings[0].code, Code::ManifestOverwritten);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invocation_run_twice_goes_on_from_the_first() {
    let (backup, cloud) = slow().await;
    let first = cloud.verify_within(&backup, SHORT, None).await.unwrap();
    let twice = [first.next.clone(), first.next];
    for next in twice {
        let report = cloud
            .verify_within(&backup, Duration::from_secs(60), next)
            .await
            .unwrap();
        assert_eq!(
            report.verdict,
            Some(Verdict::Passed),
            "{:#?}",
            report.findings
        );
        assert_eq!(report.totals, backup.manifest.totals);
    }
}
