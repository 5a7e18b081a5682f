use jiff::{Timestamp, ToSpan};
use localcloud::AlarmState;
use serde_json::json;

use crate::start;

fn now() -> Timestamp {
    Timestamp::try_from(std::time::SystemTime::now()).unwrap()
}

#[tokio::test]
async fn alarms_see_the_functions_metrics_and_the_runs_and_page_once() {
    let (cloud, _home) = start(|_| {}).await;
    let gauge = |minutes: u32, at: Timestamp| {
        json!({"print": json!({
            "_aws": {"Timestamp": at.as_millisecond(), "CloudWatchMetrics": [
                {"Namespace": "Probe", "Dimensions": [[]], "Metrics": [{"Name": "OverdueMinutes"}]}]},
            "OverdueMinutes": minutes,
        }).to_string()})
    };
    for (minutes, ago) in [(0, 40), (0, 25), (0, 5)] {
        cloud
            .invoke("probe", &gauge(minutes, now() - ago.minutes()))
            .await
            .unwrap();
    }
    cloud.run("ProbeMachine", &json!({})).await.unwrap();
    let state = |evaluated: &[localcloud::Evaluated], id: &str| {
        evaluated
            .iter()
            .find(|alarm| alarm.logical_id == id)
            .map(|alarm| (alarm.state, alarm.went_off))
    };
    let calm = cloud.evaluate_alarms(now()).await.unwrap();
    assert_eq!(state(&calm, "Overdue"), Some((AlarmState::Ok, false)));
    assert_eq!(state(&calm, "NoSuccess"), Some((AlarmState::Ok, false)));

    for ago in [20, 4] {
        cloud
            .invoke("probe", &gauge(7, now() - ago.minutes()))
            .await
            .unwrap();
    }
    let late = cloud.evaluate_alarms(now()).await.unwrap();
    assert_eq!(state(&late, "Overdue"), Some((AlarmState::Alarm, true)));
    let still = cloud.evaluate_alarms(now()).await.unwrap();
    assert_eq!(state(&still, "Overdue"), Some((AlarmState::Alarm, false)));
    let silent = cloud.evaluate_alarms(now() + 5.hours()).await.unwrap();
    assert_eq!(state(&silent, "NoSuccess"), Some((AlarmState::Alarm, true)));

    let subjects: Vec<_> = cloud
        .published_messages()
        .await
        .unwrap()
        .into_iter()
        .filter_map(|message| message.subject)
        .collect();
    let expected = [
        "ALARM: \"Overdue\" in US East (N. Virginia)",
        "ALARM: \"NoSuccess\" in US East (N. Virginia)",
    ];
    assert_eq!(subjects, expected);
}
