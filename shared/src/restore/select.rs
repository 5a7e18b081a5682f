//! Which entries of the table of contents are restored, and in which stage. Pure.
//!
//! The rules are `pg_restore`'s (`pg_backup_archiver.c`: what an entry is required for, and in
//! which of its passes it runs), without its options that do not exist here.

use std::collections::HashSet;

use super::{LeaveOut, Scope};
use crate::archive::{Entry, TableOfContents, lossy};

/// `pg_dump`'s numbers of the sections.
const PRE_DATA: i32 = 2;
const DATA: i32 = 3;
const POST_DATA: i32 = 4;

/// What runs before what; [`Stage::phase`] is what people are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Stage {
    Pre,
    /// Large objects are made before their contents come.
    Metadata,
    Data,
    /// Sequence values, comments of large objects.
    Settle,
    Post,
    Owners,
    Privileges,
    /// Materialized views, and then nothing runs under event triggers any more.
    Last,
    Analyze,
    Proof,
}

impl Stage {
    pub(super) fn phase(self) -> &'static str {
        match self {
            Self::Pre => "pre_data",
            Self::Metadata | Self::Data | Self::Settle => "data",
            Self::Post => "post_data",
            Self::Owners => "owners",
            Self::Privileges => "privileges",
            Self::Last => "refresh",
            Self::Analyze => "analyze",
            Self::Proof => "proof",
        }
    }
}

/// What is done with one entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Use {
    /// When its statement runs.
    pub(super) statement: Option<Stage>,
    /// Whether its rows or large objects are loaded.
    pub(super) data: bool,
}

/// The entries by their place in the table of contents.
#[derive(Clone, Debug, Default)]
pub(super) struct Selection {
    pub(super) uses: Vec<Use>,
    /// Left out because the order says so, by place.
    pub(super) left_out: Vec<usize>,
    /// Never restored: they would connect to a publisher.
    pub(super) subscriptions: Vec<usize>,
}

pub(super) fn select(toc: &TableOfContents, scope: &Scope, leave_out: &LeaveOut) -> Selection {
    let named = closure(toc, |it| is_named(it, leave_out));
    let subscriptions = closure(toc, |it| it.is("SUBSCRIPTION"));
    let mut selection = Selection::default();
    let mut section = PRE_DATA;
    for (place, entry) in toc.entries.iter().enumerate() {
        if (PRE_DATA..=POST_DATA).contains(&entry.section) {
            section = entry.section;
        }
        let mut used = Use::default();
        if subscriptions.contains(&entry.dump_id) {
            selection.subscriptions.push(place);
        } else if named.contains(&entry.dump_id) {
            selection.left_out.push(place);
        } else {
            used = required(entry, scope, section);
        }
        selection.uses.push(used);
    }
    selection
}

