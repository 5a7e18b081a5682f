//! Whole databases, equal to their sources by fingerprint and as `pg_dump` prints them.

use std::sync::OnceLock;

use localcloud::every_kind::{self, ROWS_IN_ANOTHER_ORDER};
use localcloud::postgres::{DatabaseOptions, Major};

use super::{assert_advance_is_proven, everything, restore_whole};
use crate::format::{SERVICE_IN_ANOTHER_ORDER, Taken, assert_proven, kinds, service};
use crate::harness::{assert_equal_database, cluster, engine, succeeds};

fn comes_back(name: &str, taken: &Taken, connections: u32, in_another_order: &[(&str, &str)]) {
    let cluster = cluster(taken.major);
    let backup = taken.back_up(name);
    let copy = format!("{name} copy");
    let order = everything(name, connections);
    let advance = engine(restore_whole(&backup, (cluster, &copy), &order)).unwrap();
    let source = (cluster, taken.database);
    assert_equal_database(source, (cluster, &copy), in_another_order);
    assert_proven(cluster, &backup, &copy);
    assert_advance_is_proven(&advance);
    assert_eq!(advance.rows, backup.manifest.totals.rows);
    assert_eq!(advance.copy_bytes, backup.manifest.totals.copy_bytes);
}

fn every_kind_comes_back(major: Major, connections: u32) {
    let taken = Taken {
        major,
        database: kinds(major),
        connections: 2,
        slice_mib: 1,
    };
    let name = format!("engine-kinds-{}-{connections}", major.0);
    comes_back(&name, &taken, connections, &ROWS_IN_ANOTHER_ORDER);
}

#[test]
fn every_kind_of_object_is_restored_on_15_with_1_connection() {
    every_kind_comes_back(Major::V15, 1);
}

#[test]
fn every_kind_of_object_is_restored_on_15_with_4_connections() {
    every_kind_comes_back(Major::V15, 4);
}

#[test]
fn every_kind_of_object_is_restored_on_16_with_4_connections() {
    every_kind_comes_back(Major::V16, 4);
}

#[test]
fn every_kind_of_object_is_restored_on_18_with_1_connection() {
    every_kind_comes_back(Major::V18, 1);
}

#[test]
fn every_kind_of_object_is_restored_on_18_with_4_connections() {
    every_kind_comes_back(Major::V18, 4);
}

/// What 15 knows, and what stock tools make of it on 18, where views are printed in other words and
/// owners have one more right.
fn to_move() -> (&'static str, &'static str) {
    static MADE: OnceLock<()> = OnceLock::new();
    let (database, moved) = ("kinds to move", "kinds moved by stock");
    MADE.get_or_init(|| {
        let (old, new) = (cluster(Major::V15), cluster(Major::V18));
        every_kind::create_portable(old, database).unwrap();
        every_kind::create_roles(new).unwrap();
        new.create_database(moved, &DatabaseOptions::default())
            .unwrap();
        let mut dump = old.client("pg_dump", database).unwrap();
        let text = succeeds(dump.arg("--no-subscriptions"));
        new.psql(moved, &String::from_utf8(text).unwrap()).unwrap();
    });
    (database, moved)
}

fn every_kind_moves_up(connections: u32) {
    let (database, moved) = to_move();
    let taken = Taken {
        major: Major::V15,
        database,
        connections: 2,
        slice_mib: 1,
    };
    let name = format!("engine-kinds-up-{connections}");
    let backup = taken.back_up(&name);
    let (target, copy) = (cluster(Major::V18), format!("{name} copy"));
    let order = everything(&name, connections);
    let advance = engine(restore_whole(&backup, (target, &copy), &order)).unwrap();
    assert_advance_is_proven(&advance);
    assert_proven(target, &backup, &copy);
    assert_equal_database((target, moved), (target, &copy), &ROWS_IN_ANOTHER_ORDER);
}

#[test]
#[ignore = "half a minute: make slow"]
fn every_kind_of_object_moves_from_15_to_18_with_1_connection() {
    every_kind_moves_up(1);
}

#[test]
fn every_kind_of_object_moves_from_15_to_18_with_4_connections() {
    every_kind_moves_up(4);
}

#[test]
fn a_service_with_many_tables_is_restored_from_slices() {
    let major = Major::V15;
    let taken = Taken {
        major,
        database: service(major),
        connections: 4,
        slice_mib: 1,
    };
    comes_back("engine-service", &taken, 4, &SERVICE_IN_ANOTHER_ORDER);
}

#[test]
fn latin1_is_restored_byte_for_byte() {
    let major = Major::V15;
    every_kind::create_latin1(cluster(major), "engine latin").unwrap();
    let taken = Taken {
        major,
        database: "engine latin",
        connections: 1,
        slice_mib: 256,
    };
    comes_back("engine-latin1", &taken, 2, &[]);
}

#[test]
fn bytes_without_an_encoding_are_restored_byte_for_byte() {
    let major = Major::V18;
    every_kind::create_sql_ascii(cluster(major), "engine ascii").unwrap();
    let taken = Taken {
        major,
        database: "engine ascii",
        connections: 1,
        slice_mib: 256,
    };
    comes_back("engine-sql-ascii", &taken, 2, &[]);
}
