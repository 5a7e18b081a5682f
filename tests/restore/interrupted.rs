//! A restore that is cut anywhere, and goes on: it ends equal, and loads nothing twice.

use std::cell::Cell;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use localcloud::cutting_proxy::{Cut, CuttingProxy};
use localcloud::postgres::{Cluster, Major, SUPERUSER};
use shared::database_url::DatabaseUrl;
use shared::error::Name;
use shared::restore::{self, Advance, Order, Target, Until};

use super::parts::back_up;
use super::{assert_advance_is_proven, create, everything, in_an_hour, target_of, url};
use crate::format::{SERVICE_IN_ANOTHER_ORDER, Taken, assert_proven, service};
use crate::harness::{Backup, assert_equal_database, cluster, engine, open};

const MAJOR: Major = Major::V16;

/// One backup for all of these tests.
fn backup() -> &'static Backup {
    static BACKUP: OnceLock<Backup> = OnceLock::new();
    BACKUP.get_or_init(|| {
        let taken = Taken {
            major: MAJOR,
            database: service(MAJOR),
            connections: 2,
            slice_mib: 1,
        };
        taken.back_up("engine-interrupted")
    })
}

fn server() -> &'static Cluster {
    cluster(MAJOR)
}

/// Goes on until nothing remains, and compares.
async fn go_on(database: &str, order: &Order) -> Advance {
    let opened = open(backup()).await;
    let target = target_of(server(), database);
    let advance = restore::advance(&opened, &target, order, in_an_hour())
        .await
        .unwrap();
    assert_eq!(advance.remaining, 0);
    assert_advance_is_proven(&advance);
    restore::finish(&opened, &target, order).await.unwrap();
    // Called again after a lost answer, it has nothing to do.
    restore::finish(&opened, &target, order).await.unwrap();
    advance
}

fn assert_is_the_source(database: &str) {
    let source = (server(), service(MAJOR));
    assert_equal_database(source, (server(), database), &SERVICE_IN_ANOTHER_ORDER);
    assert_proven(server(), backup(), database);
}

/// Jobs that are in the ledger, and their sum of rows.
fn ledger(database: &str) -> String {
    let sql = "SELECT count(*) || ' ' || sum(rows) FROM lifeboat_restore.job";
    server().psql(database, sql).unwrap()
}

#[test]
fn a_restore_in_many_short_invocations_ends_equal() {
    let (database, order) = ("engine short", everything("engine-short", 2));
    let backup = backup();
    let advance = engine(async {
        create(backup, server(), database).await;
        let opened = open(backup).await;
        let target = target_of(server(), database);
        let mut invocations = 0;
        loop {
            invocations += 1;
            assert!(invocations < 1000, "no progress");
            let until = Instant::now() + Duration::from_millis(100);
            match restore::advance(&opened, &target, &order, until).await {
                Ok(advance) if advance.remaining == 0 => {
                    assert!(invocations >= 4, "{invocations} invocations are no test");
                    break advance;
                }
                Ok(advance) => assert_eq!(advance.done + advance.remaining, advance.total),
                // The machine was busy: not even one job was done.
                Err(error) => assert_eq!(error.name(), Name::OutOfTime, "{error}"),
            }
        }
    });
    assert_advance_is_proven(&advance);
    assert_eq!(advance.rows, backup.manifest.totals.rows);
    engine(go_on(database, &order));
    assert_is_the_source(database);
}

#[test]
fn backends_that_are_terminated_again_and_again_lose_nothing() {
    let (database, order) = ("engine terminated", everything("engine-terminated", 3));
    let terminate = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
         WHERE datname = '{database}' AND application_name = 'lifeboat'"
    );
    let backup = backup();
    engine(async {
        create(backup, server(), database).await;
        let opened = open(backup).await;
        let target = target_of(server(), database);
        let mut cuts = 0;
        let mut before = String::new();
        while cuts < 6 {
            let advance = restore::advance(&opened, &target, &order, in_an_hour());
            let cut = async {
                // Until something was done since the last cut.
                loop {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    let sql = "SELECT count(*) FROM lifeboat_restore.job";
                    let now = server().psql(database, sql).unwrap_or_default();
                    if now != before {
                        before = now;
                        break server().psql("postgres", &terminate).unwrap();
                    }
                }
            };
            tokio::select! {
                advance = advance => match advance {
                    Ok(advance) => { assert_eq!(advance.remaining, 0); break; }
                    Err(error) => assert_eq!(error.name(), Name::Transient, "{}", shared::error::chain(&error)),
                },
                terminated = cut => assert_ne!(terminated, "0"),
            }
            cuts += 1;
        }
        assert!(cuts > 2, "{cuts} cuts are no test");
        // Whoever was hit may have left something running in the server for a moment.
        loop {
            match restore::advance(&opened, &target, &order, in_an_hour()).await {
                Ok(_) => break,
                Err(error) => assert_eq!(
                    error.name(),
                    Name::Transient,
                    "{}",
                    shared::error::chain(&error)
                ),
            }
        }
        go_on(database, &order).await
    });
    assert_is_the_source(database);
}

