//! One restore on one machine, through the state machine, with the person at the terminal as the one who
//! approves.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use localcloud::{Cloud, Database, Execution};
use serde_json::{Value, json};

use crate::Failure;
use crate::arguments::{Arguments, Restore, TargetUrl};
use crate::ask::{Answer, ask};
use crate::backup::{failure_words, start_with};
use crate::home::Home;
use crate::progress::Voice;
use crate::target::Place;

/// How often the work bucket is looked at for a plan that waits.
const PERIOD: Duration = Duration::from_millis(250);

pub(crate) async fn restore(arguments: Arguments) -> Result<ExitCode, Failure> {
    let home = Home::open(&arguments.home)?;
    let voice = Voice::new(arguments.json);
    let place = prepare_place(&arguments, &home, voice).await?;
    voice.say("starting the cloud: S3, Lambda, Step Functions, Secrets Manager, SNS");
    let targets = vec![place.target.clone()];
    let cloud = start_with(&arguments, &home, Vec::new(), targets).await?;
    let database = choose_database(&cloud, arguments.restore.database.as_deref()).await?;
    configure(&cloud, &database, "").await?;

    voice.say(&format!("planning the restore of {database}"));
    let input = input(&arguments.restore, &database, &place.target.name);
    let execution = loop {
        let running = run(&cloud, &arguments.restore, &input, voice);
        let execution = tokio::select! {
            execution = running => execution?,
            () = voice.follow(cloud.log_lines()) => return Err(localcloud::CloudError::Stopped.into()),
        };
        let roles = missing_roles(&cloud, &execution).await?;
        if !place.create_roles(&roles)? {
            break execution;
        }
        voice.say(&format!(
            "made the roles {} on the private server; planning again",
            roles.join(", ")
        ));
    };
    voice.say("");
    report(&arguments, &cloud, &place, &execution).await
}

/// The roles that a plan could not be carried out for.
async fn missing_roles(cloud: &Cloud, execution: &Execution) -> Result<Vec<String>, Failure> {
    if execution.error.as_deref() != Some("HasObstacles") {
        return Ok(Vec::new());
    }
    let objects = cloud.objects("WorkBucket").await?;
    let Some(key) = objects.keys().rfind(|key| key.ends_with("/plan.json")) else {
        return Ok(Vec::new());
    };
    let plan = cloud.object("WorkBucket", key).await?;
    let plan: Value = serde_json::from_slice(&plan).unwrap_or_default();
    let obstacles = plan["obstacles"].as_array().into_iter().flatten();
    let messages = obstacles.filter(|it| it["code"] == "role");
    let names = messages.filter_map(|it| it["message"].as_str()?.split_once(" name: "));
    let names = names.flat_map(|(_, names)| names.split(", "));
    let names = names.map(|it| it.split(" and ").next().unwrap_or(it).to_owned());
    Ok(names.collect())
}

/// Waiting for a server must not keep Ctrl-C waiting.
async fn prepare_place(arguments: &Arguments, home: &Home, voice: Voice) -> Result<Place, Failure> {
    let is_staging = !arguments.restore.tables.is_empty();
    let live = arguments.database_url.clone().filter(|_| is_staging);
    let url = arguments.restore.target_url.clone();
    let url = url.or_else(|| live.map(TargetUrl));
    if url.is_none() {
        voice.say("starting a private PostgreSQL to restore into");
    }
    let path = home.path.clone();
    let made = tokio::task::spawn_blocking(move || {
        let url = url.as_ref().map(|it| it.0.as_str());
        if is_staging {
            Place::live(&path, url)
        } else {
            Place::standby(&path, url)
        }
    });
    made.await.map_err(|_| Failure::BrokenOff)?
}

