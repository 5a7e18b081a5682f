//! Snapshot and locks: what would come out empty or torn without an error, were nobody to look.

use std::time::Duration;

use localcloud::cutting_proxy::{Cut, CuttingProxy, Rule};

use super::subject::{Subject, rows, sessions, wait_until};

/// With `connections = 2` a dump opens, in this order: two workers, the watcher, the coordinator, and pg_dump's own.
const WORKERS: [usize; 2] = [0, 1];
const COORDINATOR: usize = 3;
const PLANNER: usize = 4;
const PER_ATTEMPT: usize = 5;
/// The machine runs a `Transient` dump this often.
const ATTEMPTS: usize = 3;

/// Who waits for a table of this database.
const WAITING: &str =
    "CREATE VIEW waiting AS SELECT pid FROM pg_locks WHERE NOT granted AND locktype = 'relation'
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

/// Two tables that keep two workers busy, and one that waits behind them.
const THREE_TABLES: &str = "
    CREATE TABLE wide_a AS SELECT i, repeat(md5(i::text), 40) AS text FROM generate_series(1, 4000) i;
    CREATE TABLE wide_b AS SELECT * FROM wide_a;
    CREATE TABLE narrow AS SELECT i FROM generate_series(1, 1000) i;";

/// More than connecting and planning bring, less than one of the wide tables.
const MID_COPY: u64 = 1 << 20;

async fn behind_a_proxy(name: &'static str, sql: &str, extra: &str) -> (Subject, CuttingProxy) {
    let subject = Subject::new(name, sql).await;
    subject.sql(WAITING);
    let port = subject.cluster.port();
    let proxy = CuttingProxy::before_port(port).unwrap();
    subject
        .configure(
            &proxy.url(&subject.url(), port),
            &format!("connections = 2\n{extra}"),
        )
        .await;
    (subject, proxy)
}

fn stall_copies(proxy: &CuttingProxy) {
    proxy.add_rule(Rule {
        connection: None,
        after_bytes: MID_COPY,
        cut: Cut::Stall,
    });
}

/// Waits until both workers of the attempt whose first connection is `first` are mid-way.
fn wait_for_workers(proxy: &CuttingProxy, first: usize) {
    let stalled = proxy.wait_until(Duration::from_secs(30), |connections| {
        let workers = WORKERS.map(|worker| connections.get(first + worker));
        workers
            .into_iter()
            .all(|worker| worker.is_some_and(|it| it.bytes_to_client == MID_COPY))
    });
    assert!(stalled, "never mid-way: {:?}", proxy.connections());
}

#[tokio::test]
async fn a_lost_coordinator_and_a_truncated_table_leave_no_backup_and_the_next_run_makes_one() {
    let (subject, proxy) = behind_a_proxy("coordinator-cut", THREE_TABLES, "").await;
    stall_copies(&proxy);
    let execution = subject.start().await;
    let mut first = 0;
    for _ in 0..ATTEMPTS {
        wait_for_workers(&proxy, first);
        assert!(proxy.cut(first + COORDINATOR, Cut::Reset));
        first = proxy.connections().len();
        // Without the coordinator's locks nothing holds this up.
        subject.sql("SET lock_timeout = '20s'; TRUNCATE narrow");
        proxy.resume();
    }
    let ended = subject.wait(&execution).await;
    subject.assert_failed(&ended, "Transient", &[]).await;

    proxy.forget_rules();
    let ended = subject.back_up().await;
    let manifest = subject.assert_verified(&ended).await;
    assert_eq!(
        (rows(&manifest, "narrow"), rows(&manifest, "wide_a")),
        (0, 4000)
    );
}

#[tokio::test]
async fn a_migration_that_queues_during_the_dump_neither_deadlocks_it_nor_gets_lost() {
    let (subject, proxy) = behind_a_proxy("migration", THREE_TABLES, "").await;
    stall_copies(&proxy);
    let execution = subject.start().await;
    wait_for_workers(&proxy, 0);
    proxy.forget_rules();
    let migration = subject.sql_aside("ALTER TABLE narrow ADD COLUMN added int DEFAULT 7");
    subject.wait_for("EXISTS (SELECT FROM waiting)");
    proxy.resume();
    let ended = subject.wait(&execution).await;
    let manifest = subject.assert_verified(&ended).await;
    assert_eq!(rows(&manifest, "narrow"), 1000);
    assert_eq!(sessions(&proxy), PER_ATTEMPT, "one attempt was enough");
    migration.join().unwrap().unwrap();
    assert_eq!(subject.sql("SELECT sum(added) FROM narrow"), "7000");
}

