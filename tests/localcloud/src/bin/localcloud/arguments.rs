//! The command line.

use std::path::PathBuf;

pub(crate) const USAGE: &str = "\
usage: localcloud backup  [--database-url URL | --neon] [--home DIR] [--artifacts DIR] [--json]
       localcloud restore [--database NAME] [--backup ID | --point TIME] [--tables A,B | --scope SCOPE]
                          [--target-url URL] [--into NAME] [--yes] [--home DIR] [--artifacts DIR] [--json]
       localcloud restore --vault BUCKET --work BUCKET --target NAME [--config DIR] [the options above]
       localcloud drill   [--database NAME] [--target-url URL] [--home DIR] [--artifacts DIR] [--json]
       localcloud up      [--database-url URL] [--home DIR] [--artifacts DIR] [--port PORT]
       localcloud down    [--home DIR]

  backup   takes one backup through the real functions and state machine, verifies it, reports
  restore  restores a backup of the home into a new database, through the real functions and state machine,
           after asking on the terminal; with --vault, from a bucket of an AWS account, without any deadline
  drill    restores the latest verified backup into a scratch database, proves it, reports, destroys it
  up       keeps the cloud running for the AWS CLI until Ctrl-C or `localcloud down`
  down     stops the cloud that runs in a home

  --database-url URL   the database; without it, a private PostgreSQL with a sample database.
                       The variable DATABASE_URL does the same, and keeps a password out of the process list
  --neon               a project of the stand-in of Neon instead: the nightly backup through a temporary branch, then
                       the nightly run over the branches
  --home DIR           objects, identities, logs (default .lifeboat)
  --artifacts DIR      the functions' programs, for example .aws-sam/build (default: beside this program)
  --json               print the report as JSON
  --database NAME      whose backup (default: the only one that there is)
  --backup ID          that backup; with --unverified even if nothing has read it back (default: the latest verified)
  --point TIME         the last verified backup from before that time, such as 2026-11-21T02:30:00Z
  --tables A,B         these tables (schema.table), into a staging schema beside the live ones
  --scope SCOPE        everything, schema_only or data_only
  --target-url URL     the server (any database of it, as a role that may create databases), or with --tables the
                       live database; without it, private servers. The variable TARGET_URL does the same
  --into NAME          the new database, or the staging schema (default: a name with the time)
  --owners, --privileges   also give objects their owners, and grant what was granted
  --operator NAME      who approves, for the record (default: the variable USER)
  --yes                approve the plan without asking
  --vault, --work BUCKET   restore from the account that the AWS variables or profile lead to
  --target NAME        the [[target]] of lifeboat.toml; its secret is lifeboat/target/NAME of that account
  --config DIR         where lifeboat.toml is (default infra/config)
  --port PORT          of the cloud's one address (default: any free one)";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Backup,
    Restore,
    Drill,
    Up,
    Down,
    Help,
}

#[derive(Clone)]
pub(crate) struct Arguments {
    pub(crate) command: Command,
    pub(crate) database_url: Option<String>,
    pub(crate) neon: bool,
    pub(crate) home: PathBuf,
    pub(crate) artifacts: Option<PathBuf>,
    pub(crate) json: bool,
    pub(crate) port: u16,
    pub(crate) restore: Restore,
}

/// What only `restore` and `drill` ask for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Restore {
    pub(crate) database: Option<String>,
    pub(crate) backup: Option<String>,
    pub(crate) point: Option<String>,
    pub(crate) tables: Vec<String>,
    pub(crate) scope: Option<String>,
    pub(crate) target_url: Option<TargetUrl>,
    pub(crate) into: Option<String>,
    pub(crate) owners: bool,
    pub(crate) privileges: bool,
    pub(crate) unverified: bool,
    pub(crate) operator: Option<String>,
    pub(crate) yes: bool,
    /// Buckets of an account, instead of the home's.
    pub(crate) vault: Option<String>,
    pub(crate) work: Option<String>,
    pub(crate) target: Option<String>,
    pub(crate) config: Option<PathBuf>,
}

/// With a password: printed by nobody.
#[derive(Clone)]
pub(crate) struct TargetUrl(pub(crate) String);