/// The dump ids of what is meant, and of whatever depends on it.
fn closure(toc: &TableOfContents, is_meant: impl Fn(&Entry) -> bool) -> HashSet<i32> {
    let mut found: HashSet<i32> = HashSet::new();
    loop {
        let before = found.len();
        for entry in &toc.entries {
            let depends = || dependencies(entry).any(|on| found.contains(&on));
            if !found.contains(&entry.dump_id) && (is_meant(entry) || depends()) {
                found.insert(entry.dump_id);
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

pub(super) fn dependencies(entry: &Entry) -> impl Iterator<Item = i32> + '_ {
    let ids = entry.dependencies.iter();
    ids.filter_map(|id| std::str::from_utf8(id).ok()?.trim().parse().ok())
}

fn is_named(entry: &Entry, leave_out: &LeaveOut) -> bool {
    let names = |names: &[String], text: &Option<Vec<u8>>| {
        let text = text.as_deref().unwrap_or_default();
        names.iter().any(|it| it.as_bytes() == text)
    };
    (entry.is("EXTENSION") && names(&leave_out.extensions, &entry.tag))
        || (entry.is("SCHEMA") && names(&leave_out.schemas, &entry.tag))
        || (entry.is("PUBLICATION") && names(&leave_out.publications, &entry.tag))
        || names(&leave_out.schemas, &entry.namespace)
}

fn required(entry: &Entry, scope: &Scope, section: i32) -> Use {
    if is_of_the_database(entry) || is_state_of_the_session(entry) {
        return Use::default();
    }
    let (wants_schema, wants_data) = match scope {
        Scope::Everything => (true, true),
        Scope::SchemaOnly => (true, false),
        Scope::DataOnly => (false, true),
        Scope::Tables(_) => (false, false),
    };
    let definition = entry.definition.as_deref().unwrap_or_default();
    let has_statement = !definition.is_empty() && !entry.loads_via_partition_root();
    if entry.has_data {
        return Use {
            statement: None,
            data: wants_data,
        };
    }
    let is_wanted = if is_data_without_rows(entry) {
        wants_data
    } else {
        wants_schema
    };
    Use {
        statement: (has_statement && is_wanted).then(|| stage(entry, section)),
        data: false,
    }
}

/// A restore goes into a database that exists; its own properties are not touched.
fn is_of_the_database(entry: &Entry) -> bool {
    let is_about = ["ACL", "COMMENT", "SECURITY LABEL"]
        .iter()
        .any(|it| entry.is(it));
    entry.is("DATABASE")
        || entry.is("DATABASE PROPERTIES")
        || (is_about && lossy(&entry.tag).starts_with("DATABASE "))
}

/// Set in every session before anything else, or long obsolete.
fn is_state_of_the_session(entry: &Entry) -> bool {
    ["ENCODING", "STDSTRINGS", "SEARCHPATH", "WARNING", "<Init>"]
        .iter()
        .any(|it| entry.is(it))
}

/// Values of sequences, and everything about large objects.
fn is_data_without_rows(entry: &Entry) -> bool {
    let is_about = ["ACL", "COMMENT", "SECURITY LABEL"]
        .iter()
        .any(|it| entry.is(it));
    ["SEQUENCE SET", "BLOB", "BLOB METADATA"]
        .iter()
        .any(|it| entry.is(it))
        || (is_about && lossy(&entry.tag).starts_with("LARGE OBJECT"))
}

/// What belongs to no section runs where it stands.
fn stage(entry: &Entry, section: i32) -> Stage {
    if entry.is("ACL") || entry.is("DEFAULT ACL") {
        return Stage::Privileges;
    }
    let is_about = entry.is("COMMENT") || entry.is("SECURITY LABEL");
    let is_of_an_event_trigger = is_about && lossy(&entry.tag).starts_with("EVENT TRIGGER ");
    if entry.is("EVENT TRIGGER") || entry.is("MATERIALIZED VIEW DATA") || is_of_an_event_trigger {
        return Stage::Last;
    }
    match section {
        DATA if entry.is("BLOB METADATA") => Stage::Metadata,
        DATA => Stage::Settle,
        POST_DATA => Stage::Post,
        _ => Stage::Pre,
    }
}

/// `TABLE app.users`, for people.
pub(super) fn describe(entry: &Entry) -> String {
    let tag = lossy(&entry.tag);
    match entry.namespace.as_deref() {
        Some(namespace) if !namespace.is_empty() => {
            format!(
                "{} {}.{tag}",
                lossy(&entry.desc),
                String::from_utf8_lossy(namespace)
            )
        }
        Some(_) | None => format!("{} {tag}", lossy(&entry.desc)),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::archive::Text;

    pub(in crate::restore) fn text(it: &str) -> Text {
        Some(it.as_bytes().to_vec())
    }

    pub(in crate::restore) fn entry(
        (dump_id, section): (i32, i32),
        desc: &str,
        (namespace, tag): (&str, &str),
        definition: &str,
        dependencies: &[i32],
    ) -> Entry {
        Entry {
            dump_id,
            section,
            desc: text(desc),
            tag: text(tag),
            namespace: text(namespace),
            definition: text(definition),
            drop_statement: text("DROP"),
            owner: text("app"),
            has_data: desc == "TABLE DATA" || desc == "BLOBS",
            dependencies: dependencies
                .iter()
                .map(|it| it.to_string().into_bytes())
                .collect(),
            ..Entry::default()
        }
    }

    pub(in crate::restore) fn toc(entries: Vec<Entry>) -> TableOfContents {
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

    fn sample() -> TableOfContents {
        toc(vec![
            entry((1, 2), "ENCODING", ("", "ENCODING"), "SET x", &[]),
            entry((2, 2), "DATABASE", ("", "app"), "CREATE DATABASE app", &[]),
            entry((3, 1), "COMMENT", ("", "DATABASE app"), "COMMENT", &[2]),
            entry((4, 2), "EXTENSION", ("", "vector"), "CREATE EXTENSION", &[]),
            entry((5, 1), "COMMENT", ("", "EXTENSION vector"), "COMMENT", &[4]),
            entry((6, 2), "TABLE", ("app", "t"), "CREATE TABLE", &[]),
            entry((7, 2), "TABLE", ("app", "v"), "CREATE TABLE", &[4]),
            entry((8, 1), "ACL", ("app", "TABLE t"), "GRANT", &[6]),
            entry((9, 3), "TABLE DATA", ("app", "t"), "", &[6]),
            entry((10, 3), "TABLE DATA", ("app", "v"), "", &[7]),
            entry((11, 3), "SEQUENCE SET", ("app", "s"), "SELECT setval", &[]),
            entry((12, 4), "INDEX", ("app", "i"), "CREATE INDEX", &[6]),
            entry((13, 1), "COMMENT", ("app", "INDEX i"), "COMMENT", &[12]),
            entry(
                (14, 4),
                "SUBSCRIPTION",
                ("", "s"),
                "CREATE SUBSCRIPTION",
                &[],
            ),
            entry(
                (15, 4),
                "EVENT TRIGGER",
                ("", "e"),
                "CREATE EVENT TRIGGER",
                &[],
            ),
            entry(
                (16, 1),
                "COMMENT",
                ("", "EVENT TRIGGER e"),
                "COMMENT",
                &[15],
            ),
            entry(
                (17, 4),
                "MATERIALIZED VIEW DATA",
                ("app", "m"),
                "REFRESH",
                &[],
            ),
        ])
    }

    fn uses(scope: &Scope, leave_out: &LeaveOut) -> Vec<String> {
        let toc = sample();
        let selection = select(&toc, scope, leave_out);
        let uses = toc.entries.iter().zip(&selection.uses);
        uses.filter_map(|(entry, used)| {
            let id = entry.dump_id;
            match used {
                Use { data: true, .. } => Some(format!("{id} rows")),
                Use {
                    statement: Some(stage),
                    ..
                } => Some(format!("{id} {stage:?}")),
                Use { .. } => None,
            }
        })
        .collect()
    }

    #[test]
    fn everything_but_the_database_itself_and_subscriptions_is_restored_in_passes() {
        assert_eq!(
            uses(&Scope::Everything, &LeaveOut::default()),
            [
                "4 Pre",
                "5 Pre",
                "6 Pre",
                "7 Pre",
                "8 Privileges",
                "9 rows",
                "10 rows",
                "11 Settle",
                "12 Post",
                "13 Post",
                "15 Last",
                "16 Last",
                "17 Last"
            ]
        );
    }

    #[test]
    fn schema_and_data_are_told_apart_as_pg_restore_does() {
        assert_eq!(
            uses(&Scope::DataOnly, &LeaveOut::default()),
            ["9 rows", "10 rows", "11 Settle"]
        );
        let schema = uses(&Scope::SchemaOnly, &LeaveOut::default());
        assert!(
            !schema
                .iter()
                .any(|it| it.contains("rows") || it.starts_with("11 "))
        );
        assert_eq!(schema.len(), 10);
    }

    #[test]
    fn what_depends_on_something_left_out_is_left_out_too() {
        let leave_out = LeaveOut {
            extensions: vec!["vector".to_owned()],
            ..LeaveOut::default()
        };
        let selection = select(&sample(), &Scope::Everything, &leave_out);
        let ids: Vec<i32> = selection
            .left_out
            .iter()
            .map(|place| sample().entries[*place].dump_id)
            .collect();
        assert_eq!(ids, [4, 5, 7, 10]);
        let leave_out = LeaveOut {
            schemas: vec!["app".to_owned()],
            ..LeaveOut::default()
        };
        assert_eq!(
            uses(&Scope::Everything, &leave_out),
            ["4 Pre", "5 Pre", "15 Last", "16 Last"]
        );
    }
}
