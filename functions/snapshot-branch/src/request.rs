//! What the function is asked: exactly one thing.

mod point;
mod rehearse;

use jiff::Timestamp;
use jiff::civil::Date;
use lambda_runtime::Diagnostic;
use serde::Deserialize;
use serde_json::Value;
use shared::backup::{BackupItem, DatabaseName, MismatchedBackupId};
use shared::error::Name;
use shared::policy::{Recurring, TargetName};
use shared::sealed::sha256;

use crate::diagnostic;
use crate::recover::request::Recover;
pub use point::{RestoreBranch, RestorePoint};
use rehearse::RehearseEvent;
pub use rehearse::{BeginRehearsal, EndRehearsal, Rehearse};

/// A person's words in a note.
const TEXT_CHARS_MAX: usize = 200;
const DEPLOYMENT_CHARS_MAX: usize = 60;

#[derive(Debug)]
pub enum Request {
    PlanBranches(PlanBranches),
    Create(Create),
    Deployed(Deployed),
    Rotate(Rotate),
    Posture(Posture),
    DumpSource(DumpSource),
    DrillSource(DrillSource),
    RestoreBranch(RestoreBranch),
    Rehearse(Rehearse),
    BeginRehearsal(BeginRehearsal),
    EndRehearsal(EndRehearsal),
    NewProject(MakeProject),
    Recover(Recover),
}

/// Which databases have branches, and what is due of them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanBranches {
    /// What the state machine was started with.
    pub request: BranchesRequest,
    #[serde(default)]
    pub execution: Option<String>,
    /// When the state machine came to the plan: its own clock, the same on every retry.
    pub started: Timestamp,
}

/// All optional, so that `{}` is every database now.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BranchesRequest {
    #[serde(default)]
    pub scheduled_time: Option<String>,
    #[serde(default)]
    pub databases: Option<Vec<String>>,
}

/// Makes one snapshot branch, unless it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Create {
    pub database: DatabaseName,
    pub what: Snapshot,
    /// Who asks, and why; for the note.
    pub by: Option<String>,
    pub reason: Option<String>,
    pub migration_head: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Snapshot {
    Recurring(Recurring, Date),
    PreDeploy(String),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateEvent {
    database: DatabaseName,
    class: String,
    #[serde(default)]
    date: Option<Date>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    by: Option<String>,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    migration_head: Option<String>,
}

/// The deployment that a branch was made for is done: from now on its days count.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deployed {
    pub database: DatabaseName,
    pub name: String,
}

/// Deletes what retention and limits say.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotate {
    pub database: DatabaseName,
    /// Only says what would be deleted.
    #[serde(default)]
    pub dry_run: bool,
}

/// Whether the project is as its policy wants it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Posture {
    pub database: DatabaseName,
    /// The state machine's own clock, the same on every retry.
    pub at: Timestamp,
}

/// The temporary branch that one dump reads.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DumpSource {
    Create(DumpBranch),
    Delete(DumpBranch),
}

/// Each execution has a branch of its own: of two that take the same backup, the one that ends
/// first deletes nothing that the other reads.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DumpBranch {
    pub backup: BackupItem,
    /// Its ARN, which a redrive keeps.
    pub execution: String,
}

impl DumpBranch {
    /// The end of the branch's name, and of the name of its secret.
    pub fn lent_as(&self) -> Result<String, MismatchedBackupId> {
        let id = self.backup.id()?;
        let execution = sha256(self.execution.as_bytes());
        Ok(format!("{id}-{}", &execution[..8]))
    }
}

/// Makes a Neon project that a backup can be restored into.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MakeProject {
    /// A `[[target]]` of lifeboat.toml, whose name begins with `neon-`.
    pub target: TargetName,
    /// As Neon names it: `aws-eu-central-1`.
    pub region: String,
    /// Of PostgreSQL: the source's, or a newer one.
    pub major: u8,
    /// Who asks, for the record.
    pub by: String,
}

impl MakeProject {
    fn check(&self) -> Result<(), RequestError> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let is_region = (1..=60).contains(&self.region.len()) && self.region.chars().all(allowed);
        if !is_region {
            return Err(RequestError::NewProject(
                "a `region` is written as aws-eu-central-1",
            ));
        }
        if self.by.trim().is_empty() || !is_text(&self.by) {
            return Err(RequestError::NewProject(
                "`by` is your name, for the record",
            ));
        }
        Ok(())
    }
}

/// The branch that one drill looks at.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrillSource {
    Create(DrillBranch),
    Delete(DrillBranch),
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrillBranch {
    pub database: DatabaseName,
    pub drill_id: String,
}

