//! What the manifest says beyond rows and bytes, for a database whose every property is known.

use localcloud::every_kind;
use localcloud::postgres::Major;
use shared::manifest::{Generated, Identity, Manifest, Table};

use super::{DOCUMENT, Taken, kinds};
use crate::harness::{Document, cluster};

fn table<'a>(manifest: &'a Manifest, schema: &str, name: &str) -> &'a Table {
    let mut tables = manifest.tables.iter();
    let found = tables.find(|it| it.schema == schema && it.name == name);
    found.unwrap_or_else(|| panic!("no table {schema}.{name}"))
}

#[test]
fn the_manifest_tells_what_a_restore_needs_when_the_source_is_gone() {
    let major = Major::V18;
    let cluster = cluster(major);
    let taken = Taken {
        major,
        database: kinds(major),
        connections: 3,
        slice_mib: 256,
    };
    let manifest = taken.back_up("told").manifest;

    let unlogged = cluster.psql(
        kinds(major),
        "SELECT string_agg(relname, ' ' ORDER BY relname COLLATE \"C\") FROM pg_class
         WHERE relpersistence = 'u' AND relkind = 'r'",
    );
    let flagged: Vec<&str> = manifest
        .tables
        .iter()
        .filter(|it| it.unlogged)
        .map(|it| it.name.as_str())
        .collect();
    assert!(!flagged.is_empty());
    assert_eq!(flagged.join(" "), unlogged.unwrap());

    assert_eq!(
        table(&manifest, "config", "settings").condition.as_deref(),
        Some("WHERE NOT shipped")
    );
    assert_eq!(table(&manifest, "config", "settings").rows, 2);
    assert_eq!(table(&manifest, "config", "jobs").condition, None);
    assert!(
        !manifest
            .tables
            .iter()
            .any(|it| it.schema == "config" && it.name == "cache")
    );

    let leaves: Vec<&Table> = manifest
        .tables
        .iter()
        .filter(|it| it.load_via.is_some())
        .collect();
    assert_eq!(leaves.len(), 3);
    assert_eq!(leaves.iter().map(|it| it.rows).sum::<u64>(), 60);
    assert!(
        leaves
            .iter()
            .all(|it| it.load_via.as_ref().unwrap().name == "by_enum_hash")
    );

    let computed = table(&manifest, "app", "virtual");
    let generated: Vec<_> = computed.columns.iter().map(|it| it.generated).collect();
    assert_eq!(
        generated,
        [
            None,
            Some(Generated::Virtual),
            Some(Generated::Stored),
            None
        ]
    );
    assert_eq!(computed.copy_columns, ["net", "note"]);
    assert_eq!(
        table(&manifest, "app", "only_virtual").copy_columns,
        [""; 0]
    );
    assert_eq!(table(&manifest, "app", "only_virtual").rows, 1);
    let numbered = table(&manifest, "app", "numbered");
    assert_eq!(numbered.columns[0].identity, Some(Identity::Always));
    assert_eq!(numbered.columns[1].identity, Some(Identity::ByDefault));
    assert_eq!(numbered.primary_key, ["always"]);

    let head = manifest.migration_head.as_ref().unwrap();
    assert_eq!((head.tool.as_str(), head.head.len()), ("drizzle", 64));
    assert!(
        manifest
            .extensions
            .iter()
            .any(|it| it.name == "hstore" && it.schema == "contrib")
    );
    assert_eq!(manifest.archive_version, "1.16");
    assert_eq!(manifest.recipients.len(), 2);
    assert_eq!(manifest.totals.large_objects, 54);
}

#[test]
fn every_sequence_has_the_value_that_the_source_has() {
    let major = Major::V16;
    let cluster = cluster(major);
    let taken = Taken {
        major,
        database: kinds(major),
        connections: 2,
        slice_mib: 256,
    };
    let manifest = taken.back_up("counted").manifest;
    let all = "SELECT format('SELECT last_value, is_called FROM %I.%I', schemaname, sequencename)
               FROM pg_sequences
               WHERE schemaname <> 'config' OR sequencename = 'ticket' -- the extension's own
               ORDER BY schemaname COLLATE \"C\", sequencename COLLATE \"C\"";
    let questions = cluster
        .psql(kinds(major), all)
        .unwrap()
        .replace('\n', ";\n");
    let values = cluster.psql(kinds(major), &questions).unwrap();

    let mut sequences = manifest.sequences;
    sequences.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
    let recorded: Vec<String> = sequences
        .iter()
        .map(|it| format!("{}|{}", it.last_value, if it.is_called { "t" } else { "f" }))
        .collect();
    assert!(recorded.len() > 10);
    assert_eq!(recorded.join("\n"), values);
}

/// A field that is in the document and not in the manifest, or the other way round, is a lie.
#[test]
fn the_document_names_every_field_of_the_manifest() {
    let major = Major::V15;
    every_kind::create_latin1(cluster(major), "fields").unwrap();
    let taken = Taken {
        major,
        database: "fields",
        connections: 2,
        slice_mib: 256,
    };
    let manifest = serde_json::to_value(taken.back_up("fields").manifest).unwrap();
    let document = Document::read(DOCUMENT).text;
    let (_, section) = document.split_once("\n## The manifest\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let mut fields = Vec::new();
    collect_fields(&manifest, &mut fields);
    for field in fields {
        assert!(
            section.contains(&format!("`{field}`")),
            "{field} is not in the document"
        );
    }
}

fn collect_fields(value: &serde_json::Value, fields: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(map) => {
            for (name, value) in map {
                fields.push(name.clone());
                collect_fields(value, fields);
            }
        }
        serde_json::Value::Array(values) => {
            values.iter().for_each(|it| collect_fields(it, fields));
        }
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::String(_) => {}
    }
}
