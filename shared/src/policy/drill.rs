//! `[database.drill]`: where a database's backups are drilled, and what must hold there.

use serde::{Deserialize, Serialize};

use super::TargetName;

/// Names of tables, assertions and requests are listed in reports, which people read.
const NAME_CHARS_MAX: usize = 80;
const CHECKS_MAX: usize = 200;

/// A database without it is never drilled, and so never proven.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrillPolicy {
    /// The server on which scratch databases are made and dropped.
    pub target: TargetName,
    /// Whether the drill makes the roles that its backup needs and the server lacks.
    #[serde(default)]
    pub roles: Roles,
    /// Connections that restore and prove at once.
    #[serde(default = "connections")]
    pub connections: u32,
    /// From the first job to a database that takes queries.
    #[serde(default = "restore_seconds")]
    pub restore_seconds: u32,
    /// Fingerprints and all checks.
    #[serde(default = "verify_seconds")]
    pub verify_seconds: u32,
    /// From beginning to end, the teardown included.
    #[serde(default = "total_seconds")]
    pub total_seconds: u32,
    /// A drill that is not done after that long is ended as failed.
    #[serde(default = "give_up_minutes")]
    pub give_up_minutes: u32,
    /// After the loss of the platform, service must be back within this.
    #[serde(default = "rto_minutes")]
    pub rto_minutes: u32,
    /// After the loss of the platform, no more than this may be lost.
    #[serde(default = "rpo_minutes")]
    pub rpo_minutes: u32,
    /// The newest proven data may be this old before somebody is woken.
    #[serde(default = "proven_within_hours")]
    pub proven_within_hours: u32,
    #[serde(default, rename = "table")]
    pub tables: Vec<TableExpectation>,
    #[serde(default, rename = "sql")]
    pub assertions: Vec<SqlAssertion>,
    #[serde(default, rename = "http")]
    pub requests: Vec<HttpCheck>,
}

/// Roles belong to the server, not to a database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Roles {
    /// Missing roles are made without login and with our mark, and dropped with the scratch
    /// database.
    #[default]
    Create,
    /// Nothing is made. Where one is missing, owners and grants are neither restored nor
    /// compared, and nothing is proven.
    Existing,
    /// Nothing is made, and owners and grants are never compared: what is proven is proven
    /// without them, and the report says so.
    Ignore,
}

/// How bad it is when a check fails. P0 and P1 decide the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Priority {
    P0,
    P1,
    P2,
}

impl Priority {
    /// Whether a backup that fails it is not proven.
    pub fn decides(self) -> bool {
        matches!(self, Self::P0 | Self::P1)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::P0 => "P0",
            Self::P1 => "P1",
            Self::P2 => "P2",
        }
    }
}

/// What a table must hold, beside what the backup says of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableExpectation {
    #[serde(default = "public")]
    pub schema: String,
    pub name: String,
    pub min_rows: Option<u64>,
    /// A column with a time or a date.
    pub fresh_column: Option<String>,
    /// How old its newest value may be at the moment of the snapshot.
    pub fresh_within_minutes: Option<u32>,
}

/// A query of one value, and the text it must have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SqlAssertion {
    pub name: String,
    pub query: String,
    pub expect: String,
    #[serde(default = "p1")]
    pub priority: Priority,
}

/// A request to an application that is pointed at the scratch database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpCheck {
    pub name: String,
    #[serde(default)]
    pub method: Method,
    /// `https` only. `{database}` in path or query becomes the name of the scratch database.
    pub url: String,
    /// The secret `lifeboat/channel/drill-<name>`, with one `Name: value` a line.
    pub header_secret: Option<String>,
    #[serde(default = "ok")]
    pub expect_status: u16,
    /// RFC 9535; exactly one node must be found.
    pub json_path: Option<String>,
    /// The text of that node.
    pub expect: Option<String>,
    #[serde(default = "p1")]
    pub priority: Priority,
    /// Whether the address may be private. Never one of the cloud's metadata service.
    #[serde(default)]
    pub allow_private: bool,
}

/// Nothing that a check should need changes anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Method {
    #[default]
    #[serde(rename = "GET")]
    Get,
    #[serde(rename = "HEAD")]
    Head,
    #[serde(rename = "POST")]
    Post,
}

fn connections() -> u32 {
    2
}

fn restore_seconds() -> u32 {
    300
}

fn verify_seconds() -> u32 {
    600
}

fn total_seconds() -> u32 {
    900
}

fn give_up_minutes() -> u32 {
    360
}

fn rto_minutes() -> u32 {
    240
}

fn rpo_minutes() -> u32 {
    1_440
}

fn proven_within_hours() -> u32 {
    192
}

fn public() -> String {
    "public".to_owned()
}

fn p1() -> Priority {
    Priority::P1
}

fn ok() -> u16 {
    200
}

