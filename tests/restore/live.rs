//! Live tables that do not make it easy: hostile names, hidden rows, locks, and people who wait.

use std::time::{Duration, Instant};

use localcloud::postgres::{Cluster, DatabaseOptions, Major};
use shared::database_url::DatabaseUrl;
use shared::manifest::QualifiedName;
use shared::restore::staging::{self, Difference, Limits, TableDifference};
use shared::restore::{self, LeaveOut, Order, Scope, Target};

use super::{in_an_hour, limits};
use crate::faults::subject::wait_until;
use crate::format::Taken;
use crate::harness::{cluster, engine, open_for_tables};

/// With ICU, for a collation that takes different texts for equal.
const MAJOR: Major = Major::V15;
const DATABASE: &str = "engine-live";
/// Whatever gets out of a comment ends psql.
const HOSTILE: &str = "a\n\\! kill $PPID\n";

const SCHEMA: &str = r#"
    CREATE ROLE stager LOGIN PASSWORD 'stager';
    GRANT CREATE ON DATABASE "engine-live" TO stager;
    CREATE SCHEMA app;
    CREATE COLLATION app.blind (PROVIDER = icu, LOCALE = 'und-u-ks-level2', DETERMINISTIC = false);
    CREATE TABLE app.words (id int PRIMARY KEY, word text COLLATE app.blind);
    INSERT INTO app.words SELECT n, 'Word ' || n FROM generate_series(1, 9) n;
    CREATE TABLE app."a
\! kill $PPID
" (id int PRIMARY KEY, "a
\! kill $PPID
" text);
    INSERT INTO app."a
\! kill $PPID
" SELECT n, 'v' || n FROM generate_series(1, 9) n;
    CREATE TABLE app.computed (id int PRIMARY KEY, twice int);
    INSERT INTO app.computed SELECT n, 2 * n FROM generate_series(1, 9) n;
    CREATE TABLE app.gone (id int);
    CREATE TABLE app.names (id int PRIMARY KEY, one regclass, many regclass[]);
    INSERT INTO app.names VALUES (1, 'app.gone', '{app.gone,app.words}');
    CREATE TABLE app.hidden (id int PRIMARY KEY);
    INSERT INTO app.hidden VALUES (1);
    CREATE TABLE app.locked (id int PRIMARY KEY);
    INSERT INTO app.locked VALUES (1);
    CREATE TYPE app.lazy AS (n int);
    CREATE TABLE app.slow (id int PRIMARY KEY, v app.lazy);
    INSERT INTO app.slow SELECT n, ROW(n)::app.lazy FROM generate_series(1, 200) n;"#;

/// What became of it since the backup.
const SINCE: &str = r#"
    UPDATE app.words SET word = lower(word) WHERE id = 5;
    DELETE FROM app."a
\! kill $PPID
" WHERE id = 1;
    UPDATE app."a
\! kill $PPID
" SET "a
\! kill $PPID
" = 'other' WHERE id = 2;
    ALTER TABLE app.computed DROP COLUMN twice;
    ALTER TABLE app.computed ADD COLUMN twice int GENERATED ALWAYS AS (3 * id) STORED;
    DELETE FROM app.computed WHERE id = 1;
    DROP TABLE app.gone;
    ALTER TABLE app.hidden ENABLE ROW LEVEL SECURITY;
    CREATE FUNCTION app.slowly(app.lazy) RETURNS text LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_catalog.pg_sleep(0.3); RETURN ($1).n; END $$;
    CREATE CAST (app.lazy AS text) WITH FUNCTION app.slowly(app.lazy);
    GRANT USAGE ON SCHEMA app TO stager;
    GRANT SELECT ON ALL TABLES IN SCHEMA app TO stager;"#;

fn order(schema: &str, tables: &[&str]) -> Order {
    let name = |it: &&str| QualifiedName {
        schema: "app".to_owned(),
        name: (*it).to_owned(),
    };
    Order {
        plan_id: schema.to_owned(),
        scope: Scope::Tables(tables.iter().map(name).collect()),
        leave_out: LeaveOut::default(),
        owners: false,
        privileges: false,
        connections: 2,
        staging_schema: Some(schema.to_owned()),
    }
}

fn of<'a>(difference: &'a Difference, name: &str) -> &'a TableDifference {
    let mut tables = difference.tables.iter();
    tables.find(|it| it.live.name == name).unwrap()
}

fn why<'a>(difference: &'a Difference, name: &str) -> &'a str {
    of(difference, name).not_compared.as_deref().unwrap()
}

