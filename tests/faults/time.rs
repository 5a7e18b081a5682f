//! The end of an invocation's time.

use localcloud::cutting_proxy::{Cut, CuttingProxy, Rule};

use super::clouds;
use super::subject::{Subject, sessions};

const WIDE: &str = "CREATE TABLE wide AS SELECT i, repeat(md5(i::text), 40) AS text FROM generate_series(1, 8000) i";

#[tokio::test]
async fn a_dump_that_does_not_fit_its_time_gives_up_with_the_numbers() {
    let alone = clouds::alone().await;
    let subject = Subject::of(alone.cloud, clouds::cluster(), "too-slow", WIDE).await;
    let port = subject.cluster.port();
    let proxy = CuttingProxy::before_port(port).unwrap();
    subject
        .configure(&proxy.url(&subject.url(), port), "")
        .await;
    proxy.add_rule(Rule {
        connection: None,
        after_bytes: 1 << 20,
        cut: Cut::Stall,
    });
    let ended = subject.back_up().await;
    let causes = [
        "the dump does not fit its time",
        "% copied after",
        "s needed",
        "s left; give the function more memory",
    ];
    subject.assert_failed(&ended, "OutOfTime", &causes).await;
    assert_eq!(sessions(&proxy), 5, "it was tried again");
}

#[tokio::test]
async fn a_dump_that_is_ended_by_its_timeout_is_told_and_not_retried() {
    let alone = clouds::alone().await;
    let subject = Subject::of(alone.cloud, clouds::cluster(), "timed-out", WIDE).await;
    let port = subject.cluster.port();
    let proxy = CuttingProxy::before_port(port).unwrap();
    subject
        .configure(&proxy.url(&subject.url(), port), "stall_seconds = 600")
        .await;
    // The coordinator, while it asks which tables there are.
    proxy.add_rule(Rule {
        connection: Some(3),
        after_bytes: 1_000,
        cut: Cut::Stall,
    });
    let ended = subject.back_up().await;
    let expected = format!("timed out after {}.00 seconds", clouds::SHORT_SECONDS);
    subject
        .assert_killed(&ended, "Sandbox.Timedout", &[&expected])
        .await;
    assert!(sessions(&proxy) <= 5, "it was tried again");
}
