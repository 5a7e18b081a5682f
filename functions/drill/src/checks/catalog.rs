//! Catalog equality: what `pg_dump` sees in the restored database, held against the backup's
//! own table of contents. Pure.
//!
//! Compared are sets of (kind, schema, name, definition, copy statement), so `pg_dump`'s rules
//! come for free: what it would not dump – an index that is not valid – is missing here.

use std::collections::{BTreeMap, BTreeSet};

use shared::archive::{CopyStatement, Entry, TableOfContents, lossy};
use shared::policy::{Priority, Roles};
use shared::verdict::Code;

use super::difference::unified;
use super::groups::{
    GROUPS, Group, OTHER, belongs_to_another, group_of, is_confidential, is_never_restored,
};
use super::proof::count;
use super::{CheckCode, CheckResult, Subject};

const REMEDY: &str = "the restored database is not the one that was backed up: see the difference; if it does not come from the drill's server, do not rely on this backup";

/// What can be said of owners and grants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compared {
    /// They were restored.
    #[default]
    Yes,
    /// The server lacks roles.
    RolesMissing,
    /// `roles = "ignore"`.
    NotWanted,
}

impl Compared {
    pub fn of(is_restored: bool, roles: Roles) -> Self {
        match (roles, is_restored) {
            (Roles::Ignore, _) => Self::NotWanted,
            (Roles::Create | Roles::Existing, true) => Self::Yes,
            (Roles::Create | Roles::Existing, false) => Self::RolesMissing,
        }
    }
}

/// What the order restored, and so what can be compared.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    pub roles: Compared,
    /// Entries of the backup that were left out on purpose.
    pub left_out: BTreeSet<i32>,
}

type Key = (String, String, String);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Content {
    definition: String,
    copy_statement: String,
    owner: String,
}

type Objects = BTreeMap<Key, Vec<Content>>;

/// All groups; `why_not`: the planner could not be run like the backup's.
pub fn checks(
    backup: &TableOfContents,
    restored: Result<&TableOfContents, &str>,
    scope: &Scope,
) -> Vec<CheckResult> {
    let groups = GROUPS.iter().chain([&OTHER]);
    let restored = match restored {
        Ok(restored) => restored,
        Err(why_not) => {
            let untold = groups.map(|group| subject(group).inconclusive(why_not));
            return untold.collect();
        }
    };
    let expected = objects(backup, scope);
    let found = objects(
        restored,
        &Scope {
            left_out: BTreeSet::new(),
            ..scope.clone()
        },
    );
    // What depends on the left out is not there either, and found is never more than expected.
    groups
        .map(|group| {
            let are_owners = group.code == CheckCode::CatalogOwners;
            let are_grants = group.code == CheckCode::CatalogGrants;
            match scope.roles {
                Compared::RolesMissing if are_owners || are_grants => without_roles(group),
                Compared::NotWanted if are_owners || are_grants => not_wanted(group),
                Compared::Yes | Compared::RolesMissing | Compared::NotWanted if are_owners => {
                    owners(group, &expected, &found)
                }
                Compared::Yes | Compared::RolesMissing | Compared::NotWanted => {
                    compare(group, &expected, &found)
                }
            }
        })
        .collect()
}

fn subject(group: &Group) -> Subject {
    let finding = if group.code == CheckCode::CatalogExtensions {
        Code::ExtensionsDiffer
    } else {
        Code::CatalogDiffers
    };
    Subject {
        code: group.code,
        name: group.name.to_owned(),
        priority: group.priority,
        finding,
        remedy: REMEDY,
    }
}

/// Nothing is proven of whom things belong to, and who may use them.
fn without_roles(group: &Group) -> CheckResult {
    let subject = Subject {
        priority: Priority::P1,
        remedy: "create the missing roles on the drill's server, or write roles = \"create\" in [database.drill]; with roles = \"ignore\" the backup is proven without owners and grants",
        ..subject(group)
    };
    subject
        .inconclusive("not restored and not compared: the drill's server lacks roles that it needs")
}

/// Whoever wrote that knows it; whoever reads the report is told.
fn not_wanted(group: &Group) -> CheckResult {
    let subject = Subject {
        priority: Priority::P2,
        ..subject(group)
    };
    let says = "not restored and not compared, as roles = \"ignore\" says";
    subject.note(says, Vec::new())
}

fn objects(toc: &TableOfContents, scope: &Scope) -> Objects {
    let mut objects = Objects::new();
    for entry in &toc.entries {
        let desc = lossy(&entry.desc).into_owned();
        let is_left_out = scope.left_out.contains(&entry.dump_id);
        if is_never_restored(&desc) || is_left_out || is_of_database(entry) {
            continue;
        }
        // Listed only for its owner, when that is another than initdb's.
        let is_initdbs = entry
            .definition
            .as_deref()
            .is_some_and(|it| it.starts_with(b"-- *not* creating"));
        if is_initdbs && scope.roles != Compared::Yes {
            continue;
        }
        let key = (
            desc,
            lossy(&entry.namespace).into_owned(),
            lossy(&entry.tag).into_owned(),
        );
        objects.entry(key).or_default().push(Content {
            definition: lossy(&entry.definition).trim().to_owned(),
            copy_statement: copy_statement(entry),
            owner: lossy(&entry.owner).into_owned(),
        });
    }
    for contents in objects.values_mut() {
        contents.sort();
    }
    objects
}

