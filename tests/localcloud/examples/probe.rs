//! A function that does what its event says, to show what the Lambda host makes of it.

use std::time::Duration;

use lambda_runtime::{Diagnostic, Error, LambdaEvent, service_fn};
use serde_json::{Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    lambda_runtime::run(service_fn(answer)).await
}

async fn answer(event: LambdaEvent<Value>) -> Result<Value, Diagnostic> {
    let request = event.payload;
    println!("probe got an event");
    if let Some(line) = request["print"].as_str() {
        println!("{line}");
    }
    if let Some(milliseconds) = request["sleep_ms"].as_u64() {
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    }
    if let Some(mebibytes) = request["eat_mib"].as_u64() {
        let eaten = vec![1_u8; usize::try_from(mebibytes).unwrap_or(0) << 20];
        tokio::time::sleep(Duration::from_millis(200)).await;
        println!(
            "ate {}",
            eaten.iter().map(|byte| usize::from(*byte)).sum::<usize>()
        );
    }
    if let Some(code) = request["exit"].as_i64() {
        std::process::exit(i32::try_from(code).unwrap_or(1));
    }
    if let Some(bytes) = request["answer_bytes"].as_u64() {
        return Ok("x".repeat(usize::try_from(bytes).unwrap_or(0)).into());
    }
    if let Some(name) = request["fail"].as_str() {
        return Err(Diagnostic {
            error_type: name.into(),
            error_message: "as asked".into(),
        });
    }
    let environment: serde_json::Map<String, Value> = std::env::vars()
        .map(|(name, value)| (name, value.into()))
        .collect();
    Ok(json!({
        "event": request,
        "pid": std::process::id(),
        "request_id": event.context.request_id,
        "arn": event.context.invoked_function_arn,
        "deadline": event.context.deadline,
        "environment": environment,
    }))
}
