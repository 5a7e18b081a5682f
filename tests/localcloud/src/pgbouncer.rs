//! Debian's real PgBouncer before a cluster, as hosted databases have one.

use std::fs;
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::bound_child::{self, ServerUser};
use crate::postgres::{Certificate, Cluster, PostgresError, SUPERUSER, free_port};

const PROGRAM: &str = "/usr/sbin/pgbouncer";
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a client keeps the server connection it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolMode {
    /// Until it leaves: invisible to a dump.
    Session,
    /// Until its transaction ends: what a dump must refuse.
    Transaction,
}

/// Who may come, besides the superuser, and how.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clients<'a> {
    /// Roles with their passwords.
    pub(crate) roles: &'a [(String, String)],
    /// With it, clients must use TLS.
    pub(crate) certificate: Option<&'a Certificate>,
}

/// A running PgBouncer. Dropping it ends it.
#[derive(Debug)]
pub struct PgBouncer {
    port: u16,
    process: Child,
    dir: PathBuf,
    password: Option<String>,
}

impl PgBouncer {
    /// Starts a pooler before `cluster`, for its superuser and every database, with `pool_size` server connections
    /// for each of them.
    ///
    /// # Errors
    ///
    /// PgBouncer is not installed (`apt-get install pgbouncer`) or does not start.
    pub fn start(cluster: &Cluster, mode: PoolMode, pool_size: u16) -> Result<Self, PostgresError> {
        Self::start_for(cluster, mode, pool_size, &Clients::default())
    }

    /// As [`PgBouncer::start`], for further roles too.
    pub(crate) fn start_for(
        cluster: &Cluster,
        mode: PoolMode,
        pool_size: u16,
        clients: &Clients<'_>,
    ) -> Result<Self, PostgresError> {
        let user =
            ServerUser::find().map_err(|source| PostgresError::file(Path::new(PROGRAM), source))?;
        let port = free_port().map_err(|source| PostgresError::file(Path::new(PROGRAM), source))?;
        let dir = cluster.socket_dir().join(format!("pgbouncer-{port}"));
        fs::create_dir_all(&dir).map_err(|source| PostgresError::file(&dir, source))?;
        user.own(&dir)
            .map_err(|source| PostgresError::file(&dir, source))?;

        let password = cluster.password().map(str::to_owned);
        let (authentication, users) = match &password {
            // Kept in clear, it serves both for asking clients and for answering the server.
            Some(password) => ("scram-sha-256", format!("\"{SUPERUSER}\" \"{password}\"\n")),
            None => ("any", String::new()),
        };
        let mode = match mode {
            PoolMode::Session => "session",
            PoolMode::Transaction => "transaction",
        };
        let any_user = if password.is_none() {
            format!(" user={SUPERUSER}")
        } else {
            String::new()
        };
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={server}{any_user}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = {authentication}\nauth_file = {dir}/users.txt\npool_mode = {mode}\n\
             default_pool_size = {pool_size}\nmax_client_conn = 200\nignore_startup_parameters = extra_float_digits,options\n",
            server = cluster.port(),
            dir = dir.display(),
        );
        let users = clients.roles.iter().fold(users, |users, (role, password)| {
            format!("{users}\"{role}\" \"{password}\"\n")
        });
        let settings = match clients.certificate {
            Some(certificate) => {
                let (certificate, key) = certificate.install(&dir, &user)?;
                let dir = dir.display();
                format!(
                    "{settings}client_tls_sslmode = require\nclient_tls_cert_file = {dir}/{certificate}\n\
                     client_tls_key_file = {dir}/{key}\n"
                )
            }
            None => settings,
        };
        for (name, text) in [("users.txt", users), ("pgbouncer.ini", settings)] {
            let path = dir.join(name);
            crate::postgres::write_private(&path, &text)?;
            user.own(&path)
                .map_err(|source| PostgresError::file(&path, source))?;
        }

        let process = spawn(&user, &dir)?;
        let mut bouncer = Self {
            port,
            process,
            dir,
            password,
        };
        bouncer.wait_until_ready()?;
        Ok(bouncer)
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// As [`Cluster::url`] for the superuser, through the pooler.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        let password = self
            .password
            .as_ref()
            .map(|password| format!(":{password}"))
            .unwrap_or_default();
        format!(
            "postgresql://{SUPERUSER}{password}@127.0.0.1:{}/{database}",
            self.port
        )
    }

    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    fn wait_until_ready(&mut self) -> Result<(), PostgresError> {
        let deadline = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            if Instant::now() > deadline || !matches!(self.process.try_wait(), Ok(None)) {
                return Err(PostgresError::NotStarted { log: self.log() });
            }
            std::thread::sleep(Duration::from_millis(15));
        }
        Ok(())
    }
}

fn spawn(user: &ServerUser, dir: &Path) -> Result<Child, PostgresError> {
    let log = dir.join("log");
    let log = fs::File::create(&log).map_err(|source| PostgresError::file(&log, source))?;
    let mut command = user.command(Path::new(PROGRAM), "KILL");
    command
        .arg(dir.join("pgbouncer.ini"))
        .current_dir("/")
        .process_group(0);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    bound_child::spawn(command).map_err(|source| PostgresError::Spawn {
        program: PROGRAM.to_owned(),
        source,
    })
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
