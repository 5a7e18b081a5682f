//! How stored bytes are made: zstd, then age to every recipient, hashed on the way out.
//!
//! Formats: Zstandard, RFC 8878; age, age-encryption.org/v1.

use std::io::{self, Write};

use age::x25519::Recipient;
use sha2::{Digest, Sha256};

/// Feeding zstd less at a time costs as much as compressing.
const PIECE_BYTES: usize = 128 << 10;

/// Compresses (or not), encrypts and hashes what is written, in memory that does not grow
/// with it.
#[allow(missing_debug_implementations, reason = "holds plain text and keys")]
pub struct Sealer<W: Write> {
    layer: Layer<W>,
    piece: Vec<u8>,
}

enum Layer<W: Write> {
    Compressed(zstd::stream::write::Encoder<'static, Encrypted<W>>),
    Plain(Encrypted<W>),
}

type Encrypted<W> = age::stream::StreamWriter<Hashed<W>>;

/// What was sealed.
#[derive(Debug)]
pub struct Sealed<W> {
    pub out: W,
    pub stored_bytes: u64,
    /// Lower-case hex of the stored bytes.
    pub sha256: String,
}

/// Parses the configuration's age public keys.
///
/// # Errors
///
/// The first string that is none.
pub fn recipients(keys: &[String]) -> Result<Vec<Recipient>, String> {
    keys.iter()
        .map(|key| key.parse().map_err(|_: &str| key.clone()))
        .collect()
}

impl<W: Write> Sealer<W> {
    /// `level` is zstd's; `None` leaves the bytes uncompressed.
    pub fn new(out: W, recipients: &[Recipient], level: Option<i32>) -> io::Result<Self> {
        let encryptor =
            age::Encryptor::with_recipients(recipients.iter().map(|it| it as &dyn age::Recipient))
                .map_err(io::Error::other)?;
        let encrypted = encryptor.wrap_output(Hashed {
            out,
            hash: Sha256::new(),
            bytes: 0,
        })?;
        let layer = match level {
            Some(level) => Layer::Compressed(zstd::stream::write::Encoder::new(encrypted, level)?),
            None => Layer::Plain(encrypted),
        };
        Ok(Self {
            layer,
            piece: Vec::with_capacity(PIECE_BYTES),
        })
    }

    fn flush_piece(&mut self) -> io::Result<()> {
        match &mut self.layer {
            Layer::Compressed(encoder) => encoder.write_all(&self.piece)?,
            Layer::Plain(encrypted) => encrypted.write_all(&self.piece)?,
        }
        self.piece.clear();
        Ok(())
    }

    /// Ends the zstd frame and writes age's authenticated last chunk.
    pub fn finish(mut self) -> io::Result<Sealed<W>> {
        self.flush_piece()?;
        let encrypted = match self.layer {
            Layer::Compressed(encoder) => encoder.finish()?,
            Layer::Plain(encrypted) => encrypted,
        };
        let Hashed { out, hash, bytes } = encrypted.finish()?;
        Ok(Sealed {
            out,
            stored_bytes: bytes,
            sha256: hex(&hash.finalize()),
        })
    }
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = PIECE_BYTES - self.piece.len();
        let n = bytes.len().min(room);
        self.piece.extend_from_slice(&bytes[..n]);
        if self.piece.len() == PIECE_BYTES {
            self.flush_piece()?;
        }
        Ok(n)
    }

    /// Does nothing: flushing early would only make smaller frames.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Hashed<W> {
    out: W,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.hash.update(&bytes[..n]);
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    bytes.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _infallible = write!(hex, "{byte:02x}");
        hex
    })
}

/// SHA-256 as lower-case hex.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}
