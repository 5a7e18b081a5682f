//! The rows of one slice, read from the `COPY` text that an object decrypts to.

use std::io::{self, Read};

use memchr::memmem::Finder;
use shared::fingerprint::{RowScanner, RowTotals};

/// Ends a table's data in the archive: `\.` on a line of its own, then two empty lines.
pub const TERMINATOR: &[u8] = b"\\.\n\n\n";
/// What zstd gives at most in one piece.
const PIECE_BYTES: usize = 128 << 10;

/// What the text of one slice holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowsRead {
    /// `None` when the text ends in the middle of a row.
    pub totals: Option<RowTotals>,
    pub terminator: Terminator,
}

/// Where the terminator stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminator {
    /// At the very end, and nowhere else.
    AtEnd,
    Nowhere,
    /// A line `\.` is followed by something else: whoever loads the text stops there.
    Early,
}

/// Reads to the end, in memory that does not grow with the text or the width of a row.
pub fn read_rows(mut text: impl Read) -> io::Result<RowsRead> {
    let mut buffer = vec![0; PIECE_BYTES + TERMINATOR.len()];
    let mut rows = RowScanner::default();
    let mut lines = TerminatorLines::default();
    // The last bytes are held back: they may be the terminator.
    let mut held = 0;
    loop {
        let n = match text.read(&mut buffer[held..]) {
            Ok(0) => break,
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let end = held + n;
        let ready = end.saturating_sub(TERMINATOR.len());
        rows.push(&buffer[..ready]);
        lines.push(&buffer[..ready]);
        buffer.copy_within(ready..end, 0);
        held = end - ready;
    }
    let tail = &buffer[..held];
    let is_ended = tail == TERMINATOR && lines.is_at_line_start();
    if !is_ended {
        rows.push(tail);
        lines.push(tail);
    }
    let terminator = match (lines.found, is_ended) {
        (true, _) => Terminator::Early,
        (false, true) => Terminator::AtEnd,
        (false, false) => Terminator::Nowhere,
    };
    Ok(RowsRead {
        totals: rows.finish(),
        terminator,
    })
}

/// Looks for lines `\.`, which no row is: `COPY` text doubles every backslash of a value.
struct TerminatorLines {
    found: bool,
    finder: Finder<'static>,
    /// The last bytes before the next piece.
    last: [u8; LINE.len() - 1],
}

const LINE: &[u8; 4] = b"\n\\.\n";

impl Default for TerminatorLines {
    fn default() -> Self {
        Self {
            found: false,
            finder: Finder::new(LINE),
            // The text begins a line.
            last: *b"  \n",
        }
    }
}

impl TerminatorLines {
    fn push(&mut self, piece: &[u8]) {
        const LAST: usize = LINE.len() - 1;
        let mut seam = [b' '; 2 * LAST];
        let n = piece.len().min(LAST);
        seam[..LAST].copy_from_slice(&self.last);
        seam[LAST..LAST + n].copy_from_slice(&piece[..n]);
        let seam = &seam[..LAST + n];
        self.found |= self.finder.find(seam).is_some() || self.finder.find(piece).is_some();
        let source = if piece.len() >= LAST { piece } else { seam };
        self.last.copy_from_slice(&source[source.len() - LAST..]);
    }

    fn is_at_line_start(&self) -> bool {
        self.last.ends_with(b"\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte, then two, then three, … of its text.
    struct Dribble<'a>(&'a [u8], usize);

    impl Read for Dribble<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            self.1 = self.1 % 7 + 1;
            let n = self.1.min(out.len()).min(self.0.len());
            out[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    fn check(text: &str, rows: Option<u64>, terminator: Terminator) {
        for first in 0..7 {
            let read = read_rows(Dribble(text.as_bytes(), first)).unwrap();
            let found = (read.totals.map(|it| it.rows), read.terminator);
            assert_eq!(found, (rows, terminator), "{text:?} {first}");
        }
    }

    #[test]
    fn the_terminator_is_found_at_the_end_only() {
        check("1\n2\n\\.\n\n\n", Some(2), Terminator::AtEnd);
        check("\\.\n\n\n", Some(0), Terminator::AtEnd);
        check("\n\n\\.\n\n\n", Some(2), Terminator::AtEnd);
        check("1\n2\n", Some(2), Terminator::Nowhere);
        check("", Some(0), Terminator::Nowhere);
    }

    #[test]
    fn what_only_looks_like_the_terminator_is_none() {
        check("1\\.\n\n\n", Some(3), Terminator::Nowhere);
        check("\\\\.\n", Some(1), Terminator::Nowhere);
        check("\\.x\n\\.\n\n\n", Some(1), Terminator::AtEnd);
    }

    #[test]
    fn a_terminator_before_the_end_is_told() {
        check("1\n\\.\n\n\n2\n\\.\n\n\n", Some(5), Terminator::Early);
        check("\\.\n1\n", Some(2), Terminator::Early);
        check("1\n\\.\n\n", Some(3), Terminator::Early);
        check("1\n\\.\n\n\n\n", Some(5), Terminator::Early);
    }

    #[test]
    fn a_row_cut_in_the_middle_has_no_totals() {
        check("1\n2", None, Terminator::Nowhere);
    }

    #[test]
    fn the_terminator_is_not_a_row() {
        let read = read_rows(&b"1\tone\n\\.\n\n\n"[..]).unwrap();
        let mut rows = RowScanner::default();
        rows.push(b"1\tone\n");
        assert_eq!(read.totals, rows.finish());
    }
}
