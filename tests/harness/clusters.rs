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

/// Source and copy have the same schema, to the letter, and the same lines of rows, in whatever
/// order slices were loaded in. The rows of `in_another_order` are compared by their own queries:
/// their text differs though they are equal.
pub fn assert_equal_database(
    (source_cluster, source): (&Cluster, &str),
    (copy_cluster, copy): (&Cluster, &str),
    in_another_order: &[(&str, &str)],
) {
    let mut options = vec!["--no-subscriptions".to_owned()];
    let both = |options: &[String]| {
        [
            dump_as_text(source_cluster, source, options),
            dump_as_text(copy_cluster, copy, options),
        ]
    };
    let [one, other] = both(&[&options[..], &["--schema-only".to_owned()]].concat());
    assert_same_text(&one, &other);
    options.extend(
        in_another_order
            .iter()
            .map(|(table, _)| format!("--exclude-table-data={table}")),
    );
    let [one, other] = both(&options).map(|text| {
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        lines.join("\n")
    });
    assert_same_text(&one, &other);
    for (table, query) in in_another_order {
        let one = source_cluster.psql(source, query).unwrap();
        assert!(!one.is_empty());
        assert_eq!(one, copy_cluster.psql(copy, query).unwrap(), "{table}");
    }
}
