//! Opening a connection: address, TLS, startup, authentication.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use postgres_protocol::message::frontend;

use super::gather::Gathering;
use super::{BUFFER_BYTES, Connection, PgError, ServerError, Stream, tls};
use crate::database_url::{DatabaseUrl, Tls};

/// Covers a serverless compute that has to wake up first.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Together: who answers no probe for 50 s is gone. The server is asked for the same
/// ([`super::session`]).
const KEEPALIVE_IDLE: Duration = Duration::from_secs(20);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;

impl Connection {
    /// Connects and authenticates. Any later read or write that moves no byte for `stall`
    /// fails.
    pub fn open(url: &DatabaseUrl, stall: Duration) -> Result<Self, PgError> {
        let mut connection = Self {
            stream: open_stream(url)?,
            buffer: vec![0; BUFFER_BYTES],
            start: 0,
            end: 0,
            backend_pid: 0,
            secret: Vec::new(),
            stall: CONNECT_TIMEOUT,
        };
        connection.set_timeouts(CONNECT_TIMEOUT)?;
        connection.start_up(url)?;
        connection.set_timeouts(stall)?;
        Ok(connection)
    }

    /// From now on, `stall` is how long nothing may move.
    pub fn set_timeouts(&mut self, stall: Duration) -> Result<(), PgError> {
        self.stall = stall;
        let stall = Some(stall);
        let set = |socket: &TcpStream| {
            socket.set_read_timeout(stall)?;
            socket.set_write_timeout(stall)
        };
        let done = match &self.stream {
            Stream::Tcp(socket) => set(&socket.socket),
            Stream::Tls(stream) => set(&stream.sock.socket),
            Stream::Unix(Gathering { socket, .. }) => socket
                .set_read_timeout(stall)
                .and_then(|()| socket.set_write_timeout(stall)),
        };
        done.map_err(PgError::Lost)
    }

    fn start_up(&mut self, url: &DatabaseUrl) -> Result<(), PgError> {
        let parameters = [
            ("user", url.user.as_str()),
            ("database", url.database.as_str()),
            ("application_name", "lifeboat"),
        ];
        let mut message = BytesMut::new();
        frontend::startup_message(parameters, &mut message).map_err(PgError::Lost)?;
        self.send(&message)?;
        self.authenticate(url)?;
        loop {
            let (tag, body) = self.message()?;
            match tag {
                b'K' => {
                    let (pid, secret) = body
                        .split_first_chunk::<4>()
                        .ok_or(PgError::Protocol("key data"))?;
                    self.backend_pid = i32::from_be_bytes(*pid);
                    self.secret = secret.to_vec();
                }
                b'E' => return Err(refused(url, ServerError::parse(&body))),
                b'Z' => return Ok(()),
                _ => {}
            }
        }
    }

    fn authenticate(&mut self, url: &DatabaseUrl) -> Result<(), PgError> {
        loop {
            let (tag, body) = self.message()?;
            match tag {
                b'E' => return Err(refused(url, ServerError::parse(&body))),
                b'R' => {}
                _ => continue,
            }
            let (method, rest) = body
                .split_first_chunk::<4>()
                .ok_or(PgError::Protocol("auth"))?;
            match i32::from_be_bytes(*method) {
                0 => return Ok(()),
                3 => self.send_password(url.password.as_bytes())?,
                5 => {
                    let salt = rest
                        .first_chunk::<4>()
                        .ok_or(PgError::Protocol("md5 salt"))?;
                    let hash = md5_hash(url.user.as_bytes(), url.password.as_bytes(), *salt);
                    self.send_password(hash.as_bytes())?;
                }
                10 => self.scram(url, rest)?,
                _ => {
                    let host = url.host.clone();
                    return Err(PgError::AuthenticationMethod { host });
                }
            }
        }
    }

    fn send_password(&mut self, password: &[u8]) -> Result<(), PgError> {
        let mut message = BytesMut::new();
        frontend::password_message(password, &mut message).map_err(PgError::Lost)?;
        self.send(&message)
    }

