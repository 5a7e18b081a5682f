//! The state machines: their limits, what they match, and what starts them.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use shared::error::Name;

use super::{properties, recover, refers_to, resources, text_of, vpc};

/// Everything a function can fail with: its own names, then Lambda's for a call that did not reach it.
const OURS: [Name; 4] = [
    Name::Refused,
    Name::Transient,
    Name::OutOfTime,
    Name::Failed,
];
const LAMBDAS: [&str; 4] = [
    "Lambda.TooManyRequestsException",
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
];

const MACHINES: [&str; 6] = ["backup", "branches", "drill", "recover", "restore", "watch"];

/// What our own state machines fail with, or a person's refusal.
const DECISIONS: [&str; 1] = ["ApprovalRefused"];

pub(super) fn definition(machine: &str) -> Value {
    serde_json::from_str(&text_of(&format!("infra/{machine}.asl.json"))).unwrap()
}

/// Every state with its name, those inside of Map and Parallel included.
fn states(machine: &Value) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for (name, state) in machine["States"].as_object().unwrap() {
        found.push((name.clone(), state.clone()));
        let inner = state["Branches"]
            .as_array()
            .into_iter()
            .flatten()
            .chain(state.get("ItemProcessor"));
        found.extend(inner.flat_map(states));
    }
    found
}

pub(super) fn tasks() -> Vec<(String, Value)> {
    let all = MACHINES
        .into_iter()
        .flat_map(|machine| states(&definition(machine)));
    all.filter(|(_, state)| state["Type"] == "Task").collect()
}

pub(super) fn errors_of(rules: &Value) -> BTreeSet<String> {
    let rules = rules.as_array().into_iter().flatten();
    let names = rules.flat_map(|rule| rule["ErrorEquals"].as_array().unwrap());
    names
        .map(|name| name.as_str().unwrap().to_owned())
        .collect()
}

/// A shorter limit would start a second run beside one that still works.
#[test]
fn every_task_waits_thirty_seconds_longer_than_its_function_runs() {
    for (name, task) in tasks() {
        let Some(function) = vpc::called_by(&task) else {
            // A hook may take as long as Lambda lets it.
            assert_eq!(task["TimeoutSeconds"], 930, "{name}");
            continue;
        };
        let limit = properties(function)["Timeout"].as_u64().unwrap();
        if task["Resource"]
            .as_str()
            .unwrap()
            .ends_with(".waitForTaskToken")
        {
            // It waits for a person, as long as the plan lives.
            assert_eq!(task["TimeoutSecondsPath"], "$.plan.expires_in_seconds");
            continue;
        }
        assert_eq!(task["TimeoutSeconds"].as_u64(), Some(limit + 30), "{name}");
    }
}

#[test]
fn only_what_may_pass_is_tried_again() {
    let mut retryable: BTreeSet<String> = LAMBDAS.map(str::to_owned).into();
    retryable.insert(Name::Transient.as_str().to_owned());
    for (name, task) in tasks() {
        let mut expected = retryable.clone();
        expected.extend(recover::died_in(&name));
        expected.extend(vpc::asleep_in(&task));
        assert_eq!(errors_of(&task["Retry"]), expected, "{name}");
    }
}

#[test]
fn every_error_name_that_is_matched_is_one_that_the_code_has() {
    let mut known: BTreeSet<&str> = OURS.map(Name::as_str).into();
    known.extend(LAMBDAS.into_iter().chain(vpc::ASLEEP));
    known.extend(DECISIONS);
    known.extend(recover::DIED.into_iter().chain(["States.ALL"]));
    for machine in MACHINES {
        for (name, state) in states(&definition(machine)) {
            for error in errors_of(&state["Retry"]).union(&errors_of(&state["Catch"])) {
                assert!(known.contains(error.as_str()), "{name} matches {error}");
            }
        }
    }
}

#[test]
fn an_alert_that_fails_hides_no_failure() {
    for (name, task) in tasks() {
        if task["Parameters"]["FunctionName"] == "${AlertArn}" {
            assert_eq!(
                task["Catch"][0]["ErrorEquals"],
                json!(["States.ALL"]),
                "{name}"
            );
            assert_eq!(
                task["Catch"][0]["Next"], task["Next"],
                "{name} ends elsewhere when nobody could be told"
            );
        }
    }
}

/// Outside of a Choice, a path that leads nowhere ends the execution uncaught.
#[test]
fn what_a_choice_compares_is_there_or_has_been_looked_for() {
    // Always there: the plan puts `committed` into every item, a ResultSelector or the machine itself the others.
    let present = [
        "$.backup.committed",
        "$.backup.from_branch",
        "$.any_failed",
        "$.plan.can_be_done",
        "$.apply.remaining",
        "$.report.is_good",
        "$.closed.is_good",
        "$.closed.is_quiet",
    ];
    for (name, state) in MACHINES.iter().flat_map(|it| states(&definition(it))) {
        for rule in state["Choices"].as_array().into_iter().flatten() {
            let Some(all) = rule["And"].as_array() else {
                let looks = rule.get("IsPresent").is_some();
                assert!(
                    looks || present.iter().any(|it| rule["Variable"] == *it),
                    "{name}: {rule}"
                );
                continue;
            };
            for compared in all {
                let looked_for = all
                    .iter()
                    .any(|it| it["IsPresent"] == true && it["Variable"] == compared["Variable"]);
                assert!(looked_for, "{name}: {compared}");
            }
        }
    }
}

