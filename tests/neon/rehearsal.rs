//! Migrations tried on a branch: what they change, whom they would keep waiting, and that a
//! failing one is an answer; of SQL, and of commands of somebody's own.

use std::process::Command;

use localcloud::neon::ProjectOptions;
use serde_json::{Value, json};

use super::stage::Stage;
use crate::harness::scratch;

const SEED: &str = "CREATE TABLE users (id int, email text);
     INSERT INTO users VALUES (1, 'a@example.org'), (2, NULL)";

fn seeded() -> ProjectOptions {
    ProjectOptions {
        seed: SEED.to_owned(),
        is_protected: true,
        ..ProjectOptions::default()
    }
}

fn rehearse(stage: &Stage, more: &Value) -> Value {
    let mut event = json!({"database": stage.name, "by": "Ada"});
    for (name, value) in more.as_object().unwrap() {
        event[name] = value.clone();
    }
    json!({"rehearse": event})
}

#[tokio::test]
async fn a_migration_that_runs_shows_its_difference_and_its_locks_and_production_sees_nothing() {
    let stage = Stage::new("neon-rehearsal", seeded(), "dump_compute = 0.25").await;
    stage.sql("SELECT 1");
    let endpoint = &stage.seeded.endpoint;
    let traffic = || stage.neon.traffic(&stage.seeded.project, endpoint).unwrap();
    let before = traffic();
    let sql = "ALTER TABLE users ADD COLUMN name text;\nCREATE INDEX by_email ON users (email);";
    let kept = rehearse(&stage, &json!({"sql": sql, "keep_days": 2}));
    let answer = stage.invoke(&kept).await.unwrap();
    assert_eq!(answer["verdict"], "passed", "{answer:#}");
    assert_eq!(
        (&answer["completed"], &answer["failure"]),
        (&json!(2), &Value::Null)
    );
    let difference = answer["schema_difference"].as_str().unwrap();
    for line in ["+    name text", "+CREATE INDEX by_email ON public.users"] {
        assert!(difference.contains(line), "{difference}");
    }
    assert_eq!(
        answer["locks"],
        json!([{"table": "public.users", "mode": "AccessExclusiveLock", "blocks": "reads and writes"}])
    );
    // What is kept can be looked at, has the migration in it, and goes by itself.
    let branch = answer["branch"].as_str().unwrap();
    let branches = stage.branches();
    let found = branches.iter().find(|it| it.name == branch).unwrap();
    let lives = found.expires_at.unwrap().duration_since(found.created_at);
    assert_eq!((lives.as_secs_f64() / 3_600.0).round(), 48.0);
    stage.age(branch, 1);
    let rotate = json!({"rotate": {"database": stage.name}});
    assert_eq!(stage.invoke(&rotate).await.unwrap()["deleted_total"], 0);
    let project = &stage.seeded.project;
    let has_it = "SELECT count(*) FROM pg_indexes WHERE indexname = 'by_email'";
    assert_eq!(
        stage.neon.psql(project, branch, "neondb", has_it).unwrap(),
        "1"
    );

    assert_eq!(stage.sql(has_it), "0");
    assert_eq!(traffic(), before, "somebody connected to production");
    let key = answer["evidence_key"].as_str().unwrap();
    let evidence = stage.cloud.object("VaultBucket", key).await.unwrap();
    let evidence: Value = serde_json::from_slice(&evidence).unwrap();
    assert_eq!(
        (&evidence["by"], &evidence["verdict"]),
        (&json!("Ada"), &json!("passed"))
    );
    let log = stage.cloud.logs("snapshot-branch");
    assert!(!log.contains("by_email") && !log.contains("npg_"));
}

async fn assert_fails(stage: &Stage, more: Value, expected: Value) {
    let answer = stage.invoke(&rehearse(stage, &more)).await.unwrap();
    assert_eq!(answer["verdict"], "failed", "{answer:#}");
    assert_eq!(answer["failure"], expected);
    assert_eq!(answer["kept_until"], Value::Null);
    // What a transaction began it has taken back; what ran by itself has happened.
    let difference = answer["schema_difference"].as_str().unwrap();
    let ran_alone = more.get("statements").is_some();
    assert_eq!(difference.contains("by_id"), ran_alone, "{difference}");
    assert!(!difference.contains("TABLE public.a"), "{difference}");
}

