//! Functions in a network of the user's own, and what a call of one is answered that slept.

use serde_json::Value;

use super::machines::{errors_of, tasks};
use super::properties;

/// A function in a VPC that nobody called for weeks has lost its network interface: calls are
/// refused for about a minute, until it has another one.
pub(super) const ASLEEP: [&str; 5] = [
    "Lambda.ResourceNotReadyException",
    "Lambda.ENINotReadyException",
    "Lambda.EC2ThrottledException",
    "Lambda.EC2UnexpectedException",
    "Lambda.SubnetIPAddressLimitReachedException",
];

/// The logical id of the function that a task calls. None: a hook, which is somebody else's.
pub(super) fn called_by(task: &Value) -> Option<&'static str> {
    let parameters = &task["Parameters"];
    if parameters["FunctionName.$"].is_string() {
        return None;
    }
    Some(match parameters["FunctionName"].as_str().unwrap() {
        "${DumpArn}" => "DumpFunction",
        "${VerifyArn}" => "VerifyFunction",
        "${DrillArn}" => "DrillFunction",
        "${RestoreArn}" => "RestoreFunction",
        "${SnapshotBranchArn}" => "SnapshotBranchFunction",
        "${RecoverArn}" => "RecoverFunction",
        "${AlertArn}" => "AlertFunction",
        other => panic!("something calls {other}"),
    })
}

/// What else a task tries again because its function may be in a VPC, as a hook may be, too.
pub(super) fn asleep_in(task: &Value) -> Vec<String> {
    let has_network = |it| properties(it).get("VpcConfig").is_some();
    if called_by(task).is_none_or(has_network) {
        return ASLEEP.map(str::to_owned).into();
    }
    Vec::new()
}

/// Recovery, restore and the hooks are called in an incident, after months of nothing.
#[test]
fn a_function_that_slept_is_asked_again_for_longer_than_it_takes_to_wake() {
    let tasks = tasks();
    let waking = tasks.iter().filter(|(_, it)| !asleep_in(it).is_empty());
    let mut functions = Vec::new();
    for (name, task) in waking {
        let rules = task["Retry"].as_array().unwrap().iter();
        let rules: Vec<&Value> = rules
            .filter(|it| {
                let names = errors_of(&Value::Array(vec![(*it).clone()]));
                ASLEEP.iter().any(|asleep| names.contains(*asleep))
            })
            .collect();
        // One of its own: its tries are not used up by other trouble, and none comes early.
        assert_eq!(rules.len(), 1, "{name}");
        let rule = rules[0];
        assert_eq!(rule["ErrorEquals"], serde_json::json!(ASLEEP), "{name}");
        assert!(rule.get("JitterStrategy").is_none(), "{name}");
        let number = |field: &str| rule[field].as_u64().unwrap();
        assert!(
            number("IntervalSeconds") * number("MaxAttempts") >= 120,
            "{name}"
        );
        assert_eq!(number("BackoffRate"), 1, "{name}");
        functions.push(called_by(task));
    }
    for function in [
        Some("DumpFunction"),
        Some("DrillFunction"),
        Some("RestoreFunction"),
        Some("RecoverFunction"),
        None,
    ] {
        assert!(functions.contains(&function), "{function:?}");
    }
}
