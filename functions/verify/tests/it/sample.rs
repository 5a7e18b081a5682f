//! A small backup with one object of every kind, made as `dump` makes them.

use std::io::Write;

use age::x25519::Identity;
use shared::archive::{Entry, TableOfContents, write_directory};
use shared::backup::{BackupId, BackupItem, DatabaseName};
use shared::fingerprint::{Fingerprint, LargeObjectHash, RowScanner, RowTotals};
use shared::key::Key;
use shared::manifest::{
    Content, DatabaseSettings, LargeObjects, Manifest, Object, QualifiedName, Run, Sequence,
    Source, Table, Tools, Totals,
};
use shared::policy::Provider;
use shared::sealed::Sealer;
use verify::rows::TERMINATOR;

pub(crate) const ATTEMPT: &str = "k3x9";

/// The objects in memory, and the manifest about them.
pub(crate) struct Backup {
    pub(crate) manifest: Manifest,
    /// In the manifest's order.
    pub(crate) objects: Vec<Vec<u8>>,
    /// The online identity, and the offline one.
    pub(crate) identities: [Identity; 2],
}

pub(crate) fn database() -> DatabaseName {
    "app".parse().unwrap()
}

pub(crate) fn id() -> BackupId {
    "20261121T010000Z-nightly".parse().unwrap()
}

pub(crate) fn item() -> BackupItem {
    BackupItem {
        database: database(),
        kind: id().kind(),
        scheduled_time: id().scheduled_at(),
        backup_id: Some(id()),
        committed: false,
        previous: None,
        from_branch: false,
        source_branch: None,
    }
}

fn text(it: &str) -> Option<Vec<u8>> {
    Some(it.as_bytes().to_vec())
}

fn data_entry(dump_id: i32, oid: &str, name: &str, columns: &str) -> Entry {
    Entry {
        dump_id,
        has_data: true,
        oid: text(oid),
        desc: text("TABLE DATA"),
        namespace: text("app"),
        tag: text(name),
        copy_statement: text(&format!("COPY app.{name} {columns} FROM stdin;\n")),
        ..Entry::default()
    }
}

pub(crate) fn toc() -> TableOfContents {
    let mut leaf = data_entry(33, "103", "leaf", "(id)");
    leaf.copy_statement = text("COPY app.root (id) FROM stdin;\n");
    leaf.definition = text("-- load via partition root app.root\n");
    TableOfContents {
        version: (1, 14, 0),
        int_size: 4,
        offset_size: 8,
        created: [0; 7],
        database: text("app"),
        server_version: text("15.18"),
        pg_dump_version: text("15.18"),
        entries: vec![
            data_entry(31, "101", "orders", "(id, note)"),
            data_entry(32, "102", "empty", ""),
            leaf,
            Entry {
                dump_id: 40,
                oid: text("500"),
                desc: text("BLOB"),
                tag: text("500"),
                ..Entry::default()
            },
            Entry {
                dump_id: 41,
                has_data: true,
                desc: text("BLOBS"),
                tag: text("BLOBS"),
                ..Entry::default()
            },
            Entry {
                dump_id: 42,
                desc: text("SEQUENCE SET"),
                namespace: text("app"),
                tag: text("orders_id_seq"),
                definition: text("SELECT pg_catalog.setval('app.orders_id_seq', 4, true);\n"),
                ..Entry::default()
            },
        ],
    }
}

pub(crate) fn rows(text: &[u8]) -> RowTotals {
    let mut scanner = RowScanner::default();
    scanner.push(text);
    scanner.finish().unwrap()
}

/// What is sealed under one name.
pub(crate) struct Plain {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) content: Content,
}

/// One slice of a table; the last one ends in the terminator.
pub(crate) fn slice(dump_id: u32, number: u32, text: &[u8], is_last: bool) -> Plain {
    let totals = rows(text);
    let mut bytes = text.to_vec();
    if is_last {
        bytes.extend(TERMINATOR);
    }
    Plain {
        name: format!("{dump_id}.dat.zst.{number:05}.age"),
        bytes,
        content: Content::TableData {
            dump_id,
            rows: totals.rows,
            copy_bytes: totals.copy_bytes,
            fingerprint: totals.fingerprint,
        },
    }
}

fn blobs() -> Plain {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in [
        ("blobs.toc", &b"500 blob_500.dat\n"[..]),
        ("blob_500.dat", b"large\nobject"),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        tar.append_data(&mut header, name, content).unwrap();
    }
    Plain {
        name: "blobs_41.tar.zst.00000.age".to_owned(),
        bytes: tar.into_inner().unwrap(),
        content: Content::LargeObjects { dump_id: 41 },
    }
}

pub(crate) fn plain() -> Vec<Plain> {
    vec![
        slice(31, 0, b"1\tone\n2\ttwo\\nlines\n", false),
        slice(31, 1, b"3\t\\N\n4\tfour\n", true),
        slice(32, 0, b"\n\n", true),
        slice(33, 0, b"7\n", true),
        blobs(),
        Plain {
            name: "roles.sql.zst.00000.age".to_owned(),
            bytes: b"CREATE ROLE app;\n".to_vec(),
            content: Content::Roles,
        },
        Plain {
            name: "toc.dat.00000.age".to_owned(),
            bytes: write_directory(&toc()).unwrap(),
            content: Content::TableOfContents,
        },
    ]
}

/// The backup of the sample rows.
pub(crate) fn backup() -> Backup {
    seal(plain())
}

