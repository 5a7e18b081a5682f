//! Neon's own command line, an independent judge of the stand-in.

use std::process::Command;

use localcloud::neon::{Neon, NeonFault, NeonFaultAction, NeonOptions, ProjectOptions, Seeded};
use serde_json::Value;

use crate::harness::{scratch, succeeds};

/// The version that `make` installs.
const PROGRAM: &str = ".tools/neon-5.0.1/node_modules/.bin/neon";

struct CommandLine {
    neon: Neon,
    seeded: Seeded,
}

impl CommandLine {
    /// What the program prints; JSON where it is.
    fn run(&self, arguments: &[&str]) -> Value {
        // Else it waits for seconds.
        self.neon.settle(&self.seeded.project).unwrap();
        let home = scratch().join("neon-command-line");
        std::fs::create_dir_all(&home).unwrap();
        let mut neon = Command::new(localcloud::workspace::root().join(PROGRAM));
        neon.env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", &home)
            .env("NEON_API_KEY", self.neon.project_key(&self.seeded.project))
            .current_dir(&home)
            .args(["--api-host", self.neon.url(), "--no-analytics"])
            .args(["--project-id", &self.seeded.project, "--output", "json"])
            .args(arguments);
        let text = String::from_utf8(succeeds(&mut neon)).unwrap();
        serde_json::from_str(&text).unwrap_or(Value::String(text))
    }

    fn names(&self) -> Vec<String> {
        let branches = self.neon.branches(&self.seeded.project).unwrap();
        let mut names: Vec<_> = branches.into_iter().map(|it| it.name).collect();
        names.sort();
        names
    }
}

#[test]
fn the_official_command_line_works_against_the_stand_in() {
    let neon = Neon::start(NeonOptions::default()).unwrap();
    let seed = "CREATE TABLE items (name text); INSERT INTO items VALUES ('first')";
    let seeded = neon.project(ProjectOptions {
        seed: seed.to_owned(),
        ..ProjectOptions::default()
    });
    let cli = CommandLine {
        seeded: seeded.unwrap(),
        neon,
    };
    // The program waits for three seconds and tries again.
    cli.neon.faults().add(NeonFault {
        method: Some("POST".parse().unwrap()),
        path: "/branches".to_owned(),
        action: NeonFaultAction::Locked,
        ..NeonFault::default()
    });
    let made = cli.run(&["branches", "create", "--name", "backup", "--no-compute"]);
    assert_eq!(made["name"], "backup");
    assert_eq!(cli.neon.faults().matches(), [2]);
    let listed = cli.run(&["branches", "list"]);
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), 2, "{listed:?}");

    let (project, main) = (cli.seeded.project.clone(), cli.seeded.branch.clone());
    let count = "SELECT count(*) FROM items";
    let psql = |sql| cli.neon.psql(&project, "main", "neondb", sql).unwrap();
    psql("DELETE FROM items");
    cli.run(&[
        "branches",
        "restore",
        "main",
        "backup",
        "--preserve-under-name",
        "before",
    ]);
    assert_eq!(cli.names(), ["backup", "before", "main"]);

    let snapshot = cli.run(&[
        "snapshots",
        "create",
        "--branch",
        "main",
        "--name",
        "evening",
    ]);
    assert_eq!(snapshot["source_branch_id"], main.as_str(), "{snapshot}");
    let snapshots = cli.run(&["snapshots", "list"]);
    assert_eq!(snapshots.as_array().unwrap().len(), 1);
    assert_eq!(psql(count), "1");

    let url = cli.run(&["connection-string", "main", "--pooled"]);
    let host = format!("@{}-pooler.localhost/neondb", cli.seeded.endpoint);
    assert!(url.as_str().unwrap().contains(&host), "{url}");

    cli.run(&["branches", "delete", "backup"]);
    let operations = cli.run(&["operations", "list"]);
    let last = &operations.as_array().unwrap()[0];
    assert_eq!(last["action"], "delete_timeline", "{operations}");
}
