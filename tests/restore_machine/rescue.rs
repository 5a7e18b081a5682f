//! A database with a verified backup, and a server of its own to restore it to.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use localcloud::postgres::{Cluster, Major, SUPERUSER};
use localcloud::{Cloud, Execution, Message, Target};
use serde_json::{Value, json};

use crate::faults::clouds;
use crate::faults::subject::Subject;
use crate::harness::dump_as_text;

/// Some of everything, and little of it.
pub(super) const SHOP: &str = "
    CREATE SCHEMA shop;
    CREATE TABLE shop.items (id int PRIMARY KEY, name text NOT NULL, price numeric(10, 2));
    INSERT INTO shop.items SELECT i, 'item ' || i, i * 1.5 FROM generate_series(1, 3000) i;
    CREATE TABLE shop.orders (id serial PRIMARY KEY, item int REFERENCES shop.items, at timestamptz);
    INSERT INTO shop.orders (item, at) SELECT i, '2026-01-01' FROM generate_series(1, 500) i;
    CREATE TABLE shop.empty (id int);
    CREATE INDEX ON shop.orders (at);
    CREATE VIEW shop.sold AS SELECT name, count(*) FROM shop.orders JOIN shop.items ON items.id = item GROUP BY 1;
    CREATE MATERIALIZED VIEW shop.best AS SELECT max(price) FROM shop.items;";

/// A server that is not the source's, as a restore should have.
pub(super) fn standby() -> &'static Cluster {
    static STANDBY: OnceLock<Cluster> = OnceLock::new();
    STANDBY.get_or_init(|| Cluster::temporary(Major::debian().unwrap()).unwrap())
}

pub(super) fn target(name: &str, url: &str, live: bool) -> Target {
    Target {
        name: name.into(),
        url: url.into(),
        live,
    }
}

#[derive(Debug)]
pub(super) struct Asked {
    pub(super) execution: String,
    pub(super) plan_id: String,
    pub(super) message: String,
}

pub(crate) struct Rescue {
    pub(crate) subject: Subject,
}

impl Rescue {
    pub(super) async fn new(name: &'static str, sql: &str) -> Self {
        Self::of(clouds::shared().await, name, sql).await
    }

    /// Backs the database up in that cloud.
    pub(super) async fn of(cloud: &'static Cloud, name: &'static str, sql: &str) -> Self {
        let server = tokio::task::spawn_blocking(standby).await.unwrap();
        let url = server.url(SUPERUSER, SUPERUSER);
        cloud
            .configure_targets(vec![target("standby", &url, false)])
            .await
            .unwrap();
        let subject = Subject::of(cloud, clouds::cluster(), name, sql).await;
        let ended = subject.back_up().await;
        subject.assert_verified(&ended).await;
        Self { subject }
    }

    /// The latest backup, whole, into a new database on the standby.
    pub(super) fn request(&self, into: &str) -> Value {
        json!({"database": self.subject.name,
            "target": {"new_database": {"target": "standby", "database": into}}})
    }

    /// Calls the function as a person would; an error as its name and message.
    pub(super) async fn call(&self, event: &Value) -> Result<Value, (String, String)> {
        let answer = self.subject.cloud.invoke("restore", event).await.unwrap();
        let value: Value = serde_json::from_slice(&answer.payload).unwrap();
        if answer.failed {
            let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
            return Err((text("errorType"), text("errorMessage")));
        }
        Ok(value)
    }

    pub(super) async fn run(&self, request: &Value) -> Execution {
        self.subject
            .cloud
            .run("RestoreMachine", request)
            .await
            .unwrap()
    }

    /// Starts the machine and waits until it asks.
    pub(super) async fn ask(&self, request: &Value) -> Asked {
        let cloud = self.subject.cloud;
        let execution = cloud
            .start_execution("RestoreMachine", request)
            .await
            .unwrap();
        self.asked(&execution).await
    }

