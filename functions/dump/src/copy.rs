//! One job on one connection: copy, count, fingerprint, compress, encrypt, hand over.

use std::io::{self, Read, Write};
use std::sync::Arc;

use age::x25519::Recipient;
use shared::backup::{BackupId, DatabaseName};
use shared::fingerprint::{Fingerprint, LargeObjectHash, RowScanner};
use shared::key::Key;
use shared::manifest::{Content, Object};
use shared::pg::{Connection, CopyError, PgError};
use shared::sealed::Sealer;

use crate::coordinator::BEGIN;
use crate::error::DumpError;
use crate::plan::{Job, Slice};
use crate::progress::{Counters, JobProgress};
use crate::stop::Stop;
use crate::upload::{ObjectWriter, Uploads};

/// Ends the rows of a table in an archive's data file.
pub const TERMINATOR: &[u8] = b"\\.\n\n\n";
/// Large objects are read in pieces of this size.
const LARGE_OBJECT_PIECE: u64 = 1 << 20;

/// Everything that stays the same from job to job.
#[derive(Debug)]
pub struct Copier<'a> {
    pub database: &'a DatabaseName,
    pub id: BackupId,
    pub attempt: &'a str,
    pub recipients: &'a [Recipient],
    pub zstd_level: i32,
    pub snapshot: &'a str,
    pub uploads: &'a Arc<Uploads>,
    pub counters: &'a Counters,
    pub stop: &'a Stop,
}

/// How a connection stands to the snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// A worker imports it for each job: long transactions would fill the lock table.
    Imports,
    /// The coordinator's transaction is the snapshot.
    Itself,
}

/// What a job left behind.
#[derive(Debug)]
pub struct Copied {
    pub object: Object,
    pub large_objects: Option<LargeObjectTotals>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct LargeObjectTotals {
    pub count: u64,
    pub bytes: u64,
    pub fingerprint: Fingerprint,
}

/// Why a job ended otherwise.
#[derive(Debug)]
pub enum JobError {
    /// Somebody queues for an exclusive lock: only who holds the lock already may copy.
    LockRefused,
    Dump(DumpError),
}

impl From<DumpError> for JobError {
    fn from(error: DumpError) -> Self {
        Self::Dump(error)
    }
}

impl Copier<'_> {
    pub fn run(
        &self,
        connection: &mut Connection,
        holds: Holds,
        job: &Job,
    ) -> Result<Copied, JobError> {
        match job {
            Job::Slice(slice) => self.copy_slice(connection, holds, slice),
            Job::LargeObjects {
                dump_id,
                oids,
                list_name,
            } => Ok(self.copy_large_objects(connection, holds, (*dump_id, oids, list_name))?),
        }
    }

    fn copy_slice(
        &self,
        connection: &mut Connection,
        holds: Holds,
        slice: &Slice,
    ) -> Result<Copied, JobError> {
        let failed = |source| DumpError::Seal {
            what: slice.table.clone(),
            source,
        };
        let key = self.key(&format!("{}.dat.zst.{:05}.age", slice.dump_id, slice.index));
        let mut sealer = self.sealer(&key, Some(self.zstd_level)).map_err(failed)?;
        let mut rows = RowScanner::default();
        let mut progress = JobProgress::new(self.counters, slice.weight);
        let sql = match holds {
            Holds::Imports => self.in_transaction(&[&slice.lock, &slice.copy]),
            Holds::Itself => slice.copy.clone(),
        };
        let copied = connection.copy_out(&sql, |piece, ends_row| {
            rows.push_row(piece, ends_row);
            if progress.add(piece.len()) && self.stop.is_stopped() {
                return Err(io::Error::other("the run was stopped"));
            }
            sealer.write_all(piece)
        });
        match copied {
            Ok(()) => {}
            Err(CopyError::Receiver(source) | CopyError::Giver(source)) => {
                return Err(failed(source).into());
            }
            Err(CopyError::Pg(error)) => return Err(self.refused(connection, holds, slice, error)),
        }
        let totals = rows
            .finish()
            .ok_or(DumpError::Internal("a row without an end"))?;
        if slice.is_last {
            sealer.write_all(TERMINATOR).map_err(failed)?;
        }
        let content = Content::TableData {
            dump_id: slice.dump_id,
            rows: totals.rows,
            copy_bytes: totals.copy_bytes,
            fingerprint: totals.fingerprint,
        };
        let object = finish(sealer, key, content).map_err(failed)?;
        progress.finish();
        Ok(Copied {
            object,
            large_objects: None,
        })
    }

    fn refused(
        &self,
        connection: &mut Connection,
        holds: Holds,
        slice: &Slice,
        error: PgError,
    ) -> JobError {
        if holds == Holds::Imports && error.sqlstate() == Some("55P03") {
            return match connection.query("ROLLBACK") {
                Ok(_) => JobError::LockRefused,
                Err(source) => DumpError::Copy {
                    what: slice.table.clone(),
                    source,
                }
                .into(),
            };
        }
        DumpError::Copy {
            what: slice.table.clone(),
            source: error,
        }
        .into()
    }

