//! One database under test, and what must hold of it after every run.

use std::path::Path;
use std::time::{Duration, Instant};

use localcloud::cutting_proxy::CuttingProxy;
use localcloud::postgres::{Cluster, DatabaseOptions};
use localcloud::{Cloud, Database, Execution, Message};
use reqwest::Method;
use serde_json::{Value, json};

use super::clouds;

/// Long past, so that no clock takes it for the future.
const SCHEDULED: &str = "2026-01-02T01:00:00Z";

/// A database that is configured in a cloud under its own name.
pub(crate) struct Subject {
    pub(crate) cloud: &'static Cloud,
    pub(crate) cluster: &'static Cluster,
    pub(crate) name: &'static str,
}

impl Subject {
    /// In the shared cloud and server.
    pub(crate) async fn new(name: &'static str, sql: &str) -> Self {
        Self::of(clouds::shared().await, clouds::cluster(), name, sql).await
    }

    pub(crate) async fn of(
        cloud: &'static Cloud,
        cluster: &'static Cluster,
        name: &'static str,
        sql: &str,
    ) -> Self {
        cluster
            .create_database(name, &DatabaseOptions::default())
            .unwrap();
        cluster.psql(name, sql).unwrap();
        let subject = Self {
            cloud,
            cluster,
            name,
        };
        subject.configure(&subject.url(), "").await;
        subject
    }

    /// As the superuser, directly.
    pub(crate) fn url(&self) -> String {
        self.cluster.url(self.name, "postgres")
    }

    /// Sets where the function finds the database, and further lines of its configuration.
    pub(crate) async fn configure(&self, url: &str, extra: &str) {
        self.cloud
            .configure(vec![database(self.name, url, extra)])
            .await
            .unwrap();
    }

    pub(crate) fn sql(&self, sql: &str) -> String {
        self.cluster.psql(self.name, sql).unwrap()
    }

    /// Runs SQL in a session of its own, which may have to wait.
    pub(crate) fn sql_aside(
        &self,
        sql: &'static str,
    ) -> std::thread::JoinHandle<Result<String, String>> {
        let (cluster, name) = (self.cluster, self.name);
        std::thread::spawn(move || cluster.psql(name, sql).map_err(|error| error.to_string()))
    }

    /// The input of a run; runs of one time are one backup.
    pub(crate) fn input(&self, scheduled: &str) -> Value {
        json!({"kind": "on-demand", "scheduled_time": scheduled, "databases": [self.name]})
    }

    /// The event that the state machine would send to dump.
    pub(crate) fn item(&self) -> Value {
        json!({"database": self.name, "kind": "on-demand", "scheduled_time": SCHEDULED,
            "backup_id": "20260102T010000Z-on-demand", "committed": false, "previous": null})
    }

    pub(crate) async fn start(&self) -> String {
        self.cloud
            .start_execution("BackupMachine", &self.input(SCHEDULED))
            .await
            .unwrap()
    }

    pub(crate) async fn wait(&self, execution: &str) -> Execution {
        self.cloud.wait(execution).await.unwrap()
    }

    pub(crate) async fn back_up(&self) -> Execution {
        let execution = self.start().await;
        self.wait(&execution).await
    }

    pub(crate) async fn back_up_at(&self, scheduled: &str) -> Execution {
        self.cloud
            .run("BackupMachine", &self.input(scheduled))
            .await
            .unwrap()
    }

    async fn keys(&self, area: &str, ending: &str) -> Vec<String> {
        let prefix = format!("{area}/{}/", self.name);
        let mut keys = match self.cloud.object_file("VaultBucket", &prefix) {
            // Others keep tens of thousands of objects in the same bucket.
            Some(folder) => files_below(&folder, &prefix),
            None => {
                let objects = self.cloud.objects("VaultBucket").await.unwrap();
                objects
                    .into_keys()
                    .filter(|key| key.starts_with(&prefix))
                    .collect()
            }
        };
        keys.retain(|key| key.ends_with(ending));
        keys.sort();
        keys
    }

    pub(crate) async fn archive_keys(&self) -> Vec<String> {
        self.keys("backups", ".age").await
    }

    /// Every manifest, oldest first.
    pub(crate) async fn manifests(&self) -> Vec<Value> {
        self.read_all(self.keys("backups", "manifest.json").await)
            .await
    }

