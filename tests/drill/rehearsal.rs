//! A database with a verified backup and a drill policy, and a server to drill on.

use std::sync::OnceLock;

use localcloud::postgres::{Cluster, Major, SUPERUSER};
use localcloud::{Cloud, Execution, Target};
use serde_json::{Value, json};

use crate::faults::clouds;
use crate::faults::subject::Subject;

/// A server that is not the source's.
pub(super) fn standby() -> &'static Cluster {
    static STANDBY: OnceLock<Cluster> = OnceLock::new();
    STANDBY.get_or_init(|| Cluster::temporary(Major::debian().unwrap()).unwrap())
}

pub(super) struct Rehearsal {
    pub(super) subject: Subject,
    source: String,
    /// Where it is drilled.
    pub(super) server: &'static Cluster,
    /// Further lines of the drill's policy.
    policy: String,
}

impl Rehearsal {
    /// On the shared cloud and standby.
    pub(super) async fn new(name: &'static str, sql: &str, policy: &str) -> Self {
        Self::of(clouds::shared().await, name, sql, policy).await
    }

    pub(super) async fn of(
        cloud: &'static Cloud,
        name: &'static str,
        sql: &str,
        policy: &str,
    ) -> Self {
        let server = tokio::task::spawn_blocking(standby).await.unwrap();
        let subject = Subject::of(cloud, clouds::cluster(), name, sql).await;
        Self::at(subject, server, policy).await
    }

    /// Of a database that `make` creates.
    pub(super) async fn with(
        name: &'static str,
        policy: &str,
        make: impl FnOnce(&'static Cluster, &'static str) + Send + 'static,
    ) -> Self {
        let cloud = clouds::shared().await;
        let server = tokio::task::spawn_blocking(standby).await.unwrap();
        let cluster = clouds::cluster();
        tokio::task::spawn_blocking(move || make(cluster, name))
            .await
            .unwrap();
        let subject = Subject {
            cloud,
            cluster,
            name,
        };
        Self::at(subject, server, policy).await
    }

    /// Of a database that exists.
    pub(super) async fn at(subject: Subject, server: &'static Cluster, policy: &str) -> Self {
        let source = subject.url();
        Self::made(subject, source, server, policy).await
    }

    /// The same under a name that is not the database's own.
    pub(super) async fn from(subject: Subject, source: &str, server: &'static Cluster) -> Self {
        Self::made(subject, source.to_owned(), server, "").await
    }

    async fn made(
        subject: Subject,
        source: String,
        server: &'static Cluster,
        policy: &str,
    ) -> Self {
        let rehearsal = Self {
            subject,
            source,
            server,
            policy: policy.to_owned(),
        };
        rehearsal.drill_on(&server.url(SUPERUSER, SUPERUSER)).await;
        rehearsal.back_up().await;
        rehearsal
    }

    /// From now on it is drilled with this policy.
    pub(super) async fn change_policy(&mut self, policy: &str) {
        policy.clone_into(&mut self.policy);
        self.drill_on(&self.server.url(SUPERUSER, SUPERUSER)).await;
    }

    async fn back_up(&self) {
        let ended = self.subject.back_up().await;
        self.subject.assert_verified(&ended).await;
    }

    fn target(&self) -> String {
        format!("on-{}", self.subject.name)
    }

    /// Sets where it is drilled.
    pub(super) async fn drill_on(&self, url: &str) {
        let target = Target {
            name: self.target(),
            url: url.to_owned(),
            live: false,
        };
        self.subject
            .cloud
            .configure_targets(vec![target])
            .await
            .unwrap();
        let extra = format!(
            "[database.drill]\ntarget = \"{}\"\n{}",
            self.target(),
            self.policy
        );
        self.subject.configure(&self.source, &extra).await;
    }

    /// Runs the state machine to its end; `more` is merged into its input.
    pub(super) async fn drill(&self, more: &Value) -> Execution {
        let cloud = self.subject.cloud;
        cloud.run("DrillMachine", &self.input(more)).await.unwrap()
    }

    pub(super) fn input(&self, more: &Value) -> Value {
        let mut input = json!({"databases": [self.subject.name]});
        for (name, value) in more.as_object().unwrap() {
            input[name] = value.clone();
        }
        input
    }

