//! Where things lie on this machine. The only place that reads the environment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Overrides where the private Python environment is.
const TOOLS_VARIABLE: &str = "LOCALCLOUD_TOOLS";

/// The root of the workspace that this program was built from.
pub fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).unwrap_or(package).to_owned()
}

/// Debian's PostgreSQL client tools, by major.
pub(crate) const DEBIAN_TOOLS: &str = "/usr/lib/postgresql";

/// Where client tools may be, best first: those that `make pgtools` builds for Lambda, then Debian's.
pub fn client_tools() -> [PathBuf; 2] {
    [tools().join("pgtools"), PathBuf::from(DEBIAN_TOOLS)]
}

/// The private environment with the pinned Python packages.
pub(crate) fn venv() -> PathBuf {
    tools().join("venv")
}

/// The AWS CLI of the private environment.
pub fn aws_cli() -> PathBuf {
    venv().join("bin/aws")
}

/// The database to back up, where a password does not show in the process list.
pub fn database_url() -> Option<String> {
    variable("DATABASE_URL").filter(|url| !url.is_empty())
}

/// The server to restore into, where a password does not show in the process list.
pub fn target_url() -> Option<String> {
    variable("TARGET_URL").filter(|url| !url.is_empty())
}

/// Whom the caller trusts, for functions to trust as well: their environment.
pub fn trusted_roots() -> BTreeMap<String, String> {
    let names = ["SSL_CERT_FILE", "SSL_CERT_DIR"];
    let set = names.into_iter().filter_map(|name| {
        let value = variable(name).filter(|it| !it.is_empty())?;
        Some((name.to_owned(), value))
    });
    set.collect()
}

/// Who sits at this machine, as far as the machine knows.
pub fn user() -> Option<String> {
    variable("USER").filter(|user| !user.is_empty())
}

fn tools() -> PathBuf {
    variable(TOOLS_VARIABLE).map_or_else(|| root().join(".tools"), PathBuf::from)
}

fn variable(name: &str) -> Option<String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place of this package that reads the environment"
    )]
    std::env::var(name).ok()
}

/// Binaries built beside this one: `target/local`, also seen from a test binary in `target/local/deps`.
pub(crate) fn artifacts() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    let folder = own.parent().unwrap_or(Path::new("."));
    let is_nested = folder.ends_with("deps") || folder.ends_with("examples");
    if is_nested {
        folder.parent().unwrap_or(folder).to_owned()
    } else {
        folder.to_owned()
    }
}

/// The program of a function: `<artifacts>/dump`, or `<artifacts>/DumpFunction/bootstrap` as `sam build` leaves it.
pub(crate) fn program(artifacts: &Path, binary: &str, logical_id: &str) -> Option<PathBuf> {
    let candidates = [
        artifacts.join(binary),
        artifacts.join(logical_id).join("bootstrap"),
        artifacts.join("examples").join(binary),
    ];
    candidates.into_iter().find(|candidate| candidate.is_file())
}