/// The database that is named, or the only one that has backups.
pub(crate) async fn choose_database(cloud: &Cloud, named: Option<&str>) -> Result<String, Failure> {
    let objects = cloud.objects("VaultBucket").await?;
    let found: BTreeSet<String> = objects
        .keys()
        .filter(|key| key.ends_with("/manifest.json"))
        .filter_map(|key| Some(key.strip_prefix("backups/")?.split('/').next()?.to_owned()))
        .collect();
    let home = || cloud.home().display().to_string();
    match named {
        Some(name) if found.contains(name) => Ok(name.to_owned()),
        Some(_) if found.is_empty() => Err(Failure::NoBackup(home())),
        Some(_) => Err(Failure::WhichDatabase(found.into_iter().collect())),
        None => {
            let mut found = found.into_iter();
            match (found.next(), found.next()) {
                (Some(only), None) => Ok(only),
                (None, _) => Err(Failure::NoBackup(home())),
                (Some(one), Some(other)) => Err(Failure::WhichDatabase(
                    [one, other].into_iter().chain(found).collect(),
                )),
            }
        }
    }
}

/// Makes the database one of the configuration. Nothing reads its secret in a restore.
pub(crate) async fn configure(cloud: &Cloud, name: &str, extra: &str) -> Result<(), Failure> {
    let database = Database {
        name: name.to_owned(),
        provider: "postgres".to_owned(),
        url: "postgresql://unused@localhost/unused".to_owned(),
        extra: extra.to_owned(),
    };
    Ok(cloud.configure(vec![database]).await?)
}

/// What a person would type as the input of the state machine.
pub(crate) fn input(restore: &Restore, database: &str, target: &str) -> Value {
    let now = jiff::Timestamp::try_from(std::time::SystemTime::now()).unwrap_or_default();
    let now = now.strftime("%Y%m%d_%H%M%S");
    let point = match (&restore.backup, &restore.point) {
        (Some(id), _) => json!({"backup_id": id}),
        (None, Some(time)) => json!({"time": time}),
        (None, None) => json!("latest"),
    };
    let into = |default: String| restore.into.clone().unwrap_or(default);
    let (scope, target) = if !restore.tables.is_empty() {
        let schema = into(format!("lifeboat_{now}"));
        (
            json!({"tables": restore.tables}),
            json!({"staging": {"target": target, "schema": schema}}),
        )
    } else {
        let scope = restore.scope.as_deref().unwrap_or("everything");
        let kind = match scope {
            "data_only" => "existing_tables",
            _ => "new_database",
        };
        let database = into(format!("{}_restored_{now}", database.replace('-', "_")));
        (
            json!(scope),
            json!({kind: {"target": target, "database": database}}),
        )
    };
    json!({
        "database": database, "point": point, "scope": scope, "target": target,
        "owners": restore.owners, "privileges": restore.privileges, "unverified": restore.unverified,
    })
}

async fn run(
    cloud: &Cloud,
    restore: &Restore,
    input: &Value,
    voice: Voice,
) -> Result<Execution, Failure> {
    let before = waiting(cloud).await?;
    let arn = cloud.start_execution("RestoreMachine", input).await?;
    let ended = cloud.wait(&arn);
    tokio::pin!(ended);
    let plan_id = loop {
        tokio::select! {
            execution = &mut ended => return Ok(execution?),
            () = tokio::time::sleep(PERIOD) => {}
        }
        let waiting = waiting(cloud).await?;
        if let Some(plan_id) = waiting.difference(&before).next() {
            break plan_id.clone();
        }
    };
    let plan = cloud
        .object("WorkBucket", &format!("plans/{plan_id}/plan.json"))
        .await?;
    let plan: Value = serde_json::from_slice(&plan).unwrap_or_default();
    let target_name = plan["target_name"].as_str().unwrap_or_default();
    let words = plan_in_words(cloud, &plan_id).await?;
    let answer = ask(restore, &words, target_name).await?;
    decide(cloud, &plan_id, &answer).await?;
    if answer.typed.is_some() {
        voice.say("approved; restoring");
    }
    Ok(ended.await?)
}

/// Plans that ask for approval, by id.
async fn waiting(cloud: &Cloud) -> Result<BTreeSet<String>, Failure> {
    let objects = cloud.objects("WorkBucket").await?;
    let tokens = objects.keys().filter(|key| key.contains("/token-"));
    Ok(tokens
        .filter_map(|key| Some(key.strip_prefix("plans/")?.split('/').next()?.to_owned()))
        .collect())
}

