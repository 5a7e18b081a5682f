//! The table of contents of a `pg_dump` archive.
//!
//! Lifeboat reads it from the custom format that `pg_dump` writes to a pipe, and stores it as
//! the `toc.dat` of a directory archive, which stock `pg_restore` takes. Source of the layout:
//! PostgreSQL's `src/bin/pg_dump/pg_backup_archiver.c` (`WriteHead`, `WriteToc`),
//! `pg_backup_custom.c` and `pg_backup_directory.c` of majors 14 to 18 (archive versions 1.14
//! to 1.16). Strings are bytes in the dumped database's encoding.

mod copy_statement;
mod read;
mod write;

pub use copy_statement::{CopyStatement, quote_ident};
pub use read::{ReadError, read_custom, read_directory};
pub use write::write_directory;

use std::borrow::Cow;

/// Major, minor, revision: `(1, 14, 0)` is archive version 1.14.
pub type Version = (u8, u8, u8);

/// The large objects of an archive have one entry up to this version's predecessor, and one
/// per group of objects from it on.
pub const GROUPED_LARGE_OBJECTS: Version = (1, 16, 0);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableOfContents {
    pub version: Version,
    /// Bytes of an integer and of a file offset.
    pub int_size: u8,
    pub offset_size: u8,
    /// Seconds, minutes, hours, day, month from 0, years from 1900, daylight saving.
    pub created: [i32; 7],
    pub database: Text,
    pub server_version: Text,
    pub pg_dump_version: Text,
    pub entries: Vec<Entry>,
}

/// A string of the archive: absent or bytes.
pub type Text = Option<Vec<u8>>;

/// One entry, as the archive has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    pub dump_id: i32,
    /// Whether the entry has data outside the table of contents.
    pub has_data: bool,
    pub catalog_oid: Text,
    pub oid: Text,
    pub tag: Text,
    pub desc: Text,
    pub section: i32,
    pub definition: Text,
    pub drop_statement: Text,
    pub copy_statement: Text,
    pub namespace: Text,
    pub tablespace: Text,
    pub table_access_method: Text,
    /// From 1.16 on; 0 before.
    pub relkind: i32,
    pub owner: Text,
    pub with_oids: Text,
    pub dependencies: Vec<Vec<u8>>,
}

/// What the data of an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    Table,
    LargeObjects,
}

/// An entry has data of a kind that this version cannot copy: the dump must stop, since
/// leaving it out would lose it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the archive has data of an unknown kind {desc:?} (entry {dump_id}, {tag:?}): this version of Lifeboat cannot back it up; update Lifeboat or use the pg_dump of an older major"
)]
pub struct UnknownData {
    pub dump_id: i32,
    pub desc: String,
    pub tag: String,
}

impl Entry {
    /// The kind of data it has, or `None`.
    pub fn data(&self) -> Result<Option<Data>, UnknownData> {
        if !self.has_data {
            return Ok(None);
        }
        match self.desc.as_deref() {
            Some(b"TABLE DATA") => Ok(Some(Data::Table)),
            Some(b"BLOBS") => Ok(Some(Data::LargeObjects)),
            _ => Err(UnknownData {
                dump_id: self.dump_id,
                desc: lossy(&self.desc).into_owned(),
                tag: lossy(&self.tag).into_owned(),
            }),
        }
    }

    /// The oid of the object in its catalog, 0 if it has none.
    pub fn oid_number(&self) -> u32 {
        lossy(&self.oid).parse().unwrap_or(0)
    }

    pub fn is(&self, desc: &str) -> bool {
        self.desc.as_deref() == Some(desc.as_bytes())
    }

    /// The value and the called flag that a `SEQUENCE SET` entry restores.
    pub fn sequence_value(&self) -> Option<(i64, bool)> {
        let definition = lossy(&self.definition);
        let (rest, called) = definition.trim().strip_suffix(");")?.rsplit_once(", ")?;
        let (_, value) = rest.rsplit_once(", ")?;
        Some((value.parse().ok()?, called.parse().ok()?))
    }

    /// Whether its rows are loaded through the root of their partition tree.
    pub fn loads_via_partition_root(&self) -> bool {
        let marker: &[u8] = b"-- load via partition root";
        self.definition
            .as_deref()
            .is_some_and(|it| it.starts_with(marker))
    }
}

impl TableOfContents {
    /// For example `1.14`.
    pub fn version_text(&self) -> String {
        format!("{}.{}", self.version.0, self.version.1)
    }

    /// The name of an entry's data file in a directory archive; for large objects, of the
    /// file that lists them.
    pub fn file_name(&self, entry: &Entry) -> Result<Option<String>, UnknownData> {
        Ok(entry.data()?.map(|data| match data {
            Data::Table => format!("{}.dat", entry.dump_id),
            Data::LargeObjects if self.version < GROUPED_LARGE_OBJECTS => "blobs.toc".to_owned(),
            Data::LargeObjects => format!("blobs_{}.toc", entry.dump_id),
        }))
    }

    /// The large objects of a `BLOBS` entry.
    ///
    /// From 1.16 on they are the lines of the definition of the metadata entry that it depends
    /// on; before, every object has an entry of its own.
    pub fn large_objects_of(&self, entry: &Entry) -> Vec<u32> {
        if self.version < GROUPED_LARGE_OBJECTS {
            let blobs = self.entries.iter().filter(|it| it.is("BLOB"));
            return blobs.map(Entry::oid_number).collect();
        }
        let metadata = self.entries.iter().filter(|it| {
            let id = it.dump_id.to_string();
            it.is("BLOB METADATA") && entry.dependencies.iter().any(|on| *on == id.as_bytes())
        });
        metadata
            .flat_map(|it| {
                lossy(&it.definition)
                    .lines()
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            })
            .filter_map(|line| line.trim().parse().ok())
            .collect()
    }
}

/// For messages and numbers; never to build SQL.
pub fn lossy(text: &Text) -> Cow<'_, str> {
    String::from_utf8_lossy(text.as_deref().unwrap_or_default())
}

#[cfg(test)]
mod tests;
