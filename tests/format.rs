//! `docs/FORMAT.md`, followed to the letter with stock programs: what the dump function stored comes
//! back equal.

mod by_hand;
mod manifest;
mod under_writes;
mod whole;

use std::sync::OnceLock;

use localcloud::postgres::{Cluster, Major};
use localcloud::{every_kind, sample};

use crate::harness::{
    Backup, Shell, assert_same_text, back_up, cluster, configure, dump_as_text,
    fingerprints_of_copy, large_objects_of_copy,
};

const DOCUMENT: &str = "docs/FORMAT.md";

/// The blocks of the document that lead to an empty database and an opened archive, in order.
const OPENED: [&str; 5] = ["identity", "fetch", "check", "open", "create"];

/// How `pg_restore` goes through the archive.
#[derive(Clone, Copy)]
enum Load {
    Parallel,
    /// For databases with extensions whose configuration tables reference each other.
    InOrder,
}

/// The database with one object of every kind on the server of this major. Nobody writes to it.
pub(crate) fn kinds(major: Major) -> &'static str {
    static MADE: [OnceLock<()>; Major::ALL.len()] = [const { OnceLock::new() }; Major::ALL.len()];
    let index = Major::ALL.iter().position(|it| *it == major).unwrap();
    MADE[index].get_or_init(|| every_kind::create(cluster(major), "kinds").unwrap());
    "kinds"
}

/// The database of a service with many tables, some of several MiB. Nobody writes to it.
pub(crate) fn service(major: Major) -> &'static str {
    static MADE: [OnceLock<()>; Major::ALL.len()] = [const { OnceLock::new() }; Major::ALL.len()];
    let index = Major::ALL.iter().position(|it| *it == major).unwrap();
    MADE[index].get_or_init(|| sample::create_scaled(cluster(major), "service", 0.03).unwrap());
    "service"
}

/// Inherited columns come first in a restored child.
pub(crate) const SERVICE_IN_ANOTHER_ORDER: [(&str, &str); 2] = [
    (
        "work.sites",
        "SELECT id, name, location, area, foreman, closed_on FROM ONLY work.sites ORDER BY id",
    ),
    (
        "work.vehicles",
        "SELECT id, name, location, plate, load, closed_on FROM ONLY work.vehicles ORDER BY id",
    ),
];

/// How a database is backed up.
pub(crate) struct Taken {
    pub(crate) major: Major,
    pub(crate) database: &'static str,
    pub(crate) connections: u32,
    pub(crate) slice_mib: u32,
}

impl Taken {
    /// Backs it up under a name of its own.
    pub(crate) fn back_up(&self, name: &str) -> Backup {
        let extra = format!(
            "connections = {}\nslice_mib = {}",
            self.connections, self.slice_mib
        );
        let url = cluster(self.major).url(self.database, "postgres");
        configure(name, url, &extra);
        let backup = back_up(name);
        assert_eq!(backup.manifest.run.connections, self.connections);
        assert_eq!(backup.manifest.left_out, [""; 0]);
        assert_eq!(backup.manifest.warnings, [""; 0]);
        backup
    }
}

/// A shell with everything that the document asks to be set.
fn shell(name: &str, backup: &Backup, cluster: &Cluster, copy: &str) -> Shell {
    let settings = &backup.manifest.settings;
    Shell::new(DOCUMENT, name, cluster.major())
        .connect(cluster, copy)
        .env("BACKUP", &backup.uri)
        .env("ENCODING", &settings.encoding)
        .env("COLLATE", &settings.collate)
        .env("CTYPE", &settings.ctype)
}

/// Restores the whole database as the document says, and expects no complaint from any program.
fn restore(name: &str, backup: &Backup, (cluster, copy): (&Cluster, &str), load: Load) {
    let load = match load {
        Load::Parallel => "load",
        Load::InOrder => "load-in-order",
    };
    let blocks = [&OPENED[..], &[load]].concat();
    let (_, complaints) = shell(name, backup, cluster, copy).run(&blocks);
    assert_eq!(complaints, "");
}

/// Every table and large object of the copy is what the manifest says.
pub(crate) fn assert_proven(cluster: &Cluster, backup: &Backup, copy: &str) {
    let (recorded, found) = fingerprints_of_copy(cluster, &backup.manifest, copy);
    for (table, recorded) in &recorded {
        assert_eq!(Some(recorded), found.get(table), "{table:?}");
    }
    let (recorded, found) = large_objects_of_copy(cluster, &backup.manifest, copy);
    assert_eq!(recorded, found, "large objects");
}

/// Source and copy are the same text; without the rows of some tables, which are compared by
/// their own queries.
fn assert_same_database(
    cluster: &Cluster,
    (source, copy): (&str, &str),
    in_another_order: &[(&str, &str)],
) {
    let mut options = vec!["--no-subscriptions".to_owned()];
    options.extend(
        in_another_order
            .iter()
            .map(|(table, _)| format!("--exclude-table-data={table}")),
    );
    let [one, other] = [source, copy].map(|it| dump_as_text(cluster, it, &options));
    assert_same_text(&one, &other);
    for (table, query) in in_another_order {
        let [one, other] = [source, copy].map(|it| cluster.psql(it, query).unwrap());
        assert!(!one.is_empty());
        assert_eq!(one, other, "{table}");
    }
}
