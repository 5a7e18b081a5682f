//! A `pg_dump` that does not do what it should.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use localcloud::postgres::{Major, bin_dir};

use super::clouds;
use super::subject::Subject;

/// Lays out client tools whose `pg_dump` does first what the file `behaviour` says, and is the real one otherwise.
pub(crate) fn lay_out(pgtools: &Path) {
    let major = Major::debian().unwrap();
    let bin = pgtools.join(major.0.to_string()).join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    behave(pgtools, "");
    let program = bin.join("pg_dump");
    let real = bin_dir(major).unwrap().join("pg_dump");
    let script = format!(
        "#!/bin/sh\nreal='{}'\n. '{}/behaviour'\nexec \"$real\" \"$@\"\n",
        real.display(),
        pgtools.display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Shell that runs before the real program, which is `$real`.
pub(crate) fn behave(pgtools: &Path, shell: &str) {
    std::fs::write(pgtools.join("behaviour"), format!("{shell}\n")).unwrap();
}

/// Only the dump itself, not the question for the version.
fn on_dump(shell: &str) -> String {
    format!("case \"$1\" in --version) ;; *) {shell};; esac")
}

fn on_version(version: &str) -> String {
    format!("case \"$1\" in --version) echo 'pg_dump (PostgreSQL) {version}'; exit 0;; esac")
}

#[tokio::test]
async fn a_pg_dump_that_does_not_plan_leaves_no_backup() {
    let alone = clouds::alone().await;
    let subject = Subject::of(
        alone.cloud,
        clouds::cluster(),
        "false-planner",
        "CREATE TABLE t AS SELECT 1 AS i",
    )
    .await;
    subject.configure(&subject.url(), "stall_seconds = 2").await;
    let major = Major::debian().unwrap().0;
    let cases = [
        // Success by its status, half a plan in its output.
        (
            on_dump("\"$real\" \"$@\" 2>/dev/null | head -c 400; exit 0"),
            "Failed",
            "pg_dump ended before its table of contents was complete",
        ),
        (
            on_dump("exit 0"),
            "Failed",
            "pg_dump ended before its table of contents was complete: it said nothing",
        ),
        (
            on_dump("echo 'pg_dump: error: out of luck' >&2; exit 1"),
            "Failed",
            "pg_dump ended before its table of contents was complete: pg_dump: error: out of luck",
        ),
        (
            on_dump("head -c 100000 /dev/zero; exit 0"),
            "Failed",
            "pg_dump's table of contents",
        ),
        // A kind of data that nobody has heard of, of the same length in the archive.
        (
            on_dump("\"$real\" \"$@\" | LC_ALL=C sed 's/TABLE DATA/ALIEN DATA/g'; exit 0"),
            "Refused",
            "ALIEN DATA",
        ),
        (
            on_version(&format!("{major}.1")),
            "Refused",
            "has known security holes: use",
        ),
        (
            on_version("what?"),
            "Refused",
            "gives no version that can be read",
        ),
    ];
    for (index, (behaviour, error, words)) in cases.into_iter().enumerate() {
        behave(alone.pgtools, &behaviour);
        let ended = subject
            .back_up_at(&format!("2026-01-{:02}T01:00:00Z", index + 1))
            .await;
        subject.assert_failed(&ended, error, &[words]).await;
    }
    behave(alone.pgtools, "");
    let ended = subject.back_up().await;
    subject.assert_verified(&ended).await;
}

#[tokio::test]
async fn a_pg_dump_that_hangs_and_ignores_being_asked_to_end_is_killed() {
    let alone = clouds::alone().await;
    let subject = Subject::of(
        alone.cloud,
        clouds::cluster(),
        "hung-planner",
        "CREATE TABLE t AS SELECT 1 AS i",
    )
    .await;
    subject.configure(&subject.url(), "stall_seconds = 1").await;
    let pids = alone.pgtools.join("pids");
    let hang = format!(
        "trap '' TERM; echo $$ >> '{}'; echo 'pg_dump: reading' >&2; while :; do sleep 0.1; done",
        pids.display()
    );
    behave(alone.pgtools, &on_dump(&hang));
    let ended = subject.back_up().await;
    let causes =
        ["pg_dump gave no sign of life for 1 s and was ended; its last words: pg_dump: reading"];
    subject.assert_failed(&ended, "Transient", &causes).await;
    let pids = std::fs::read_to_string(pids).unwrap();
    assert_eq!(pids.lines().count(), 3, "one for each try");
    for pid in pids.lines() {
        assert!(!Path::new("/proc").join(pid).exists(), "{pid} still runs");
    }
}

#[tokio::test]
async fn a_server_newer_than_every_pg_dump_is_refused_with_both_versions() {
    let alone = clouds::alone().await;
    let server = Box::leak(Box::new(
        localcloud::postgres::Cluster::temporary(Major::V18).unwrap(),
    ));
    let subject = Subject::of(
        alone.cloud,
        server,
        "newer-server",
        "CREATE TABLE t AS SELECT 1 AS i",
    )
    .await;
    let ended = subject.back_up().await;
    let found = format!("(found: {})", Major::debian().unwrap().0);
    subject
        .assert_failed(&ended, "Refused", &["no pg_dump for a server 18", &found])
        .await;
    server.stop().unwrap();
}
