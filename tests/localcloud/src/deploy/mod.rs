//! From the template to a running stack: translated, created in the control plane, completed where that falls short.

pub(crate) mod roles;
mod translate;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};

use crate::aws::{Aws, AwsError, Call, Credentials, element, elements};
use crate::gateway::Role;
use crate::lambda_host::{FunctionSpec, request_id};
use crate::rules::Rule;
use crate::template::{Template, TemplateError, scalar};
use crate::workspace;
pub use translate::{Override, TranslateError};

/// The stack's name; everything in it is named after it.
const STACK: &str = "lifeboat";

#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    #[error(transparent)]
    Translate(#[from] TranslateError),
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error(transparent)]
    Aws(#[from] AwsError),
    /// The control plane did not create the stack.
    #[error("the stack ended as {status}: {reason}")]
    Stack { status: String, reason: String },
    /// The function has not been built.
    #[error(
        "no program of {function} in {folder}: build it first (`cargo build --profile local -p {binary}`)"
    )]
    NoProgram {
        function: String,
        binary: String,
        folder: PathBuf,
    },
}

/// What is to be deployed.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) template: &'a Path,
    pub(crate) parameters: &'a BTreeMap<String, String>,
    pub(crate) overrides: &'a [Override],
    pub(crate) retry_seconds: Option<u32>,
    pub(crate) artifacts: &'a Path,
    /// Versions and locks of the buckets are set only where the buckets are the control plane's.
    pub(crate) buckets_are_real: bool,
}

/// What came of it: everything that the rest of the cloud takes from the template.
#[derive(Debug)]
pub(crate) struct Stack {
    pub(crate) template: Template,
    pub(crate) functions: Vec<FunctionSpec>,
    pub(crate) roles: BTreeMap<String, Role>,
    pub(crate) machine_roles: BTreeMap<String, String>,
    pub(crate) bucket_policies: BTreeMap<String, Vec<Value>>,
    pub(crate) secrets: Vec<String>,
    pub(crate) buckets: Vec<String>,
    pub(crate) topics: Vec<String>,
    pub(crate) rules: Vec<Rule>,
}

