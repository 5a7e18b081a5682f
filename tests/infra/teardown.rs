//! What the state machines make, they remove.

use serde_json::json;

use super::machines::definition;

/// However a drill of a branch ends, the branch is deleted before anything else.
#[test]
fn no_way_leads_around_the_deletion_of_a_drilled_branch() {
    let machine = definition("drill");
    let each = &machine["States"]["EachDrill"]["ItemProcessor"]["States"];
    for (state, next, caught) in [
        ("LendBranch", "ExamineBranch", "NotLent"),
        ("ExamineBranch", "DeleteBranch", "DeleteBranch"),
    ] {
        assert_eq!(each[state]["Next"], next);
        assert_eq!(
            each[state]["Catch"],
            json!([{"ErrorEquals": ["States.ALL"], "ResultPath": "$.ended.failure", "Next": caught}])
        );
    }
    let not_lent = &each["NotLent"];
    assert_eq!(not_lent["Next"], "DeleteBranch");
    // What it puts in the place of what was known has all of it.
    assert_eq!(
        (&not_lent["Parameters"], &not_lent["ResultPath"]),
        (
            &json!({
                "begun_at.$": "$.ended.begun_at", "failure.$": "$.ended.failure",
                "given_up_at.$": "$$.State.EnteredTime"
            }),
            &json!("$.ended")
        )
    );
    let delete = &each["DeleteBranch"];
    assert_eq!(
        (&delete["Next"], &delete["Catch"][0]["Next"]),
        (&json!("RecordBranch"), &json!("RecordBranch"))
    );
    for decides in ["IsBranchWell", "HasBranchPassed"] {
        let rules = each[decides]["Choices"].as_array().unwrap();
        assert_eq!(
            (rules.len(), &rules[0]["Next"]),
            (1, &json!("BranchPassed"))
        );
        assert!(rules[0]["And"].as_array().unwrap().contains(&json!(
            {"Variable": "$.recorded.report.verdict", "StringEquals": "passed"}
        )));
    }
    // How to reach it is in a secret.
    let carried = each["LendBranch"]["ResultSelector"].to_string();
    assert!(
        !carried.contains("uri") && !carried.contains("url"),
        "{carried}"
    );
}
