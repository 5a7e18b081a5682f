//! A cloud whose functions talk to the stand-in, shared by the tests; each has a project and a
//! database of its own.

use std::time::Duration;

use localcloud::neon::{Neon, NeonBranch, NeonOptions, ProjectOptions, Seeded};
use localcloud::{Cloud, Database, Execution, Message, Options, S3Backend, Target};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::faults::clouds;
use crate::faults::subject::Subject;

/// A cloud and the stand-in that its functions talk to.
pub(crate) struct World {
    pub(crate) cloud: Cloud,
    pub(super) neon: Neon,
}

impl World {
    pub(super) async fn start(
        name: &str,
        neon: NeonOptions,
        change: impl FnOnce(&mut Options),
    ) -> Self {
        let neon = tokio::task::spawn_blocking(|| Neon::start(neon));
        let neon = neon.await.unwrap().unwrap();
        let url = neon.url().to_owned();
        let cloud = clouds::start(name, |options| {
            options.parameters.insert("NeonApiUrl".to_owned(), url);
            // For the checks of [database.drill], which names one.
            options.targets.push(Target {
                name: "standby".to_owned(),
                url: "postgresql://nobody:CANARY@127.0.0.1:1/postgres".to_owned(),
                live: false,
            });
            change(options);
        });
        Self {
            cloud: cloud.await,
            neon,
        }
    }
}

pub(super) async fn shared() -> &'static World {
    static SHARED: OnceCell<World> = OnceCell::const_new();
    let start = || World::start("neon", NeonOptions::default(), |_| {});
    SHARED.get_or_init(start).await
}

/// Every call is checked against the policies of the caller's role.
pub(crate) async fn enforced() -> &'static World {
    static ENFORCED: OnceCell<World> = OnceCell::const_new();
    let start = || {
        World::start("roles", NeonOptions::default(), |options| {
            options.s3 = S3Backend::Moto;
            options.iam_enforced = true;
        })
    };
    ENFORCED.get_or_init(start).await
}

/// A database of `lifeboat.toml` that lives in a project of its own.
pub(super) struct Stage {
    pub(super) cloud: &'static Cloud,
    pub(super) neon: &'static Neon,
    pub(super) name: &'static str,
    pub(super) seeded: Seeded,
}

impl Stage {
    pub(super) async fn new(name: &'static str, project: ProjectOptions, policy: &str) -> Self {
        Self::of(shared().await, name, project, policy).await
    }

    pub(super) async fn of(
        world: &'static World,
        name: &'static str,
        project: ProjectOptions,
        policy: &str,
    ) -> Self {
        let World { cloud, neon } = world;
        let seeded = tokio::task::spawn_blocking(move || neon.project(project));
        let stage = Self {
            cloud,
            neon,
            name,
            seeded: seeded.await.unwrap().unwrap(),
        };
        let key = neon.project_key(&stage.seeded.project);
        let secret = format!("lifeboat/neon/{}", stage.seeded.project);
        cloud.put_secret(&secret, &key).await.unwrap();
        stage.configure(policy).await;
        stage
    }

    /// `policy` is further lines of `[database.neon]`.
    pub(super) async fn configure(&self, policy: &str) {
        let database = self.database(self.name, policy);
        self.cloud.configure(vec![database]).await.unwrap();
    }

    /// One that lives in this project.
    pub(super) fn database(&self, name: &str, policy: &str) -> Database {
        let project = &self.seeded.project;
        Database {
            name: name.to_owned(),
            provider: "neon".to_owned(),
            // Nobody may connect there: dumps read a branch.
            url: "postgresql://nobody:CANARY@127.0.0.1:1/neondb".to_owned(),
            extra: format!(
                "[database.neon]\nproject = \"{project}\"\nrole = \"neondb_owner\"\ndatabase = \"neondb\"\n{policy}"
            ),
        }
    }

    /// What the tests of other providers know about backups.
    pub(super) fn subject(&self) -> Subject {
        Subject {
            cloud: self.cloud,
            cluster: clouds::cluster(),
            name: self.name,
        }
    }

    pub(super) async fn back_up(&self, scheduled: &str) -> Execution {
        let arn = self.begin_backup(scheduled).await;
        self.cloud.wait(&arn).await.unwrap()
    }

