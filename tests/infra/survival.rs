//! What outlives the stack, and how the vault is set.

use serde_json::json;

use super::{properties, template};

const STATEFUL: [&str; 6] = [
    "AWS::S3::Bucket",
    "AWS::S3::BucketPolicy",
    "AWS::KMS::Key",
    "AWS::SecretsManager::Secret",
    "AWS::Logs::LogGroup",
    "AWS::SQS::Queue",
];

#[test]
fn everything_stateful_outlives_the_stack() {
    let mut kept = 0;
    for (name, resource) in template()["Resources"].as_object().unwrap() {
        if STATEFUL.iter().any(|kind| resource["Type"] == *kind) {
            assert_eq!(resource["DeletionPolicy"], "Retain", "{name}");
            assert_eq!(resource["UpdateReplacePolicy"], "Retain", "{name}");
            kept += 1;
        }
    }
    assert_eq!(
        kept, 24,
        "a stateful resource came or went; is its type in the list?"
    );
}

#[test]
fn the_vault_locks_versions_and_expires_nothing() {
    let vault = properties("VaultBucket");
    assert_eq!(vault["VersioningConfiguration"]["Status"], "Enabled");
    assert_eq!(vault["ObjectLockEnabled"], true);
    let retention = &vault["ObjectLockConfiguration"]["Rule"]["DefaultRetention"];
    assert_eq!(
        *retention,
        json!({"Mode": {"Ref": "LockMode"}, "Days": {"Ref": "LockDays"}})
    );
    assert_eq!(
        template()["Parameters"]["LockMode"]["Default"],
        "GOVERNANCE"
    );
    assert_eq!(template()["Parameters"]["LockDays"]["Default"], 7);

    let encryption = &vault["BucketEncryption"]["ServerSideEncryptionConfiguration"][0];
    assert_eq!(encryption["BucketKeyEnabled"], true);
    assert_eq!(
        encryption["ServerSideEncryptionByDefault"]["SSEAlgorithm"],
        "aws:kms"
    );

    let rules = vault["LifecycleConfiguration"]["Rules"].as_array().unwrap();
    assert_eq!(rules.len(), 1);
    assert_eq!(
        rules[0]["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"],
        1
    );
    assert_eq!(
        rules[0].as_object().unwrap().len(),
        3,
        "a rule that also expires something: {}",
        rules[0]
    );
}

#[test]
fn no_bucket_can_be_made_public() {
    for (name, bucket) in super::resources("AWS::S3::Bucket") {
        let block = bucket["PublicAccessBlockConfiguration"]
            .as_object()
            .unwrap();
        assert!(
            block.len() == 4 && block.values().all(|it| it == true),
            "{name}"
        );
        assert_eq!(
            bucket["OwnershipControls"]["Rules"][0]["ObjectOwnership"], "BucketOwnerEnforced",
            "{name}"
        );
    }
}

#[test]
fn the_identity_secret_is_created_without_a_value() {
    let secret = properties("IdentitySecret");
    assert_eq!(secret["Name"], "lifeboat/identity");
    assert!(secret.get("SecretString").is_none() && secret.get("GenerateSecretString").is_none());
}
