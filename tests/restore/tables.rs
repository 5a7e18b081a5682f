//! Named tables beside the live ones: staged, proven, compared, and nothing live changed.

use std::collections::BTreeMap;

use localcloud::postgres::{DatabaseOptions, Major};
use shared::restore::staging::{self, Difference, TableDifference};
use shared::restore::{self, LeaveOut, Order, RestoreError, Scope, parse_table_name};

use super::{in_an_hour, limits, target_of};
use crate::faults::subject::wait_until;
use crate::format::Taken;
use crate::harness::{Backup, cloud, cluster, engine, open_for_tables, wait};

const MAJOR: Major = Major::V16;

const SCHEMA: &str = "
    CREATE SCHEMA app;
    CREATE TYPE app.colour AS ENUM ('red', 'green');
    CREATE TABLE app.users (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL,
        colour app.colour, at timestamptz, shout text GENERATED ALWAYS AS (upper(name)) STORED);
    CREATE TABLE app.\"odd.name\" (a int, b text, PRIMARY KEY (a, b));
    CREATE TABLE app.dropped (id int PRIMARY KEY, v text);
    CREATE TABLE app.bystander (id int PRIMARY KEY, v text);
    CREATE TABLE app.log (line text);
    INSERT INTO app.users (name, colour, at)
        SELECT 'user ' || n, CASE n % 3 WHEN 0 THEN 'red' WHEN 1 THEN 'green' END::app.colour,
               timestamptz '2026-01-01 00:00Z' + n * interval '1 hour' FROM generate_series(1, 1000) n;
    INSERT INTO app.\"odd.name\" SELECT n, 'b' || n FROM generate_series(1, 10) n;
    INSERT INTO app.dropped SELECT n, 'v' || n FROM generate_series(1, 10) n;
    INSERT INTO app.bystander SELECT n, repeat(md5(n::text), 100) FROM generate_series(1, 3000) n;
    INSERT INTO app.log SELECT 'line ' || n FROM generate_series(1, 10) n";

fn back_up(database: &'static str) -> Backup {
    let cluster = cluster(MAJOR);
    cluster
        .create_database(database, &DatabaseOptions::default())
        .unwrap();
    cluster.psql(database, SCHEMA).unwrap();
    let taken = Taken {
        major: MAJOR,
        database,
        connections: 2,
        slice_mib: 256,
    };
    taken.back_up(database)
}

fn order(plan_id: &str, tables: &[&str]) -> Order {
    let tables = tables.iter().map(|it| parse_table_name(it).unwrap());
    Order {
        plan_id: plan_id.to_owned(),
        scope: Scope::Tables(tables.collect()),
        leave_out: LeaveOut::default(),
        owners: false,
        privileges: false,
        connections: 2,
        staging_schema: Some("lifeboat_test".to_owned()),
    }
}

/// Everything of the live schema that a restore could have changed.
fn live(database: &str) -> String {
    let tables = "SELECT string_agg(relname || relfilenode, ' ' ORDER BY oid) FROM pg_class
        WHERE relnamespace = 'app'::regnamespace";
    let rows = "SELECT md5(string_agg(u::text, '' ORDER BY id)) FROM app.users u";
    let comment = "SELECT coalesce(shobj_description(oid, 'pg_database'), '')
        FROM pg_database WHERE datname = current_database()";
    let ask = |sql| cluster(MAJOR).psql(database, sql).unwrap();
    [tables, rows, comment].map(ask).join("\n")
}

async fn stage(
    backup: &Backup,
    database: &str,
    order: &Order,
) -> Result<(restore::Advance, Difference), RestoreError> {
    let opened = open_for_tables(backup).await;
    let target = target_of(cluster(MAJOR), database);
    let advance = restore::advance(&opened, &target, order, in_an_hour()).await?;
    assert_eq!(advance.remaining, 0);
    let difference = staging::difference(&opened, &target, order, limits()).await?;
    restore::finish(&opened, &target, order).await?;
    Ok((advance, difference))
}

