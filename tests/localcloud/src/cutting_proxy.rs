//! A TCP proxy before a server that cuts, closes or stalls connections: after so many bytes, or when told to.

mod connection;

use std::io::{self, Read as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use self::connection::{Connection, Direction, Streams, reset_when_closed};

/// How a connection ends, as its client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// "Connection reset by peer", as from a host that went away and came back.
    Reset,
    /// An orderly end of stream that nobody expected.
    Close,
    /// Nothing more arrives and nothing is refused, until [`CuttingProxy::resume`]; keepalives are answered.
    Stall,
}

/// Cuts one connection, counted from 0 in the order of arrival, once so many bytes went from server to client.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// `None`: every connection.
    pub connection: Option<usize>,
    /// Bytes that still reach the client; the cut comes exactly after them.
    pub after_bytes: u64,
    pub cut: Cut,
}

/// What is known about one connection, also after its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionReport {
    pub number: usize,
    /// The port of the proxy's side towards the server: `client_port` in `pg_stat_activity`, which names the backend.
    pub server_side_port: u16,
    pub bytes_to_client: u64,
    pub bytes_to_server: u64,
    pub open: bool,
}

/// A running proxy. Dropping it resets whatever is open.
#[derive(Debug)]
pub struct CuttingProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    state: Mutex<State>,
    /// Told when a stall ends or the proxy does.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<Rule>,
    refusing: bool,
    ended: bool,
    connections: Vec<Arc<Connection>>,
}

