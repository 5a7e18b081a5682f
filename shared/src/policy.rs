//! `lifeboat.toml`: which databases there are and how they are treated. Small, typed, and
//! unknown keys are refused. Schedules are not here: they are template parameters.

use std::collections::BTreeSet;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::backup::DatabaseName;

mod drill;
mod neon;
mod target;

pub use drill::{
    DrillPolicy, DrillPolicyError, HttpCheck, Method, Priority, Roles, SqlAssertion,
    TableExpectation,
};
pub use neon::{
    BranchDrill, ComputeUnits, HookName, InvalidComputeUnits, InvalidHookName, InvalidProjectId,
    KeepBranches, NeonPolicy, NeonPolicyError, ProjectId, Recurring,
};
pub use target::{InvalidTargetName, RestorePolicy, TargetName, TargetPolicy};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    Neon,
    Supabase,
    Postgres,
}

/// The whole file, valid.
#[derive(Clone, Debug)]
pub struct Policy {
    /// age public keys: two or more, one of them offline.
    pub recipients: Vec<String>,
    pub databases: Vec<DatabasePolicy>,
    /// Where backups may be restored to.
    pub targets: Vec<TargetPolicy>,
    /// Days that are no business days.
    pub holidays: BTreeSet<Date>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    recipients: Vec<String>,
    #[serde(default)]
    database: Vec<DatabasePolicy>,
    #[serde(default)]
    target: Vec<TargetPolicy>,
    #[serde(default)]
    holidays: BTreeSet<Date>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabasePolicy {
    pub name: DatabaseName,
    pub provider: Provider,
    /// How long after its scheduled time a nightly backup may still be under way.
    #[serde(default = "late_after_minutes")]
    pub late_after_minutes: u32,
    /// A dump that moves no byte for this long is ended.
    #[serde(default = "stall_seconds")]
    pub stall_seconds: u32,
    /// A session that waits for our locks longer than this ends the dump.
    #[serde(default = "yield_seconds")]
    pub yield_seconds: u32,
    /// Parallel `COPY` connections; absent: the function's vCPUs, at least 2.
    pub connections: Option<u32>,
    /// Tables above this many MiB (heap and TOAST) are cut into slices.
    #[serde(default = "slice_mib")]
    pub slice_mib: u32,
    /// What restores and drills leave out.
    #[serde(default)]
    pub restore: RestorePolicy,
    /// For how many days nobody can delete a backup that passed verify, from then on.
    #[serde(default = "lock_days")]
    pub lock_days: u32,
    /// Absent: nothing of it is ever drilled, and so never proven.
    pub drill: Option<DrillPolicy>,
    /// Absent: the database is dumped where its secret says, and has no branches.
    pub neon: Option<NeonPolicy>,
}

fn late_after_minutes() -> u32 {
    60
}

fn stall_seconds() -> u32 {
    60
}

fn yield_seconds() -> u32 {
    30
}

fn slice_mib() -> u32 {
    256
}

/// Also of a database that is not configured any more.
pub const LOCK_DAYS: u32 = 35;

fn lock_days() -> u32 {
    LOCK_DAYS
}

/// What is wrong with `lifeboat.toml`, and what to write instead.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("lifeboat.toml: {0}")]
    Syntax(#[source] Box<toml::de::Error>),
    #[error("lifeboat.toml: recipients[{index}] {recipient:?} is not an age public key: {reason}")]
    Recipient {
        index: usize,
        recipient: String,
        reason: &'static str,
    },
    #[error(
        "lifeboat.toml: recipients has {found} entries; write two or more age public keys, one of them of an identity kept offline (age-keygen makes one)"
    )]
    TooFewRecipients { found: usize },
    #[error("lifeboat.toml: recipients has {0:?} twice; the second must be another key")]
    RepeatedRecipient(String),
    #[error("lifeboat.toml: there are two databases named {0}")]
    RepeatedDatabase(DatabaseName),
    #[error("lifeboat.toml: there are two targets named {0}")]
    RepeatedTarget(TargetName),
    #[error("lifeboat.toml: {database}: drill: {source}")]
    Drill {
        database: DatabaseName,
        #[source]
        source: DrillPolicyError,
    },
    #[error(
        "lifeboat.toml: {database}: drill: there is no [[target]] named {target}; write one, or correct the name"
    )]
    UnknownDrillTarget {
        database: DatabaseName,
        target: TargetName,
    },
    #[error(
        "lifeboat.toml: {database}: drill: the target {target} is live; drills make and drop databases, so name a server of their own"
    )]
    LiveDrillTarget {
        database: DatabaseName,
        target: TargetName,
    },
    #[error("lifeboat.toml: {database}: neon: {source}")]
    Neon {
        database: DatabaseName,
        #[source]
        source: NeonPolicyError,
    },
    #[error("lifeboat.toml: {database}: {setting} = {value} is out of range: {range}")]
    OutOfRange {
        database: DatabaseName,
        setting: &'static str,
        value: u32,
        range: &'static str,
    },
}

