//! Stock PostgreSQL client programs: which there are, and which one fits a server.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Clients below these have known ways to be attacked by the server they dump
/// (CVE-2024-7348, CVE-2025-8714, CVE-2026-6477). As of 2026-11-20; majors above the last are
/// newer than all three.
const SECURITY_FLOOR: [(u32, u32); 5] = [(14, 23), (15, 18), (16, 14), (17, 10), (18, 4)];

/// One program of one major.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    pub program: PathBuf,
    pub major: u32,
    pub minor: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error(
        "no {program} for a server {server_major} under {}: it must be of the server's major or a newer one (found: {found}); add it to the tools layer",
        .root.display()
    )]
    Missing {
        program: &'static str,
        root: PathBuf,
        server_major: u32,
        found: String,
    },
    #[error(
        "{program} {major}.{minor} has known security holes: use {major}.{floor} or later",
        .program = .program.display()
    )]
    BelowSecurityFloor {
        program: PathBuf,
        major: u32,
        minor: u32,
        floor: u32,
    },
    #[error("{} does not run", .program.display())]
    DoesNotRun {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} gives no version that can be read: {answer:?}", .program.display())]
    NoVersion { program: PathBuf, answer: String },
}

/// Finds `<root>/<major>/bin/<program>`: of the server's major where present, else of the
/// next newer. The directory layout is Debian's.
pub fn find(root: &Path, program: &'static str, server_major: u32) -> Result<Client, ClientError> {
    let mut majors = installed(root, program);
    majors.sort_unstable();
    let Some(major) = majors.iter().find(|it| **it >= server_major) else {
        let found: Vec<String> = majors.iter().map(u32::to_string).collect();
        return Err(ClientError::Missing {
            program,
            root: root.to_owned(),
            server_major,
            found: if found.is_empty() {
                "none".to_owned()
            } else {
                found.join(", ")
            },
        });
    };
    let program = path(root, *major, program);
    let (major, minor) = version(&program)?;
    check_floor(Client {
        program,
        major,
        minor,
    })
}

fn check_floor(client: Client) -> Result<Client, ClientError> {
    match SECURITY_FLOOR.iter().find(|it| it.0 == client.major) {
        Some((_, floor)) if client.minor < *floor => Err(ClientError::BelowSecurityFloor {
            program: client.program,
            major: client.major,
            minor: client.minor,
            floor: *floor,
        }),
        _ => Ok(client),
    }
}

fn path(root: &Path, major: u32, program: &str) -> PathBuf {
    root.join(major.to_string()).join("bin").join(program)
}

fn installed(root: &Path, program: &str) -> Vec<u32> {
    let Ok(directories) = root.read_dir() else {
        return Vec::new();
    };
    directories
        .filter_map(|directory| directory.ok()?.file_name().to_str()?.parse().ok())
        .filter(|major| path(root, *major, program).is_file())
        .collect()
}

fn version(program: &Path) -> Result<(u32, u32), ClientError> {
    let output = Command::new(program).arg("--version").env_clear().output();
    let output = output.map_err(|source| ClientError::DoesNotRun {
        program: program.to_owned(),
        source,
    })?;
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    parse_version(&answer).ok_or_else(|| ClientError::NoVersion {
        program: program.to_owned(),
        answer,
    })
}

/// `pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`; a release candidate is minor 0.
fn parse_version(answer: &str) -> Option<(u32, u32)> {
    let number = answer
        .split_once("(PostgreSQL) ")?
        .1
        .split_whitespace()
        .next()?;
    let digits = |text: &str| {
        let end = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        text[..end].parse().ok()
    };
    match number.split_once('.') {
        Some((major, minor)) => Some((digits(major)?, digits(minor)?)),
        None => Some((digits(number)?, 0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_clients_print_them() {
        for (answer, expected) in [
            (
                "pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n",
                Some((15, 18)),
            ),
            ("pg_dump (PostgreSQL) 18.4\n", Some((18, 4))),
            ("pg_dump (PostgreSQL) 19rc1\n", Some((19, 0))),
            ("pg_dump: command not found", None),
        ] {
            assert_eq!(parse_version(answer), expected, "{answer}");
        }
    }

    #[test]
    fn a_client_with_known_holes_is_refused() {
        let client = |major, minor| Client {
            program: "pg_dump".into(),
            major,
            minor,
        };
        assert!(check_floor(client(15, 18)).is_ok());
        assert!(check_floor(client(19, 0)).is_ok());
        let error = check_floor(client(15, 17)).unwrap_err().to_string();
        assert_eq!(
            error,
            "pg_dump 15.17 has known security holes: use 15.18 or later"
        );
    }

    #[test]
    fn the_servers_major_is_preferred_and_an_older_one_never_used() {
        let root = tempfile::tempdir().unwrap();
        for (major, version) in [("15", "15.18"), ("18", "18.4")] {
            let bin = root.path().join(major).join("bin");
            std::fs::create_dir_all(&bin).unwrap();
            let script = format!("#!/bin/sh\necho 'pg_dump (PostgreSQL) {version}'\n");
            std::fs::write(bin.join("pg_dump"), script).unwrap();
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(bin.join("pg_dump"), mode).unwrap();
        }
        let major = |server| find(root.path(), "pg_dump", server).map(|it| it.major);
        assert_eq!(major(15).unwrap(), 15);
        assert_eq!(major(16).unwrap(), 18);
        let error = major(19).unwrap_err().to_string();
        assert!(error.contains("found: 15, 18"), "{error}");
    }
}
