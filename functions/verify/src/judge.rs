//! What is wrong with one object, from what was read of it. Pure.
//!
//! One damage has one finding: stored bytes that differ from the manifest explain everything
//! that comes of decrypting them.

use shared::manifest::{Manifest, Object};
use shared::opened::{Fault, FaultKind, StoredTotals};
use shared::verdict::{Code, Finding};

use crate::object::Outcome;

pub(crate) fn judge(
    manifest: &Manifest,
    object: &Object,
    stored: &StoredTotals,
    found_bytes: u64,
    outcome: &Outcome,
) -> Vec<Finding> {
    let finding = |code, window, message| Finding {
        code,
        object: Some(object.key.clone()),
        window,
        message,
    };
    let expected = object.stored_bytes;
    let fault = match outcome {
        Outcome::Fault(fault) => Some(fault),
        Outcome::Read { .. } => None,
    };
    let mut findings = Vec::new();
    if stored.bytes < expected {
        findings.push(finding(
            Code::ObjectTruncated,
            Some((stored.bytes, expected)),
            format!(
                "{} of {expected} bytes are there: the end is lost, and with it everything it held; restore from another backup",
                stored.bytes
            ),
        ));
        // The cut itself makes the last chunk fail, no other.
        if let Some(fault) = fault.filter(|it| it.window.1 < stored.bytes) {
            let message = format!("before the cut, {}", describe(*fault));
            findings.push(finding(Code::ChecksumDiffers, Some(fault.window), message));
        }
        return findings;
    }
    if stored.has_more || found_bytes > expected {
        findings.push(finding(
            Code::ObjectExtended,
            Some((expected, found_bytes.max(expected + 1))),
            format!(
                "there are bytes beyond the {expected} that were written: somebody changed the object; stock tools refuse it"
            ),
        ));
    }
    if stored.sha256 == object.sha256 {
        findings.extend(judge_content(manifest, object, outcome));
    } else {
        let window = fault.filter(|it| it.kind != FaultKind::Compression);
        let window = window.map_or((0, expected), |it| it.window);
        let message = checksum_message(manifest, object, stored, fault);
        findings.push(finding(Code::ChecksumDiffers, Some(window), message));
    }
    findings
}

fn checksum_message(
    manifest: &Manifest,
    object: &Object,
    stored: &StoredTotals,
    fault: Option<&Fault>,
) -> String {
    let twin = manifest
        .objects
        .iter()
        .find(|it| it.sha256 == stored.sha256);
    let cause = match (twin, fault) {
        (Some(twin), _) => format!("these are the bytes of {}: objects were exchanged", twin.key),
        (None, Some(fault)) => describe(*fault),
        (None, None) => {
            "they decrypt as a whole, so this is another object written to the same keys, or the manifest was changed"
                .to_owned()
        }
    };
    format!(
        "the stored bytes have SHA-256 {}, the manifest says {}: {cause}; restore from another backup",
        stored.sha256, object.sha256
    )
}

fn describe(fault: Fault) -> String {
    let (from, to) = fault.window;
    match fault.kind {
        FaultKind::Header | FaultKind::Identity => {
            format!("the age header (bytes {from} to {to}) is damaged")
        }
        FaultKind::Chunk => format!("bytes {from} to {to} fail age's authentication"),
        FaultKind::Compression => format!("bytes {from} to {to} are not zstd once decrypted"),
    }
}

/// Of bytes that are exactly those that were written.
fn judge_content(manifest: &Manifest, object: &Object, outcome: &Outcome) -> Vec<Finding> {
    let finding = |code, window, message: String| Finding {
        code,
        object: Some(object.key.clone()),
        window,
        message,
    };
    match outcome {
        Outcome::Fault(fault) => {
            let (code, message) = match fault.kind {
                FaultKind::Identity => (
                    Code::IdentityUnusable,
                    "no identity in the secret lifeboat/identity opens it: add the identity of one of the manifest's recipients",
                ),
                FaultKind::Header => (
                    Code::DecryptionFailed,
                    "the bytes are those that were written, but their age header is not valid: the backup was never good",
                ),
                FaultKind::Chunk => (
                    Code::DecryptionFailed,
                    "the bytes are those that were written, but fail age's authentication: the backup was never good",
                ),
                FaultKind::Compression => (
                    Code::DecompressionFailed,
                    "the bytes are those that were written, but do not hold zstd to the end: the backup was never good",
                ),
            };
            vec![finding(code, Some(fault.window), message.to_owned())]
        }
        Outcome::Read {
            recipients,
            mismatches,
            ..
        } => {
            let mut findings: Vec<_> = mismatches
                .iter()
                .map(|it| finding(it.code, None, it.message.clone()))
                .collect();
            if *recipients != manifest.recipients.len() {
                findings.push(finding(
                    Code::IdentityUnusable,
                    None,
                    format!(
                        "it is encrypted to {recipients} recipients, the manifest names {}: not every identity opens it",
                        manifest.recipients.len()
                    ),
                ));
            }
            findings
        }
    }
}