/// What is wrong with a `[database.drill]`, and what to write instead.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DrillPolicyError {
    #[error("{setting} = {value} is out of range: {range}")]
    OutOfRange {
        setting: &'static str,
        value: u64,
        range: &'static str,
    },
    #[error(
        "restore_seconds and verify_seconds are {parts} together and must fit into total_seconds = {total}"
    )]
    BudgetTooSmall { parts: u64, total: u32 },
    #[error("{what} {name:?} is written twice: the second must have another name")]
    Repeated { what: &'static str, name: String },
    #[error("a name of {what} is {name:?}: write 1 to {NAME_CHARS_MAX} characters on one line")]
    Name { what: &'static str, name: String },
    #[error(
        "table {0:?} expects nothing: write min_rows, or fresh_column and fresh_within_minutes"
    )]
    NothingExpected(String),
    #[error("table {0:?}: fresh_column and fresh_within_minutes belong together")]
    HalfFreshness(String),
    #[error("sql {0:?} has an empty query")]
    EmptyQuery(String),
    #[error("http {name:?}: {reason}")]
    Http { name: String, reason: &'static str },
    #[error("there are more than {CHECKS_MAX} checks: a drill has to end")]
    TooManyChecks,
}

impl DrillPolicy {
    /// Everything that the types cannot say.
    pub fn check(&self) -> Result<(), DrillPolicyError> {
        self.check_ranges()?;
        if self.tables.len() + self.assertions.len() + self.requests.len() > CHECKS_MAX {
            return Err(DrillPolicyError::TooManyChecks);
        }
        let tables = self.tables.iter().map(TableExpectation::label);
        check_names("table", tables)?;
        let assertions = self.assertions.iter().map(|it| it.name.clone());
        check_names("sql", assertions)?;
        check_names("http", self.requests.iter().map(|it| it.name.clone()))?;
        self.tables.iter().try_for_each(TableExpectation::check)?;
        if let Some(empty) = self.assertions.iter().find(|it| it.query.trim().is_empty()) {
            return Err(DrillPolicyError::EmptyQuery(empty.name.clone()));
        }
        self.requests.iter().try_for_each(HttpCheck::check)
    }

    fn check_ranges(&self) -> Result<(), DrillPolicyError> {
        let in_a_day = (1..=86_400, "1 to 86400");
        let in_a_quarter = (1..=132_480, "1 to 132480");
        let checks = [
            ("connections", self.connections, (1..=8, "1 to 8")),
            ("restore_seconds", self.restore_seconds, in_a_day.clone()),
            ("verify_seconds", self.verify_seconds, in_a_day.clone()),
            ("total_seconds", self.total_seconds, in_a_day),
            (
                "give_up_minutes",
                self.give_up_minutes,
                (1..=1_440, "1 to 1440"),
            ),
            ("rto_minutes", self.rto_minutes, in_a_quarter.clone()),
            ("rpo_minutes", self.rpo_minutes, in_a_quarter),
            (
                "proven_within_hours",
                self.proven_within_hours,
                (1..=2_208, "1 to 2208"),
            ),
        ];
        for (setting, value, (allowed, range)) in checks {
            if !allowed.contains(&value) {
                let value = value.into();
                return Err(DrillPolicyError::OutOfRange {
                    setting,
                    value,
                    range,
                });
            }
        }
        let parts = u64::from(self.restore_seconds) + u64::from(self.verify_seconds);
        if parts > u64::from(self.total_seconds) {
            return Err(DrillPolicyError::BudgetTooSmall {
                parts,
                total: self.total_seconds,
            });
        }
        Ok(())
    }
}

fn check_names(
    what: &'static str,
    names: impl Iterator<Item = String>,
) -> Result<(), DrillPolicyError> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        let length = name.chars().count();
        if !(1..=NAME_CHARS_MAX).contains(&length) || name.chars().any(char::is_control) {
            return Err(DrillPolicyError::Name { what, name });
        }
        if !seen.insert(name.clone()) {
            return Err(DrillPolicyError::Repeated { what, name });
        }
    }
    Ok(())
}