/// Bytes to the server after which a connection is cut.
const ROWS_SENT: u64 = 128 << 10;

#[test]
fn connections_that_are_cut_in_the_middle_of_rows_lose_nothing() {
    let (database, order) = ("engine cut", everything("engine-cut", 2));
    let proxy = CuttingProxy::before_port(server().port()).unwrap();
    let direct = url(server(), database);
    let through = Target::new(DatabaseUrl {
        host: "127.0.0.1".to_owned(),
        port: proxy.port(),
        ..direct
    });
    let backup = backup();
    engine(async {
        create(backup, server(), database).await;
        let opened = open(backup).await;
        let n_cut = Cell::new(0);
        for cut in [Cut::Reset, Cut::Close, Cut::Reset] {
            let advance = restore::advance(&opened, &through, &order, in_an_hour());
            let sent = || -> u64 {
                proxy
                    .connections()
                    .iter()
                    .map(|it| it.bytes_to_server)
                    .sum()
            };
            let before = sent();
            let cut = async {
                // In the middle of the rows: nothing else that is sent is as long.
                while sent() < before + ROWS_SENT {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                proxy.cut_all(cut);
                n_cut.set(n_cut.get() + 1);
                std::future::pending::<()>().await;
            };
            tokio::select! {
                advance = advance => match advance {
                    Ok(advance) => assert_eq!(advance.remaining, 0),
                    Err(error) => {
                        assert_eq!(error.name(), Name::Transient, "{}", shared::error::chain(&error));
                    }
                },
                () = cut => {}
            }
        }
        assert_eq!(n_cut.get(), 3);
        go_on(database, &order).await
    });
    assert_is_the_source(database);
}

#[test]
fn a_server_that_crashes_takes_jobs_and_their_records_with_it() {
    let source = backup();
    let target = Cluster::temporary(MAJOR).unwrap();
    // Mappings of users are for roles, whoever owns them.
    target
        .psql(
            "postgres",
            "CREATE ROLE harbour_app; CREATE ROLE harbour_readonly; CREATE ROLE harbour_owner;
             CREATE ROLE harbour_support",
        )
        .unwrap();
    let (database, order) = ("engine crashed", everything("engine-crashed", 2));
    let order = Order {
        owners: false,
        privileges: false,
        ..order
    };
    let advance = engine(async {
        create(source, &target, database).await;
        let opened = open(source).await;
        let into = target_of(&target, database);
        let advance = restore::advance(&opened, &into, &order, in_an_hour());
        let crash = async {
            let sql = "SELECT count(*) FROM lifeboat_restore.job WHERE id ~ '^load:'";
            let mut loads = String::new();
            while loads.len() < 2 {
                tokio::time::sleep(Duration::from_millis(20)).await;
                loads = target.psql(database, sql).unwrap_or_default();
            }
            target.crash().unwrap();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            advance = advance => {
                let error = advance.unwrap_err();
                assert_eq!(error.name(), Name::Transient, "{}", shared::error::chain(&error));
            }
            () = crash => {}
        }
        target.start_again().unwrap();
        restore::advance(&opened, &into, &order, in_an_hour())
            .await
            .unwrap()
    });
    assert_advance_is_proven(&advance);
    assert_proven(&target, source, database);
}

#[test]
fn rows_that_a_crash_took_after_they_were_proven_are_loaded_anew() {
    let target = Cluster::temporary(MAJOR).unwrap();
    let sql = "CREATE UNLOGGED TABLE sessions (id int PRIMARY KEY); CREATE TABLE users (id int);
               INSERT INTO sessions SELECT generate_series(1, 500); INSERT INTO users VALUES (1)";
    let backup = back_up("engine-unlogged", MAJOR, sql);
    let order = everything("unlogged", 1);
    let (into, count) = (target_of(&target, "copy"), "SELECT count(*) FROM sessions");
    engine(async {
        create(&backup, &target, "copy").await;
        let opened = open(&backup).await;
        let advance = restore::advance(&opened, &into, &order, in_an_hour()).await;
        assert_advance_is_proven(&advance.unwrap());
        target.crash().unwrap();
        target.start_again().unwrap();
        assert_eq!(target.psql("copy", count).unwrap(), "0");
        let advance = restore::advance(&opened, &into, &order, in_an_hour()).await;
        assert_advance_is_proven(&advance.unwrap());
        restore::finish(&opened, &into, &order).await.unwrap();
    });
    assert_eq!(target.psql("copy", count).unwrap(), "500");
    target.stop().unwrap();
}

#[test]
fn a_job_that_is_under_way_at_a_pause_is_let_end() {
    let sql = "CREATE FUNCTION slow(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
                  IF current_database() ~ 'copy' THEN PERFORM pg_catalog.pg_sleep(2); END IF; RETURN i;
               END $$; CREATE TABLE t AS SELECT 1 AS i; CREATE INDEX slow_i ON t (slow(i))";
    let backup = back_up("engine-paused", MAJOR, sql);
    let order = everything("paused", 1);
    engine(async {
        create(&backup, server(), "engine paused copy").await;
        let opened = open(&backup).await;
        let into = target_of(server(), "engine paused copy");
        for _ in 0..100 {
            let until = Until {
                begin: Instant::now(),
                stop: in_an_hour(),
            };
            let advance = restore::advance(&opened, &into, &order, until).await;
            let advance = advance.unwrap();
            if advance.remaining == 0 {
                return assert_advance_is_proven(&advance);
            }
        }
        panic!("no progress");
    });
}

#[test]
fn two_invocations_at_once_never_do_the_same_twice() {
    let (database, order) = ("engine twice", everything("engine-twice", 2));
    let backup = backup();
    engine(async {
        create(backup, server(), database).await;
        let opened = open(backup).await;
        let target = target_of(server(), database);
        let one = restore::advance(&opened, &target, &order, in_an_hour());
        let other = async {
            while ledger_is_absent(database) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            restore::advance(&opened, &target, &order, in_an_hour()).await
        };
        let (one, other) = tokio::join!(one, other);
        assert_eq!(one.unwrap().remaining, 0);
        match other {
            Ok(advance) => assert_eq!(advance.remaining, 0),
            Err(error) => assert_eq!(error.name(), Name::Transient, "{error}"),
        }
    });
    let before = ledger(database);
    engine(go_on(database, &order));
    assert!(!before.is_empty());
    assert_is_the_source(database);
}

fn ledger_is_absent(database: &str) -> bool {
    let sql = "SELECT to_regclass('lifeboat_restore.job') IS NULL";
    server().psql(database, sql).unwrap_or_default() != "f"
}

#[test]
fn another_order_or_another_plan_does_not_continue_a_restore() {
    let (database, order) = ("engine plans", everything("engine-plan-1", 2));
    let backup = backup();
    engine(async {
        create(backup, server(), database).await;
        let opened = open(backup).await;
        let target = target_of(server(), database);
        let soon = || Instant::now() + Duration::from_millis(300);
        let _begun = restore::advance(&opened, &target, &order, soon()).await;
        let other_plan = Order {
            plan_id: "engine-plan-2".to_owned(),
            ..order.clone()
        };
        let other_order = Order {
            owners: false,
            ..order.clone()
        };
        for (order, expected) in [
            (&other_plan, "belongs to the restore of plan engine-plan-1"),
            (&other_order, "with another order"),
        ] {
            let error = restore::advance(&opened, &target, order, soon()).await;
            let error = error.unwrap_err();
            assert_eq!(error.name(), Name::Refused);
            assert!(error.to_string().contains(expected), "{error}");
        }
        // Given up, it says so, and goes on no more.
        restore::abandon(&target, &order, "the drill was killed")
            .await
            .unwrap();
        let error = restore::advance(&opened, &target, &order, soon()).await;
        let error = error.unwrap_err();
        assert_eq!(error.name(), Name::Refused);
        assert!(
            error.to_string().contains("the drill was killed"),
            "{error}"
        );
    });
    let sql = format!(
        "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = '{database}'"
    );
    let comment = server().psql("postgres", &sql).unwrap();
    assert_eq!(comment, "Lifeboat: UNUSABLE: the drill was killed");
    let absent = server().url("no such database", SUPERUSER);
    let absent = Target::new(DatabaseUrl::parse(&absent).unwrap());
    engine(restore::abandon(&absent, &order, "nothing")).unwrap();
}
