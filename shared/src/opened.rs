//! How stored bytes are read back: hashed on the way in, then age, then zstd. The other side
//! of `sealed`.
//!
//! Damage is told as the window of stored bytes in which it lies. age authenticates chunks of
//! 64 KiB, so that is how narrow a window can be.

use std::fmt;
use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};

use age::x25519::Identity;
use sha2::{Digest, Sha256};

use crate::sealed::hex;

/// Plain bytes in a chunk of an age file, and the tag that each chunk adds.
const CHUNK_BYTES: u64 = 64 << 10;
const TAG_BYTES: u64 = 16;
/// Follows the header, and is authenticated with the first chunk.
const NONCE_BYTES: u64 = 16;
/// A header has about 100 bytes for each recipient.
const HEADER_BYTES_MAX: u64 = 64 << 10;
/// zstd reads blocks of this size.
const PIECE_BYTES: usize = 128 << 10;
/// A frame that wants a larger window than 32 MiB is none of ours: bounds the memory.
const WINDOW_LOG_MAX: u32 = 25;

/// Counts and hashes stored bytes as they are read, up to as many as are expected.
pub struct Stored<R> {
    inner: R,
    expected_bytes: u64,
    bytes: u64,
    hash: Sha256,
    failure: Option<io::Error>,
}

impl<R> fmt::Debug for Stored<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stored")
            .field("expected_bytes", &self.expected_bytes)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// What was read, whether or not it could be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTotals {
    /// Never more than expected.
    pub bytes: u64,
    /// Lower-case hex, over these bytes.
    pub sha256: String,
    /// Whether more bytes follow than expected.
    pub has_more: bool,
}

impl<R: BufRead> Stored<R> {
    pub fn new(inner: R, expected_bytes: u64) -> Self {
        Self {
            inner,
            expected_bytes,
            bytes: 0,
            hash: Sha256::new(),
            failure: None,
        }
    }

    /// Reads what nobody has read yet, so that size and hash are of the whole object.
    ///
    /// # Errors
    ///
    /// The storage failed, now or earlier: nothing can be said about the object.
    pub fn finish(mut self) -> io::Result<StoredTotals> {
        if self.failure.is_none() {
            // An error is kept in `failure`.
            let _copied = io::copy(&mut self, &mut io::sink());
        }
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let has_more = self.bytes == self.expected_bytes && !self.inner.fill_buf()?.is_empty();
        Ok(StoredTotals {
            bytes: self.bytes,
            sha256: hex(&self.hash.finalize()),
            has_more,
        })
    }

    /// What `--- ` begins and a newline ends, and the nonce behind it; less where the object
    /// ends earlier.
    fn read_header(&mut self) -> io::Result<Vec<u8>> {
        let mut header = Vec::new();
        loop {
            let line_at = header.len();
            let room = HEADER_BYTES_MAX.saturating_sub(line_at as u64);
            let n = self.by_ref().take(room).read_until(b'\n', &mut header)?;
            if n == 0 || header[line_at..].starts_with(b"--- ") {
                break;
            }
        }
        self.by_ref().take(NONCE_BYTES).read_to_end(&mut header)?;
        Ok(header)
    }
}

impl<R: BufRead> BufRead for Stored<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let room = usize::try_from(self.expected_bytes - self.bytes).unwrap_or(usize::MAX);
        if room == 0 {
            return Ok(&[]);
        }
        match self.inner.fill_buf() {
            Ok(piece) => Ok(&piece[..piece.len().min(room)]),
            Err(failure) => {
                let error = io::Error::from(failure.kind());
                self.failure = Some(failure);
                Err(error)
            }
        }
    }

    fn consume(&mut self, n: usize) {
        // The piece that was just seen: no reading, so no error.
        if let Ok(piece) = self.inner.fill_buf() {
            self.hash.update(&piece[..n]);
        }
        self.inner.consume(n);
        self.bytes += n as u64;
    }
}

impl<R: BufRead> Read for Stored<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let piece = self.fill_buf()?;
        let n = piece.len().min(out.len());
        out[..n].copy_from_slice(&piece[..n]);
        self.consume(n);
        Ok(n)
    }
}

/// Why the stored bytes could not be opened, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub kind: FaultKind,
    /// Stored bytes `[from, to)`.
    pub window: (u64, u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The age header is malformed or its authentication fails.
    Header,
    /// None of the identities opens it.
    Identity,
    /// A chunk's authentication fails, or the last chunk is missing.
    Chunk,
    /// It decrypts, but is not zstd to the end.
    Compression,
}

/// The plain bytes of a stored object.
#[allow(missing_debug_implementations, reason = "holds plain text and keys")]
pub struct Opened<'a, R: BufRead> {
    layer: Layer<'a, R>,
    fault: Option<Fault>,
    recipients: usize,
}

