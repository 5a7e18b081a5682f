//! The one machine that changes production.

use serde_json::Value;

use super::machines::definition;

/// What becomes of an invocation that dies on the way, or whose time was not enough.
pub(super) const DIED: [&str; 5] = [
    "OutOfTime",
    "Sandbox.Timedout",
    "States.Timeout",
    "Runtime.ExitError",
    "Lambda.Unknown",
];

/// From the change on, a step that died is asked for again: what production is has to be known
/// before writes go on.
pub(super) fn died_in(state: &str) -> Vec<String> {
    match state {
        "Promote" | "Smoke" | "Close" => DIED.map(str::to_owned).into(),
        _ => Vec::new(),
    }
}

/// Production changes in one step, and nothing leads there but approval, branch and checks.
#[test]
fn production_is_put_back_only_after_approval_and_checks_and_writes_always_go_on() {
    let machine = definition("recover");
    let states = machine["States"].as_object().unwrap();
    let leading_to = |end: &str| -> Vec<&String> {
        let leads = |state: &Value| {
            let lists = [&state["Choices"], &state["Catch"]];
            let rules = lists.into_iter().filter_map(Value::as_array).flatten();
            let mut ends = rules
                .chain([state])
                .flat_map(|it| [&it["Next"], &it["Default"]]);
            ends.any(|it| it == end)
        };
        states
            .iter()
            .filter(|it| leads(it.1))
            .map(|it| it.0)
            .collect()
    };
    assert_eq!(
        leading_to("Promote"),
        ["FreezeAgain", "IsThereAFreezeToRepeat"]
    );
    assert_eq!(leading_to("FreezeAgain"), ["IsThereAFreezeToRepeat"]);
    assert_eq!(leading_to("IsThereAFreezeToRepeat"), ["Validate"]);
    assert_eq!(leading_to("Validate"), ["Prepare"]);
    assert_eq!(leading_to("Prepare"), ["AwaitApproval"]);
    let changing = states
        .values()
        .filter(|it| it["Parameters"]["Payload"]["recover"]["promote"].is_object());
    assert_eq!(changing.count(), 1);
    // Once writes may have been stopped, every way leads to the hook that lets them go on.
    for state in [
        "Freeze",
        "FreezeAgain",
        "AwaitApproval",
        "Prepare",
        "Validate",
        "Promote",
        "Smoke",
    ] {
        for caught in states[state]["Catch"].as_array().unwrap() {
            assert!(
                ["IsThereAnUnfreeze", "Expired"].contains(&caught["Next"].as_str().unwrap()),
                "{state}"
            );
        }
    }
    assert_eq!(states["Expired"]["Next"], "IsThereAnUnfreeze");
    assert_eq!(leading_to("TellRecovered"), ["IsGood"]);
    assert_eq!(states["IsGood"]["Default"], "AlertNotRecovered");
}