#[tokio::test]
async fn migrations_that_fail_are_answers_with_their_lines_and_leave_no_branch() {
    let stage = Stage::new("neon-rehearsal-fails", seeded(), "dump_compute = 0.25").await;
    let text = json!({"sql": "CREATE TABLE a (i int);\n\nALTER TABLE users\n  ADD x nonsense;"});
    let nonsense = json!({"message": "type \"nonsense\" does not exist", "sqlstate": "42704",
        "statement": 2, "line": 4});
    let each = json!({"statements": ["CREATE INDEX CONCURRENTLY by_id ON users (id)",
        "ALTER TABLE users ALTER email SET NOT NULL"]});
    let null = json!({"message": "column \"email\" of relation \"users\" contains null values",
        "sqlstate": "23502", "statement": 2, "line": null});
    let slow = json!({"sql": "SELECT pg_sleep(60)", "limit_seconds": 1});
    let late = json!({"message": "not done within 1 s: it was cancelled", "sqlstate": "57014",
        "statement": 1, "line": null});
    let open =
        json!({"statements": ["CREATE INDEX by_id ON users (id)", "BEGIN; DROP TABLE users"]});
    let left = json!({"message": "a transaction is left open, of which nothing stays: add COMMIT",
        "sqlstate": null, "statement": 2, "line": null});
    // At once, as several pull requests do: each has a branch of its own.
    tokio::join!(
        assert_fails(&stage, text, nonsense),
        assert_fails(&stage, each, null),
        assert_fails(&stage, slow, late.clone()),
        assert_fails(&stage, open, left),
    );
    // No statement is long, and their time is over all the same.
    let many = json!({"statements": vec!["SELECT pg_sleep(0.01)"; 4000], "limit_seconds": 1});
    let answer = stage.invoke(&rehearse(&stage, &many)).await.unwrap();
    assert_eq!(answer["verdict"], "failed", "{answer:#}");
    assert_eq!(answer["failure"]["message"], late["message"]);
    assert_eq!(stage.names(), ["main"], "{}", stage.story());
    // Nobody is woken for what somebody tries.
    let all = stage.cloud.published_messages().await.unwrap();
    assert!(!all.iter().any(|it| it.text.contains(stage.name)));
}

/// A branch for a command, and how to reach it.
async fn begin(stage: &Stage, keep_days: u8) -> (Value, String) {
    let event = json!({"database": stage.name, "by": "ci run 42", "keep_days": keep_days});
    let event = json!({"rehearse_begin": event});
    let begun = stage.invoke(&event).await.unwrap();
    assert!(!begun.to_string().contains("npg_"), "{begun}");
    let read = json!({"SecretId": begun["secret"]});
    let target = "secretsmanager.GetSecretValue";
    let secret = stage.cloud.api("secretsmanager", target, &read).await;
    let secret = secret.unwrap()["SecretString"].as_str().unwrap().to_owned();
    let secret: Value = serde_json::from_str(&secret).unwrap();
    assert_eq!(secret["branch_id"], begun["branch_id"]);
    (begun, secret["url"].as_str().unwrap().to_owned())
}

/// As a migration tool does it, to the end; its exit status.
fn migrate(stage: &Stage, url: &str, sql: &str) -> i32 {
    let file = scratch().join(format!("{}.sql", stage.name));
    std::fs::write(&file, sql).unwrap();
    let mut psql = Command::new("psql");
    psql.args(["-Xq", "-v", "ON_ERROR_STOP=1", "-d", url, "-f"]);
    psql.arg(&file).output().unwrap().status.code().unwrap()
}

async fn end(stage: &Stage, branch: &Value, exit_status: i32) -> Result<Value, String> {
    let event = json!({"database": stage.name, "branch": branch, "exit_status": exit_status, "seconds": 1.5});
    stage.invoke(&json!({"rehearse_end": event})).await
}

async fn evidence_of(stage: &Stage, answer: &Value) -> Value {
    let key = answer["evidence_key"].as_str().unwrap();
    let evidence = stage.cloud.object("VaultBucket", key).await.unwrap();
    serde_json::from_slice(&evidence).unwrap()
}

/// The password with which production is reached.
async fn production_password(stage: &Stage) -> String {
    let (project, branch) = (&stage.seeded.project, &stage.seeded.branch);
    let url = format!(
        "{}/projects/{project}/connection_uri?branch_id={branch}&database_name=neondb&role_name=neondb_owner",
        stage.neon.url()
    );
    let asked = reqwest::Client::new().get(&url);
    let asked = asked.bearer_auth(stage.neon.key()).send().await.unwrap();
    let answer: Value = serde_json::from_str(&asked.text().await.unwrap()).unwrap();
    password(answer["uri"].as_str().unwrap()).to_owned()
}

fn password(url: &str) -> &str {
    let (login, _) = url.split_once('@').unwrap();
    login.rsplit_once(':').unwrap().1
}

