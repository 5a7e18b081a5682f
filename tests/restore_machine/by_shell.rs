//! `docs/RUNBOOK.md`, followed at a shell.

use localcloud::postgres::Major;
use serde_json::Value;

use super::rescue::{Rescue, SHOP, standby, target};
use crate::harness::Shell;

/// Waits for the plan, decides on it, waits for the end.
async fn decided(rescue: &Rescue, shell: Shell, started: &str, decide: &'static str) -> Value {
    let started: Value = serde_json::from_str(started).unwrap();
    let asked = rescue
        .asked(started["executionArn"].as_str().unwrap())
        .await;
    let mut shell = shell.env("PLAN_ID", &asked.plan_id);
    let answer = tokio::task::spawn_blocking(move || shell.run(&[decide]).0);
    let answer = answer.await.unwrap();
    assert!(answer.contains("\"operator\":\"Grace\""), "{answer}");
    let ended = rescue.subject.wait(&asked.execution).await;
    serde_json::json!({"status": ended.status, "error": ended.error, "output": ended.output})
}

#[tokio::test]
async fn the_runbooks_commands_restore_a_database_and_stage_a_table() {
    let rescue = Rescue::new("app", SHOP).await;
    let subject = &rescue.subject;
    let live = target("live-app", &subject.url(), true);
    subject.cloud.configure_targets(vec![live]).await.unwrap();
    let machine = subject.cloud.physical("RestoreMachine").unwrap();
    let function = subject.cloud.function("restore").unwrap().name.clone();
    let shell = |name: &str| {
        Shell::new("docs/RUNBOOK.md", name, Major::debian().unwrap())
            .env("RESTORE_MACHINE", machine)
            .env("RESTORE_FUNCTION", &function)
            .env("OPERATOR", "Grace")
    };
    let run = async |name: &str, block: &'static str| {
        let mut shell = shell(name);
        let ran = tokio::task::spawn_blocking(move || shell.run(&[block]).0);
        ran.await.unwrap()
    };
    let started = run("runbook-refuse", "restore-start").await;
    let ended = decided(
        &rescue,
        shell("runbook-refused"),
        &started,
        "restore-refuse",
    )
    .await;
    assert_eq!(ended["error"], "ApprovalRefused");

    let started = run("runbook-start", "restore-start").await;
    let ended = decided(
        &rescue,
        shell("runbook-approve"),
        &started,
        "restore-approve",
    )
    .await;
    assert_eq!(ended["output"]["verdict"], "proven", "{ended}");
    let items = "SELECT count(*) FROM shop.items";
    assert_eq!(standby().psql("app_restored", items).unwrap(), "3000");

    let started = run("runbook-tables", "restore-tables").await;
    let started: Value = serde_json::from_str(&started).unwrap();
    let asked = rescue
        .asked(started["executionArn"].as_str().unwrap())
        .await;
    rescue
        .approve(&asked, "live-app/app/lifeboat_restored")
        .await
        .unwrap();
    let ended = subject.wait(&asked.execution).await;
    rescue.assert_restored(&ended);
    let staged = "SELECT count(*) FROM lifeboat_restored.items";
    assert_eq!(subject.sql(staged), "3000");
}
