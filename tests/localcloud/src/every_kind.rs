//! The database with one object of every kind, and two in other encodings: what a backup must bring back.

use crate::postgres::{Cluster, DatabaseOptions, Major, PostgresError};

const ROLES: &str = include_str!("../../fixtures/every_kind_roles.sql");
const EVERYWHERE: &str = include_str!("../../fixtures/every_kind.sql");
const FROM_18: &str = include_str!("../../fixtures/every_kind_18.sql");
const CONTRIB: &str = include_str!("../../fixtures/every_kind_contrib.sql");
const DEBIAN: &str = include_str!("../../fixtures/every_kind_debian.sql");
const LATIN1: &str = include_str!("../../fixtures/latin1.sql");
const SQL_ASCII: &str = include_str!("../../fixtures/sql_ascii.sql");

/// Encoding and locale of the database that [`create_latin1`] makes, for the target of a restore.
pub const LATIN1_OPTIONS: DatabaseOptions<'static> = DatabaseOptions {
    encoding: "LATIN1",
    locale: "C",
    owner: crate::postgres::SUPERUSER,
};
/// The same for [`create_sql_ascii`].
pub const SQL_ASCII_OPTIONS: DatabaseOptions<'static> = DatabaseOptions {
    encoding: "SQL_ASCII",
    locale: "C",
    owner: crate::postgres::SUPERUSER,
};

/// Tables whose rows come back equal though their text in a dump does not, with what to compare instead.
pub const ROWS_IN_ANOTHER_ORDER: [(&str, &str); 5] = [
    // Inherited columns come first in a restored child, and `added_late` was added after `own`.
    (
        "app.child",
        "SELECT id, t, own, added_late FROM ONLY app.child ORDER BY id",
    ),
    (
        "app.two_parents",
        "SELECT id, t, extra, added_late FROM app.two_parents",
    ),
    // The hash of an enum value is of its oid: the rows land in other leaves.
    (
        "app.by_enum_hash_0",
        "SELECT colour, n FROM app.by_enum_hash ORDER BY n",
    ),
    (
        "app.by_enum_hash_1",
        "SELECT count(*) FROM app.by_enum_hash",
    ),
    ("app.by_enum_hash_2", "SELECT sum(n) FROM app.by_enum_hash"),
];

/// Makes the roles that own the objects; the target of a restore needs them, too.
///
/// # Errors
///
/// What the server said.
pub fn create_roles(cluster: &Cluster) -> Result<(), PostgresError> {
    cluster.psql("postgres", ROLES).map(drop)
}

/// Makes `database` with one object of every kind that this server knows.
///
/// # Errors
///
/// What the server said.
pub fn create(cluster: &Cluster, database: &str) -> Result<(), PostgresError> {
    create_portable(cluster, database)?;
    if cluster.major().is_debian() {
        cluster.psql(database, DEBIAN)?;
    }
    Ok(())
}

/// The same without what takes libraries that only Debian's servers have: a newer server can take it, too.
///
/// # Errors
///
/// What the server said.
pub fn create_portable(cluster: &Cluster, database: &str) -> Result<(), PostgresError> {
    create_roles(cluster)?;
    cluster.create_database(database, &DatabaseOptions::default())?;
    cluster.psql(database, EVERYWHERE)?;
    if cluster.major() >= Major::V18 {
        cluster.psql(database, FROM_18)?;
    }
    if cluster.major().has_contrib()? {
        cluster.psql(database, CONTRIB)?;
    }
    Ok(())
}

/// Makes `database` in LATIN1.
///
/// # Errors
///
/// What the server said.
pub fn create_latin1(cluster: &Cluster, database: &str) -> Result<(), PostgresError> {
    cluster.create_database(database, &LATIN1_OPTIONS)?;
    cluster.psql(database, LATIN1).map(drop)
}

/// Makes `database` in SQL_ASCII, with bytes that are no text in any encoding.
///
/// # Errors
///
/// What the server said.
pub fn create_sql_ascii(cluster: &Cluster, database: &str) -> Result<(), PostgresError> {
    cluster.create_database(database, &SQL_ASCII_OPTIONS)?;
    cluster.psql(database, SQL_ASCII).map(drop)
}
