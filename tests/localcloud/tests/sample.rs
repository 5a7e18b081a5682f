//! The sample database is what it says, and stock tools bring it back.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

use localcloud::postgres::{Cluster, DatabaseOptions, Major};
use localcloud::sample::{self, SMALL};

fn succeeds(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    output.stdout
}

fn as_text(cluster: &Cluster, database: &str) -> String {
    let mut dump = cluster.client("pg_dump", database).unwrap();
    // The inherited column that was added late changes places: compared by every_kind.
    dump.args([
        "--restrict-key=x",
        "--exclude-table-data=work.sites",
        "--exclude-table-data=work.vehicles",
    ]);
    String::from_utf8(succeeds(&mut dump)).unwrap()
}

/// As the archive's list names them.
const KINDS: &str = "\
ACL
AGGREGATE
CHECK CONSTRAINT
COMMENT
CONSTRAINT
DEFAULT ACL
DOMAIN
EVENT TRIGGER
FK CONSTRAINT
FOREIGN TABLE
FUNCTION
INDEX
INDEX ATTACH
MATERIALIZED VIEW
MATERIALIZED VIEW DATA
POLICY
PROCEDURE
PUBLICATION
PUBLICATION TABLE
ROW SECURITY
RULE
SCHEMA
SEQUENCE
SEQUENCE SET
SERVER
STATISTICS
TABLE
TABLE ATTACH
TABLE DATA
TRIGGER
TYPE
USER MAPPING
VIEW";

#[test]
fn the_sample_has_every_kind_and_restores_equal_on_every_major() {
    for major in Major::ALL {
        let cluster = Cluster::temporary(major).unwrap();
        sample::create_scaled(&cluster, "sample", SMALL).unwrap();

        let tables = "SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')";
        let tables: usize = cluster.psql("sample", tables).unwrap().parse().unwrap();
        assert!(tables >= 40, "{tables}");
        let archive =
            std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("sample-{}", major.0));
        succeeds(
            cluster
                .client("pg_dump", "sample")
                .unwrap()
                .args(["-Fc", "-Z0", "-f"])
                .arg(&archive),
        );
        let contents = succeeds(
            Command::new(
                localcloud::postgres::bin_dir(major)
                    .unwrap()
                    .join("pg_restore"),
            )
            .arg("-l")
            .arg(&archive),
        );
        let contents = String::from_utf8(contents).unwrap();
        for kind in KINDS.lines() {
            assert!(
                contents.lines().any(|line| line
                    .split(' ')
                    .skip(3)
                    .collect::<Vec<_>>()
                    .join(" ")
                    .starts_with(&format!("{kind} "))),
                "{kind}"
            );
        }

        cluster
            .create_database("copy", &DatabaseOptions::default())
            .unwrap();
        succeeds(
            cluster
                .client("pg_restore", "copy")
                .unwrap()
                .args(["--exit-on-error", "-d", "copy"])
                .arg(&archive),
        );
        let [source, copy] = ["sample", "copy"].map(|database| as_text(&cluster, database));
        for (one, other) in source.lines().zip(copy.lines()) {
            assert_eq!(one, other);
        }
        assert_eq!(source.len(), copy.len());
    }
}

#[test]
fn the_same_scale_makes_the_same_rows() {
    let cluster = Cluster::temporary(Major::V15).unwrap();
    sample::create_scaled(&cluster, "one", SMALL).unwrap();
    sample::create_scaled(&cluster, "two", SMALL).unwrap();
    let [one, two] = ["one", "two"].map(|database| as_text(&cluster, database));
    for (one, two) in one.lines().zip(two.lines()) {
        assert_eq!(one, two);
    }
    assert_eq!(one.len(), two.len());
}

#[test]
fn four_fifths_of_the_measured_database_are_one_table() {
    let cluster = Cluster::temporary(Major::V15).unwrap();
    sample::create_bench(&cluster, "bench", 0.01).unwrap();
    let copied = |table: &str| {
        let mut psql = cluster.client("psql", "bench").unwrap();
        succeeds(psql.args(["-Xqc", &format!("COPY {table} TO STDOUT")])).len()
    };
    let tables = cluster.psql("bench", "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname = 'bench'").unwrap();
    let total: usize = tables.lines().map(copied).sum();
    let share = copied("bench.events") * 100 / total;
    assert!((75..=85).contains(&share), "{share} %");
}
