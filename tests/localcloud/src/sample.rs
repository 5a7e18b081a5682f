//! Databases made up on the server: one that looks like a real service, and one for measuring.

use crate::postgres::{Cluster, DatabaseOptions, PostgresError};

const SAMPLE: &str = include_str!("../../fixtures/sample.sql");
const BENCH: &str = include_str!("../../fixtures/bench.sql");

/// What the sample database is called where nobody chose another name.
pub const DATABASE: &str = "harbour";

/// Rows per table relative to the full size: 1 is about 230 MB in 80 tables, 0.02 about 10 MB.
pub const FULL: f64 = 1.0;
/// For tests that need many tables and object kinds, not many rows.
pub const SMALL: f64 = 0.01;

/// Makes the database of a project-management service, about 230 MB, in about 10 s.
///
/// # Errors
///
/// What the server said.
pub fn create(cluster: &Cluster, database: &str) -> Result<(), PostgresError> {
    create_scaled(cluster, database, FULL)
}

/// The same with `scale` times the rows. The same scale makes the same rows.
///
/// # Errors
///
/// What the server said.
pub fn create_scaled(cluster: &Cluster, database: &str, scale: f64) -> Result<(), PostgresError> {
    cluster.create_database(database, &DatabaseOptions::default())?;
    cluster
        .psql(
            database,
            &format!("SET sample.scale = '{scale}';\n{SAMPLE}"),
        )
        .map(drop)
}

/// Makes the database that is measured: at [`FULL`] 1.15 GB of COPY text, 80 % of it in one table.
///
/// # Errors
///
/// What the server said.
pub fn create_bench(cluster: &Cluster, database: &str, scale: f64) -> Result<(), PostgresError> {
    cluster.create_database(database, &DatabaseOptions::default())?;
    cluster
        .psql(database, &format!("SET bench.scale = '{scale}';\n{BENCH}"))
        .map(drop)
}
