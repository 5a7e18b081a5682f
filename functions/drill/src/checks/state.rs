//! What the catalog of the restored database says of its own health. Pure.

use std::collections::{BTreeMap, BTreeSet};

use shared::archive::{TableOfContents, lossy};
use shared::manifest::Extension;
use shared::policy::Priority;
use shared::verdict::Code;

use super::proof::count;
use super::{CheckCode, CheckResult, Status, Subject};

/// As the restored database answers.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// `schema.index` of those not valid or not ready.
    pub invalid_indexes: Vec<String>,
    pub indexes: u64,
    /// Those that are not validated.
    pub invalid_constraints: Vec<Constraint>,
    pub constraints: u64,
    /// By name: version and schema.
    pub extensions: BTreeMap<String, String>,
    /// `schema.view`, with what the server says when it plans a query of it.
    pub broken_views: Vec<(String, String)>,
    pub views: u64,
    /// `schema.view`
    pub unpopulated: Vec<String>,
    pub matviews: u64,
    pub sequences: Vec<OwnedSequence>,
    /// Collations whose version differs from the library's, and the database's own version.
    pub collations: Vec<String>,
    pub collation_version: Option<String>,
    /// Why a check has no answer, or not all of it.
    pub unanswered: BTreeMap<CheckCode, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constraint {
    pub schema: String,
    /// Or a domain.
    pub table: String,
    pub name: String,
}

/// A sequence that fills a column, and the largest (or smallest) value of that column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedSequence {
    pub name: String,
    pub column: String,
    pub ascends: bool,
    /// An extension made it; whether its value is dumped is the extension's to say.
    pub of_extension: bool,
    pub last_value: i128,
    pub is_called: bool,
    /// The farthest value in the sequence's direction; `None` in an empty table.
    pub farthest: Option<i128>,
}

impl OwnedSequence {
    /// Whether the next value is one that the column may have already.
    pub fn is_behind(&self) -> bool {
        let Some(farthest) = self.farthest else {
            return false;
        };
        let (last, farthest) = if self.ascends {
            (self.last_value, farthest)
        } else {
            (-self.last_value, -farthest)
        };
        // Not called yet, the last value is also the next one.
        farthest > last || (farthest == last && !self.is_called)
    }
}

pub fn checks(state: &State, backup: &TableOfContents, recorded: &[Extension]) -> Vec<CheckResult> {
    let checks = [
        extension_versions(state, backup, recorded),
        indexes(state, backup),
        constraints(state, backup),
        views(state),
        matviews(state, backup),
        sequences(state, backup),
        collations(state),
    ];
    let found = checks.into_iter().map(|found| {
        // What was found before it ended counts; that nothing was found does not.
        match state.unanswered.get(&found.code) {
            Some(why_not) if found.status != Status::Failed => open(found.code, why_not),
            Some(_) | None => found,
        }
    });
    found.collect()
}

fn open(code: CheckCode, why_not: &str) -> CheckResult {
    let mut subjects = subjects().into_iter();
    let subject = subjects.find(|it| it.code == code);
    let subject = subject.unwrap_or_else(collation_subject);
    subject.inconclusive(why_not)
}

/// All of them, where the database could not be asked.
pub fn untold(why_not: &str) -> Vec<CheckResult> {
    let subjects = subjects();
    subjects.iter().map(|it| it.inconclusive(why_not)).collect()
}

fn subjects() -> [Subject; 7] {
    [
        extension_subject(),
        index_subject(),
        constraint_subject(),
        view_subject(),
        matview_subject(),
        sequence_subject(),
        collation_subject(),
    ]
}

fn subject(code: CheckCode, name: &str, finding: Code, remedy: &'static str) -> Subject {
    Subject {
        code,
        name: name.to_owned(),
        priority: Priority::P1,
        finding,
        remedy,
    }
}

fn extension_subject() -> Subject {
    subject(
        CheckCode::ExtensionVersions,
        "Versions of extensions",
        Code::ExtensionsDiffer,
        "install the same versions of these extensions on the server that backups are restored to",
    )
}