    fn copy_large_objects(
        &self,
        connection: &mut Connection,
        holds: Holds,
        (dump_id, oids, list_name): (u32, &[u32], &str),
    ) -> Result<Copied, DumpError> {
        let what = || format!("{} large objects", oids.len());
        let failed = |source| DumpError::Seal {
            what: what(),
            source,
        };
        let asked = |source| DumpError::Copy {
            what: what(),
            source,
        };
        let key = self.key(&format!("blobs_{dump_id}.tar.zst.00000.age"));
        let sealer = self.sealer(&key, Some(self.zstd_level)).map_err(failed)?;
        let mut tar = tar::Builder::new(sealer);
        let mut totals = LargeObjectTotals::default();
        if holds == Holds::Imports {
            connection.query(self.begin()).map_err(asked)?;
        }
        let list: String = oids
            .iter()
            .map(|oid| format!("{oid} blob_{oid}.dat\n"))
            .collect();
        append(&mut tar, list_name, list.len() as u64, list.as_bytes()).map_err(failed)?;
        for oid in oids {
            let size = connection.query_value(format!(
                "SELECT lo_lseek64(fd, 0, 2) + 0 * lo_close(fd) FROM lo_open({oid}, 262144) AS fd"
            ));
            let size = size.map_err(asked)?.parse().unwrap_or_default();
            let mut content = LargeObject {
                connection,
                oid: *oid,
                size,
                read: 0,
                piece: io::Cursor::new(Vec::new()),
                hasher: LargeObjectHash::new(*oid),
                failure: None,
            };
            let appended = append(&mut tar, &format!("blob_{oid}.dat"), size, &mut content);
            if let Some(error) = content.failure {
                return Err(asked(error));
            }
            appended.map_err(failed)?;
            totals.count += 1;
            totals.bytes += size;
            totals.fingerprint += content.hasher.clone().finish();
            let mut progress = JobProgress::new(self.counters, 0);
            progress.add(usize::try_from(size).unwrap_or_default());
            if self.stop.is_stopped() {
                return Err(DumpError::Internal("the run was stopped"));
            }
        }
        if holds == Holds::Imports {
            connection.query("COMMIT").map_err(asked)?;
        }
        let sealer = tar.into_inner().map_err(failed)?;
        let object = finish(sealer, key, Content::LargeObjects { dump_id }).map_err(failed)?;
        JobProgress::new(self.counters, 0).finish();
        Ok(Copied {
            object,
            large_objects: Some(totals),
        })
    }

    /// Seals bytes that are at hand: the table of contents, the roles.
    pub fn store(
        &self,
        name: &str,
        bytes: &[u8],
        compressed: bool,
        content: Content,
    ) -> Result<Object, DumpError> {
        let failed = |source| DumpError::Seal {
            what: name.to_owned(),
            source,
        };
        let key = self.key(name);
        let level = compressed.then_some(self.zstd_level);
        let mut sealer = self.sealer(&key, level).map_err(failed)?;
        sealer.write_all(bytes).map_err(failed)?;
        finish(sealer, key, content).map_err(failed)
    }

    /// The start of a transaction on the snapshot.
    pub fn begin(&self) -> String {
        format!("{BEGIN}; SET TRANSACTION SNAPSHOT '{}'", self.snapshot)
    }

    /// One message, one round trip.
    fn in_transaction(&self, statements: &[&[u8]]) -> Vec<u8> {
        let mut sql = self.begin().into_bytes();
        for statement in statements {
            sql.extend(b"; ");
            sql.extend(*statement);
        }
        sql.extend(b"; COMMIT");
        sql
    }

    fn key(&self, object: &str) -> String {
        Key::Archive {
            database: self.database,
            id: self.id,
            attempt: self.attempt,
            object,
        }
        .to_string()
    }

    fn sealer(&self, key: &str, level: Option<i32>) -> io::Result<Sealer<ObjectWriter>> {
        Sealer::new(self.uploads.object(key.to_owned()), self.recipients, level)
    }
}

fn finish(sealer: Sealer<ObjectWriter>, key: String, content: Content) -> io::Result<Object> {
    let sealed = sealer.finish()?;
    sealed.out.finish()?;
    Ok(Object {
        key,
        // Known once everything is committed.
        version_id: None,
        stored_bytes: sealed.stored_bytes,
        sha256: sealed.sha256,
        content,
    })
}

fn append(
    tar: &mut tar::Builder<impl Write>,
    name: &str,
    size: u64,
    content: impl Read,
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o600);
    tar.append_data(&mut header, name, content)
}

/// Reads one large object piece by piece.
struct LargeObject<'a> {
    connection: &'a mut Connection,
    oid: u32,
    size: u64,
    read: u64,
    piece: io::Cursor<Vec<u8>>,
    hasher: LargeObjectHash,
    failure: Option<PgError>,
}

impl Read for LargeObject<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let is_used_up = self.piece.position() == self.piece.get_ref().len() as u64;
        if is_used_up && self.read < self.size {
            let wanted = LARGE_OBJECT_PIECE.min(self.size - self.read);
            let sql = format!("SELECT lo_get({}, {}, {wanted})", self.oid, self.read);
            let hex = self.connection.query_value(sql).map_err(|error| {
                self.failure = Some(error);
                io::Error::other("the database did not give the large object")
            })?;
            let piece = from_hex(&hex).ok_or_else(|| io::Error::other("bytea is not hex"))?;
            if piece.len() as u64 != wanted {
                return Err(io::Error::other("the large object is shorter than it was"));
            }
            self.hasher.push(&piece);
            self.read += wanted;
            self.piece = io::Cursor::new(piece);
        }
        self.piece.read(room)
    }
}

/// `\x0aff`, as `bytea_output = hex` prints it.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("\\x")?.as_bytes();
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|it| u8::try_from(it).ok())
    };
    let pairs = digits.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs
        .map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?))
        .collect()
}
