//! Asking the server to give up what a connection is doing.

use std::io::{Read as _, Write as _};

use super::connect::open_stream;
use super::{Connection, PgError, Stream};
use crate::database_url::DatabaseUrl;

/// The protocol's number of a request to cancel, where a version would be.
const REQUEST: u32 = 80_877_102;

/// Cancels the statement of one connection, from any thread. Unlike a hang-up it also ends
/// what the server does without reading or writing, such as building an index.
#[derive(Clone)]
pub struct Cancel {
    url: DatabaseUrl,
    request: Vec<u8>,
}

impl std::fmt::Debug for Cancel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cancel")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// `url` is the one that the connection was opened with.
    pub fn cancel(&self, url: &DatabaseUrl) -> Cancel {
        let body = [
            &REQUEST.to_be_bytes()[..],
            &self.backend_pid.to_be_bytes(),
            &self.secret,
        ]
        .concat();
        // The length counts itself.
        let length = u32::try_from(body.len() + 4).unwrap_or_default();
        Cancel {
            url: url.clone(),
            request: [&length.to_be_bytes()[..], &body].concat(),
        }
    }
}

impl Cancel {
    /// Returns once the server has taken the request; the statement fails a moment later,
    /// unless it has ended.
    pub fn now(&self) -> Result<(), PgError> {
        let mut stream = open_stream(&self.url)?;
        let mut end = [0; 1];
        let asked = match &mut stream {
            Stream::Tcp(socket) => socket
                .write_all(&self.request)
                .and_then(|()| socket.read(&mut end)),
            Stream::Tls(stream) => stream
                .write_all(&self.request)
                .and_then(|()| stream.flush())
                .and_then(|()| stream.read(&mut end)),
            Stream::Unix(socket) => socket
                .write_all(&self.request)
                .and_then(|()| socket.read(&mut end)),
        };
        match asked {
            Ok(_) => Ok(()),
            // A server that closes without a goodbye of TLS has taken it, too.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(()),
            Err(error) => Err(PgError::Lost(error)),
        }
    }
}
