//! A PostgreSQL connection that streams: ordinary queries, and `COPY` in both directions whose
//! rows are never held whole, however wide they are.
//!
//! Blocking on purpose: a copy is one thread that reads, hashes, compresses and encrypts – or
//! the other way round – and nothing is gained by letting it share. Protocol: PostgreSQL documentation, "Frontend/Backend
//! Protocol", version 3.0; simple query and copy only.

mod cancel;
mod connect;
mod copy_in;
mod error;
mod gather;
mod pooler;
mod session;
mod tls;

use std::fmt;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;

pub use cancel::Cancel;
pub use error::{PgError, ServerError};
use gather::Gathering;
pub use pooler::refuse_transaction_pooler;
pub use session::{TIMEOUTS_OFF, pin_loading, pin_reading};

/// Large enough that a read costs little beside what is done with its bytes.
const BUFFER_BYTES: usize = 256 << 10;
/// No row of an ordinary query and no message is larger; copied rows have no limit.
const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// The values of one row, as text in the client encoding.
pub type Row = Vec<Option<Vec<u8>>>;

pub struct Connection {
    stream: Stream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// The server process, for messages and to find whom we block.
    pub backend_pid: i32,
    /// What a request to cancel has to show.
    secret: Vec<u8>,
    stall: Duration,
}

enum Stream {
    Tcp(Gathering<TcpStream>),
    Tls(tls::TlsStream),
    Unix(Gathering<UnixStream>),
}

impl Stream {
    /// Whether rows are coming.
    fn gather(&mut self, is_on: bool) {
        match self {
            Self::Tcp(socket) => socket.is_on = is_on,
            Self::Tls(stream) => stream.sock.is_on = is_on,
            Self::Unix(socket) => socket.is_on = is_on,
        }
    }
}

