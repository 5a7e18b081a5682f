//! The cloud kept running, for the AWS CLI.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use localcloud::{Cloud, client_environment, workspace};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Failure;
use crate::arguments::Arguments;
use crate::backup::{prepare_source, start_with};
use crate::home::{Home, user_of};
use crate::progress::Voice;
use crate::target::{Place, STANDBY};

/// How long `down` waits for the end.
const DOWN_MAX: Duration = Duration::from_secs(30);

/// Runs until a signal ends the process.
pub(crate) async fn up(arguments: Arguments) -> Result<ExitCode, Failure> {
    let home = Home::open(&arguments.home)?;
    let voice = Voice::new(false);
    let source = prepare_source(&arguments, &home, voice).await?;
    let (path, url) = (home.path.clone(), localcloud::workspace::target_url());
    let place = tokio::task::spawn_blocking(move || Place::standby(&path, url.as_deref()));
    let place = place.await.map_err(|_| Failure::BrokenOff)??;
    let mut database = source.database.clone();
    database.extra = format!("[database.drill]\ntarget = \"{STANDBY}\"\n");
    let targets = vec![place.target.clone()];
    let cloud = start_with(&arguments, &home, vec![database], targets).await?;
    let environment = write_environment(&cloud, &home.path)?;
    println!(
        "{}",
        instructions(&cloud, &source.database.name, &environment)
    );
    std::future::pending().await
}

/// Writes what a shell sources, readable by its owner only.
fn write_environment(cloud: &Cloud, home: &Path) -> Result<String, Failure> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let path = home.join("environment.sh");
    let mut text = String::new();
    for (name, value) in client_environment(cloud) {
        text.push_str(&format!("export {name}={value}\n"));
    }
    text.push_str("unset AWS_SESSION_TOKEN AWS_PROFILE\n");
    let write = || {
        let options = std::fs::File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path);
        options?.write_all(text.as_bytes())
    };
    write().map_err(|source| Failure::File {
        what: path.display().to_string(),
        source,
    })?;
    Ok(path.display().to_string())
}

fn instructions(cloud: &Cloud, database: &str, environment: &str) -> String {
    let aws = workspace::aws_cli();
    let machine = cloud.physical("BackupMachine").unwrap_or_default();
    let verify = cloud
        .function("verify")
        .map_or("", |spec| spec.name.as_str());
    let vault = cloud.physical("VaultBucket").unwrap_or_default();
    let work = cloud.physical("WorkBucket").unwrap_or_default();
    let [restore, drill] =
        ["RestoreMachine", "DrillMachine"].map(|it| cloud.physical(it).unwrap_or_default());
    let restore_function = cloud
        .function("restore")
        .map_or("", |spec| spec.name.as_str());
    format!(
        "The cloud is up at {}. In another shell:\n\n\
         \x20 . {environment}\n\
         \x20 aws() {{ {} \"$@\"; }}\n\
         \x20 aws stepfunctions start-execution --state-machine-arn {machine} --name \"$(date +%s)\" --input '{{\"databases\":[\"{database}\"]}}'\n\
         \x20 aws stepfunctions list-executions --state-machine-arn {machine}\n\
         \x20 aws lambda invoke --function-name {verify} --payload '{{\"watch\":{{}}}}' /dev/stdout\n\
         \x20 aws s3 ls --recursive s3://{vault}/\n\
         \x20 aws stepfunctions start-execution --state-machine-arn {restore} --name \"$(date +%s)\" --input '{{\"database\":\"{database}\",\"target\":{{\"new_database\":{{\"target\":\"{STANDBY}\",\"database\":\"copy\"}}}}}}'\n\
         \x20 aws lambda invoke --function-name {restore_function} --cli-binary-format raw-in-base64-out --payload '{{\"approve\":{{\"plan_id\":\"…\",\"operator\":\"you\",\"target_name_typed\":\"{STANDBY}/copy\"}}}}' /dev/stdout\n\
         \x20 aws stepfunctions start-execution --state-machine-arn {drill} --name \"$(date +%s)\" --input '{{\"databases\":[\"{database}\"]}}'\n\
         (the plan's id is in the output of `aws s3 ls --recursive s3://{work}/plans/`)\n\n\
         Ctrl-C, or `localcloud down`, stops it.",
        cloud.endpoint(),
        aws.display()
    )
}

/// Ends the process that uses the home, and waits until it is gone.
pub(crate) fn down(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let Some(id) = user_of(&arguments.home)? else {
        println!("nothing runs in {}", arguments.home.display());
        return Ok(ExitCode::SUCCESS);
    };
    let failed = |source| Failure::File {
        what: format!("process {id}"),
        source,
    };
    kill(Pid::from_raw(id), Signal::SIGTERM).map_err(|errno| failed(errno.into()))?;
    let begun = Instant::now();
    while user_of(&arguments.home)?.is_some() {
        if begun.elapsed() > DOWN_MAX {
            return Err(failed(std::io::Error::from(std::io::ErrorKind::TimedOut)));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("stopped");
    Ok(ExitCode::SUCCESS)
}
