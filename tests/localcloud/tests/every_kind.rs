//! The fixture is known good: stock tools bring it back equal, so whatever does not is at fault itself.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

use localcloud::every_kind::{self, LATIN1_OPTIONS, ROWS_IN_ANOTHER_ORDER, SQL_ASCII_OPTIONS};
use localcloud::postgres::{Cluster, DatabaseOptions, Major};

fn succeeds(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    output.stdout
}

/// Everything as text, with a fixed restrict key so that two dumps of equal databases are equal.
fn as_text(cluster: &Cluster, database: &str, without_rows_of: &[(&str, &str)]) -> String {
    let mut dump = cluster.client("pg_dump", database).unwrap();
    dump.arg("--restrict-key=x");
    for (table, _) in without_rows_of {
        dump.arg(format!("--exclude-table-data={table}"));
    }
    // Bytes that are no UTF-8 become visible and stay different from each other.
    succeeds(&mut dump)
        .iter()
        .map(|byte| char::from(*byte))
        .collect()
}

fn dump_and_restore(cluster: &Cluster, source: &str, target: &str, options: &DatabaseOptions<'_>) {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("stock-{}-{source}", cluster.major().0));
    std::fs::remove_dir_all(&dir).ok();
    succeeds(
        cluster
            .client("pg_dump", source)
            .unwrap()
            .args(["-Fd", "-j2", "-Z0", "-f"])
            .arg(&dir),
    );
    cluster.create_database(target, options).unwrap();
    // One after the other: archives do not tell a parallel load that rows of one of the extension's
    // tables refer to another's.
    succeeds(
        cluster
            .client("pg_restore", target)
            .unwrap()
            .args(["-Fd", "--exit-on-error", "-d", target])
            .arg(&dir),
    );
}

fn assert_same_text(source: &str, copy: &str) {
    for (number, (one, other)) in source.lines().zip(copy.lines()).enumerate() {
        assert_eq!(one, other, "line {number}");
    }
    assert_eq!(source.len(), copy.len());
}

fn a_stock_dump_of_every_kind_restores_equal(major: Major) {
    let cluster = Cluster::temporary(major).unwrap();
    every_kind::create(&cluster, "every_kind").unwrap();
    dump_and_restore(&cluster, "every_kind", "copy", &DatabaseOptions::default());

    let [source, copy] =
        ["every_kind", "copy"].map(|database| as_text(&cluster, database, &ROWS_IN_ANOTHER_ORDER));
    assert_same_text(&source, &copy);
    for (table, query) in ROWS_IN_ANOTHER_ORDER {
        let [source, copy] =
            ["every_kind", "copy"].map(|database| cluster.psql(database, query).unwrap());
        assert!(!source.is_empty());
        assert_eq!(source, copy, "{table}");
    }
}

#[test]
fn a_stock_dump_of_every_kind_restores_equal_on_15() {
    a_stock_dump_of_every_kind_restores_equal(Major::V15);
}

#[test]
fn a_stock_dump_of_every_kind_restores_equal_on_16() {
    a_stock_dump_of_every_kind_restores_equal(Major::V16);
}

#[test]
fn a_stock_dump_of_every_kind_restores_equal_on_18() {
    a_stock_dump_of_every_kind_restores_equal(Major::V18);
}

#[test]
fn stock_dumps_of_other_encodings_restore_equal() {
    for major in Major::ALL {
        let cluster = Cluster::temporary(major).unwrap();
        every_kind::create_latin1(&cluster, "latin1").unwrap();
        every_kind::create_sql_ascii(&cluster, "sql_ascii").unwrap();
        for (source, options) in [
            ("latin1", &LATIN1_OPTIONS),
            ("sql_ascii", &SQL_ASCII_OPTIONS),
        ] {
            let target = format!("{source} copy");
            dump_and_restore(&cluster, source, &target, options);
            assert_same_text(
                &as_text(&cluster, source, &[]),
                &as_text(&cluster, &target, &[]),
            );
        }
    }
}
