//! The rules of the architecture, which no compiler knows. `docs/ARCHITECTURE.md` gives the reasons.

use std::path::{Path, PathBuf};

/// What decides, and therefore does nothing: values in, values out.
const PURE: [&str; 91] = [
    "functions/alert/src/advice.rs",
    "functions/alert/src/branches.rs",
    "functions/alert/src/cause.rs",
    "functions/alert/src/drill.rs",
    "functions/alert/src/message.rs",
    "functions/alert/src/production.rs",
    "functions/alert/src/recovery.rs",
    "functions/drill/src/branch_drill.rs",
    "functions/drill/src/calendar.rs",
    "functions/drill/src/checks/address.rs",
    "functions/drill/src/checks/application.rs",
    "functions/drill/src/checks/branch.rs",
    "functions/drill/src/checks/catalog.rs",
    "functions/drill/src/checks/difference.rs",
    "functions/drill/src/checks/groups.rs",
    "functions/drill/src/checks/mod.rs",
    "functions/drill/src/checks/proof.rs",
    "functions/drill/src/checks/provenance.rs",
    "functions/drill/src/checks/state.rs",
    "functions/drill/src/choice.rs",
    "functions/drill/src/evidence.rs",
    "functions/drill/src/item.rs",
    "functions/drill/src/mark.rs",
    "functions/drill/src/objectives.rs",
    "functions/drill/src/report/mod.rs",
    "functions/drill/src/report/pictures.rs",
    "functions/drill/src/report/style.rs",
    "functions/drill/src/report/tables.rs",
    "functions/drill/src/timing.rs",
    "functions/drill/src/verdict.rs",
    "functions/dump/src/commit.rs",
    "functions/dump/src/plan.rs",
    "functions/dump/src/preflight.rs",
    "functions/restore/src/outcome.rs",
    "functions/restore/src/plan.rs",
    "functions/restore/src/report.rs",
    "functions/restore/src/words.rs",
    "functions/snapshot-branch/src/calendar.rs",
    "functions/snapshot-branch/src/posture.rs",
    "functions/snapshot-branch/src/reach.rs",
    "functions/snapshot-branch/src/recover/difference.rs",
    "functions/snapshot-branch/src/recover/outcome.rs",
    "functions/snapshot-branch/src/recover/plan.rs",
    "functions/snapshot-branch/src/recover/request.rs",
    "functions/snapshot-branch/src/recover/words.rs",
    "functions/snapshot-branch/src/rotation.rs",
    "functions/verify/src/consistency.rs",
    "functions/verify/src/judge.rs",
    "functions/verify/src/report.rs",
    "functions/verify/src/rows.rs",
    "shared/src/archive/copy_statement.rs",
    "shared/src/archive/mod.rs",
    "shared/src/archive/write.rs",
    "shared/src/backup.rs",
    "shared/src/checks/assertion.rs",
    "shared/src/checks/mod.rs",
    "shared/src/checks/table.rs",
    "shared/src/database_url.rs",
    "shared/src/fingerprint.rs",
    "shared/src/key.rs",
    "shared/src/manifest.rs",
    "shared/src/neon/answers.rs",
    "shared/src/neon/ownership.rs",
    "shared/src/neon/plan.rs",
    "shared/src/neon/retry.rs",
    "shared/src/plan.rs",
    "shared/src/policy.rs",
    "shared/src/policy/drill.rs",
    "shared/src/policy/neon.rs",
    "shared/src/policy/target.rs",
    "shared/src/redact.rs",
    "shared/src/restore/assemble.rs",
    "shared/src/restore/families.rs",
    "shared/src/restore/guard.rs",
    "shared/src/restore/guard/contents.rs",
    "shared/src/restore/guard/endpoint.rs",
    "shared/src/restore/guard/judge.rs",
    "shared/src/restore/guard/needs.rs",
    "shared/src/restore/jobs.rs",
    "shared/src/restore/merge.rs",
    "shared/src/restore/order.rs",
    "shared/src/restore/proof.rs",
    "shared/src/restore/queue.rs",
    "shared/src/restore/remedy.rs",
    "shared/src/restore/select.rs",
    "shared/src/restore/statements.rs",
    "shared/src/restore/units.rs",
    "shared/src/schedule/cron.rs",
    "shared/src/schedule/mod.rs",
    "shared/src/verdict.rs",
    "shared/src/words.rs",
];

/// How a file of Rust reaches the world outside, or the clock.
const OUTSIDE: [&str; 16] = [
    "std::env",
    "std::fs",
    "std::process",
    "std::thread",
    "Instant::now",
    "SystemTime",
    "TcpStream",
    "Timestamp::now",
    "UnixStream",
    "aws_config",
    "aws_sdk",
    "lambda_runtime",
    "pg::Connection",
    "reqwest",
    "store::Bucket",
    "tokio",
];

/// Names under which anything may be put, and then is.
const JUNK: [&str; 6] = ["common", "helpers", "misc", "model", "types", "utils"];
const PRODUCTION_LINES_MAX: usize = 400;

/// Every text file under version control, with its path from the root.
fn files() -> Vec<(String, String)> {
    let root = localcloud::workspace::root();
    let listed = std::process::Command::new("git")
        .args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "-z",
        ])
        .current_dir(&root)
        .output()
        .unwrap();
    assert!(listed.status.success(), "not a checkout of git");
    let paths = String::from_utf8(listed.stdout).unwrap();
    let paths = paths.split('\0').filter(|path| !path.is_empty());
    let files: Vec<_> = paths
        .filter_map(|path| {
            Some((
                path.to_owned(),
                std::fs::read_to_string(root.join(path)).ok()?,
            ))
        })
        .collect();
    assert!(files.len() > 100);
    files
}

