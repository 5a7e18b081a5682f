//! Reading many rows in few pieces.

use std::io::{self, Read, Write};
use std::thread;
use std::time::Duration;

/// A server sends rows 8 KB at a time. To wake up for each costs both sides more than the rows do;
/// in this time some dozens of kilobytes come, which is less than the kernel holds for us.
const PAUSE: Duration = Duration::from_micros(200);

/// A socket. While rows are coming, whoever has read all that was there lets a moment pass
/// before asking for more. It makes no difference how the bytes are read then: by TLS in
/// records, without it as they come.
#[derive(Debug)]
pub(super) struct Gathering<S> {
    pub(super) socket: S,
    /// Rows are coming: many, and no answer that somebody waits for.
    pub(super) is_on: bool,
    /// The last read took all that there was.
    is_drained: bool,
}

impl<S> Gathering<S> {
    pub(super) fn new(socket: S) -> Self {
        Self {
            socket,
            is_on: false,
            is_drained: false,
        }
    }
}

impl<S: Read> Read for Gathering<S> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        if self.is_on && self.is_drained {
            thread::sleep(PAUSE);
        }
        let n = self.socket.read(room)?;
        self.is_drained = n < room.len();
        Ok(n)
    }
}

impl<S: Write> Write for Gathering<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::time::Instant;

    use super::*;

    /// How many reads it takes to get what comes 8 KB at a time, one every 20 µs.
    fn reads(is_on: bool) -> usize {
        const PIECES: usize = 400;
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let sending = thread::spawn(move || {
            let (mut server, _) = listener.accept().unwrap();
            for _ in 0..PIECES {
                server.write_all(&[7; 8192]).unwrap();
                let next = Instant::now() + Duration::from_micros(20);
                while Instant::now() < next {
                    std::hint::spin_loop();
                }
            }
        });
        let mut socket = Gathering::new(TcpStream::connect(address).unwrap());
        socket.is_on = is_on;
        let (mut room, mut bytes, mut reads) = (vec![0; 256 << 10], 0, 0);
        while bytes < PIECES * 8192 {
            bytes += socket.read(&mut room).unwrap();
            reads += 1;
        }
        sending.join().unwrap();
        reads
    }

    #[test]
    fn rows_are_read_in_fewer_pieces_than_they_come_in() {
        let (each, gathered) = (reads(false), reads(true));
        assert!(gathered <= 200, "{gathered} reads, {each} without");
    }
}
