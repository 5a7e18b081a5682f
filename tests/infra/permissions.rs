//! Who may do what: roles, the vault's policy, and the policies of what carries messages.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{listed, properties, refers_to, resources, template};

/// Every statement of every role, with whose it is.
fn role_statements() -> Vec<(&'static str, &'static Value)> {
    let mut statements = Vec::new();
    for (role, properties) in resources("AWS::IAM::Role") {
        for policy in properties["Policies"].as_array().unwrap() {
            statements.extend(
                listed(&policy["PolicyDocument"]["Statement"])
                    .into_iter()
                    .map(|it| (role, it)),
            );
        }
    }
    for (policy, properties) in resources("AWS::IAM::Policy") {
        statements.extend(
            listed(&properties["PolicyDocument"]["Statement"])
                .into_iter()
                .map(|it| (policy, it)),
        );
    }
    statements
}

pub(super) fn allowed() -> Vec<(&'static str, &'static Value)> {
    role_statements()
        .into_iter()
        .filter(|(_, statement)| statement["Effect"] == "Allow")
        .collect()
}

pub(super) fn actions(statement: &Value) -> Vec<&str> {
    listed(&statement["Action"])
        .into_iter()
        .map(|it| it.as_str().unwrap())
        .collect()
}

/// `Bucket/prefix*` for what `${Bucket.Arn}/prefix*` says; other resources as JSON.
pub(super) fn resource_names(statement: &Value) -> Vec<String> {
    listed(&statement["Resource"])
        .into_iter()
        .map(|resource| match resource["Fn::Sub"].as_str() {
            Some(text) => text.replace("${", "").replace(".Arn}", ""),
            None => resource.to_string(),
        })
        .collect()
}

#[test]
fn every_function_and_machine_has_a_role_of_its_own() {
    let mut roles = BTreeSet::new();
    for (name, properties) in resources("AWS::Lambda::Function") {
        assert!(
            refers_to(&properties["Role"], &format!("{name}Role")),
            "{name}"
        );
        roles.insert(format!("{name}Role"));
    }
    for (name, properties) in resources("AWS::StepFunctions::StateMachine") {
        assert!(
            refers_to(&properties["RoleArn"], &format!("{name}Role")),
            "{name}"
        );
        roles.insert(format!("{name}Role"));
    }
    roles.insert("ScheduleRole".to_owned());
    let found: BTreeSet<String> = resources("AWS::IAM::Role")
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .collect();
    assert_eq!(
        found, roles,
        "a role that the translator made up, or one that nobody uses"
    );
}

#[test]
fn no_role_uses_a_managed_policy() {
    for (role, properties) in resources("AWS::IAM::Role") {
        assert!(properties.get("ManagedPolicyArns").is_none(), "{role}");
    }
    assert!(resources("AWS::IAM::ManagedPolicy").is_empty());
}

#[test]
fn no_allowed_action_has_a_wildcard() {
    for (role, statement) in allowed() {
        assert!(statement.get("NotAction").is_none(), "{role}");
        for action in actions(statement) {
            assert!(!action.contains('*'), "{role} may {action}");
        }
    }
}

#[test]
fn only_log_delivery_and_the_network_know_no_resource() {
    let mut stars: Vec<(&str, &str)> = Vec::new();
    for (role, statement) in allowed() {
        assert!(statement.get("NotResource").is_none(), "{role}");
        if listed(&statement["Resource"]).contains(&&json!("*")) {
            stars.push((role, statement["Sid"].as_str().unwrap()));
        }
    }
    stars.sort_unstable();
    let expected = [
        ("BackupMachineRole", "DeliverLogs"),
        ("BranchesMachineRole", "DeliverLogs"),
        ("DrillMachineRole", "DeliverLogs"),
        ("DrillNetworkPolicy", "AttachNetwork"),
        ("DumpNetworkPolicy", "AttachNetwork"),
        ("RecoverMachineRole", "DeliverLogs"),
        ("RecoverNetworkPolicy", "AttachNetwork"),
        ("RestoreMachineRole", "DeliverLogs"),
        ("RestoreNetworkPolicy", "AttachNetwork"),
        ("WatchMachineRole", "DeliverLogs"),
    ];
    assert_eq!(stars, expected);
    for (policy, _) in resources("AWS::IAM::Policy") {
        let condition = &template()["Resources"][policy]["Condition"];
        assert_eq!(condition, "InNetwork", "{policy}");
    }
}

