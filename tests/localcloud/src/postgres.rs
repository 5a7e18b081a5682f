//! A private PostgreSQL cluster: its own folder, its own free port on loopback, gone when it is dropped or we are.

mod certificates;
mod installation;

use std::fmt::Write as _;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub use self::certificates::{Authority, Certificate, Flaw};
pub use self::installation::{Major, bin_dir, pgtools_dir};
use crate::bound_child::{self, ServerUser};

/// The name of the superuser in every cluster.
pub const SUPERUSER: &str = "postgres";

/// Generous: a shared machine with two busy cores starts a server in 1 s to 5 s.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// Install the pinned Python packages, or Debian's `postgresql`.
    #[error("PostgreSQL {major} is not installed: not in /usr/lib/postgresql, not in .tools/venv")]
    NotInstalled { major: u16 },
    /// Install Debian's `postgresql`.
    #[error("Debian's PostgreSQL is not installed (apt-get install postgresql)")]
    NoDebianServer,
    /// Somebody made a folder where ours belongs: remove it.
    #[error("{} belongs to somebody else", path.display())]
    NotOurs { path: PathBuf },
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("start {program}: {source}")]
    Spawn { program: String, source: io::Error },
    /// What the program itself said.
    #[error("{program} failed: {stderr}")]
    Program { program: String, stderr: String },
    /// The end of the server's log says why.
    #[error("the server did not start: {log}")]
    NotStarted { log: String },
    #[error("the server does not run")]
    NotRunning,
}

impl PostgresError {
    pub(crate) fn file(path: &Path, source: io::Error) -> Self {
        Self::File {
            path: path.to_owned(),
            source,
        }
    }
}

/// Runs a program to its end and returns what it printed.
///
/// # Errors
///
/// It cannot be started or fails; the error carries its standard error.
pub(crate) fn run(command: &mut Command) -> Result<String, PostgresError> {
    run_with_input(command, b"")
}

fn run_with_input(command: &mut Command, input: &[u8]) -> Result<String, PostgresError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let spawn = |source| PostgresError::Spawn {
        program: program.clone(),
        source,
    };
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(spawn)?;
    let stdin = child.stdin.take();
    let output = std::thread::scope(|scope| {
        // Written beside the reading, or both sides could wait for a full pipe.
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input)));
        child.wait_with_output()
    });
    let output = output.map_err(spawn)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(PostgresError::Program {
        program,
        stderr: format!("{} ({stderr})", output.status),
    })
}

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
    /// Further lines of `postgresql.conf`, which win over ours.
    pub settings: Vec<String>,
}

/// Encoding and locale of a new database, always from `template0`.
#[derive(Clone, Copy, Debug)]
pub struct DatabaseOptions<'a> {
    pub encoding: &'a str,
    pub locale: &'a str,
    pub owner: &'a str,
}

impl Default for DatabaseOptions<'_> {
    fn default() -> Self {
        Self {
            encoding: "UTF8",
            locale: "C.UTF-8",
            owner: SUPERUSER,
        }
    }
}

/// A running server. Dropping it stops the server; [`Cluster::temporary`] also removes its folder.
#[derive(Debug)]
pub struct Cluster {
    major: Major,
    port: u16,
    /// Holds `data`, `log`, `pgpass` and the socket.
    dir: PathBuf,
    password: Option<String>,
    /// Where the server's programs lie.
    server_bin: PathBuf,
    user: ServerUser,
    server: Mutex<Option<Child>>,
    remove_on_drop: bool,
}

impl Cluster {
    /// Starts the cluster in `dir`, making it first if `dir` has none.
    ///
    /// # Errors
    ///
    /// The major is not installed, the folder cannot be used, or the server does not start.
    pub fn start(major: Major, dir: &Path) -> Result<Self, PostgresError> {
        Self::start_with(major, dir, &Options::default())
    }

