//! `docs/RUNBOOK.md`, followed at a shell.

use std::time::Duration;

use localcloud::Execution;
use localcloud::neon::{Plan, ProjectOptions};
use localcloud::postgres::Major;
use serde_json::{Value, json};

use super::stage::Stage;
use crate::harness::Shell;

const NOW: &str =
    "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
const ORDERS: &str = "SELECT count(*) FROM orders";

/// A person at a shell with what the document asks for.
struct Person<'a> {
    stage: &'a Stage,
    /// The last good moment.
    moment: String,
}

impl<'a> Person<'a> {
    fn at(stage: &'a Stage) -> Self {
        let moment = String::new();
        Self { stage, moment }
    }

    fn shell(&self, block: &str) -> Shell {
        let cloud = self.stage.cloud;
        let function = |it: &str| cloud.function(it).unwrap().name.clone();
        let (document, major) = ("docs/RUNBOOK.md", Major::debian().unwrap());
        Shell::of(cloud, document, &format!("runbook-{block}"), major)
            .env(
                "SNAPSHOT_BRANCH_FUNCTION",
                function("SnapshotBranchFunction"),
            )
            .env("RECOVER_FUNCTION", function("RecoverFunction"))
            .env("RECOVER_MACHINE", cloud.physical("RecoverMachine").unwrap())
            .env("MOMENT", &self.moment)
    }

    /// Runs the block of that name beside these files; what it prints.
    async fn run(&self, block: &'static str, files: &[(&str, &str)]) -> String {
        run(self.shell(block), block, files).await
    }
}

async fn run(mut shell: Shell, block: &'static str, files: &[(&str, &str)]) -> String {
    for (name, text) in files {
        std::fs::write(shell.folder.join(name), text).unwrap();
    }
    let ran = tokio::task::spawn_blocking(move || shell.run(&[block]).0);
    ran.await.unwrap()
}

/// What a function has answered; the CLI prints after it what it knows of the call.
fn first(printed: &str) -> Value {
    let mut printed = serde_json::Deserializer::from_str(printed).into_iter::<Value>();
    printed.next().unwrap().unwrap()
}

/// A project for the target that the document names.
pub(super) async fn new_project(stage: &Stage) -> Value {
    first(&Person::at(stage).run("neon-new-project", &[]).await)
}

/// A drill of a branch, to its end.
pub(super) async fn drill(stage: &Stage) -> Execution {
    let block = "neon-drill";
    let shell = Person::at(stage).shell(block);
    let machine = stage.cloud.physical("DrillMachine").unwrap();
    let shell = shell
        .env("DRILL_MACHINE", machine)
        .env("DATABASE", stage.name)
        .env("OPERATOR", "Ada");
    let started = first(&run(shell, block, &[]).await);
    let execution = started["executionArn"].as_str().unwrap();
    stage.cloud.wait(execution).await.unwrap()
}

/// The id of the plan that waits for a decision.
async fn asked(stage: &Stage, execution: &str) -> String {
    // Five minutes: other tests may have the machine.
    for _ in 0..3_000 {
        let messages = stage.cloud.published_messages().await.unwrap();
        let is_asked = |it: &str| it.contains(execution) && it.contains("waits for your decision");
        if let Some(message) = messages.iter().find(|it| is_asked(&it.text)) {
            let plan_id = message.text.split("Plan:").nth(1).unwrap();
            return plan_id.split_whitespace().next().unwrap().to_owned();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("nobody was asked\n{}", stage.story());
}

#[tokio::test]
async fn the_runbooks_commands_make_branches_rehearse_and_put_production_back() {
    let project = ProjectOptions {
        plan: Plan::Scale,
        seed: "CREATE TABLE orders AS SELECT generate_series(1, 3) AS id".to_owned(),
        age: Duration::from_secs(7_200),
        history_retention_seconds: Some(86_400),
        ..ProjectOptions::default()
    };
    let stage = Stage::new("app", project, "dump_compute = 0.25").await;
    let moment = stage.sql(NOW);
    stage.sql("DELETE FROM orders WHERE id > 1");
    let person = Person {
        stage: &stage,
        moment,
    };
    person.run("neon-pre-deploy", &[]).await;
    person.run("neon-deployed", &[]).await;
    let branches = stage.branches();
    let made = branches
        .iter()
        .find(|it| it.name == "pre-deploy-add-invoices");
    assert!(made.unwrap().expires_at.is_some());

    let restored = first(&person.run("neon-restore-branch", &[]).await);
    let branch = restored["branch"].as_str().unwrap();
    let (neon, of) = (stage.neon, &stage.seeded.project);
    assert_eq!(neon.psql(of, branch, "neondb", ORDERS).unwrap(), "3");

    rehearse(&person).await;
    let lasting = ["main", "pre-deploy-add-invoices", branch];
    assert_eq!(stage.names(), lasting, "{}", stage.story());
    assert_eq!(stage.branch_secrets().await, [""; 0]);

    assert_eq!(stage.sql(ORDERS), "1");
    let started = first(&person.run("neon-recover", &[]).await);
    let execution = started["executionArn"].as_str().unwrap();
    let plan_id = asked(&stage, execution).await;
    let approve = "neon-recover-approve";
    let shell = person.shell(approve).env("PLAN_ID", &plan_id);
    let answer = run(shell, approve, &[]).await;
    assert!(answer.contains("the recovery begins now"), "{answer}");
    let ended = stage.cloud.wait(execution).await.unwrap();
    assert_eq!(ended.status, "SUCCEEDED", "{ended:?}\n{}", stage.story());
    assert_eq!(stage.sql(ORDERS), "3");
}

/// A migration as SQL, and as a command of one's own that fails after it.
async fn rehearse(person: &Person<'_>) {
    let sql = ("migration.sql", "ALTER TABLE orders ADD COLUMN note text;");
    let answer = person.run("neon-rehearse", &[sql]).await;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["verdict"], "passed", "{answer:#}");
    assert_migrated(&answer);

    let block = "neon-rehearse-command";
    let mut shell = person.shell(block);
    let command =
        "psql -Xq -v ON_ERROR_STOP=1 -f migration.sql \"$DATABASE_URL\" || exit 1\nexit 7";
    for (name, text) in [sql, ("migrate.sh", command)] {
        std::fs::write(shell.folder.join(name), text).unwrap();
    }
    let tried = tokio::task::spawn_blocking(move || shell.try_run(&[block]));
    let (is_success, answer, complaints) = tried.await.unwrap();
    assert!(!is_success, "CI would go on: {answer}");
    let answer: Value = serde_json::from_str(&answer)
        .unwrap_or_else(|error| panic!("{error}: {answer}\n{complaints}"));
    assert_eq!(
        (&answer["verdict"], &answer["exit_status"]),
        (&json!("failed"), &json!(7)),
        "{answer:#}"
    );
    assert_migrated(&answer);
}

fn assert_migrated(answer: &Value) {
    let difference = answer["schema_difference"].as_str().unwrap();
    assert!(difference.contains("+    note text"), "{answer:#}");
}
