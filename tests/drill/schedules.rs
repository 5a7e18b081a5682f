//! Drills as the schedules start them.

use serde_json::{Value, json};

use super::rehearsal::Rehearsal;
use crate::faults::clouds;

#[tokio::test]
async fn a_fired_sunday_drills_what_has_a_policy_and_says_what_has_none() {
    let cloud: &'static _ = Box::leak(Box::new(clouds::start("sunday", |_| {}).await));
    let sql = "CREATE TABLE t AS SELECT 1 AS i";
    let rehearsal = Rehearsal::of(cloud, "sunday-app", sql, "").await;
    let without =
        crate::faults::subject::Subject::of(cloud, clouds::cluster(), "sunday-blog", sql).await;
    let (from, to) = ("2026-01-11T01:59:00Z", "2026-01-11T02:05:00Z");
    let started = cloud
        .fire_due(from.parse().unwrap(), to.parse().unwrap())
        .await
        .unwrap();
    let machine = cloud
        .physical("DrillMachine")
        .unwrap()
        .rsplit(':')
        .next()
        .unwrap();
    let drills: Vec<_> = started
        .iter()
        .filter(|it| it.contains(&format!(":{machine}:")))
        .collect();
    assert_eq!(drills.len(), 1, "{started:?}");
    let ended = cloud.wait(drills[0]).await.unwrap();
    let evidence = rehearsal.assert_proven(&ended).await;
    assert_eq!(evidence["drill"]["kind"], "weekly");
    assert_eq!(evidence["drill"]["started_by"], "the weekly schedule");
    let output = ended.output.unwrap();
    assert_eq!(output["not_drilled"], json!([without.name]));
}

#[tokio::test]
async fn the_first_weekday_of_the_month_drills_an_old_backup_too() {
    let cloud: &'static _ = Box::leak(Box::new(clouds::start("monthly", |_| {}).await));
    let sql = "CREATE TABLE t AS SELECT 1 AS i";
    let rehearsal = Rehearsal::of(cloud, "monthly-app", sql, "").await;
    // The first is of January; this one is younger than a week.
    let now = jiff::Timestamp::try_from(std::time::SystemTime::now()).unwrap();
    let recent = (now - jiff::SignedDuration::from_hours(2))
        .strftime("%Y-%m-%dT%H:00:00Z")
        .to_string();
    let ended = rehearsal.subject.back_up_at(&recent).await;
    rehearsal.subject.assert_verified(&ended).await;
    let ended = rehearsal
        .drill(&json!({"kind": "monthly", "started_by": "Ada"}))
        .await;
    rehearsal.assert_proven(&ended).await;
    let output = ended.output.unwrap();
    let drilled: Vec<&Value> = output["databases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["backup_id"])
        .collect();
    assert_eq!(drilled.len(), 2, "{output:#}");
    assert_eq!(drilled[1], "20260102T010000Z-on-demand");

    // It fires on the first weekday, which of May 2026 is Friday the 1st, of August Monday the 3rd.
    let machine = cloud.physical("DrillMachine").unwrap().to_owned();
    let due = |day: &str| {
        let (from, to) = (
            format!("2026-{day}T02:59:00Z"),
            format!("2026-{day}T03:01:00Z"),
        );
        let due = cloud
            .due(from.parse().unwrap(), to.parse().unwrap())
            .unwrap();
        due.iter()
            .any(|it| it.target == machine || it.target == "DrillMachine")
    };
    assert!(due("05-01") && due("08-03"));
    assert!(!due("08-01") && !due("05-04"));
}

#[tokio::test]
async fn a_wrong_input_gets_an_answer_that_a_person_understands() {
    let rehearsal = Rehearsal::new("wrong-input", "CREATE TABLE t AS SELECT 1 AS i", "").await;
    for (input, says) in [
        (
            json!({"databases": ["no-such"]}),
            "lifeboat.toml does not know no-such",
        ),
        (json!({"kind": "yearly"}), "unknown variant `yearly`"),
        (
            json!({"database": "wrong-input"}),
            "unknown field `database`",
        ),
        (
            rehearsal.input(&json!({"backup_id": "20200101T010000Z-nightly"})),
            "has no backup 20200101T010000Z-nightly",
        ),
        (
            rehearsal.input(&json!({"backup_id": "yesterday"})),
            "\"yesterday\" is not a backup id",
        ),
    ] {
        let cloud = rehearsal.subject.cloud;
        let ended = cloud.run("DrillMachine", &input).await.unwrap();
        assert_eq!(ended.status, "FAILED", "{input}");
        let name = ended.arn.rsplit(':').next().unwrap();
        let messages = cloud.published_messages().await.unwrap();
        let told = messages
            .iter()
            .any(|it| it.text.contains(name) && it.text.contains(says));
        assert!(told, "{input}: {ended:#?}\n{}", rehearsal.story());
    }
}
