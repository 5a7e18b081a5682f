//! TLS to PostgreSQL: always `verify-full`.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use sha2::{Digest, Sha256, Sha384, Sha512};
use x509_cert::Certificate;
use x509_cert::der::Decode;

use super::PgError;
use super::gather::Gathering;

/// The server's answer to a request for TLS is one byte.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

pub(super) type TlsStream = Box<StreamOwned<ClientConnection, Gathering<TcpStream>>>;

/// Asks for TLS and completes the handshake, verifying chain and host name against the
/// system's roots (or `SSL_CERT_FILE`).
pub(super) fn start(mut socket: TcpStream, host: &str) -> Result<TlsStream, PgError> {
    socket.write_all(&SSL_REQUEST).map_err(PgError::Lost)?;
    let mut answer = [0];
    socket.read_exact(&mut answer).map_err(PgError::Lost)?;
    if answer != *b"S" {
        return Err(PgError::NoTls {
            host: host.to_owned(),
        });
    }
    let untrusted = |source| PgError::UntrustedTls {
        host: host.to_owned(),
        source,
    };
    let name = ServerName::try_from(host.to_owned())
        .map_err(|error| untrusted(io::Error::other(error)))?;
    let config = client_config().map_err(untrusted)?;
    let mut session = ClientConnection::new(Arc::new(config), name)
        .map_err(|error| untrusted(io::Error::other(error)))?;
    while session.is_handshaking() {
        session.complete_io(&mut socket).map_err(untrusted)?;
    }
    Ok(Box::new(StreamOwned::new(session, Gathering::new(socket))))
}

fn client_config() -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(io::Error::other("no root certificates on this system"));
    }
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// The `tls-server-end-point` binding of RFC 5929: the hash of the server's certificate, by
/// its signature's algorithm, where MD5 and SHA-1 count as SHA-256.
pub(super) fn end_point(stream: &TlsStream) -> Option<Vec<u8>> {
    let certificate: &CertificateDer<'_> = stream.conn.peer_certificates()?.first()?;
    let parsed = Certificate::from_der(certificate).ok()?;
    let algorithm = parsed.signature_algorithm().oid.to_string();
    Some(match algorithm.as_str() {
        // sha384WithRSAEncryption, ecdsa-with-SHA384
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => Sha384::digest(certificate).to_vec(),
        // sha512WithRSAEncryption, ecdsa-with-SHA512
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => Sha512::digest(certificate).to_vec(),
        // md5, sha1 and sha256 with RSA; ecdsa with SHA1 and SHA256
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.1"
        | "1.2.840.10045.4.3.2" => Sha256::digest(certificate).to_vec(),
        // Undefined for others (Ed25519, RSA-PSS): no binding, as libpq does.
        _ => return None,
    })
}