/// Somebody who needs the table for themselves: asks as soon as it is read, and is let in.
fn wait_for_the_slow_table(server: &Cluster) -> Duration {
    let sql = "SELECT count(*) > 0 FROM pg_locks WHERE granted AND relation = 'app.slow'::regclass";
    let is_read = || server.psql(DATABASE, sql).unwrap() == "t";
    wait_until(is_read, "the comparison of the slow table");
    let begun = Instant::now();
    let lock = "BEGIN; LOCK TABLE app.slow IN ACCESS EXCLUSIVE MODE; COMMIT";
    server.psql(DATABASE, lock).unwrap();
    begun.elapsed()
}

#[test]
fn live_tables_are_compared_to_the_byte_and_nobody_is_kept_waiting() {
    let server = cluster(MAJOR);
    let options = DatabaseOptions::default();
    server.create_database(DATABASE, &options).unwrap();
    server.psql(DATABASE, SCHEMA).unwrap();
    let taken = Taken {
        major: MAJOR,
        database: DATABASE,
        connections: 2,
        slice_mib: 256,
    };
    let backup = taken.back_up(DATABASE);
    server.psql(DATABASE, SINCE).unwrap();
    let url = server.url_with_password(DATABASE, "stager", Some("stager"));
    let target = Target::new(DatabaseUrl::parse(&url).unwrap());
    let opened = engine(open_for_tables(&backup));
    let stage = |order: &Order, limits: Limits| {
        engine(async {
            let advance = restore::advance(&opened, &target, order, in_an_hour()).await;
            assert!(advance.unwrap().proof.unwrap().is_proven);
            staging::difference(&opened, &target, order, limits)
                .await
                .unwrap()
        })
    };

    // Somebody else's restore into this database is under way, into another schema.
    let mut other = server.client("psql", DATABASE).unwrap();
    let hold = "SELECT pg_advisory_lock(1281974885, 1651466612); BEGIN;
        LOCK TABLE app.locked IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(600)";
    let mut other = other.args(["-Xqc", hold]).spawn().unwrap();
    let held =
        "SELECT count(*) > 0 FROM pg_locks WHERE granted AND relation = 'app.locked'::regclass";
    wait_until(
        || server.psql(DATABASE, held).unwrap() == "t",
        "the lock of somebody else",
    );
    let tables = ["words", HOSTILE, "computed", "names", "hidden", "locked"];
    let difference = stage(&order("lifeboat_live", &tables), limits());
    let end = "SELECT pg_terminate_backend(pid) FROM pg_locks
        WHERE granted AND mode = 'AccessExclusiveLock' AND relation = 'app.locked'::regclass";
    server.psql(DATABASE, end).unwrap();
    other.wait().unwrap();

    assert_eq!(of(&difference, "words").changed, Some(1));
    assert_eq!(of(&difference, "names").changed, Some(1));
    let computed = of(&difference, "computed");
    assert_eq!(computed.only_backup, Some(1));
    assert_eq!(computed.changed, Some(8));
    assert!(why(&difference, "hidden").contains("BYPASSRLS"));
    assert!(why(&difference, "locked").contains("exclusive lock"));
    let types =
        "SELECT string_agg(format_type(atttypid, NULL), ' ' ORDER BY attnum) FROM pg_attribute
        WHERE attrelid = 'lifeboat_live.names'::regclass AND attnum > 0";
    assert_eq!(server.psql(DATABASE, types).unwrap(), "integer text text");

    // Run with psql, whose own commands would be run, too.
    let script = difference.merge_script.replace("\nROLLBACK;", "\nCOMMIT;");
    server.psql(DATABASE, &script).unwrap();
    let merged = "SELECT (SELECT count(*) FROM app.computed) || ' ' || (SELECT twice FROM app.computed WHERE id = 1)";
    assert_eq!(server.psql(DATABASE, merged).unwrap(), "9 3");

    let slow = order("lifeboat_slow", &["slow", "words"]);
    let brief = Limits {
        yield_after: Duration::ZERO,
        ..limits()
    };
    let waiting = std::thread::spawn(|| wait_for_the_slow_table(cluster(MAJOR)));
    let difference = stage(&slow, brief);
    let waited = waiting.join().unwrap();
    assert!(waited < Duration::from_secs(20), "{waited:?}");
    assert!(why(&difference, "slow").contains("was let through"));
    assert_eq!(of(&difference, "words").changed, Some(1));

    let hurried = Limits {
        until: Instant::now(),
        ..limits()
    };
    let difference = engine(staging::difference(&opened, &target, &slow, hurried)).unwrap();
    assert!(why(&difference, "slow").contains("no time left"));
}
