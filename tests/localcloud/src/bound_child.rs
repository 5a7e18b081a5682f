//! Children that end when this process ends, however it ends.
//!
//! The kernel's parent-death signal is sent when the *thread* that started the child ends, and test threads end with
//! their test. So one thread that lives as long as the process starts them all.

use std::io;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::LazyLock;
use std::sync::mpsc::{Sender, channel};

use nix::unistd::{User, geteuid};

/// Who a server runs as. PostgreSQL and PgBouncer refuse to run as root.
#[derive(Clone, Debug)]
pub struct ServerUser {
    /// `None` when we are not root: then servers run as ourselves.
    switch_to: Option<User>,
}

impl ServerUser {
    /// Debian's `postgres` user when we are root, or else `nobody`.
    ///
    /// # Errors
    ///
    /// We are root and the machine has neither.
    pub fn find() -> io::Result<Self> {
        if !geteuid().is_root() {
            return Ok(Self { switch_to: None });
        }
        for name in ["postgres", "nobody"] {
            if let Some(user) = User::from_name(name)? {
                return Ok(Self {
                    switch_to: Some(user),
                });
            }
        }
        Err(io::Error::new(
            io::ErrorKind::NotFound,
            "neither user postgres nor user nobody exists",
        ))
    }

    #[must_use]
    pub fn is_somebody_else(&self) -> bool {
        self.switch_to.is_some()
    }

    /// Gives `path` to this user; nothing to do when that is ourselves.
    ///
    /// # Errors
    ///
    /// The file system refuses.
    pub fn own(&self, path: &Path) -> io::Result<()> {
        match &self.switch_to {
            Some(user) => {
                std::os::unix::fs::chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
            }
            None => Ok(()),
        }
    }

    /// A command that runs `program` as this user and receives `signal` (as `INT`) when we are gone.
    #[must_use]
    pub fn command(&self, program: &Path, signal: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.arg(format!("--pdeathsig={signal}"));
        if let Some(user) = &self.switch_to {
            command
                .arg(format!("--reuid={}", user.uid))
                .arg(format!("--regid={}", user.gid))
                .arg("--clear-groups");
        }
        command.arg("--").arg(program);
        command
    }
}

/// Starts `command` from the thread that lives as long as this process.
///
/// # Errors
///
/// The program cannot be started.
pub fn spawn(command: Command) -> io::Result<Child> {
    struct Order {
        command: Command,
        answer: Sender<io::Result<Child>>,
    }
    static STARTER: LazyLock<Sender<Order>> = LazyLock::new(|| {
        let (orders, inbox) = channel::<Order>();
        std::thread::spawn(move || {
            for mut order in inbox {
                // The answer can only be lost when the asking thread is gone; then the child is nobody's.
                if let Err(unasked) = order.answer.send(order.command.spawn())
                    && let Ok(mut child) = unasked.0
                {
                    child.kill().ok();
                }
            }
        });
        orders
    });

    let (answer, reply) = channel();
    STARTER
        .send(Order { command, answer })
        .map_err(io::Error::other)?;
    reply.recv().map_err(io::Error::other)?
}
