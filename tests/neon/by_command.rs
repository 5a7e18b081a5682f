//! `localcloud backup --neon`, as a newcomer meets it.

use std::process::Command;

use serde_json::Value;

use crate::harness::{scratch, succeeds};

#[test]
fn the_command_backs_up_a_neon_project_and_leaves_only_the_snapshot_branch() {
    let program = std::env::current_exe().unwrap();
    let program = program.parent().unwrap().with_file_name("localcloud");
    let mut command = Command::new(program);
    command
        .args(["backup", "--neon", "--json", "--home"])
        .arg(scratch().join("neon-home"));
    let report: Value = serde_json::from_slice(&succeeds(&mut command)).unwrap();
    assert_eq!(report["verified"], true, "{report:#}");
    assert_eq!(report["neon"]["connections_to_production"], 0);
    let branches = report["neon"]["branches"].as_array().unwrap();
    let names: Vec<&str> = branches.iter().map(|it| it.as_str().unwrap()).collect();
    // The daily branch, on Sundays the weekly one too, and production.
    assert!(names[0].starts_with("backup-2"), "{names:?}");
    assert!(names.contains(&"main"), "{names:?}");
    assert!(!names.iter().any(|it| it.contains("dump")), "{names:?}");
}
