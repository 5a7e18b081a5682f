//! The fingerprint of a table: the sum modulo 2^128 of xxh3-128 (seed 0) over each row's
//! `COPY` text without the newline.
//!
//! A sum does not depend on order, slicing or the number of connections. It proves equality,
//! not authorship. xxh3: the reference specification of xxHash, 128-bit variant; the value is
//! read as a big-endian number.

use std::fmt;
use std::ops::{Add, AddAssign};
use std::str::FromStr;

use memchr::memchr;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// Printed as 32 lower-case hex digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint(u128);

impl Fingerprint {
    /// Of one row, or of one large object: what is summed.
    pub fn of(bytes: &[u8]) -> Self {
        Self(xxh3_128(bytes))
    }
}

impl Add for Fingerprint {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }
}

impl AddAssign for Fingerprint {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a fingerprint of 32 hex digits")]
pub struct InvalidFingerprint(String);

impl FromStr for Fingerprint {
    type Err = InvalidFingerprint;

    fn from_str(hex: &str) -> Result<Self, InvalidFingerprint> {
        let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if hex.len() != 32 || !hex.bytes().all(is_hex) {
            return Err(InvalidFingerprint(hex.to_owned()));
        }
        u128::from_str_radix(hex, 16)
            .map(Self)
            .map_err(|_| InvalidFingerprint(hex.to_owned()))
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = InvalidFingerprint;

    fn try_from(hex: String) -> Result<Self, InvalidFingerprint> {
        hex.parse()
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.to_string()
    }
}

/// Counts and fingerprints the rows of `COPY` text that comes in pieces of any size.
///
/// A row ends at its newline: `COPY` text escapes every newline inside a value. Memory does
/// not grow with a row's width.
#[derive(Clone, Default)]
pub struct RowScanner {
    rows: u64,
    bytes: u64,
    sum: Fingerprint,
    /// The row that the last piece began and did not end.
    open: Option<Box<Xxh3>>,
}

/// What a [`RowScanner`] saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowTotals {
    pub rows: u64,
    /// With the newlines.
    pub copy_bytes: u64,
    pub fingerprint: Fingerprint,
}

impl fmt::Debug for RowScanner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowScanner")
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

impl RowScanner {
    /// Takes the next piece.
    pub fn push(&mut self, mut piece: &[u8]) {
        self.bytes += piece.len() as u64;
        if let Some(open) = &mut self.open {
            let Some(end) = memchr(b'\n', piece) else {
                open.update(piece);
                return;
            };
            open.update(&piece[..end]);
            let row = Fingerprint(open.digest128());
            self.open = None;
            self.end_row(row);
            piece = &piece[end + 1..];
        }
        while let Some(end) = memchr(b'\n', piece) {
            self.end_row(Fingerprint::of(&piece[..end]));
            piece = &piece[end + 1..];
        }
        if !piece.is_empty() {
            let mut open = Box::new(Xxh3::new());
            open.update(piece);
            self.open = Some(open);
        }
    }

    /// Takes the next piece of a row whose end is known from elsewhere; with `ends_row` the
    /// piece ends in the row's newline. Not to be mixed with [`RowScanner::push`].
    pub fn push_row(&mut self, piece: &[u8], ends_row: bool) {
        self.bytes += piece.len() as u64;
        if !ends_row {
            self.open.get_or_insert_default().update(piece);
            return;
        }
        let text = piece.strip_suffix(b"\n").unwrap_or(piece);
        let row = match self.open.take() {
            None => Fingerprint::of(text),
            Some(mut open) => {
                open.update(text);
                Fingerprint(open.digest128())
            }
        };
        self.end_row(row);
    }

    fn end_row(&mut self, row: Fingerprint) {
        self.rows += 1;
        self.sum += row;
    }

    /// `None` when the text ended in the middle of a row.
    pub fn finish(self) -> Option<RowTotals> {
        self.open.is_none().then_some(RowTotals {
            rows: self.rows,
            copy_bytes: self.bytes,
            fingerprint: self.sum,
        })
    }
}

/// Fingerprints one large object whose content comes in pieces.
#[derive(Clone)]
pub struct LargeObjectHash(Box<Xxh3>);

impl fmt::Debug for LargeObjectHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LargeObjectHash").finish_non_exhaustive()
    }
}

impl LargeObjectHash {
    /// The oid comes first, as 4 bytes, big-endian.
    pub fn new(oid: u32) -> Self {
        let mut hash = Box::new(Xxh3::new());
        hash.update(&oid.to_be_bytes());
        Self(hash)
    }

    /// Takes the next piece of the content.
    pub fn push(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// What is summed over the objects of an entry.
    pub fn finish(self) -> Fingerprint {
        Fingerprint(self.0.digest128())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_object_is_its_oid_and_its_content() {
        let mut hash = LargeObjectHash::new(0x0102_0304);
        hash.push(b"con");
        hash.push(b"tent");
        assert_eq!(hash.finish(), Fingerprint::of(b"\x01\x02\x03\x04content"));
    }

    #[test]
    fn the_published_vectors_hold() {
        // Also in docs/FORMAT.md; the empty string's is in xxHash's own test suite.
        for (text, hex) in [
            ("", "99aa06d3014798d86001c324468d497f"),
            ("1\tone", "bf89842f22de3cec1fb2d57aa9a8b56c"),
        ] {
            assert_eq!(
                Fingerprint::of(text.as_bytes()).to_string(),
                hex,
                "{text:?}"
            );
        }
    }

    #[test]
    fn pieces_of_any_size_give_the_same_totals() {
        let text = b"1\tone\n\n2\ttwo\\nlines\n3\t\\N\n";
        let mut whole = RowScanner::default();
        whole.push(text);
        let whole = whole.finish().unwrap();
        assert_eq!((whole.rows, whole.copy_bytes), (4, text.len() as u64));
        for size in 1..text.len() {
            let mut pieces = RowScanner::default();
            text.chunks(size).for_each(|piece| pieces.push(piece));
            assert_eq!(pieces.finish(), Some(whole), "pieces of {size}");
        }
    }

    #[test]
    fn order_does_not_matter_but_every_row_does() {
        let totals = |text: &[u8]| {
            let mut scanner = RowScanner::default();
            scanner.push(text);
            scanner.finish().unwrap()
        };
        assert_eq!(totals(b"a\nb\n"), totals(b"b\na\n"));
        assert_ne!(totals(b"a\nb\n").fingerprint, totals(b"a\na\n").fingerprint);
        assert_ne!(totals(b"a\n\n").fingerprint, totals(b"a\n").fingerprint);
    }

    #[test]
    fn text_that_ends_inside_a_row_has_no_totals() {
        let mut scanner = RowScanner::default();
        scanner.push(b"a\nb");
        assert_eq!(scanner.finish(), None);
    }

    #[test]
    fn only_32_hex_digits_are_a_fingerprint() {
        for text in [
            "",
            "0",
            &"g".repeat(32),
            &"A".repeat(32),
            &"0".repeat(33),
            "+0000000000000000000000000000000",
        ] {
            assert!(text.parse::<Fingerprint>().is_err(), "{text}");
        }
    }
}
