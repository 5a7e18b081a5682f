//! Large objects: written from the tar stream of a group, and read back for the proof.

use std::io::{self, Read};

use super::jobs::Job;
use super::ledger::Numbers;
use super::run::{Context, Failure};
use crate::body::Body;
use crate::fingerprint::{Fingerprint, LargeObjectHash};
use crate::manifest::Object;
use crate::opened::{Opened, Stored};
use crate::pg::Connection;

/// Of an object's content, written or read at once.
const PIECE_BYTES: usize = 512 << 10;
/// Statements are sent together up to this length.
const MESSAGE_BYTES: usize = 1 << 20;
/// Objects whose beginning is read at once.
const READ_TOGETHER: usize = 16;

/// Leaves the transaction open: the caller commits it with the record.
pub(super) fn load(
    context: &Context,
    connection: &mut Connection,
    job: &Job,
    (object, body): (&Object, Body),
) -> Result<Numbers, Failure> {
    connection
        .query(context.ledger.begin(job))
        .map_err(Failure::of)?;
    let mut stored = Stored::new(body, object.stored_bytes);
    let damaged = |what: String| Failure::Damaged {
        key: object.key.clone(),
        what,
    };
    let numbers = Numbers {
        stored_bytes: object.stored_bytes,
        ..Numbers::default()
    };
    let written = match Opened::new(&mut stored, &context.identities, true) {
        Err(fault) => Err(WriteError::Stream(
            super::load::words(fault.kind).to_owned(),
        )),
        Ok(opened) => write(connection, opened),
    };
    if let Err(WriteError::Pg(failure)) = written {
        return Err(failure);
    }
    let stored = stored.finish().map_err(Failure::Storage)?;
    if stored.sha256 != object.sha256 || stored.has_more || stored.bytes != object.stored_bytes {
        return Err(damaged("its SHA-256 or size is another".to_owned()));
    }
    match written {
        Ok(()) => Ok(numbers),
        Err(WriteError::Stream(what)) => Err(damaged(what)),
        Err(WriteError::Pg(failure)) => Err(failure),
    }
}

enum WriteError {
    Pg(Failure),
    Stream(String),
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> Self {
        Self::Stream(format!("its tar stream cannot be read ({error})"))
    }
}

fn write(connection: &mut Connection, stream: impl Read) -> Result<(), WriteError> {
    let mut archive = tar::Archive::new(stream);
    let mut message = String::new();
    let mut piece = vec![0; PIECE_BYTES];
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        // The list of them is for pg_restore.
        let oid = name
            .strip_prefix("blob_")
            .and_then(|it| it.strip_suffix(".dat"));
        let Some(oid) = oid.and_then(|it| it.parse::<u32>().ok()) else {
            continue;
        };
        let mut offset = 0;
        loop {
            let n = fill(&mut entry, &mut piece)?;
            if n == 0 {
                break;
            }
            message.push_str(&format!("SELECT pg_catalog.lo_put({oid}, {offset}, '\\x"));
            push_hex(&mut message, &piece[..n]);
            message.push_str("');");
            offset += n as u64;
            if message.len() >= MESSAGE_BYTES {
                connection.query(&message).map_err(pg)?;
                message.clear();
            }
        }
    }
    if !message.is_empty() {
        connection.query(&message).map_err(pg)?;
    }
    Ok(())
}

fn pg(error: crate::pg::PgError) -> WriteError {
    WriteError::Pg(Failure::of(error))
}

fn fill(from: &mut impl Read, room: &mut [u8]) -> io::Result<usize> {
    let mut n = 0;
    while n < room.len() {
        match from.read(&mut room[n..])? {
            0 => break,
            more => n += more,
        }
    }
    Ok(n)
}

fn push_hex(out: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

/// Count and fingerprint of those of `oids` that exist.
pub(super) fn read(
    connection: &mut Connection,
    oids: &[u32],
) -> Result<(u64, u64, Fingerprint), Failure> {
    let (mut count, mut bytes, mut sum) = (0, 0, Fingerprint::default());
    for oids in oids.chunks(READ_TOGETHER) {
        let list: Vec<String> = oids.iter().map(u32::to_string).collect();
        let sql = format!(
            "SELECT oid, lo_get(oid, 0, {PIECE_BYTES}) FROM pg_catalog.pg_largeobject_metadata
             WHERE oid IN ({})",
            list.join(",")
        );
        for row in connection.query(sql).map_err(Failure::of)? {
            let mut row = row.into_iter().map(Option::unwrap_or_default);
            let oid = row.next().unwrap_or_default();
            let oid = String::from_utf8_lossy(&oid).parse().unwrap_or_default();
            let mut hash = LargeObjectHash::new(oid);
            let mut piece = from_hex(&row.next().unwrap_or_default())?;
            let mut offset = 0_u64;
            loop {
                hash.push(&piece);
                offset += piece.len() as u64;
                if piece.len() < PIECE_BYTES {
                    break;
                }
                let sql = format!("SELECT lo_get({oid}, {offset}, {PIECE_BYTES})");
                let hex = connection.query_value(sql).map_err(Failure::of)?;
                piece = from_hex(hex.as_bytes())?;
            }
            count += 1;
            bytes += offset;
            sum += hash.finish();
        }
    }
    Ok((count, bytes, sum))
}

/// `\x0aff`, as `bytea_output = hex` prints it.
fn from_hex(text: &[u8]) -> Result<Vec<u8>, Failure> {
    let malformed = || Failure::Internal("bytea is not hex".to_owned());
    let digits = text.strip_prefix(b"\\x").ok_or_else(malformed)?;
    let digit = |byte: u8| {
        let digit = char::from(byte).to_digit(16);
        digit.and_then(|it| u8::try_from(it).ok())
    };
    let pairs = digits.chunks_exact(2);
    let bytes = pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?));
    bytes.collect::<Option<_>>().ok_or_else(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_travel_as_hex_and_back() {
        let bytes: Vec<u8> = (0..=255).collect();
        let mut text = "\\x".to_owned();
        push_hex(&mut text, &bytes);
        assert_eq!(from_hex(text.as_bytes()).ok(), Some(bytes));
        assert!(from_hex(b"0a").is_err());
        assert!(from_hex(b"\\xzz").is_err());
    }
}
