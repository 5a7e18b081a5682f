//! Everything that each function may do, and nothing besides.

use std::collections::{BTreeMap, BTreeSet};

use super::permissions::{actions, allowed, resource_names};

/// Everything that a role may do, with what it may do it to.
fn may(role: &str) -> BTreeMap<&'static str, Vec<String>> {
    let mut may: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (_, statement) in allowed().into_iter().filter(|(it, _)| *it == role) {
        for action in actions(statement) {
            may.entry(action)
                .or_default()
                .extend(resource_names(statement));
        }
    }
    may
}

#[test]
fn dump_creates_backups_and_can_do_nothing_else() {
    let may = may("DumpFunctionRole");
    let secret = |kind: &str| {
        format!(
            "arn:AWS::Partition}}:secretsmanager:AWS::Region}}:AWS::AccountId}}:secret:lifeboat/{kind}/*"
        )
    };
    let vault_key = r#"{"Fn::GetAtt":["VaultKey","Arn"]}"#.to_owned();
    let log = r#"{"Fn::GetAtt":["DumpFunctionLogGroup","Arn"]}"#.to_owned();
    let backups = "VaultBucket/backups/*".to_owned();
    let expected = [
        ("kms:Decrypt", vec![vault_key.clone()]),
        ("kms:GenerateDataKey", vec![vault_key]),
        ("logs:CreateLogStream", vec![log.clone()]),
        ("logs:PutLogEvents", vec![log]),
        ("s3:AbortMultipartUpload", vec![backups.clone()]),
        ("s3:PutObject", vec![backups]),
        (
            "secretsmanager:GetSecretValue",
            vec![secret("branch"), secret("database")],
        ),
    ];
    assert_eq!(may, expected.into());
}

/// It holds the keys that can delete a project's branches, so it holds nothing else: no backup,
/// no database's password, what it writes for dump, drill and restore it cannot read back, and
/// it answers no execution: whoever may invoke it cannot have production put back.
#[test]
fn snapshot_branch_opens_neon_and_nothing_else() {
    let may = may("SnapshotBranchFunctionRole");
    let names: Vec<&str> = may.keys().copied().collect();
    let expected = [
        "kms:Decrypt",
        "kms:GenerateDataKey",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
        "s3:PutObject",
        "secretsmanager:CreateSecret",
        "secretsmanager:DeleteSecret",
        "secretsmanager:GetSecretValue",
        "secretsmanager:PutSecretValue",
    ];
    assert_eq!(names, expected);
    assert_eq!(may["s3:PutObject"], ["VaultBucket/evidence/*"]);
    let written = [
        "lifeboat/branch/*",
        "lifeboat/rehearsal/*",
        "lifeboat/target/neon-*",
    ];
    for (action, secrets) in [
        ("secretsmanager:GetSecretValue", &["lifeboat/neon/*"][..]),
        ("secretsmanager:CreateSecret", &written),
        ("secretsmanager:PutSecretValue", &written),
        ("secretsmanager:DeleteSecret", &written[..2]),
    ] {
        assert_eq!(may[action].len(), secrets.len(), "{action}");
        for (found, secret) in may[action].iter().zip(secrets) {
            assert!(found.ends_with(&format!(":secret:{secret}")), "{action}");
        }
    }
}

/// Passwords of a dump's or drill's branch may be production's: what is lent to them is not for
/// whoever rehearses, and what is lent to him is not for them.
#[test]
fn whoever_rehearses_reads_secrets_of_rehearsals_and_nobody_else_does() {
    let root = localcloud::workspace::root();
    let runbook = std::fs::read_to_string(root.join("docs/RUNBOOK.md")).unwrap();
    let is_policy = |it: &&str| it.contains("lifeboat-snapshot-branch");
    let policy = runbook.split("```json\n").skip(1).find(is_policy).unwrap();
    let policy = policy.split("```").next().unwrap();
    let policy: serde_json::Value = serde_json::from_str(policy).unwrap();
    let given: Vec<(&str, &str)> = policy["Statement"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| {
            let resource = it["Resource"].as_str().unwrap();
            let (_, resource) = resource.split_once("111122223333:").unwrap();
            (it["Action"].as_str().unwrap(), resource)
        })
        .collect();
    let invoke = "function:lifeboat-snapshot-branch";
    let read = "secret:lifeboat/rehearsal/app/*";
    let expected = [
        ("lambda:InvokeFunction", invoke),
        ("secretsmanager:GetSecretValue", read),
    ];
    assert_eq!(given, expected);
    for (role, statement) in allowed() {
        let reads = actions(statement).contains(&"secretsmanager:GetSecretValue");
        let rehearsals = statement["Resource"].to_string().contains("rehearsal");
        assert!(!(reads && rehearsals), "{role}");
    }
}

