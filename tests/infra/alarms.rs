//! What reaches a person without any of our functions working.

use serde_json::{Value, json};

use super::{listed, properties, refers_to, resources};

fn alarm_on(namespace: &str, metric: &str, about: Option<&str>) -> &'static Value {
    let matches = |alarm: &Value| {
        let dimension = alarm["Dimensions"].get(0).map(|it| &it["Value"]);
        alarm["Namespace"] == namespace
            && alarm["MetricName"] == metric
            && about.is_none_or(|name| dimension.is_some_and(|value| refers_to(value, name)))
    };
    let found: Vec<_> = resources("AWS::CloudWatch::Alarm")
        .into_iter()
        .filter(|(_, alarm)| matches(alarm))
        .collect();
    assert_eq!(found.len(), 1, "{namespace} {metric} {about:?}");
    found[0].1
}

#[test]
fn every_alarm_pages_and_says_what_it_means() {
    for (name, alarm) in resources("AWS::CloudWatch::Alarm") {
        // It cannot tell a refused restore, or a wrong input, from what broke; the rule can, and pages.
        let topic = match name {
            "DrillFailedAlarm" | "RecoverFailedAlarm" | "RestoreFailedAlarm" => "NoticeTopic",
            _ => "PageTopic",
        };
        assert!(
            listed(&alarm["AlarmActions"])
                .into_iter()
                .any(|it| refers_to(it, topic)),
            "{name}"
        );
        assert!(
            alarm["AlarmDescription"].as_str().unwrap().len() > 30,
            "{name}"
        );
    }
}

/// CloudWatch refuses longer ones, which no linter notices.
#[test]
fn no_alarm_spans_more_than_cloudwatch_allows() {
    for (name, alarm) in resources("AWS::CloudWatch::Alarm") {
        let period = alarm["Period"].as_u64().unwrap();
        let span = period * alarm["EvaluationPeriods"].as_u64().unwrap();
        let limit = if period < 3_600 { 86_400 } else { 604_800 };
        assert!(span <= limit, "{name} spans {span} s");
    }
}

#[test]
fn a_run_of_any_machine_that_ends_badly_is_told_within_a_minute() {
    for machine in [
        "BackupMachine",
        "BranchesMachine",
        "DrillMachine",
        "RecoverMachine",
        "RestoreMachine",
        "WatchMachine",
    ] {
        for metric in [
            "ExecutionsFailed",
            "ExecutionsTimedOut",
            "ExecutionsAborted",
        ] {
            let alarm = alarm_on("AWS/States", metric, Some(machine));
            assert_eq!(
                (&alarm["Period"], &alarm["Threshold"]),
                (&json!(60), &json!(1))
            );
            assert_eq!(alarm["TreatMissingData"], "notBreaching");
        }
    }
}

#[test]
fn a_day_without_a_backup_or_a_look_at_branches_pages_and_a_first_day_does_not() {
    for machine in ["BackupMachine", "BranchesMachine"] {
        let alarm = alarm_on("AWS/States", "ExecutionsSucceeded", Some(machine));
        assert_eq!(
            (&alarm["Period"], &alarm["EvaluationPeriods"]),
            (&json!(3600), &json!(26))
        );
        assert_eq!(alarm["TreatMissingData"], "breaching");
        assert_eq!(
            alarm["WarmUpConfiguration"]["WarmUpPeriodDurationInMinutes"],
            26 * 60
        );
    }
}

#[test]
fn a_late_database_and_a_dead_watcher_both_page() {
    for metric in [
        "BackupOverdueMinutes",
        "BranchDrillOverdueMinutes",
        "ProofOverdueMinutes",
    ] {
        let alarm = alarm_on("Lifeboat", metric, None);
        assert!(
            alarm.get("Dimensions").is_none(),
            "a dimension would hide every other database"
        );
        assert_eq!(
            (&alarm["Statistic"], &alarm["TreatMissingData"]),
            (&json!("Maximum"), &json!("breaching"))
        );
        assert_eq!(
            (&alarm["Period"], &alarm["DatapointsToAlarm"]),
            (&json!(900), &json!(2))
        );
    }
}

