//! The manifest, `format: 1`: the commit record of a backup. `docs/FORMAT.md` describes it.
//!
//! Everything a restore, a drill or a person needs to know is here, because the source may
//! be gone by then. Readers refuse a format they do not know and never panic on one.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::backup::{BackupId, DatabaseName, Kind, PreviousBackup};
use crate::fingerprint::Fingerprint;
use crate::policy::Provider;

/// The only format there is.
pub const FORMAT: u32 = 1;
/// No manifest is larger: 50,000 tables of 100 columns stay below. Guards the reader's memory.
pub const BYTES_MAX: u64 = 512 << 20;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Always [`FORMAT`].
    pub format: u32,
    pub backup_id: BackupId,
    pub database: DatabaseName,
    pub kind: Kind,
    /// Names the `archive-<attempt>/` whose objects are the backup.
    pub attempt: String,
    pub previous: Option<PreviousBackup>,
    pub scheduled_at: Timestamp,
    pub started_at: Timestamp,
    /// The source's clock when the snapshot was exported, or when the branch that was read was
    /// made: the data is as of this moment.
    pub snapshot_at: Timestamp,
    pub finished_at: Timestamp,
    pub source: Source,
    pub tools: Tools,
    /// The archive's own version, such as `1.14`.
    pub archive_version: String,
    /// age public keys; any one of their identities opens the backup.
    pub recipients: Vec<String>,
    pub settings: DatabaseSettings,
    pub extensions: Vec<Extension>,
    /// Every stored object but this one.
    pub objects: Vec<Object>,
    pub tables: Vec<Table>,
    pub sequences: Vec<Sequence>,
    pub large_objects: Vec<LargeObjects>,
    pub migration_head: Option<MigrationHead>,
    /// What the role's rights left out, in words.
    pub left_out: Vec<String>,
    pub warnings: Vec<String>,
    pub totals: Totals,
    pub run: Run,
}

/// Where the data came from; never a credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    pub provider: Provider,
    pub host: String,
    pub port: u16,
    pub database: String,
    pub user: String,
    /// For example `15.18`.
    pub server_version: String,
    /// For example 150018.
    pub server_version_num: u32,
    /// The write-ahead log position when the snapshot was exported.
    pub lsn: String,
    /// Names the cluster; null where the role may not ask.
    pub system_identifier: Option<String>,
    /// The temporary Neon branch that was read instead of production; absent otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch_id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tools {
    pub lifeboat: String,
    /// For example `15.18`.
    pub pg_dump: String,
}

/// What a database that takes this backup must be created with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseSettings {
    pub encoding: String,
    /// `libc`, `icu` or `builtin`.
    pub locale_provider: String,
    pub collate: String,
    pub ctype: String,
    pub icu_locale: Option<String>,
    /// Set when a `money` column exists: its text depends on it.
    pub lc_monetary: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    pub name: String,
    pub version: String,
    pub schema: String,
}

/// One stored object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    pub key: String,
    /// Null on storage without versions, or when the answer to the write was lost.
    pub version_id: Option<String>,
    pub stored_bytes: u64,
    /// Lower-case hex, over the stored (encrypted) bytes.
    pub sha256: String,
    pub content: Content,
}

/// What an object decrypts to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Content {
    /// The directory archive's `toc.dat`, not compressed.
    TableOfContents,
    /// One slice of one table's `COPY` text, compressed; slices follow each other in key order.
    TableData {
        dump_id: u32,
        rows: u64,
        /// Without the archive's terminator.
        copy_bytes: u64,
        fingerprint: Fingerprint,
    },
    /// All files of one large-object entry, as compressed tar.
    LargeObjects { dump_id: u32 },
    /// Roles and memberships without passwords, as compressed SQL.
    Roles,
}

/// One table whose rows are in the archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    pub oid: u32,
    pub schema: String,
    pub name: String,
    /// Its entry in the table of contents; `<dump_id>.dat` in the archive.
    pub dump_id: u32,
    pub columns: Vec<Column>,
    /// The columns of each row's text, in order: the archive's copy statement.
    pub copy_columns: Vec<String>,
    pub primary_key: Vec<String>,
    pub rows: u64,
    pub copy_bytes: u64,
    pub fingerprint: Fingerprint,
    /// Names of its objects (the last segment of their keys), in order.
    pub objects: Vec<String>,
    /// Its rows are here, but its own server may lose them at any restart.
    pub unlogged: bool,
    /// Rows are loaded through this partition root, and compared there.
    pub load_via: Option<QualifiedName>,
    /// Only rows of this condition are in the archive (extension configuration tables).
    pub condition: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct QualifiedName {
    pub schema: String,
    pub name: String,
}

/// Enough to build a table of the same shape beside the live one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    /// As `format_type` prints it.
    #[serde(rename = "type")]
    pub data_type: String,
    pub not_null: bool,
    pub generated: Option<Generated>,
    pub identity: Option<Identity>,
    /// Schema-qualified; null where it is the type's own.
    pub collation: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Generated {
    Stored,
    Virtual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Identity {
    Always,
    ByDefault,
}

/// As the table of contents has it: sequences do not belong to a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequence {
    pub schema: String,
    pub name: String,
    pub last_value: i64,
    pub is_called: bool,
}

/// One large-object entry of the archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LargeObjects {
    pub dump_id: u32,
    pub count: u64,
    pub bytes: u64,
    /// Over each object's oid (4 bytes, big-endian) and content.
    pub fingerprint: Fingerprint,
    pub objects: Vec<String>,
}

/// The newest applied migration of a known migration tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrationHead {
    pub tool: String,
    pub table: QualifiedName,
    pub head: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    pub tables: u64,
    pub rows: u64,
    pub copy_bytes: u64,
    pub objects: u64,
    pub stored_bytes: u64,
    pub large_objects: u64,
}

/// How the run went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub connections: u32,
    pub zstd_level: i32,
    pub seconds: f64,
    pub copy_bytes_per_second: f64,
    pub cpu_seconds: f64,
    pub peak_memory_bytes: u64,
    pub planner_seconds: f64,
    pub planner_peak_memory_bytes: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("the manifest has format {found}; this version of Lifeboat reads format {FORMAT} only")]
    UnknownFormat { found: u64 },
    #[error("the manifest is not what format {FORMAT} describes")]
    Malformed(#[source] serde_json::Error),
}

impl Manifest {
    pub fn parse(json: &[u8]) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        struct Head {
            format: u64,
        }
        let head: Head = serde_json::from_slice(json).map_err(ManifestError::Malformed)?;
        if head.format != u64::from(FORMAT) {
            return Err(ManifestError::UnknownFormat { found: head.format });
        }
        serde_json::from_slice(json).map_err(ManifestError::Malformed)
    }

    /// Of the sealed object; `None` where none is listed.
    pub fn table_of_contents_sha256(&self) -> Option<&str> {
        let mut objects = self.objects.iter();
        let toc = objects.find(|it| it.content == Content::TableOfContents);
        toc.map(|it| it.sha256.as_str())
    }

    /// Pretty-printed: people open it at 3 a.m.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut json = serde_json::to_vec_pretty(self)?;
        json.push(b'\n');
        Ok(json)
    }
}
