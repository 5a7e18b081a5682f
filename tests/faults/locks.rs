//! How many tables fit into the server's lock table.

use localcloud::postgres::{Cluster, Major, Options};

use super::clouds;
use super::subject::Subject;

/// A batch of tables per transaction: creating them needs locks, too.
const MANY_TABLES: &str = "
    CREATE PROCEDURE make(n int) LANGUAGE plpgsql AS $$ BEGIN
        FOR i IN 1..n LOOP
            EXECUTE format('CREATE TABLE t%s (i int)', i);
            IF i % 100 = 0 THEN COMMIT; END IF;
        END LOOP;
    END $$;";

fn server(settings: &[&str]) -> &'static Cluster {
    let settings = settings.iter().map(|line| (*line).to_owned()).collect();
    let options = Options {
        settings,
        ..Options::default()
    };
    Box::leak(Box::new(
        Cluster::temporary_with(Major::debian().unwrap(), &options).unwrap(),
    ))
}

#[tokio::test]
async fn nine_thousand_tables_are_backed_up_with_default_settings() {
    let subject = Subject::of(
        clouds::shared().await,
        server(&[]),
        "many-tables",
        MANY_TABLES,
    )
    .await;
    subject.sql("CALL make(9000)");
    subject.sql("INSERT INTO t9000 VALUES (1), (2)");
    let ended = subject.back_up().await;
    let manifest = subject.assert_verified(&ended).await;
    assert_eq!(manifest["totals"]["tables"], 9000);
    assert_eq!(manifest["totals"]["rows"], 2);
    subject.cluster.stop().unwrap();
}

#[tokio::test]
async fn more_tables_than_the_lock_table_holds_are_refused_with_the_setting_to_change() {
    let small = server(&["max_locks_per_transaction = 10", "max_connections = 20"]);
    let subject = Subject::of(clouds::shared().await, small, "lock-slots", MANY_TABLES).await;
    subject.sql("CALL make(900)");
    let ended = subject.back_up().await;
    let causes = [
        "the dump needs 9",
        "set max_locks_per_transaction to",
        "(it is 10)",
        "restart the server",
    ];
    subject.assert_failed(&ended, "Refused", &causes).await;
    subject.cluster.stop().unwrap();
}