/// Of ours in the database: process and state.
fn sessions(database: &str) -> Vec<String> {
    let sql = format!(
        "SELECT pid || ' ' || state FROM pg_stat_activity
         WHERE application_name = 'lifeboat' AND datname = '{database}'"
    );
    let found = cluster(MAJOR).psql(database, &sql).unwrap();
    found.lines().map(str::to_owned).collect()
}

#[test]
fn the_calls_of_a_restore_hand_their_sessions_on_and_do_without_lost_ones() {
    let database = "engine-handed-on";
    let backup = back_up(database);
    let (server, order) = (cluster(MAJOR), order("handed-on", &["app.users"]));
    let are_left = |n| {
        let are_left = || sessions(database).len() == n;
        wait_until(are_left, "that the others end");
        sessions(database)
    };
    engine(async {
        let opened = open_for_tables(&backup).await;
        let target = target_of(server, database);
        let advance = restore::advance(&opened, &target, &order, in_an_hour()).await;
        assert_eq!(advance.unwrap().remaining, 0);
        let handed_on = are_left(2);
        assert!(handed_on.iter().all(|it| it.ends_with(" idle")));
        let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        assert_eq!(server.psql(database, locks).unwrap(), "0");
        let compare = || staging::difference(&opened, &target, &order, limits());
        let difference = compare().await.unwrap();
        let [reader] = &are_left(1)[..] else {
            panic!("more than one");
        };
        assert!(handed_on.contains(reader), "{reader}: {handed_on:?}");

        let end = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
            WHERE application_name = 'lifeboat' AND datname = current_database()";
        assert_eq!(server.psql(database, end).unwrap(), "t");
        assert_eq!(compare().await.unwrap(), difference);
        assert_ne!(are_left(1)[0], *reader);
        restore::finish(&opened, &target, &order).await.unwrap();
        are_left(0);
    });
}

fn counts(table: &TableDifference) -> [Option<u64>; 3] {
    [table.only_backup, table.only_live, table.changed]
}

