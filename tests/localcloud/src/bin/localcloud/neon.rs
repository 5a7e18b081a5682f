//! A project at the stand-in of Neon, backed up as one at Neon is.

use std::time::SystemTime;

use jiff::Timestamp;
use localcloud::neon::{Neon, NeonOptions, ProjectOptions, Seeded};
use localcloud::{Cloud, Database};
use serde_json::{Value, json};

use crate::Failure;
use crate::arguments::Arguments;
use crate::progress::Voice;

/// What `lifeboat.toml` calls it.
const NAME: &str = "shop";

/// Some megabytes of a small shop.
const SEED: &str = "
    CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, email text UNIQUE);
    INSERT INTO customers SELECT i, 'Customer ' || i, md5(i::text) || '@example.com' FROM generate_series(1, 20000) i;
    CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer int REFERENCES customers,
        total numeric(10, 2), note text, ordered_at timestamptz);
    INSERT INTO orders (customer, total, note, ordered_at)
        SELECT 1 + i % 20000, i % 977 / 7.0, repeat(md5(i::text), 2), timestamptz '2026-01-01' + i * interval '3 min'
        FROM generate_series(1, 80000) i;
    CREATE INDEX ON orders (customer);
    CREATE VIEW revenue AS SELECT customer, sum(total) FROM orders GROUP BY 1;";

/// A running stand-in with one project.
#[derive(Debug)]
pub(crate) struct Project {
    neon: Neon,
    seeded: Seeded,
    /// The connections that production had seen before the backup.
    connections: u64,
}

impl Project {
    pub(crate) async fn if_asked(
        arguments: &Arguments,
        voice: Voice,
    ) -> Result<Option<Self>, Failure> {
        if !arguments.neon {
            return Ok(None);
        }
        voice.say("starting the stand-in of Neon, with a project of some megabytes");
        let started = tokio::task::spawn_blocking(Self::start).await;
        started.map_err(|_| Failure::BrokenOff)?.map(Some)
    }

    fn start() -> Result<Self, Failure> {
        let neon = Neon::start(NeonOptions::default())?;
        let seeded = neon.project(ProjectOptions {
            name: NAME.to_owned(),
            seed: SEED.to_owned(),
            is_protected: true,
            history_retention_seconds: Some(7 * 86_400),
            ..ProjectOptions::default()
        })?;
        let mut project = Self {
            neon,
            seeded,
            connections: 0,
        };
        project.connections = project.connections()?;
        Ok(project)
    }

    /// Nobody may connect to what its URL names: the dump reads a branch.
    pub(crate) fn database(&self) -> Database {
        Database {
            name: NAME.to_owned(),
            provider: "neon".to_owned(),
            url: "postgresql://nobody@127.0.0.1:1/neondb".to_owned(),
            extra: format!(
                "[database.neon]\nproject = \"{}\"\nrole = \"neondb_owner\"\ndatabase = \"neondb\"\n",
                self.seeded.project
            ),
        }
    }

    /// What leads the functions to the stand-in.
    pub(crate) fn parameter(&self) -> (String, String) {
        ("NeonApiUrl".to_owned(), self.neon.url().to_owned())
    }

    pub(crate) async fn put_key(&self, cloud: &Cloud) -> Result<(), Failure> {
        let project = &self.seeded.project;
        let (secret, key) = (
            format!("lifeboat/neon/{project}"),
            self.neon.project_key(project),
        );
        Ok(cloud.put_secret(&secret, &key).await?)
    }

    fn connections(&self) -> Result<u64, Failure> {
        let Seeded {
            project, endpoint, ..
        } = &self.seeded;
        Ok(self.neon.traffic(project, endpoint)?.connections)
    }

    /// The branches that there are now, and how often production was connected to meanwhile.
    fn outcome(&self) -> Result<(Vec<String>, u64), Failure> {
        let branches = self.neon.branches(&self.seeded.project)?;
        let mut names: Vec<_> = branches.into_iter().map(|it| it.name).collect();
        names.sort();
        Ok((names, self.connections()? - self.connections))
    }

    pub(crate) fn json(&self) -> Result<Value, Failure> {
        let (branches, connections) = self.outcome()?;
        Ok(json!({"branches": branches, "connections_to_production": connections}))
    }

    pub(crate) fn text(&self) -> Result<String, Failure> {
        let (branches, connections) = self.outcome()?;
        Ok(format!(
            "  neon       branches now: {}; connections to production meanwhile: {connections}\n",
            branches.join(", ")
        ))
    }
}

/// What the schedule starts the nightly backup with.
pub(crate) fn nightly(database: &str) -> Value {
    json!({"kind": "nightly", "scheduled_time": this_minute(), "databases": [database]})
}

/// What the schedule starts the run over the branches with.
pub(crate) fn branches(database: &str) -> Value {
    json!({"scheduled_time": this_minute(), "databases": [database]})
}

fn this_minute() -> String {
    let now = Timestamp::try_from(SystemTime::now()).unwrap_or_default();
    now.strftime("%Y-%m-%dT%H:%M:00Z").to_string()
}
