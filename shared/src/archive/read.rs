//! Reading the table of contents. Hostile input gives an error, never a panic or a large
//! allocation.

use std::io::{self, Read};

use super::{Entry, TableOfContents, Text, Version};

/// No string of an archive is longer: PostgreSQL's own limit on a value.
const STRING_BYTES_MAX: u64 = 1 << 30;
const OLDEST: Version = (1, 14, 0);
const NEWEST: Version = (1, 16, u8::MAX);
const CUSTOM: u8 = 1;
/// A directory archive's `toc.dat` carries the number of the tar format.
const DIRECTORY: u8 = 3;

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("the archive ends inside its table of contents")]
    Truncated,
    #[error("read the archive's table of contents")]
    Io(#[source] io::Error),
    #[error("this is not a pg_dump archive: it does not begin with PGDMP")]
    NotAnArchive,
    #[error("archive version {0}.{1} is unknown; 1.14 to 1.16 (pg_dump 14 to 18) are supported")]
    UnknownVersion(u8, u8),
    #[error("the archive's table of contents is malformed: {0}")]
    Malformed(&'static str),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            Self::Truncated
        } else {
            Self::Io(error)
        }
    }
}

/// Reads header and entries from `pg_dump -Fc -Z0` on a pipe, and not one byte more.
pub fn read_custom(input: impl Read) -> Result<TableOfContents, ReadError> {
    read(input, CUSTOM)
}

/// Reads a directory archive's `toc.dat`, which must end where its entries do.
pub fn read_directory(mut input: impl Read) -> Result<TableOfContents, ReadError> {
    let toc = read(&mut input, DIRECTORY)?;
    let mut rest = [0];
    match input.read(&mut rest)? {
        0 => Ok(toc),
        _ => Err(ReadError::Malformed("bytes follow the last entry")),
    }
}

fn read(input: impl Read, format: u8) -> Result<TableOfContents, ReadError> {
    let mut reader = Reader { input, int_size: 4 };
    if reader.bytes::<5>()? != *b"PGDMP" {
        return Err(ReadError::NotAnArchive);
    }
    let [major, minor, revision] = reader.bytes()?;
    let version = (major, minor, revision);
    if version < OLDEST || version > NEWEST {
        return Err(ReadError::UnknownVersion(major, minor));
    }
    let [int_size, offset_size, found_format] = reader.bytes()?;
    if !(1..=4).contains(&int_size) || offset_size > 16 {
        return Err(ReadError::Malformed("integer or offset size"));
    }
    if found_format != format {
        return Err(ReadError::Malformed("another format than expected"));
    }
    reader.int_size = int_size;
    let compression = if version >= (1, 15, 0) {
        i32::from(reader.byte()?)
    } else {
        reader.int()?
    };
    if compression != 0 {
        return Err(ReadError::Malformed("compressed, where it must not be"));
    }
    let mut created = [0; 7];
    for field in &mut created {
        *field = reader.int()?;
    }
    let database = reader.text()?;
    let server_version = reader.text()?;
    let pg_dump_version = reader.text()?;
    let count = reader.int()?;
    if count < 0 {
        return Err(ReadError::Malformed("negative number of entries"));
    }
    let mut entries = Vec::new();
    for _ in 0..count {
        let entry = reader.entry(version)?;
        match format {
            CUSTOM => reader.skip(1 + usize::from(offset_size))?,
            _ => drop(reader.text()?),
        }
        entries.push(entry);
    }
    Ok(TableOfContents {
        version,
        int_size,
        offset_size,
        created,
        database,
        server_version,
        pg_dump_version,
        entries,
    })
}

struct Reader<R> {
    input: R,
    int_size: u8,
}

impl<R: Read> Reader<R> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<u8, ReadError> {
        Ok(self.bytes::<1>()?[0])
    }

    fn skip(&mut self, n: usize) -> Result<(), ReadError> {
        for _ in 0..n {
            self.byte()?;
        }
        Ok(())
    }

    /// A sign byte, then `int_size` bytes, lowest first.
    fn int(&mut self) -> Result<i32, ReadError> {
        let negative = self.byte()? != 0;
        let mut value: i64 = 0;
        for place in 0..self.int_size {
            value |= i64::from(self.byte()?) << (8 * place);
        }
        let value = if negative { -value } else { value };
        i32::try_from(value).map_err(|_| ReadError::Malformed("integer out of range"))
    }

    fn text(&mut self) -> Result<Text, ReadError> {
        let Ok(length) = u64::try_from(self.int()?) else {
            return Ok(None);
        };
        if length > STRING_BYTES_MAX {
            return Err(ReadError::Malformed("string too long"));
        }
        let mut text = Vec::new();
        let n = self.input.by_ref().take(length).read_to_end(&mut text)?;
        if n as u64 != length {
            return Err(ReadError::Truncated);
        }
        Ok(Some(text))
    }

    fn entry(&mut self, version: Version) -> Result<Entry, ReadError> {
        let mut entry = Entry {
            dump_id: self.int()?,
            has_data: self.int()? != 0,
            catalog_oid: self.text()?,
            oid: self.text()?,
            tag: self.text()?,
            desc: self.text()?,
            section: self.int()?,
            definition: self.text()?,
            drop_statement: self.text()?,
            copy_statement: self.text()?,
            namespace: self.text()?,
            tablespace: self.text()?,
            table_access_method: self.text()?,
            ..Entry::default()
        };
        if entry.dump_id <= 0 {
            return Err(ReadError::Malformed("dump id below 1"));
        }
        if version >= (1, 16, 0) {
            entry.relkind = self.int()?;
        }
        entry.owner = self.text()?;
        entry.with_oids = self.text()?;
        while let Some(dependency) = self.text()? {
            entry.dependencies.push(dependency);
        }
        Ok(entry)
    }
}
