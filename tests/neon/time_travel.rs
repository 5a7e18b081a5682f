//! Branches of the stand-in are real: what was not committed by then is not there.

use std::process::Command;
use std::time::Duration;

use localcloud::neon::{NeonOptions, ProjectOptions};
use localcloud::postgres::Flaw;
use serde_json::{Value, json};

use super::client::Project;
use crate::harness::{authority, succeeds};

const SHOP: &str = "CREATE TABLE items (name text); INSERT INTO items VALUES ('first');
    CREATE UNLOGGED TABLE visits (n int); INSERT INTO visits VALUES (1), (2);";
const NAMES: &str = "SELECT string_agg(name, ' ' ORDER BY name) FROM items";

#[tokio::test]
async fn a_row_of_a_second_later_is_absent_from_a_branch_at_that_second() {
    let project = Project::with_rows(SHOP);
    let stamp =
        "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
    let before = project.sql("main", stamp);
    let lsn = project.sql("main", "SELECT pg_current_wal_insert_lsn()");
    tokio::time::sleep(Duration::from_millis(20)).await;
    project.sql("main", "INSERT INTO items VALUES ('second')");
    let head = project.branch("head", true, Value::Null).await;
    project.sql("main", "INSERT INTO items VALUES ('third')");

    let at_time = json!({"parent_timestamp": before});
    let at_time = project.branch("at-time", true, at_time).await;
    let at_lsn = project
        .branch("at-lsn", true, json!({"parent_lsn": lsn}))
        .await;
    assert_eq!(project.sql("main", NAMES), "first second third");
    assert_eq!(project.sql(&head, NAMES), "first second");
    assert_eq!(project.sql(&at_time, NAMES), "first");
    assert_eq!(project.sql(&at_lsn, NAMES), "first");

    // Written on a branch, and there alone; a branch of a branch has it.
    project.sql(&head, "INSERT INTO items VALUES ('own')");
    let child = json!({"parent_id": head});
    let child = project.branch("child", false, child).await;
    assert_eq!(project.sql(&child, NAMES), "first own second");
    assert_eq!(project.sql("main", NAMES), "first second third");

    // What is not logged does not come along.
    let visits = "SELECT count(*) FROM visits";
    assert_eq!(project.sql("main", visits), "2");
    assert_eq!(project.sql(&head, visits), "0");
}

#[tokio::test]
async fn a_compute_sleeps_wakes_by_a_connection_and_keeps_its_address() {
    let certificate = authority().issue(Flaw::None).unwrap();
    let options = NeonOptions {
        certificate: Some(certificate),
        ..NeonOptions::default()
    };
    let seed = ProjectOptions {
        seed: SHOP.to_owned(),
        ..ProjectOptions::default()
    };
    let project = Project::new(options, seed);
    let uri = project.uri(&project.seeded.branch).await;
    assert!(uri.ends_with("?sslmode=require"), "{uri}");
    let query = |uri: &str, sql: &str| {
        let mut psql = Command::new("psql");
        psql.env("PGSSLROOTCERT", authority().root_certificate())
            .arg(uri.replace("sslmode=require", "sslmode=verify-full"))
            .args(["-XqAt", "-c", sql]);
        String::from_utf8(succeeds(&mut psql)).unwrap()
    };
    assert_eq!(query(&uri, NAMES), "first\n");

    let endpoint = format!("/endpoints/{}", project.seeded.endpoint);
    project
        .done("POST", &format!("{endpoint}/suspend"), Value::Null)
        .await;
    let (_, asleep) = project.ask("GET", &endpoint, Value::Null).await;
    assert_eq!(asleep["endpoint"]["current_state"], "idle");
    assert_eq!(query(&uri, "SELECT count(*) FROM visits"), "0\n");
    let (_, awake) = project.ask("GET", &endpoint, Value::Null).await;
    assert_eq!(awake["endpoint"]["current_state"], "active");

    // The pooler hands one server connection to whoever asks next.
    let Project { neon, seeded, .. } = &project;
    let pooled = neon.pooled_url(&seeded.project, &seeded.branch).unwrap();
    let pid = "SELECT pg_backend_pid()";
    assert_eq!(query(&pooled, pid), query(&pooled, pid));
    let traffic = neon.traffic(&seeded.project, &seeded.endpoint).unwrap();
    assert_eq!((traffic.connections, traffic.pooled_connections), (4, 2));

    // A child of a protected branch has a password of its own.
    let protect = json!({"branch": {"protected": true}});
    let branch = format!("/branches/{}", seeded.branch);
    project.done("PATCH", &branch, protect).await;
    let child = project.branch("child", true, Value::Null).await;
    let child = project.uri(&child).await;
    assert_eq!(query(&child, NAMES), "first\n");
    let password = |uri: &str| uri.split(['@']).next().unwrap().to_owned();
    assert_ne!(password(&child), password(&uri));
}

#[tokio::test]
async fn a_restored_branch_is_as_it_was_and_what_it_was_before_is_kept() {
    for restore_keeps_id in [true, false] {
        let options = NeonOptions {
            restore_keeps_id,
            ..NeonOptions::default()
        };
        let seed = ProjectOptions {
            seed: SHOP.to_owned(),
            ..ProjectOptions::default()
        };
        let project = Project::new(options, seed);
        let main = project.seeded.branch.clone();
        let uri = project.uri(&main).await;
        let backup = project.branch("backup", false, Value::Null).await;
        let then = project.sql("main", "SELECT pg_current_wal_insert_lsn()");
        project.sql("main", "DELETE FROM items");

        let body =
            json!({"source_branch_id": main, "source_lsn": then, "preserve_under_name": "before"});
        let path = format!("/branches/{main}/restore");
        let answer = project.done("POST", &path, body).await;
        let restored = answer["branch"]["id"].as_str().unwrap();
        assert_eq!(restored == main, restore_keeps_id);
        assert_eq!(project.uri(restored).await, uri);
        assert_eq!(project.sql("main", NAMES), "first");
        assert_eq!(project.sql("before", NAMES), "");

        let branches = project.neon.branches(&project.seeded.project).unwrap();
        let named = |name| branches.iter().find(|it| it.name == name).unwrap();
        assert!(named("main").is_default && named("main").parent.is_none());
        assert_eq!(
            named("main").endpoint,
            Some(project.seeded.endpoint.clone())
        );
        assert_eq!(named("backup").parent, Some(named("before").id.clone()));

        // And once more, from the branch that was made before all this.
        let body = json!({"source_branch_id": backup, "preserve_under_name": "again"});
        let path = format!("/branches/{restored}/restore");
        project.done("POST", &path, body).await;
        assert_eq!(project.sql("main", NAMES), "first");
        project.sql("main", "INSERT INTO items VALUES ('after')");
        assert_eq!(project.sql("main", NAMES), "after first");
    }
}
