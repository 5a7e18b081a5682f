//! `docs/RUNBOOK.md`, followed at a shell.

use localcloud::client_environment;
use localcloud::postgres::Major;
use serde_json::Value;

use super::rescue::{Rescue, SHOP, standby, target};
use super::terminal::Terminal;
use crate::harness::{Document, Shell, succeeds};

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

    look_and_run_again(&rescue, shell("runbook-again")).await;
    make_restore(&rescue).await;
}

/// Which backups there are, and one more of them.
async fn look_and_run_again(rescue: &Rescue, shell: Shell) {
    let cloud = rescue.subject.cloud;
    let manifest = &rescue.subject.manifests().await[0];
    let id = manifest["backup_id"].as_str().unwrap();
    let mut shell = shell
        .env("MACHINE", cloud.physical("BackupMachine").unwrap())
        .env("VAULT", cloud.physical("VaultBucket").unwrap())
        .env("BACKUP_ID", id);
    let ran = tokio::task::spawn_blocking(move || {
        (shell.run(&["which-backups"]).0, shell.run(&["run-again"]).0)
    });
    let (listed, started) = ran.await.unwrap();
    assert!(listed.contains(&format!("PRE {id}/")), "{listed}");
    assert!(listed.contains("-verify.json"), "{listed}");
    let started: Value = serde_json::from_str(&started).unwrap();
    let arn = started["executionArn"].as_str().unwrap();
    let ended = rescue.subject.wait(arn).await;
    assert_eq!(ended.status, "SUCCEEDED", "{ended:?}");
    assert_eq!(rescue.subject.manifests().await.len(), 2);
}

/// The document's `make restore`, as the Makefile understands it, without compiling anything.
fn as_make_runs_it(rescue: &Rescue) -> String {
    let blocks = Document::read("docs/RUNBOOK.md").blocks();
    let mut lines = blocks.iter().map(|it| it.text.trim());
    let line = lines.find(|it| it.starts_with("make restore VAULT=…"));
    let cloud = rescue.subject.cloud;
    let bucket = |name: &str| cloud.physical(name).unwrap().to_owned();
    let line = line.unwrap();
    let line = line.replace("VAULT=…", &format!("VAULT={}", bucket("VaultBucket")));
    let line = line.replace("WORK=…", &format!("WORK={}", bucket("WorkBucket")));
    let mut make = std::process::Command::new("make");
    make.arg("-n").args(line.split_whitespace().skip(1));
    let printed = succeeds(make.current_dir(localcloud::workspace::root()));
    let printed = String::from_utf8(printed).unwrap();
    let last = printed.trim_end().lines().last().unwrap();
    let (_, arguments) = last.split_once("/localcloud ").unwrap();
    let layer = cloud.home().join("layer");
    format!(
        "{arguments} --config '{}' --into app_by_make",
        layer.display()
    )
}

async fn make_restore(rescue: &Rescue) {
    let command = as_make_runs_it(rescue);
    let mut terminal = Terminal::new(&command);
    terminal.envs(client_environment(rescue.subject.cloud));
    let printed = tokio::task::spawn_blocking(move || terminal.run("standby/app_by_make"));
    let printed = printed.await.unwrap();
    assert!(printed.contains("PROVEN"), "{printed}");
    assert!(printed.contains("Approved by Grace"), "{printed}");
    let items = "SELECT count(*) FROM shop.items";
    assert_eq!(standby().psql("app_by_make", items).unwrap(), "3000");
}