fn is_rust(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|it| it == "rs")
}

/// The text up to the file's own tests.
fn production(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or(text)
}

/// Its code, without comments.
fn code(text: &str) -> String {
    let lines = production(text).lines();
    let code = lines.filter(|line| !line.trim_start().starts_with("//"));
    code.collect::<Vec<_>>().join("\n")
}

fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn what_decides_does_not_reach_outside() {
    let root = localcloud::workspace::root();
    let mut wrong = Vec::new();
    for path in PURE {
        let text = std::fs::read_to_string(root.join(path)).unwrap_or_else(|_| panic!("no {path}"));
        let code = code(&text);
        let found = OUTSIDE.iter().filter(|it| code.contains(**it));
        wrong.extend(found.map(|it| format!("{path} names {it}")));
    }
    assert_none(&wrong);
}

#[test]
fn dependencies_lead_from_tests_to_functions_to_shared() {
    let root = localcloud::workspace::root();
    let functions = [
        "alert",
        "drill",
        "dump",
        "restore",
        "snapshot-branch",
        "verify",
    ];
    let names = |manifest: &PathBuf| {
        let text = std::fs::read_to_string(manifest).unwrap();
        let table: toml::Table = toml::from_str(&text).unwrap();
        let dependencies = table["dependencies"].as_table().unwrap();
        dependencies.keys().cloned().collect::<Vec<_>>()
    };
    let mut wrong = Vec::new();
    for function in functions {
        let names = names(&root.join("functions").join(function).join("Cargo.toml"));
        assert!(names.contains(&"shared".to_owned()), "{names:?}");
        let others = functions
            .iter()
            .filter(|it| names.iter().any(|name| name == *it));
        wrong.extend(others.map(|other| format!("{function} depends on {other}")));
    }
    let above = [
        "alert",
        "drill",
        "dump",
        "lambda_runtime",
        "localcloud",
        "restore",
        "snapshot-branch",
        "verify",
    ];
    let below = names(&root.join("shared/Cargo.toml"));
    let found = above
        .iter()
        .filter(|it| below.iter().any(|name| name == *it));
    wrong.extend(found.map(|it| format!("shared depends on {it}")));
    assert_none(&wrong);
}

#[test]
fn no_file_is_too_long_to_hold_one_idea() {
    let mut wrong = Vec::new();
    for (path, text) in files().iter().filter(|(path, _)| is_rust(path)) {
        let lines = production(text).lines().count();
        if lines > PRODUCTION_LINES_MAX {
            wrong.push(format!("{path} has {lines} lines before its tests"));
        }
    }
    assert_none(&wrong);
}

#[test]
fn every_file_is_named_after_what_is_in_it() {
    let junk = |path: &str| {
        let mut parts = Path::new(path).with_extension("");
        let is_junk = |part: &str| JUNK.contains(&part);
        let found = parts
            .file_name()
            .and_then(|it| it.to_str())
            .is_some_and(is_junk);
        parts.pop();
        found
            || parts
                .file_name()
                .and_then(|it| it.to_str())
                .is_some_and(is_junk)
    };
    let files = files();
    let named = files
        .iter()
        .map(|(path, _)| path)
        .filter(|path| is_rust(path) && junk(path));
    assert_none(&named.cloned().collect::<Vec<_>>());
}

#[test]
fn nothing_names_a_registry_or_a_folder_of_one_machine() {
    // Put together here, so that this file does not name them either.
    let hosts = [
        ["crates", "io"],
        ["pypi", "org"],
        ["npmjs", "org"],
        ["debian", "org"],
        ["rust-lang", "org"],
        ["docker", "io"],
        ["pythonhosted", "org"],
    ]
    .map(|host| host.join("."));
    let root = localcloud::workspace::root().display().to_string();
    let folders = [
        root,
        ["", "Users", ""].join("/"),
        ["", "root", "."].join("/"),
    ];
    let mut wrong = Vec::new();
    // The lock file's registry is the package manager's own name for it.
    for (path, text) in files().iter().filter(|(path, _)| path != "Cargo.lock") {
        for (number, line) in text.lines().enumerate() {
            let names = hosts.iter().chain(&folders).find(|it| line.contains(*it));
            wrong.extend(names.map(|it| format!("{path}:{}: {it}", number + 1)));
        }
    }
    assert_none(&wrong);
}

#[test]
fn only_one_module_makes_keys() {
    let prefixes = [
        "backups",
        "drills",
        "evidence",
        "plans",
        "recoveries",
        "verdicts",
        "verify",
    ]
    .map(|it| format!("\"{it}/"));
    let mut wrong = Vec::new();
    for (path, text) in files() {
        let is_ours = path.starts_with("functions/") || path.starts_with("shared/src/");
        if !is_ours || !is_rust(&path) || path == "shared/src/key.rs" || path.contains("/tests") {
            continue;
        }
        let code = code(&text);
        let found = prefixes.iter().find(|it| code.contains(*it));
        wrong.extend(found.map(|it| format!("{path} writes a key that begins with {it}")));
    }
    assert_none(&wrong);
}