impl std::fmt::Debug for TargetUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TargetUrl(…)")
    }
}

impl Restore {
    /// Whether `name` is an option of these; then it has been taken.
    fn take(
        &mut self,
        name: &str,
        mut value: impl FnMut() -> Result<String, Wrong>,
    ) -> Result<bool, Wrong> {
        match name {
            "--database" => self.database = Some(value()?),
            "--backup" => self.backup = Some(value()?),
            "--point" => self.point = Some(value()?),
            "--tables" => self.tables.extend(split_tables(&value()?)),
            "--scope" => self.scope = Some(value()?),
            "--target-url" => self.target_url = Some(TargetUrl(value()?)),
            "--into" => self.into = Some(value()?),
            "--owners" => self.owners = true,
            "--privileges" => self.privileges = true,
            "--unverified" => self.unverified = true,
            "--operator" => self.operator = Some(value()?),
            "--yes" => self.yes = true,
            "--vault" => self.vault = Some(value()?),
            "--work" => self.work = Some(value()?),
            "--target" => self.target = Some(value()?),
            "--config" => self.config = Some(value()?.into()),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// At commas outside of quotes.
fn split_tables(text: &str) -> Vec<String> {
    let (mut tables, mut quoted) = (vec![String::new()], false);
    for c in text.chars() {
        quoted ^= c == '"';
        match tables.last_mut() {
            Some(table) if c != ',' || quoted => table.push(c),
            _ => tables.push(String::new()),
        }
    }
    let trimmed = tables.iter().map(|it| it.trim().to_owned());
    trimmed.filter(|it| !it.is_empty()).collect()
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Wrong {
    #[error("say what to do: backup, restore, drill, up or down")]
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
            Some("restore") => Command::Restore,
            Some("drill") => Command::Drill,
            Some("up") => Command::Up,
            Some("down") => Command::Down,
            Some("help" | "--help" | "-h") => Command::Help,
            Some(other) => return Err(Wrong::Unknown(other.to_owned())),
            None => return Err(Wrong::NoCommand),
        };
        let mut arguments = Self {
            command,
            database_url: localcloud::workspace::database_url(),
            neon: false,
            home: PathBuf::from(".lifeboat"),
            artifacts: None,
            json: false,
            port: 0,
            restore: Restore {
                target_url: localcloud::workspace::target_url().map(TargetUrl),
                ..Restore::default()
            },
        };
        let recovers = matches!(arguments.command, Command::Restore | Command::Drill);
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
                "--neon" if arguments.command == Command::Backup => arguments.neon = true,
                name if recovers && arguments.restore.take(name, &mut value)? => {}
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
        assert!(arguments.json && !arguments.neon);
        assert!(parse("backup --neon").ok().unwrap().neon);
        assert_eq!(
            parse("up --neon").err(),
            Some(Wrong::Unknown("--neon".into()))
        );
    }

    #[test]
    fn a_restore_is_told_what_from_where_and_into_what() {
        let line =
            "restore --point=2026-11-21T02:30:00Z --tables app.users,app.\"a,b\" --into x --yes";
        let restore = parse(line).ok().unwrap().restore;
        assert_eq!(restore.point.as_deref(), Some("2026-11-21T02:30:00Z"));
        assert_eq!(restore.tables, ["app.users", "app.\"a,b\""]);
        assert_eq!(restore.into.as_deref(), Some("x"));
        assert!(restore.yes && !restore.owners);
        let secret = parse("restore --target-url postgresql://u:hidden@h/d");
        assert!(!format!("{:?}", secret.ok().unwrap().restore).contains("hidden"));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        assert_eq!(parse("").err(), Some(Wrong::NoCommand));
        assert_eq!(parse("prune").err(), Some(Wrong::Unknown("prune".into())));
        assert_eq!(
            parse("backup --yes").err(),
            Some(Wrong::Unknown("--yes".into()))
        );
        assert_eq!(
            parse("up --home").err(),
            Some(Wrong::NoValue("--home".into()))
        );
        assert_eq!(parse("up --port x").err(), Some(Wrong::Port("x".into())));
    }
}