pub(crate) async fn deploy(aws: &Aws, plan: &Plan<'_>) -> Result<Stack, DeployError> {
    let document = translate::translate(plan.template, plan.parameters, plan.overrides).await?;
    let mut template = Template::new(document.clone(), plan.parameters, STACK)?;
    create_stack(
        aws,
        translate::for_control_plane(document),
        plan.parameters,
        &mut template,
    )
    .await?;
    create_secrets(aws, &mut template).await?;
    let roles = roles::assume_all(aws, &template).await?;
    let machine_roles = create_machines(aws, &template, &roles, plan.retry_seconds).await?;
    let buckets = template.of_type("AWS::S3::Bucket")?;
    if plan.buckets_are_real {
        for bucket in &buckets {
            complete_bucket(
                aws,
                template.physical(&bucket.logical_id).unwrap_or_default(),
                &bucket.properties,
            )
            .await?;
        }
    }
    let mut bucket_policies: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for policy in template.of_type("AWS::S3::BucketPolicy")? {
        let bucket = policy.properties["Bucket"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        bucket_policies
            .entry(bucket)
            .or_default()
            .push(policy.properties["PolicyDocument"].clone());
    }
    let physical = |resources: Vec<crate::template::Resource>| {
        resources
            .iter()
            .filter_map(|resource| template.physical(&resource.logical_id).map(str::to_owned))
            .collect()
    };
    let topics = physical(template.of_type("AWS::SNS::Topic")?);
    let secrets = physical(template.of_type("AWS::SecretsManager::Secret")?);
    Ok(Stack {
        functions: functions(&template, &roles, plan.artifacts)?,
        rules: rules(&template)?,
        buckets: physical(buckets),
        topics,
        bucket_policies,
        secrets,
        machine_roles,
        roles,
        template,
    })
}

async fn create_stack(
    aws: &Aws,
    document: Value,
    parameters: &BTreeMap<String, String>,
    template: &mut Template,
) -> Result<(), DeployError> {
    const VERSION: &str = "2010-05-15";
    let body = document.to_string();
    let mut form = vec![
        ("Action".to_owned(), "CreateStack".to_owned()),
        ("StackName".to_owned(), STACK.to_owned()),
        ("TemplateBody".to_owned(), body),
        (
            "Capabilities.member.1".to_owned(),
            "CAPABILITY_NAMED_IAM".to_owned(),
        ),
    ];
    for (index, (name, value)) in parameters.iter().enumerate() {
        let index = index + 1;
        form.push((
            format!("Parameters.member.{index}.ParameterKey"),
            name.clone(),
        ));
        form.push((
            format!("Parameters.member.{index}.ParameterValue"),
            value.clone(),
        ));
    }
    let form: Vec<(&str, &str)> = form
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    aws.query("cloudformation", VERSION, &form).await?;

    let stack = [("Action", "DescribeStacks"), ("StackName", STACK)];
    let described = aws.query("cloudformation", VERSION, &stack).await?;
    let status = element(&described, "StackStatus").unwrap_or_default();
    if status != "CREATE_COMPLETE" {
        let reason = element(&described, "StackStatusReason").unwrap_or_default();
        return Err(DeployError::Stack { status, reason });
    }
    let resources = [("Action", "DescribeStackResources"), ("StackName", STACK)];
    let described = aws.query("cloudformation", VERSION, &resources).await?;
    // What the control plane skipped has no id; its logical id stands in, should anything refer to it.
    let skipped: Vec<String> = template
        .resources()
        .map(|(logical_id, _)| logical_id.clone())
        .collect();
    for logical_id in skipped {
        template.set_physical(&logical_id, &logical_id);
    }
    for member in elements(&described, "member") {
        if let (Some(logical), Some(physical)) = (
            element(member, "LogicalResourceId"),
            element(member, "PhysicalResourceId"),
        ) && physical != "None"
        {
            template.set_physical(&logical, &physical);
        }
    }
    Ok(())
}

/// Creates the secrets, empty, which the control plane's CloudFormation leaves out.
async fn create_secrets(aws: &Aws, template: &mut Template) -> Result<(), DeployError> {
    for secret in template.of_type("AWS::SecretsManager::Secret")? {
        let name = secret.properties["Name"]
            .as_str()
            .unwrap_or(&secret.logical_id);
        let request = json!({"Name": name, "ClientRequestToken": request_id()});
        let created = aws
            .json("secretsmanager", "secretsmanager.CreateSecret", &request)
            .await?;
        let arn = created["ARN"].as_str().unwrap_or_default();
        template.set_physical(&secret.logical_id, arn);
    }
    Ok(())
}

/// Creates the machines in the engine that runs them; those from CloudFormation it does not see.
async fn create_machines(
    aws: &Aws,
    template: &Template,
    roles: &BTreeMap<String, Role>,
    retry_seconds: Option<u32>,
) -> Result<BTreeMap<String, String>, DeployError> {
    let mut machine_roles = BTreeMap::new();
    for machine in template.of_type("AWS::StepFunctions::StateMachine")? {
        let properties = &machine.properties;
        let arn = template
            .physical(&machine.logical_id)
            .unwrap_or_default()
            .to_owned();
        let mut definition = properties["DefinitionString"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        for (name, value) in properties["DefinitionSubstitutions"]
            .as_object()
            .into_iter()
            .flatten()
        {
            definition =
                definition.replace(&format!("${{{name}}}"), &scalar(value).unwrap_or_default());
        }
        if let Some(seconds) = retry_seconds {
            definition = translate::with_retries_after(&definition, seconds);
        }
        let role_arn = properties["RoleArn"].as_str().unwrap_or_default();
        let request = json!({
            "name": arn.rsplit(':').next(),
            "definition": definition,
            "roleArn": role_arn,
            "type": properties["StateMachineType"].as_str().unwrap_or("STANDARD"),
        });
        aws.json("states", "AWSStepFunctions.CreateStateMachine", &request)
            .await?;
        if let Some((role, _)) = roles.iter().find(|(_, role)| role.arn == role_arn) {
            machine_roles.insert(arn, role.clone());
        }
    }
    Ok(machine_roles)
}

/// Versioning and Object Lock, which the control plane's CloudFormation leaves out.
async fn complete_bucket(aws: &Aws, bucket: &str, properties: &Value) -> Result<(), DeployError> {
    let put = async |what: &str, xml: String| {
        let path = format!("/{bucket}?{what}");
        let headers = vec![("content-type", "application/xml")];
        let call = Call {
            service: "s3",
            action: what,
            method: Method::PUT,
            path_and_query: &path,
            headers,
            body: Bytes::from(xml),
        };
        aws.checked(call).await.map(drop)
    };
    if let Some(status) = properties["VersioningConfiguration"]["Status"].as_str() {
        put(
            "versioning",
            format!("<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>"),
        )
        .await?;
    }
    let rule = &properties["ObjectLockConfiguration"]["Rule"]["DefaultRetention"];
    if let (Some(mode), Some(days)) = (rule["Mode"].as_str(), scalar(&rule["Days"])) {
        put(
            "object-lock",
            format!(
                "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>\
                 <Mode>{mode}</Mode><Days>{days}</Days></DefaultRetention></Rule></ObjectLockConfiguration>"
            ),
        )
        .await?;
    }
    Ok(())
}

fn functions(
    template: &Template,
    roles: &BTreeMap<String, Role>,
    artifacts: &Path,
) -> Result<Vec<FunctionSpec>, DeployError> {
    let mut functions = Vec::new();
    for function in template.of_type("AWS::Lambda::Function")? {
        let properties = &function.properties;
        let binary = properties["Code"]["S3Key"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let logical_id = function.logical_id;
        let name = template
            .physical(&logical_id)
            .unwrap_or_default()
            .to_owned();
        let program = workspace::program(artifacts, &binary, &logical_id).ok_or_else(|| {
            DeployError::NoProgram {
                function: logical_id.clone(),
                binary: binary.clone(),
                folder: artifacts.to_owned(),
            }
        })?;
        let variables = properties["Environment"]["Variables"]
            .as_object()
            .into_iter()
            .flatten();
        let number = |property: &str, default: u64| {
            scalar(&properties[property])
                .and_then(|number| number.parse().ok())
                .unwrap_or(default)
        };
        let role_arn = properties["Role"].as_str().unwrap_or_default();
        functions.push(FunctionSpec {
            arn: format!(
                "arn:aws:lambda:{}:{}:function:{name}",
                crate::aws::REGION,
                crate::aws::ACCOUNT
            ),
            binary,
            program,
            // Lambda's own defaults where the template says nothing.
            timeout: Duration::from_secs(number("Timeout", 3)),
            memory_mib: number("MemorySize", 128),
            environment: variables
                .filter_map(|(name, value)| Some((name.clone(), scalar(value)?)))
                .collect(),
            log_group: properties["LoggingConfig"]["LogGroup"]
                .as_str()
                .map_or_else(|| format!("/aws/lambda/{name}"), str::to_owned),
            reserved_concurrency: scalar(&properties["ReservedConcurrentExecutions"])
                .and_then(|limit| limit.parse().ok()),
            credentials: roles
                .values()
                .find(|role| role.arn == role_arn)
                .map_or_else(
                    || Credentials {
                        access_key: String::new(),
                        secret_key: String::new(),
                        session_token: None,
                    },
                    |role| role.credentials.clone(),
                ),
            logical_id,
            name,
        });
    }
    Ok(functions)
}

fn rules(template: &Template) -> Result<Vec<Rule>, DeployError> {
    let rules = template.of_type("AWS::Events::Rule")?.into_iter();
    let enabled = rules.filter(|rule| rule.properties["State"] != "DISABLED");
    Ok(enabled
        .map(|rule| Rule {
            name: template
                .physical(&rule.logical_id)
                .unwrap_or_default()
                .to_owned(),
            pattern: rule.properties["EventPattern"].clone(),
            targets: rule.properties["Targets"]
                .as_array()
                .cloned()
                .unwrap_or_default(),
        })
        .collect())
}