/// What is not said to be good is bad; what nobody approved is not begun.
#[test]
fn a_restore_goes_on_only_where_it_is_told_to() {
    let machine = definition("restore");
    let next = |state: &str| &machine["States"][state];
    assert_eq!(next("CanItBeDone")["Default"], "HasObstacles");
    assert_eq!(next("IsGood")["Default"], "NotProven");
    let before_apply: Vec<&String> = machine["States"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, state)| state["Next"] == "Apply")
        .map(|(name, _)| name)
        .collect();
    assert_eq!(before_apply, ["AwaitApproval"]);
    let asked = &next("AwaitApproval")["Parameters"]["Payload"]["await_approval"];
    assert_eq!(asked["token.$"], "$$.Task.Token");
}

#[test]
fn only_a_passed_verdict_counts() {
    let (_, outcome) = states(&definition("backup"))
        .into_iter()
        .find(|(name, _)| name == "Outcome")
        .unwrap();
    assert_eq!(outcome["Default"], "NotVerified");
    let rules = outcome["Choices"].as_array().unwrap();
    assert_eq!(rules.len(), 1);
    assert!(rules[0]["And"].as_array().unwrap().contains(&json!(
        {"Variable": "$.result.verify.verdict", "StringEquals": "passed"}
    )));
}

/// An asynchronous call of a function that fails would reach nobody.
#[test]
fn schedules_start_machines_within_the_hour_or_leave_a_dead_letter() {
    let schedules = resources("AWS::Scheduler::Schedule");
    assert_eq!(schedules.len(), 6);
    for (name, schedule) in schedules {
        let target = &schedule["Target"];
        assert!(
            [
                "BackupMachine",
                "BranchesMachine",
                "DrillMachine",
                "WatchMachine"
            ]
            .iter()
            .any(|it| refers_to(&target["Arn"], it)),
            "{name}"
        );
        assert!(
            refers_to(&target["DeadLetterConfig"]["Arn"], "ScheduleDeadLetters"),
            "{name}"
        );
        assert!(
            target["RetryPolicy"]["MaximumEventAgeInSeconds"]
                .as_u64()
                .unwrap()
                <= 3_600,
            "{name}"
        );
        let input: Value = serde_json::from_str(target["Input"].as_str().unwrap()).unwrap();
        assert_eq!(
            input["scheduled_time"], "<aws.scheduler.scheduled-time>",
            "{name}"
        );
        let its_name = schedule["Name"]["Fn::Sub"].as_str().unwrap();
        assert!(
            its_name.starts_with("${AWS::StackName}-"),
            "{name}: a second stack could not have it"
        );
    }
    let nightly = properties("BackupMachineBackupNightly");
    let input: Value = serde_json::from_str(nightly["Target"]["Input"].as_str().unwrap()).unwrap();
    assert_eq!(
        input,
        json!({"kind": "nightly", "scheduled_time": "<aws.scheduler.scheduled-time>"})
    );
    assert_eq!(
        nightly["ScheduleExpression"],
        json!({"Ref": "NightlySchedule"})
    );
    assert_eq!(
        nightly["ScheduleExpressionTimezone"],
        json!({"Ref": "TimeZone"})
    );
}

#[test]
fn drills_are_held_every_sunday_and_on_the_first_business_day() {
    for (schedule, kind, parameter, expression) in [
        (
            "DrillMachineDrillWeekly",
            "weekly",
            "DrillWeeklySchedule",
            "cron(0 2 ? * SUN *)",
        ),
        (
            "DrillMachineDrillMonthly",
            "monthly",
            "DrillMonthlySchedule",
            "cron(0 3 1W * ? *)",
        ),
    ] {
        let schedule = properties(schedule);
        assert_eq!(schedule["ScheduleExpression"], json!({"Ref": parameter}));
        assert_eq!(
            schedule["ScheduleExpressionTimezone"],
            json!({"Ref": "TimeZone"})
        );
        let default = &super::template()["Parameters"][parameter]["Default"];
        assert_eq!(*default, expression);
        let input = schedule["Target"]["Input"].as_str().unwrap();
        let input: Value = serde_json::from_str(input).unwrap();
        assert_eq!(input["kind"], kind);
        let parsed: shared::schedule::Schedule = expression.parse().unwrap();
        assert_eq!(parsed.to_string(), expression);
    }
}

