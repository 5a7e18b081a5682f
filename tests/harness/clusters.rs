//! Servers, and databases as text.

use std::sync::OnceLock;

use localcloud::postgres::{Cluster, Major};

use super::succeeds;

/// The server of this major that all tests share.
pub fn cluster(major: Major) -> &'static Cluster {
    static CLUSTERS: [OnceLock<Cluster>; Major::ALL.len()] =
        [const { OnceLock::new() }; Major::ALL.len()];
    let index = Major::ALL.iter().position(|it| *it == major).unwrap();
    CLUSTERS[index].get_or_init(|| Cluster::temporary(major).unwrap())
}

/// The whole database as `pg_dump` prints it, with a fixed restrict key so that two dumps of equal
/// databases are equal. Bytes that are no UTF-8 become visible and stay different from each other.
pub fn dump_as_text(cluster: &Cluster, database: &str, options: &[String]) -> String {
    let mut dump = cluster.client("pg_dump", database).unwrap();
    dump.arg("--restrict-key=x").args(options);
    let text = succeeds(&mut dump);
    text.iter().map(|byte| char::from(*byte)).collect()
}

/// Names the first line that differs, where an assertion on the whole would print megabytes.
pub fn assert_same_text(source: &str, copy: &str) {
    for (number, (one, other)) in source.lines().zip(copy.lines()).enumerate() {
        assert_eq!(one, other, "line {} of the dumps differs", number + 1);
    }
    assert_eq!(source.len(), copy.len(), "one dump is longer");
    assert!(source.len() > 1000, "a dump without content: {source}");
}
