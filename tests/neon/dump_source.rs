//! Backups that read a temporary branch: production is not touched, and nothing is left.

use std::time::Duration;

use localcloud::neon::{NeonFault, NeonFaultAction, ProjectOptions};
use reqwest::Method;
use serde_json::{Value, json};

use super::stage::Stage;
use crate::faults::subject::{rows, wait_until};

const SEED: &str =
    "CREATE TABLE orders AS SELECT i, md5(i::text) AS code FROM generate_series(1, 2000) i;
     CREATE TABLE parts (id int PRIMARY KEY);
     INSERT INTO parts SELECT generate_series(1, 100)";

fn seeded() -> ProjectOptions {
    ProjectOptions {
        seed: SEED.to_owned(),
        ..ProjectOptions::default()
    }
}

/// What production's own statistics know of reads, writes and transactions of its tables.
const STATISTICS: &str = "SELECT string_agg(concat_ws(':', relname, seq_scan, seq_tup_read, coalesce(idx_scan, 0)), ' ' ORDER BY relname)
     FROM pg_stat_user_tables";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nightly_backup_reads_a_branch_and_production_sees_no_query_and_no_lock() {
    let stage = Stage::new("neon-nightly", seeded(), "dump_compute = 0.25").await;
    stage.sql("SELECT pg_stat_force_next_flush()");
    let endpoint = stage.seeded.endpoint.clone();
    let traffic = || {
        stage
            .neon
            .traffic(&stage.seeded.project, &endpoint)
            .unwrap()
    };
    let (statistics, before) = (stage.sql(STATISTICS), traffic());
    // A migration that holds its lock for the whole night would stop a dump of production.
    let project = &stage.seeded.project;
    let ended = std::thread::scope(|scope| {
        let migration = scope.spawn(|| {
            stage.sql(
                "BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(4); ROLLBACK",
            )
        });
        // Written after the branch was made, while its making is still waited for.
        let writer = scope.spawn(|| {
            let has_branch = || stage.branches().len() == 2;
            wait_until(has_branch, "a temporary branch");
            stage.sql("INSERT INTO parts SELECT generate_series(101, 150)");
        });
        stage.neon.faults().add(NeonFault {
            path: format!("/projects/{project}/connection_uri"),
            action: NeonFaultAction::Delay(Duration::from_secs(2)),
            ..NeonFault::default()
        });
        let ended = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(stage.back_up("2026-01-10T01:00:00Z"))
        });
        migration.join().unwrap();
        writer.join().unwrap();
        ended
    });
    let manifest = stage.subject().assert_verified(&ended).await;
    assert_eq!(
        (rows(&manifest, "orders"), rows(&manifest, "parts")),
        (2000, 100)
    );
    assert_eq!(stage.sql("SELECT count(*) FROM parts"), "150");
    assert!(
        manifest["source"]["branch_id"]
            .as_str()
            .unwrap()
            .starts_with("br-")
    );

    assert_eq!(traffic(), before, "somebody connected to production");
    // The writer's own insert has looked up its keys; nothing else has read anything.
    let reads = |it: &str| it.split(' ').next().unwrap().to_owned();
    assert_eq!(reads(&stage.sql(STATISTICS)), reads(&statistics));

    assert_eq!(stage.names(), ["main"], "{}", stage.story());
    let nothing: [String; 0] = [];
    assert_eq!(stage.branch_secrets().await, nothing);
    let history = stage.subject().history(&ended).await;
    for secret in ["npg_", "napi_", stage.neon.key(), "CANARY"] {
        assert!(
            !history.contains(secret),
            "{secret} travelled in the state machine"
        );
        assert!(!stage.cloud.logs("snapshot-branch").contains(secret));
        assert!(!stage.cloud.logs("dump").contains(secret));
    }
}

#[tokio::test]
async fn a_dump_that_fails_leaves_no_branch_and_says_so_as_any_other() {
    let stage = Stage::new("neon-refused", seeded(), "").await;
    // Of the superuser: reading all data does not include large objects.
    stage.sql("SELECT lo_create(424242)");
    let ended = stage.back_up("2026-01-10T01:00:00Z").await;
    let subject = stage.subject();
    subject.assert_failed(&ended, "Refused", &["424242"]).await;
    assert_eq!(stage.names(), ["main"], "{}", stage.story());
    let nothing: [String; 0] = [];
    assert_eq!(stage.branch_secrets().await, nothing);
}

