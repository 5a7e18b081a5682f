//! `localcloud` with a person at its terminal.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use localcloud::postgres::{DatabaseOptions, Major, SUPERUSER, pgtools_dir};

use super::rescue::{SHOP, standby};
use crate::harness::{cluster, scratch};

/// The program in a pseudo terminal of its own.
pub(super) struct Terminal(Command);

impl Terminal {
    /// `arguments` as a shell takes them.
    pub(super) fn new(arguments: &str) -> Self {
        let own = std::env::current_exe().unwrap();
        let program = own.parent().unwrap().parent().unwrap().join("localcloud");
        let line = format!("'{}' {arguments}", program.display());
        let mut command = Command::new("script");
        command
            .args(["-qefc", &line, "/dev/null"])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", scratch())
            .env("USER", "Grace")
            .current_dir(localcloud::workspace::root());
        Self(command)
    }

    pub(super) fn envs(&mut self, variables: BTreeMap<String, String>) {
        self.0.envs(variables);
    }

    /// Types this line, and returns what was on the screen.
    pub(super) fn run(mut self, typed: &str) -> String {
        let child = self.0.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(format!("{typed}\n").as_bytes()).unwrap();
        // What is left open is a person who goes on looking.
        let output = child.wait_with_output().unwrap();
        drop(stdin);
        let screen = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{screen}");
        screen
    }
}

#[test]
fn a_backup_at_home_is_restored_by_whoever_types_the_targets_name() {
    let source = cluster(Major::debian().unwrap());
    let options = DatabaseOptions::default();
    source.create_database("at-home", &options).unwrap();
    source.psql("at-home", SHOP).unwrap();
    let home = scratch().join("at-home");
    let pgtools = scratch().join("at-home-pgtools");
    pgtools_dir(&pgtools, &[source.major()]).unwrap();
    let run = |arguments: &str, (name, value): (&str, String), typed: &str| {
        let mut terminal = Terminal::new(&format!("{arguments} --home '{}'", home.display()));
        let tools = ("PGTOOLS".to_owned(), pgtools.display().to_string());
        terminal.envs(BTreeMap::from([tools, (name.to_owned(), value)]));
        terminal.run(typed)
    };
    let url = source.url("at-home", SUPERUSER);
    run("backup", ("DATABASE_URL", url), "");
    let target = standby().url(SUPERUSER, SUPERUSER);
    let screen = run(
        "restore --into at_home_copy",
        ("TARGET_URL", target),
        "standby/at_home_copy",
    );
    assert!(screen.contains("To approve, type the name"), "{screen}");
    assert!(screen.contains("PROVEN"), "{screen}");
    let items = "SELECT count(*) FROM shop.items";
    assert_eq!(standby().psql("at_home_copy", items).unwrap(), "3000");
}