    /// What the function chooses for this database, as the state machine would ask.
    pub(super) async fn choose(&self) -> Value {
        let execution = format!("arn:test:{}:{}", self.subject.name, self.steps_so_far());
        let event = json!({"choose": {"request": self.input(&json!({})), "execution": execution,
            "started": jiff::Timestamp::try_from(std::time::SystemTime::now()).unwrap()}});
        let chosen = self.invoke(&event).await.unwrap();
        chosen["drills"][0].clone()
    }

    /// Keeps two drills of one test apart.
    fn steps_so_far(&self) -> usize {
        static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    }

    /// One step; an error as its name and message.
    pub(super) async fn step(&self, step: &str, drill: &Value) -> Result<Value, (String, String)> {
        loop {
            let answer = self.invoke(&json!({step: {"drill": drill}})).await?;
            if step != "restore" || answer["remaining"] == 0 {
                return Ok(answer);
            }
        }
    }

    pub(super) async fn invoke(&self, event: &Value) -> Result<Value, (String, String)> {
        let answer = self.subject.cloud.invoke("drill", event).await.unwrap();
        let value: Value = serde_json::from_slice(&answer.payload).unwrap();
        if answer.failed {
            let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
            return Err((text("errorType"), text("errorMessage")));
        }
        Ok(value)
    }

    /// Restores, lets `plant` do its work in the scratch database, checks, destroys, and
    /// returns the evidence of what came of it.
    pub(super) async fn drill_with(&self, plant: impl FnOnce(&Cluster, &str)) -> Value {
        let drill = self.choose().await;
        self.step("restore", &drill).await.unwrap();
        plant(self.server, drill["scratch"].as_str().unwrap());
        self.step("check", &drill).await.unwrap();
        self.step("destroy", &drill).await.unwrap();
        let recorded = self.step("record", &drill).await.unwrap();
        self.assert_nothing_left();
        // Not the newest: two drills may begin in one second.
        let key = recorded["evidence_key"].as_str().unwrap();
        serde_json::from_slice(&self.read(key).await).unwrap()
    }

    async fn keys(&self, area: &str, ending: &str) -> Vec<String> {
        let prefix = format!("{area}/{}/", self.subject.name);
        let objects = self.subject.cloud.objects("VaultBucket").await.unwrap();
        let keys = objects.into_keys();
        keys.filter(|key| key.starts_with(&prefix) && key.ends_with(ending))
            .collect()
    }

    pub(super) async fn evidence_keys(&self) -> Vec<String> {
        self.keys("evidence", "-drill.json").await
    }

    pub(super) async fn read(&self, key: &str) -> Vec<u8> {
        self.subject
            .cloud
            .object("VaultBucket", key)
            .await
            .unwrap()
            .to_vec()
    }

    /// The newest.
    pub(super) async fn evidence(&self) -> Value {
        let keys = self.evidence_keys().await;
        let newest = keys
            .last()
            .unwrap_or_else(|| panic!("no evidence\n{}", self.story()));
        serde_json::from_slice(&self.read(newest).await).unwrap()
    }

    /// The newest.
    pub(super) async fn page(&self) -> String {
        let keys = self.keys("evidence", "-drill.html").await;
        String::from_utf8(self.read(keys.last().unwrap()).await).unwrap()
    }

    pub(super) async fn drill_verdicts(&self) -> Vec<Value> {
        let mut verdicts = Vec::new();
        for key in self.keys("verdicts", "-drill.json").await {
            verdicts.push(serde_json::from_slice(&self.read(&key).await).unwrap());
        }
        verdicts
    }

