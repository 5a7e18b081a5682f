//! Whether the manifest is the one that earlier verdicts are about. Pure.
//!
//! The role that writes backups cannot write verdicts, so a manifest that was exchanged later,
//! with everything in it made to match, differs from what is written there.

use shared::policy::Priority;
use shared::verdict::Code;

use super::proof::count;
use super::{CheckCode, CheckResult, Subject};

/// An earlier verdict that says which manifest it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Earlier {
    pub key: String,
    pub manifest_sha256: String,
}

pub fn check(manifest_sha256: &str, earlier: &[Earlier]) -> CheckResult {
    let subject = Subject {
        code: CheckCode::ManifestUnchanged,
        name: "The manifest is the one that was verified".to_owned(),
        priority: Priority::P0,
        finding: Code::ManifestChanged,
        remedy: "somebody exchanged the backup after it was verified: keep everything, find out who may write to the vault, and restore another backup",
    };
    let differing = earlier
        .iter()
        .filter(|it| it.manifest_sha256 != manifest_sha256);
    let differences = differing.map(|it| format!("{} is about another manifest", it.key));
    if earlier.is_empty() {
        return subject.note("no earlier verdict to hold it against", Vec::new());
    }
    subject.judge(
        format!(
            "{} about the same bytes",
            count(earlier.len() as u64, "earlier verdict")
        ),
        differences.collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::Status;

    #[test]
    fn an_exchanged_manifest_is_found() {
        let earlier = |sha256: &str| Earlier {
            key: format!("verdicts/app/x/{sha256}.json"),
            manifest_sha256: sha256.to_owned(),
        };
        assert_eq!(check("a", &[earlier("a")]).status, Status::Passed);
        assert_eq!(check("a", &[]).status, Status::Note);
        let found = check("a", &[earlier("a"), earlier("b")]);
        assert_eq!(found.status, Status::Failed);
        assert!(found.summary.contains("verdicts/app/x/b.json"), "{found:?}");
    }
}
