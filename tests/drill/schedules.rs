//! Drills as the schedules start them.

use ::drill::evidence::Evidence;
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
    assert_each_is_timed_on_its_own(&rehearsal).await;
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
    assert_waits_for_a_business_day(&rehearsal).await;
}

/// The second of a run's drills has waited for the first, and that is none of its own time.
async fn assert_each_is_timed_on_its_own(rehearsal: &Rehearsal) {
    let mut both: Vec<Evidence> = Vec::new();
    for key in rehearsal.evidence_keys().await {
        both.push(serde_json::from_slice(&rehearsal.read(&key).await).unwrap());
    }
    both.sort_by_key(|it| it.timing.begun_at);
    let [first, second] = &both[..] else {
        panic!("{} drills", both.len())
    };
    assert_eq!(first.drill.started_at, second.drill.started_at);
    assert!(second.timing.begun_at > first.finished_at - jiff::SignedDuration::from_secs(1));
    for drill in &both {
        let seconds = drill.finished_at.duration_since(drill.timing.begun_at);
        let whole = drill.timing.budgets.iter().find(|it| it.name == "total");
        assert_eq!(whole.unwrap().seconds, Some(seconds.as_secs_f64()));
        assert!(drill.timing.measured_rto_seconds.unwrap() <= seconds.as_secs_f64());
        let prepare = &drill.timing.steps[0];
        assert_eq!(
            (prepare.name.as_str(), prepare.started_at),
            ("prepare", drill.timing.begun_at)
        );
    }
}

/// With all of the month's days so far as holidays, today included.
async fn assert_waits_for_a_business_day(rehearsal: &Rehearsal) {
    let cloud = rehearsal.subject.cloud;
    let now = jiff::Timestamp::try_from(std::time::SystemTime::now()).unwrap();
    let today = now.to_zoned(jiff::tz::TimeZone::UTC).date();
    let days: Vec<String> = (1..=today.day())
        .map(|day| format!("'{}'", today.with().day(day).build().unwrap()))
        .collect();
    let file = cloud.home().join("layer/lifeboat.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let holidays = format!("holidays = [{}]\n{text}", days.join(", "));
    std::fs::write(&file, holidays).unwrap();
    let scheduled = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let input = json!({"kind": "monthly", "scheduled_time": scheduled});
    // A warm function has read the other configuration only for that invocation.
    let execution = cloud.start_execution("DrillMachine", &input).await.unwrap();
    let request = json!({"executionArn": execution, "maxResults": 1000});
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let target = "AWSStepFunctions.GetExecutionHistory";
        let history = cloud
            .api("states", target, &request)
            .await
            .unwrap()
            .to_string();
        if history.contains("WaitForBusinessDay") {
            assert!(!history.contains("EachDrill"), "{history}");
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{history}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    cloud.stop_execution(&execution).await.unwrap();
    rehearsal.subject.wait(&execution).await;
    std::fs::write(&file, text).unwrap();
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
        (json!("drill it"), "invalid type: string"),
    ] {
        let cloud = rehearsal.subject.cloud;
        let ended = cloud.run("DrillMachine", &input).await.unwrap();
        assert_eq!(
            (ended.status.as_str(), ended.error.as_deref()),
            ("FAILED", Some("NotStarted"))
        );
        let cause = ended.cause.as_deref().unwrap();
        assert!(cause.contains(says), "{input}: {cause}");
        // Whoever typed it is there to read it.
        let woken = rehearsal.messages(&ended, "PageTopic").await;
        assert!(woken.is_empty(), "{input}: {woken:#?}");
    }
    // Nobody reads what a schedule is answered.
    let now = jiff::Timestamp::try_from(std::time::SystemTime::now()).unwrap();
    let input = json!({"databases": ["no-such"], "scheduled_time": now});
    let ended = rehearsal
        .subject
        .cloud
        .run("DrillMachine", &input)
        .await
        .unwrap();
    assert_eq!(
        (ended.status.as_str(), ended.error.as_deref()),
        ("FAILED", Some("Refused"))
    );
    let says = ["lifeboat.toml does not know no-such"];
    rehearsal.assert_told(&ended, &says).await;
}
