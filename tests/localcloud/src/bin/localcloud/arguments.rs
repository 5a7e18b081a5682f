//! The command line.

use std::path::PathBuf;

pub(crate) const USAGE: &str = "\
usage: localcloud backup [--database-url URL] [--home DIR] [--artifacts DIR] [--json]
       localcloud up     [--database-url URL] [--home DIR] [--artifacts DIR] [--port PORT]
       localcloud down   [--home DIR]

  backup   takes one backup through the real functions and state machine, verifies it, reports
  up       keeps the cloud running for the AWS CLI until Ctrl-C or `localcloud down`
  down     stops the cloud that runs in a home

  --database-url URL   the database; without it, a private PostgreSQL with a sample database.
                       The variable DATABASE_URL does the same, and keeps a password out of the process list
  --home DIR           objects, identities, logs (default .lifeboat)
  --artifacts DIR      the functions' programs, for example .aws-sam/build (default: beside this program)
  --json               print the report as JSON
  --port PORT          of the cloud's one address (default: any free one)";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Backup,
    Up,
    Down,
    Help,
}

#[derive(Clone)]
pub(crate) struct Arguments {
    pub(crate) command: Command,
    pub(crate) database_url: Option<String>,
    pub(crate) home: PathBuf,
    pub(crate) artifacts: Option<PathBuf>,
    pub(crate) json: bool,
    pub(crate) port: u16,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Wrong {
    #[error("say what to do: backup, up or down")]
    NoCommand,
    #[error("unknown argument: {0}")]
    Unknown(String),
    #[error("{0} needs a value")]
    NoValue(String),
    #[error("not a port: {0}")]
    Port(String),
}

impl Arguments {
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, Wrong> {
        let command = match words.next().as_deref() {
            Some("backup") => Command::Backup,
            Some("up") => Command::Up,
            Some("down") => Command::Down,
            Some("help" | "--help" | "-h") => Command::Help,
            Some(other) => return Err(Wrong::Unknown(other.to_owned())),
            None => return Err(Wrong::NoCommand),
        };
        let mut arguments = Self {
            command,
            database_url: localcloud::workspace::database_url(),
            home: PathBuf::from(".lifeboat"),
            artifacts: None,
            json: false,
            port: 0,
        };
        while let Some(word) = words.next() {
            let (name, mut value) = match word.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (word, None),
            };
            let mut value = || {
                value
                    .take()
                    .or_else(|| words.next())
                    .ok_or_else(|| Wrong::NoValue(name.clone()))
            };
            match name.as_str() {
                "--database-url" => arguments.database_url = Some(value()?),
                "--home" => arguments.home = value()?.into(),
                "--artifacts" => arguments.artifacts = Some(value()?.into()),
                "--port" => {
                    let port = value()?;
                    arguments.port = port.parse().map_err(|_| Wrong::Port(port))?;
                }
                "--json" => arguments.json = true,
                _ => return Err(Wrong::Unknown(name)),
            }
        }
        Ok(arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, Wrong> {
        Arguments::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_are_read_in_both_spellings() {
        let arguments = parse("backup --home=/h --database-url postgresql://h/d --json")
            .ok()
            .unwrap();
        assert_eq!(arguments.home, PathBuf::from("/h"));
        assert_eq!(arguments.database_url.as_deref(), Some("postgresql://h/d"));
        assert!(arguments.json);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        assert_eq!(parse("").err(), Some(Wrong::NoCommand));
        assert_eq!(
            parse("restore").err(),
            Some(Wrong::Unknown("restore".into()))
        );
        assert_eq!(
            parse("up --home").err(),
            Some(Wrong::NoValue("--home".into()))
        );
        assert_eq!(parse("up --port x").err(), Some(Wrong::Port("x".into())));
    }
}