    /// Every verdict, oldest first.
    pub(crate) async fn verdicts(&self) -> Vec<Value> {
        self.read_all(self.keys("verdicts", ".json").await).await
    }

    async fn read_all(&self, keys: Vec<String>) -> Vec<Value> {
        let mut documents = Vec::new();
        for key in keys {
            let bytes = self.cloud.object("VaultBucket", &key).await.unwrap();
            documents.push(serde_json::from_slice(&bytes).unwrap());
        }
        documents
    }

    /// Alerts about this database.
    pub(crate) async fn messages(&self) -> Vec<Message> {
        let all = self.cloud.published_messages().await.unwrap();
        let line = format!("Database: {}\n", self.name);
        all.into_iter()
            .filter(|message| message.text.contains(&line))
            .collect()
    }

    /// Keys of uploads that were begun and neither completed nor aborted.
    pub(crate) async fn open_uploads(&self) -> Vec<String> {
        let bucket = self.cloud.physical("VaultBucket").unwrap();
        let path = format!("/{bucket}?uploads&prefix=backups%2F{}%2F", self.name);
        let answer = self
            .cloud
            .s3(Method::GET, &path, Vec::new().into())
            .await
            .unwrap();
        let xml = String::from_utf8_lossy(&answer.body).into_owned();
        let keys = xml
            .split("<Key>")
            .skip(1)
            .filter_map(|rest| rest.split("</Key>").next());
        keys.map(str::to_owned).collect()
    }

    /// One backup, verified, nobody woken; returns its manifest.
    pub(crate) async fn assert_verified(&self, execution: &Execution) -> Value {
        assert_eq!(
            execution.status,
            "SUCCEEDED",
            "{execution:?}\n{}",
            self.story()
        );
        let manifests = self.manifests().await;
        let verdicts = self.verdicts().await;
        let manifest = manifests.last().unwrap().clone();
        let passed = verdicts.iter().any(|verdict| {
            verdict["verdict"] == "passed" && verdict["backup_id"] == manifest["backup_id"]
        });
        assert!(passed, "{verdicts:#?}");
        let nothing: [String; 0] = [];
        assert_eq!(self.open_uploads().await, nothing);
        let name = execution.arn.rsplit(':').next().unwrap();
        let all = self.cloud.published_messages().await.unwrap();
        assert!(
            !all.iter().any(|message| message.text.contains(name)),
            "somebody was woken: {all:#?}"
        );
        self.assert_no_secret(execution).await;
        manifest
    }

    /// The run failed under `error` for reasons that contain `causes`; there is no backup, nothing is left open, and
    /// somebody was told.
    pub(crate) async fn assert_failed(
        &self,
        execution: &Execution,
        error: &str,
        causes: &[&str],
    ) -> Message {
        let nothing: [String; 0] = [];
        assert_eq!(self.open_uploads().await, nothing, "{}", self.story());
        self.assert_killed(execution, error, causes).await
    }

    /// As [`Subject::assert_failed`], by a death that leaves no time to abort uploads.
    pub(crate) async fn assert_killed(
        &self,
        execution: &Execution,
        error: &str,
        causes: &[&str],
    ) -> Message {
        self.assert_not_verified(execution, error).await;
        let manifests = self.manifests().await;
        assert!(manifests.is_empty(), "{}", self.story());
        self.assert_alert(execution, causes).await
    }

    pub(crate) async fn assert_not_verified(&self, execution: &Execution, error: &str) {
        for verdict in self.verdicts().await {
            assert_ne!(verdict["verdict"], "passed");
        }
        self.assert_run_failed(execution, error).await;
    }

    /// The run failed for this database; there may be backups of other runs.
    pub(crate) async fn assert_run_failed(&self, execution: &Execution, error: &str) {
        assert_eq!(
            execution.status,
            "FAILED",
            "{execution:?}\n{}",
            self.story()
        );
        assert_eq!(execution.error.as_deref(), Some("BackupFailed"));
        let summary: Value = serde_json::from_str(execution.cause.as_deref().unwrap()).unwrap();
        let of_this = summary
            .as_array()
            .unwrap()
            .iter()
            .find(|entry| entry["database"] == self.name)
            .unwrap();
        assert_eq!(of_this["outcome"], "failed");
        assert_eq!(of_this["error"], error, "{}", self.story());
        self.assert_no_secret(execution).await;
    }

