//! Executions of state machines, followed to their end: the control plane's engine reports none by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::aws::{ACCOUNT, Aws, AwsError, REGION};
use crate::lambda_host::request_id;
use crate::metrics::{Datapoint, Metrics};
use crate::rules::{Delivery, Rule};

/// How often a running execution is looked at.
const PERIOD: Duration = Duration::from_millis(200);

/// An execution that has ended.
#[derive(Clone, Debug)]
pub struct Execution {
    pub arn: String,
    /// `SUCCEEDED`, `FAILED`, `TIMED_OUT` or `ABORTED`.
    pub status: String,
    pub output: Option<Value>,
    pub error: Option<String>,
    pub cause: Option<String>,
}

/// All executions that were started through the gateway.
#[derive(Debug)]
pub(crate) struct Executions {
    aws: Aws,
    rules: Vec<Rule>,
    metrics: Arc<Metrics>,
    /// By ARN; `None` while it runs.
    known: Mutex<BTreeMap<String, watch::Receiver<Option<Execution>>>>,
}

impl Executions {
    pub(crate) fn new(aws: Aws, rules: Vec<Rule>, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            aws,
            rules,
            metrics,
            known: Mutex::default(),
        })
    }

    /// Takes note of the answer to a StartExecution.
    pub(crate) fn started(self: &Arc<Self>, answer: &[u8]) {
        let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
        let Some(arn) = answer["executionArn"].as_str().map(str::to_owned) else {
            return;
        };
        let (ended, receiver) = watch::channel(None);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.insert(arn.clone(), receiver).is_some() {
            return; // The same name and input while it runs: the same execution, which is followed already.
        }
        drop(known);
        let executions = self.clone();
        tokio::spawn(async move {
            if let Some(execution) = executions.follow(&arn).await {
                let _nobody_waits = ended.send(Some(execution));
            }
        });
    }

    pub(crate) fn running_machines(&self) -> BTreeSet<String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .iter()
            .filter(|(_, ended)| ended.borrow().is_none())
            .map(|(arn, _)| machine_of(arn))
            .collect()
    }

    /// Waits for the end of an execution and of everything that its end sets off.
    pub(crate) async fn wait(&self, arn: &str) -> Option<Execution> {
        let mut ended = self
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(arn)?
            .clone();
        ended.wait_for(Option::is_some).await.ok()?.clone()
    }

    async fn follow(&self, arn: &str) -> Option<Execution> {
        let described = loop {
            tokio::time::sleep(PERIOD).await;
            let request = json!({"executionArn": arn});
            match self
                .aws
                .json("states", "AWSStepFunctions.DescribeExecution", &request)
                .await
            {
                Ok(described) if described["status"] != "RUNNING" => break described,
                Ok(_) => {}
                // The control plane has gone, and with it the execution.
                Err(AwsError::NoAnswer { .. }) => return None,
                Err(_) => {}
            }
        };
        let text = |name: &str| described[name].as_str().map(str::to_owned);
        let execution = Execution {
            arn: arn.to_owned(),
            status: text("status").unwrap_or_default(),
            output: text("output").and_then(|output| serde_json::from_str(&output).ok()),
            error: text("error"),
            cause: text("cause"),
        };
        self.count(&execution);
        self.publish_events(&event(&described, &execution)).await;
        Some(execution)
    }

    /// The `AWS/States` metrics that the alarms look at.
    fn count(&self, execution: &Execution) {
        let metric = match execution.status.as_str() {
            "SUCCEEDED" => "ExecutionsSucceeded",
            "FAILED" => "ExecutionsFailed",
            "TIMED_OUT" => "ExecutionsTimedOut",
            _ => "ExecutionsAborted",
        };
        self.metrics.record(Datapoint {
            namespace: "AWS/States".into(),
            metric: metric.into(),
            dimensions: [("StateMachineArn".to_owned(), machine_of(&execution.arn))].into(),
            at_ms: now_ms(),
            value: 1.0,
        });
    }

    /// What EventBridge would do with the status event.
    async fn publish_events(&self, event: &Value) {
        let deliveries = self.rules.iter().flat_map(|rule| {
            rule.deliveries(event)
                .into_iter()
                .map(|delivery| (&rule.name, delivery))
        });
        for (rule, Delivery { topic, message }) in deliveries {
            let parameters = [
                ("Action", "Publish"),
                ("TopicArn", &*topic),
                ("Message", &*message),
            ];
            if self
                .aws
                .query("sns", "2010-03-31", &parameters)
                .await
                .is_err()
            {
                self.metrics.record(Datapoint {
                    namespace: "AWS/Events".into(),
                    metric: "FailedInvocations".into(),
                    dimensions: [("RuleName".to_owned(), rule.clone())].into(),
                    at_ms: now_ms(),
                    value: 1.0,
                });
            }
        }
    }
}

/// `…:execution:<machine>:<name>` → `…:stateMachine:<machine>`.
pub(crate) fn machine_of(execution_arn: &str) -> String {
    let machine = execution_arn.replacen(":execution:", ":stateMachine:", 1);
    machine
        .rsplit_once(':')
        .map_or(machine.clone(), |(machine, _)| machine.to_owned())
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The event that AWS emits when an execution changes its status.
fn event(described: &Value, execution: &Execution) -> Value {
    let seconds = |name: &str| described[name].as_f64();
    json!({
        "version": "0",
        "id": request_id(),
        "detail-type": "Step Functions Execution Status Change",
        "source": "aws.states",
        "account": ACCOUNT,
        "region": REGION,
        "time": jiff::Timestamp::from_millisecond(now_ms()).unwrap_or_default().to_string(),
        "resources": [execution.arn],
        "detail": {
            "executionArn": execution.arn,
            "stateMachineArn": machine_of(&execution.arn),
            "name": described["name"],
            "status": execution.status,
            "startDate": seconds("startDate").map(|at| at * 1000.0),
            "stopDate": seconds("stopDate").map(|at| at * 1000.0),
            "input": described["input"],
            "output": described["output"],
            "error": execution.error,
            "cause": execution.cause,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_execution_names_its_machine() {
        assert_eq!(
            machine_of("arn:aws:states:us-east-1:1:execution:lifeboat-backup:nightly"),
            "arn:aws:states:us-east-1:1:stateMachine:lifeboat-backup"
        );
    }
}