/// Ends a connection from another thread: whoever reads from it gets an error at once.
#[derive(Debug)]
pub enum Hangup {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Hangup {
    pub fn now(&self) {
        // Already closed is what is wanted.
        let _closed = match self {
            Self::Tcp(socket) => socket.shutdown(Shutdown::Both),
            Self::Unix(socket) => socket.shutdown(Shutdown::Both),
        };
    }
}

/// What a copy was interrupted by.
#[derive(Debug)]
pub enum CopyError<E> {
    Pg(PgError),
    /// Who receives the rows failed; the connection is of no further use.
    Receiver(E),
    /// Who gives the rows failed; the connection is as after an error of the server.
    Giver(E),
}

impl<E> From<PgError> for CopyError<E> {
    fn from(error: PgError) -> Self {
        Self::Pg(error)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("backend_pid", &self.backend_pid)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Runs one or more statements and returns all their rows.
    ///
    /// # Errors
    ///
    /// [`PgError::Server`] leaves the connection usable; any other does not.
    pub fn query(&mut self, sql: impl AsRef<[u8]>) -> Result<Vec<Row>, PgError> {
        self.send_query(sql.as_ref())?;
        let mut rows = Vec::new();
        let mut failure = None;
        loop {
            let (tag, body) = self.message()?;
            match tag {
                b'D' => rows.push(data_row(&body)?),
                b'E' => failure = Some(ServerError::parse(&body)),
                b'Z' => break,
                b'G' | b'H' | b'W' => return Err(PgError::Protocol("unexpected copy")),
                // Row descriptions, completions, notices and parameters carry nothing needed.
                _ => {}
            }
        }
        match failure {
            Some(error) => Err(PgError::Server(error)),
            None => Ok(rows),
        }
    }

    /// Runs statements for what they do: rows are not kept. `completed` is how many of them
    /// have come to their end, also where one failed.
    ///
    /// # Errors
    ///
    /// As of [`Connection::query`].
    pub fn execute(&mut self, sql: &str, completed: &mut u32) -> Result<(), PgError> {
        self.send_query(sql.as_bytes())?;
        let mut failure = None;
        loop {
            let (tag, body) = self.message()?;
            match tag {
                b'C' => *completed += 1,
                b'E' => failure = Some(ServerError::parse(&body)),
                b'Z' => break,
                b'G' | b'H' | b'W' => return Err(PgError::Protocol("unexpected copy")),
                _ => {}
            }
        }
        failure.map_or(Ok(()), |error| Err(PgError::Server(error)))
    }

    /// The only value of the only row, as text. NULL is empty.
    pub fn query_value(&mut self, sql: impl AsRef<[u8]>) -> Result<String, PgError> {
        let rows = self.query(sql)?;
        let value = rows
            .into_iter()
            .next()
            .and_then(|row| row.into_iter().next());
        match value {
            Some(value) => Ok(String::from_utf8_lossy(&value.unwrap_or_default()).into_owned()),
            None => Err(PgError::Protocol("no row where one was expected")),
        }
    }

    /// Runs statements of which one is a `COPY … TO STDOUT`, and hands over its rows.
    ///
    /// `receive` gets pieces of rows as they come off the wire, and with the last piece of
    /// each row (which ends in a newline), `true`.
    ///
    /// # Errors
    ///
    /// [`PgError::Server`] leaves the connection usable; any other does not.
    pub fn copy_out<E>(
        &mut self,
        sql: &[u8],
        mut receive: impl FnMut(&[u8], bool) -> Result<(), E>,
    ) -> Result<(), CopyError<E>> {
        self.send_query(sql)?;
        self.stream.gather(true);
        let done = self.receive_copy(&mut receive);
        self.stream.gather(false);
        done
    }

    fn receive_copy<E>(
        &mut self,
        receive: &mut impl FnMut(&[u8], bool) -> Result<(), E>,
    ) -> Result<(), CopyError<E>> {
        let mut failure = None;
        let mut is_complete = false;
        loop {
            let (tag, mut left) = self.header()?;
            match tag {
                b'd' => {
                    while left > 0 {
                        if self.start == self.end {
                            self.fill()?;
                        }
                        let n = left.min(self.end - self.start);
                        let piece = &self.buffer[self.start..self.start + n];
                        receive(piece, n == left).map_err(CopyError::Receiver)?;
                        self.start += n;
                        left -= n;
                    }
                }
                b'c' => {
                    is_complete = true;
                    self.body(left)?;
                }
                b'E' => failure = Some(ServerError::parse(&self.body(left)?)),
                b'Z' => {
                    self.body(left)?;
                    break;
                }
                _ => drop(self.body(left)?),
            }
        }
        match failure {
            Some(error) => Err(PgError::Server(error).into()),
            None if is_complete => Ok(()),
            None => Err(PgError::Protocol("the copy did not end").into()),
        }
    }

    /// A handle to end the connection from another thread.
    pub fn hangup(&self) -> Result<Hangup, PgError> {
        let handle = match &self.stream {
            Stream::Tcp(socket) => socket.socket.try_clone().map(Hangup::Tcp),
            Stream::Tls(stream) => stream.sock.socket.try_clone().map(Hangup::Tcp),
            Stream::Unix(socket) => socket.socket.try_clone().map(Hangup::Unix),
        };
        handle.map_err(PgError::Lost)
    }

    fn send_query(&mut self, sql: &[u8]) -> Result<(), PgError> {
        // Not frontend::query: statements are in the database's encoding, not always UTF-8.
        if sql.contains(&0) {
            return Err(PgError::Protocol("a statement contains a zero byte"));
        }
        let mut message = Vec::with_capacity(sql.len() + 6);
        let length = u32::try_from(sql.len() + 5)
            .map_err(|_| PgError::Protocol("a statement is too long"))?;
        message.push(b'Q');
        message.extend(length.to_be_bytes());
        message.extend(sql);
        message.push(0);
        self.send(&message)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), PgError> {
        let sent = match &mut self.stream {
            Stream::Tcp(socket) => socket.write_all(bytes),
            Stream::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
            Stream::Unix(socket) => socket.write_all(bytes),
        };
        sent.map_err(|error| PgError::from_io(error, self.stall))
    }

    /// Reads the next message's tag and the length of its body.
    fn header(&mut self) -> Result<(u8, usize), PgError> {
        while self.end - self.start < 5 {
            self.fill()?;
        }
        let header = &self.buffer[self.start..self.start + 5];
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
        let tag = header[0];
        self.start += 5;
        // The length counts itself.
        let length = (length as usize)
            .checked_sub(4)
            .ok_or(PgError::Protocol("message length"))?;
        Ok((tag, length))
    }

    fn body(&mut self, length: usize) -> Result<Vec<u8>, PgError> {
        if length > MESSAGE_BYTES_MAX {
            return Err(PgError::Protocol("message too long"));
        }
        let mut body = Vec::with_capacity(length.min(BUFFER_BYTES));
        while body.len() < length {
            if self.start == self.end {
                self.fill()?;
            }
            let n = (length - body.len()).min(self.end - self.start);
            body.extend_from_slice(&self.buffer[self.start..self.start + n]);
            self.start += n;
        }
        Ok(body)
    }

    fn message(&mut self) -> Result<(u8, Vec<u8>), PgError> {
        let (tag, length) = self.header()?;
        Ok((tag, self.body(length)?))
    }

    /// Reads at least one more byte.
    fn fill(&mut self) -> Result<(), PgError> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let room = &mut self.buffer[self.end..];
        let read = match &mut self.stream {
            Stream::Tcp(socket) => socket.read(room),
            Stream::Tls(stream) => stream.read(room),
            Stream::Unix(socket) => socket.read(room),
        };
        match read.map_err(|error| PgError::from_io(error, self.stall))? {
            0 => Err(PgError::Lost(std::io::ErrorKind::UnexpectedEof.into())),
            n => {
                self.end += n;
                Ok(())
            }
        }
    }
}

impl Drop for Connection {
    /// Says goodbye, so that the server does not log an aborted connection.
    fn drop(&mut self) {
        let mut message = BytesMut::new();
        frontend::terminate(&mut message);
        let _gone_already = self.send(&message);
    }
}

fn data_row(body: &[u8]) -> Result<Row, PgError> {
    let malformed = PgError::Protocol("malformed row");
    let Some((count, mut rest)) = body.split_first_chunk::<2>() else {
        return Err(malformed);
    };
    let mut row = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let Some((length, tail)) = rest.split_first_chunk::<4>() else {
            return Err(malformed);
        };
        rest = tail;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            row.push(None);
            continue;
        };
        if rest.len() < length {
            return Err(malformed);
        }
        let (value, tail) = rest.split_at(length);
        row.push(Some(value.to_vec()));
        rest = tail;
    }
    Ok(row)
}
