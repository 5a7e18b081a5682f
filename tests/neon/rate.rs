//! The API's limits are the account's, and the functions that ask at the same time know nothing
//! of each other: together they stay below them.

use jiff::{SignedDuration, Timestamp};
use localcloud::Execution;
use localcloud::neon::{NeonCall, NeonOptions, ProjectOptions};
use serde_json::json;

use super::stage::{Stage, World};

const DATABASES: usize = 200;

/// The most requests within any span of so many seconds.
fn most(calls: &[NeonCall], seconds: i64) -> usize {
    let mut at: Vec<Timestamp> = calls.iter().map(|it| it.at).collect();
    at.sort();
    let span = SignedDuration::from_secs(seconds);
    let within = |first: usize| {
        let later = at[first..].iter();
        later
            .take_while(|it| it.duration_since(at[first]) < span)
            .count()
    };
    (0..at.len()).map(within).max().unwrap_or_default()
}

fn assert_all_done(ended: &Execution) {
    assert_eq!(ended.status, "SUCCEEDED", "{ended:?}");
    let databases = ended.output.as_ref().unwrap()["databases"].clone();
    let databases = databases.as_array().unwrap();
    assert_eq!(databases.len(), DATABASES);
    for database in databases {
        assert_eq!(
            (&database["outcome"], &database["posture"]),
            (&json!("done"), &json!("passed")),
            "{database}"
        );
    }
}

/// Two runs at once are as many functions as ask at night: four of the backups' and four of the
/// branches'. The snapshot branches of a project hold all of its databases, so one of them asks
/// for them; the others are rotated and inspected.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "four minutes: two thousand requests, as fast as they may come"]
async fn two_hundred_databases_of_one_project_stay_below_the_limits_of_the_account() {
    let world = World::start("neon-rate", NeonOptions::default(), |_| {}).await;
    let world: &'static World = Box::leak(Box::new(world));
    let project = ProjectOptions {
        is_protected: true,
        history_retention_seconds: Some(7 * 86_400),
        ..ProjectOptions::default()
    };
    let stage = Stage::of(world, "rate-000", project, "").await;
    let others = (1..DATABASES).map(|n| stage.database(&format!("rate-{n:03}"), "create = []"));
    stage.cloud.configure(others.collect()).await.unwrap();

    let monday = json!({"scheduled_time": "2026-01-12T02:00:00Z"});
    let tuesday = json!({"scheduled_time": "2026-01-13T02:00:00Z"});
    let (first, second) = tokio::join!(
        stage.cloud.run("BranchesMachine", &monday),
        stage.cloud.run("BranchesMachine", &tuesday),
    );
    assert_all_done(&first.unwrap());
    assert_all_done(&second.unwrap());
    assert_eq!(
        stage.names(),
        ["backup-2026-01-12", "backup-2026-01-13", "main"]
    );

    let calls = stage.neon.calls();
    let refused = calls.iter().filter(|it| it.status == 429).count();
    let (second, minute) = (most(&calls, 1), most(&calls, 60));
    let seen = format!(
        "{} calls, {second} in a second, {minute} in a minute, {refused} refused",
        calls.len()
    );
    assert!(second <= 40 && minute <= 700 && refused == 0, "{seen}");
    assert!(calls.len() >= 10 * DATABASES, "{seen}");
    // How close it came to the limits: on a slow machine it stays far below, and measures little.
    println!("{seen}");
}
