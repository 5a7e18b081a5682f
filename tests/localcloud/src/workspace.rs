//! Where things lie on this machine. The only place that reads the environment.

use std::path::{Path, PathBuf};

/// Overrides where the private Python environment is.
const TOOLS_VARIABLE: &str = "LOCALCLOUD_TOOLS";

/// The root of the workspace that this program was built from.
pub fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).unwrap_or(package).to_owned()
}

/// The private environment with the pinned Python packages.
pub(crate) fn venv() -> PathBuf {
    #[expect(clippy::disallowed_methods, reason = "the one place of this package that reads the environment")]
    let tools = std::env::var(TOOLS_VARIABLE);
    tools.map_or_else(|_| root().join(".tools"), PathBuf::from).join("venv")
}

/// Binaries built beside this one: `target/local`, also seen from a test binary in `target/local/deps`.
pub(crate) fn artifacts() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    let folder = own.parent().unwrap_or(Path::new("."));
    let is_nested = folder.ends_with("deps") || folder.ends_with("examples");
    if is_nested { folder.parent().unwrap_or(folder).to_owned() } else { folder.to_owned() }
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