/// Another version is a note: what it holds was compared object by object.
fn extension_versions(
    state: &State,
    backup: &TableOfContents,
    recorded: &[Extension],
) -> CheckResult {
    let listed: BTreeSet<_> = backup
        .entries
        .iter()
        .filter(|it| it.is("EXTENSION"))
        .map(|it| lossy(&it.tag).into_owned())
        .collect();
    let mut missing = Vec::new();
    let mut other = Vec::new();
    for extension in recorded.iter().filter(|it| listed.contains(&it.name)) {
        match state.extensions.get(&extension.name) {
            None => missing.push(format!("{} is not there", extension.name)),
            Some(version) if *version != extension.version => other.push(format!(
                "{} is {version}, {} at the source",
                extension.name, extension.version
            )),
            Some(_) => {}
        }
    }
    let subject = extension_subject();
    match (missing.is_empty(), other.is_empty()) {
        (false, _) => subject.judge("", missing),
        (true, false) => subject.note(other.join("; "), Vec::new()),
        (true, true) => subject.passed(format!(
            "{} as at the source",
            count(listed.len() as u64, "extension")
        )),
    }
}

fn index_subject() -> Subject {
    subject(
        CheckCode::IndexesValid,
        "Indexes are valid",
        Code::IndexInvalid,
        "REINDEX them after a restore, and find out why building them did not succeed",
    )
}

fn indexes(state: &State, backup: &TableOfContents) -> CheckResult {
    // A partitioned index without all of its parts is not valid at the source either.
    let partial: BTreeSet<String> = entries_with(backup, "INDEX", b" ON ONLY ");
    let invalid = state.invalid_indexes.iter();
    let invalid = invalid.filter(|it| !partial.contains(*it));
    let differences = invalid.map(|it| format!("{it} is not valid"));
    index_subject().judge(
        format!(
            "{} valid",
            count(state.indexes, "index").replace("indexs", "indexes")
        ),
        differences.collect(),
    )
}

fn entries_with(toc: &TableOfContents, desc: &str, piece: &[u8]) -> BTreeSet<String> {
    let entries = toc.entries.iter().filter(|it| it.is(desc));
    let with_piece = entries.filter(|it| {
        let definition = it.definition.as_deref().unwrap_or_default();
        piece.is_empty() || definition.windows(piece.len()).any(|it| it == piece)
    });
    with_piece
        .map(|it| format!("{}.{}", lossy(&it.namespace), lossy(&it.tag)))
        .collect()
}

fn constraint_subject() -> Subject {
    subject(
        CheckCode::ConstraintsValid,
        "Constraints are validated",
        Code::ConstraintInvalid,
        "VALIDATE CONSTRAINT after a restore, and find out which rows break it",
    )
}

fn constraints(state: &State, backup: &TableOfContents) -> CheckResult {
    let not_valid: BTreeSet<(String, String)> = backup
        .entries
        .iter()
        .filter(|it| lossy(&it.definition).contains("NOT VALID"))
        .map(|it| {
            (
                lossy(&it.namespace).into_owned(),
                lossy(&it.tag).into_owned(),
            )
        })
        .collect();
    // The archive names a constraint by its table's name and its own.
    let not_valid = |it: &Constraint| {
        let tag = format!("{} {}", it.table, it.name);
        not_valid.contains(&(it.schema.clone(), tag))
    };
    let (of_source, ours): (Vec<_>, Vec<_>) = state
        .invalid_constraints
        .iter()
        .partition(|it| not_valid(it));
    let say =
        |it: &&Constraint| format!("{} of {}.{} is not validated", it.name, it.schema, it.table);
    if ours.is_empty() && !of_source.is_empty() {
        let details: Vec<String> = of_source.iter().map(say).collect();
        let summary = format!("{} NOT VALID, as at the source", details.len());
        return constraint_subject().note(summary, details);
    }
    constraint_subject().judge(
        format!("{} validated", count(state.constraints, "constraint")),
        ours.iter().map(say).collect(),
    )
}

fn view_subject() -> Subject {
    subject(
        CheckCode::ViewsCompile,
        "Views can be queried",
        Code::ViewBroken,
        "see whether the view works at the source, with search_path set to nothing; name schemas in the functions that it calls",
    )
}

fn views(state: &State) -> CheckResult {
    let broken = state.broken_views.iter();
    view_subject().judge(
        format!("{} can be planned", count(state.views, "view")),
        broken
            .map(|(view, says)| format!("{view}: {says}"))
            .collect(),
    )
}

fn matview_subject() -> Subject {
    subject(
        CheckCode::MatviewsPopulated,
        "Materialized views are populated",
        Code::NotPopulated,
        "REFRESH MATERIALIZED VIEW after a restore, and find out why it was not",
    )
}

fn matviews(state: &State, backup: &TableOfContents) -> CheckResult {
    let with_data = backup
        .entries
        .iter()
        .filter(|it| it.is("MATERIALIZED VIEW DATA"));
    let with_data: BTreeSet<String> = with_data
        .map(|it| format!("{}.{}", lossy(&it.namespace), lossy(&it.tag)))
        .collect();
    let empty = state
        .unpopulated
        .iter()
        .filter(|it| with_data.contains(*it));
    matview_subject().judge(
        format!(
            "{} as at the source",
            count(state.matviews, "materialized view")
        ),
        empty.map(|it| format!("{it} is not populated")).collect(),
    )
}

