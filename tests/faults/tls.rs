//! TLS to the database: verified in full, or not at all.

use localcloud::postgres::{Cluster, Flaw, Major, Options};

use super::clouds;
use super::subject::Subject;
use crate::harness;

/// Debian's server is the one with TLS.
fn server(flaw: Flaw) -> &'static Cluster {
    let options = Options {
        tls: Some(harness::authority().issue(flaw).unwrap()),
        ..Options::default()
    };
    Box::leak(Box::new(
        Cluster::temporary_with(Major::debian().unwrap(), &options).unwrap(),
    ))
}

async fn over_tls(name: &'static str, flaw: Flaw) -> Subject {
    let subject = Subject::of(
        clouds::shared().await,
        server(flaw),
        name,
        "CREATE TABLE t AS SELECT 1 AS i",
    )
    .await;
    let url = subject.url().replace("@127.0.0.1:", "@localhost:");
    subject
        .configure(&format!("{url}?sslmode=verify-full"), "")
        .await;
    subject
}

#[tokio::test]
async fn a_certificate_in_order_is_accepted_by_the_function_and_by_pg_dump() {
    let subject = over_tls("tls-good", Flaw::None).await;
    subject.sql("ALTER SYSTEM SET log_connections = on; SELECT pg_reload_conf()");
    let ended = subject.back_up().await;
    subject.assert_verified(&ended).await;
    let log = subject.cluster.log();
    let connections: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("authorized") && line.contains("lifeboat"))
        .collect();
    assert!(connections.len() > 2, "{log}");
    assert!(
        connections
            .iter()
            .any(|line| line.contains("lifeboat-planner")),
        "{connections:#?}"
    );
    assert!(
        connections.iter().all(|line| line.contains("SSL enabled")),
        "{connections:#?}"
    );
    subject.cluster.stop().unwrap();
}

#[tokio::test]
async fn a_certificate_that_cannot_be_verified_is_refused_with_the_reason() {
    for (name, flaw, reason) in [
        ("tls-expired", Flaw::Expired, "expired"),
        ("tls-wrong-host", Flaw::WrongHost, "not valid for name"),
        ("tls-self-signed", Flaw::SelfSigned, "UnknownIssuer"),
    ] {
        let subject = over_tls(name, flaw).await;
        let ended = subject.back_up().await;
        let causes = [
            "the TLS certificate of localhost cannot be verified",
            reason,
        ];
        subject.assert_failed(&ended, "Refused", &causes).await;
        subject.cluster.stop().unwrap();
    }
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_tls_is_asked_for() {
    let subject = Subject::new("tls-none", "CREATE TABLE t AS SELECT 1 AS i").await;
    let url = subject.url().replace("@127.0.0.1:", "@localhost:");
    subject
        .configure(&format!("{url}?sslmode=verify-full"), "")
        .await;
    let ended = subject.back_up().await;
    subject
        .assert_failed(
            &ended,
            "Refused",
            &["localhost does not offer TLS", "turn on ssl on the server"],
        )
        .await;
}