impl CuttingProxy {
    /// Listens on a free port of loopback and forwards to `upstream`.
    ///
    /// # Errors
    ///
    /// No port can be bound.
    pub fn start(upstream: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.state().ended {
                    return;
                }
                // A client that the server refuses sees its connection closed, as without us.
                accepting.serve(client).ok();
            }
        });
        Ok(Self { address, shared })
    }

    /// Before a server on loopback.
    ///
    /// # Errors
    ///
    /// No port can be bound.
    pub fn before_port(port: u16) -> io::Result<Self> {
        Self::start(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// `url` of a server on `server_port`, with our port instead.
    #[must_use]
    pub fn url(&self, url: &str, server_port: u16) -> String {
        url.replacen(
            &format!(":{server_port}/"),
            &format!(":{}/", self.port()),
            1,
        )
    }

    /// Holds for connections that are open and those to come, until [`CuttingProxy::forget_rules`].
    pub fn add_rule(&self, rule: Rule) {
        self.shared.state().rules.push(rule);
    }

    pub fn forget_rules(&self) {
        self.shared.state().rules.clear();
    }

    /// Whether new connections are reset at once.
    pub fn refuse_new(&self, refuse: bool) {
        self.shared.state().refusing = refuse;
    }

    /// All connections so far, in the order of arrival.
    #[must_use]
    pub fn connections(&self) -> Vec<ConnectionReport> {
        self.shared
            .state()
            .connections
            .iter()
            .map(|connection| connection.report())
            .collect()
    }

    /// Cuts one connection now. `false` if there is no such connection or it is over.
    #[must_use]
    pub fn cut(&self, number: usize, cut: Cut) -> bool {
        let connection = self.shared.state().connections.get(number).cloned();
        connection.is_some_and(|connection| {
            let open = connection.open.load(Ordering::Acquire);
            connection.cut(cut);
            open
        })
    }

    /// Cuts the connection that `client_port` in `pg_stat_activity` names.
    #[must_use]
    pub fn cut_backend(&self, client_port: u16, cut: Cut) -> bool {
        let found = self
            .connections()
            .into_iter()
            .find(|report| report.open && report.server_side_port == client_port);
        found.is_some_and(|report| self.cut(report.number, cut))
    }

    pub fn cut_all(&self, cut: Cut) {
        let connections = self.shared.state().connections.clone();
        connections
            .iter()
            .for_each(|connection| connection.cut(cut));
    }

    /// Ends every stall: what was held back is forwarded.
    pub fn resume(&self) {
        let connections = self.shared.state().connections.clone();
        for connection in connections {
            connection.stalled.store(false, Ordering::Release);
        }
        self.shared.changed.notify_all();
    }

    /// Waits until `happened` says so of the connections. `false` if it never did.
    #[must_use]
    pub fn wait_until(
        &self,
        timeout: Duration,
        happened: impl Fn(&[ConnectionReport]) -> bool,
    ) -> bool {
        let deadline = Instant::now() + timeout;
        while Instant::now() < deadline {
            if happened(&self.connections()) {
                return true;
            }
            thread::sleep(Duration::from_millis(2));
        }
        false
    }
}

impl Drop for CuttingProxy {
    fn drop(&mut self) {
        self.shared.state().ended = true;
        self.cut_all(Cut::Reset);
        self.shared.changed.notify_all();
        // Wakes the thread that accepts, so that it sees the end.
        TcpStream::connect(self.address).ok();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(self: &Arc<Self>, client: TcpStream) -> io::Result<()> {
        if self.state().refusing {
            return reset_when_closed(&client);
        }
        let server = TcpStream::connect(self.upstream)?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        // A write to a client that does not read must notice a cut all the same.
        client.set_write_timeout(Some(Duration::from_millis(50)))?;
        let server_side_port = server.local_addr()?.port();
        let streams = Streams {
            client: Arc::new(client),
            server: Arc::new(server),
        };
        let connection = {
            let mut state = self.state();
            let connection = Arc::new(Connection {
                number: state.connections.len(),
                server_side_port,
                streams: Mutex::new(Some(streams.clone())),
                bytes_to_client: AtomicU64::new(0),
                bytes_to_server: AtomicU64::new(0),
                open: AtomicBool::new(true),
                stalled: AtomicBool::new(false),
            });
            state.connections.push(Arc::clone(&connection));
            connection
        };
        for direction in [Direction::ToClient, Direction::ToServer] {
            let (shared, connection, streams) =
                (Arc::clone(self), Arc::clone(&connection), streams.clone());
            thread::spawn(move || {
                // Either side may be gone already; that is what ends a connection.
                shared.forward(&connection, &streams, direction).ok();
                connection.pass_on_end(&streams, direction);
            });
        }
        Ok(())
    }

    fn forward(
        &self,
        connection: &Connection,
        streams: &Streams,
        direction: Direction,
    ) -> io::Result<()> {
        let (mut from, to) = match direction {
            Direction::ToClient => (&*streams.server, &*streams.client),
            Direction::ToServer => (&*streams.client, &*streams.server),
        };
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = from.read(&mut buffer)?;
            let mut rest = buffer.get(..length).unwrap_or_default();
            if rest.is_empty() {
                return Ok(());
            }
            while !rest.is_empty() {
                self.wait_while_stalled(connection);
                rest = match direction {
                    Direction::ToClient => self.send_up_to_the_cut(connection, to, rest)?,
                    Direction::ToServer => {
                        connection.send(to, rest, &connection.bytes_to_server)?;
                        &[]
                    }
                };
            }
        }
    }

    /// Sends what may still pass, cuts if that was all, and returns the rest.
    fn send_up_to_the_cut<'a>(
        &self,
        connection: &Connection,
        to: &TcpStream,
        data: &'a [u8],
    ) -> io::Result<&'a [u8]> {
        let Some(rule) = self.next_cut(connection) else {
            connection.send(to, data, &connection.bytes_to_client)?;
            return Ok(&[]);
        };
        let left = rule.after_bytes - connection.bytes_to_client.load(Ordering::Acquire);
        let (now, later) =
            data.split_at(data.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
        connection.send(to, now, &connection.bytes_to_client)?;
        if now.len() as u64 == left {
            connection.cut(rule.cut);
        }
        Ok(later)
    }

    /// The rule that comes next for this connection; those behind it have had their turn.
    fn next_cut(&self, connection: &Connection) -> Option<Rule> {
        let sent = connection.bytes_to_client.load(Ordering::Acquire);
        let state = self.state();
        let of_this = |rule: &&Rule| {
            rule.connection
                .is_none_or(|number| number == connection.number)
        };
        state
            .rules
            .iter()
            .filter(of_this)
            .filter(|rule| rule.after_bytes > sent)
            .min_by_key(|rule| rule.after_bytes)
            .copied()
    }

    fn wait_while_stalled(&self, connection: &Connection) {
        let mut state = self.state();
        while connection.stalled.load(Ordering::Acquire)
            && connection.open.load(Ordering::Acquire)
            && !state.ended
        {
            // Woken by `resume`; the limit is for a cut that ends a stall.
            let waited = self.changed.wait_timeout(state, Duration::from_millis(50));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
