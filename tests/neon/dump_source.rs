//! Backups that read a temporary branch: production is not touched, and nothing is left.

use std::sync::Arc;
use std::time::Duration;

use localcloud::neon::{NeonFault, NeonFaultAction, ProjectOptions};
use reqwest::Method;
use serde_json::{Value, json};
use shared::sealed::sha256;
use tokio::sync::Semaphore;

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
    let backup = "lifeboat-dump-neon-left-20260110T010000Z-nightly";
    let left = format!("{backup}-{}", &sha256(ended.arn.as_bytes())[..8]);
    let left = left.as_str();
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

/// The schedule comes twice, or an operator starts it once more while it runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_runs_of_one_night_the_first_to_end_leaves_the_others_branch_alone() {
    let stage = Stage::new("neon-at-once", seeded(), "").await;
    let gate = Arc::new(Semaphore::new(0));
    stage.neon.faults().add(NeonFault {
        path: format!("/projects/{}/connection_uri", stage.seeded.project),
        times: u32::MAX,
        action: NeonFaultAction::Hold(gate.clone()),
        ..NeonFault::default()
    });
    let night = "2026-01-10T01:00:00Z";
    let (a, b) = (
        stage.begin_backup(night).await,
        stage.begin_backup(night).await,
    );
    tokio::task::block_in_place(|| {
        let has_both = || stage.branches().len() == 3;
        wait_until(has_both, "a branch for each run");
    });
    let (a, b) = (stage.cloud.wait(&a), stage.cloud.wait(&b));
    let (mut a, mut b) = (Box::pin(a), Box::pin(b));
    // Whichever asks first.
    gate.add_permits(1);
    let first = async {
        tokio::select! {
            ended = &mut a => (ended.unwrap(), true),
            ended = &mut b => (ended.unwrap(), false),
        }
    };
    // The one permit may go to a request whose client has gone.
    let first = tokio::time::timeout(Duration::from_secs(300), first).await;
    let (first, is_a) = first.expect("neither of the two came to its end");
    stage.subject().assert_verified(&first).await;
    assert_eq!(stage.branches().len(), 2, "{}", stage.story());
    gate.add_permits(100);
    let second = if is_a { b.await } else { a.await }.unwrap();
    assert_ne!(first.arn, second.arn);
    stage.subject().assert_verified(&second).await;
    assert_eq!(stage.subject().manifests().await.len(), 1);
    // Both have dumped.
    let log = stage.cloud.logs("dump");
    let lost = |line: &&str| line.contains("neon-at-once") && line.contains("AlreadyCommitted");
    assert_eq!(log.lines().filter(lost).count(), 1, "{}", stage.story());
    assert_eq!(stage.names(), ["main"], "{}", stage.story());
    let nothing: [String; 0] = [];
    assert_eq!(stage.branch_secrets().await, nothing);
}

#[tokio::test]
async fn asking_twice_for_a_dumps_branch_gives_the_same_one_and_deleting_twice_is_done() {
    let stage = Stage::new("neon-twice", seeded(), "").await;
    let item = json!({"database": stage.name, "kind": "nightly", "scheduled_time": "2026-01-10T01:00:00Z",
        "backup_id": "20260110T010000Z-nightly", "committed": false, "previous": null,
        "from_branch": true, "source_branch": null});
    let of = |execution: &str| json!({"backup": item, "execution": execution});
    let create = json!({"dump_source": {"create": of("a")}});
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
    let lent_as = first["source_branch"]["lent_as"].as_str().unwrap();
    assert_eq!(
        stage.branch_secrets().await,
        [format!("lifeboat/branch/neon-twice/{lent_as}")]
    );
    // Tonight's backup is never of another night's branch.
    let mut tomorrow = item.clone();
    tomorrow["scheduled_time"] = json!("2026-01-11T01:00:00Z");
    tomorrow["backup_id"] = json!("20260111T010000Z-nightly");
    tomorrow["source_branch"] = first["source_branch"].clone();
    let error = stage.call("DumpFunction", &tomorrow).await.unwrap_err();
    assert!(
        error.contains("which was not made for 20260111T010000Z-nightly"),
        "{error}"
    );
    let of_another = json!({"dump_source": {"delete": of("b")}});
    assert_eq!(stage.invoke(&of_another).await.unwrap()["deleted"], false);
    assert_eq!(
        (stage.branches().len(), stage.branch_secrets().await.len()),
        (2, 1)
    );
    let delete = json!({"dump_source": {"delete": of("a")}});
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
