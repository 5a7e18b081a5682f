//! SAM to plain CloudFormation, by AWS's own translator.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::STACK;
use crate::workspace;

#[derive(Debug, thiserror::Error)]
pub enum TranslateError {
    #[error("cannot run the template translator in {folder}; run `make tools`")]
    Start {
        folder: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the template was refused:\n{0}")]
    Refused(String),
    #[error("the template has no resource {0} to override")]
    NoSuchResource(String),
}

/// A property that a test sets to something else than the template says: a timeout that passes in seconds.
#[derive(Clone, Debug)]
pub struct Override {
    pub logical_id: String,
    pub property: String,
    pub value: Value,
}

/// An empty zip file: what stands for code in the control plane, which never runs any.
const EMPTY_ZIP: &str = "UEsFBgAAAAAAAAAAAAAAAAAAAAAAAA==";

pub(super) async fn translate(
    template: &Path,
    parameters: &BTreeMap<String, String>,
    overrides: &[Override],
) -> Result<Value, TranslateError> {
    let venv = workspace::venv();
    let failed = |source| TranslateError::Start {
        folder: venv.display().to_string(),
        source,
    };
    let mut child = tokio::process::Command::new(venv.join("bin/python"))
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("translate.py"))
        .arg(template)
        .env("AWS_DEFAULT_REGION", crate::aws::REGION)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin
            .write_all(json!(parameters).to_string().as_bytes())
            .await
            .map_err(failed)?;
    }
    let output = child.wait_with_output().await.map_err(failed)?;
    let refused = || TranslateError::Refused(String::from_utf8_lossy(&output.stderr).into_owned());
    if !output.status.success() {
        return Err(refused());
    }
    let mut document: Value = serde_json::from_slice(&output.stdout).map_err(|_| refused())?;
    for change in overrides {
        let resource = &mut document["Resources"][&change.logical_id];
        if resource.is_null() {
            return Err(TranslateError::NoSuchResource(change.logical_id.clone()));
        }
        resource["Properties"][&change.property] = change.value.clone();
    }
    name_everything(&mut document);
    Ok(document)
}

/// Gives what the template leaves unnamed a name that is the same in every run: a second backup into the same
/// home must find the first one's bucket.
fn name_everything(document: &mut Value) {
    for (logical_id, resource) in document["Resources"].as_object_mut().into_iter().flatten() {
        let property = match resource["Type"].as_str() {
            Some("AWS::S3::Bucket") => "BucketName",
            Some("AWS::Lambda::Function") => "FunctionName",
            Some("AWS::IAM::Role") => "RoleName",
            Some("AWS::SNS::Topic") => "TopicName",
            Some("AWS::SQS::Queue") => "QueueName",
            Some("AWS::StepFunctions::StateMachine") => "StateMachineName",
            _ => continue,
        };
        if resource["Properties"].is_null() {
            resource["Properties"] = json!({});
        }
        if resource["Properties"][property].is_null() {
            let name = format!("{STACK}-{logical_id}");
            let name = if property == "BucketName" {
                name.to_lowercase()
            } else {
                name
            };
            resource["Properties"][property] = name.into();
        }
    }
}

/// The template without what needs uploaded code.
pub(super) fn for_control_plane(mut document: Value) -> Value {
    for (_, resource) in document["Resources"].as_object_mut().into_iter().flatten() {
        match resource["Type"].as_str() {
            Some("AWS::Lambda::Function") => {
                resource["Properties"]["Code"] = json!({"ZipFile": "the real program runs"})
            }
            Some("AWS::Lambda::LayerVersion") => {
                resource["Properties"]["Content"] = json!({"ZipFile": EMPTY_ZIP})
            }
            _ => {}
        }
    }
    document
}

/// The definition of a state machine that waits for so long before each further try.
pub(super) fn with_retries_after(definition: &str, seconds: u32) -> String {
    match serde_json::from_str(definition) {
        Ok(mut parsed) => {
            set_retries(&mut parsed, seconds);
            parsed.to_string()
        }
        // Whoever creates the machine says what is wrong with it.
        Err(_) => definition.to_owned(),
    }
}

fn set_retries(part: &mut Value, seconds: u32) {
    match part {
        Value::Object(fields) => {
            if fields.contains_key("IntervalSeconds") {
                fields.insert("IntervalSeconds".to_owned(), seconds.into());
                fields.insert("BackoffRate".to_owned(), 1.into());
            }
            fields.values_mut().for_each(|it| set_retries(it, seconds));
        }
        Value::Array(items) => items.iter_mut().for_each(|it| set_retries(it, seconds)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_retry_of_a_machine_comes_after_the_same_time() {
        let retry = |seconds: u32, rate: u32| json!([{"ErrorEquals": ["Transient"], "IntervalSeconds": seconds, "MaxAttempts": 4, "BackoffRate": rate}]);
        let machine = |seconds, rate| {
            let inner = json!({"States": {"B": {"Type": "Task", "Retry": retry(seconds, rate)}}});
            let map = json!({"Type": "Map", "ItemProcessor": inner});
            json!({"States": {"A": {"Type": "Task", "Retry": retry(seconds, rate)}, "M": map}})
        };
        let changed = with_retries_after(&machine(10, 2).to_string(), 1);
        let changed: Value = serde_json::from_str(&changed).unwrap();
        assert_eq!(changed, machine(1, 1));
    }

    #[test]
    fn what_the_template_names_keeps_its_name() {
        let mut document = json!({"Resources": {
            "Named": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "mine"}},
            "Unnamed": {"Type": "AWS::S3::Bucket"},
            "ProbeFunction": {"Type": "AWS::Lambda::Function", "Properties": {}},
        }});
        name_everything(&mut document);
        assert_eq!(
            document["Resources"]["Named"]["Properties"]["BucketName"],
            "mine"
        );
        assert_eq!(
            document["Resources"]["Unnamed"]["Properties"]["BucketName"],
            "lifeboat-unnamed"
        );
        assert_eq!(
            document["Resources"]["ProbeFunction"]["Properties"]["FunctionName"],
            "lifeboat-ProbeFunction"
        );
    }
}