impl Policy {
    /// Parses and validates the file; an empty list of databases is valid here and refused
    /// by whoever needs one.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let file: File =
            toml::from_str(text).map_err(|error| PolicyError::Syntax(Box::new(error)))?;
        check_recipients(&file.recipients)?;
        let mut names = BTreeSet::new();
        for database in &file.database {
            if !names.insert(&database.name) {
                return Err(PolicyError::RepeatedDatabase(database.name.clone()));
            }
            check_ranges(database)?;
        }
        let mut targets = BTreeSet::new();
        for target in &file.target {
            if !targets.insert(&target.name) {
                return Err(PolicyError::RepeatedTarget(target.name.clone()));
            }
        }
        let policy = Self {
            recipients: file.recipients,
            databases: file.database,
            targets: file.target,
            holidays: file.holidays,
        };
        policy
            .databases
            .iter()
            .try_for_each(|it| policy.check_drill(it))?;
        policy
            .databases
            .iter()
            .try_for_each(|it| policy.check_neon(it))?;
        Ok(policy)
    }

    fn check_neon(&self, database: &DatabasePolicy) -> Result<(), PolicyError> {
        let Some(neon) = &database.neon else {
            return Ok(());
        };
        let checked = match database.provider {
            Provider::Neon => neon
                .check()
                .and_then(|()| self.check_shared(database, neon)),
            Provider::Supabase | Provider::Postgres => Err(NeonPolicyError::OtherProvider),
        };
        checked.map_err(|source| PolicyError::Neon {
            database: database.name.clone(),
            source,
        })
    }

    fn check_shared(
        &self,
        database: &DatabasePolicy,
        neon: &NeonPolicy,
    ) -> Result<(), NeonPolicyError> {
        let asks = |it: &&DatabasePolicy| {
            let other = it.neon.as_ref();
            other.is_some_and(|other| other.project == neon.project && !other.create.is_empty())
        };
        let first = self.databases.iter().find(asks);
        match first {
            Some(first) if first.name != database.name && !neon.create.is_empty() => {
                Err(NeonPolicyError::Shared {
                    project: neon.project.clone(),
                    other: first.name.to_string(),
                })
            }
            Some(_) | None => Ok(()),
        }
    }

    fn check_drill(&self, database: &DatabasePolicy) -> Result<(), PolicyError> {
        let Some(drill) = &database.drill else {
            return Ok(());
        };
        let (database, target) = (database.name.clone(), drill.target.clone());
        match self.target(&target) {
            None => Err(PolicyError::UnknownDrillTarget { database, target }),
            Some(found) if found.live => Err(PolicyError::LiveDrillTarget { database, target }),
            Some(_) => drill
                .check()
                .map_err(|source| PolicyError::Drill { database, source }),
        }
    }

    pub fn database(&self, name: &DatabaseName) -> Option<&DatabasePolicy> {
        self.databases.iter().find(|it| it.name == *name)
    }

    pub fn target(&self, name: &TargetName) -> Option<&TargetPolicy> {
        self.targets.iter().find(|it| it.name == *name)
    }
}

fn check_recipients(recipients: &[String]) -> Result<(), PolicyError> {
    for (index, recipient) in recipients.iter().enumerate() {
        let parsed: Result<age::x25519::Recipient, &'static str> = recipient.parse();
        parsed.map_err(|reason| PolicyError::Recipient {
            index,
            recipient: recipient.clone(),
            reason,
        })?;
        if recipients[..index].contains(recipient) {
            return Err(PolicyError::RepeatedRecipient(recipient.clone()));
        }
    }
    if recipients.len() < 2 {
        return Err(PolicyError::TooFewRecipients {
            found: recipients.len(),
        });
    }
    Ok(())
}

