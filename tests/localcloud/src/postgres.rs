//! A private PostgreSQL cluster: its own folder, its own free port on loopback, gone when it is dropped or we are.

mod certificates;
mod client;
mod configuration;
mod error;
mod folder;
mod installation;
mod program;

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub use self::certificates::{Authority, Certificate, Flaw};
pub use self::client::{DatabaseOptions, quoted};
pub use self::configuration::{Auth, Options};
pub use self::error::PostgresError;
pub use self::folder::free_port;
pub(crate) use self::folder::{reachable_dir, remove_orphans, write_private};
pub use self::installation::{Major, bin_dir, pgtools_dir};
pub(crate) use self::program::run;
use crate::bound_child::{self, ServerUser};

/// The name of the superuser in every cluster.
pub const SUPERUSER: &str = "postgres";

/// Generous: a shared machine with two busy cores starts a server in 1 s to 5 s.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

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
        let dir = folder::reachable(dir, &user)?;
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
        let root = folder::reachable_dir()?;
        folder::remove_orphans(&root);
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