pub(crate) fn seal(plain: Vec<Plain>) -> Backup {
    let identities = [Identity::generate(), Identity::generate()];
    seal_to(identities, plain)
}

pub(crate) fn seal_to(identities: [Identity; 2], plain: Vec<Plain>) -> Backup {
    let recipients = identities.each_ref().map(Identity::to_public);
    let mut objects = Vec::new();
    let mut listed = Vec::new();
    for Plain {
        name,
        bytes,
        content,
    } in plain
    {
        let level = (content != Content::TableOfContents).then_some(1);
        let mut sealer = Sealer::new(Vec::new(), &recipients, level).unwrap();
        sealer.write_all(&bytes).unwrap();
        let sealed = sealer.finish().unwrap();
        let key = Key::Archive {
            database: &database(),
            id: id(),
            attempt: ATTEMPT,
            object: &name,
        };
        listed.push(Object {
            key: key.to_string(),
            version_id: None,
            stored_bytes: sealed.stored_bytes,
            sha256: sealed.sha256,
            content,
        });
        objects.push(sealed.out);
    }
    Backup {
        manifest: manifest(listed, &identities),
        objects,
        identities,
    }
}

fn table(dump_id: u32, name: &str, copy_columns: &[&str], objects: &[Object]) -> Table {
    let mut table = Table {
        oid: dump_id + 70,
        schema: "app".to_owned(),
        name: name.to_owned(),
        dump_id,
        columns: vec![],
        copy_columns: copy_columns.iter().map(|it| (*it).to_owned()).collect(),
        primary_key: vec![],
        rows: 0,
        copy_bytes: 0,
        fingerprint: Fingerprint::default(),
        objects: vec![],
        unlogged: false,
        load_via: None,
        condition: None,
    };
    for object in objects {
        if let Content::TableData {
            dump_id: of,
            rows,
            copy_bytes,
            fingerprint,
        } = object.content
            && of == dump_id
        {
            table.rows += rows;
            table.copy_bytes += copy_bytes;
            table.fingerprint += fingerprint;
            table
                .objects
                .push(shared::key::object_name(&object.key).to_owned());
        }
    }
    table
}

#[expect(clippy::too_many_lines, reason = "one field a line")]
fn manifest(objects: Vec<Object>, identities: &[Identity; 2]) -> Manifest {
    let mut leaf = table(33, "leaf", &["id"], &objects);
    leaf.load_via = Some(QualifiedName {
        schema: "app".to_owned(),
        name: "root".to_owned(),
    });
    let tables = vec![
        table(32, "empty", &[], &objects),
        leaf,
        table(31, "orders", &["id", "note"], &objects),
    ];
    let mut blob = LargeObjectHash::new(500);
    blob.push(b"large\nobject");
    let at = "2026-11-21T01:00:03Z".parse().unwrap();
    Manifest {
        format: 1,
        backup_id: id(),
        database: database(),
        kind: id().kind(),
        attempt: ATTEMPT.to_owned(),
        previous: None,
        scheduled_at: id().scheduled_at(),
        started_at: at,
        snapshot_at: at,
        finished_at: at,
        source: Source {
            provider: Provider::Postgres,
            host: "db".to_owned(),
            port: 5432,
            database: "app".to_owned(),
            user: "app".to_owned(),
            server_version: "15.18".to_owned(),
            server_version_num: 150_018,
            lsn: "0/1".to_owned(),
            system_identifier: None,
            branch_id: None,
        },
        tools: Tools {
            lifeboat: "0.1.0".to_owned(),
            pg_dump: "15.18".to_owned(),
        },
        archive_version: "1.14".to_owned(),
        recipients: identities
            .iter()
            .map(|it| it.to_public().to_string())
            .collect(),
        settings: DatabaseSettings {
            encoding: "UTF8".to_owned(),
            locale_provider: "libc".to_owned(),
            collate: "C".to_owned(),
            ctype: "C".to_owned(),
            icu_locale: None,
            lc_monetary: None,
        },
        extensions: vec![],
        totals: Totals {
            tables: 3,
            rows: tables.iter().map(|it| it.rows).sum(),
            copy_bytes: tables.iter().map(|it| it.copy_bytes).sum(),
            objects: objects.len() as u64,
            stored_bytes: objects.iter().map(|it| it.stored_bytes).sum(),
            large_objects: 1,
        },
        objects,
        tables,
        sequences: vec![Sequence {
            schema: "app".to_owned(),
            name: "orders_id_seq".to_owned(),
            last_value: 4,
            is_called: true,
        }],
        large_objects: vec![LargeObjects {
            dump_id: 41,
            count: 1,
            bytes: 12,
            fingerprint: blob.finish(),
            objects: vec!["blobs_41.tar.zst.00000.age".to_owned()],
        }],
        migration_head: None,
        left_out: vec![],
        warnings: vec![],
        run: Run {
            connections: 2,
            zstd_level: 1,
            seconds: 1.5,
            copy_bytes_per_second: 1e6,
            cpu_seconds: 0.5,
            peak_memory_bytes: 1,
            planner_seconds: 0.5,
            planner_peak_memory_bytes: 1,
        },
    }
}

/// Rows that zstd leaves nearly as large as they are.
pub(crate) fn noisy_rows(bytes: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut text = Vec::with_capacity(bytes + 60);
    while text.len() < bytes {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let word = (state ^ (state >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        writeln!(text, "{word:016x}\t{:x}", word.rotate_left(17)).unwrap();
    }
    text
}