    /// # Errors
    ///
    /// As [`Cluster::start`].
    pub fn start_with(major: Major, dir: &Path, options: &Options) -> Result<Self, PostgresError> {
        let user = ServerUser::find().map_err(|source| PostgresError::file(dir, source))?;
        let dir = reachable(dir, &user)?;
        let server_bin = installation::server_bin(major)?;
        let mut cluster = Self {
            major,
            port: 0,
            dir,
            password: None,
            server_bin,
            user,
            server: Mutex::new(None),
            remove_on_drop: false,
        };
        if !cluster.data_dir().join("PG_VERSION").exists() {
            cluster.initialize(options)?;
        }
        if options.auth == Auth::Scram {
            cluster.password = Some(cluster.read_password()?);
        }
        cluster.start_on_a_free_port(options)?;
        Ok(cluster)
    }

    /// A cluster in a folder of its own that goes with it.
    ///
    /// # Errors
    ///
    /// As [`Cluster::start`].
    pub fn temporary(major: Major) -> Result<Self, PostgresError> {
        Self::temporary_with(major, &Options::default())
    }

    /// # Errors
    ///
    /// As [`Cluster::start`].
    pub fn temporary_with(major: Major, options: &Options) -> Result<Self, PostgresError> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let root = installation::reachable_dir()?;
        remove_orphans(&root);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let dir = root.join(format!("temporary-{}-{number}", std::process::id()));
        let mut cluster = Self::start_with(major, &dir, options)?;
        cluster.remove_on_drop = true;
        Ok(cluster)
    }

    #[must_use]
    pub fn major(&self) -> Major {
        self.major
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of the socket, for `host=` in a connection string.
    #[must_use]
    pub fn socket_dir(&self) -> &Path {
        &self.dir
    }

    /// What the server has logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(self.log_path())
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default()
    }

    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.dir.join("log")
    }

    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The superuser's password, unless the cluster trusts everybody.
    #[must_use]
    pub fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    /// `postgresql://…` over loopback TCP; with the password if `user` is the superuser.
    #[must_use]
    pub fn url(&self, database: &str, user: &str) -> String {
        self.url_with_password(
            database,
            user,
            self.password().filter(|_| user == SUPERUSER),
        )
    }

    #[must_use]
    pub fn url_with_password(&self, database: &str, user: &str, password: Option<&str>) -> String {
        let mut login = percent_encoded(user);
        if let Some(password) = password {
            login.push(':');
            login.push_str(&percent_encoded(password));
        }
        format!(
            "postgresql://{login}@127.0.0.1:{}/{}",
            self.port,
            percent_encoded(database)
        )
    }

    /// A client program of this major, connected by its environment to `database` as the superuser.
    ///
    /// # Errors
    ///
    /// The major is not installed.
    pub fn client(&self, program: &str, database: &str) -> Result<Command, PostgresError> {
        let mut command = Command::new(bin_dir(self.major)?.join(program));
        self.connect(&mut command, database);
        Ok(command)
    }

    /// Sets the libpq variables of `command` so that it connects to `database` as the superuser.
    pub fn connect(&self, command: &mut Command, database: &str) {
        for name in [
            "PGOPTIONS",
            "PGSERVICE",
            "PGSSLMODE",
            "PGPASSWORD",
            "PGHOSTADDR",
        ] {
            command.env_remove(name);
        }
        command
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", SUPERUSER)
            .env("PGPASSFILE", self.dir.join("pgpass"))
            .env("PGDATABASE", database);
    }

    /// Runs SQL with the stock `psql` and returns its rows, columns separated by `|`. Stops at the first error.
    ///
    /// # Errors
    ///
    /// What `psql` or the server said.
    pub fn psql(&self, database: &str, sql: &str) -> Result<String, PostgresError> {
        let mut psql = self.client("psql", database)?;
        psql.args(["-X", "-qAt", "-v", "ON_ERROR_STOP=1", "-f", "-"]);
        run_with_input(&mut psql, sql.as_bytes()).map(|rows| rows.trim_end_matches('\n').to_owned())
    }

    /// Makes a database.
    ///
    /// # Errors
    ///
    /// What the server said.
    pub fn create_database(
        &self,
        name: &str,
        options: &DatabaseOptions<'_>,
    ) -> Result<(), PostgresError> {
        let DatabaseOptions {
            encoding,
            locale,
            owner,
        } = options;
        let statement = format!(
            "CREATE DATABASE {} TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE '{locale}' LC_CTYPE '{locale}' OWNER {}",
            quoted(name),
            quoted(owner),
        );
        self.psql("postgres", &statement).map(drop)
    }

    /// Stops the server in an orderly way, as on a shutdown of the machine.
    ///
    /// # Errors
    ///
    /// The server does not run or does not stop.
    pub fn stop(&self) -> Result<(), PostgresError> {
        self.end(Signal::SIGINT)
    }

    /// Ends the server as a crash would: no checkpoint, every connection gone at once.
    ///
    /// # Errors
    ///
    /// The server does not run or does not stop.
    pub fn crash(&self) -> Result<(), PostgresError> {
        self.end(Signal::SIGQUIT)
    }

    /// Starts the stopped server again, on the same port.
    ///
    /// # Errors
    ///
    /// The server does not start.
    pub fn start_again(&self) -> Result<(), PostgresError> {
        let mut command = self.user.command(&self.server_bin.join("postgres"), "QUIT");
        let log = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.log_path());
        let log = log.map_err(|source| PostgresError::file(&self.log_path(), source))?;
        let errors = log
            .try_clone()
            .map_err(|source| PostgresError::file(&self.log_path(), source))?;
        command
            .arg("-D")
            .arg(self.data_dir())
            .arg("-p")
            .arg(self.port.to_string());
        // Ctrl-C is for us; we stop the server in our own time.
        command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .process_group(0);
        let mut child = bound_child::spawn(command).map_err(|source| PostgresError::Spawn {
            program: "setpriv".to_owned(),
            source,
        })?;
        let ready = self.wait_until_ready(&mut child);
        if ready.is_err() {
            child.kill().ok();
            child.wait().ok();
            return ready;
        }
        *self.server.lock().map_err(|_| PostgresError::NotRunning)? = Some(child);
        Ok(())
    }

    /// # Errors
    ///
    /// The server does not run, stop or start.
    pub fn restart(&self) -> Result<(), PostgresError> {
        self.stop()?;
        self.start_again()
    }

    fn end(&self, signal: Signal) -> Result<(), PostgresError> {
        let mut server = self.server.lock().map_err(|_| PostgresError::NotRunning)?;
        let mut child = server.take().ok_or(PostgresError::NotRunning)?;
        end_child(&mut child, signal);
        Ok(())
    }

    fn initialize(&self, options: &Options) -> Result<(), PostgresError> {
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
        initdb.current_dir("/");
        let made = run(&mut initdb);
        fs::remove_file(&pwfile).map_err(|source| PostgresError::file(&pwfile, source))?;
        made.map(drop)
    }

    fn read_password(&self) -> Result<String, PostgresError> {
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

    fn start_on_a_free_port(&mut self, options: &Options) -> Result<(), PostgresError> {
        self.write_settings(options)?;
        let mut attempt = 1;
        loop {
            self.port = free_port().map_err(|source| PostgresError::file(&self.dir, source))?;
            match self.start_again() {
                // Somebody else took the port in between.
                Err(PostgresError::NotStarted { log })
                    if attempt < 5 && log.contains("Address already in use") =>
                {
                    attempt += 1;
                }
                started => return started,
            }
        }
    }

    fn write_settings(&self, options: &Options) -> Result<(), PostgresError> {
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

    fn wait_until_ready(&self, child: &mut Child) -> Result<(), PostgresError> {
        let deadline = Instant::now() + START_TIMEOUT;
        let pid_file = self.data_dir().join("postmaster.pid");
        loop {
            // The server's own status line; the file of an earlier crash has another process id.
            let status = fs::read_to_string(&pid_file).unwrap_or_default();
            let ours = status.lines().next() == Some(child.id().to_string().as_str());
            if ours
                && status
                    .lines()
                    .nth(7)
                    .is_some_and(|line| line.trim() == "ready")
            {
                return Ok(());
            }
            let ended = child
                .try_wait()
                .map_err(|source| PostgresError::file(&pid_file, source))?
                .is_some();
            if ended || Instant::now() > deadline {
                let log = self.log();
                let tail: Vec<&str> = log.lines().rev().take(8).collect();
                return Err(PostgresError::NotStarted {
                    log: tail.into_iter().rev().collect::<Vec<_>>().join("; "),
                });
            }
            std::thread::sleep(Duration::from_millis(15));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // What a temporary cluster would write in an orderly stop is removed a moment later.
        let signal = if self.remove_on_drop {
            Signal::SIGQUIT
        } else {
            Signal::SIGINT
        };
        if let Ok(Some(mut child)) = self.server.get_mut().map(Option::take) {
            end_child(&mut child, signal);
        }
        if self.remove_on_drop {
            fs::remove_dir_all(&self.dir).ok();
        }
    }
}

fn end_child(child: &mut Child, signal: Signal) {
    let Ok(pid) = i32::try_from(child.id()) else {
        return;
    };
    kill(Pid::from_raw(pid), signal).ok();
    let deadline = Instant::now() + STOP_TIMEOUT;
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() > deadline {
            child.kill().ok();
            child.wait().ok();
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// `dir`, or where the server's user can reach it: then `dir` becomes a link to there.
fn reachable(dir: &Path, user: &ServerUser) -> Result<PathBuf, PostgresError> {
    let describe = |source| PostgresError::file(dir, source);
    let absolute = std::path::absolute(dir).map_err(describe)?;
    let parent = absolute.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent).map_err(describe)?;
    let parent = parent.canonicalize().map_err(describe)?;
    let wanted = parent.join(absolute.file_name().unwrap_or_default());
    let hidden = |at: &Path| fs::metadata(at).is_ok_and(|metadata| metadata.mode() & 0o001 == 0);
    let real = if user.is_somebody_else() && parent.ancestors().any(hidden) {
        let mut hasher = DefaultHasher::new();
        wanted.hash(&mut hasher);
        let real = installation::reachable_dir()?.join(format!("cluster-{:016x}", hasher.finish()));
        if fs::symlink_metadata(&wanted).is_err() {
            // Whoever removed the link meant the cluster.
            fs::remove_dir_all(&real).ok();
            symlink(&real, &wanted).map_err(describe)?;
        }
        real
    } else {
        wanted
    };
    fs::create_dir_all(&real).map_err(describe)?;
    user.own(&real).map_err(describe)?;
    Ok(real)
}

/// Removes what temporary clusters of dead processes left: a static one is never dropped, nor is any after SIGKILL.
fn remove_orphans(root: &Path) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name
            .strip_prefix("temporary-")
            .and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}

/// A port that is free now. Whoever binds it next must be ready to ask again.
///
/// # Errors
///
/// Loopback has none left.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn random_password() -> io::Result<String> {
    let mut bytes = [0; 16];
    io::Read::read_exact(&mut fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").ok();
        text
    }))
}

pub(crate) fn write_private(path: &Path, text: &str) -> Result<(), PostgresError> {
    let describe = |source| PostgresError::file(path, source);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(describe)?;
    file.write_all(text.as_bytes()).map_err(describe)
}

/// An SQL identifier in quotes.
#[must_use]
pub fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").ok();
        }
    }
    encoded
}