fn sequence_subject() -> Subject {
    subject(
        CheckCode::SequencesAhead,
        "Sequences are ahead of their columns",
        Code::SequenceBehind,
        "after a restore, the next insert would meet a value that exists: SELECT setval(…) to the column's largest value; see whether the source has the same fault",
    )
}

fn sequences(state: &State, backup: &TableOfContents) -> CheckResult {
    let dumped = entries_with(backup, "SEQUENCE SET", b"");
    // No backup brings those of an extension that does not say so; only a person can.
    let is_nobodys = |it: &&OwnedSequence| it.of_extension && !dumped.contains(&it.name);
    let behind = state.sequences.iter().filter(|it| it.is_behind());
    let (nobodys, ours): (Vec<_>, Vec<_>) = behind.partition(is_nobodys);
    let say = |it: &&OwnedSequence| format!("{} is behind the values of {}", it.name, it.column);
    let total = state.sequences.len() as u64;
    if ours.is_empty() && !nobodys.is_empty() {
        let n = count(nobodys.len() as u64, "sequence");
        let summary = format!(
            "{n} of extensions that do not have their values dumped: setval after a restore"
        );
        return sequence_subject().note(summary, nobodys.iter().map(say).collect());
    }
    sequence_subject().judge(
        format!("{} ahead", count(total, "sequence")),
        ours.iter().map(say).collect(),
    )
}

fn collation_subject() -> Subject {
    Subject {
        priority: Priority::P2,
        ..subject(
            CheckCode::Collations,
            "Versions of collations",
            Code::CheckNotRun,
            "",
        )
    }
}

