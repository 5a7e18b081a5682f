//! The deployed stack, judged from the template as the deployment translates it.

mod alarms;
mod functions;
mod machines;
mod permissions;
mod recover;
mod survival;
mod teardown;
mod vpc;

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;
use shared::policy;

fn project(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path)
}

fn text_of(path: &str) -> String {
    fs::read_to_string(project(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// `infra/template.yaml` as plain CloudFormation.
fn template() -> &'static Value {
    static TRANSLATED: OnceLock<Value> = OnceLock::new();
    TRANSLATED.get_or_init(|| {
        let mut translate = Command::new(project(".tools/venv/bin/python"))
            .args([
                project("tests/localcloud/translate.py"),
                project("infra/template.yaml"),
            ])
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("`make setup` provides the translator");
        translate.stdin.take().unwrap().write_all(b"{}").unwrap();
        let translated = translate.wait_with_output().unwrap();
        assert!(
            translated.status.success(),
            "the template does not translate"
        );
        serde_json::from_slice(&translated.stdout).unwrap()
    })
}

/// Logical id and properties of every resource of that type.
fn resources(kind: &str) -> Vec<(&'static str, &'static Value)> {
    let all = template()["Resources"].as_object().unwrap();
    all.iter()
        .filter(|(_, resource)| resource["Type"] == kind)
        .map(|(name, resource)| (name.as_str(), &resource["Properties"]))
        .collect()
}

fn properties(name: &str) -> &'static Value {
    let resource = &template()["Resources"][name];
    assert!(resource.is_object(), "the template has no {name}");
    &resource["Properties"]
}

/// `{"Ref": name}` or `{"Fn::GetAtt": [name, …]}`.
fn refers_to(value: &Value, name: &str) -> bool {
    value["Ref"] == name || value["Fn::GetAtt"][0] == name
}

/// One value or a list of them: policies allow both.
fn listed(value: &Value) -> Vec<&Value> {
    match value.as_array() {
        Some(list) => list.iter().collect(),
        None => vec![value],
    }
}

#[test]
fn only_build_and_validate_name_the_source_template() {
    let settings: toml::Table = text_of("samconfig.toml").parse().unwrap();
    let commands = settings["default"].as_table().unwrap();
    for (command, setting) in commands {
        let names_it = setting["parameters"].get("template_file").is_some();
        let may_name_it = command == "build" || command == "validate";
        assert_eq!(
            names_it, may_name_it,
            "{command} would package source folders"
        );
    }
    assert!(commands["global"]["parameters"].get("stack_name").is_some());
}

#[test]
fn functions_are_told_where_things_are_and_nothing_else() {
    let expected = [
        ("DumpFunction", vec!["VAULT_BUCKET", "WORK_BUCKET"]),
        (
            "VerifyFunction",
            vec![
                "NIGHTLY_SCHEDULE",
                "TIME_ZONE",
                "VAULT_BUCKET",
                "WORK_BUCKET",
            ],
        ),
        (
            "DrillFunction",
            vec!["TIME_ZONE", "VAULT_BUCKET", "WORK_BUCKET"],
        ),
        (
            "SnapshotBranchFunction",
            vec!["NEON_API_URL", "TIME_ZONE", "VAULT_BUCKET", "WORK_BUCKET"],
        ),
        (
            "RecoverFunction",
            vec![
                "NEON_API_URL",
                "PAGE_TOPIC_ARN",
                "PLAN_LIFETIME_MINUTES",
                "TIME_ZONE",
                "VAULT_BUCKET",
                "WORK_BUCKET",
            ],
        ),
        (
            "RestoreFunction",
            vec![
                "PAGE_TOPIC_ARN",
                "PLAN_LIFETIME_MINUTES",
                "VAULT_BUCKET",
                "WORK_BUCKET",
            ],
        ),
        (
            "AlertFunction",
            vec![
                "NOTICE_TOPIC_ARN",
                "PAGE_TOPIC_ARN",
                "VAULT_BUCKET",
                "WORK_BUCKET",
            ],
        ),
    ];
    assert_eq!(resources("AWS::Lambda::Function").len(), expected.len());
    for (function, mut names) in expected {
        let variables = properties(function)["Environment"]["Variables"]
            .as_object()
            .unwrap();
        let mut found: Vec<&str> = variables.keys().map(String::as_str).collect();
        found.sort_unstable();
        names.sort_unstable();
        assert_eq!(found, names, "{function}");
    }
}

#[test]
fn what_moves_data_has_two_processors_and_the_longest_time_there_is() {
    for function in [
        "DumpFunction",
        "VerifyFunction",
        "DrillFunction",
        "RestoreFunction",
    ] {
        let properties = properties(function);
        assert_eq!(
            (&properties["MemorySize"], &properties["Timeout"]),
            (&3538.into(), &900.into()),
            "{function}"
        );
    }
}

#[test]
fn a_broken_configuration_cannot_silence_alert() {
    assert!(properties("AlertFunction").get("Layers").is_none());
}

#[test]
fn the_shipped_configuration_is_refused_until_it_names_two_recipients() {
    let shipped = text_of("infra/config/lifeboat.toml");
    if shipped.contains("\nrecipients = []\n") {
        let error = shared::policy::Policy::parse(&shipped)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("write two or more age public keys"),
            "{error}"
        );
    } else {
        shared::policy::Policy::parse(&shipped).unwrap();
    }
}

#[test]
fn the_commented_example_in_the_configuration_is_valid() {
    let shipped = text_of("infra/config/lifeboat.toml");
    let Some((_, example)) = shipped.split_once("# [[database]]\n") else {
        return; // Whoever runs Lifeboat has replaced it by databases of their own.
    };
    // What is no setting stays a comment.
    let is_setting = |line: &&str| line.starts_with('[') || line.contains(" = ");
    let example: String = example
        .lines()
        .filter_map(|line| line.strip_prefix("# ").filter(is_setting))
        .map(|line| line.to_owned() + "\n")
        .collect();
    let keys = "recipients = ['age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p', \
                'age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj']";
    let policy =
        shared::policy::Policy::parse(&format!("{keys}\n[[database]]\n{example}")).unwrap();
    assert_eq!(policy.databases.len(), 1);
    assert_eq!(policy.databases[0].connections, Some(4));
    // What is written as the default is the default.
    let neon = policy.databases[0].neon.clone().unwrap();
    let hooks = (&neon.freeze_function, &neon.unfreeze_function);
    assert!(matches!(hooks, (Some(_), Some(_))));
    let neon = policy::NeonPolicy {
        freeze_function: None,
        unfreeze_function: None,
        ..neon
    };
    let required = "project = 'autumn-disk-484331'\nrole = 'neondb_owner'\ndatabase = 'neondb'";
    assert_eq!(neon, toml::from_str(required).unwrap());
    let drill = policy.databases[0].drill.as_ref().unwrap();
    let checks = (
        drill.tables.len(),
        drill.assertions.len(),
        drill.requests.len(),
    );
    assert_eq!(checks, (1, 1, 1));
    let only_target = policy::DrillPolicy {
        tables: Vec::new(),
        assertions: Vec::new(),
        requests: Vec::new(),
        ..drill.clone()
    };
    let defaults: policy::DrillPolicy = toml::from_str("target = 'standby'").unwrap();
    assert_eq!(only_target, defaults);
}