#[test]
fn staged_tables_show_what_was_lost_and_a_person_merges_it() {
    let database = "engine staging";
    let backup = back_up("engine-staging-source");
    let server = cluster(MAJOR);
    server
        .psql(
            "postgres",
            &format!("CREATE DATABASE \"{database}\" TEMPLATE \"engine-staging-source\""),
        )
        .unwrap();
    // An accident, and life going on; what is staged must not be published.
    server
        .psql(
            database,
            "CREATE PUBLICATION everything FOR ALL TABLES;
             DELETE FROM app.users WHERE id <= 10;
             UPDATE app.users SET name = 'mistake' WHERE id BETWEEN 21 AND 25;
             UPDATE app.users SET colour = 'red' WHERE id = 25;
             INSERT INTO app.users (name) VALUES ('new'), ('newer');
             DELETE FROM app.\"odd.name\" WHERE a = 3;
             ALTER TABLE app.users ADD COLUMN email text, DROP COLUMN at;
             ALTER TABLE app.bystander ADD COLUMN other int;
             DROP TABLE app.dropped",
        )
        .unwrap();
    let before = live(database);
    let tables = ["app.users", "app.\"odd.name\"", "app.dropped", "app.log"];
    let order = order("engine-staging", &tables);
    let (advance, difference) = engine(stage(&backup, database, &order)).unwrap();
    assert_eq!(live(database), before, "nothing live is changed");

    let published = "SELECT count(*) FROM pg_publication_tables WHERE schemaname = 'lifeboat_test'";
    assert_eq!(server.psql(database, published).unwrap(), "0");

    let proof = advance.proof.unwrap();
    assert!(proof.is_proven, "{:?}", proof.differences());
    assert_eq!(proof.tables.len(), 4);
    // The manifest, and these tables' own objects: nothing else is read.
    let own = |it: &&shared::manifest::Object| {
        let tables = backup
            .manifest
            .tables
            .iter()
            .filter(|it| it.name != "bystander");
        let names: Vec<_> = tables.flat_map(|it| &it.objects).collect();
        names.iter().any(|name| it.key.ends_with(name.as_str()))
    };
    let objects = backup.manifest.objects.iter().filter(own);
    let own_bytes: u64 = objects.map(|it| it.stored_bytes).sum();
    let folder = backup.uri.splitn(4, '/').last().unwrap();
    let manifest = wait(cloud().object("VaultBucket", &format!("{folder}/manifest.json")));
    let manifest_bytes = manifest.unwrap().len() as u64;
    assert_eq!(advance.bytes_read, own_bytes + manifest_bytes);
    assert!(
        advance
            .notes
            .iter()
            .any(|it| it.contains("app.colour") && it.contains("app.users.colour")),
        "{:?}",
        advance.notes
    );

    let of = |name: &str| {
        let mut tables = difference.tables.iter();
        tables.find(|it| it.live.name == name).unwrap()
    };
    let users = of("users");
    assert_eq!(counts(users), [Some(10), Some(2), Some(5)]);
    let by_column = [("name", 5), ("colour", 1)].map(|(name, n)| (name.to_owned(), n));
    assert_eq!(users.changed_by_column, BTreeMap::from(by_column));
    assert_eq!(
        users.findings,
        [
            "the column at is gone from the live table",
            "the column email is new in the live table"
        ]
    );
    assert_eq!(counts(of("odd.name")), [Some(1), Some(0), Some(0)]);
    assert_eq!(counts(of("dropped")), [None; 3]);
    assert!(
        of("dropped")
            .not_compared
            .as_ref()
            .unwrap()
            .contains("does not exist any more")
    );
    assert!(
        of("log")
            .not_compared
            .as_ref()
            .unwrap()
            .contains("no primary key")
    );
    let keys: Vec<&str> = difference.keys.lines().collect();
    assert_eq!(keys.len(), 10 + 2 + 5 + 1);
    assert!(
        keys.contains(&r#"{"key":["3","b3"],"kind":"only_backup","table":"app.\"odd.name\""}"#)
    );

    // The script as it is changes nothing; with COMMIT it brings back what is missing.
    let script = difference.merge_script;
    server.psql(database, &script).unwrap();
    assert_eq!(live(database), before);
    let script = script.replace("\nROLLBACK;", "\nCOMMIT;");
    server.psql(database, &script).unwrap();
    let missing = "SELECT count(*) FROM app.users WHERE id <= 10 AND name = 'user ' || id";
    assert_eq!(server.psql(database, missing).unwrap(), "10");
    let kept = "SELECT count(*) FROM app.users WHERE name IN ('mistake', 'new', 'newer')";
    assert_eq!(server.psql(database, kept).unwrap(), "7");
}

#[test]
fn rows_of_a_type_that_is_gone_are_staged_as_text() {
    let database = "engine-staging-untyped";
    let backup = back_up(database);
    let server = cluster(MAJOR);
    server.psql(database, "DROP SCHEMA app CASCADE").unwrap();
    let order = order("engine-untyped", &["app.users"]);
    let (advance, difference) = engine(stage(&backup, database, &order)).unwrap();
    assert!(advance.proof.unwrap().is_proven);
    assert!(difference.tables[0].not_compared.is_some());
    let sql = "SELECT count(*) || ' ' || min(colour) FROM lifeboat_test.users";
    assert_eq!(server.psql(database, sql).unwrap(), "1000 green");
    // It belongs to whom staged it; the ledger is gone.
    let left = "SELECT string_agg(relname, ' ') FROM pg_class
        WHERE relnamespace = 'lifeboat_test'::regnamespace";
    assert_eq!(server.psql(database, left).unwrap(), "users");
    // Once more into the same schema is refused, as is a table that was never there.
    let again = engine(stage(&backup, database, &order)).unwrap_err();
    assert!(again.to_string().contains("exists already"), "{again}");
    let other = Order {
        scope: Scope::Tables(vec![parse_table_name("app.nobody").unwrap()]),
        staging_schema: Some("lifeboat_other".to_owned()),
        ..order
    };
    let absent = engine(stage(&backup, database, &other)).unwrap_err();
    assert!(
        absent.to_string().contains("no rows of app.nobody"),
        "{absent}"
    );
    let sql = "SELECT to_regnamespace('lifeboat_other') IS NULL";
    assert_eq!(server.psql(database, sql).unwrap(), "t");
}
