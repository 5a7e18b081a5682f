//! Where the histories of one stand-in lie, and the cluster that every project begins as.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::lsn::Lsn;
use super::timeline::{Begin, Timeline};
use crate::postgres::{
    Certificate, Cluster, Major, Options, PostgresError, quoted, reachable_dir, remove_orphans, run,
};

/// Changes with what is in a base, so that an older one is not taken for it.
const BASE_LAYOUT: u32 = 1;

/// Every commit is in the file when it returns, and every segment stays: the folder of the log is the archive.
const SETTINGS: [&str; 6] = [
    "synchronous_commit = on",
    "wal_keep_size = 1000000",
    "wal_recycle = off",
    "hot_standby = off",
    "shared_buffers = 16MB",
    "max_connections = 60",
];

/// A cluster that nobody writes to any more, stopped in an orderly way.
#[derive(Clone, Debug)]
pub(super) struct Base {
    pub(super) dir: Arc<Path>,
    /// Where its log ends.
    pub(super) lsn: Lsn,
}

/// The folder of one stand-in. Closing it ends every server in it.
#[derive(Debug)]
pub(super) struct Storage {
    root: PathBuf,
    pub(super) major: Major,
    pub(super) certificate: Option<Certificate>,
    timelines: Mutex<Vec<Weak<Timeline>>>,
    /// By role and database.
    bases: Mutex<BTreeMap<(String, String), Base>>,
    next: AtomicU32,
}

impl Storage {
    pub(super) fn open(
        major: Major,
        certificate: Option<Certificate>,
    ) -> Result<Self, PostgresError> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let all = reachable_dir()?;
        remove_orphans(&all);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        // The name says whose it is, for whoever comes after a process that was killed.
        let root = all.join(format!("temporary-{}-neon-{number}", std::process::id()));
        fs::create_dir_all(&root).map_err(|source| PostgresError::file(&root, source))?;
        Ok(Self {
            root,
            major,
            certificate,
            timelines: Mutex::default(),
            bases: Mutex::default(),
            next: AtomicU32::new(1),
        })
    }

    /// A timeline that nothing has been done for yet.
    pub(super) fn timeline(self: &Arc<Self>, begin: Begin, born: jiff::Timestamp) -> Arc<Timeline> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let home = self.root.join(format!("timeline-{number}"));
        let timeline = Arc::new(Timeline::new(self.clone(), home, begin, born));
        self.timelines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::downgrade(&timeline));
        timeline
    }

    /// Starts the cluster in `home`; `recovery` are settings for this start alone.
    pub(super) fn start(
        &self,
        home: &Path,
        recovery: Vec<String>,
    ) -> Result<Cluster, PostgresError> {
        Cluster::start_with(
            self.major,
            home,
            &options(self.certificate.clone(), recovery),
        )
    }

    /// Ends every server, at once, and removes every file.
    pub(super) fn close(&self) {
        let timelines = std::mem::take(
            &mut *self
                .timelines
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        for timeline in timelines.iter().filter_map(Weak::upgrade) {
            timeline.close();
        }
        fs::remove_dir_all(&self.root).ok();
    }

    /// What a new project holds: Neon's group role, one role and its database. Made once per machine.
    pub(super) fn base(&self, role: &str, database: &str) -> Result<Base, PostgresError> {
        let mut bases = self.bases.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (role.to_owned(), database.to_owned());
        if let Some(base) = bases.get(&key) {
            return Ok(base.clone());
        }
        let base = self.find_or_make_base(role, database)?;
        bases.insert(key, base.clone());
        Ok(base)
    }

    fn find_or_make_base(&self, role: &str, database: &str) -> Result<Base, PostgresError> {
        static MAKING: Mutex<()> = Mutex::new(());
        let sql = base_sql(role, database);
        let all = reachable_dir()?;
        let server = crate::postgres::bin_dir(self.major)?.join("postgres");
        let version = run(Command::new(server).arg("--version"))?;
        let name = format!("neon-base-{}-{:016x}", self.major.0, {
            use std::hash::{DefaultHasher, Hash, Hasher};
            let mut hasher = DefaultHasher::new();
            (BASE_LAYOUT, &sql, version).hash(&mut hasher);
            hasher.finish()
        });
        let dir = all.join(name);
        let _one_at_a_time = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        if !dir.exists() {
            let draft = self.root.join("base");
            make_base(self.major, &draft, &sql, database)?;
            // Another process may have been first; its base is as good.
            if fs::rename(&draft, &dir).is_err() {
                fs::remove_dir_all(&draft).map_err(|source| PostgresError::file(&draft, source))?;
            }
        }
        let file = dir.join("lsn");
        let text =
            fs::read_to_string(&file).map_err(|source| PostgresError::file(&file, source))?;
        let lsn = Lsn::parse(&text).ok_or_else(|| {
            PostgresError::file(&file, std::io::Error::other("not a position in the log"))
        })?;
        Ok(Base {
            dir: dir.into(),
            lsn,
        })
    }
}

fn options(tls: Option<Certificate>, further: Vec<String>) -> Options {
    let settings = SETTINGS.map(str::to_owned).into_iter();
    Options {
        tls,
        settings: settings.chain(further).collect(),
        // Small segments are quick to copy.
        initdb: vec!["--wal-segsize=1".to_owned()],
        ..Options::default()
    }
}

/// Roles that Neon's API makes are members of `neon_superuser`, which is none.
fn base_sql(role: &str, database: &str) -> String {
    let (role, database) = (quoted(role), quoted(database));
    format!(
        "CREATE ROLE neon_superuser CREATEDB CREATEROLE NOLOGIN REPLICATION BYPASSRLS;
         GRANT pg_read_all_data, pg_write_all_data TO neon_superuser;
         CREATE ROLE {role} LOGIN CREATEDB CREATEROLE REPLICATION BYPASSRLS IN ROLE neon_superuser;
         CREATE DATABASE {database} OWNER {role};"
    )
}

fn make_base(major: Major, draft: &Path, sql: &str, database: &str) -> Result<(), PostgresError> {
    let cluster = Cluster::start_with(major, draft, &options(None, Vec::new()))?;
    // CREATE DATABASE wants to be alone.
    for statement in sql.split_inclusive(';') {
        cluster.psql("postgres", statement)?;
    }
    cluster.psql(
        database,
        "GRANT ALL ON SCHEMA public TO neon_superuser; CHECKPOINT;",
    )?;
    let lsn = cluster.psql("postgres", "SELECT pg_current_wal_insert_lsn()")?;
    cluster.stop()?;
    drop(cluster);
    let file = draft.join("lsn");
    fs::write(&file, lsn).map_err(|source| PostgresError::file(&file, source))
}
