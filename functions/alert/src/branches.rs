//! The message about branches: one that could not be made, deleted or looked at, a project
//! that is not as its policy wants it, a temporary branch that was left, or a drill of a branch.

use jiff::Timestamp;
use shared::backup::{BackupId, DatabaseName};
use shared::redact::redact;
use shared::words;

use crate::cause::Cause;
use crate::execution::Execution;
use crate::message::{Message, Vault, last_verified, one_line_of_ascii};

/// The names that the state machines give what no function failed with.
const POSTURE: &str = "Posture";
const LEFTOVER: &str = "Leftover";
const DRILL_FAILED: &str = "BranchDrillFailed";
const DRILL_MISSED: &str = "BranchDrillMissed";

/// All that is known when the message is written.
#[derive(Clone, Debug)]
pub struct Branches<'a> {
    /// None when the run failed as a whole.
    pub database: Option<&'a DatabaseName>,
    pub backup_id: Option<BackupId>,
    pub error: &'a str,
    pub cause: Option<&'a str>,
    pub execution: &'a str,
    pub noticed_at: Timestamp,
    pub vault: Vault,
}

pub fn compose(branches: &Branches<'_>) -> Message {
    let execution = Execution::read(branches.execution);
    let cause = Cause::read(branches.cause);
    let headline = headline(branches);
    let error = if branches.error.is_empty() {
        "an error without a name".to_owned()
    } else {
        redact(branches.error)
    };
    let what = match branches.error {
        POSTURE | DRILL_FAILED | DRILL_MISSED => "What was found".to_owned(),
        _ => format!("What failed: {error}"),
    };
    let mut blocks = vec![format!("Lifeboat: {headline}.")];
    blocks.push(if cause.text.is_empty() {
        format!("{what}. No cause was given.")
    } else {
        format!("{what}\n{}", cause.text)
    });
    blocks.push(facts(branches));
    blocks.push(format!("What it means: {}", meaning(branches)));
    blocks.push(last_verified(&branches.vault, branches.noticed_at));
    blocks.push(format!("What to do now: {}", do_now(branches)));
    if branches.error != LEFTOVER {
        let command = execution.start_command(&again(branches));
        blocks.push(format!("Then look again:\n    {command}"));
    }
    blocks.push(format!("The execution: {}", execution.link()));
    Message {
        subject: one_line_of_ascii(&format!("Lifeboat: {headline}")),
        body: blocks.join("\n\n") + "\n",
    }
}

fn again(branches: &Branches<'_>) -> String {
    let Some(database) = branches.database else {
        return "{}".to_owned();
    };
    match branches.error {
        DRILL_FAILED | DRILL_MISSED => {
            serde_json::json!({"databases": [database], "kind": "branch"}).to_string()
        }
        _ => serde_json::json!({"databases": [database]}).to_string(),
    }
}

fn headline(branches: &Branches<'_>) -> String {
    let database = branches
        .database
        .map_or_else(|| "a database".to_owned(), ToString::to_string);
    match (branches.error, branches.database) {
        (POSTURE, _) => format!("the Neon project of {database} is not as it should be"),
        (LEFTOVER, _) => format!("a temporary branch of {database} is left"),
        (DRILL_FAILED, _) => format!("the branch drill of {database} FAILED"),
        (DRILL_MISSED, _) => format!("the branch drill of {database} missed what was promised"),
        (_, Some(_)) => format!("the branches of {database} FAILED"),
        (_, None) => "the branches run FAILED".to_owned(),
    }
}

fn facts(branches: &Branches<'_>) -> String {
    let known = [
        ("Database", branches.database.map(ToString::to_string)),
        ("Backup", branches.backup_id.map(|it| it.to_string())),
        ("Noticed", Some(words::time(branches.noticed_at))),
    ];
    let lines = known
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name}: {}", value?)));
    lines.collect::<Vec<_>>().join("\n")
}

