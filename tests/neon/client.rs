//! A plain client of the API: it sends what a test says, and waits for what has begun.

use std::time::{Duration, Instant};

use localcloud::neon::{Neon, NeonOptions, ProjectOptions, Seeded};
use serde_json::{Value, json};

/// Longer than any operation of the stand-in takes on a busy machine.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);

/// A stand-in of its own with one project.
pub(super) struct Project {
    pub(super) neon: Neon,
    pub(super) seeded: Seeded,
    http: reqwest::Client,
}

impl Project {
    pub(super) fn new(neon: NeonOptions, project: ProjectOptions) -> Self {
        let neon = Neon::start(neon).unwrap();
        let seeded = neon.project(project).unwrap();
        Self {
            neon,
            seeded,
            http: reqwest::Client::new(),
        }
    }

    pub(super) fn with_rows(seed: &str) -> Self {
        let project = ProjectOptions {
            seed: seed.to_owned(),
            ..ProjectOptions::default()
        };
        Self::new(NeonOptions::default(), project)
    }

    /// Status and body of the answer; `path` is what follows the project.
    pub(super) async fn ask(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let response = self.send(method, path, body).await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(json!(text)))
    }

    pub(super) async fn send(
        &self,
        method: &str,
        path: &str,
        body: Value,
    ) -> reqwest::Result<reqwest::Response> {
        let url = format!("{}/projects/{}{path}", self.neon.url(), self.seeded.project);
        let mut request = self.http.request(method.parse().unwrap(), url);
        if !body.is_null() {
            request = request.json(&body);
        }
        let key = self.neon.project_key(&self.seeded.project);
        request.bearer_auth(key).send().await
    }

    /// The answer to something that succeeds, once all that it began is over.
    pub(super) async fn done(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.ask(method, path, body).await;
        assert!((200..300).contains(&status), "{method} {path}: {answer}");
        self.settled().await;
        answer
    }

    /// Waits until no operation runs; all of them.
    pub(super) async fn settled(&self) -> Vec<Value> {
        let begun = Instant::now();
        loop {
            let (_, answer) = self.ask("GET", "/operations", Value::Null).await;
            let operations = answer["operations"].as_array().unwrap().clone();
            let is_over = |it: &Value| match it["status"].as_str().unwrap() {
                "failed" => it["retry_at"].is_null(),
                status => ["finished", "error", "cancelled", "skipped"].contains(&status),
            };
            if operations.iter().all(is_over) {
                return operations;
            }
            assert!(begun.elapsed() < SETTLED_WITHIN, "{operations:?}");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// A branch of this name, which has a compute if `is_awake`; its id.
    pub(super) async fn branch(&self, name: &str, is_awake: bool, more: Value) -> String {
        let mut branch = json!({"name": name});
        for (field, value) in more.as_object().into_iter().flatten() {
            branch[field] = value.clone();
        }
        let mut body = json!({"branch": branch});
        if is_awake {
            body["endpoints"] = json!([{"type": "read_write"}]);
        }
        let answer = self.done("POST", "/branches", body).await;
        answer["branch"]["id"].as_str().unwrap().to_owned()
    }

    pub(super) fn sql(&self, branch: &str, sql: &str) -> String {
        self.neon
            .psql(&self.seeded.project, branch, "neondb", sql)
            .unwrap()
    }

    pub(super) async fn uri(&self, branch: &str) -> String {
        let path = format!(
            "/connection_uri?branch_id={branch}&database_name=neondb&role_name=neondb_owner"
        );
        let (status, answer) = self.ask("GET", &path, Value::Null).await;
        assert_eq!(status, 200, "{answer}");
        answer["uri"].as_str().unwrap().to_owned()
    }
}