/// As it was published to whom it concerns, without how to approve it from a console.
async fn plan_in_words(cloud: &Cloud, plan_id: &str) -> Result<String, Failure> {
    loop {
        let messages = cloud.published_messages().await?;
        let about = messages.iter().find(|it| it.text.contains(plan_id));
        if let Some(message) = about {
            let text = message.text.split("\n\nDecide before").next();
            let text = text.and_then(|it| it.split_once("\n\n")).map(|it| it.1);
            return Ok(text.unwrap_or(&message.text).to_owned());
        }
        tokio::time::sleep(PERIOD).await;
    }
}

async fn decide(cloud: &Cloud, plan_id: &str, answer: &Answer) -> Result<(), Failure> {
    let operator = &answer.operator;
    let event = match &answer.typed {
        Some(typed) => {
            json!({"approve": {"plan_id": plan_id, "operator": operator, "target_name_typed": typed}})
        }
        None => json!({"refuse": {"plan_id": plan_id, "operator": operator}}),
    };
    let answered = cloud.invoke("restore", &event).await?;
    if answered.failed {
        let error: Value = serde_json::from_slice(&answered.payload).unwrap_or_default();
        let words = error["errorMessage"].as_str().unwrap_or_default();
        return Err(Failure::Function(words.to_owned()));
    }
    Ok(())
}

/// States that end an execution because a person, or the plan, said so.
const DECIDED: [&str; 4] = [
    "NotPlanned",
    "HasObstacles",
    "ApprovalRefused",
    "ApprovalExpired",
];

async fn report(
    arguments: &Arguments,
    cloud: &Cloud,
    place: &Place,
    execution: &Execution,
) -> Result<ExitCode, Failure> {
    let output = execution.output.clone().unwrap_or_default();
    let is_good = execution.status == "SUCCEEDED" && output["is_good"] == true;
    if arguments.json {
        let json = json!({
            "restored": is_good, "report": output,
            "execution": {"arn": execution.arn, "status": execution.status, "error": execution.error, "cause": execution.cause},
        });
        println!("{json:#}");
    } else if is_good {
        println!("{}", output["words"].as_str().unwrap_or_default());
        let vault = |key: &str| {
            let key = output[key].as_str()?;
            cloud.object_file("VaultBucket", key)
        };
        for (what, key) in [
            ("record", "evidence_key"),
            ("differences", "difference_key"),
            ("merge script", "merge_script_key"),
        ] {
            if let Some(file) = vault(key) {
                println!("  {what:<12} {}", file.display());
            }
        }
        if let Some(folder) = &place.folder {
            println!("  server       its files are in {folder}; `localcloud up` runs it");
        }
    } else {
        let error = execution.error.as_deref().unwrap_or_default();
        if DECIDED.contains(&error) {
            let cause = execution.cause.as_deref().unwrap_or_default();
            eprintln!("Nothing was restored ({error}).\n\n{cause}");
        } else {
            eprintln!("{}", failure_words("restore", execution, cloud).await?);
        }
    }
    Ok(if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_input_is_what_a_person_would_type() {
        let restore = Restore {
            backup: Some("20261121T010000Z-nightly".into()),
            into: Some("copy".into()),
            ..Restore::default()
        };
        let whole = input(&restore, "app", "standby");
        assert_eq!(whole["point"]["backup_id"], "20261121T010000Z-nightly");
        assert_eq!(
            whole["target"],
            json!({"new_database": {"target": "standby", "database": "copy"}})
        );
        let tables = Restore {
            tables: vec!["app.users".into()],
            ..Restore::default()
        };
        let tables = input(&tables, "app", "live");
        assert_eq!(tables["scope"], json!({"tables": ["app.users"]}));
        let schema = tables["target"]["staging"]["schema"].as_str().unwrap();
        assert!(schema.starts_with("lifeboat_2"), "{schema}");
    }
}