/// Comments, labels and grants on the database itself: a scratch database has its own.
fn is_of_database(entry: &Entry) -> bool {
    let on_database = ["COMMENT", "SECURITY LABEL", "ACL"]
        .iter()
        .any(|it| entry.is(it));
    on_database && lossy(&entry.tag).starts_with("DATABASE ")
}

/// With its columns in the order of their names: a column that an inherited table got late is
/// elsewhere after a restore, with the same content.
fn copy_statement(entry: &Entry) -> String {
    let Some(statement) = &entry.copy_statement else {
        return String::new();
    };
    let Some(mut parsed) = CopyStatement::parse(statement) else {
        return lossy(&entry.copy_statement).into_owned();
    };
    parsed.columns.sort();
    let text = |name: &Vec<u8>| String::from_utf8_lossy(name).into_owned();
    let columns: Vec<String> = parsed.columns.iter().map(text).collect();
    format!(
        "{}.{} ({})",
        text(&parsed.schema),
        text(&parsed.table),
        columns.join(", ")
    )
}

fn compare(group: &Group, expected: &Objects, found: &Objects) -> CheckResult {
    let is_in = |(key, _): &(&Key, &Vec<Content>)| group_of(&key.0) == group.code;
    let mut differences = Vec::new();
    let mut total = 0_usize;
    for (key, contents) in expected.iter().filter(is_in) {
        total += contents.len();
        match found.get(key) {
            None => differences.push(format!("missing: {}", name(key))),
            Some(other) => differences.extend(changed(key, contents, other)),
        }
    }
    let extra = found
        .iter()
        .filter(is_in)
        .filter(|(key, _)| !expected.contains_key(*key));
    differences.extend(extra.map(|(key, _)| format!("extra: {}", name(key))));
    let passed = match total {
        0 => "none in the backup, none in the copy".to_owned(),
        _ => format!("{} equal", count(total as u64, "object")),
    };
    subject(group).judge(passed, differences)
}

fn changed(key: &Key, expected: &[Content], found: &[Content]) -> Option<String> {
    let text = |contents: &[Content]| {
        let parts = contents
            .iter()
            .map(|it| format!("{}\n{}", it.definition, it.copy_statement));
        parts.collect::<Vec<_>>().join("\n")
    };
    let (old, new) = (text(expected), text(found));
    if old == new {
        return None;
    }
    let name = name(key);
    Some(if is_confidential(&key.0) {
        format!("changed: {name}\n(its definition may hold a password and is not shown)")
    } else {
        format!("changed: {name}\n{}", unified(&old, &new))
    })
}

fn owners(group: &Group, expected: &Objects, found: &Objects) -> CheckResult {
    let owners = |contents: &[Content]| -> Vec<String> {
        contents.iter().map(|it| it.owner.clone()).collect()
    };
    let mut differences = Vec::new();
    let owned = expected
        .iter()
        .filter(|(key, _)| !belongs_to_another(&key.0));
    let owned: Vec<_> = owned.collect();
    for (key, contents) in &owned {
        let Some(other) = found.get(*key) else {
            continue; // Named by its own group.
        };
        let (old, new) = (owners(contents), owners(other));
        if old != new {
            let (old, new) = (old.join(", "), new.join(", "));
            differences.push(format!(
                "{} belongs to {new}, in the backup to {old}",
                name(key)
            ));
        }
    }
    let passed = format!("{} equal", count(owned.len() as u64, "owner"));
    subject(group).judge(passed, differences)
}

