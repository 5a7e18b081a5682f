//! Which branches are ours. Pure.
//!
//! Two things must agree: the annotation that we wrote when we made the branch, and the name,
//! which follows from it. Somebody who renames one of our branches has taken it over, and
//! somebody who uses one of our names has not given theirs away.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::{Branch, Branches};
use crate::backup::DatabaseName;

const MANAGED_BY: &str = "managed-by";
const LIFEBOAT: &str = "lifeboat";
const CLASS: &str = "class";
const DATABASE: &str = "database";
const KEY: &str = "key";
/// One note; the API states no limit, and a list of branches carries them all.
const NOTE_CHARS_MAX: usize = 200;

/// Why there is a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Kept, of a date: `backup-2026-11-21`.
    Daily,
    /// Kept, of a Sunday: `weekly-2026-11-22`.
    Weekly,
    /// Kept, of a deployment: `pre-deploy-add-invoices`.
    PreDeploy,
    /// Read by the dump of one execution: `lifeboat-dump-app-20261121T010000Z-nightly-0a1b2c3d`.
    DumpSource,
    /// Proves that a moment can be had: `lifeboat-probe-app-20261121T011500Z`.
    Probe,
    /// How things were, made for a person: `restore-20261121T023000Z`.
    Restore,
    /// Looked at by one drill: `drill-2026-11-02T030000Z-0a1b2c3d`.
    Drill,
    /// A migration is tried on it: `rehearsal-20261121T023000Z-0a1b2c3d`. With the note
    /// `keep` it is a person's to look at until it expires.
    Rehearsal,
    /// Serves one recovery of production: `lifeboat-recover-app-20261121T030501Z-8f3a2c19d0b4`.
    Recovery,
}

/// The note of a rehearsal's branch that outlives it.
pub const KEEP: &str = "keep";

impl Class {
    const ALL: [Self; 9] = [
        Self::Daily,
        Self::Weekly,
        Self::PreDeploy,
        Self::DumpSource,
        Self::Probe,
        Self::Restore,
        Self::Drill,
        Self::Rehearsal,
        Self::Recovery,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::PreDeploy => "pre-deploy",
            Self::DumpSource => "dump-source",
            Self::Probe => "probe",
            Self::Restore => "restore",
            Self::Drill => "drill",
            Self::Rehearsal => "rehearsal",
            Self::Recovery => "recovery",
        }
    }

    /// Whether it only serves something that is going on.
    pub fn is_temporary(self) -> bool {
        match self {
            Self::DumpSource | Self::Probe | Self::Drill | Self::Rehearsal | Self::Recovery => true,
            Self::Daily | Self::Weekly | Self::PreDeploy | Self::Restore => false,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Class {
    type Err = ();

    fn from_str(class: &str) -> Result<Self, ()> {
        let found = Self::ALL.into_iter().find(|it| it.as_str() == class);
        found.ok_or(())
    }
}

/// Our mark on a branch: what it is for, and notes for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    pub class: Class,
    pub database: DatabaseName,
    /// A date, the name of a deployment, the id of a backup in an execution, of a drill or a plan: with class and
    /// database it makes the branch's name, so the same work always has the same branch.
    pub key: String,
    notes: BTreeMap<String, String>,
}

impl Mark {
    pub fn new(class: Class, database: &DatabaseName, key: &str) -> Self {
        Self {
            class,
            database: database.clone(),
            key: key.to_owned(),
            notes: BTreeMap::new(),
        }
    }

    /// Adds what a person should know, on one line and not too long.
    #[must_use]
    pub fn with_note(mut self, name: &str, note: &str) -> Self {
        let plain = note.chars().map(|c| if c.is_control() { ' ' } else { c });
        let note: String = plain.take(NOTE_CHARS_MAX).collect();
        if !note.trim().is_empty() {
            self.notes.insert(format!("note-{name}"), note);
        }
        self
    }

    pub fn note(&self, name: &str) -> Option<&str> {
        self.notes.get(&format!("note-{name}")).map(String::as_str)
    }

    pub fn branch_name(&self) -> String {
        let (database, key) = (&self.database, &self.key);
        match self.class {
            Class::Daily => format!("backup-{key}"),
            Class::Weekly => format!("weekly-{key}"),
            Class::PreDeploy => format!("pre-deploy-{key}"),
            Class::DumpSource => format!("lifeboat-dump-{database}-{key}"),
            Class::Probe => format!("lifeboat-probe-{database}-{key}"),
            Class::Restore => format!("restore-{key}"),
            Class::Drill => format!("drill-{key}"),
            Class::Rehearsal => format!("rehearsal-{key}"),
            Class::Recovery => format!("lifeboat-recover-{database}-{key}"),
        }
    }

    pub(super) fn annotation(&self) -> BTreeMap<String, String> {
        let mut annotation = self.notes.clone();
        for (name, value) in [
            (MANAGED_BY, LIFEBOAT),
            (CLASS, self.class.as_str()),
            (DATABASE, self.database.as_str()),
            (KEY, &self.key),
        ] {
            annotation.insert(name.to_owned(), value.to_owned());
        }
        annotation
    }

    /// Ours, if annotation and name agree.
    pub fn of(branch: &Branch) -> Option<Self> {
        let text = |name: &str| branch.annotation.get(name).map(String::as_str);
        if text(MANAGED_BY) != Some(LIFEBOAT) {
            return None;
        }
        let mut mark = Self {
            class: text(CLASS)?.parse().ok()?,
            database: text(DATABASE)?.parse().ok()?,
            key: text(KEY)?.to_owned(),
            notes: BTreeMap::new(),
        };
        let notes = branch.annotation.iter();
        mark.notes = notes
            .filter(|(name, _)| name.starts_with("note-"))
            .map(|(name, note)| (name.clone(), note.clone()))
            .collect();
        (mark.branch_name() == branch.name).then_some(mark)
    }

    /// Whether both are of the same work, whatever is noted beside.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.class, &self.database, &self.key) == (other.class, &other.database, &other.key)
    }
}

