//! Whole backups, sound and damaged, through the real S3 protocol and without it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod continuation;
mod damage;
mod manifest;
mod outage;
mod sample;
mod vault;
mod verdict;