/// `POLICY app.users members`, as `pg_restore --list` has it.
fn name((desc, namespace, tag): &Key) -> String {
    if namespace.is_empty() {
        format!("{desc} {tag}")
    } else {
        format!("{desc} {namespace}.{tag}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::Status;

    fn entry(desc: &str, tag: &str, definition: &str) -> Entry {
        let text = |it: &str| Some(it.as_bytes().to_vec());
        Entry {
            desc: text(desc),
            namespace: text("app"),
            tag: text(tag),
            definition: text(definition),
            owner: text("ada"),
            ..Entry::default()
        }
    }

    fn toc(entries: Vec<Entry>) -> TableOfContents {
        TableOfContents {
            version: (1, 14, 0),
            int_size: 4,
            offset_size: 8,
            created: [0; 7],
            database: None,
            server_version: None,
            pg_dump_version: None,
            entries,
        }
    }

    fn of(code: CheckCode, backup: Vec<Entry>, restored: Vec<Entry>) -> CheckResult {
        let checks = checks(&toc(backup), Ok(&toc(restored)), &Scope::default());
        checks.into_iter().find(|it| it.code == code).unwrap()
    }

    #[test]
    fn missing_extra_and_changed_are_named_in_the_group_they_belong_to() {
        let policy = || {
            entry(
                "POLICY",
                "users members",
                "CREATE POLICY members ON app.users;",
            )
        };
        let found = of(CheckCode::CatalogPolicies, vec![policy()], vec![]);
        assert_eq!(found.status, Status::Failed);
        assert_eq!(found.summary, "missing: POLICY app.users members");

        let found = of(CheckCode::CatalogPolicies, vec![], vec![policy()]);
        assert_eq!(found.summary, "extra: POLICY app.users members");

        let grant = |to| {
            entry(
                "ACL",
                "TABLE users",
                &format!("GRANT SELECT ON TABLE app.users TO {to};"),
            )
        };
        let found = of(
            CheckCode::CatalogGrants,
            vec![grant("reader")],
            vec![grant("public")],
        );
        assert_eq!(
            found.details,
            [
                "changed: ACL app.TABLE users\n- GRANT SELECT ON TABLE app.users TO reader;\n+ GRANT SELECT ON TABLE app.users TO public;"
            ]
        );
    }

    #[test]
    fn a_backup_equals_itself_in_every_group() {
        let all = || {
            vec![
                entry("TABLE", "users", "CREATE TABLE"),
                entry("GADGET", "x", "y"),
            ]
        };
        let checks = checks(&toc(all()), Ok(&toc(all())), &Scope::default());
        for check in &checks {
            assert_ne!(check.status, Status::Failed, "{check:?}");
        }
        assert_eq!(checks.len(), GROUPS.len() + 1);
        assert_eq!(checks.last().unwrap().summary, "1 object equal");
    }

    #[test]
    fn without_the_roles_grants_and_owners_are_not_proven_unless_nobody_wants_them_to_be() {
        for (is_restored, roles, expected) in [
            (true, Roles::Create, (Status::Passed, Priority::P0)),
            (true, Roles::Existing, (Status::Passed, Priority::P0)),
            (false, Roles::Existing, (Status::Inconclusive, Priority::P1)),
            (false, Roles::Ignore, (Status::Note, Priority::P2)),
        ] {
            let scope = Scope {
                roles: Compared::of(is_restored, roles),
                left_out: BTreeSet::new(),
            };
            let checks = checks(&toc(vec![]), Ok(&toc(vec![])), &scope);
            let of = |code| checks.iter().find(|it| it.code == code).unwrap();
            let grants = of(CheckCode::CatalogGrants);
            assert_eq!((grants.status, grants.priority), expected, "{roles:?}");
            assert_eq!(of(CheckCode::CatalogOwners).status, expected.0);
        }
    }

    #[test]
    fn a_planner_that_could_not_run_leaves_every_group_open() {
        let checks = checks(&toc(vec![]), Err("no pg_dump 15"), &Scope::default());
        assert!(checks.iter().all(|it| it.status == Status::Inconclusive));
    }

    #[test]
    fn the_database_itself_and_subscriptions_are_not_compared() {
        let mut comment = entry("COMMENT", "DATABASE app", "COMMENT ON DATABASE app IS 'x'");
        comment.namespace = None;
        let backup = vec![
            entry("SUBSCRIPTION", "live", ""),
            entry("DATABASE", "app", ""),
            comment,
        ];
        for code in [CheckCode::CatalogOther, CheckCode::CatalogComments] {
            assert_eq!(of(code, backup.clone(), vec![]).status, Status::Passed);
        }
    }

    #[test]
    fn an_owner_that_changed_is_named_and_a_password_is_not_shown() {
        let mut other = entry("TABLE", "users", "CREATE TABLE");
        other.owner = Some(b"eve".to_vec());
        let table = entry("TABLE", "users", "CREATE TABLE");
        let found = of(CheckCode::CatalogOwners, vec![table], vec![other]);
        assert_eq!(
            found.summary,
            "TABLE app.users belongs to eve, in the backup to ada"
        );

        let mapping = |password| entry("USER MAPPING", "USER MAPPING ada SERVER s", password);
        let found = of(
            CheckCode::CatalogOther,
            vec![mapping("CANARY")],
            vec![mapping("x")],
        );
        assert_eq!(found.status, Status::Failed);
        assert!(!found.details[0].contains("CANARY"));
    }

    #[test]
    fn a_column_that_came_late_may_be_elsewhere() {
        let with = |columns: &str| {
            let mut data = entry("TABLE DATA", "child", "");
            data.copy_statement = Some(format!("COPY app.child ({columns}) FROM stdin;\n").into());
            vec![data]
        };
        let of = |a, b| of(CheckCode::CatalogTables, with(a), with(b)).status;
        assert_eq!(of("a, b, c", "a, c, b"), Status::Passed);
        assert_eq!(of("a, b, c", "a, b"), Status::Failed);
    }
}