enum Layer<'a, R: BufRead> {
    Compressed(Box<zstd::stream::read::Decoder<'static, BufReader<Decrypted<'a, R>>>>),
    Plain(Box<BufReader<Decrypted<'a, R>>>),
}

struct Decrypted<'a, R: BufRead> {
    stream: age::stream::StreamReader<Chain<Cursor<Vec<u8>>, &'a mut Stored<R>>>,
    /// Where the first chunk begins.
    payload_at: u64,
    stored_bytes: u64,
    plain_bytes: u64,
    has_failed: bool,
}

impl<'a, R: BufRead> Opened<'a, R> {
    /// Reads the header.
    ///
    /// # Errors
    ///
    /// Also where the storage failed; [`Stored::finish`] then says so.
    pub fn new(
        stored: &'a mut Stored<R>,
        identities: &[Identity],
        is_compressed: bool,
    ) -> Result<Self, Fault> {
        let header = stored.read_header();
        let fault = |kind, to| Fault {
            kind,
            window: (0, to),
        };
        let payload_at = stored.bytes;
        let header = header.map_err(|_| fault(FaultKind::Header, payload_at))?;
        // On its own first: the parser could run on into the payload, and keep it all.
        age::Decryptor::new_buffered(&*header).map_err(|_| fault(FaultKind::Header, payload_at))?;
        let recipients = count_recipients(&header);
        let stored_bytes = stored.expected_bytes;
        let stream = age::Decryptor::new_buffered(Cursor::new(header).chain(stored))
            .and_then(|it| it.decrypt(identities.iter().map(|it| it as &dyn age::Identity)))
            .map_err(|error| {
                let is_foreign = matches!(error, age::DecryptError::NoMatchingKeys);
                let kind = if is_foreign {
                    FaultKind::Identity
                } else {
                    FaultKind::Header
                };
                fault(kind, payload_at)
            })?;
        let decrypted = Decrypted {
            stream,
            payload_at,
            stored_bytes,
            plain_bytes: 0,
            has_failed: false,
        };
        let reader = BufReader::with_capacity(PIECE_BYTES, decrypted);
        let layer = if is_compressed {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(reader)
                .map_err(|_| fault(FaultKind::Compression, payload_at))?;
            // Only a larger value than zstd knows is refused.
            let _known = decoder.window_log_max(WINDOW_LOG_MAX);
            Layer::Compressed(Box::new(decoder))
        } else {
            Layer::Plain(Box::new(reader))
        };
        Ok(Self {
            layer,
            fault: None,
            recipients,
        })
    }

    /// To how many age public keys it is encrypted.
    pub fn recipients(&self) -> usize {
        self.recipients
    }

    /// Why reading failed: `None` while it has not.
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    fn fault_now(&self) -> Fault {
        let decrypted = match &self.layer {
            Layer::Compressed(decoder) => decoder.get_ref().get_ref(),
            Layer::Plain(reader) => reader.get_ref(),
        };
        if decrypted.has_failed {
            return Fault {
                kind: FaultKind::Chunk,
                window: decrypted.failed_chunk(),
            };
        }
        // What zstd has not understood lies in what it was given last.
        let from = decrypted.plain_bytes.saturating_sub(PIECE_BYTES as u64);
        Fault {
            kind: FaultKind::Compression,
            window: decrypted.window(from, decrypted.plain_bytes),
        }
    }
}

impl<R: BufRead> Read for Opened<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let answer = match &mut self.layer {
            Layer::Compressed(decoder) => decoder.read(out),
            Layer::Plain(reader) => reader.read(out),
        };
        let is_fault = |error: &io::Error| error.kind() != io::ErrorKind::Interrupted;
        if self.fault.is_none() && answer.as_ref().is_err_and(is_fault) {
            self.fault = Some(self.fault_now());
        }
        answer
    }
}

impl<R: BufRead> Decrypted<'_, R> {
    /// The chunk that comes after the plain bytes handed out so far: only the last chunk of an
    /// age file is shorter than the others.
    fn failed_chunk(&self) -> (u64, u64) {
        self.window(self.plain_bytes, self.plain_bytes + 1)
    }

    /// The stored chunks that hold the plain bytes `[from, to)`.
    fn window(&self, from: u64, to: u64) -> (u64, u64) {
        let (first, end) = (from / CHUNK_BYTES, to.div_ceil(CHUNK_BYTES));
        let at = |chunk| self.payload_at + chunk * (CHUNK_BYTES + TAG_BYTES);
        // The nonce belongs to the first chunk.
        let from = if first == 0 {
            self.payload_at - NONCE_BYTES
        } else {
            at(first)
        };
        (from.min(self.stored_bytes), at(end).min(self.stored_bytes))
    }
}

impl<R: BufRead> Read for Decrypted<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let answer = self.stream.read(out);
        match &answer {
            Ok(n) => self.plain_bytes += *n as u64,
            Err(error) => self.has_failed |= error.kind() != io::ErrorKind::Interrupted,
        }
        answer
    }
}

