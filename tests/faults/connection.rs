//! Connections and processes that end, or go silent, in the middle.

use std::time::{Duration, Instant};

use localcloud::cutting_proxy::{Cut, CuttingProxy, Rule};
use localcloud::postgres::{Cluster, Major};

use super::clouds;
use super::subject::{Subject, sessions, wait_until};

const WIDE: &str = "CREATE TABLE wide AS SELECT i, repeat(md5(i::text), 40) AS text FROM generate_series(1, 8000) i";
/// Past planning, inside the table.
const MID_COPY: u64 = 1 << 20;

const NO_SESSION_OF_OURS: &str = "NOT EXISTS (SELECT FROM pg_stat_activity
    WHERE application_name LIKE 'lifeboat%' AND datname = current_database())";

fn every_connection(proxy: &CuttingProxy, cut: Cut) {
    proxy.add_rule(Rule {
        connection: None,
        after_bytes: MID_COPY,
        cut,
    });
}

fn wait_for_the_middle(proxy: &CuttingProxy) {
    let reached = proxy.wait_until(Duration::from_secs(30), |connections| {
        connections.iter().any(|it| it.bytes_to_client == MID_COPY)
    });
    assert!(reached, "{:?}", proxy.connections());
}

async fn behind_a_proxy(name: &'static str, extra: &str) -> (Subject, CuttingProxy) {
    let subject = Subject::new(name, WIDE).await;
    let port = subject.cluster.port();
    let proxy = CuttingProxy::before_port(port).unwrap();
    subject
        .configure(&proxy.url(&subject.url(), port), extra)
        .await;
    (subject, proxy)
}

/// Processes of the dump function of this cloud.
fn dump_processes(subject: &Subject) -> Vec<i32> {
    let program = subject
        .cloud
        .function("dump")
        .unwrap()
        .program
        .canonicalize()
        .unwrap();
    let layer = subject.cloud.home().join("layer");
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pids =
        processes.filter_map(|entry| entry.file_name().to_string_lossy().parse::<i32>().ok());
    let is_ours = |pid: &i32| {
        let link = |name: &str| std::fs::read_link(format!("/proc/{pid}/{name}")).ok();
        link("exe").is_some_and(|exe| exe == program) && link("cwd").is_some_and(|cwd| cwd == layer)
    };
    pids.filter(is_ours).collect()
}

#[tokio::test]
async fn a_copy_that_is_cut_fails_every_time_and_succeeds_once_the_network_is_back() {
    for (name, cut) in [("copy-reset", Cut::Reset), ("copy-closed", Cut::Close)] {
        let (subject, proxy) = behind_a_proxy(name, "").await;
        every_connection(&proxy, cut);
        let ended = subject.back_up().await;
        subject
            .assert_failed(&ended, "Transient", &["the connection was lost"])
            .await;
        proxy.forget_rules();
        let ended = subject.back_up().await;
        subject.assert_verified(&ended).await;
    }
}

#[tokio::test]
async fn a_connection_without_a_byte_is_given_up_after_the_configured_time() {
    let (subject, proxy) = behind_a_proxy("silent", "stall_seconds = 2").await;
    every_connection(&proxy, Cut::Stall);
    let begun = Instant::now();
    let ended = subject.back_up().await;
    assert!(
        begun.elapsed() < Duration::from_secs(40),
        "three tries of 2 s took {:?}",
        begun.elapsed()
    );
    subject
        .assert_failed(
            &ended,
            "Transient",
            &["no byte came for 2 s: the connection has stalled"],
        )
        .await;
    proxy.resume();
    subject.wait_for(NO_SESSION_OF_OURS);
}

#[tokio::test]
async fn a_killed_dump_is_not_retried_and_the_next_run_makes_the_backup() {
    let alone = clouds::alone().await;
    let subject = Subject::of(alone.cloud, clouds::cluster(), "killed", WIDE).await;
    let port = subject.cluster.port();
    let proxy = CuttingProxy::before_port(port).unwrap();
    subject
        .configure(&proxy.url(&subject.url(), port), "")
        .await;
    every_connection(&proxy, Cut::Stall);
    let execution = subject.start().await;
    wait_for_the_middle(&proxy);
    let pids = dump_processes(&subject);
    assert_eq!(pids.len(), 1);
    let killed = std::process::Command::new("kill")
        .args(["-KILL", &pids[0].to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    let ended = subject.wait(&execution).await;
    subject
        .assert_killed(&ended, "Runtime.ExitError", &["signal: killed"])
        .await;
    assert_eq!(sessions(&proxy), 5, "a second dump was started");

    proxy.forget_rules();
    proxy.resume();
    subject.wait_for(NO_SESSION_OF_OURS);
    let ended = subject.back_up().await;
    subject.assert_verified(&ended).await;
}

#[tokio::test]
async fn a_server_that_crashes_mid_way_fails_the_run_and_is_backed_up_once_it_is_back() {
    let server = Box::leak(Box::new(
        Cluster::temporary(Major::debian().unwrap()).unwrap(),
    ));
    let subject = Subject::of(clouds::shared().await, server, "crashed", WIDE).await;
    let proxy = CuttingProxy::before_port(server.port()).unwrap();
    subject
        .configure(&proxy.url(&subject.url(), server.port()), "")
        .await;
    every_connection(&proxy, Cut::Stall);
    let execution = subject.start().await;
    wait_for_the_middle(&proxy);
    server.crash().unwrap();
    proxy.forget_rules();
    proxy.resume();
    let ended = subject.wait(&execution).await;
    subject.assert_failed(&ended, "Transient", &[]).await;

    server.start_again().unwrap();
    wait_until(|| server.psql("crashed", "SELECT 1").is_ok(), "recovery");
    let ended = subject.back_up().await;
    subject.assert_verified(&ended).await;
    server.stop().unwrap();
}
