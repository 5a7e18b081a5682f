//! Production with an incident behind it, and what people and hooks do about it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use localcloud::Execution;
use localcloud::neon::{Plan, ProjectOptions};
use serde_json::{Value, json};

use crate::neon::stage::{Stage, World, shared};

const SEED: &str = "
    CREATE TABLE orders (id int PRIMARY KEY, note text);
    INSERT INTO orders VALUES (1, 'one'), (2, 'two'), (3, 'three');
    CREATE TABLE parts (a int, b text, PRIMARY KEY (b, a));
    INSERT INTO parts VALUES (1, E'tab\\tand\\nline'), (1, 'ä'), (2, '');
    CREATE TABLE prices (id int, price int, PRIMARY KEY (id) INCLUDE (price));
    INSERT INTO prices VALUES (1, 10), (2, 20);
    CREATE TABLE log (line text);
    INSERT INTO log VALUES ('one'), ('two')";

/// Two rows more, one gone, one another; and a table that was not there.
const INCIDENT: &str = "
    INSERT INTO orders VALUES (4, 'four'), (10, 'ten');
    DELETE FROM orders WHERE id = 1;
    UPDATE orders SET note = 'changed' WHERE id = 2;
    UPDATE prices SET price = 21 WHERE id = 2;
    INSERT INTO log VALUES ('three');
    CREATE TABLE made AS SELECT generate_series(1, 7) AS i";

pub(super) const ORDERS: &str = "SELECT string_agg(id || '=' || note, ' ' ORDER BY id) FROM orders";
pub(super) const NOW: &str =
    "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";

/// Production with an incident behind it, and hooks that write down what they are told.
pub(super) struct Incident {
    pub(super) stage: Stage,
    /// The last good moment.
    pub(super) before: String,
    pub(super) hooks: Arc<Mutex<Vec<Value>>>,
}

/// What a test wants to be otherwise.
pub(super) struct Setup {
    /// What the hooks answer.
    pub(super) freeze: Result<(), &'static str>,
    pub(super) unfreeze: Result<(), &'static str>,
    pub(super) restore_keeps_id: bool,
    pub(super) store_passwords: bool,
    /// Further lines after `[database.neon]`.
    pub(super) policy: &'static str,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            freeze: Ok(()),
            unfreeze: Ok(()),
            restore_keeps_id: true,
            store_passwords: true,
            policy: "",
        }
    }
}

impl Incident {
    pub(super) async fn new(name: &'static str, setup: Setup) -> Self {
        Self::of(shared().await, name, setup).await
    }

    pub(super) async fn of(world: &'static World, name: &'static str, setup: Setup) -> Self {
        let seeded = ProjectOptions {
            plan: Plan::Scale,
            seed: SEED.to_owned(),
            age: Duration::from_secs(7_200),
            history_retention_seconds: Some(86_400),
            restore_keeps_id: setup.restore_keeps_id,
            store_passwords: setup.store_passwords,
            ..ProjectOptions::default()
        };
        let policy = format!(
            "dump_compute = 0.25\nfreeze_function = \"lifeboat-hook-freeze-{name}\"\n\
             unfreeze_function = \"lifeboat-hook-unfreeze-{name}\"\n{}",
            setup.policy
        );
        let stage = Stage::of(world, name, seeded, &policy).await;
        let hooks: Arc<Mutex<Vec<Value>>> = Arc::default();
        for (hook, answer) in [("freeze", setup.freeze), ("unfreeze", setup.unfreeze)] {
            let told = hooks.clone();
            let answer = move |event: Value| {
                told.lock().unwrap().push(event);
                answer.map(|()| json!({})).map_err(str::to_owned)
            };
            stage
                .cloud
                .hook(&format!("lifeboat-hook-{hook}-{name}"), answer);
        }
        let before = stage.sql(NOW);
        stage.sql(INCIDENT);
        Self {
            stage,
            before,
            hooks,
        }
    }

    pub(super) async fn start(&self) -> String {
        let input = json!({"database": self.stage.name, "point": {"time": self.before}, "by": "Ada", "reason": "an incident"});
        let started = self.stage.cloud.start_execution("RecoverMachine", &input);
        started.await.unwrap()
    }

    /// The plan's id and the whole question, when it is asked.
    pub(super) async fn asked(&self, execution: &str) -> (String, String) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let messages = self.stage.cloud.published_messages().await.unwrap();
            let asked = messages.into_iter().find(|it| {
                it.text.contains(execution) && it.text.contains("waits for your decision")
            });
            if let Some(message) = asked {
                let plan_id = message.text.split("Plan:").nth(1).unwrap();
                let plan_id = plan_id.split_whitespace().next().unwrap().to_owned();
                return (plan_id, message.text);
            }
            assert!(
                Instant::now() < deadline,
                "nobody was asked\n{}",
                self.stage.story()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub(super) async fn tell(&self, what: &str, more: Value) -> Result<Value, String> {
        let event = json!({"recover": {what: more}});
        self.stage.call("RecoverFunction", &event).await
    }

    pub(super) async fn approve(&self, plan_id: &str, typed: &str) -> Result<Value, String> {
        let approve = json!({"plan_id": plan_id, "operator": "Grace", "target_name_typed": typed});
        self.tell("approve", approve).await
    }

    /// Started, approved, ended.
    pub(super) async fn recover(&self) -> Execution {
        let execution = self.start().await;
        let (plan_id, _) = self.asked(&execution).await;
        let typed = format!("{}/main", self.stage.name);
        self.approve(&plan_id, &typed).await.unwrap();
        self.stage.cloud.wait(&execution).await.unwrap()
    }

    /// What the hooks were told, in order: which one, and the error that it was told of.
    pub(super) fn hooks(&self) -> Vec<(String, String)> {
        let told = self.hooks.lock().unwrap();
        let of = |event: &Value| {
            let (hook, fields) = event.as_object().unwrap().iter().next().unwrap();
            assert_eq!(fields["database"], self.stage.name);
            let error = fields["error"].as_str().unwrap_or_default();
            (hook.clone(), error.to_owned())
        };
        told.iter().map(of).collect()
    }

    pub(super) fn orders_of(&self, branch: &str) -> String {
        let project = &self.stage.seeded.project;
        let neon = self.stage.neon;
        neon.psql(project, branch, "neondb", ORDERS).unwrap()
    }

    /// Production is what the incident made of it, and nothing is beside it.
    pub(super) fn assert_untouched(&self) {
        assert_eq!(self.stage.names(), ["main"], "{}", self.stage.story());
        assert_eq!(self.orders_of("main"), AFTER);
    }

    pub(super) fn told(&self, hook: &str, error: &str) -> (String, String) {
        (hook.to_owned(), error.to_owned())
    }
}

pub(super) const BEFORE: &str = "1=one 2=two 3=three";
pub(super) const AFTER: &str = "2=changed 3=three 4=four 10=ten";
