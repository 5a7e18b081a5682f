//! A home is used by one process at a time.

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use crate::Failure;

/// Held as long as the home is in use; the kernel lets go of it however the process ends.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) path: PathBuf,
    _lock: Flock<File>,
}

impl Home {
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |source| Failure::File {
            what: path.display().to_string(),
            source,
        };
        fs::create_dir_all(path).map_err(failed)?;
        let path = path.canonicalize().map_err(failed)?;
        let file = lock_file(&path)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut lock) => {
                let write = |lock: &mut File| {
                    lock.set_len(0)?;
                    lock.rewind()?;
                    write!(lock, "{}", std::process::id())
                };
                write(&mut lock).map_err(|source| Failure::File {
                    what: path.display().to_string(),
                    source,
                })?;
                Ok(Self { path, _lock: lock })
            }
            Err(_) => Err(Failure::HomeInUse(path.display().to_string())),
        }
    }
}

/// The process that uses the home, if one does.
pub(crate) fn user_of(path: &Path) -> Result<Option<i32>, Failure> {
    if !path.join(LOCK).exists() {
        return Ok(None);
    }
    let mut file = lock_file(path)?;
    let mut id = String::new();
    file.read_to_string(&mut id)
        .map_err(|source| Failure::File {
            what: path.display().to_string(),
            source,
        })?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(_unused) => Ok(None),
        Err(_) => Ok(id.trim().parse().ok()),
    }
}

const LOCK: &str = "lock";

fn lock_file(home: &Path) -> Result<File, Failure> {
    let path = home.join(LOCK);
    let open = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path);
    open.map_err(|source| Failure::File {
        what: path.display().to_string(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_has_one_user_at_a_time_and_tells_who() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(user_of(folder.path()).unwrap(), None);
        let home = Home::open(folder.path()).unwrap();
        assert!(matches!(
            Home::open(folder.path()),
            Err(Failure::HomeInUse(_))
        ));
        assert_eq!(
            user_of(folder.path()).unwrap(),
            i32::try_from(std::process::id()).ok()
        );
        drop(home);
        assert_eq!(user_of(folder.path()).unwrap(), None);
    }
}