    /// The execution's ARN.
    pub(super) async fn begin_backup(&self, scheduled: &str) -> String {
        let input =
            json!({"kind": "nightly", "scheduled_time": scheduled, "databases": [self.name]});
        let begun = self.cloud.start_execution("BackupMachine", &input);
        begun.await.unwrap()
    }

    pub(super) async fn run_branches(&self, scheduled: &str) -> Execution {
        let input = json!({"scheduled_time": scheduled, "databases": [self.name]});
        self.cloud.run("BranchesMachine", &input).await.unwrap()
    }

    /// The function's answer; its error as text where it has one.
    pub(super) async fn invoke(&self, event: &Value) -> Result<Value, String> {
        self.call("SnapshotBranchFunction", event).await
    }

    pub(super) async fn call(&self, function: &str, event: &Value) -> Result<Value, String> {
        let invoked = self.cloud.invoke(function, event).await.unwrap();
        let answer: Value = serde_json::from_slice(&invoked.payload).unwrap();
        match invoked.failed {
            true => Err(answer.to_string()),
            false => Ok(answer),
        }
    }

    pub(super) fn branches(&self) -> Vec<NeonBranch> {
        self.neon.branches(&self.seeded.project).unwrap()
    }

    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.branches().into_iter().map(|it| it.name).collect();
        names.sort();
        names
    }

    /// Makes the branch of that name look older.
    pub(super) fn age(&self, name: &str, days: u64) {
        let branches = self.branches();
        let branch = branches.iter().find(|it| it.name == name).unwrap();
        let by = Duration::from_secs(days * 86_400);
        self.neon.age(&self.seeded.project, &branch.id, by).unwrap();
    }

    /// In production, past every endpoint.
    pub(super) fn sql(&self, sql: &str) -> String {
        let project = &self.seeded.project;
        self.neon.psql(project, "main", "neondb", sql).unwrap()
    }

    /// Somebody else's branch.
    pub(super) async fn foreign(&self, name: &str, more: Value) {
        let mut branch = json!({"name": name});
        for (field, value) in more.as_object().into_iter().flatten() {
            branch[field] = value.clone();
        }
        self.post_branch(&json!({"branch": branch})).await;
    }

    /// With a key that may do anything, past Lifeboat.
    pub(super) async fn post_branch(&self, body: &Value) {
        let url = format!(
            "{}/projects/{}/branches",
            self.neon.url(),
            self.seeded.project
        );
        loop {
            let post = reqwest::Client::new()
                .post(&url)
                .bearer_auth(self.neon.key());
            let post = post.json(body).send();
            match post.await.unwrap().status().as_u16() {
                201 => break,
                423 | 429 => tokio::time::sleep(Duration::from_millis(20)).await,
                status => panic!("{status}"),
            }
        }
    }

    /// Messages of an execution, by topic.
    pub(super) async fn messages(&self, ended: &Execution, topic: &str) -> Vec<Message> {
        // With its machine: one that the AWS CLI starts has no name of its own here.
        let name = ended.arn.rsplit_once(":execution:").unwrap().1;
        let topic = self.cloud.physical(topic).unwrap();
        let all = self.cloud.published_messages().await.unwrap();
        let of_this = |it: &Message| it.topic_arn == topic && it.text.contains(name);
        all.into_iter().filter(of_this).collect()
    }

    /// Names of the secrets of temporary branches that are left.
    pub(super) async fn branch_secrets(&self) -> Vec<String> {
        let prefixes = ["branch", "rehearsal"].map(|it| format!("lifeboat/{it}/{}/", self.name));
        let (mut names, mut page) = (Vec::new(), json!({"MaxResults": 100}));
        loop {
            let target = "secretsmanager.ListSecrets";
            let listed = self.cloud.api("secretsmanager", target, &page);
            let listed = listed.await.unwrap();
            let secrets = listed["SecretList"].as_array().unwrap().iter();
            names.extend(secrets.map(|it| it["Name"].as_str().unwrap().to_owned()));
            match listed["NextToken"].as_str() {
                Some(next) => page["NextToken"] = next.into(),
                None => break,
            }
        }
        names.retain(|it| prefixes.iter().any(|prefix| it.starts_with(prefix)));
        names
    }

    pub(super) fn story(&self) -> String {
        let log = self.cloud.logs("snapshot-branch");
        let lines: Vec<&str> = log.lines().rev().take(30).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}