/// A branch that is ours, whatever else holds of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    id: String,
    mark: Mark,
}

impl Own {
    pub fn of(branch: &Branch) -> Option<Self> {
        let mark = Mark::of(branch)?;
        let id = branch.id.clone();
        Some(Self { id, mark })
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn mark(&self) -> &Mark {
        &self.mark
    }
}

/// Why a branch is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untouchable {
    #[error("it is not one that Lifeboat made, or it was renamed")]
    Foreign,
    #[error("it is of another database")]
    OtherDatabase,
    #[error("it is the project's default branch")]
    Default,
    #[error("it is protected")]
    Protected,
    #[error("it is a root branch")]
    Root,
    #[error("other branches were made from it")]
    HasChildren,
}

/// The proof that a branch may be deleted. There is no other way to delete one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletable(Own);

impl Deletable {
    /// Judges `branch`, one of `all` branches of its project.
    pub fn judge(
        branch: &Branch,
        all: &Branches,
        database: &DatabaseName,
    ) -> Result<Self, Untouchable> {
        let own = Own::of(branch).ok_or(Untouchable::Foreign)?;
        if own.mark.database != *database {
            return Err(Untouchable::OtherDatabase);
        }
        if branch.default {
            return Err(Untouchable::Default);
        }
        if branch.protected {
            return Err(Untouchable::Protected);
        }
        if branch.parent_id.is_none() {
            return Err(Untouchable::Root);
        }
        if all.has_children(&branch.id) {
            return Err(Untouchable::HasChildren);
        }
        Ok(Self(own))
    }

    pub fn id(&self) -> &str {
        &self.0.id
    }

    pub fn mark(&self) -> &Mark {
        &self.0.mark
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn branch(id: &str, parent: Option<&str>, mark: Option<&Mark>) -> Branch {
        Branch {
            id: id.to_owned(),
            name: mark.map_or_else(|| id.to_owned(), Mark::branch_name),
            parent_id: parent.map(str::to_owned),
            parent_lsn: None,
            parent_timestamp: None,
            current_state: "ready".to_owned(),
            default: false,
            protected: false,
            created_at: "2026-11-21T01:00:00Z".parse().unwrap(),
            expires_at: None,
            logical_size: None,
            annotation: mark.map(Mark::annotation).unwrap_or_default(),
        }
    }

    fn app() -> DatabaseName {
        "app".parse().unwrap()
    }

    fn daily() -> Mark {
        Mark::new(Class::Daily, &app(), "2026-11-21").with_note("why", "the daily one")
    }

    fn judge(branch: &Branch, children: &[Branch]) -> Result<Deletable, Untouchable> {
        let all = [std::slice::from_ref(branch), children].concat();
        Deletable::judge(branch, &Branches(all), &app())
    }

    #[test]
    fn a_mark_is_read_back_as_it_was_written() {
        for class in Class::ALL {
            let mark = Mark::new(class, &app(), "2026-11-21").with_note("who", "ci\nrun");
            let read = Mark::of(&branch("br-a", Some("br-main"), Some(&mark))).unwrap();
            assert_eq!(read, mark);
            assert_eq!(read.note("who"), Some("ci run"));
        }
    }

    #[test]
    fn ours_is_what_has_our_annotation_and_the_name_that_follows_from_it() {
        let mark = daily();
        let own = branch("br-a", Some("br-main"), Some(&mark));
        assert_eq!(judge(&own, &[]).unwrap().id(), "br-a");
        let renamed = Branch {
            name: "important".to_owned(),
            ..own.clone()
        };
        let same_name = Branch {
            annotation: BTreeMap::new(),
            ..own.clone()
        };
        let of_another_tool = Branch {
            annotation: BTreeMap::from([("managed-by".to_owned(), "other".to_owned())]),
            ..own.clone()
        };
        for foreign in [renamed, same_name, of_another_tool] {
            assert_eq!(judge(&foreign, &[]), Err(Untouchable::Foreign));
        }
    }

    #[test]
    fn what_somebody_depends_on_is_left_alone() {
        let own = branch("br-a", Some("br-main"), Some(&daily()));
        let child = branch("br-child", Some("br-a"), None);
        assert_eq!(judge(&own, &[child]), Err(Untouchable::HasChildren));
        let default = Branch {
            default: true,
            ..own.clone()
        };
        assert_eq!(judge(&default, &[]), Err(Untouchable::Default));
        let protected = Branch {
            protected: true,
            ..own.clone()
        };
        assert_eq!(judge(&protected, &[]), Err(Untouchable::Protected));
        let root = Branch {
            parent_id: None,
            ..own.clone()
        };
        assert_eq!(judge(&root, &[]), Err(Untouchable::Root));
        let other = "shop".parse().unwrap();
        let judged = Deletable::judge(&own, &Branches(vec![own.clone()]), &other);
        assert_eq!(judged, Err(Untouchable::OtherDatabase));
    }
}
