//! The fixed address of an endpoint, whichever branch its compute serves, running or not.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::hub::Hub;

/// What has gone through an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    pub connections: u64,
    /// Of them, those through the pooler.
    pub pooled_connections: u64,
    pub bytes_to_clients: u64,
}

#[derive(Debug, Default)]
struct Counters {
    connections: AtomicU64,
    pooled_connections: AtomicU64,
    bytes_to_clients: AtomicU64,
}

/// Two open ports: the compute's and its pooler's. Dropping it closes both.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) direct: u16,
    pub(super) pooled: u16,
    counters: Arc<Counters>,
    doors: [JoinHandle<()>; 2],
}

#[derive(Clone)]
struct Door {
    hub: Weak<Hub>,
    endpoint: String,
    is_pooled: bool,
    counters: Arc<Counters>,
}

impl Gate {
    pub(super) async fn open(hub: Weak<Hub>, endpoint: &str) -> io::Result<Self> {
        let counters = Arc::<Counters>::default();
        let door = |is_pooled| Door {
            hub: hub.clone(),
            endpoint: endpoint.to_owned(),
            is_pooled,
            counters: counters.clone(),
        };
        let direct = TcpListener::bind(("127.0.0.1", 0)).await?;
        let pooled = TcpListener::bind(("127.0.0.1", 0)).await?;
        Ok(Self {
            direct: direct.local_addr()?.port(),
            pooled: pooled.local_addr()?.port(),
            doors: [
                tokio::spawn(door(false).serve(direct)),
                tokio::spawn(door(true).serve(pooled)),
            ],
            counters,
        })
    }

    pub(super) fn traffic(&self) -> Traffic {
        let Counters {
            connections,
            pooled_connections,
            bytes_to_clients,
        } = &*self.counters;
        Traffic {
            connections: connections.load(Ordering::Relaxed),
            pooled_connections: pooled_connections.load(Ordering::Relaxed),
            bytes_to_clients: bytes_to_clients.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        for door in &self.doors {
            door.abort();
        }
    }
}

impl Door {
    async fn serve(self, listener: TcpListener) {
        while let Ok((client, _)) = listener.accept().await {
            let door = self.clone();
            tokio::spawn(async move {
                let _either_side_has_gone = door.pass(client).await;
            });
        }
    }

    /// Wakes the compute, as Neon does, and connects the two.
    async fn pass(self, mut client: TcpStream) -> io::Result<()> {
        self.counters.connections.fetch_add(1, Ordering::Relaxed);
        if self.is_pooled {
            self.counters
                .pooled_connections
                .fetch_add(1, Ordering::Relaxed);
        }
        let hub = self.hub.upgrade().ok_or(io::ErrorKind::ConnectionRefused)?;
        let port = hub.wake(&self.endpoint, self.is_pooled).await;
        drop(hub);
        let port = port.ok_or(io::ErrorKind::ConnectionRefused)?;
        let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = server.split();
        tokio::select! {
            up = tokio::io::copy(&mut from_client, &mut to_server) => up.map(drop),
            down = self.down(&mut from_server, &mut to_client) => down,
        }
    }

    async fn down(
        &self,
        from: &mut (impl tokio::io::AsyncRead + Unpin),
        to: &mut (impl tokio::io::AsyncWrite + Unpin),
    ) -> io::Result<()> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = from.read(&mut buffer).await?;
            if read == 0 {
                return to.shutdown().await;
            }
            to.write_all(&buffer[..read]).await?;
            self.counters
                .bytes_to_clients
                .fetch_add(read as u64, Ordering::Relaxed);
        }
    }
}