    pub(super) async fn assert_proven(&self, ended: &Execution) -> Value {
        assert_eq!(ended.status, "SUCCEEDED", "{ended:#?}\n{}", self.story());
        let evidence = self.evidence().await;
        assert_eq!(evidence["verdict"], "passed", "{:#}", evidence["findings"]);
        let output = ended.output.as_ref().unwrap();
        assert_eq!(output["databases"][0]["outcome"], "proven", "{output:#}");
        self.assert_nothing_left();
        let woken = self.messages(ended, "PageTopic").await;
        assert!(woken.is_empty(), "somebody was woken: {woken:#?}");
        // What is no failure and should be known is told by day.
        let told = self.messages(ended, "NoticeTopic").await;
        let missed = output["databases"][0]["missed"].as_array().unwrap();
        assert_eq!(told.is_empty(), missed.is_empty(), "{missed:#?} {told:#?}");
        for missed in missed {
            assert!(told[0].contains(missed.as_str().unwrap()), "{}", told[0]);
        }
        evidence
    }

    /// Texts of the messages about an execution.
    pub(super) async fn messages(&self, ended: &Execution, topic: &str) -> Vec<String> {
        let name = ended.arn.rsplit(':').next().unwrap();
        let topic = self.subject.cloud.physical(topic).unwrap();
        let messages = self.subject.cloud.published_messages().await.unwrap();
        let about = messages
            .into_iter()
            .filter(|it| it.topic_arn == topic && it.text.contains(name));
        about.map(|it| it.text).collect()
    }

    /// The run failed, somebody was told, and no verdict of any drill has passed. The evidence,
    /// where there is any.
    pub(super) async fn assert_not_proven(&self, ended: &Execution, says: &[&str]) {
        assert_eq!(ended.status, "FAILED", "{ended:#?}\n{}", self.story());
        self.assert_nothing_left();
        for verdict in self.drill_verdicts().await {
            assert_ne!(verdict["verdict"], "passed", "{verdict:#}");
        }
        self.assert_told(ended, says).await;
        self.subject.assert_no_secret(ended).await;
    }

    /// Somebody was woken, and told all of that.
    pub(super) async fn assert_told(&self, ended: &Execution, says: &[&str]) {
        let told = self.messages(ended, "PageTopic").await;
        let mut alerts = told.iter().filter(|it| it.starts_with("Lifeboat: "));
        let Some(alert) = alerts.next() else {
            panic!("nobody was told\n{}", self.story())
        };
        for says in says {
            let story = self.story();
            assert!(
                alert.contains(says),
                "{says:?} is not in:\n{alert}\n{story}"
            );
        }
    }

    /// Of all drills of this test: scratch databases and roles are named by their ids.
    pub(super) fn assert_nothing_left(&self) {
        let sql = "SELECT datname FROM pg_database WHERE datname LIKE 'lifeboat_drill_%'
             UNION ALL SELECT rolname || ' ' || shobj_description(oid, 'pg_authid')
             FROM pg_roles WHERE shobj_description(oid, 'pg_authid') LIKE 'lifeboat drill role %'";
        let left = self.server.psql("postgres", sql).unwrap();
        let own = self.subject.cloud.logs("drill");
        for left in left.lines() {
            // Others drill at the same time.
            let id = left.rsplit(['_', '-']).next().unwrap();
            let of_this = format!("\"database\":\"{}\"", self.subject.name);
            let is_ours = own
                .lines()
                .any(|it| it.contains(id) && it.contains(&of_this));
            assert!(!is_ours, "{left} is still there\n{}", self.story());
        }
    }

    /// The last lines of the logs, to explain a failure.
    pub(super) fn story(&self) -> String {
        let mut story = String::new();
        for function in ["drill", "alert"] {
            let log = self.subject.cloud.logs(function);
            let lines: Vec<&str> = log.lines().rev().take(15).collect();
            for line in lines.into_iter().rev() {
                story.push_str(&format!("{function}: {line}\n"));
            }
        }
        story
    }
}

/// The only check of that code.
pub(super) fn check<'a>(evidence: &'a Value, code: &str) -> &'a Value {
    let checks = evidence["checks"].as_array().unwrap();
    let mut found = checks.iter().filter(|it| it["code"] == code);
    let check = found.next().unwrap_or_else(|| panic!("no check {code}"));
    assert!(found.next().is_none(), "two checks {code}");
    check
}

/// All with that status.
pub(super) fn checks<'a>(evidence: &'a Value, status: &str) -> Vec<&'a Value> {
    let checks = evidence["checks"].as_array().unwrap();
    checks.iter().filter(|it| it["status"] == status).collect()
}