impl TableExpectation {
    /// As reports name it.
    pub fn label(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    fn check(&self) -> Result<(), DrillPolicyError> {
        match (&self.fresh_column, self.fresh_within_minutes) {
            (Some(_), None) | (None, Some(_)) => Err(DrillPolicyError::HalfFreshness(self.label())),
            (None, None) if self.min_rows.is_none() => {
                Err(DrillPolicyError::NothingExpected(self.label()))
            }
            (Some(_), Some(0)) => Err(DrillPolicyError::OutOfRange {
                setting: "fresh_within_minutes",
                value: 0,
                range: "1 or more",
            }),
            _ => Ok(()),
        }
    }
}

impl HttpCheck {
    fn check(&self) -> Result<(), DrillPolicyError> {
        let is_https = self.url.starts_with("https://") && self.url.len() > "https://".len();
        let names_secret = self.header_secret.as_ref().is_none_or(|it| is_channel(it));
        let reason = if !is_https {
            "its url must begin with https://"
        } else if !(100..=599).contains(&self.expect_status) {
            "expect_status is no HTTP status: write 100 to 599"
        } else if self.json_path.is_some() != self.expect.is_some() {
            "json_path and expect belong together"
        } else if self.json_path.is_some() && self.method == Method::Head {
            "an answer to HEAD has no body for json_path"
        } else if !names_secret {
            "header_secret is lifeboat/channel/drill- and a name of a-z, 0-9 and -"
        } else {
            return Ok(());
        };
        let name = self.name.clone();
        Err(DrillPolicyError::Http { name, reason })
    }
}

/// The only secrets beside targets' and the identity that the drill's role may read.
fn is_channel(secret: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let name = secret.strip_prefix("lifeboat/channel/drill-");
    name.is_some_and(|it| !it.is_empty() && it.len() <= 40 && it.chars().all(allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<DrillPolicy, String> {
        let text = format!("target = \"standby\"\n{text}");
        let policy: DrillPolicy = toml::from_str(&text).map_err(|it| it.to_string())?;
        policy.check().map_err(|it| it.to_string())?;
        Ok(policy)
    }

    #[test]
    fn a_target_is_enough_and_the_budgets_are_those_promised() {
        let policy = parse("").unwrap();
        assert_eq!(
            (
                policy.restore_seconds,
                policy.verify_seconds,
                policy.total_seconds
            ),
            (300, 600, 900)
        );
        assert_eq!((policy.rto_minutes, policy.rpo_minutes), (240, 1_440));
        assert_eq!(policy.roles, Roles::Create);
    }

    #[test]
    fn every_kind_of_check_can_be_written() {
        let policy = parse(
            "[[table]]\nname = 'users'\nmin_rows = 10\n\
             [[table]]\nschema = 'app'\nname = 'events'\nfresh_column = 'at'\nfresh_within_minutes = 60\n\
             [[sql]]\nname = 'balanced'\nquery = 'SELECT 1'\nexpect = '1'\npriority = 'P0'\n\
             [[http]]\nname = 'sign-in'\nurl = 'https://app.example/health'\njson_path = '$.ok'\nexpect = 'true'\n",
        )
        .unwrap();
        assert_eq!(policy.tables[0].label(), "public.users");
        assert_eq!(policy.assertions[0].priority, Priority::P0);
        assert_eq!(policy.requests[0].priority, Priority::P1);
        assert_eq!(policy.requests[0].expect_status, 200);
    }

    #[test]
    fn each_mistake_is_named() {
        let http = |more: &str| format!("[[http]]\nname = 'a'\n{more}");
        let get = |more: &str| http(&format!("url = 'https://a.example/'\n{more}"));
        for (text, expected) in [
            ("budget = 3".to_owned(), "unknown field `budget`"),
            (
                "connections = 9".into(),
                "connections = 9 is out of range: 1 to 8",
            ),
            (
                "total_seconds = 0".into(),
                "total_seconds = 0 is out of range",
            ),
            ("restore_seconds = 301".into(), "are 901 together"),
            ("roles = 'all'".into(), "unknown variant `all`"),
            ("[[table]]\nname = 'a'".into(), "expects nothing"),
            (
                "[[table]]\nname = 'a'\nfresh_column = 'at'".into(),
                "belong together",
            ),
            (
                "[[table]]\nname = 'a'\nfresh_column = 'at'\nfresh_within_minutes = 0".into(),
                "1 or more",
            ),
            (
                "[[table]]\nname = 'a'\nmin_rows = 1\n[[table]]\nname = 'a'\nmin_rows = 2".into(),
                "table \"public.a\" is written twice",
            ),
            (
                "[[sql]]\nname = 'a'\nquery = ' '\nexpect = '1'".into(),
                "an empty query",
            ),
            (
                "[[sql]]\nname = 'a'\nquery = 'x'\nexpect = '1'\npriority = 'P3'".into(),
                "unknown variant `P3`",
            ),
            (
                "[[sql]]\nname = \"a\\nb\"\nquery = 'x'\nexpect = '1'".into(),
                "characters on one line",
            ),
            (
                http("url = 'http://a.example/'"),
                "must begin with https://",
            ),
            (get("expect_status = 99"), "no HTTP status"),
            (get("json_path = '$.a'"), "belong together"),
            (get("method = 'DELETE'"), "unknown variant `DELETE`"),
            (
                get("method = 'HEAD'\njson_path = '$.a'\nexpect = 'b'"),
                "has no body",
            ),
            (
                get("header_secret = 'lifeboat/identity'"),
                "header_secret is lifeboat/channel/",
            ),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(expected), "{text}\n{error}");
        }
    }
}
