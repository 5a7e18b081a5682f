//! A database that is written to while it is dumped.

use std::process::{Child, Stdio};

use localcloud::postgres::{Cluster, DatabaseOptions, Major};

use super::{Load, Taken, assert_proven, restore};
use crate::harness::{assert_same_text, cluster, dump_as_text, succeeds};

/// pgbench on its own tables until it is dropped.
struct Writers(Child);

impl Writers {
    fn start(cluster: &Cluster, database: &str) -> Self {
        let mut pgbench = cluster.client("pgbench", database).unwrap();
        pgbench.args(["--no-vacuum", "--client=2", "--time=300"]);
        pgbench.stdout(Stdio::null()).stderr(Stdio::null());
        let writers = Self(pgbench.spawn().unwrap());
        while history(cluster, database) < 100 {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        writers
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn history(cluster: &Cluster, database: &str) -> u64 {
    let count = cluster.psql(database, "SELECT count(*) FROM pgbench_history");
    count.unwrap().parse().unwrap()
}

fn a_database_under_writes_is_backed_up_at_one_instant(major: Major, name: &'static str) {
    let cluster = cluster(major);
    cluster
        .create_database(name, &DatabaseOptions::default())
        .unwrap();
    succeeds(cluster.client("pgbench", name).unwrap().args([
        "--initialize",
        "--quiet",
        "--scale=2",
        "--foreign-keys",
    ]));
    let taken = Taken {
        major,
        database: name,
        connections: 4,
        slice_mib: 1,
    };
    let writers = Writers::start(cluster, name);
    let backup = taken.back_up(name);
    let after = history(cluster, name);
    drop(writers);

    let copy = format!("{name} copy");
    restore(name, &backup, (cluster, &copy), Load::Parallel);
    let schema = ["--schema-only".to_owned()];
    assert_same_text(
        &dump_as_text(cluster, name, &schema),
        &dump_as_text(cluster, &copy, &schema),
    );
    assert_proven(cluster, &backup, &copy);
    let accounts = backup
        .manifest
        .tables
        .iter()
        .find(|it| it.name == "pgbench_accounts");
    assert!(
        accounts.unwrap().objects.len() > 10,
        "a table is cut while it is written"
    );
    let copied = history(cluster, &copy);
    assert!(
        copied >= 100 && copied < after,
        "nobody wrote during the dump: {copied}, {after}"
    );
    let sums = "SELECT count(DISTINCT total) FROM (
        SELECT sum(abalance) FROM pgbench_accounts UNION ALL SELECT sum(tbalance) FROM pgbench_tellers
        UNION ALL SELECT sum(bbalance) FROM pgbench_branches
        UNION ALL SELECT sum(delta) FROM pgbench_history) AS sums (total)";
    assert_eq!(
        cluster.psql(&copy, sums).unwrap(),
        "1",
        "the copy is of several instants"
    );
}

#[test]
fn a_database_under_writes_is_backed_up_at_one_instant_on_15() {
    a_database_under_writes_is_backed_up_at_one_instant(Major::V15, "written-15");
}

#[test]
fn a_database_under_writes_is_backed_up_at_one_instant_on_18() {
    a_database_under_writes_is_backed_up_at_one_instant(Major::V18, "written-18");
}
