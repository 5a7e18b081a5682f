//! A certificate authority for tests, and the certificates a server may wrongly present. Made with the OpenSSL program.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::PostgresError;
use super::program::run;
use crate::bound_child::ServerUser;

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing: for `localhost` and 127.0.0.1, signed by the authority, valid.
    None,
    /// Ended yesterday.
    Expired,
    /// Of `elsewhere.example`.
    WrongHost,
    /// Right in every way, but signed by itself.
    SelfSigned,
}

/// A certificate and its key, both PEM files.
#[derive(Clone, Debug)]
pub struct Certificate {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Certificate {
    /// Copies both to where a server can and will read them; a key must belong to the server's user alone.
    pub(crate) fn install(
        &self,
        data: &Path,
        user: &ServerUser,
    ) -> Result<(&'static str, &'static str), PostgresError> {
        for (from, to) in [(&self.certificate, "server.crt"), (&self.key, "server.key")] {
            let to = data.join(to);
            let describe = |source| PostgresError::file(&to, source);
            let pem = fs::read(from).map_err(|source| PostgresError::file(from, source))?;
            fs::remove_file(&to).ok();
            let file = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&to);
            std::io::Write::write_all(&mut file.map_err(describe)?, &pem).map_err(describe)?;
            user.own(&to).map_err(describe)?;
        }
        Ok(("server.crt", "server.key"))
    }
}

/// An authority in a folder of its own.
#[derive(Debug)]
pub struct Authority {
    dir: PathBuf,
}

impl Authority {
    /// # Errors
    ///
    /// The folder cannot be written or `openssl` is missing.
    pub fn create(dir: &Path) -> Result<Self, PostgresError> {
        fs::create_dir_all(dir).map_err(|source| PostgresError::file(dir, source))?;
        let authority = Self {
            dir: dir.to_owned(),
        };
        let mut openssl = authority.openssl("req");
        openssl.args([
            "-x509",
            "-days",
            "30",
            "-subj",
            "/CN=Lifeboat test authority",
        ]);
        run(openssl
            .args(NEW_KEY)
            .args(["-keyout", "authority.key", "-out", "authority.pem"]))?;
        Ok(authority)
    }

    /// What clients must trust: `sslrootcert`, `SSL_CERT_FILE`.
    #[must_use]
    pub fn root_certificate(&self) -> PathBuf {
        self.dir.join("authority.pem")
    }

    /// # Errors
    ///
    /// What `openssl` said.
    pub fn issue(&self, flaw: Flaw) -> Result<Certificate, PostgresError> {
        let (name, host, address, days) = match flaw {
            Flaw::None => ("good", "localhost", "127.0.0.1", "30"),
            Flaw::Expired => ("expired", "localhost", "127.0.0.1", "-1"),
            Flaw::WrongHost => ("wrong-host", "elsewhere.example", "192.0.2.1", "30"),
            Flaw::SelfSigned => ("self-signed", "localhost", "127.0.0.1", "30"),
        };
        let [key, request, extensions, certificate] =
            ["key", "csr", "ext", "pem"].map(|ending| format!("{name}.{ending}"));
        let names = self.dir.join(&extensions);
        fs::write(
            &names,
            format!("subjectAltName=DNS:{host},IP:{address}\nbasicConstraints=CA:FALSE\n"),
        )
        .map_err(|source| PostgresError::file(&names, source))?;

        let subject = format!("/CN={host}");
        run(self
            .openssl("req")
            .args(NEW_KEY)
            .args(["-subj", &subject, "-keyout", &key, "-out", &request]))?;
        let mut sign = self.openssl("x509");
        sign.args([
            "-req",
            "-in",
            &request,
            "-days",
            days,
            "-extfile",
            &extensions,
            "-out",
            &certificate,
        ]);
        match flaw {
            Flaw::SelfSigned => sign.args(["-signkey", &key]),
            Flaw::None | Flaw::Expired | Flaw::WrongHost => sign.args([
                "-CA",
                "authority.pem",
                "-CAkey",
                "authority.key",
                "-CAcreateserial",
            ]),
        };
        run(&mut sign)?;
        Ok(Certificate {
            certificate: self.dir.join(certificate),
            key: self.dir.join(key),
        })
    }

    fn openssl(&self, subcommand: &str) -> Command {
        let mut command = Command::new("openssl");
        command.arg(subcommand).current_dir(&self.dir);
        command
    }
}

const NEW_KEY: [&str; 5] = [
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-nodes",
];