    /// SCRAM-SHA-256 (RFC 7677), bound to the TLS channel where the server offers it.
    fn scram(&mut self, url: &DatabaseUrl, mechanisms: &[u8]) -> Result<(), PgError> {
        let offers = |name: &str| {
            mechanisms
                .split(|b| *b == 0)
                .any(|it| it == name.as_bytes())
        };
        let binding = match &self.stream {
            Stream::Tls(stream) => tls::end_point(stream),
            Stream::Tcp(_) | Stream::Unix(_) => None,
        };
        let (binding, mechanism) = match binding {
            Some(end_point) if offers(SCRAM_SHA_256_PLUS) => (
                ChannelBinding::tls_server_end_point(end_point),
                SCRAM_SHA_256_PLUS,
            ),
            Some(_) => (ChannelBinding::unrequested(), SCRAM_SHA_256),
            None => (ChannelBinding::unsupported(), SCRAM_SHA_256),
        };
        if !offers(mechanism) {
            let host = url.host.clone();
            return Err(PgError::AuthenticationMethod { host });
        }
        let mut scram = ScramSha256::new(url.password.as_bytes(), binding);
        let mut message = BytesMut::new();
        frontend::sasl_initial_response(mechanism, scram.message(), &mut message)
            .map_err(PgError::Lost)?;
        self.send(&message)?;

        let challenge = self.sasl_message(url, 11)?;
        scram.update(&challenge).map_err(PgError::Lost)?;
        message.clear();
        frontend::sasl_response(scram.message(), &mut message).map_err(PgError::Lost)?;
        self.send(&message)?;

        let proof = self.sasl_message(url, 12)?;
        scram.finish(&proof).map_err(PgError::Lost)
    }

    fn sasl_message(&mut self, url: &DatabaseUrl, expected: i32) -> Result<Vec<u8>, PgError> {
        loop {
            let (tag, body) = self.message()?;
            match tag {
                b'E' => return Err(refused(url, ServerError::parse(&body))),
                b'R' => {
                    let split = body.split_first_chunk::<4>();
                    let (method, rest) = split.ok_or(PgError::Protocol("auth"))?;
                    if i32::from_be_bytes(*method) != expected {
                        return Err(PgError::Protocol("auth out of order"));
                    }
                    return Ok(rest.to_vec());
                }
                _ => {}
            }
        }
    }
}

/// A refusal while connecting, by what to do about it.
fn refused(url: &DatabaseUrl, source: ServerError) -> PgError {
    let is_login = source.code.starts_with("28");
    if !is_login {
        return PgError::Server(source);
    }
    PgError::Authentication {
        host: url.host.clone(),
        user: url.user.clone(),
        source: Box::new(source),
    }
}

/// A statement may take an hour without a byte: keepalives hold its connection open in whatever
/// lies between (a NAT gateway of AWS forgets it after 350 s), and tell when the other side is gone.
///
/// No `TCP_USER_TIMEOUT`: it would also end a connection whose server lives and does not read
/// rows for a while, behind a lock or a slow disk (Linux, `tcp_probe_timer`).
fn keep_alive(socket: &TcpStream) -> io::Result<()> {
    let socket = socket2::SockRef::from(socket);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    socket.set_tcp_keepalive(&keepalive)
}

pub(super) fn open_stream(url: &DatabaseUrl) -> Result<Stream, PgError> {
    let unreachable = |source| PgError::Unreachable {
        host: url.host.clone(),
        port: url.port,
        source,
    };
    if url.is_socket() {
        let path = format!("{}/.s.PGSQL.{}", url.host, url.port);
        return UnixStream::connect(path)
            .map(|socket| Stream::Unix(Gathering::new(socket)))
            .map_err(unreachable);
    }
    let addresses = (url.host.as_str(), url.port).to_socket_addrs();
    let addresses = addresses.map_err(|source| PgError::UnknownHost {
        host: url.host.clone(),
        source,
    })?;
    let mut last = io::Error::other("the host has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(socket) => {
                socket.set_nodelay(true).map_err(unreachable)?;
                keep_alive(&socket).map_err(unreachable)?;
                socket
                    .set_read_timeout(Some(CONNECT_TIMEOUT))
                    .map_err(unreachable)?;
                return match url.tls {
                    Tls::Local => Ok(Stream::Tcp(Gathering::new(socket))),
                    Tls::VerifyFull => tls::start(socket, &url.host).map(Stream::Tls),
                };
            }
            Err(error) => last = error,
        }
    }
    Err(unreachable(last))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_silent_server_is_probed_and_one_that_only_does_not_read_is_waited_for() {
        let server = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!(
            "postgresql://u:p@127.0.0.1:{}/db",
            server.local_addr().unwrap().port()
        );
        let url = DatabaseUrl::parse(&url).unwrap();
        let Stream::Tcp(socket) = open_stream(&url).unwrap() else {
            panic!("not by TCP");
        };
        let socket = socket2::SockRef::from(&socket.socket);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_IDLE);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE_INTERVAL);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), KEEPALIVE_RETRIES);
        assert_eq!(socket.tcp_user_timeout().unwrap(), None);
    }
}
