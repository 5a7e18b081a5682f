//! Brings an object from S3 to a thread that blocks.

use std::io::{self, BufRead, Read};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

use crate::store::{Bucket, ByteStream, StoreError, StoreErrorKind};

/// Pieces that reach a thread together: waking it for each would cost more than they are.
/// TLS makes pieces of 16 KB, the HTTP client of at most 417 KB.
const BATCH_BYTES: usize = 256 << 10;
/// Batches on their way to one thread.
const BATCHES: usize = 4;
/// How often a body that breaks off is taken up where it broke.
const REOPENS_MAX: u32 = 4;

/// The reading end: blocks until a piece is there.
#[derive(Debug)]
pub struct Body {
    batches: mpsc::Receiver<Option<Vec<Bytes>>>,
    batch: std::vec::IntoIter<Bytes>,
    piece: Bytes,
    is_at_end: bool,
}

/// The feeding end. Dropped before [`Feed::end`], it makes the reading end fail.
#[derive(Debug)]
pub struct Feed(mpsc::Sender<Option<Vec<Bytes>>>);

/// Both ends.
pub fn body() -> (Feed, Body) {
    let (sender, batches) = mpsc::channel(BATCHES);
    let body = Body {
        batches,
        batch: Vec::new().into_iter(),
        piece: Bytes::new(),
        is_at_end: false,
    };
    (Feed(sender), body)
}

impl BufRead for Body {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.piece.is_empty() && !self.is_at_end {
            if let Some(piece) = self.batch.next() {
                self.piece = piece;
                continue;
            }
            match self.batches.blocking_recv() {
                Some(Some(batch)) => self.batch = batch.into_iter(),
                Some(None) => self.is_at_end = true,
                None => return Err(io::ErrorKind::BrokenPipe.into()),
            }
        }
        Ok(&self.piece)
    }

    fn consume(&mut self, n: usize) {
        self.piece.advance(n);
    }
}

impl Read for Body {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let piece = self.fill_buf()?;
        let n = piece.len().min(out.len());
        out[..n].copy_from_slice(&piece[..n]);
        self.consume(n);
        Ok(n)
    }
}

/// One version of one object, and the counters of what is fetched.
#[derive(Debug)]
pub struct Source<'a> {
    pub bucket: &'a Bucket,
    pub key: &'a str,
    pub version_id: Option<&'a str>,
    /// Of this object, and of all.
    pub fetched_bytes: [&'a AtomicU64; 2],
}

impl Source<'_> {
    /// Feeds the whole object; `opened` is its body from the first byte on, and its length.
    ///
    /// The SDK tries again where the storage answers with an error, but not where a body
    /// breaks off: that is taken up here, at the byte where it broke. Another object in its
    /// place would not have the manifest's SHA-256.
    pub async fn feed(&self, opened: (ByteStream, u64), feed: Feed) -> Result<(), StoreError> {
        let (mut body, length) = opened;
        let mut at = 0;
        let mut reopens = 0;
        let (mut batch, mut batch_bytes) = (Vec::new(), 0);
        loop {
            let reason = match body.next().await {
                Some(Ok(piece)) => {
                    at += piece.len() as u64;
                    for counter in self.fetched_bytes {
                        counter.fetch_add(piece.len() as u64, Ordering::Relaxed);
                    }
                    batch_bytes += piece.len();
                    batch.push(piece);
                    if batch_bytes >= BATCH_BYTES {
                        batch_bytes = 0;
                        let batch = std::mem::take(&mut batch);
                        if feed.0.send(Some(batch)).await.is_err() {
                            // The reader has seen enough.
                            return Ok(());
                        }
                    }
                    continue;
                }
                None if at >= length => {
                    let _reader_is_gone = feed.0.send(Some(batch)).await;
                    let _reader_is_gone = feed.0.send(None).await;
                    return Ok(());
                }
                None => "the body ended early".to_owned(),
                Some(Err(error)) => error.to_string(),
            };
            reopens += 1;
            if reopens > REOPENS_MAX {
                return Err(StoreError {
                    operation: "read",
                    key: self.key.to_owned(),
                    kind: StoreErrorKind::Unavailable(format!(
                        "broke off {reopens} times, last at byte {at} of {length}: {reason}"
                    )),
                });
            }
            (body, _) = self.bucket.open(self.key, self.version_id, at).await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the reading end gets of these pieces, fed as they come from the network.
    fn read_back(pieces: Vec<Bytes>, is_ended: bool) -> io::Result<Vec<u8>> {
        let (feed, mut body) = body();
        let feeding = std::thread::spawn(move || {
            for piece in pieces {
                feed.0.blocking_send(Some(vec![piece])).unwrap();
            }
            if is_ended {
                feed.0.blocking_send(None).unwrap();
            }
        });
        let mut read = Vec::new();
        let done = body.read_to_end(&mut read);
        feeding.join().unwrap();
        done.map(|_| read)
    }

    #[test]
    fn every_byte_comes_through_in_order_and_an_unended_body_is_an_error() {
        let pieces = || (0..40_u8).map(|it| Bytes::from(vec![it; 70_000]));
        let whole: Vec<u8> = pieces().flatten().collect();
        assert_eq!(read_back(pieces().collect(), true).unwrap(), whole);
        assert_eq!(read_back(Vec::new(), true).unwrap(), b"");
        let with_empty = vec![Bytes::new(), Bytes::from_static(b"x"), Bytes::new()];
        assert_eq!(read_back(with_empty, true).unwrap(), b"x");

        let broken = read_back(pieces().collect(), false).unwrap_err();
        assert_eq!(broken.kind(), io::ErrorKind::BrokenPipe);
    }
}
