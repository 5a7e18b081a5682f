//! Migrations tried on a branch: what they change, whom they would keep waiting, and that a
//! failing one is an answer.

use localcloud::neon::ProjectOptions;
use serde_json::{Value, json};

use super::stage::Stage;

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
