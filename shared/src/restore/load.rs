//! One object of rows: from the bucket, opened, into `COPY … FROM STDIN`, in one transaction
//! with its record.

use std::io::{self, Read};

use super::jobs::Job;
use super::ledger::Numbers;
use super::run::{Context, Failure};
use crate::body::Body;
use crate::manifest::{Content, Object};
use crate::opened::{FaultKind, Opened, Stored};
use crate::pg::{Connection, CopyError};

/// Ends the rows of a table in an archive's data file.
const TERMINATOR: &[u8] = b"\\.\n\n\n";

/// What a fault means to a person.
pub(super) fn words(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::Header => "its age header is damaged",
        FaultKind::Identity => "no identity of the secret lifeboat/identity opens it",
        FaultKind::Chunk => "it does not decrypt",
        FaultKind::Compression => "it does not decompress",
    }
}

/// Leaves the transaction open: the caller commits it with the record.
pub(super) fn load(
    context: &Context,
    connection: &mut Connection,
    job: &Job,
    (copy, is_last): (&[u8], bool),
    (object, body): (&Object, Body),
) -> Result<Numbers, Failure> {
    let Content::TableData {
        rows, copy_bytes, ..
    } = object.content
    else {
        return Err(Failure::Internal("an object without rows".to_owned()));
    };
    let sql = [context.ledger.begin(job).as_bytes(), copy].concat();
    let mut stored = Stored::new(body, object.stored_bytes);
    let (copied, fault, sent) = match Opened::new(&mut stored, &context.identities, true) {
        Err(fault) => (None, Some(fault), 0),
        Ok(opened) => {
            let mut text = Text::new(opened, is_last);
            let copied = connection.copy_in(&sql, |room| {
                if context.board.is_stopped() {
                    return Err(io::Error::other("stopped"));
                }
                text.read(room)
            });
            (Some(copied), text.inner.fault(), text.bytes)
        }
    };
    if let Some(Err(CopyError::Pg(source))) = copied {
        return Err(Failure::of(source));
    }
    if context.board.is_stopped() {
        return Err(Failure::Internal("stopped".to_owned()));
    }
    // Read to the end, so that size and hash are of the whole object.
    let stored = stored.finish().map_err(Failure::Storage)?;
    let damaged = |what: &str| Failure::Damaged {
        key: object.key.clone(),
        what: what.to_owned(),
    };
    if stored.sha256 != object.sha256 || stored.has_more || stored.bytes != object.stored_bytes {
        return Err(damaged("its SHA-256 or size is another"));
    }
    if let Some(fault) = fault {
        return Err(damaged(words(fault.kind)));
    }
    match copied {
        Some(Ok(found)) if found == rows && sent == copy_bytes => Ok(Numbers {
            rows,
            copy_bytes,
            stored_bytes: object.stored_bytes,
            found: None,
        }),
        Some(Ok(found)) => Err(damaged(&format!(
            "it has {found} rows in {sent} bytes, not {rows} in {copy_bytes}"
        ))),
        Some(Err(_)) | None => Err(damaged("its rows do not end as they should")),
    }
}

/// The rows of an object, without the terminator that the last object of a table has.
struct Text<R> {
    inner: R,
    is_last: bool,
    /// The newest bytes, which may be the terminator.
    held: Vec<u8>,
    bytes: u64,
}

impl<R: Read> Text<R> {
    fn new(inner: R, is_last: bool) -> Self {
        Self {
            inner,
            is_last,
            held: Vec::new(),
            bytes: 0,
        }
    }

    /// `room` is larger than the terminator by far.
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let given = if self.is_last {
            self.read_last(room)?
        } else {
            self.fill(room)?
        };
        self.bytes += given as u64;
        Ok(given)
    }

    fn read_last(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let before = self.held.len();
        room[..before].copy_from_slice(&self.held);
        let n = self.fill(&mut room[before..])?;
        if n == 0 {
            let is_whole = self.held == TERMINATOR;
            return if is_whole {
                Ok(0)
            } else {
                Err(io::ErrorKind::InvalidData.into())
            };
        }
        let given = (before + n).saturating_sub(TERMINATOR.len());
        self.held = room[given..before + n].to_vec();
        if given == 0 {
            // Too short to tell: more must follow, or it is damaged.
            return self.read_last(room);
        }
        Ok(given)
    }

    /// Fills the room, so that few large messages are sent; 0 at the end.
    fn fill(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let mut n = 0;
        while n < room.len() {
            match self.inner.read(&mut room[n..]) {
                Ok(0) => break,
                Ok(more) => n += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8], is_last: bool, room: usize) -> io::Result<Vec<u8>> {
        let mut text = Text::new(text, is_last);
        let mut room = vec![0; room];
        let mut all = Vec::new();
        loop {
            match text.read(&mut room)? {
                0 => break,
                n => all.extend_from_slice(&room[..n]),
            }
        }
        assert_eq!(text.bytes, all.len() as u64);
        Ok(all)
    }

    #[test]
    fn only_the_last_object_of_a_table_has_a_terminator() {
        for room in 6..40 {
            assert_eq!(read(b"1\n2\n\\.\n\n\n", true, room).unwrap(), b"1\n2\n");
            assert_eq!(read(b"\\.\n\n\n", true, room).unwrap(), b"");
            assert_eq!(read(b"1\n2\n", false, room).unwrap(), b"1\n2\n");
            assert_eq!(read(b"", false, room).unwrap(), b"");
            for damaged in [&b""[..], b"1\n2\n", b"1\n\\.\n\n", b"\\.\n\n\n\n"] {
                assert!(read(damaged, true, room).is_err(), "{damaged:?}");
            }
        }
    }
}