#[test]
fn the_vaults_key_serves_dump_only_through_the_vault() {
    for (role, statement) in allowed() {
        let uses_vault_key = listed(&statement["Resource"])
            .into_iter()
            .any(|it| refers_to(it, "VaultKey"));
        if uses_vault_key {
            let equal = &statement["Condition"]["StringEquals"];
            assert!(
                equal["kms:ViaService"]["Fn::Sub"]
                    .as_str()
                    .unwrap()
                    .starts_with("s3."),
                "{role}"
            );
            assert!(
                refers_to(&equal["kms:EncryptionContext:aws:s3:arn"], "VaultBucket"),
                "{role}"
            );
        }
    }
}

#[test]
fn no_role_deletes_or_unlocks() {
    for (role, statement) in allowed() {
        for action in actions(statement) {
            let harmless = !action.contains("Delete")
                || action == "logs:DeleteLogDelivery"
                || (action == "secretsmanager:DeleteSecret"
                    && role == "SnapshotBranchFunctionRole")
                || action == "ec2:DeleteNetworkInterface";
            assert!(
                harmless && !action.contains("Bypass"),
                "{role} may {action}"
            );
            if action == "s3:PutObjectRetention" {
                assert_eq!(role, "VerifyFunctionRole");
            }
        }
    }
}

#[test]
fn the_identity_is_for_those_who_read_backups() {
    let mut readers = BTreeSet::new();
    for (role, statement) in allowed() {
        let reads = actions(statement).contains(&"secretsmanager:GetSecretValue");
        let resource = statement["Resource"].to_string().to_lowercase();
        if reads && resource.contains("identity") {
            readers.insert(role);
        }
    }
    let expected = [
        "DrillFunctionRole",
        "RestoreFunctionRole",
        "VerifyFunctionRole",
    ];
    assert_eq!(readers, expected.into());
}

#[test]
fn machines_invoke_exactly_the_functions_they_use() {
    for (role, machine) in [
        ("BackupMachineRole", "BackupMachine"),
        ("BranchesMachineRole", "BranchesMachine"),
        ("DrillMachineRole", "DrillMachine"),
        ("RecoverMachineRole", "RecoverMachine"),
        ("RestoreMachineRole", "RestoreMachine"),
        ("WatchMachineRole", "WatchMachine"),
    ] {
        let (_, invoke) = allowed()
            .into_iter()
            .find(|(name, statement)| {
                *name == role && actions(statement) == ["lambda:InvokeFunction"]
            })
            .unwrap();
        let substituted = properties(machine)["DefinitionSubstitutions"]
            .as_object()
            .unwrap();
        let used: BTreeSet<String> = substituted.values().map(Value::to_string).collect();
        let may: BTreeSet<String> = listed(&invoke["Resource"])
            .into_iter()
            .map(Value::to_string)
            .collect();
        assert_eq!(used, may, "{machine}");
    }
}

/// What a machine may invoke beyond its own functions has a name of its own.
#[test]
fn only_the_recover_machine_invokes_functions_of_others_and_only_hooks() {
    let mut others = Vec::new();
    for (role, statement) in allowed() {
        if actions(statement) == ["lambda:InvokeFunction"] {
            let text = listed(&statement["Resource"]).into_iter();
            let foreign = text.filter_map(|it| it["Fn::Sub"].as_str());
            others.extend(foreign.map(|it| (role, it.to_owned())));
        }
    }
    assert_eq!(others.len(), 1, "{others:?}");
    assert_eq!(others[0].0, "RecoverMachineRole");
    assert!(
        others[0].1.ends_with(":function:lifeboat-hook-*"),
        "{others:?}"
    );
}

