//! One connection through the proxy, and the ways it ends.

use std::io::{self, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use socket2::SockRef;

use super::{ConnectionReport, Cut};

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) number: usize,
    pub(super) server_side_port: u16,
    /// Gone once the connection is over: a reset goes out when the last owner lets go.
    pub(super) streams: Mutex<Option<Streams>>,
    pub(super) bytes_to_client: AtomicU64,
    pub(super) bytes_to_server: AtomicU64,
    pub(super) open: AtomicBool,
    pub(super) stalled: AtomicBool,
}

#[derive(Clone, Debug)]
pub(super) struct Streams {
    pub(super) client: Arc<TcpStream>,
    pub(super) server: Arc<TcpStream>,
}

#[derive(Clone, Copy)]
pub(super) enum Direction {
    ToClient,
    ToServer,
}

impl Connection {
    pub(super) fn report(&self) -> ConnectionReport {
        ConnectionReport {
            number: self.number,
            server_side_port: self.server_side_port,
            bytes_to_client: self.bytes_to_client.load(Ordering::Acquire),
            bytes_to_server: self.bytes_to_server.load(Ordering::Acquire),
            open: self.open.load(Ordering::Acquire),
        }
    }

    pub(super) fn streams(&self) -> MutexGuard<'_, Option<Streams>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes all of `data`, unless the connection is cut meanwhile.
    pub(super) fn send(
        &self,
        mut to: &TcpStream,
        mut data: &[u8],
        count: &AtomicU64,
    ) -> io::Result<()> {
        while !data.is_empty() {
            if !self.open.load(Ordering::Acquire) {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            match to.write(data) {
                Ok(written) => {
                    count.fetch_add(written as u64, Ordering::AcqRel);
                    data = data.get(written..).unwrap_or_default();
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The server's side always ends as by a client that went away.
    pub(super) fn cut(&self, cut: Cut) {
        if cut == Cut::Stall {
            self.stalled.store(true, Ordering::Release);
            return;
        }
        self.open.store(false, Ordering::Release);
        let Some(streams) = self.streams().take() else {
            return;
        };
        let ended = match cut {
            // Ends our own reading without telling the client; closing then resets.
            Cut::Reset => reset_when_closed(&streams.client)
                .and_then(|()| streams.client.shutdown(Shutdown::Read)),
            Cut::Close | Cut::Stall => streams.client.shutdown(Shutdown::Both),
        };
        // Either fails only if the client has gone by itself.
        ended.ok();
        streams.server.shutdown(Shutdown::Both).ok();
    }

    /// One side has ended by itself: the other learns it. The connection is over when the server has ended.
    pub(super) fn pass_on_end(&self, streams: &Streams, direction: Direction) {
        if !self.open.load(Ordering::Acquire) {
            return;
        }
        match direction {
            Direction::ToClient => self.cut(Cut::Close),
            Direction::ToServer => {
                streams.server.shutdown(Shutdown::Write).ok();
            }
        }
    }
}

/// Makes closing `stream` send a reset instead of an orderly end.
pub(super) fn reset_when_closed(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}
