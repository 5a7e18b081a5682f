//! Documentation is kept true: its commands are run by a test, or say that they need more than
//! this machine; its links lead somewhere.
//!
//! What becomes of a fenced `sh` block:
//! - every line is `make …`: the targets exist;
//! - ```` ```sh aws ````: needs a real AWS account, and is run by people only;
//! - any other name: a test runs the block of that name, as it stands in `docs/FORMAT.md` or, where that has
//!   none, in `docs/RUNBOOK.md`.

use std::collections::BTreeSet;
use std::path::Path;

use shared::policy::Policy;

use crate::harness::{Block, Document};

/// The first that has a block of a name has its original.
const COMMANDS: [&str; 2] = ["docs/FORMAT.md", "docs/RUNBOOK.md"];

fn documents() -> Vec<Document> {
    let root = localcloud::workspace::root();
    let mut paths: Vec<String> = root
        .join("docs")
        .read_dir()
        .unwrap()
        .map(|file| format!("docs/{}", file.unwrap().file_name().to_str().unwrap()))
        .filter(|path| Path::new(path).extension().is_some_and(|it| it == "md"))
        .collect();
    assert!(COMMANDS.iter().all(|it| paths.contains(&(*it).to_owned())));
    if root.join("README.md").exists() {
        paths.push("README.md".to_owned());
    }
    paths.iter().map(|path| Document::read(path)).collect()
}

/// The names of blocks that tests run, as they stand in their source.
fn names_in_tests() -> BTreeSet<String> {
    let tests = localcloud::workspace::root().join("tests");
    let mut files = vec![tests.join("format.rs"), tests.join("restore_machine.rs")];
    for folder in ["drill", "format", "neon", "restore_machine"] {
        let parts = tests.join(folder).read_dir().unwrap();
        let parts = parts.map(|file| file.unwrap().path());
        files.extend(parts.filter(|path| path.is_file()));
    }
    let text: String = files
        .iter()
        .map(|file| std::fs::read_to_string(file).unwrap())
        .collect();
    text.split('"').map(str::to_owned).collect()
}

fn make_targets() -> BTreeSet<String> {
    let makefile = Document::read("Makefile").text;
    let rules = makefile.lines().filter_map(|line| line.split_once(':'));
    rules
        .map(|(target, _)| target.to_owned())
        .filter(|target| !target.starts_with(['.', '\t', '#', ' ']))
        .collect()
}

/// What is wrong with the block, if anything.
fn judge(block: &Block) -> Result<(), String> {
    let mut lines = block.text.lines();
    let is_make = block.language == "sh" && lines.all(|line| line.starts_with("make "));
    match (block.language.as_str(), block.name.as_str()) {
        _ if is_make => {
            let targets = make_targets();
            let mut asked = block
                .text
                .lines()
                .map(|line| line.split(' ').nth(1).unwrap());
            match asked.find(|it| !targets.contains(*it)) {
                Some(target) => Err(format!("{target} is no target of the Makefile")),
                None => Ok(()),
            }
        }
        ("sh", "aws") => Ok(()),
        ("sh", "") => Err("no name: which test runs it? Or does it need `aws`?".to_owned()),
        ("sh", name) => {
            if !names_in_tests().contains(name) {
                return Err(format!("no test runs {name}"));
            }
            let mut originals = COMMANDS.iter().map(|it| Document::read(it));
            let has_it = |it: &Document| it.blocks().iter().any(|it| it.name == name);
            let Some(original) = originals.find(has_it) else {
                return Err(format!("{name} is in none of {COMMANDS:?}"));
            };
            (block.text == original.block(name))
                .then_some(())
                .ok_or_else(|| format!("{name} reads otherwise in {}", original.path))
        }
        ("toml", "") => match Policy::parse(&block.text) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("no lifeboat.toml: {error}")),
        },
        ("text" | "json", "") => Ok(()),
        (language, name) => Err(format!("unknown kind of block: {language} {name}")),
    }
}

#[test]
fn every_command_of_the_documentation_is_run_by_a_test_or_needs_an_account() {
    let mut wrong = Vec::new();
    for document in documents() {
        for block in document.blocks() {
            if let Err(reason) = judge(&block) {
                wrong.push(format!("{}:{}: {reason}", document.path, block.line));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The anchor that a heading gets on the web.
fn anchor(heading: &str) -> String {
    heading
        .trim_start_matches('#')
        .trim()
        .to_lowercase()
        .chars()
        .filter(|it| it.is_alphanumeric() || " -_".contains(*it))
        .map(|it| if it == ' ' { '-' } else { it })
        .collect()
}

fn anchors(markdown: &str) -> BTreeSet<String> {
    markdown
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(anchor)
        .collect()
}

#[test]
fn every_link_of_the_documentation_leads_somewhere() {
    let root = localcloud::workspace::root();
    let mut broken = Vec::new();
    for document in documents() {
        let folder = Path::new(&document.path).parent().unwrap();
        for link in document.text.split("](").skip(1) {
            let (link, _) = link.split_once(')').unwrap();
            if link.starts_with("https://") {
                continue;
            }
            let (path, section) = link.split_once('#').unwrap_or((link, ""));
            let text = if path.is_empty() {
                Some(document.text.clone())
            } else {
                let target = root.join(folder).join(path);
                target
                    .exists()
                    .then(|| std::fs::read_to_string(target).unwrap_or_default())
            };
            let leads =
                text.is_some_and(|text| section.is_empty() || anchors(&text).contains(section));
            if !leads {
                broken.push(format!("{}: {link}", document.path));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
