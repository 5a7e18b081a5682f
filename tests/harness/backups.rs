//! Backups taken by the real functions.

use localcloud::Invoked;
use serde_json::{Value, json};
use shared::manifest::Manifest;

use super::{cloud, wait};

/// A committed and verified backup.
#[derive(Debug)]
pub struct Backup {
    pub manifest: Manifest,
    /// `s3://…` of its folder.
    pub uri: String,
}

/// The event of an on-demand backup. The same `scheduled_time` is the same backup.
pub fn item(database: &str, scheduled_time: &str) -> Value {
    json!({"database": database, "kind": "on-demand", "scheduled_time": scheduled_time})
}

/// Runs the dump function.
pub fn dump(item: &Value) -> Invoked {
    wait(cloud().invoke("DumpFunction", item)).unwrap()
}

/// Runs the verify function until it has a verdict, and returns its last answer.
pub fn verify(item: &Value) -> Value {
    let mut event = json!({"backup": item});
    loop {
        let invoked = wait(cloud().invoke("VerifyFunction", &event)).unwrap();
        let answer: Value = serde_json::from_slice(&invoked.payload).unwrap();
        assert!(!invoked.failed, "{answer}");
        if answer["verdict"].is_string() {
            return answer;
        }
        event["next"] = answer["next"].clone();
    }
}

/// Takes a backup of a configured database and verifies it.
pub fn back_up(database: &str) -> Backup {
    let item = item(database, "2026-11-21T01:00:00Z");
    let invoked = dump(&item);
    let answer: Value = serde_json::from_slice(&invoked.payload).unwrap();
    assert!(!invoked.failed, "{database}: {answer}");
    assert_eq!(answer["outcome"], "committed", "{answer}");
    let verified = verify(&item);
    assert_eq!(verified["verdict"], "passed", "{verified}");

    let key = answer["manifest_key"].as_str().unwrap();
    let json = wait(cloud().object("VaultBucket", key)).unwrap();
    let folder = key.strip_suffix("/manifest.json").unwrap();
    let bucket = cloud().physical("VaultBucket").unwrap();
    Backup {
        manifest: Manifest::parse(&json).unwrap(),
        uri: format!("s3://{bucket}/{folder}"),
    }
}