fn meaning(branches: &Branches<'_>) -> &'static str {
    match branches.error {
        POSTURE => {
            "what is promised of restores inside Neon does not hold, or may soon not. Backups in the vault are taken all the same."
        }
        LEFTOVER => {
            "the backup itself is not affected. The branch that its dump has read holds a copy of production and may cost compute until it is deleted; it expires two days after it was made."
        }
        DRILL_FAILED => {
            "it is not shown that a state of a week ago can be had of Neon within minutes; do not count on it before a drill passes. Production was not touched, and backups in the vault are taken all the same."
        }
        DRILL_MISSED => {
            "a branch of the past can be had, and what is there is right. It took longer, or reached back less far, than was promised, was not deleted, or lacks something that was asked for, which is younger or was lost."
        }
        _ => {
            "snapshot branches may be missing, or too many. No branch that is not Lifeboat's was touched, and backups in the vault are taken all the same."
        }
    }
}

fn do_now(branches: &Branches<'_>) -> &'static str {
    match branches.error {
        POSTURE => "each line above says what to change.",
        LEFTOVER => {
            "nothing, if it was a passing trouble: the next backup or branches run removes it. If that says the same, see what the text above asks for, or delete the branch lifeboat-dump-... in the Neon console."
        }
        DRILL_FAILED => {
            "see above what failed and what to do about it, and whether Neon is well (its status page)."
        }
        DRILL_MISSED => {
            "nothing tonight. Each line above says what to change, or what to look for; a larger dump_compute of [database.neon] makes checks faster, and its block `drill` has the budgets."
        }
        "Refused" => {
            "change what the text above asks for. Without that it fails the same way every time, so nothing was tried twice."
        }
        "Transient" => {
            "see whether Neon is well (its status page) and what the project's operations in its console say; this was tried several times and did not recover."
        }
        _ => {
            "open the execution below and the log of the function that failed; nothing was retried, since nothing says that it would help."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Known;

    fn message(error: &str, cause: &str, database: Option<&DatabaseName>) -> Message {
        compose(&Branches {
            database,
            backup_id: None,
            error,
            cause: Some(cause),
            execution: "arn:aws:states:eu-central-1:123456789012:execution:lifeboat-branches:a-1",
            noticed_at: "2026-11-21T02:05:00Z".parse().unwrap(),
            vault: Vault::Known(Known::default()),
        })
    }

    #[test]
    fn a_posture_is_told_as_findings_and_not_as_a_failure() {
        let app: DatabaseName = "app".parse().unwrap();
        let message = message(
            "Posture",
            "- production is not protected: protect it",
            Some(&app),
        );
        assert_eq!(
            message.subject,
            "Lifeboat: the Neon project of app is not as it should be"
        );
        for words in [
            "What was found\n- production is not protected",
            "Database: app\n",
            "{\"databases\":[\"app\"]}",
        ] {
            assert!(message.body.contains(words), "{}", message.body);
        }
    }

    #[test]
    fn a_leftover_says_that_the_backup_is_not_affected() {
        let app: DatabaseName = "app".parse().unwrap();
        let cause =
            r#"{"errorType":"Transient","errorMessage":"delete a branch: the answer was lost"}"#;
        let body = message("Leftover", cause, Some(&app)).body;
        assert!(body.contains("the backup itself is not affected"), "{body}");
        assert!(
            body.contains("delete a branch: the answer was lost"),
            "{body}"
        );
        assert!(!body.contains("start-execution"), "{body}");
    }

    #[test]
    fn a_drill_of_a_branch_is_told_with_the_command_that_repeats_it() {
        let app: DatabaseName = "app".parse().unwrap();
        for (error, expected) in [
            ("BranchDrillFailed", "the branch drill of app FAILED"),
            (
                "BranchDrillMissed",
                "the branch drill of app missed what was promised",
            ),
        ] {
            let message = message(error, "The branch took 3 min", Some(&app));
            assert_eq!(message.subject, format!("Lifeboat: {expected}"));
            for words in [
                "What was found\nThe branch took 3 min",
                r#"{"databases":["app"],"kind":"branch"}"#,
            ] {
                assert!(message.body.contains(words), "{}", message.body);
            }
        }
    }

    #[test]
    fn a_run_that_failed_as_a_whole_names_no_database() {
        let message = message("Refused", "TIME_ZONE", None);
        assert_eq!(message.subject, "Lifeboat: the branches run FAILED");
        assert!(message.body.contains("change what the text above asks for"));
    }
}