    /// What an execution that was started asks.
    pub(super) async fn asked(&self, execution: &str) -> Asked {
        let cloud = self.subject.cloud;
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let messages = cloud.published_messages().await.unwrap();
            let asked = messages.into_iter().find(|it| {
                it.text.contains(execution) && it.text.contains("waits for your decision")
            });
            if let Some(message) = asked {
                let plan_id = message.text.split("Plan:").nth(1).unwrap();
                let plan_id = plan_id.split_whitespace().next().unwrap().to_owned();
                return Asked {
                    execution: execution.to_owned(),
                    plan_id,
                    message: message.text,
                };
            }
            let has_ended = self.has_ended(execution).await;
            assert!(
                Instant::now() < deadline && !has_ended,
                "nobody was asked: {}\n{}",
                self.history(execution).await,
                self.story()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn has_ended(&self, execution: &str) -> bool {
        let request = json!({"executionArn": execution});
        let cloud = self.subject.cloud;
        let described = cloud.api("states", "AWSStepFunctions.DescribeExecution", &request);
        described.await.unwrap()["status"] != "RUNNING"
    }

    pub(super) async fn approve(
        &self,
        asked: &Asked,
        typed: &str,
    ) -> Result<Value, (String, String)> {
        let event = json!({"approve":
            {"plan_id": asked.plan_id, "operator": "Grace", "target_name_typed": typed}});
        self.call(&event).await
    }

    pub(super) async fn refuse(&self, plan_id: &str) -> Result<Value, (String, String)> {
        self.call(&json!({"refuse": {"plan_id": plan_id, "operator": "Ada"}}))
            .await
    }

    /// Asks, approves, waits for the good end; the report.
    pub(crate) async fn restore(&self, request: &Value, typed: &str) -> Value {
        let asked = self.ask(request).await;
        self.approve(&asked, typed).await.unwrap();
        let ended = self.subject.wait(&asked.execution).await;
        self.assert_restored(&ended)
    }

    pub(super) fn assert_restored(&self, ended: &Execution) -> Value {
        assert_eq!(ended.status, "SUCCEEDED", "{ended:?}\n{}", self.story());
        let report = ended.output.clone().unwrap();
        assert_eq!(report["is_good"], true, "{report}");
        report
    }

    /// It failed with this error, for reasons that contain these words.
    pub(super) fn assert_failed(&self, ended: &Execution, error: &str, causes: &[&str]) {
        assert_eq!(ended.status, "FAILED", "{ended:?}\n{}", self.story());
        assert_eq!(
            ended.error.as_deref(),
            Some(error),
            "{ended:?}\n{}",
            self.story()
        );
        let cause = ended.cause.clone().unwrap_or_default();
        for expected in causes {
            assert!(cause.contains(expected), "{expected:?} is not in {cause}");
        }
    }

    /// The evidence that a report names.
    pub(super) async fn record(&self, report: &Value) -> Value {
        let key = report["evidence_key"].as_str().unwrap();
        let prefix = format!("evidence/{}/", self.subject.name);
        assert!(
            key.starts_with(&prefix) && key.ends_with("-restore.json"),
            "{key}"
        );
        let bytes = self.subject.cloud.object("VaultBucket", key).await.unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    /// The newest evidence of this database.
    pub(super) async fn newest_record(&self) -> Value {
        let prefix = format!("evidence/{}/", self.subject.name);
        let objects = self.subject.cloud.objects("VaultBucket").await.unwrap();
        let key = objects
            .into_keys()
            .rfind(|it| it.starts_with(&prefix) && it.ends_with("-restore.json"))
            .unwrap();
        self.record(&json!({"evidence_key": key})).await
    }

    /// The record of this plan: of two in one second, either may be the newest.
    pub(super) async fn record_of(&self, plan_id: &str) -> Value {
        let digest = plan_id.rsplit('-').next().unwrap();
        let end = format!("-{digest}-restore.json");
        let objects = self.subject.cloud.objects("VaultBucket").await.unwrap();
        let key = objects.into_keys().rfind(|it| it.ends_with(&end)).unwrap();
        self.record(&json!({"evidence_key": key})).await
    }

    pub(super) async fn tokens(&self, plan_id: &str) -> Vec<String> {
        let cloud = self.subject.cloud;
        let prefix = format!("plans/{plan_id}/token-");
        let mut tokens = Vec::new();
        for key in cloud.objects("WorkBucket").await.unwrap().into_keys() {
            if key.starts_with(&prefix) {
                let bytes = cloud.object("WorkBucket", &key).await.unwrap();
                let token: Value = serde_json::from_slice(&bytes).unwrap();
                tokens.push(token["token"].as_str().unwrap().to_owned());
            }
        }
        tokens
    }

    /// Everything published that names the execution.
    pub(super) async fn messages_about(&self, asked: &Asked) -> Vec<Message> {
        let messages = self.subject.cloud.published_messages().await.unwrap();
        let about = messages.into_iter();
        about
            .filter(|it| it.text.contains(&asked.execution))
            .collect()
    }

    /// The live database, as `pg_dump` prints it.
    pub(super) fn live_as_text(&self) -> String {
        dump_as_text(self.subject.cluster, self.subject.name, &[])
    }

    pub(super) async fn history(&self, execution: &str) -> String {
        let request = json!({"executionArn": execution, "maxResults": 1000});
        let cloud = self.subject.cloud;
        let history = cloud.api("states", "AWSStepFunctions.GetExecutionHistory", &request);
        history.await.unwrap().to_string()
    }

    /// No server's password is in anything that people or other systems can read.
    pub(super) async fn assert_no_secret(&self, ended: &Execution) {
        let mut places = vec![self.history(&ended.arn).await, format!("{ended:?}")];
        places.push(self.subject.cloud.logs("restore"));
        for message in self.subject.cloud.published_messages().await.unwrap() {
            places.push(message.text);
        }
        for cluster in [standby(), self.subject.cluster] {
            let password = cluster.password().unwrap();
            assert!(places.iter().all(|it| !it.contains(password)));
        }
    }

    pub(super) fn story(&self) -> String {
        let log = self.subject.cloud.logs("restore");
        let lines: Vec<&str> = log.lines().rev().take(15).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}
