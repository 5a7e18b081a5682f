//! The age identities of a home: made once, kept for ever, readable by nobody else.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use age::secrecy::ExposeSecret;

/// Public keys, and the identity that verify reads.
pub(crate) struct Identities {
    pub(crate) recipients: [String; 2],
    pub(crate) online: String,
}

impl std::fmt::Debug for Identities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identities")
            .field("recipients", &self.recipients)
            .finish_non_exhaustive()
    }
}

/// Name of the file with the identity that restores what this home holds.
pub(crate) const ONLINE: &str = "identity.txt";
/// Name of the file with the one that a careful operator moves elsewhere.
pub(crate) const OFFLINE: &str = "offline-identity.txt";

impl Identities {
    /// Reads the home's identities, or makes them.
    pub(crate) fn of(home: &Path) -> std::io::Result<Self> {
        let online = read_or_make(&home.join(ONLINE))?;
        let offline = read_or_make(&home.join(OFFLINE))?;
        let recipients = [public(&online)?, public(&offline)?];
        Ok(Self { recipients, online })
    }
}

fn read_or_make(path: &Path) -> std::io::Result<String> {
    match fs::read_to_string(path) {
        Ok(text) => {
            let identity = text
                .lines()
                .find(|line| line.starts_with("AGE-SECRET-KEY-1"));
            identity.map(str::to_owned).ok_or_else(|| invalid(path))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let identity = age::x25519::Identity::generate();
            let secret = identity.to_string();
            let text = format!(
                "# public key: {}\n{}\n",
                identity.to_public(),
                secret.expose_secret()
            );
            fs::File::options()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)?
                .write_all(text.as_bytes())?;
            Ok(secret.expose_secret().to_owned())
        }
        Err(error) => Err(error),
    }
}

fn public(identity: &str) -> std::io::Result<String> {
    let identity: age::x25519::Identity = identity.parse().map_err(std::io::Error::other)?;
    Ok(identity.to_public().to_string())
}

fn invalid(path: &Path) -> std::io::Error {
    std::io::Error::new(
        std::io::ErrorKind::InvalidData,
        format!("{} holds no age identity", path.display()),
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn identities_are_made_once_and_only_their_owner_reads_them() {
        let home = tempfile::tempdir().unwrap();
        let first = Identities::of(home.path()).unwrap();
        let second = Identities::of(home.path()).unwrap();
        assert_eq!(first.recipients, second.recipients);
        assert_ne!(first.recipients[0], first.recipients[1]);
        let mode = fs::metadata(home.path().join(ONLINE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!format!("{first:?}").contains("SECRET"));
    }
}