    /// Exactly one alert about this execution, which a person woken at night understands.
    pub(crate) async fn assert_alert(&self, execution: &Execution, causes: &[&str]) -> Message {
        let topic = self.cloud.physical("PageTopic").unwrap();
        let execution_name = execution.arn.rsplit(':').next().unwrap();
        let is_alert = |message: &Message| message.text.contains(execution_name);
        let messages = self.messages().await;
        let mut alerts = messages.into_iter().filter(is_alert);
        let Some(alert) = alerts.next() else {
            panic!("no alert\n{}", self.story())
        };
        assert!(alerts.next().is_none(), "a second alert");
        let subject = alert.subject.clone().unwrap_or_default();
        assert_eq!(alert.topic_arn, topic);
        assert!(
            subject.is_ascii() && !subject.contains('\n') && (1..100).contains(&subject.len()),
            "{subject:?}"
        );
        assert!(subject.contains(self.name), "{subject:?}");
        for cause in causes {
            assert!(
                alert.text.contains(cause),
                "{cause:?} is not in:\n{}\n{}",
                alert.text,
                self.story()
            );
        }
        alert
    }

    /// The server's password is in nothing that people or other systems can read.
    pub(crate) async fn assert_no_secret(&self, execution: &Execution) {
        let password = self.cluster.password().unwrap().to_owned();
        self.assert_nowhere(execution, &password).await;
    }

    /// Everything that happened in an execution, as the control plane tells it.
    pub(crate) async fn history(&self, execution: &Execution) -> String {
        let request = json!({"executionArn": execution.arn, "maxResults": 1000});
        let history = self
            .cloud
            .api("states", "AWSStepFunctions.GetExecutionHistory", &request)
            .await;
        history.unwrap().to_string()
    }

    pub(crate) async fn assert_nowhere(&self, execution: &Execution, secret: &str) {
        let mut places = vec![
            ("history".to_owned(), self.history(execution).await),
            ("answer".into(), format!("{execution:?}")),
        ];
        for function in [
            "dump",
            "verify",
            "alert",
            "drill",
            "restore",
            "snapshot-branch",
        ] {
            places.push((format!("log of {function}"), self.cloud.logs(function)));
        }
        for message in self.cloud.published_messages().await.unwrap() {
            places.push(("message".into(), format!("{message:?}")));
        }
        for manifest in self.manifests().await {
            places.push(("manifest".into(), manifest.to_string()));
        }
        for (place, text) in places {
            assert!(!text.contains(secret), "the secret shows in the {place}");
        }
    }

    /// Waits for something to happen in the server.
    pub(crate) fn wait_for(&self, condition: &str) {
        wait_until(
            || self.sql(&format!("SELECT {condition}")) == "t",
            condition,
        );
    }

    /// The last lines of every log, to explain a failure.
    pub(crate) fn story(&self) -> String {
        let mut story = String::new();
        for function in ["snapshot-branch", "dump", "verify", "alert"] {
            let log = self.cloud.logs(function);
            let lines: Vec<&str> = log.lines().rev().take(12).collect();
            for line in lines.into_iter().rev() {
                story.push_str(&format!("{function}: {line}\n"));
            }
        }
        story
    }
}

/// Rows of a table as a manifest has them.
pub(crate) fn rows(manifest: &Value, table: &str) -> u64 {
    let tables = manifest["tables"].as_array().unwrap();
    tables.iter().find(|it| it["name"] == table).unwrap()["rows"]
        .as_u64()
        .unwrap()
}

/// Keys of the objects that lie as files in a folder.
fn files_below(folder: &Path, prefix: &str) -> Vec<String> {
    let mut keys = Vec::new();
    for entry in folder.read_dir().into_iter().flatten().flatten() {
        let key = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type().unwrap().is_dir() {
            keys.extend(files_below(&entry.path(), &format!("{key}/")));
        } else {
            keys.push(key);
        }
    }
    keys
}

/// Connections that the server answered; a request to cancel gets no answer.
pub(crate) fn sessions(proxy: &CuttingProxy) -> usize {
    let connections = proxy.connections();
    connections
        .iter()
        .filter(|it| it.bytes_to_client > 0)
        .count()
}

pub(crate) fn database(name: &str, url: &str, extra: &str) -> Database {
    Database {
        name: name.into(),
        provider: "postgres".into(),
        url: url.into(),
        extra: extra.into(),
    }
}

pub(crate) fn wait_until(happened: impl Fn() -> bool, what: &str) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !happened() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
