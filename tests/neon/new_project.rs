//! The project is gone: a backup restored into a new one.

use localcloud::Target;
use localcloud::neon::ProjectOptions;
use serde_json::{Value, json};

use super::by_shell;
use super::stage::Stage;
use crate::restore_machine::rescue::Rescue;

const SEED: &str =
    "CREATE TABLE orders AS SELECT i, md5(i::text) AS code FROM generate_series(1, 500) i;
     CREATE VIEW codes AS SELECT code FROM orders";

fn make(target: &str) -> Value {
    json!({"new_project": {"target": target, "region": "aws-eu-central-1", "major": 15, "by": "Ada"}})
}

#[tokio::test]
async fn a_backup_is_restored_into_a_project_that_was_made_for_it() {
    let project = ProjectOptions {
        seed: SEED.to_owned(),
        ..ProjectOptions::default()
    };
    let stage = Stage::new("neon-gone", project, "dump_compute = 0.25").await;
    let ended = stage.back_up("2026-01-10T01:00:00Z").await;
    stage.subject().assert_verified(&ended).await;
    let target = |name: &str, live| Target {
        name: name.to_owned(),
        url: "postgresql://nobody:CANARY@127.0.0.1:1/nothing".to_owned(),
        live,
    };
    let targets = vec![
        target("neon-rescue", false),
        target("neon-production", true),
        target("elsewhere", false),
    ];
    stage.cloud.configure_targets(targets).await.unwrap();
    // Not every key makes projects, and not every target is given one.
    let key = "lifeboat/neon/organization";
    let narrow = stage.neon.project_key(&stage.seeded.project);
    stage.cloud.put_secret(key, &narrow).await.unwrap();
    for (target, expected) in [
        (
            "neon-rescue",
            "the API key in lifeboat/neon/organization may not do that",
        ),
        ("neon-production", "says that it is live"),
        ("elsewhere", "begin with neon-"),
        ("neon-unknown", "has no such [[target]]"),
    ] {
        let error = stage.invoke(&make(target)).await.unwrap_err();
        assert!(
            error.contains("Refused") && error.contains(expected),
            "{error}"
        );
    }

    stage.cloud.put_secret(key, stage.neon.key()).await.unwrap();
    let made = stage.invoke(&make("neon-rescue")).await.unwrap();
    assert_eq!(
        (&made["is_new"], &made["name"]),
        (&json!(true), &json!("lifeboat-neon-rescue"))
    );
    // Once more, as the runbook has it.
    let again = by_shell::new_project(&stage).await;
    assert_eq!(
        (&again["is_new"], &again["project"]),
        (&json!(false), &made["project"])
    );

    let rescue = Rescue {
        subject: stage.subject(),
    };
    let into = json!({"new_database": {"target": "neon-rescue", "database": "app"}});
    let request = json!({"database": stage.name, "target": into});
    rescue.restore(&request, "neon-rescue/app").await;
    let project = made["project"].as_str().unwrap();
    let digest = "SELECT md5(string_agg(orders::text, ',' ORDER BY i)), (SELECT count(*) FROM codes) FROM orders";
    let restored = stage.neon.psql(project, "main", "app", digest).unwrap();
    assert_eq!(restored, stage.sql(digest));
    for log in ["snapshot-branch", "restore"] {
        assert!(!stage.cloud.logs(log).contains("npg_"), "{log}");
    }
}
