//! Checks a `lifeboat.toml` without AWS and prints the secrets that its databases need, one a line.
//!
//! `check_config FILE` accepts a file whose recipients are still to be written (`make lint`);
//! `check_config --complete FILE` accepts only what the functions would (`make deploy`).

use std::error::Error;

use shared::policy::{Policy, PolicyError};

/// Stands in for recipients that nobody has written yet, so that the rest is checked all the same.
const ANY_TWO: &str = "recipients = [\
    \"age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p\", \
    \"age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj\"]";

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let must_be_complete = arguments.first().is_some_and(|it| it == "--complete");
    let path = arguments
        .pop()
        .ok_or("usage: check_config [--complete] FILE")?;
    let text = std::fs::read_to_string(path)?;
    let policy = match Policy::parse(&text) {
        Err(PolicyError::TooFewRecipients { found: 0 }) if !must_be_complete => {
            Policy::parse(&text.replacen("recipients = []", ANY_TWO, 1))?
        }
        parsed => parsed?,
    };
    if must_be_complete && policy.databases.is_empty() {
        return Err("lifeboat.toml: there is no [[database]]; nothing would be backed up".into());
    }
    for database in policy.databases {
        let reads_branch = database.neon.as_ref().is_some_and(|it| it.dump_from_branch);
        if !reads_branch {
            println!("lifeboat/database/{}", database.name);
        }
        if let Some(neon) = database.neon {
            println!("lifeboat/neon/{}", neon.project);
        }
    }
    Ok(())
}