/// A restored database has new indexes, in the order of this server's library.
fn collations(state: &State) -> CheckResult {
    let subject = collation_subject();
    let version = state
        .collation_version
        .as_deref()
        .unwrap_or("without a version");
    if state.collations.is_empty() {
        return subject.note(format!("the server's own: {version}"), Vec::new());
    }
    let n = state.collations.len() as u64;
    subject.note(
        format!(
            "{} of another version than the library's",
            count(n, "collation")
        ),
        state.collations.clone(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::archive::Entry;

    fn toc(entries: &[(&str, &str, &str)]) -> TableOfContents {
        let text = |it: &str| Some(it.as_bytes().to_vec());
        let entries = entries.iter().map(|(desc, tag, definition)| Entry {
            desc: text(desc),
            namespace: text("app"),
            tag: text(tag),
            definition: text(definition),
            ..Entry::default()
        });
        TableOfContents {
            version: (1, 14, 0),
            int_size: 4,
            offset_size: 8,
            created: [0; 7],
            database: None,
            server_version: None,
            pg_dump_version: None,
            entries: entries.collect(),
        }
    }

    fn check(code: CheckCode, state: &State, toc: &TableOfContents) -> (Status, String) {
        let recorded = [Extension {
            name: "hstore".to_owned(),
            version: "1.8".to_owned(),
            schema: "public".to_owned(),
        }];
        let checks = checks(state, toc, &recorded);
        let found = checks.into_iter().find(|it| it.code == code).unwrap();
        (found.status, found.summary)
    }

    #[test]
    fn a_sequence_is_behind_when_its_next_value_may_exist() {
        for (ascends, last_value, is_called, farthest, expected) in [
            (true, 10, true, Some(10), false),
            (true, 10, false, Some(10), true),
            (true, 10, true, Some(11), true),
            (true, 1, false, None, false),
            (true, 1, false, Some(0), false),
            (false, -10, true, Some(-10), false),
            (false, -10, true, Some(-11), true),
        ] {
            let sequence = OwnedSequence {
                name: "app.ids".to_owned(),
                column: "app.users.id".to_owned(),
                ascends,
                of_extension: false,
                last_value,
                is_called,
                farthest,
            };
            assert_eq!(sequence.is_behind(), expected, "{sequence:?}");
        }
    }

    #[test]
    fn a_sequence_of_an_extension_fails_only_where_the_backup_has_its_value() {
        let state = State {
            sequences: vec![OwnedSequence {
                name: "app.jobs_id_seq".to_owned(),
                column: "app.jobs.id".to_owned(),
                ascends: true,
                of_extension: true,
                last_value: 1,
                is_called: false,
                farthest: Some(7),
            }],
            ..State::default()
        };
        let of = |toc: &TableOfContents| check(CheckCode::SequencesAhead, &state, toc);
        let (status, says) = of(&toc(&[]));
        assert_eq!(status, Status::Note);
        assert!(says.contains("setval after a restore"), "{says}");
        let dumped = toc(&[("SEQUENCE SET", "jobs_id_seq", "SELECT setval(…)")]);
        assert_eq!(of(&dumped).0, Status::Failed);
    }

    #[test]
    fn an_invalid_index_is_named_unless_the_source_has_it_so() {
        let state = State {
            invalid_indexes: vec!["app.users_mail".to_owned()],
            ..State::default()
        };
        let (status, summary) = check(CheckCode::IndexesValid, &state, &toc(&[]));
        assert_eq!(
            (status, summary.as_str()),
            (Status::Failed, "app.users_mail is not valid")
        );
        let partitioned = toc(&[(
            "INDEX",
            "users_mail",
            "CREATE INDEX users_mail ON ONLY app.users",
        )]);
        assert_eq!(
            check(CheckCode::IndexesValid, &state, &partitioned).0,
            Status::Passed
        );
    }

    #[test]
    fn a_constraint_that_the_source_has_not_validated_is_a_note() {
        let state = State {
            invalid_constraints: vec![Constraint {
                schema: "app".to_owned(),
                table: "users".to_owned(),
                name: "adult".to_owned(),
            }],
            ..State::default()
        };
        let of_source = |tag, validity| {
            let sql = format!("ALTER TABLE app.users ADD CONSTRAINT adult CHECK (true){validity};");
            toc(&[("CHECK CONSTRAINT", tag, &sql)])
        };
        for (toc, expected) in [
            (of_source("users adult", " NOT VALID"), Status::Note),
            (of_source("users adult", ""), Status::Failed),
            // Another table's, or another constraint that names this one.
            (of_source("guests adult", " NOT VALID"), Status::Failed),
            (of_source("users adult_too", " NOT VALID"), Status::Failed),
            (toc(&[]), Status::Failed),
        ] {
            let (status, says) = check(CheckCode::ConstraintsValid, &state, &toc);
            assert_eq!(status, expected, "{says}");
            assert!(expected == Status::Note || says == "adult of app.users is not validated");
        }
    }

    #[test]
    fn what_took_too_long_leaves_its_own_check_open_and_no_other() {
        let mut state = State {
            broken_views: vec![("app.v".to_owned(), "no such function".to_owned())],
            ..State::default()
        };
        for code in [CheckCode::ViewsCompile, CheckCode::SequencesAhead] {
            let why_not = "no answer within 30 s".to_owned();
            state.unanswered.insert(code, why_not);
        }
        let of = |code| check(code, &state, &toc(&[])).0;
        assert_eq!(of(CheckCode::SequencesAhead), Status::Inconclusive);
        assert_eq!(of(CheckCode::ViewsCompile), Status::Failed);
        assert_eq!(of(CheckCode::IndexesValid), Status::Passed);
    }

    #[test]
    fn only_a_view_that_had_data_must_have_it() {
        let state = State {
            unpopulated: vec!["app.totals".to_owned()],
            ..State::default()
        };
        assert_eq!(
            check(CheckCode::MatviewsPopulated, &state, &toc(&[])).0,
            Status::Passed
        );
        let with_data = toc(&[("MATERIALIZED VIEW DATA", "totals", "REFRESH")]);
        assert_eq!(
            check(CheckCode::MatviewsPopulated, &state, &with_data).0,
            Status::Failed
        );
    }

    #[test]
    fn a_missing_extension_fails_and_another_version_is_a_note() {
        let listed = toc(&[("EXTENSION", "hstore", "CREATE EXTENSION")]);
        let mut state = State::default();
        let (status, summary) = check(CheckCode::ExtensionVersions, &state, &listed);
        assert_eq!(
            (status, summary.as_str()),
            (Status::Failed, "hstore is not there")
        );
        state
            .extensions
            .insert("hstore".to_owned(), "1.9".to_owned());
        assert_eq!(
            check(CheckCode::ExtensionVersions, &state, &listed).0,
            Status::Note
        );
        state
            .extensions
            .insert("hstore".to_owned(), "1.8".to_owned());
        assert_eq!(
            check(CheckCode::ExtensionVersions, &state, &listed).0,
            Status::Passed
        );
    }

    #[test]
    fn what_could_not_be_asked_is_not_passed() {
        assert!(
            untold("gone")
                .iter()
                .all(|it| it.status == Status::Inconclusive)
        );
    }
}