#[test]
fn dead_letters_and_undelivered_backstops_page() {
    for rule in [
        "FailedDrillsRule",
        "FailedExecutionsRule",
        "FailedRestoresRule",
    ] {
        alarm_on("AWS/Events", "FailedInvocations", Some(rule));
    }
    for queue in ["ScheduleDeadLetters", "RuleDeadLetters"] {
        alarm_on("AWS/SQS", "ApproximateNumberOfMessagesVisible", Some(queue));
    }
    assert_eq!(
        resources("AWS::SQS::Queue").len(),
        2,
        "a queue without an alarm"
    );
}

#[test]
fn the_rules_report_every_bad_end_of_every_machine_in_words() {
    let mut reported = Vec::new();
    for (name, rule) in resources("AWS::Events::Rule") {
        let detail = &rule["EventPattern"]["detail"];
        assert_eq!(detail["status"], json!(["FAILED", "TIMED_OUT", "ABORTED"]));
        reported.extend(listed(&detail["stateMachineArn"]));
        let target = &rule["Targets"][0];
        assert!(
            refers_to(&target["Arn"], "PageTopic")
                && refers_to(&target["DeadLetterConfig"]["Arn"], "RuleDeadLetters"),
            "{name}"
        );
        assert!(
            target.get("RoleArn").is_none(),
            "{name}: a role may break delivery to an encrypted topic"
        );
        let words = &target["InputTransformer"];
        let template = words["InputTemplate"].as_str().unwrap();
        assert!(template.starts_with("\"Backstop: ") && template.ends_with('"'));
        for part in words["InputPathsMap"].as_object().unwrap().keys() {
            assert!(
                template.contains(&format!("<{part}>")),
                "{name}: {part} is looked up and not said"
            );
        }
    }
    for (machine, _) in resources("AWS::StepFunctions::StateMachine") {
        assert!(
            reported.iter().any(|it| refers_to(it, machine)),
            "{machine}"
        );
    }
    let queue = &properties("RuleDeadLettersPolicy")["PolicyDocument"]["Statement"][0];
    let senders = listed(&queue["Condition"]["ArnEquals"]["aws:SourceArn"]);
    assert_eq!(senders.len(), resources("AWS::Events::Rule").len());
}

/// Whoever typed it is at the console.
#[test]
fn a_drill_with_a_wrong_input_wakes_nobody_and_any_other_that_ends_badly_somebody() {
    let machine: Value = serde_json::from_str(&super::text_of("infra/drill.asl.json")).unwrap();
    let states = &machine["States"];
    let detail = &properties("FailedDrillsRule")["EventPattern"]["detail"];
    let quiet = json!([{"anything-but": [states["NotStarted"]["Error"]]}, {"exists": false}]);
    assert_eq!(detail["error"], quiet);
    // What a schedule starts has nobody who reads an answer.
    let by_schedule = &states["WhoseInput"]["Choices"][0];
    assert_eq!(by_schedule["Variable"], "$.request.scheduled_time");
    assert_eq!(by_schedule["Next"], "AlertRun");
}

/// Whoever started it is at the console; what a person decided is no alarm.
#[test]
fn a_restore_that_a_person_ended_wakes_nobody() {
    let ends = |name: &str| {
        let machine: Value =
            serde_json::from_str(&super::text_of("infra/restore.asl.json")).unwrap();
        machine["States"][name]["Error"].clone()
    };
    let quiet = ["NotPlanned", "HasObstacles", "Refused", "Expired"].map(ends);
    let detail = &properties("FailedRestoresRule")["EventPattern"]["detail"];
    let expected = json!([{"anything-but": quiet}, {"exists": false}]);
    assert_eq!(detail["error"], expected);
    // A recovery of production ends under the same names.
    let recover: Value = serde_json::from_str(&super::text_of("infra/recover.asl.json")).unwrap();
    let states = &recover["States"];
    let ended = |name: &str| states[name]["Error"].clone();
    assert_eq!(quiet[..2], ["NotPlanned", "HasObstacles"].map(ended));
    let refused = &states["AwaitApproval"]["Catch"][0]["ErrorEquals"];
    assert_eq!(*refused, json!([quiet[2]]));
    assert_eq!(states["Expired"]["Result"]["Error"], quiet[3]);
    let all = &properties("FailedExecutionsRule")["EventPattern"]["detail"];
    assert!(all.get("error").is_none());
}
