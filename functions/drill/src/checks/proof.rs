//! Rows, fingerprints, large objects and sequences: the engine's proof, as checks. Pure.

use shared::policy::Priority;
use shared::restore::Proof;
use shared::verdict::Code;
use shared::words::counted;

use super::{CheckCode, CheckResult, Subject};

const OTHER_DATA: &str = "restore another backup; keep this one as evidence, run verify on it, and find out what changed its rows";

pub fn checks(proof: &Proof) -> Vec<CheckResult> {
    vec![
        rows(proof),
        fingerprints(proof),
        large_objects(proof),
        sequences(proof),
        left_out(proof),
    ]
}

fn subject(code: CheckCode, name: &str, finding: Code) -> Subject {
    Subject {
        code,
        name: name.to_owned(),
        priority: Priority::P0,
        finding,
        remedy: OTHER_DATA,
    }
}

fn rows(proof: &Proof) -> CheckResult {
    let differs = proof
        .tables
        .iter()
        .filter(|it| it.found_rows != it.expected_rows);
    let differences = differs.filter_map(shared::restore::TableProof::difference);
    let total: u64 = proof.tables.iter().map(|it| it.found_rows).sum();
    subject(CheckCode::Rows, "Rows of every table", Code::RowsDiffer).judge(
        format!("{} in {}", count(total, "row"), tables(proof)),
        differences.collect(),
    )
}

fn fingerprints(proof: &Proof) -> CheckResult {
    let subject = subject(
        CheckCode::Fingerprints,
        "Fingerprint of every table",
        Code::FingerprintDiffers,
    );
    let differences: Vec<String> = proof
        .tables
        .iter()
        .filter_map(shared::restore::TableProof::difference)
        .collect();
    if differences.is_empty() && !proof.inconclusive.is_empty() {
        let summary = format!(
            "of {} it could not be told",
            counted(
                i64::try_from(proof.inconclusive.len()).unwrap_or(i64::MAX),
                "table"
            )
        );
        let mut result = subject.inconclusive(summary);
        result.details.clone_from(&proof.inconclusive);
        return result;
    }
    subject.judge(format!("all equal: {}", tables(proof)), differences)
}

fn large_objects(proof: &Proof) -> CheckResult {
    let differs = proof.large_objects.iter().filter(|it| !it.equal);
    let differences = differs.map(|it| {
        format!(
            "large objects of entry {}: {} found, {} expected, or other content",
            it.dump_id, it.found_count, it.expected_count
        )
    });
    let total: u64 = proof.large_objects.iter().map(|it| it.found_count).sum();
    subject(
        CheckCode::LargeObjects,
        "Large objects",
        Code::LargeObjectsDiffer,
    )
    .judge(
        format!("{} equal", count(total, "large object")),
        differences.collect(),
    )
}

fn sequences(proof: &Proof) -> CheckResult {
    let differs = proof.sequences.iter().filter(|it| !it.equal);
    let differences = differs.map(|it| match it.found {
        Some((found, _)) => format!(
            "{}.{} is at {found}, the backup has {}",
            it.schema, it.name, it.expected.0
        ),
        None => format!("{}.{} does not exist", it.schema, it.name),
    });
    let total = proof.sequences.len() as u64;
    subject(
        CheckCode::SequenceValues,
        "Values of sequences",
        Code::SequenceBehind,
    )
    .judge(
        format!("{} equal", count(total, "sequence")),
        differences.collect(),
    )
}

/// What the configuration leaves out is listed; with rows among it nothing is proven.
fn left_out(proof: &Proof) -> CheckResult {
    let subject = Subject {
        remedy: "take what holds rows out of leave_out_… in lifeboat.toml, on a drill server that has what it needs",
        ..subject(
            CheckCode::LeftOut,
            "Left out by configuration",
            Code::CheckNotRun,
        )
    };
    if proof.left_out.is_empty() {
        return subject.passed("nothing");
    }
    let all_equal = proof.differences().is_empty() && proof.inconclusive.is_empty();
    if all_equal && !proof.is_proven {
        let mut result =
            subject.inconclusive("a table with rows is left out: what it holds is not proven");
        result.details.clone_from(&proof.left_out);
        return result;
    }
    let summary = count(proof.left_out.len() as u64, "object");
    subject.note(summary, proof.left_out.clone())
}

fn tables(proof: &Proof) -> String {
    count(proof.tables.len() as u64, "table")
}

/// `1 table`, `12,345 rows`.
pub fn count(n: u64, unit: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{} {unit}{plural}", shared::words::grouped(n))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::Status;
    use shared::fingerprint::Fingerprint;
    use shared::restore::{SequenceProof, TableProof};

    fn table(name: &str, rows: (u64, u64), content: (&str, &str)) -> TableProof {
        let of = |text: &str| Fingerprint::of(text.as_bytes());
        TableProof {
            schema: "app".to_owned(),
            name: name.to_owned(),
            expected_rows: rows.0,
            found_rows: rows.1,
            expected_fingerprint: of(content.0),
            found_fingerprint: of(content.1),
            equal: rows.0 == rows.1 && content.0 == content.1,
        }
    }

    fn statuses(proof: &Proof) -> Vec<(CheckCode, Status, String)> {
        let checks = checks(proof).into_iter();
        checks.map(|it| (it.code, it.status, it.summary)).collect()
    }

    #[test]
    fn equal_is_passed() {
        let proof = Proof {
            is_proven: true,
            tables: vec![table("users", (1234, 1234), ("a", "a"))],
            ..Proof::default()
        };
        let found = statuses(&proof);
        assert!(
            found.iter().all(|(_, status, _)| *status == Status::Passed),
            "{found:?}"
        );
        assert_eq!(found[0].2, "1,234 rows in 1 table");
    }

    #[test]
    fn missing_extra_and_changed_rows_are_told_apart() {
        let proof = Proof {
            tables: vec![
                table("a", (3, 2), ("x", "y")),
                table("b", (3, 4), ("x", "y")),
                table("c", (3, 3), ("x", "y")),
            ],
            ..Proof::default()
        };
        let checks = checks(&proof);
        assert_eq!(checks[0].status, Status::Failed);
        assert_eq!(
            checks[0].details,
            [
                "app.a: 1 of 3 rows are missing",
                "app.b: 1 rows more than the 3 of the backup"
            ]
        );
        assert_eq!(checks[1].details.len(), 3);
        assert!(checks[1].details[2].contains("some of them are changed"));
    }

    #[test]
    fn what_could_not_be_told_is_not_passed() {
        let proof = Proof {
            inconclusive: vec!["app.m: lc_monetary".to_owned()],
            ..Proof::default()
        };
        assert_eq!(statuses(&proof)[1].1, Status::Inconclusive);
    }

    #[test]
    fn rows_that_were_left_out_keep_a_backup_from_being_proven() {
        let mut proof = Proof {
            is_proven: true,
            left_out: vec!["extension pg_graphql".to_owned()],
            ..Proof::default()
        };
        assert_eq!(statuses(&proof)[4].1, Status::Note);
        proof.is_proven = false;
        assert_eq!(statuses(&proof)[4].1, Status::Inconclusive);
    }

    #[test]
    fn a_sequence_that_is_elsewhere_is_named() {
        let proof = Proof {
            sequences: vec![SequenceProof {
                schema: "app".to_owned(),
                name: "ids".to_owned(),
                expected: (7, true),
                found: Some((1, false)),
                equal: false,
            }],
            ..Proof::default()
        };
        assert_eq!(statuses(&proof)[3].2, "app.ids is at 1, the backup has 7");
    }
}