#[tokio::test]
async fn a_branch_that_cannot_be_deleted_is_told_and_removed_by_the_next_run() {
    let stage = Stage::new("neon-left", seeded(), "").await;
    let project = stage.seeded.project.clone();
    stage
        .foreign("lifeboat-dump-of-somebody", Value::Null)
        .await;
    // As long as the state machine tries.
    stage.neon.faults().add(NeonFault {
        method: Some(Method::DELETE),
        path: format!("/projects/{project}/branches/"),
        times: 1,
        action: NeonFaultAction::Limit("SOMETHING_OF_TOMORROW"),
        ..NeonFault::default()
    });
    let ended = stage.back_up("2026-01-10T01:00:00Z").await;
    assert_eq!(ended.status, "SUCCEEDED", "{ended:?}\n{}", stage.story());
    let left = "lifeboat-dump-neon-left-20260110T010000Z-nightly";
    assert_eq!(stage.names(), [left, "lifeboat-dump-of-somebody", "main"]);
    let notices = stage.messages(&ended, "NoticeTopic").await;
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(
        notices[0]
            .text
            .contains("the backup itself is not affected")
    );
    assert!(stage.messages(&ended, "PageTopic").await.is_empty());

    // Young, it may be another run's; old, nobody needs it.
    let ended = stage.back_up("2026-01-11T01:00:00Z").await;
    assert_eq!(ended.status, "SUCCEEDED", "{ended:?}");
    assert!(stage.names().contains(&left.to_owned()));
    stage.age(left, 1);
    let ended = stage.back_up("2026-01-12T01:00:00Z").await;
    assert_eq!(ended.status, "SUCCEEDED", "{ended:?}");
    assert_eq!(stage.names(), ["lifeboat-dump-of-somebody", "main"]);
    let nothing: [String; 0] = [];
    assert_eq!(stage.branch_secrets().await, nothing);
}

#[tokio::test]
async fn asking_twice_for_a_dumps_branch_gives_the_same_one_and_deleting_twice_is_done() {
    let stage = Stage::new("neon-twice", seeded(), "").await;
    let item = json!({"database": stage.name, "kind": "nightly", "scheduled_time": "2026-01-10T01:00:00Z",
        "backup_id": "20260110T010000Z-nightly", "committed": false, "previous": null,
        "from_branch": true, "source_branch": null});
    let create = json!({"dump_source": {"create": item}});
    let first = stage.invoke(&create).await.unwrap();
    let again = stage.invoke(&create).await.unwrap();
    assert_eq!(first["source_branch"], again["source_branch"]);
    assert_eq!(
        (&first["is_new"], &again["is_new"]),
        (&json!(true), &json!(false))
    );
    let branch = stage
        .branches()
        .into_iter()
        .find(|it| it.name != "main")
        .unwrap();
    assert_eq!(branch.parent.as_deref(), Some(&*stage.seeded.branch));
    assert!(branch.expires_at.is_some() && branch.endpoint.is_some());
    // Production's own settings cannot be hit: a child has its own compute.
    assert_ne!(branch.endpoint.as_deref(), Some(&*stage.seeded.endpoint));
    assert_eq!(
        stage.branch_secrets().await,
        ["lifeboat/branch/neon-twice/20260110T010000Z-nightly"]
    );
    let delete = json!({"dump_source": {"delete": item}});
    assert_eq!(stage.invoke(&delete).await.unwrap()["deleted"], true);
    assert_eq!(stage.invoke(&delete).await.unwrap()["deleted"], false);
    assert_eq!(stage.names(), ["main"]);
}

#[tokio::test]
async fn without_passwords_kept_a_dump_still_gets_in_through_its_own_branch() {
    let project = ProjectOptions {
        store_passwords: false,
        ..seeded()
    };
    let stage = Stage::new("neon-no-passwords", project, "").await;
    let ended = stage.back_up("2026-01-10T01:00:00Z").await;
    stage.subject().assert_verified(&ended).await;
    // Only the branch's role got a new password.
    let resets: Vec<String> = stage
        .neon
        .calls()
        .into_iter()
        .filter(|it| {
            it.path.contains(&stage.seeded.project) && it.path.ends_with("/reset_password")
        })
        .map(|it| it.path)
        .collect();
    assert_eq!(resets.len(), 1);
    assert!(!resets[0].contains(&stage.seeded.branch), "{resets:?}");
}