/// Every recipient has a line that begins so; age adds a line of another kind now and then.
fn count_recipients(header: &[u8]) -> usize {
    let lines = header.split(|byte| *byte == b'\n');
    let lines = lines.take_while(|line| !line.starts_with(b"---"));
    lines.filter(|line| line.starts_with(b"-> X25519 ")).count()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::sealed::{Sealer, sha256};

    fn sealed(identity: &Identity, plain: &[u8], level: Option<i32>) -> Vec<u8> {
        let mut sealer = Sealer::new(Vec::new(), &[identity.to_public()], level).unwrap();
        sealer.write_all(plain).unwrap();
        sealer.finish().unwrap().out
    }

    /// Pseudo-random, so that zstd leaves it as large as it is.
    fn noise(bytes: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let step = |_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        };
        (0..bytes).map(step).collect()
    }

    fn open(
        bytes: &[u8],
        expected_bytes: u64,
        identity: &Identity,
        is_compressed: bool,
    ) -> (Result<Vec<u8>, Fault>, StoredTotals) {
        let mut stored = Stored::new(bytes, expected_bytes);
        let identities = [identity.clone()];
        let plain = Opened::new(&mut stored, &identities, is_compressed).and_then(|mut it| {
            let mut plain = Vec::new();
            match it.read_to_end(&mut plain) {
                Ok(_) => Ok(plain),
                Err(_) => Err(it.fault().unwrap()),
            }
        });
        (plain, stored.finish().unwrap())
    }

    #[test]
    fn what_was_sealed_opens_again() {
        let identity = Identity::generate();
        for length in [0, 1, 65_535, 65_536, 65_537, 300_000] {
            for level in [None, Some(1)] {
                let plain = noise(length);
                let bytes = sealed(&identity, &plain, level);
                let (opened, totals) = open(&bytes, bytes.len() as u64, &identity, level.is_some());
                assert_eq!(opened.unwrap(), plain);
                assert_eq!(totals.bytes, bytes.len() as u64);
                assert_eq!(totals.sha256, sha256(&bytes));
                assert!(!totals.has_more);
            }
        }
    }

    #[test]
    fn a_flipped_byte_lies_in_the_window_that_is_told() {
        let identity = Identity::generate();
        let bytes = sealed(&identity, &noise(200_000), Some(1));
        for at in (0..400).chain((400..bytes.len()).step_by(7_919)) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            let (opened, totals) = open(&damaged, bytes.len() as u64, &identity, true);
            let fault = opened.unwrap_err();
            let (from, to) = fault.window;
            assert!((from..to).contains(&(at as u64)), "{at}: {fault:?}");
            assert!(to - from <= 65_568, "{at}: {fault:?}");
            assert_eq!(totals.sha256, sha256(&damaged));
        }
    }

    #[test]
    fn every_truncation_is_a_fault_and_its_length_is_told() {
        let identity = Identity::generate();
        let bytes = sealed(&identity, &noise(140_000), Some(1));
        for length in (0..400).chain((400..bytes.len()).step_by(4_001)) {
            let (opened, totals) = open(&bytes[..length], bytes.len() as u64, &identity, true);
            assert!(opened.is_err(), "{length}");
            assert_eq!(totals.bytes, length as u64);
        }
    }

    #[test]
    fn bytes_beyond_the_expected_ones_are_told_and_not_read() {
        let identity = Identity::generate();
        let bytes = sealed(&identity, b"plain", Some(1));
        let longer = [&*bytes, b"more"].concat();
        let (opened, totals) = open(&longer, bytes.len() as u64, &identity, true);
        assert_eq!(opened.unwrap(), b"plain");
        assert_eq!(totals.sha256, sha256(&bytes));
        assert!(totals.has_more);
    }

    #[test]
    fn another_identity_is_told_from_damage() {
        let bytes = sealed(&Identity::generate(), b"plain", None);
        let (opened, _) = open(&bytes, bytes.len() as u64, &Identity::generate(), false);
        assert_eq!(opened.unwrap_err().kind, FaultKind::Identity);
    }

    #[test]
    fn what_is_not_compressed_is_told_from_what_does_not_decrypt() {
        let identity = Identity::generate();
        let bytes = sealed(&identity, b"this is not zstd", None);
        let (opened, _) = open(&bytes, bytes.len() as u64, &identity, true);
        assert_eq!(opened.unwrap_err().kind, FaultKind::Compression);
    }

    #[test]
    fn recipients_are_counted() {
        let identities = [Identity::generate(), Identity::generate()];
        let recipients = identities.each_ref().map(Identity::to_public);
        let sealer = Sealer::new(Vec::new(), &recipients, None).unwrap();
        let bytes = sealer.finish().unwrap().out;
        let mut stored = Stored::new(&*bytes, bytes.len() as u64);
        let opened = Opened::new(&mut stored, &identities, false).unwrap();
        assert_eq!(opened.recipients(), 2);
    }
}
