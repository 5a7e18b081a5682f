//! The roles of the template: their policies, and credentials from the control plane for each.

use std::collections::BTreeMap;

use serde_json::Value;

use super::DeployError;
use crate::aws::{ACCOUNT, Aws, AwsError, Credentials, element};
use crate::gateway::Role;
use crate::template::Template;

const IAM: &str = "2010-05-08";
const STS: &str = "2011-06-15";

/// Whoever deploys: a user who may do everything.
pub(crate) async fn create_admin(aws: &Aws) -> Result<Credentials, AwsError> {
    const NAME: &str = "operator";
    let everything =
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;
    aws.query("iam", IAM, &[("Action", "CreateUser"), ("UserName", NAME)])
        .await?;
    let policy = [
        ("Action", "PutUserPolicy"),
        ("UserName", NAME),
        ("PolicyName", "all"),
        ("PolicyDocument", everything),
    ];
    aws.query("iam", IAM, &policy).await?;
    let created = aws
        .query(
            "iam",
            IAM,
            &[("Action", "CreateAccessKey"), ("UserName", NAME)],
        )
        .await?;
    credentials("iam", &created)
}

/// Credentials of every role, as the service that assumes it would get them.
pub(super) async fn assume_all(
    aws: &Aws,
    template: &Template,
) -> Result<BTreeMap<String, Role>, DeployError> {
    let mut roles = BTreeMap::new();
    let attached = template.of_type("AWS::IAM::Policy")?;
    for role in template.of_type("AWS::IAM::Role")? {
        let name = template.physical(&role.logical_id).unwrap_or_default();
        let arn = format!("arn:aws:iam::{ACCOUNT}:role/{name}");
        let inline = role.properties["Policies"].as_array().into_iter().flatten();
        let own = attached
            .iter()
            .map(|policy| &policy.properties)
            .filter(|properties| {
                properties["Roles"]
                    .as_array()
                    .is_some_and(|roles| roles.iter().any(|role| role == name))
            });
        let mut policies: Vec<Value> = Vec::new();
        for policy in inline.chain(own) {
            // As CloudFormation leaves them, the control plane's own check stumbles over them.
            let (policy_name, document) = (
                policy["PolicyName"].as_str().unwrap_or_default(),
                &policy["PolicyDocument"],
            );
            let mut document = document.clone();
            // The translator leaves the version out; the one meant is the only one that is used.
            document["Version"] = "2012-10-17".into();
            let text = document.to_string();
            let put = [
                ("Action", "PutRolePolicy"),
                ("RoleName", name),
                ("PolicyName", policy_name),
                ("PolicyDocument", &text),
            ];
            aws.query("iam", IAM, &put).await?;
            policies.push(document);
        }
        let request = [
            ("Action", "AssumeRole"),
            ("RoleArn", &arn),
            ("RoleSessionName", &role.logical_id),
        ];
        let assumed = aws.query("sts", STS, &request).await?;
        let credentials = credentials("sts", &assumed)?;
        roles.insert(
            role.logical_id,
            Role {
                arn,
                policies,
                credentials,
            },
        );
    }
    Ok(roles)
}

fn credentials(service: &str, xml: &str) -> Result<Credentials, AwsError> {
    match (element(xml, "AccessKeyId"), element(xml, "SecretAccessKey")) {
        (Some(access_key), Some(secret_key)) => Ok(Credentials {
            access_key,
            secret_key,
            session_token: element(xml, "SessionToken"),
        }),
        _ => Err(AwsError::Unexpected {
            service: service.into(),
            action: "credentials".into(),
            body: String::new(),
        }),
    }
}
