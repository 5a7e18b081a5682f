//! The document's other recipes: one table, schema and data apart, checks and fingerprints.

use localcloud::postgres::{DatabaseOptions, Major, quoted};
use shared::fingerprint::{Fingerprint, LargeObjectHash};

use super::{
    DOCUMENT, SERVICE_IN_ANOTHER_ORDER, Taken, assert_proven, assert_same_database,
    assert_same_text, dump_as_text, service, shell,
};
use crate::harness::{Backup, Document, cluster};

const MAJOR: Major = Major::V18;

fn back_up(name: &str) -> Backup {
    let taken = Taken {
        major: MAJOR,
        database: service(MAJOR),
        connections: 2,
        slice_mib: 1,
    };
    taken.back_up(name)
}

#[test]
fn three_commands_bring_everything_back() {
    let backup = back_up("three-commands");
    let cluster = cluster(MAJOR);
    let copy = "three-commands copy";
    let mut shell = shell("three-commands", &backup, cluster, copy);
    shell.run(&[
        "identity",
        "create",
        "three-fetch",
        "three-open",
        "three-load",
    ]);
    // Owners and grants are left away, so the text is another.
    assert_proven(cluster, &backup, copy);
}

#[test]
fn three_commands_bring_one_table_back() {
    let backup = back_up("three-for-one");
    let cluster = cluster(MAJOR);
    let copy = "three-for-one copy";
    // A table alone needs the types of its columns to be there.
    let is_plain = |it: &&shared::manifest::Table| {
        it.rows > 0 && it.columns.iter().all(|it| !it.data_type.contains('.'))
    };
    let table = backup.manifest.tables.iter().find(is_plain).unwrap();
    cluster
        .create_database(copy, &DatabaseOptions::default())
        .unwrap();
    let schema = format!("CREATE SCHEMA IF NOT EXISTS {}", quoted(&table.schema));
    cluster.psql(copy, &schema).unwrap();
    let mut shell = shell("three-for-one", &backup, cluster, copy)
        .env("DUMP_ID", table.dump_id.to_string())
        .env("TABLE_SCHEMA", &table.schema)
        .env("TABLE", &table.name);
    shell.run(&["identity", "three-fetch-table", "three-open", "load-table"]);
    let count = format!(
        "SELECT count(*) FROM {}.{}",
        quoted(&table.schema),
        quoted(&table.name)
    );
    assert_eq!(cluster.psql(copy, &count).unwrap(), table.rows.to_string());
}

#[test]
fn one_table_comes_back_alone_and_its_fingerprint_can_be_computed_by_hand() {
    let backup = back_up("one-table");
    let cluster = cluster(MAJOR);
    let tables = backup.manifest.tables.iter();
    let table = tables.max_by_key(|it| it.objects.len()).unwrap();
    assert!(table.objects.len() > 1, "the table is in several slices");
    let copy = "one-table copy";
    cluster
        .create_database(copy, &DatabaseOptions::default())
        .unwrap();
    if table.schema != "public" {
        cluster
            .psql(copy, &format!("CREATE SCHEMA {}", quoted(&table.schema)))
            .unwrap();
    }
    let columns: Vec<String> = table.copy_columns.iter().map(|it| quoted(it)).collect();
    let mut shell = shell("one-table", &backup, cluster, copy)
        .env("DUMP_ID", table.dump_id.to_string())
        .env("TABLE_SCHEMA", &table.schema)
        .env("TABLE", &table.name)
        .env("COLUMNS", columns.join(", "));
    shell.run(&[
        "identity",
        "fetch-table",
        "open",
        "load-table",
        "fingerprint-program",
    ]);
    // The table of contents, the manifest and nothing but this table.
    let fetched = shell.folder.join("stored").read_dir().unwrap().count();
    assert_eq!(fetched, 1 + table.objects.len());

    let expected = format!("{} {}\n", table.rows, table.fingerprint);
    assert_eq!(shell.run(&["fingerprint-of-file"]).0, expected);
    assert_eq!(shell.run(&["fingerprint-of-table"]).0, expected);
    let others = "SELECT count(*) FROM pg_tables WHERE schemaname !~ '^(pg_|information_schema)'";
    assert_eq!(cluster.psql(copy, others).unwrap(), "1");
}

