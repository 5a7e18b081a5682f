//! What the end-to-end tests stand on: one server of each major and one cloud, made by the first
//! test that asks and shared by all. Whatever was started ends with this process.
//!
//! Databases are named by their test, so that tests can run at the same time.

mod backups;
mod clouds;
mod clusters;
mod document;
mod engine;
mod fingerprints;
mod shell;

pub use backups::{Backup, back_up, dump, item, verify};
pub use clouds::{authority, cloud, configure, scratch, trusting_our_authority, wait};
pub use clusters::{assert_equal_database, assert_same_text, cluster, dump_as_text};
pub use document::{Block, Document};
pub use engine::{engine, open, open_for_tables};
pub use fingerprints::{fingerprints_of_copy, large_objects_of_copy};
pub use shell::{Shell, succeeds};