#[tokio::test]
async fn a_command_migrates_its_own_branch_and_what_it_changed_is_told_before_all_of_it_goes() {
    let unprotected = ProjectOptions {
        seed: SEED.to_owned(),
        ..ProjectOptions::default()
    };
    let stage = Stage::new("neon-command", unprotected, "dump_compute = 0.25").await;
    stage.sql("SELECT 1");
    let endpoint = &stage.seeded.endpoint;
    let traffic = || stage.neon.traffic(&stage.seeded.project, endpoint).unwrap();
    let before = traffic();
    let (begun, url) = begin(&stage, 0).await;
    // What CI is given opens this branch, and not production.
    assert_ne!(password(&url), production_password(&stage).await);
    let branch = begun["branch"].as_str().unwrap();
    // Which lies where CI reads, and where nothing that is lent to a dump or a drill does.
    let secret = format!("lifeboat/rehearsal/{}/{branch}", stage.name);
    assert_eq!(stage.branch_secrets().await, [secret]);
    let index = "CREATE INDEX CONCURRENTLY by_email ON users (email);";
    let sql = format!("ALTER TABLE users ADD COLUMN name text;\n{index}");
    assert_eq!(migrate(&stage, &url, &sql), 0);
    stage.sql("CREATE TABLE meanwhile (i int)");

    let ended = end(&stage, &begun["branch"], 0).await.unwrap();
    assert_eq!(ended["verdict"], "passed", "{ended:#}");
    assert_eq!(
        (&ended["notes"], &ended["kept_until"]),
        (&json!([]), &Value::Null)
    );
    let difference = ended["schema_difference"].as_str().unwrap();
    for line in ["+    name text", "+CREATE INDEX by_email ON public.users"] {
        assert!(difference.contains(line), "{difference}");
    }
    assert!(!difference.contains("meanwhile"), "{difference}");
    let evidence = evidence_of(&stage, &ended).await;
    assert_eq!(
        (&evidence["by"], &evidence["verdict"], &evidence["seconds"]),
        (&json!("ci run 42"), &json!("passed"), &json!(1.5))
    );
    assert!(evidence["lent_seconds"].as_f64().unwrap() > 0.0);

    assert_eq!(stage.names(), ["main"], "{}", stage.story());
    assert_eq!(stage.branch_secrets().await, [""; 0]);
    let columns =
        "SELECT count(*) FROM pg_attribute WHERE attrelid = 'users'::regclass AND attname = 'name'";
    assert_eq!(stage.sql(columns), "0");
    assert_eq!(traffic(), before, "somebody connected to production");
    assert!(!stage.cloud.logs("snapshot-branch").contains("npg_"));
    // It is over, and production is no rehearsal.
    for branch in [&begun["branch"], &json!("main")] {
        let error = end(&stage, branch, 0).await.unwrap_err();
        assert!(error.contains("Refused"), "{error}");
        assert!(error.contains("it has ended"), "{error}");
    }
    assert_eq!(stage.names(), ["main"]);
}

/// Where nobody begins another and dumps read production, the daily rotation alone comes by. Its
/// branch's name.
async fn forgotten_until_rotated(stage: &Stage) -> String {
    let (late, _) = begin(stage, 3).await;
    let name = late["branch"].as_str().unwrap().to_owned();
    let rotate = async |dry_run: bool| {
        let rotate = json!({"rotate": {"database": stage.name, "dry_run": dry_run}});
        assert_eq!(stage.invoke(&rotate).await.unwrap()["deleted_total"], 0);
        stage.branch_secrets().await.len()
    };
    assert_eq!(rotate(false).await, 1, "it may still be used");
    stage.age(&name, 1);
    assert_eq!(rotate(true).await, 1, "a dry run deletes nothing");
    assert_eq!(rotate(false).await, 0);
    name
}

#[tokio::test]
#[ignore = "most of a minute: make slow"]
async fn a_command_that_fails_is_said_to_and_what_is_kept_or_never_ended_leaves_no_secret() {
    let stage = Stage::new("neon-commands", seeded(), "dump_compute = 0.25").await;
    let (begun, url) = begin(&stage, 0).await;
    let status = migrate(
        &stage,
        &url,
        "CREATE TABLE a (i int);\nALTER TABLE nobody ADD x int;",
    );
    assert_eq!(status, 3);
    let ended = end(&stage, &begun["branch"], status).await.unwrap();
    let evidence = evidence_of(&stage, &ended).await;
    for told in [&ended, &evidence] {
        assert_eq!(
            (&told["verdict"], &told["exit_status"]),
            (&json!("failed"), &json!(3))
        );
        // What had happened by then.
        let difference = told["schema_difference"].as_str().unwrap();
        assert!(
            difference.contains("+CREATE TABLE public.a"),
            "{difference}"
        );
    }
    assert_eq!(stage.names(), ["main"], "{}", stage.story());

    let (kept, _) = begin(&stage, 3).await;
    let kept_name = kept["branch"].as_str().unwrap().to_owned();
    let ended = end(&stage, &kept["branch"], 0).await.unwrap();
    assert_eq!(ended["schema_difference"], "");
    assert_eq!(ended["kept_until"], kept["expires_at"]);
    assert_eq!(stage.branch_secrets().await, [""; 0]);

    // Two whose end nobody tells: one goes, of one that is kept the secret goes.
    let (abandoned, _) = begin(&stage, 0).await;
    let (forgotten, _) = begin(&stage, 3).await;
    assert_eq!(stage.branch_secrets().await.len(), 2);
    for begun in [&abandoned, &forgotten] {
        stage.age(begun["branch"].as_str().unwrap(), 1);
    }
    let (next, _) = begin(&stage, 0).await;
    end(&stage, &next["branch"], 0).await.unwrap();
    assert_eq!(stage.branch_secrets().await, [""; 0]);
    let late_name = forgotten_until_rotated(&stage).await;
    let forgotten = forgotten["branch"].as_str().unwrap().to_owned();
    let mut left = vec![kept_name, "main".to_owned(), forgotten, late_name];
    left.sort();
    assert_eq!(stage.names(), left, "{}", stage.story());
}