fn check_ranges(database: &DatabasePolicy) -> Result<(), PolicyError> {
    let checks = [
        (
            "connections",
            database.connections.unwrap_or(2),
            1..=8,
            "1 to 8",
        ),
        ("slice_mib", database.slice_mib, 1..=65_536, "1 to 65536"),
        ("lock_days", database.lock_days, 1..=3_650, "1 to 3650"),
        ("stall_seconds", database.stall_seconds, 1..=600, "1 to 600"),
        ("yield_seconds", database.yield_seconds, 1..=600, "1 to 600"),
        (
            "late_after_minutes",
            database.late_after_minutes,
            1..=1_440,
            "1 to 1440",
        ),
    ];
    for (setting, value, allowed, range) in checks {
        if !allowed.contains(&value) {
            return Err(PolicyError::OutOfRange {
                database: database.name.clone(),
                setting,
                value,
                range,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONLINE: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
    const OFFLINE: &str = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";

    fn error_of(text: &str) -> String {
        let text = text.replace(
            "KEYS",
            &format!("recipients = [\"{ONLINE}\", \"{OFFLINE}\"]"),
        );
        Policy::parse(&text).unwrap_err().to_string()
    }

    #[test]
    fn a_small_file_is_enough() {
        let policy = Policy::parse(&format!(
            "recipients = [\"{ONLINE}\", \"{OFFLINE}\"]\n[[database]]\nname = \"app\"\nprovider = \"neon\"\n"
        ))
        .unwrap();
        let app = &policy.databases[0];
        assert_eq!(
            (app.provider, app.slice_mib, app.connections),
            (Provider::Neon, 256, None)
        );
    }

    #[test]
    fn each_mistake_is_named() {
        for (text, expected) in [
            ("KEYS\nretention = 3", "unknown field `retention`"),
            (
                "KEYS\n[[database]]\nname='a'\nprovider='oracle'",
                "unknown variant `oracle`",
            ),
            (
                "KEYS\n[[database]]\nname='A'\nprovider='neon'",
                "is not a database name",
            ),
            ("recipients = []", "write two or more age public keys"),
            (
                "recipients = ['age1x']",
                "recipients[0] \"age1x\" is not an age public key",
            ),
            (
                "KEYS\n[[database]]\nname='a'\nprovider='neon'\n[[database]]\nname='a'\nprovider='neon'",
                "two databases named a",
            ),
            (
                "KEYS\n[[database]]\nname='a'\nprovider='neon'\nconnections=9",
                "connections = 9 is out of range: 1 to 8",
            ),
            (
                "KEYS\n[[database]]\nname='a'\nprovider='neon'\nslice_mib=-1",
                "invalid value",
            ),
            (
                "KEYS\n[[target]]\nname='a'\n[[target]]\nname='a'\nlive=true",
                "two targets named a",
            ),
            ("KEYS\n[[target]]\nname='A'", "is not the name of a target"),
            (
                "KEYS\n[[target]]\nname='a'\nclean=true",
                "unknown field `clean`",
            ),
            (
                "KEYS\n[[database]]\nname='a'\nprovider='neon'\n[database.restore]\nleave_out=['x']",
                "unknown field `leave_out`",
            ),
            ("KEYS\nholidays=['2026-02-30']", "2026-02-30"),
            (
                "KEYS\n[[database]]\nname='a'\nprovider='neon'\n[database.drill]\ntarget='x'",
                "a: drill: there is no [[target]] named x",
            ),
            (
                "KEYS\n[[target]]\nname='x'\nlive=true\n[[database]]\nname='a'\nprovider='neon'\n[database.drill]\ntarget='x'",
                "a: drill: the target x is live",
            ),
            (
                "KEYS\n[[database]]\nname='a'\nprovider='postgres'\n[database.neon]\nproject='p-1'\nrole='r'\ndatabase='d'",
                "a: neon: it stands under a database whose provider is not",
            ),
            (
                "KEYS\n[[database]]\nname='a'\nprovider='neon'\n[database.neon]\nproject='p-1'\nrole='r'\ndatabase='d'\n\
                 [[database]]\nname='b'\nprovider='neon'\n[database.neon]\nproject='p-1'\nrole='r'\ndatabase='e'",
                "b: neon: the project p-1 has its snapshot branches from a already",
            ),
            (
                "KEYS\n[[target]]\nname='x'\n[[database]]\nname='a'\nprovider='neon'\n[database.drill]\ntarget='x'\nconnections=0",
                "a: drill: connections = 0 is out of range: 1 to 8",
            ),
        ] {
            let error = error_of(text);
            assert!(error.contains(expected), "{text}\n{error}");
        }
    }

    #[test]
    fn a_target_is_not_live_unless_it_says_so() {
        let policy = Policy::parse(&format!(
            "recipients = [\"{ONLINE}\", \"{OFFLINE}\"]\n[[target]]\nname = \"standby\"\n\
             [[database]]\nname = \"app\"\nprovider = \"neon\"\n\
             [database.restore]\nleave_out_extensions = [\"pg_graphql\"]\n"
        ))
        .unwrap();
        let standby = policy.target(&"standby".parse().unwrap()).unwrap();
        assert!(!standby.live);
        let restore = &policy.databases[0].restore;
        assert_eq!(restore.leave_out_extensions, ["pg_graphql"]);
        assert_eq!(restore.leave_out_schemas, Vec::<String>::new());
    }

    #[test]
    fn one_key_written_twice_is_not_two_keys() {
        let error = error_of(&format!("recipients = ['{ONLINE}', '{ONLINE}']"));
        assert!(error.contains("the second must be another key"), "{error}");
    }
}
