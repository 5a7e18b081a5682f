//! Writing the table of contents as a directory archive's `toc.dat`.

use super::{Entry, TableOfContents, Text, UnknownData};

/// The bytes of `toc.dat`. Compression is said to be none: the data files are plain once
/// `zstd -d` has run, and every build of `pg_restore` reads those.
pub fn write_directory(toc: &TableOfContents) -> Result<Vec<u8>, UnknownData> {
    // 3: see `read.rs`.
    write(toc, 3, |writer, entry| {
        // Entries without data have an empty name, not none.
        let file = toc.file_name(entry)?.unwrap_or_default();
        writer.text(&Some(file.into_bytes()));
        Ok(())
    })
}

/// What `pg_dump -Fc` writes to a pipe: a state byte and an offset after each entry.
#[cfg(test)]
pub(super) fn write_custom(toc: &TableOfContents) -> Vec<u8> {
    let tail = |writer: &mut Writer, _: &Entry| {
        writer.out.extend([1, 0, 0, 0, 0, 0, 0, 0, 0]);
        Ok(())
    };
    write(toc, 1, tail).unwrap()
}

fn write(
    toc: &TableOfContents,
    format: u8,
    tail: impl Fn(&mut Writer, &Entry) -> Result<(), UnknownData>,
) -> Result<Vec<u8>, UnknownData> {
    let mut writer = Writer {
        out: Vec::new(),
        int_size: toc.int_size,
    };
    writer.out.extend(b"PGDMP");
    let (major, minor, revision) = toc.version;
    writer.out.extend([
        major,
        minor,
        revision,
        toc.int_size,
        toc.offset_size,
        format,
    ]);
    if toc.version >= (1, 15, 0) {
        writer.out.push(0);
    } else {
        writer.int(0);
    }
    toc.created.iter().for_each(|field| writer.int(*field));
    writer.text(&toc.database);
    writer.text(&toc.server_version);
    writer.text(&toc.pg_dump_version);
    writer.int(i32::try_from(toc.entries.len()).unwrap_or(i32::MAX));
    for entry in &toc.entries {
        writer.entry(entry, toc.version >= (1, 16, 0));
        tail(&mut writer, entry)?;
    }
    Ok(writer.out)
}

struct Writer {
    out: Vec<u8>,
    int_size: u8,
}

impl Writer {
    fn int(&mut self, value: i32) {
        self.out.push(u8::from(value < 0));
        let magnitude = value.unsigned_abs().to_le_bytes();
        self.out.extend(&magnitude[..usize::from(self.int_size)]);
    }

    fn text(&mut self, text: &Text) {
        match text {
            None => self.int(-1),
            Some(text) => {
                // The reader's limit on strings keeps this below 2^31.
                self.int(i32::try_from(text.len()).unwrap_or(i32::MAX));
                self.out.extend(text);
            }
        }
    }

    fn entry(&mut self, entry: &Entry, has_relkind: bool) {
        self.int(entry.dump_id);
        self.int(i32::from(entry.has_data));
        for text in [&entry.catalog_oid, &entry.oid, &entry.tag, &entry.desc] {
            self.text(text);
        }
        self.int(entry.section);
        for text in [
            &entry.definition,
            &entry.drop_statement,
            &entry.copy_statement,
            &entry.namespace,
            &entry.tablespace,
            &entry.table_access_method,
        ] {
            self.text(text);
        }
        if has_relkind {
            self.int(entry.relkind);
        }
        self.text(&entry.owner);
        self.text(&entry.with_oids);
        for dependency in &entry.dependencies {
            self.text(&Some(dependency.clone()));
        }
        self.text(&None);
    }
}
