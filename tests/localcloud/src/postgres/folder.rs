//! Folders, files and ports that a server can use though it may run as another user.

use std::fmt::Write as _;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, geteuid};

use super::PostgresError;
use crate::bound_child::ServerUser;

/// Where private copies lie: a place that the server's user can reach even if the checkout is under `/root`.
const REACHABLE_ROOT: &str = "/var/tmp";

/// A folder of ours that every user can reach.
///
/// # Errors
///
/// It cannot be made, or it belongs to somebody else.
pub(crate) fn reachable_dir() -> Result<PathBuf, PostgresError> {
    let dir = Path::new(REACHABLE_ROOT).join(format!("lifeboat-{}", geteuid()));
    let describe = |source| PostgresError::file(&dir, source);
    fs::create_dir_all(&dir).map_err(describe)?;
    let metadata = fs::symlink_metadata(&dir).map_err(describe)?;
    if !metadata.is_dir() || Uid::from_raw(metadata.uid()) != geteuid() {
        return Err(PostgresError::NotOurs { path: dir });
    }
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).map_err(describe)?;
    Ok(dir)
}

/// `dir`, or where the server's user can reach it: then `dir` becomes a link to there.
pub(super) fn reachable(dir: &Path, user: &ServerUser) -> Result<PathBuf, PostgresError> {
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
        let real = reachable_dir()?.join(format!("cluster-{:016x}", hasher.finish()));
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
pub(crate) fn remove_orphans(root: &Path) {
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

pub(super) fn random_password() -> io::Result<String> {
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
