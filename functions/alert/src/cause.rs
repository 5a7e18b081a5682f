//! What is behind a failure, read from the text that Step Functions hands on.

use serde::Deserialize;
use shared::redact::redact;
use shared::verdict::{Finding, Verdict};

/// A person reads it; all of it is in the execution.
const BYTES_MAX: usize = 16 << 10;

/// Redacted and short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// In words; empty when nothing is known.
    pub text: String,
    /// Set when verify ran to its end and did not pass the backup.
    pub verdict: Option<Verdict>,
}

/// A function's error, as Lambda words it.
#[derive(Deserialize)]
struct LambdaError {
    #[serde(rename = "errorMessage")]
    message: String,
}

/// What verify or a drill answered, as far as a message needs it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Report {
    pub verdict: Verdict,
    pub findings: Vec<Finding>,
    findings_total: Option<usize>,
    verdict_key: Option<String>,
    /// Budgets and objectives, in words.
    #[serde(default)]
    pub missed: Vec<String>,
    /// Whether a drill's copy is gone.
    pub is_destroyed: Option<bool>,
    /// Why it is not.
    pub teardown_failure: Option<String>,
    /// A page for a browser, in the vault.
    pub report_key: Option<String>,
    pub evidence_key: Option<String>,
}

impl Cause {
    pub fn read(cause: Option<&str>) -> Self {
        let cause = cause.unwrap_or_default().trim();
        let (text, verdict) = if let Ok(error) = serde_json::from_str::<LambdaError>(cause) {
            (error.message, None)
        } else if let Ok(report) = serde_json::from_str::<Report>(cause) {
            (report.in_words(), Some(report.verdict))
        } else {
            (cause.to_owned(), None)
        };
        // Redacted first: half a secret is not recognised as one.
        Self {
            text: shorten(redact(&text), BYTES_MAX),
            verdict,
        }
    }
}

impl Report {
    pub fn in_words(&self) -> String {
        let total = self.findings_total.unwrap_or(self.findings.len());
        let mut words = format!("The verdict is {}, with {total} finding(s).", self.verdict);
        for finding in &self.findings {
            words.push_str("\n- ");
            if let Ok(serde_json::Value::String(code)) = serde_json::to_value(finding.code) {
                words.push_str(&code);
            }
            if let Some(object) = &finding.object {
                words.push_str(" in ");
                words.push_str(object);
            }
            if let Some((from, to)) = finding.window {
                words.push_str(&format!(", bytes {from} to {to}"));
            }
            words.push_str(": ");
            words.push_str(&finding.message);
        }
        if let Some(key) = &self.verdict_key {
            words.push_str("\nAll findings are in the vault: ");
            words.push_str(key);
        }
        words
    }
}

fn shorten(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        let end = text.floor_char_boundary(bytes_max);
        let more = text.len() - end;
        text.truncate(end);
        text.push_str(&format!("… ({more} more bytes in the execution)"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cause: Option<&str>, expected: &str) {
        assert_eq!(Cause::read(cause).text, expected);
    }

    #[test]
    fn every_shape_of_cause_becomes_words() {
        check(None, "");
        check(Some("  "), "");
        check(
            Some("The state machine was stopped"),
            "The state machine was stopped",
        );
        check(
            Some(
                r#"{"errorType":"Refused","errorMessage":"the endpoint is pooled: use the direct one"}"#,
            ),
            "the endpoint is pooled: use the direct one",
        );
        check(Some(r#"{"errorMessage": {}}"#), r#"{"errorMessage": {}}"#);
        check(Some("{ half of a JSON"), "{ half of a JSON");
        check(Some("[1, 2]"), "[1, 2]");
    }

    #[test]
    fn a_verdict_that_is_not_a_pass_lists_its_findings() {
        let report = r#"{"database":"app","backup_id":"20261121T010000Z-nightly","verdict":"failed",
            "remaining":0,"next":null,"findings_total":12,"verdict_key":"verdicts/app/x.json","findings":[
            {"code":"checksum_differs","object":"backups/app/x/3375.dat.zst.00000.age","window":[0,65536],"message":"other bytes"},
            {"code":"toc_unreadable","object":null,"window":null,"message":"no end"}]}"#;
        let cause = Cause::read(Some(report));
        assert_eq!(cause.verdict, Some(Verdict::Failed));
        assert_eq!(
            cause.text,
            "The verdict is failed, with 12 finding(s).\n\
             - checksum_differs in backups/app/x/3375.dat.zst.00000.age, bytes 0 to 65536: other bytes\n\
             - toc_unreadable: no end\n\
             All findings are in the vault: verdicts/app/x.json"
        );
    }

    #[test]
    fn a_long_cause_ends_between_two_characters() {
        for shift in 0..4 {
            let text = "x".repeat(shift) + &"ß€🎉".repeat(10_000);
            let shortened = Cause::read(Some(&text)).text;
            assert!(shortened.len() < BYTES_MAX + 60);
            assert!(shortened.contains("more bytes in the execution"));
        }
    }

    #[test]
    fn a_secret_across_the_cut_is_redacted_all_the_same() {
        let padding = "x".repeat(BYTES_MAX - 20);
        let text = format!("{padding} postgres://app:CANARYCANARYCANARY@db.example/app");
        assert!(!Cause::read(Some(&text)).text.contains("CAN"));
    }
}