/// However a drill ends, what it made is destroyed before anything else happens.
#[test]
fn no_way_leads_around_the_teardown_of_a_drill() {
    let machine = definition("drill");
    let each = &machine["States"]["EachDrill"]["ItemProcessor"]["States"];
    let restore = &each["RestoreAndCheck"];
    assert_eq!(restore["Next"], "Destroy");
    let caught: Vec<&Value> = restore["Catch"].as_array().unwrap().iter().collect();
    assert_eq!(caught.len(), 1);
    assert_eq!(caught[0]["ErrorEquals"], json!(["States.ALL"]));
    assert_eq!(caught[0]["Next"], "Destroy");
    assert_eq!(each["Outcome"]["Default"], "WhatWentWrong");
    assert_eq!(each["WhatWentWrong"]["Default"], "NotProven");
    // What leads to the end as proven comes from a passed verdict, with nothing left behind, alone.
    let leading_to = |end: &str| -> Vec<&String> {
        let leads = |state: &Value| {
            let rules = state["Choices"].as_array().into_iter().flatten();
            let mut ends = rules
                .chain([state])
                .flat_map(|it| [&it["Next"], &it["Default"]]);
            ends.any(|it| it == end)
        };
        let states = each.as_object().unwrap().iter();
        states.filter(|it| leads(it.1)).map(|it| it.0).collect()
    };
    assert_eq!(leading_to("Proven"), ["TellMissed", "WasAllKept"]);
    assert_eq!(leading_to("TellMissed"), ["WasAllKept"]);
    assert_eq!(leading_to("WasAllKept"), ["Outcome"]);
    let rules = each["Outcome"]["Choices"].as_array().unwrap();
    assert_eq!(rules.len(), 1);
    for wanted in [
        json!({"Variable": "$.recorded.report.verdict", "StringEquals": "passed"}),
        json!({"Variable": "$.recorded.report.is_destroyed", "BooleanEquals": true}),
    ] {
        assert!(rules[0]["And"].as_array().unwrap().contains(&wanted));
    }
}

/// However a backup ends, the branch that its dump has read is deleted before anything else.
#[test]
fn no_way_leads_around_the_deletion_of_a_dumps_branch() {
    let machine = definition("backup");
    let each = &machine["States"]["EachDatabase"]["ItemProcessor"]["States"];
    let back_up = &each["BackUp"];
    assert_eq!(back_up["Next"], "HadSource");
    assert_eq!(
        back_up["Catch"],
        json!([{"ErrorEquals": ["States.ALL"], "ResultPath": "$.failure", "Next": "HadSource"}])
    );
    assert_eq!(
        each["HadSource"]["Choices"],
        json!([{"Variable": "$.backup.from_branch", "BooleanEquals": true, "Next": "DeleteSource"}])
    );
    // That it could not be deleted is told, and changes nothing about the backup.
    let delete = &each["DeleteSource"];
    assert_eq!(delete["Catch"][0]["Next"], "AlertLeftover");
    assert_eq!(
        (&delete["Next"], &each["AlertLeftover"]["Next"]),
        (&json!("HasFailed"), &json!("HasFailed"))
    );
    assert_eq!(each["HasFailed"]["Default"], "Outcome");
    // What dump is told is the branch's id and moment and its secret's name, and nothing that opens it.
    let create = &back_up["Branches"][0]["States"]["CreateSource"];
    assert_eq!(
        create["ResultSelector"],
        json!({
            "branch_id.$": "$.Payload.source_branch.branch_id",
            "data_as_of.$": "$.Payload.source_branch.data_as_of",
            "lent_as.$": "$.Payload.source_branch.lent_as"
        })
    );
    // Another execution of the same backup has another branch.
    let own = json!({"backup.$": "$.backup", "execution.$": "$.execution"});
    let asked = |step: &Value| step["Parameters"]["Payload"]["dump_source"].clone();
    assert_eq!(asked(create), json!({"create": own}));
    assert_eq!(asked(delete), json!({"delete": own}));
}

#[test]
fn branches_are_made_at_two_every_night() {
    let schedule = properties("BranchesMachineBranchesDaily");
    assert_eq!(
        schedule["ScheduleExpression"],
        json!({"Ref": "BranchesSchedule"})
    );
    assert_eq!(
        schedule["ScheduleExpressionTimezone"],
        json!({"Ref": "TimeZone"})
    );
    let default = &super::template()["Parameters"]["BranchesSchedule"]["Default"];
    assert_eq!(*default, "cron(0 2 * * ? *)");
}

#[test]
fn executions_are_logged_without_what_they_carry() {
    for (name, machine) in resources("AWS::StepFunctions::StateMachine") {
        assert_eq!(
            machine["LoggingConfiguration"]["IncludeExecutionData"], false,
            "{name}"
        );
        let group = properties(&format!("{name}LogGroup"))["LogGroupName"]["Fn::Sub"]
            .as_str()
            .unwrap();
        assert!(group.starts_with("/aws/vendedlogs/states/"), "{name}");
    }
}
