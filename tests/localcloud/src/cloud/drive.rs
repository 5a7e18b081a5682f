//! Making the cloud do something: functions, machines, schedules, alarms, secrets, any other call.

use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};

use super::{Cloud, CloudError};
use crate::aws::{Call, Credentials};
use crate::executions::Execution;
use crate::inbox::Message;
use crate::lambda_host::Invoked;
use crate::layer::{Database, Target};

impl Cloud {
    /// Invokes a function by logical id, name or binary, through the gateway, and waits for its answer.
    pub async fn invoke(&self, function: &str, event: &Value) -> Result<Invoked, CloudError> {
        let spec = self
            .inner
            .host
            .spec(function)
            .ok_or_else(|| CloudError::Unknown(function.to_owned()))?;
        let path = format!("/2015-03-31/functions/{}/invocations", spec.name);
        let body = Bytes::from(event.to_string());
        self.on(|inner| async move {
            let call = Call {
                service: "lambda",
                action: "Invoke",
                method: Method::POST,
                path_and_query: &path,
                headers: Vec::new(),
                body,
            };
            let reply = inner.aws.checked(call).await?;
            let header = |name| {
                reply
                    .headers
                    .get(name)
                    .and_then(|value| value.to_str().ok())
            };
            Ok(Invoked {
                request_id: header("x-amzn-requestid").unwrap_or_default().to_owned(),
                failed: header("x-amz-function-error").is_some(),
                payload: reply.body.clone(),
            })
        })
        .await
    }

    /// Starts a state machine, named by logical id, and returns the execution's ARN.
    pub async fn start_execution(
        &self,
        machine: &str,
        input: &Value,
    ) -> Result<String, CloudError> {
        let (machine, input) = (machine.to_owned(), input.clone());
        self.on(|inner| async move { inner.start_execution(&machine, &input).await })
            .await
    }

    /// Waits for an execution's end, and for what its end sets off (rules, counts).
    pub async fn wait(&self, execution_arn: &str) -> Result<Execution, CloudError> {
        let arn = execution_arn.to_owned();
        self.on(|inner| async move {
            inner
                .executions
                .wait(&arn)
                .await
                .ok_or(CloudError::Unknown(arn))
        })
        .await
    }

    /// Starts a state machine and waits for its end.
    pub async fn run(&self, machine: &str, input: &Value) -> Result<Execution, CloudError> {
        let arn = self.start_execution(machine, input).await?;
        self.wait(&arn).await
    }

    /// Stops an execution, as an operator would.
    pub async fn stop_execution(&self, execution_arn: &str) -> Result<(), CloudError> {
        let request =
            json!({"executionArn": execution_arn, "error": "Stopped", "cause": "by hand"});
        self.on(|inner| async move {
            Ok(inner
                .aws
                .json("states", "AWSStepFunctions.StopExecution", &request)
                .await
                .map(drop)?)
        })
        .await
    }

    /// Everything published to the template's topics since the start, oldest first.
    pub async fn published_messages(&self) -> Result<Vec<Message>, CloudError> {
        self.on(|inner| async move { Ok(inner.inbox.all(&inner.aws).await?) })
            .await
    }

    /// Adds databases to the configuration, or replaces those of the same name, and puts their secrets.
    /// Functions that are warm keep the old configuration and are ended, as a deployment would.
    pub async fn configure(&self, databases: Vec<Database>) -> Result<(), CloudError> {
        self.on(|inner| async move { inner.configure(databases, Vec::new()).await })
            .await
    }

    /// The same for the servers that backups may be restored to.
    pub async fn configure_targets(&self, targets: Vec<Target>) -> Result<(), CloudError> {
        self.on(|inner| async move { inner.configure(Vec::new(), targets).await })
            .await
    }

    /// Puts a secret as it is, also one that no function can use.
    pub async fn put_secret(&self, name: &str, value: &str) -> Result<(), CloudError> {
        let (name, value) = (name.to_owned(), value.to_owned());
        self.on(|inner| async move { Ok(inner.put_secret(&name, &value).await?) })
            .await
    }

    /// An API call with the JSON protocol and somebody's keys.
    pub async fn api_as(
        &self,
        credentials: &Credentials,
        service: &str,
        target: &str,
        request: &Value,
    ) -> Result<Value, CloudError> {
        let credentials = credentials.clone();
        let (service, target, request) = (service.to_owned(), target.to_owned(), request.clone());
        self.on(|inner| async move {
            Ok(inner
                .aws
                .with(credentials)
                .json(&service, &target, &request)
                .await?)
        })
        .await
    }

    /// An API call with the JSON protocol, as whoever deployed.
    pub async fn api(
        &self,
        service: &str,
        target: &str,
        request: &Value,
    ) -> Result<Value, CloudError> {
        let (service, target, request) = (service.to_owned(), target.to_owned(), request.clone());
        self.on(|inner| async move { Ok(inner.aws.json(&service, &target, &request).await?) })
            .await
    }

    /// The schedules that fall due after `from` and not after `to`, in order of time.
    pub fn due(
        &self,
        from: jiff::Timestamp,
        to: jiff::Timestamp,
    ) -> Result<Vec<crate::schedules::Due>, CloudError> {
        Ok(crate::schedules::due(&self.inner.schedules()?, from, to))
    }

    /// Starts what the schedules would have started between two instants; the executions' ARNs.
    pub async fn fire_due(
        &self,
        from: jiff::Timestamp,
        to: jiff::Timestamp,
    ) -> Result<Vec<String>, CloudError> {
        let due = self.due(from, to)?;
        self.on(|inner| async move {
            let mut arns = Vec::new();
            for due in due {
                let input = serde_json::from_str(&due.input).unwrap_or(Value::String(due.input));
                arns.push(inner.start_execution(&due.target, &input).await?);
            }
            Ok(arns)
        })
        .await
    }

    /// Looks at every alarm as it stands at `now`; one that goes off publishes to its topics.
    pub async fn evaluate_alarms(
        &self,
        now: jiff::Timestamp,
    ) -> Result<Vec<crate::alarms::Evaluated>, CloudError> {
        self.on(|inner| async move { inner.evaluate_alarms(now).await })
            .await
    }
}
