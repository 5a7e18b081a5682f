//! A restore from a bucket of an AWS account, on this machine: the function's own code in this process,
//! where no deadline ends it. Credentials and region are those of the environment.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use jiff::{SignedDuration, Timestamp};
use lambda_runtime::Diagnostic;
use restore::{Config, Function, Invocation};
use serde_json::{Value, json};

use crate::Failure;
use crate::arguments::Arguments;
use crate::ask::ask;
use crate::progress::Voice;
use crate::restore::input;

/// Who is at the terminal needs no four hours.
const PLAN_LIFETIME: SignedDuration = SignedDuration::from_mins(60);
/// How long a step works before it tells how far it is.
const STEP: Duration = Duration::from_secs(10);
/// What may pass by itself is tried so often, after a pause that grows by itself each time.
const TRIES_MAX: u32 = 10;
const PAUSE: Duration = Duration::from_secs(6);

pub(crate) async fn restore(arguments: Arguments, vault: String) -> Result<ExitCode, Failure> {
    let voice = Voice::new(arguments.json);
    let options = &arguments.restore;
    let work = options.work.clone().ok_or(Failure::Incomplete("--work"))?;
    let target = options.target.as_deref();
    let target = target.ok_or(Failure::Incomplete("--target"))?;
    let database = options.database.as_deref();
    let database = database.ok_or(Failure::Incomplete("--database"))?;
    let layer_root = options
        .config
        .clone()
        .unwrap_or_else(|| PathBuf::from("infra/config"));
    let connections = std::thread::available_parallelism().map_or(2, usize::from);
    let config = Config {
        vault_bucket: vault,
        work_bucket: work,
        // Nobody is asked but who is here.
        page_topic: String::new(),
        layer_root,
        plan_lifetime: PLAN_LIFETIME,
        function_name: "restore".to_owned(),
        region: String::new(),
        connections: u32::try_from(connections).unwrap_or(2).clamp(2, 8),
    };
    let function = Function::connect(config, &shared::aws::load().await);

    voice.say(&format!("planning the restore of {database}"));
    let plan = call(&function, json!({"plan": input(options, database, target)})).await?;
    let words = plan["words"].as_str().unwrap_or_default();
    if plan["can_be_done"] != true {
        eprintln!("{words}");
        return Ok(ExitCode::FAILURE);
    }
    let (plan_id, target) = (&plan["plan_id"], plan["target"].as_str());
    let answer = ask(options, words, target.unwrap_or_default()).await?;
    let Some(typed) = answer.typed else {
        let refuse = json!({"plan_id": plan_id, "operator": answer.operator});
        call(&function, json!({"refuse": refuse})).await?;
        return Ok(ExitCode::FAILURE);
    };
    let approve =
        json!({"plan_id": plan_id, "operator": answer.operator, "target_name_typed": typed});
    call(&function, json!({"approve": approve})).await?;
    let report = carry_out(&function, plan_id, voice).await?;
    let is_good = report["is_good"] == true;
    if arguments.json {
        println!("{:#}", json!({"restored": is_good, "report": report}));
    } else {
        println!("{}", report["words"].as_str().unwrap_or_default());
        println!(
            "The record: {}",
            report["evidence_key"].as_str().unwrap_or_default()
        );
    }
    Ok(if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Applies in steps, each as long as its longest job, and reports however it ends.
async fn carry_out(function: &Function, plan_id: &Value, voice: Voice) -> Result<Value, Failure> {
    let apply = json!({"apply": {"plan_id": plan_id}});
    let mut tries = 0;
    let failed = loop {
        match invoke(function, Some(STEP), apply.clone()).await {
            Ok(applied) if applied["remaining"] == 0 => break None,
            Ok(applied) => {
                tries = 0;
                voice.say(&format!(
                    "{} of {} jobs, {} rows",
                    applied["done"], applied["total"], applied["rows"]
                ));
            }
            Err(error) if error.error_type == "Transient" && tries < TRIES_MAX => {
                tries += 1;
                let pause = PAUSE * tries;
                voice.say(&format!(
                    "{}; again in {} s ({tries} of {TRIES_MAX})",
                    error.error_message,
                    pause.as_secs()
                ));
                tokio::time::sleep(pause).await;
            }
            Err(error) => break Some(error.error_message),
        }
    };
    let report = match failed {
        None => json!({"plan_id": plan_id, "outcome": "finished"}),
        Some(words) => json!({"plan_id": plan_id, "outcome": "failed",
            "failure": {"Error": "Failed", "Cause": words}}),
    };
    call(function, json!({"report": report})).await
}

/// One call of the function.
async fn call(function: &Function, event: Value) -> Result<Value, Failure> {
    let answer = invoke(function, None, event).await;
    answer.map_err(|error| Failure::Function(error.error_message))
}

async fn invoke(
    function: &Function,
    pause_after: Option<Duration>,
    event: Value,
) -> Result<Value, Diagnostic> {
    let now = Timestamp::try_from(SystemTime::now()).unwrap_or_default();
    let invocation = Invocation {
        request_id: format!("by-hand-{}-{}", std::process::id(), now.as_nanosecond()),
        started_at: now,
        begun: Instant::now(),
        time: None,
        pause_after,
    };
    Box::pin(function.handle(&invocation, event)).await
}
