//! `COPY … FROM STDIN`: rows go to the server in pieces of any size, which need not end where
//! a row does.

use super::{Connection, CopyError, PgError, ServerError};

/// Of one message of rows. Larger ones gain nothing.
const PIECE_BYTES: usize = 256 << 10;
const HEADER_BYTES: usize = 5;

impl Connection {
    /// Runs statements of which one is a `COPY … FROM STDIN`, and returns how many rows the
    /// server counted.
    ///
    /// `give` fills the start of the room it gets, and says how much; 0 is the end. Where it
    /// fails, the server is told so and takes none of the rows.
    ///
    /// # Errors
    ///
    /// [`PgError::Server`] (with table, line and column, and without any value) and
    /// [`CopyError::Giver`] leave the connection usable; any other does not.
    pub fn copy_in<E>(
        &mut self,
        sql: &[u8],
        mut give: impl FnMut(&mut [u8]) -> Result<usize, E>,
    ) -> Result<u64, CopyError<E>> {
        self.send_query(sql)?;
        self.await_copy_in()?;
        let mut message = vec![0; HEADER_BYTES + PIECE_BYTES];
        message[0] = b'd';
        let gave = loop {
            match give(&mut message[HEADER_BYTES..]) {
                Ok(0) => break Ok(()),
                Ok(n) => {
                    // The length counts itself.
                    let length = u32::try_from(n + 4).map_err(|_| PgError::Protocol("piece"))?;
                    message[1..HEADER_BYTES].copy_from_slice(&length.to_be_bytes());
                    self.send(&message[..HEADER_BYTES + n])?;
                }
                Err(error) => break Err(error),
            }
        };
        match gave {
            Ok(()) => {
                self.send(&[b'c', 0, 0, 0, 4])?;
                Ok(self.end_of_copy_in()?)
            }
            Err(error) => {
                self.send(b"f\0\0\0\x08end\0")?;
                match self.end_of_copy_in() {
                    // The server says back that it was told to stop.
                    Ok(_) | Err(PgError::Server(_)) => Err(CopyError::Giver(error)),
                    Err(lost) => Err(lost.into()),
                }
            }
        }
    }

    /// Reads up to the server's word that it takes rows.
    fn await_copy_in(&mut self) -> Result<(), PgError> {
        let mut failure = None;
        loop {
            let (tag, body) = self.message()?;
            match tag {
                b'G' => return Ok(()),
                b'E' => failure = Some(ServerError::parse(&body)),
                b'Z' => {
                    return Err(failure.map_or(
                        PgError::Protocol("no copy where one was expected"),
                        PgError::Server,
                    ));
                }
                b'H' | b'W' => return Err(PgError::Protocol("unexpected copy")),
                _ => {}
            }
        }
    }

    /// The count of the copy, once it and the statements behind it have ended.
    fn end_of_copy_in(&mut self) -> Result<u64, PgError> {
        let mut failure = None;
        let mut rows = None;
        loop {
            let (tag, body) = self.message()?;
            match tag {
                b'C' => rows = rows.or_else(|| copied(&body)),
                b'E' => failure = Some(ServerError::parse_of_copy(&body)),
                b'Z' => break,
                _ => {}
            }
        }
        match (failure, rows) {
            (Some(error), _) => Err(PgError::Server(error)),
            (None, Some(rows)) => Ok(rows),
            (None, None) => Err(PgError::Protocol("the copy did not end")),
        }
    }
}

/// `COPY 42`, zero-terminated.
fn copied(body: &[u8]) -> Option<u64> {
    let tag = std::str::from_utf8(body).ok()?.trim_end_matches('\0');
    tag.strip_prefix("COPY ")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_count_is_read() {
        assert_eq!(copied(b"COPY 42\0"), Some(42));
        assert_eq!(copied(b"COMMIT\0"), None);
    }
}
