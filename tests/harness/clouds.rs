//! The cloud that all tests share.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use localcloud::postgres::{Authority, Major, pgtools_dir};
use localcloud::{Cloud, Database, Options};

/// Runs a future of the cloud, which has threads of its own, to its end.
pub fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(future)
}

/// A folder of this process for tests' files; those of ended processes are removed.
pub fn scratch() -> &'static Path {
    static SCRATCH: OnceLock<PathBuf> = OnceLock::new();
    SCRATCH.get_or_init(|| {
        let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("e2e");
        std::fs::create_dir_all(&all).unwrap();
        for folder in all.read_dir().unwrap().flatten() {
            if !Path::new("/proc").join(folder.file_name()).exists() {
                std::fs::remove_dir_all(folder.path()).ok();
            }
        }
        let own = all.join(std::process::id().to_string());
        std::fs::create_dir_all(&own).unwrap();
        own
    })
}

/// The only authority whose certificates the functions accept from a database.
pub fn authority() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(|| Authority::create(&scratch().join("authority")).unwrap())
}

/// The environment that makes functions trust [`authority`].
pub fn trusting_our_authority() -> BTreeMap<String, String> {
    let roots = authority().root_certificate();
    BTreeMap::from([("SSL_CERT_FILE".to_owned(), roots.display().to_string())])
}

/// The cloud, with S3 as a plain folder and the functions built beside this program.
pub fn cloud() -> &'static Cloud {
    static CLOUD: OnceLock<Cloud> = OnceLock::new();
    CLOUD.get_or_init(|| {
        let pgtools = scratch().join("pgtools");
        pgtools_dir(&pgtools, &Major::ALL).unwrap();
        let options = Options {
            pgtools,
            environment: trusting_our_authority(),
            ..Options::new(scratch().join("cloud"))
        };
        wait(Cloud::start(options)).unwrap()
    })
}

/// Makes `url` a database of the configuration; `extra` is further lines of its block.
pub fn configure(name: &str, url: String, extra: &str) {
    let database = Database {
        name: name.to_owned(),
        provider: "postgres".to_owned(),
        url,
        extra: extra.to_owned(),
    };
    wait(cloud().configure(vec![database])).unwrap();
}
