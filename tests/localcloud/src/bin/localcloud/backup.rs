//! One backup, from nothing to a verdict.

use std::collections::BTreeMap;
use std::process::ExitCode;

use localcloud::{Cloud, Database, Execution, Options, Target};
use serde_json::{Value, json};

use crate::Failure;
use crate::arguments::Arguments;
use crate::home::Home;
use crate::neon::{self, Project};
use crate::progress::Voice;
use crate::report::{Manifest, Report, Verdict};
use crate::source::Source;

pub(crate) async fn backup(arguments: Arguments) -> Result<ExitCode, Failure> {
    let home = Home::open(&arguments.home)?;
    let voice = Voice::new(arguments.json);
    let neon = Project::if_asked(&arguments, voice).await?;
    let source = match &neon {
        Some(project) => Source::of(project.database()),
        None => prepare_source(&arguments, &home, voice).await?,
    };
    voice.say("starting the cloud: S3, Lambda, Step Functions, Secrets Manager, SNS");
    let mut options = options(&arguments, &home)?;
    options.databases = vec![source.database.clone()];
    if let Some(project) = &neon {
        options.parameters.extend([project.parameter()]);
    }
    let cloud = Cloud::start(options).await?;
    if let Some(project) = &neon {
        project.put_key(&cloud).await?;
    }
    let name = &source.database.name;

    let before = cloud.objects("VaultBucket").await?;
    voice.say(&format!(
        "running the state machine: dump and verify {name}"
    ));
    let input = match &neon {
        Some(_) => neon::nightly(name),
        None => json!({"kind": "on-demand", "databases": [name]}),
    };
    let mut execution = run(&cloud, "BackupMachine", &input, voice).await?;
    let found = find_report(&cloud, name, &before).await?;
    let mut verified =
        execution.status == "SUCCEEDED" && found.as_ref().is_some_and(Report::is_verified);
    if let Some(report) = found.as_ref().filter(|_| !arguments.json) {
        println!("{}", report.text());
    }
    if neon.is_some() && verified {
        voice.say("running the state machine: branches of every Neon project");
        let input = neon::branches(name);
        execution = run(&cloud, "BranchesMachine", &input, voice).await?;
        verified = execution.status == "SUCCEEDED";
    }
    if arguments.json {
        let mut value = json_of(&execution, found.as_ref(), &cloud, verified).await?;
        if let Some(project) = &neon {
            value["neon"] = project.json()?;
        }
        println!("{value:#}");
    } else {
        if let Some(project) = &neon {
            println!("{}", project.text()?);
        }
        if verified && neon.is_none() {
            println!("{}", next_steps(&arguments));
        }
        if !verified {
            eprintln!(
                "{}",
                failure_words("verified backup", &execution, &cloud).await?
            );
        }
    }
    Ok(if verified {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs a state machine to its end, and shows how far it is.
async fn run(
    cloud: &Cloud,
    machine: &str,
    input: &Value,
    voice: Voice,
) -> Result<Execution, Failure> {
    let execution = tokio::select! {
        execution = cloud.run(machine, input) => execution?,
        () = voice.follow(cloud.log_lines()) => return Err(localcloud::CloudError::Stopped.into()),
    };
    voice.say("");
    Ok(execution)
}

/// A backup that nobody restored is a hope.
fn next_steps(arguments: &Arguments) -> String {
    let home = if arguments.home == std::path::Path::new(".lifeboat") {
        String::new()
    } else {
        format!(" --home {}", arguments.home.display())
    };
    format!(
        "It is verified, not proven: prove it with a drill, which restores it into a scratch database and compares every table\n\
         \x20 make drill        (or: localcloud drill{home})\n\
         or restore it for use, into a new database\n\
         \x20 make restore      (or: localcloud restore{home})"
    )
}

/// The given database, or the private server; waiting for one must not keep Ctrl-C waiting.
pub(crate) async fn prepare_source(
    arguments: &Arguments,
    home: &Home,
    voice: Voice,
) -> Result<Source, Failure> {
    if let Some(url) = &arguments.database_url {
        return Source::given(url);
    }
    voice.say("starting a private PostgreSQL");
    let path = home.path.clone();
    let made =
        tokio::task::spawn_blocking(move || Source::sample(&path, &|text| voice.say(text))).await;
    made.map_err(|_| Failure::BrokenOff)?
}

pub(crate) async fn start_with(
    arguments: &Arguments,
    home: &Home,
    databases: Vec<Database>,
    targets: Vec<Target>,
) -> Result<Cloud, Failure> {
    let mut options = options(arguments, home)?;
    options.databases = databases;
    options.targets = targets;
    Ok(Cloud::start(options).await?)
}

fn options(arguments: &Arguments, home: &Home) -> Result<Options, Failure> {
    let mut options = Options::new(&home.path);
    if let Some(artifacts) = &arguments.artifacts {
        options.artifacts.clone_from(artifacts);
    }
    options.pgtools = home.path.join("pgtools");
    localcloud::merge_client_tools(&options.pgtools, &localcloud::workspace::client_tools())
        .map_err(|source| Failure::File {
            what: options.pgtools.display().to_string(),
            source,
        })?;
    options.port = arguments.port;
    options.environment = localcloud::workspace::trusted_roots();
    Ok(options)
}

/// What the run added to the vault: the manifest, and the newest verdict on it.
async fn find_report(
    cloud: &Cloud,
    database: &str,
    before: &BTreeMap<String, u64>,
) -> Result<Option<Report>, Failure> {
    let after = cloud.objects("VaultBucket").await?;
    let mut new = after
        .keys()
        .filter(|key| !before.contains_key(*key) && key.contains(&format!("/{database}/")));
    let Some(manifest_key) = new.clone().find(|key| key.ends_with("/manifest.json")) else {
        return Ok(None);
    };
    let manifest = cloud.object("VaultBucket", manifest_key).await?;
    let Ok(manifest) = serde_json::from_slice::<Manifest>(&manifest) else {
        return Ok(None);
    };
    let verdict = match new.rfind(|key| key.ends_with("-verify.json")) {
        Some(key) => {
            serde_json::from_slice::<Verdict>(&cloud.object("VaultBucket", key).await?).ok()
        }
        None => None,
    };
    let file = cloud
        .object_file("VaultBucket", manifest_key)
        .unwrap_or_default();
    Ok(Some(Report {
        database: database.to_owned(),
        manifest,
        verdict,
        folder: file.parent().map(Into::into).unwrap_or_default(),
        identity: cloud.home().join("identity.txt"),
        peak_bytes: cloud
            .function_peak_rss("dump")
            .iter()
            .map(|peak| peak.tree_bytes)
            .max()
            .unwrap_or_default(),
    }))
}

/// What went wrong, in the words of the message that a pager would have received.
pub(crate) async fn failure_words(
    what: &str,
    execution: &Execution,
    cloud: &Cloud,
) -> Result<String, Failure> {
    let mut text = format!("No {what}: the state machine ended {}", execution.status);
    if let Some(error) = &execution.error {
        text.push_str(&format!(" ({error})"));
    }
    for message in cloud.published_messages().await? {
        text.push_str("\n\n");
        if let Some(subject) = message.subject {
            text.push_str(&format!("{subject}\n"));
        }
        text.push_str(message.text.trim_end());
    }
    text.push_str(&format!(
        "\n\nThe functions' logs are in {}",
        cloud.home().join("logs").display()
    ));
    Ok(text)
}

async fn json_of(
    execution: &Execution,
    report: Option<&Report>,
    cloud: &Cloud,
    verified: bool,
) -> Result<Value, Failure> {
    let messages = cloud.published_messages().await?;
    let mut value = report.map_or_else(|| json!({}), Report::json);
    value["verified"] = verified.into();
    value["execution"] = json!({"arn": execution.arn, "status": execution.status, "error": execution.error, "cause": execution.cause});
    value["messages"] = messages
        .iter()
        .map(|message| json!({"subject": message.subject, "text": message.text}))
        .collect();
    Ok(value)
}