/// It becomes part of a branch's and of a secret's name.
pub fn is_id(id: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-';
    (1..=60).contains(&id.len()) && id.chars().all(allowed)
}

/// `0` is any digit, `x` any hexadecimal one.
const DRILL_ID: &str = "0000-00-00T000000Z-xxxxxxxx";

/// As the drill of a branch makes it, and nothing else: it names a secret, and who may ask for a
/// drill's branch may be able to read the secrets of others' work.
fn is_drill_id(id: &str) -> bool {
    let fits = |(wanted, found): (u8, u8)| match wanted {
        b'0' => found.is_ascii_digit(),
        b'x' => found.is_ascii_hexdigit(),
        _ => found == wanted,
    };
    id.len() == DRILL_ID.len() && DRILL_ID.bytes().zip(id.bytes()).all(fits)
}

#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error("the event is not one that snapshot-branch knows")]
    Malformed(#[source] serde_json::Error),
    #[error(
        "the event has to hold exactly one of `create`, `deployed`, `rotate`, `posture`, `rehearse`, `rehearse_begin`, `rehearse_end`, `new_project`, `dump_source`, `drill_source`, `restore_branch`, `recover` and `plan_branches`; for example {{\"create\": {EXAMPLE}}}"
    )]
    Ambiguous,
    #[error("`create` is not understood: {0}; for example {EXAMPLE}")]
    Create(&'static str),
    #[error("`restore_branch` is not understood: {0}; for example {RESTORE_EXAMPLE}")]
    Restore(&'static str),
    #[error("`rehearse` is not understood: {0}; for example {REHEARSE_EXAMPLE}")]
    Rehearse(&'static str),
    #[error("`rehearse_begin` is not understood: {0}; for example {BEGIN_EXAMPLE}")]
    BeginRehearsal(&'static str),
    #[error("`rehearse_end` is not understood: {0}; for example {END_EXAMPLE}")]
    EndRehearsal(&'static str),
    #[error("`new_project` is not understood: {0}")]
    NewProject(&'static str),
    #[error("`drill_id` is not one that a drill has")]
    DrillId,
    #[error(
        "`recover` is not understood: {0}; the recover machine is started with {RESTORE_EXAMPLE}"
    )]
    Recover(&'static str),
}

const EXAMPLE: &str =
    r#"{"database": "app", "class": "pre-deploy", "name": "add-invoices", "by": "your name"}"#;

const RESTORE_EXAMPLE: &str =
    r#"{"database": "app", "point": {"time": "2026-11-21T02:30:00Z"}, "by": "your name"}"#;

const REHEARSE_EXAMPLE: &str = r#"{"database": "app", "by": "your name", "sql": "ALTER TABLE invoices ADD paid_at timestamptz"}"#;

const BEGIN_EXAMPLE: &str = r#"{"database": "app", "by": "ci run 42"}"#;

const END_EXAMPLE: &str = r#"{"database": "app", "branch": "rehearsal-20261121T023000Z-0a1b2c3d", "exit_status": 0, "seconds": 12}"#;

impl From<RequestError> for Diagnostic {
    fn from(error: RequestError) -> Self {
        diagnostic(Name::Refused, &error)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Event {
    plan_branches: Option<PlanBranches>,
    create: Option<CreateEvent>,
    deployed: Option<Deployed>,
    rotate: Option<Rotate>,
    posture: Option<Posture>,
    dump_source: Option<DumpSource>,
    drill_source: Option<DrillSource>,
    restore_branch: Option<RestoreBranch>,
    rehearse: Option<RehearseEvent>,
    rehearse_begin: Option<BeginRehearsal>,
    rehearse_end: Option<EndRehearsal>,
    new_project: Option<MakeProject>,
    recover: Option<Recover>,
}

impl Request {
    pub fn parse(event: Value) -> Result<Self, RequestError> {
        let event: Event = serde_json::from_value(event).map_err(RequestError::Malformed)?;
        let create = event.create.map(Create::try_from).transpose()?;
        if event
            .deployed
            .as_ref()
            .is_some_and(|it| !is_deployment(&it.name))
        {
            return Err(RequestError::Create(NAME));
        }
        if let Some(restore) = &event.restore_branch {
            restore.check()?;
        }
        if let Some(DrillSource::Create(drill) | DrillSource::Delete(drill)) = &event.drill_source
            && !is_drill_id(&drill.drill_id)
        {
            return Err(RequestError::DrillId);
        }
        event
            .new_project
            .as_ref()
            .map_or(Ok(()), MakeProject::check)?;
        let rehearse = event.rehearse.map(Rehearse::try_from).transpose()?;
        let (begin, end) = (&event.rehearse_begin, &event.rehearse_end);
        begin.as_ref().map_or(Ok(()), BeginRehearsal::check)?;
        end.as_ref().map_or(Ok(()), EndRehearsal::check)?;
        if let Some(recover) = &event.recover {
            recover.check().map_err(RequestError::Recover)?;
        }
        let mut asked = [
            event.plan_branches.map(Self::PlanBranches),
            create.map(Self::Create),
            event.deployed.map(Self::Deployed),
            event.rotate.map(Self::Rotate),
            event.posture.map(Self::Posture),
            event.dump_source.map(Self::DumpSource),
            event.drill_source.map(Self::DrillSource),
            rehearse.map(Self::Rehearse),
            event.rehearse_begin.map(Self::BeginRehearsal),
            event.rehearse_end.map(Self::EndRehearsal),
            event.new_project.map(Self::NewProject),
            event.restore_branch.map(Self::RestoreBranch),
            event.recover.map(Self::Recover),
        ]
        .into_iter()
        .flatten();
        match (asked.next(), asked.next()) {
            (Some(request), None) => Ok(request),
            _ => Err(RequestError::Ambiguous),
        }
    }
}

const NAME: &str = "`name` is what the deployment is called: 1 to 60 of a-z, 0-9, - and ., not starting with - or .";

/// It becomes part of a branch's name.
fn is_deployment(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    !name.is_empty()
        && name.len() <= DEPLOYMENT_CHARS_MAX
        && name.chars().all(allowed)
        && !name.starts_with(['-', '.'])
}

impl TryFrom<CreateEvent> for Create {
    type Error = RequestError;

    fn try_from(event: CreateEvent) -> Result<Self, RequestError> {
        let recurring = |class| match (event.date, &event.name) {
            (Some(date), None) => Ok(Snapshot::Recurring(class, date)),
            _ => Err(RequestError::Create(
                "a daily or weekly branch has a `date`, such as \"2026-11-21\", and no `name`",
            )),
        };
        let what = match event.class.as_str() {
            "daily" => recurring(Recurring::Daily)?,
            "weekly" => recurring(Recurring::Weekly)?,
            "pre-deploy" => match (&event.name, event.date) {
                (Some(name), None) if is_deployment(name) => Snapshot::PreDeploy(name.clone()),
                _ => return Err(RequestError::Create(NAME)),
            },
            _ => {
                return Err(RequestError::Create(
                    "`class` is \"daily\", \"weekly\" or \"pre-deploy\"",
                ));
            }
        };
        let texts = [&event.by, &event.reason, &event.migration_head];
        if texts.into_iter().flatten().any(|it| !is_text(it)) {
            return Err(RequestError::Create(
                "`by`, `reason` and `migration_head` are one line of at most 200 characters",
            ));
        }
        Ok(Self {
            database: event.database,
            what,
            by: event.by,
            reason: event.reason,
            migration_head: event.migration_head,
        })
    }
}

pub fn is_text(text: &str) -> bool {
    text.chars().count() <= TEXT_CHARS_MAX && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn create(fields: Value) -> Result<Request, RequestError> {
        let mut event = json!({"database": "app"});
        for (name, value) in fields.as_object().unwrap() {
            event[name] = value.clone();
        }
        Request::parse(json!({"create": event}))
    }

    #[test]
    fn each_class_of_branch_can_be_asked_for() {
        for (fields, expected) in [
            (
                json!({"class": "daily", "date": "2026-11-21"}),
                Snapshot::Recurring(Recurring::Daily, "2026-11-21".parse().unwrap()),
            ),
            (
                json!({"class": "weekly", "date": "2026-11-22"}),
                Snapshot::Recurring(Recurring::Weekly, "2026-11-22".parse().unwrap()),
            ),
            (
                json!({"class": "pre-deploy", "name": "v1.2-add-invoices", "by": "ci"}),
                Snapshot::PreDeploy("v1.2-add-invoices".to_owned()),
            ),
        ] {
            let Ok(Request::Create(create)) = create(fields.clone()) else {
                panic!("{fields} is not taken");
            };
            assert_eq!(create.what, expected);
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_what_to_write() {
        for (fields, expected) in [
            (json!({"class": "hourly"}), "`class` is \"daily\""),
            (json!({"class": "daily"}), "has a `date`"),
            (
                json!({"class": "daily", "date": "2026-11-21", "name": "x"}),
                "no `name`",
            ),
            (
                json!({"class": "pre-deploy"}),
                "what the deployment is called",
            ),
            (json!({"class": "pre-deploy", "name": "../main"}), "called"),
            (
                json!({"class": "pre-deploy", "name": "x", "by": "a\nb"}),
                "one line",
            ),
        ] {
            let error = Diagnostic::from(create(fields.clone()).unwrap_err());
            assert_eq!(error.error_type, "Refused");
            assert!(
                error.error_message.contains(expected),
                "{fields}\n{}",
                error.error_message
            );
        }
    }

    #[test]
    fn an_event_holds_exactly_one_thing() {
        let rotate = json!({"database": "app"});
        assert!(matches!(
            Request::parse(json!({"rotate": rotate})),
            Ok(Request::Rotate(Rotate { dry_run: false, .. }))
        ));
        for event in [
            json!({}),
            json!({"rotate": rotate, "deployed": {"database": "app", "name": "x"}}),
        ] {
            let error = Request::parse(event).unwrap_err();
            assert!(matches!(error, RequestError::Ambiguous), "{error}");
        }
        let error = Request::parse(json!({"delete_branch": {}})).unwrap_err();
        assert!(
            Diagnostic::from(error)
                .error_message
                .contains("unknown field `delete_branch`")
        );
    }

    #[test]
    fn a_point_to_restore_is_a_moment_a_position_or_a_branch() {
        let parse = |point: Value, by: &str| {
            let restore = json!({"database": "app", "point": point, "by": by});
            Request::parse(json!({"restore_branch": restore}))
        };
        for point in [
            json!({"time": "2026-11-21T02:30:00Z"}),
            json!({"lsn": "0/1AA6408"}),
            json!({"branch": "backup-2026-11-21"}),
        ] {
            assert!(parse(point.clone(), "Ada").is_ok(), "{point}");
        }
        for (point, by, expected) in [
            (json!({"lsn": "1AA6408"}), "Ada", "written as 0/1AA6408"),
            (json!({"lsn": "0/../x"}), "Ada", "written as 0/1AA6408"),
            (json!({"branch": ""}), "Ada", "name of a branch"),
            (
                json!({"time": "2026-11-21T02:30:00Z"}),
                " ",
                "`by` is your name",
            ),
            (
                json!({"time": "yesterday"}),
                "Ada",
                "not one that snapshot-branch knows",
            ),
        ] {
            let error = Diagnostic::from(parse(point, by).unwrap_err());
            assert!(
                error.error_message.contains(expected),
                "{}",
                error.error_message
            );
        }
    }

    #[test]
    fn a_drills_branch_is_named_by_the_drill_and_by_nobody_else() {
        let parse = |what: &str, id: &str| {
            let drill = json!({"database": "app", "drill_id": id});
            Request::parse(json!({"drill_source": {what: drill}}))
        };
        for what in ["create", "delete"] {
            assert!(parse(what, "2026-11-22T030000Z-0a1b2c3d").is_ok());
            for id in [
                "",
                "rehearsal-x",
                "rehearsal-20261121T023000Z-0a1b2c3d",
                "20261121T010000Z-nightly-0a1b2c3d",
                "2026-11-22T030000Z-0a1b2c3d-x",
                "2026-11-22T030000Z-nightly1",
            ] {
                let error = Diagnostic::from(parse(what, id).unwrap_err());
                assert_eq!(error.error_type, "Refused");
                assert!(error.error_message.contains("`drill_id`"), "{id}");
            }
        }
    }

    #[test]
    fn a_dump_source_is_of_one_backup_in_one_execution() {
        let item = json!({"database": "app", "kind": "nightly", "scheduled_time": "2026-11-21T01:00:00Z",
            "backup_id": "20261121T010000Z-nightly", "committed": false, "previous": null,
            "from_branch": true, "source_branch": null});
        let of = |execution: &str| json!({"backup": item, "execution": execution});
        let lent_as = |execution: &str| {
            let parsed = Request::parse(json!({"dump_source": {"create": of(execution)}}));
            let Ok(Request::DumpSource(DumpSource::Create(branch))) = parsed else {
                panic!("{execution} is not taken");
            };
            branch.lent_as().unwrap()
        };
        let first = lent_as("arn:aws:states:eu-central-1:123456789012:execution:backup:a");
        let second = lent_as("arn:aws:states:eu-central-1:123456789012:execution:backup:b");
        assert_ne!(first, second);
        for lent_as in [first, second] {
            assert!(lent_as.starts_with("20261121T010000Z-nightly-") && is_id(&lent_as));
        }
        for event in [
            json!({"dump_source": {"create": of("a"), "delete": of("a")}}),
            json!({"dump_source": {"create": {"backup": item}}}),
        ] {
            assert!(Request::parse(event.clone()).is_err(), "{event}");
        }
    }
}
