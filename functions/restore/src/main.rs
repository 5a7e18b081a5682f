//! Wires the function to Lambda; the only code that reads the clock.

use std::time::{Instant, SystemTime};

use jiff::Timestamp;
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use restore::{Config, Function, Invocation};
use serde_json::Value;
use shared::config::process_env;
use shared::{aws, telemetry};

#[tokio::main]
async fn main() -> Result<(), Error> {
    telemetry::init();
    let config = Config::read(process_env)?;
    let function = &Function::connect(config, &aws::load().await);

    run(service_fn(async |event: LambdaEvent<Value>| {
        // Boxed, since the compiler cannot lay out the SDK's calls and the runtime's as one.
        Box::pin(function.handle(&invocation(&event), event.payload)).await
    }))
    .await
}

#[expect(clippy::disallowed_methods, reason = "the clock is read here only")]
fn invocation(event: &LambdaEvent<Value>) -> Invocation {
    let left = event.context.deadline().duration_since(SystemTime::now());
    Invocation {
        request_id: event.context.request_id.clone(),
        started_at: Timestamp::now(),
        begun: Instant::now(),
        time: Some(left.unwrap_or_default()),
        pause_after: None,
    }
}
