//! One restore drill on one machine: the latest verified backup, restored, compared, destroyed.

use std::process::ExitCode;

use localcloud::{Cloud, Execution};
use serde_json::{Value, json};

use crate::Failure;
use crate::arguments::Arguments;
use crate::backup::{failure_words, start_with};
use crate::home::Home;
use crate::progress::Voice;
use crate::restore::{choose_database, configure};
use crate::target::{Place, STANDBY};

pub(crate) async fn drill(arguments: Arguments) -> Result<ExitCode, Failure> {
    let home = Home::open(&arguments.home)?;
    let voice = Voice::new(arguments.json);
    let url = arguments.restore.target_url.clone();
    if url.is_none() {
        voice.say("starting a private PostgreSQL to restore into");
    }
    let path = home.path.clone();
    let place = tokio::task::spawn_blocking(move || {
        Place::standby(&path, url.as_ref().map(|it| it.0.as_str()))
    });
    let place = place.await.map_err(|_| Failure::BrokenOff)??;
    voice.say("starting the cloud: S3, Lambda, Step Functions, Secrets Manager, SNS");
    let targets = vec![place.target.clone()];
    let cloud = start_with(&arguments, &home, Vec::new(), targets).await?;
    let database = choose_database(&cloud, arguments.restore.database.as_deref()).await?;
    let policy = format!("[database.drill]\ntarget = \"{STANDBY}\"\nroles = \"create\"\n");
    configure(&cloud, &database, &policy).await?;

    voice.say(&format!(
        "running the state machine: restore, check and destroy a copy of {database}"
    ));
    let execution = {
        let mut input = json!({"kind": "on-demand", "databases": [database]});
        if let Some(id) = &arguments.restore.backup {
            input["backup_id"] = json!(id);
        }
        let running = cloud.run("DrillMachine", &input);
        tokio::select! {
            execution = running => execution?,
            () = voice.follow(cloud.log_lines()) => return Err(localcloud::CloudError::Stopped.into()),
        }
    };
    voice.say("");
    report(&arguments, &cloud, &execution, &database).await
}

async fn report(
    arguments: &Arguments,
    cloud: &Cloud,
    execution: &Execution,
    database: &str,
) -> Result<ExitCode, Failure> {
    let record = record_of(cloud, database, &execution.arn).await?;
    let proven = execution.status == "SUCCEEDED";
    let page = record
        .as_ref()
        .map(|(key, _)| key.replace(".json", ".html"));
    let page = page.and_then(|key| cloud.object_file("VaultBucket", &key));
    if arguments.json {
        let json = json!({
            "proven": proven, "record": record.map(|(_, record)| record), "report": page,
            "execution": {"arn": execution.arn, "status": execution.status, "error": execution.error, "cause": execution.cause},
        });
        println!("{json:#}");
    } else {
        if let Some((_, record)) = &record {
            println!("{}", words(database, record, execution));
        }
        if let Some(page) = page {
            println!("  report     {}", page.display());
        }
        if !proven {
            eprintln!(
                "{}",
                failure_words("proven backup", execution, cloud).await?
            );
        }
    }
    Ok(if proven {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The record that this execution has written, and its key.
async fn record_of(
    cloud: &Cloud,
    database: &str,
    execution: &str,
) -> Result<Option<(String, Value)>, Failure> {
    let objects = cloud.objects("VaultBucket").await?;
    let prefix = format!("evidence/{database}/");
    let keys = objects.into_keys().rev();
    let records = keys.filter(|key| key.starts_with(&prefix) && key.ends_with("-drill.json"));
    // An earlier run on the same folder left its own; the newest may be one of them.
    for key in records {
        let json = cloud.object("VaultBucket", &key).await?;
        let record: Value = serde_json::from_slice(&json).unwrap_or_default();
        if record["drill"]["execution"] == execution {
            return Ok(Some((key, record)));
        }
    }
    Ok(None)
}

/// The verdict, and every check that did not pass.
fn words(database: &str, record: &Value, execution: &Execution) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let verdict = text(&record["verdict"]);
    let word = match verdict.as_str() {
        "passed" => "Proven backup",
        _ => "NOT a proven backup",
    };
    let mut words = format!(
        "{word} of {database}: {}, the drill's verdict is {verdict}\n",
        text(&record["drill"]["backup_id"])
    );
    let checks = record["checks"].as_array().into_iter().flatten();
    for check in checks {
        let status = text(&check["status"]);
        if status != "passed" && status != "note" {
            let (code, summary) = (text(&check["code"]), text(&check["summary"]));
            words.push_str(&format!("  {status:<12} {code}: {summary}\n"));
        }
    }
    let output = execution.output.as_ref();
    let missed = output.map(|it| &it["databases"][0]["missed"]);
    for missed in missed.and_then(Value::as_array).into_iter().flatten() {
        words.push_str(&format!("  missed       {}\n", text(missed)));
    }
    words
}