#[test]
fn the_schema_comes_back_alone_from_one_object() {
    let backup = back_up("schema-only");
    let cluster = cluster(MAJOR);
    let copy = "schema-only copy";
    let mut shell = shell("schema-only", &backup, cluster, copy);
    shell.run(&["identity", "fetch", "create", "schema-only"]);
    let schema = ["--schema-only".to_owned()];
    assert_same_text(
        &dump_as_text(cluster, service(MAJOR), &schema),
        &dump_as_text(cluster, copy, &schema),
    );
    let rows = "SELECT count(*) FROM work.tasks";
    assert_eq!(cluster.psql(copy, rows).unwrap(), "0");
}

#[test]
fn three_sections_make_the_same_database() {
    let backup = back_up("sections");
    let cluster = cluster(MAJOR);
    let copy = "sections copy";
    shell("sections", &backup, cluster, copy)
        .run(&["identity", "fetch", "open", "create", "sections"]);
    assert_same_database(cluster, (service(MAJOR), copy), &SERVICE_IN_ANOTHER_ORDER);
    assert_proven(cluster, &backup, copy);
}

#[test]
fn the_check_notices_a_missing_a_shortened_and_an_altered_object() {
    let backup = back_up("checked");
    let mut shell = shell("checked", &backup, cluster(MAJOR), "unused");
    shell.run(&["fetch", "check"]);
    let objects = shell.folder.join("stored");
    let largest = backup
        .manifest
        .objects
        .iter()
        .max_by_key(|it| it.stored_bytes)
        .unwrap();
    let object = objects.join(largest.key.rsplit('/').next().unwrap());
    let bytes = std::fs::read(&object).unwrap();

    std::fs::remove_file(&object).unwrap();
    assert!(!shell.try_run(&["check"]).0, "missing");
    std::fs::write(&object, &bytes[..bytes.len() - 1]).unwrap();
    assert!(!shell.try_run(&["check"]).0, "shortened");
    let mut altered = bytes.clone();
    altered[bytes.len() / 2] ^= 1;
    std::fs::write(&object, &altered).unwrap();
    assert!(!shell.try_run(&["check"]).0, "altered");
    std::fs::write(&object, &bytes).unwrap();
    assert!(shell.try_run(&["check"]).0, "as it was");
}

#[test]
fn an_altered_object_does_not_decrypt_even_when_nobody_checks() {
    let backup = back_up("altered");
    let mut shell = shell("altered", &backup, cluster(MAJOR), "unused");
    shell.run(&["identity", "fetch"]);
    let object = shell.folder.join("stored/toc.dat.00000.age");
    let mut bytes = std::fs::read(&object).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&object, &bytes).unwrap();
    assert!(!shell.try_run(&["open"]).0);
}

#[test]
fn the_documents_test_vectors_are_what_the_code_computes() {
    let text = Document::read(DOCUMENT).text;
    let row = |text: &str| Fingerprint::of(text.as_bytes());
    let mut large_object = LargeObjectHash::new(16_909_060);
    large_object.push(b"content");
    let vectors = [
        ("a table with no rows", Fingerprint::default()),
        ("the empty row", row("")),
        ("`1⇥one`", row("1\tone")),
        ("both of these rows", row("") + row("1\tone")),
        ("large object 16909060", large_object.finish()),
    ];
    for (what, fingerprint) in vectors {
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("| {what}")));
        let line = line.unwrap_or_else(|| panic!("no vector for {what}"));
        assert!(
            line.contains(&format!("`{fingerprint}`")),
            "{line}: {fingerprint}"
        );
    }
}