/// It can change production, so it reads no backup, and no secret but Neon's keys.
#[test]
fn recover_opens_neon_asks_people_and_keeps_its_plans() {
    let may = may("RecoverFunctionRole");
    let names: Vec<&str> = may.keys().copied().collect();
    let expected = [
        "kms:Decrypt",
        "kms:GenerateDataKey",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
        "s3:GetObject",
        "s3:ListBucket",
        "s3:PutObject",
        "secretsmanager:GetSecretValue",
        "sns:Publish",
        "states:SendTaskFailure",
        "states:SendTaskSuccess",
    ];
    assert_eq!(names, expected);
    let kept = ["VaultBucket/evidence/*", "WorkBucket/recoveries/*"];
    assert_eq!(may["s3:PutObject"], kept);
    assert_eq!(may["s3:GetObject"], kept[1..]);
    let secrets = &may["secretsmanager:GetSecretValue"];
    assert_eq!(secrets.len(), 1);
    assert!(secrets[0].ends_with(":secret:lifeboat/neon/*"));
    for answer in ["states:SendTaskFailure", "states:SendTaskSuccess"] {
        assert_eq!(may[answer].len(), 1);
        assert!(may[answer][0].ends_with(":stateMachine:AWS::StackName}-recover"));
    }
}

#[test]
fn neons_keys_are_for_one_program_alone() {
    for (role, statement) in allowed() {
        let reads = actions(statement).contains(&"secretsmanager:GetSecretValue");
        if reads && statement["Resource"].to_string().contains("lifeboat/neon") {
            assert!(["RecoverFunctionRole", "SnapshotBranchFunctionRole"].contains(&role));
        }
    }
}

/// It cannot write a backup or a verdict, and reaches no database but the targets.
#[test]
fn restore_reads_backups_and_writes_evidence_and_plans() {
    let may = may("RestoreFunctionRole");
    let names: Vec<&str> = may.keys().copied().collect();
    let expected = [
        "kms:Decrypt",
        "kms:GenerateDataKey",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
        "s3:GetObject",
        "s3:GetObjectVersion",
        "s3:ListBucket",
        "s3:ListBucketVersions",
        "s3:PutObject",
        "secretsmanager:GetSecretValue",
        "sns:Publish",
        "states:SendTaskFailure",
        "states:SendTaskSuccess",
    ];
    assert_eq!(names, expected);
    let written = ["VaultBucket/evidence/*", "WorkBucket/plans/*"];
    assert_eq!(may["s3:PutObject"], written);
    let secrets = may["secretsmanager:GetSecretValue"].join(" ");
    assert!(secrets.contains("lifeboat/target/*") && !secrets.contains("lifeboat/database"));
    for answer in ["states:SendTaskFailure", "states:SendTaskSuccess"] {
        assert_eq!(may[answer].len(), 1);
        assert!(may[answer][0].ends_with(":stateMachine:AWS::StackName}-restore"));
    }
}

/// It cannot write a backup or a plan, and reaches no database but the targets and what was lent to it.
#[test]
fn drill_reads_backups_and_writes_verdicts_evidence_and_its_own_steps() {
    let may = may("DrillFunctionRole");
    let names: Vec<&str> = may.keys().copied().collect();
    let expected = [
        "kms:Decrypt",
        "kms:GenerateDataKey",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
        "s3:GetObject",
        "s3:GetObjectVersion",
        "s3:ListBucket",
        "s3:ListBucketVersions",
        "s3:PutObject",
        "secretsmanager:GetSecretValue",
    ];
    assert_eq!(names, expected);
    let written = [
        "VaultBucket/verdicts/*",
        "VaultBucket/evidence/*",
        "WorkBucket/drills/*",
    ];
    assert_eq!(may["s3:PutObject"], written);
    let read = [
        "VaultBucket/backups/*",
        "VaultBucket/verdicts/*",
        "VaultBucket/evidence/*",
        "WorkBucket/drills/*",
    ];
    assert_eq!(may["s3:GetObject"], read);
    assert_eq!(may["s3:GetObjectVersion"], read[..3]);
    let secrets = &may["secretsmanager:GetSecretValue"];
    assert_eq!(secrets.len(), 4);
    assert!(secrets[0].contains("lifeboat/identity-"));
    assert!(secrets[1].ends_with(":secret:lifeboat/branch/*"));
    assert!(secrets[2].ends_with(":secret:lifeboat/target/*"));
    assert!(secrets[3].ends_with(":secret:lifeboat/channel/drill-*"));
}

#[test]
fn the_first_path_segment_decides_who_writes() {
    let mut writers: BTreeSet<(String, &str)> = BTreeSet::new();
    for (role, statement) in allowed() {
        if actions(statement).contains(&"s3:PutObject") {
            writers.extend(resource_names(statement).into_iter().map(|it| (it, role)));
        }
    }
    let expected = [
        ("VaultBucket/backups/*", "DumpFunctionRole"),
        ("VaultBucket/evidence/*", "DrillFunctionRole"),
        ("VaultBucket/evidence/*", "RecoverFunctionRole"),
        ("VaultBucket/evidence/*", "RestoreFunctionRole"),
        ("VaultBucket/evidence/*", "SnapshotBranchFunctionRole"),
        ("VaultBucket/verdicts/*", "DrillFunctionRole"),
        ("VaultBucket/verdicts/*", "VerifyFunctionRole"),
        ("WorkBucket/drills/*", "DrillFunctionRole"),
        ("WorkBucket/plans/*", "RestoreFunctionRole"),
        ("WorkBucket/recoveries/*", "RecoverFunctionRole"),
        ("WorkBucket/verify/*", "VerifyFunctionRole"),
    ];
    assert_eq!(
        writers,
        expected
            .map(|(resource, role)| (resource.to_owned(), role))
            .into()
    );
}
