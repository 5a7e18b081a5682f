use super::write::write_custom;
use super::*;

fn sample(version: Version) -> TableOfContents {
    let text = |it: &str| Some(it.as_bytes().to_vec());
    TableOfContents {
        version,
        int_size: 4,
        offset_size: 8,
        created: [1, 2, 3, 4, 5, 126, -1],
        database: text("app"),
        server_version: text("15.18"),
        pg_dump_version: text("15.18"),
        entries: vec![
            Entry {
                dump_id: 1,
                desc: text("SCHEMA"),
                tag: text("app"),
                definition: Some(b"CREATE SCHEMA app;\n-- caf\xe9\n".to_vec()),
                with_oids: text("false"),
                ..Entry::default()
            },
            Entry {
                dump_id: 3375,
                has_data: true,
                desc: text("TABLE DATA"),
                oid: text("16388"),
                tag: text("t"),
                namespace: text("app"),
                copy_statement: text("COPY app.t (id) FROM stdin;\n"),
                relkind: if version >= (1, 16, 0) { 114 } else { 0 },
                dependencies: vec![b"1".to_vec()],
                ..Entry::default()
            },
        ],
    }
}

#[test]
fn every_version_reads_back_as_it_was_written() {
    for version in [(1, 14, 0), (1, 15, 0), (1, 16, 0)] {
        let toc = sample(version);
        assert_eq!(
            read_directory(&*write_directory(&toc).unwrap()).unwrap(),
            toc
        );
        assert_eq!(read_custom(&*write_custom(&toc)).unwrap(), toc);
    }
}

#[test]
fn every_truncation_is_noticed() {
    let bytes = write_directory(&sample((1, 16, 0))).unwrap();
    for length in 0..bytes.len() {
        let error = read_directory(&bytes[..length]).unwrap_err();
        assert!(matches!(error, ReadError::Truncated), "{length}: {error}");
    }
}

#[test]
fn bytes_after_the_end_are_noticed() {
    let mut bytes = write_directory(&sample((1, 16, 0))).unwrap();
    bytes.push(0);
    assert!(read_directory(&*bytes).is_err());
}

#[test]
fn no_flipped_byte_makes_the_reader_panic() {
    let bytes = write_directory(&sample((1, 15, 0))).unwrap();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            // Error or another table of contents: either is an answer.
            let _answer = read_directory(&*damaged);
        }
    }
}

#[test]
fn data_of_an_unknown_kind_is_an_error() {
    let mut toc = sample((1, 16, 0));
    toc.entries[1].desc = Some(b"HOLOGRAM".to_vec());
    assert_eq!(write_directory(&toc).unwrap_err().desc, "HOLOGRAM");
}

#[test]
fn large_objects_are_found_in_both_layouts() {
    let text = |it: &str| Some(it.as_bytes().to_vec());
    let blobs = Entry {
        dump_id: 9,
        has_data: true,
        desc: text("BLOBS"),
        dependencies: vec![b"8".to_vec()],
        ..Entry::default()
    };
    let mut toc = sample((1, 14, 0));
    toc.entries.push(Entry {
        dump_id: 7,
        desc: text("BLOB"),
        oid: text("500"),
        ..Entry::default()
    });
    assert_eq!(toc.large_objects_of(&blobs), [500]);
    assert_eq!(toc.file_name(&blobs).unwrap().unwrap(), "blobs.toc");

    let mut toc = sample((1, 16, 0));
    for (dump_id, oids) in [(8, "500\n501\n"), (10, "900\n")] {
        let desc = text("BLOB METADATA");
        toc.entries.push(Entry {
            dump_id,
            desc,
            definition: text(oids),
            ..Entry::default()
        });
    }
    assert_eq!(toc.large_objects_of(&blobs), [500, 501]);
    assert_eq!(toc.file_name(&blobs).unwrap().unwrap(), "blobs_9.toc");
}

#[test]
fn a_sequences_value_is_read_from_its_statement() {
    let entry = |definition: &str| Entry {
        definition: Some(definition.as_bytes().to_vec()),
        ..Entry::default()
    };
    let set = "SELECT pg_catalog.setval('app.\"odd, 7, true\"', -5, false);\n\n";
    assert_eq!(entry(set).sequence_value(), Some((-5, false)));
    assert_eq!(entry("SELECT 1;").sequence_value(), None);
}
