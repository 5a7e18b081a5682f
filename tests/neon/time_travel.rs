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

    // The address stays when the password is another, and the old one is refused.
    let role = format!("{branch}/roles/neondb_owner/reset_password");
    project.done("POST", &role, Value::Null).await;
    let changed = project.uri(&seeded.branch).await;
    assert_ne!(password(&changed), password(&uri));
    assert_eq!(query(&changed, NAMES), "first\n");
    let old = Command::new("psql")
        .arg(&uri)
        .args(["-c", "SELECT 1"])
        .output();
    let refusal = String::from_utf8(old.unwrap().stderr).unwrap();
    assert!(
        refusal.contains("password authentication failed"),
        "{refusal}"
    );
}

#[tokio::test]
async fn a_snapshot_becomes_a_branch_that_takes_the_place_of_its_source() {
    let project = Project::with_rows(SHOP);
    let main = project.seeded.branch.clone();
    let path = format!("/branches/{main}/snapshot?name=evening");
    let snapshot = project.done("POST", &path, Value::Null).await;
    let snapshot = snapshot["snapshot"]["id"].as_str().unwrap().to_owned();
    project.sql("main", "DELETE FROM items");

    let body = json!({"name": "look", "target_branch_id": main});
    let path = format!("/snapshots/{snapshot}/restore");
    let answer = project.done("POST", &path, body).await;
    let restored = answer["branch"]["id"].as_str().unwrap();
    assert_eq!(answer["branch"]["restored_from"], snapshot.as_str());
    assert_eq!(project.sql("look", NAMES), "first");
    let path = format!("/branches/{restored}/finalize_restore");
    project.done("POST", &path, Value::Null).await;
    let branches = project.neon.branches(&project.seeded.project).unwrap();
    let default = branches.iter().find(|it| it.is_default).unwrap();
    assert_eq!(
        (default.id.as_str(), default.name.as_str()),
        (restored, "main")
    );
    assert_eq!(default.endpoint, Some(project.seeded.endpoint.clone()));
    assert_eq!(project.sql("main (old)", NAMES), "");

    let path = format!("/snapshots/{snapshot}");
    let (status, _) = project.ask("DELETE", &path, Value::Null).await;
    assert_eq!(status, 202);
}

#[test]
fn every_server_ends_with_its_stand_in_and_with_the_process() {
    let project = Project::with_rows(SHOP);
    let data = project.sql("main", "SHOW data_directory");
    let pid = postmaster(&data);
    assert!(is_running(&pid));
    drop(project);
    assert!(!is_running(&pid));
    assert!(!std::path::Path::new(&data).exists());

    // The test program itself, as a child that is killed without a chance to tidy up.
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["hold_a_stand_in_for_a_while", "--ignored", "--nocapture"]);
    let mut child = child.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    let data = std::io::BufRead::lines(stdout)
        .map_while(Result::ok)
        .find_map(|line| Some(line.split_once("data in ")?.1.to_owned()))
        .unwrap();
    let pid = postmaster(&data);
    child.kill().unwrap();
    child.wait().unwrap();
    for _ in 0..200 {
        if !is_running(&pid) {
            // Whoever comes next removes the files.
            drop(Project::new(
                NeonOptions::default(),
                ProjectOptions::default(),
            ));
            assert!(!std::path::Path::new(&data).exists());
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("the server outlived its parent");
}

fn postmaster(data: &str) -> String {
    let file = std::fs::read_to_string(format!("{data}/postmaster.pid")).unwrap();
    file.lines().next().unwrap().to_owned()
}

fn is_running(pid: &str) -> bool {
    std::path::Path::new("/proc").join(pid).exists()
}

#[test]
#[ignore = "the child of every_server_ends_with_its_stand_in_and_with_the_process"]
fn hold_a_stand_in_for_a_while() {
    let project = Project::with_rows(SHOP);
    println!("data in {}", project.sql("main", "SHOW data_directory"));
    std::thread::sleep(Duration::from_secs(60));
}

#[tokio::test]
async fn a_restored_branch_is_as_it_was_and_what_it_was_before_is_kept() {
    for restore_keeps_id in [true, false] {
        let seed = ProjectOptions {
            seed: SHOP.to_owned(),
            restore_keeps_id,
            ..ProjectOptions::default()
        };
        let project = Project::new(NeonOptions::default(), seed);
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