#[tokio::test]
async fn a_session_that_waits_too_long_goes_first_and_the_dump_is_made_again() {
    let (subject, proxy) = behind_a_proxy("patience", THREE_TABLES, "yield_seconds = 1").await;
    stall_copies(&proxy);
    let execution = subject.start().await;
    wait_for_workers(&proxy, 0);
    proxy.forget_rules();
    let migration = subject.sql_aside("ALTER TABLE narrow ADD COLUMN added int DEFAULT 7");
    subject.wait_for("EXISTS (SELECT FROM waiting)");
    let pid = subject.sql("SELECT pid FROM waiting");
    let ended = subject.wait(&execution).await;
    // Before the migration is waited for: a dump that failed may hold it for good.
    let manifest = subject.assert_verified(&ended).await;
    migration.join().unwrap().unwrap();
    assert_eq!(rows(&manifest, "narrow"), 1000);
    let columns = manifest["tables"]
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["name"] == "narrow")
        .unwrap();
    assert_eq!(
        columns["columns"].as_array().unwrap().len(),
        2,
        "the backup is of after the migration"
    );
    let reason = format!("server process {pid} (ALTER TABLE) has waited");
    let history = subject.history(&ended).await;
    assert!(history.contains(&reason), "{reason} is not in {history}");
}

#[tokio::test]
async fn a_table_created_and_truncated_around_the_snapshot_is_not_backed_up_empty_by_mistake() {
    // Their names alone are more bytes than a coordinator reads before its listing.
    let many = "DO $$ BEGIN FOR i IN 1..500 LOOP
            EXECUTE format('CREATE TABLE a_table_with_a_long_name_%s ()', i);
        END LOOP; END $$";
    let (subject, proxy) = behind_a_proxy("around-snapshot", many, "").await;
    proxy.add_rule(Rule {
        connection: Some(COORDINATOR),
        after_bytes: 6_000,
        cut: Cut::Stall,
    });
    proxy.add_rule(Rule {
        connection: Some(PLANNER),
        after_bytes: 1_000,
        cut: Cut::Stall,
    });
    let reached = |number: usize, bytes: u64| {
        proxy.wait_until(Duration::from_secs(30), |connections| {
            connections
                .get(number)
                .is_some_and(|it| it.bytes_to_client == bytes)
        })
    };
    let execution = subject.start().await;
    assert!(reached(COORDINATOR, 6_000), "{:?}", proxy.connections());
    subject.sql("CREATE TABLE late AS SELECT i FROM generate_series(1, 100) i");
    proxy.resume();
    assert!(reached(PLANNER, 1_000), "{:?}", proxy.connections());
    subject.sql("SET lock_timeout = '20s'; TRUNCATE late; INSERT INTO late VALUES (1)");
    proxy.resume();
    let ended = subject.wait(&execution).await;
    let manifest = subject.assert_verified(&ended).await;
    assert_eq!(rows(&manifest, "late"), 1, "the rows of one moment");
    let log = subject.cloud.logs("dump");
    let started_over = log
        .lines()
        .any(|line| line.contains("public.late") && line.contains("starting over"));
    assert!(started_over, "{}", subject.story());
}

#[tokio::test]
async fn a_table_that_somebody_holds_is_waited_for_without_queueing() {
    let (subject, proxy) = behind_a_proxy("held", "CREATE TABLE held AS SELECT 1 AS i", "").await;
    let holder = subject.sql_aside("BEGIN; LOCK TABLE held; SELECT pg_sleep(3); COMMIT");
    subject.wait_for("EXISTS (SELECT FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation = 'held'::regclass)");
    let execution = subject.start().await;
    wait_until(
        || proxy.connections().len() > COORDINATOR,
        "the coordinator connects",
    );
    while !holder.is_finished() {
        assert_eq!(
            subject.sql("SELECT count(*) FROM waiting"),
            "0",
            "the dump queues"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    holder.join().unwrap().unwrap();
    let ended = subject.wait(&execution).await;
    subject.assert_verified(&ended).await;
}

#[tokio::test]
async fn a_planner_that_loses_its_server_is_tried_again() {
    let (subject, proxy) = behind_a_proxy("planner-cut", THREE_TABLES, "").await;
    proxy.add_rule(Rule {
        connection: Some(PLANNER),
        after_bytes: 1_000,
        cut: Cut::Reset,
    });
    let ended = subject.back_up().await;
    subject.assert_verified(&ended).await;
    assert_eq!(sessions(&proxy), 2 * PER_ATTEMPT);
}
