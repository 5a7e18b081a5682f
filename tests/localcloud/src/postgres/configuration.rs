//! How a cluster is made and set up.

use std::fs;
use std::path::Path;

use super::folder::{random_password, write_private};
use super::program::run;
use super::{Certificate, Cluster, PostgresError, SUPERUSER};

/// How clients prove who they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// By password; the superuser gets a random one.
    #[default]
    Scram,
    /// Anybody on this machine is whoever they say.
    Trust,
}

/// What a new cluster is like. Options of an existing folder are taken anew at every start.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub auth: Auth,
    /// Debian's builds only; the others have no TLS.
    pub tls: Option<Certificate>,
    /// Whether commits reach the disk. Tests do without.
    pub fsync: bool,
    /// Further arguments of `initdb`.
    pub initdb: Vec<String>,
    /// Further lines of `postgresql.conf`, which win over ours.
    pub settings: Vec<String>,
}

impl Cluster {
    pub(super) fn initialize(&self, options: &Options) -> Result<(), PostgresError> {
        let password = random_password()
            .map_err(|source| PostgresError::file(Path::new("/dev/urandom"), source))?;
        let pgpass = self.dir.join("pgpass");
        write_private(&pgpass, &format!("*:*:*:{SUPERUSER}:{password}\n"))?;
        let pwfile = self.dir.join("initial-password");
        write_private(&pwfile, &password)?;
        self.user
            .own(&pwfile)
            .map_err(|source| PostgresError::file(&pwfile, source))?;

        let mut initdb = self.user.command(&self.server_bin.join("initdb"), "KILL");
        initdb
            .arg("-D")
            .arg(self.data_dir())
            .arg(format!("--pwfile={}", pwfile.display()));
        initdb.args([
            "-U",
            SUPERUSER,
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "--lc-messages=C",
            "--auth=scram-sha-256",
        ]);
        if !options.fsync {
            initdb.arg("--no-sync");
        }
        initdb.args(&options.initdb).current_dir("/");
        let made = run(&mut initdb);
        fs::remove_file(&pwfile).map_err(|source| PostgresError::file(&pwfile, source))?;
        made.map(drop)
    }

    pub(super) fn read_password(&self) -> Result<String, PostgresError> {
        let path = self.dir.join("pgpass");
        let line =
            fs::read_to_string(&path).map_err(|source| PostgresError::file(&path, source))?;
        Ok(line
            .trim_end()
            .rsplit(':')
            .next()
            .unwrap_or_default()
            .to_owned())
    }

    pub(super) fn write_settings(&self, options: &Options) -> Result<(), PostgresError> {
        let on_off = |on| if on { "on" } else { "off" };
        let mut conf = format!(
            "listen_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\n\
             fsync = {fsync}\nsynchronous_commit = {fsync}\nfull_page_writes = {fsync}\n\
             log_line_prefix = '%m [%p] %u@%d/%a '\ntimezone = 'UTC'\nlog_timezone = 'UTC'\n",
            self.dir.display(),
            fsync = on_off(options.fsync),
        );
        if let Some(certificate) = &options.tls {
            let (cert, key) = certificate.install(&self.data_dir(), &self.user)?;
            conf.push_str(&format!(
                "ssl = on\nssl_cert_file = '{cert}'\nssl_key_file = '{key}'\n"
            ));
        }
        for line in &options.settings {
            conf.push_str(line);
            conf.push('\n');
        }
        let method = match options.auth {
            Auth::Scram => "scram-sha-256",
            Auth::Trust => "trust",
        };
        let mut access = String::new();
        for (kind, address) in [("local", ""), ("host", "127.0.0.1/32")] {
            for database in ["all", "replication"] {
                access.push_str(&format!("{kind} {database} all {address} {method}\n"));
            }
        }
        // In files of our own, so that what initdb wrote stays to compare with.
        for (name, text) in [("postgresql.auto.conf", conf), ("pg_hba.conf", access)] {
            let path = self.data_dir().join(name);
            fs::write(&path, text).map_err(|source| PostgresError::file(&path, source))?;
        }
        Ok(())
    }
}
