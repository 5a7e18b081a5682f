//! The manifest's fingerprints, computed again from a restored database.

use std::collections::BTreeMap;
use std::time::Duration;

use localcloud::postgres::{Cluster, SUPERUSER, quoted};
use shared::database_url::DatabaseUrl;
use shared::fingerprint::{Fingerprint, LargeObjectHash, RowScanner};
use shared::manifest::{Manifest, QualifiedName, Table};
use shared::pg::{Connection, pin_reading};

/// Rows and fingerprint by what is compared: a table, or the root that its rows are loaded through.
pub type Proof = BTreeMap<QualifiedName, (u64, Fingerprint)>;

fn connect(cluster: &Cluster, manifest: &Manifest, database: &str) -> Connection {
    let url = DatabaseUrl::parse(&cluster.url(database, SUPERUSER)).unwrap();
    let mut connection = Connection::open(&url, Duration::from_secs(60)).unwrap();
    let version = connection.query_value("SHOW server_version_num").unwrap();
    let pin = pin_reading(version.parse().unwrap(), &manifest.settings.encoding);
    connection.query(pin).unwrap();
    connection
}

/// What the manifest says, and what the copy in `database` holds. Tables whose names are no text
/// in any encoding are left to the comparison of whole dumps.
pub fn fingerprints_of_copy(
    cluster: &Cluster,
    manifest: &Manifest,
    database: &str,
) -> (Proof, Proof) {
    let mut connection = connect(cluster, manifest, database);
    let (mut recorded, mut found) = (Proof::new(), Proof::new());
    for table in manifest
        .tables
        .iter()
        .filter(|it| !it.name.contains('\u{fffd}'))
    {
        let own = QualifiedName {
            schema: table.schema.clone(),
            name: table.name.clone(),
        };
        let compared = table.load_via.clone().unwrap_or(own);
        let sum = recorded.entry(compared.clone()).or_default();
        sum.0 += table.rows;
        sum.1 += table.fingerprint;
        found
            .entry(compared.clone())
            .or_insert_with(|| scan(&mut connection, manifest, table, &compared));
    }
    (recorded, found)
}

fn scan(
    connection: &mut Connection,
    manifest: &Manifest,
    table: &Table,
    compared: &QualifiedName,
) -> (u64, Fingerprint) {
    let name = format!("{}.{}", quoted(&compared.schema), quoted(&compared.name));
    let columns: Vec<String> = table.copy_columns.iter().map(|it| quoted(it)).collect();
    let columns = columns.join(", ");
    let only = if table.load_via.is_some() {
        ""
    } else {
        "ONLY "
    };
    let condition = table.condition.as_deref().unwrap_or_default();
    let sql = format!("COPY (SELECT {columns} FROM {only}{name} {condition}) TO STDOUT");
    // Statements travel in the database's own encoding.
    let sql = match manifest.settings.encoding.as_str() {
        "LATIN1" => sql
            .chars()
            .map(|it| u8::try_from(u32::from(it)).unwrap())
            .collect(),
        _ => sql.into_bytes(),
    };
    let mut rows = RowScanner::default();
    connection
        .copy_out(&sql, |piece, ends_row| {
            rows.push_row(piece, ends_row);
            Ok::<_, std::convert::Infallible>(())
        })
        .unwrap();
    let totals = rows.finish().unwrap();
    (totals.rows, totals.fingerprint)
}

/// Count and fingerprint of all large objects: in the manifest, in the copy.
pub fn large_objects_of_copy(
    cluster: &Cluster,
    manifest: &Manifest,
    database: &str,
) -> ((u64, Fingerprint), (u64, Fingerprint)) {
    let mut recorded = (0, Fingerprint::default());
    for entry in &manifest.large_objects {
        recorded.0 += entry.count;
        recorded.1 += entry.fingerprint;
    }
    let mut connection = connect(cluster, manifest, database);
    let rows = connection
        .query("SELECT oid, lo_get(oid) FROM pg_largeobject_metadata")
        .unwrap();
    let mut found = (0, Fingerprint::default());
    for row in rows {
        let [oid, content] = <[_; 2]>::try_from(row)
            .unwrap()
            .map(|it| String::from_utf8(it.unwrap()).unwrap());
        let mut hash = LargeObjectHash::new(oid.parse().unwrap());
        hash.push(&from_hex(&content));
        found.0 += 1;
        found.1 += hash.finish();
    }
    (recorded, found)
}

/// `\x0aff`, as the server prints `bytea`.
fn from_hex(text: &str) -> Vec<u8> {
    let digits = text.strip_prefix("\\x").unwrap();
    let pair = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(pair).collect()
}
