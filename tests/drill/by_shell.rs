//! `docs/RUNBOOK.md`, followed at a shell.

use localcloud::postgres::Major;
use serde_json::{Value, json};

use super::rehearsal::Rehearsal;
use crate::harness::Shell;

#[tokio::test]
async fn the_runbooks_commands_start_a_drill_open_its_page_and_verify_the_backup_again() {
    let rehearsal = Rehearsal::new("runbook-drill", "CREATE TABLE t AS SELECT 1 AS i", "").await;
    let cloud = rehearsal.subject.cloud;
    let machine = cloud.physical("DrillMachine").unwrap();
    let vault = cloud.physical("VaultBucket").unwrap();
    let verify = cloud.function("verify").unwrap().name.clone();
    let shell = |name: &str| {
        Shell::new("docs/RUNBOOK.md", name, Major::debian().unwrap())
            .env("DRILL_MACHINE", machine)
            .env("VERIFY_FUNCTION", &verify)
            .env("VAULT", vault)
            .env("DATABASE", "runbook-drill")
            .env("OPERATOR", "Grace")
    };
    let run = async |mut shell: Shell, block: &'static str| {
        let ran = tokio::task::spawn_blocking(move || shell.run(&[block]).0);
        ran.await.unwrap()
    };
    let started = run(shell("runbook-drilled"), "drill-start").await;
    let started: Value = serde_json::from_str(&started).unwrap();
    let execution = started["executionArn"].as_str().unwrap();
    let ended = rehearsal.subject.wait(execution).await;
    let evidence = rehearsal.assert_proven(&ended).await;
    assert_eq!(evidence["drill"]["started_by"], "Grace");

    let output = ended.output.unwrap();
    let page = output["databases"][0]["report_key"].as_str().unwrap();
    let link = run(shell("runbook-page").env("REPORT_KEY", page), "drill-page").await;
    // The link needs nobody's keys.
    let opened = reqwest::get(link.trim()).await.unwrap();
    assert_eq!(opened.status(), 200, "{link}");
    let opened = opened.text().await.unwrap();
    assert!(opened.contains("Proven") && opened.contains("runbook-drill"));

    let answer = run(
        shell("runbook-verify").env("SCHEDULED", "2026-01-02T01:00:00Z"),
        "verify-again",
    )
    .await;
    let verdicts = rehearsal.subject.verdicts().await;
    let verifies = verdicts.iter().filter(|it| it["check"] == json!("verify"));
    assert_eq!(verifies.count(), 2, "{answer}");
    assert!(answer.contains("\"verdict\":\"passed\""), "{answer}");
}