/// The vault's statements by their name.
fn vault_policy() -> BTreeMap<&'static str, &'static Value> {
    let statements = properties("VaultBucketPolicy")["PolicyDocument"]["Statement"]
        .as_array()
        .unwrap();
    statements
        .iter()
        .map(|it| (it["Sid"].as_str().unwrap(), it))
        .collect()
}

#[test]
fn the_vaults_policy_only_denies() {
    for (name, statement) in vault_policy() {
        assert_eq!(
            (&statement["Effect"], &statement["Principal"]),
            (&json!("Deny"), &json!("*")),
            "{name}"
        );
    }
}

#[test]
fn the_vault_denies_overwriting_deleting_and_other_writers_to_everybody() {
    let policy = vault_policy();
    let names: Vec<&str> = policy.keys().copied().collect();
    let expected = [
        "NoCustomerProvidedKeys",
        "NoLockBeyondTheLimit",
        "NobodyBypassesOrHoldsLocks",
        "NobodyDeletes",
        "NobodyWritesElsewhere",
        "OnlyDrillRestoreAndBranchesWriteEvidence",
        "OnlyDumpWritesBackups",
        "OnlyIfNoneMatch",
        "OnlyOverTls",
        "OnlyVerifyAndDrillWriteVerdicts",
        "OnlyVerifyExtendsLocks",
    ];
    assert_eq!(names, expected);
    let once = json!({"Null": {"s3:if-none-match": "true"}, "Bool": {"s3:ObjectCreationOperation": "true"}});
    assert_eq!(policy["OnlyIfNoneMatch"]["Condition"], once);
    assert!(policy["NobodyDeletes"].get("Condition").is_none());
    assert_eq!(
        actions(policy["NobodyDeletes"]),
        ["s3:DeleteObject", "s3:DeleteObjectVersion"]
    );
    for (statement, writers) in [
        ("OnlyDumpWritesBackups", vec!["DumpFunctionRole"]),
        (
            "OnlyDrillRestoreAndBranchesWriteEvidence",
            vec![
                "DrillFunctionRole",
                "RecoverFunctionRole",
                "RestoreFunctionRole",
                "SnapshotBranchFunctionRole",
            ],
        ),
        (
            "OnlyVerifyAndDrillWriteVerdicts",
            vec!["DrillFunctionRole", "VerifyFunctionRole"],
        ),
    ] {
        let admitted = listed(&policy[statement]["Condition"]["ArnNotEquals"]["aws:PrincipalArn"]);
        assert_eq!(admitted.len(), writers.len(), "{statement}");
        for (admitted, writer) in admitted.into_iter().zip(writers) {
            assert!(refers_to(admitted, writer), "{statement}");
        }
    }
}

#[test]
fn what_admits_eventbridge_has_no_condition_since_it_would_never_match() {
    let topic = &properties("PageTopicPolicy")["PolicyDocument"]["Statement"];
    let key = &properties("TopicKey")["KeyPolicy"]["Statement"];
    for statements in [topic, key] {
        let of = |service: &str| {
            listed(statements)
                .into_iter()
                .find(|it| it["Principal"]["Service"] == service)
                .unwrap()
        };
        assert!(of("events.amazonaws.com").get("Condition").is_none());
        assert!(
            of("cloudwatch.amazonaws.com")["Condition"]["StringEquals"]
                .get("aws:SourceAccount")
                .is_some()
        );
    }
}

#[test]
fn topics_are_encrypted_with_a_key_of_their_own() {
    for (topic, properties) in resources("AWS::SNS::Topic") {
        assert!(
            refers_to(&properties["KmsMasterKeyId"], "TopicKey"),
            "{topic}"
        );
    }
}
