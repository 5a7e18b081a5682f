//! Wires the function to Lambda; the only code that reads the clock.

use alert::{Config, Function};
use jiff::Timestamp;
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::Value;
use shared::config::process_env;
use shared::store::Bucket;
use shared::{aws, telemetry};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::init();
    let config = Config::read(process_env)?;
    let aws = aws::load().await;
    let function = &Function {
        vault: Bucket::new(&aws, config.vault_bucket),
        sns: aws_sdk_sns::Client::new(&aws),
        page_topic: config.page_topic,
        notice_topic: config.notice_topic,
    };

    run(service_fn(async |event: LambdaEvent<Value>| {
        // Boxed, since the compiler cannot lay out the SDK's calls and the runtime's as one.
        Box::pin(function.handle(event.payload, now())).await
    }))
    .await
}

#[expect(clippy::disallowed_methods, reason = "the clock is read here only")]
fn now() -> Timestamp {
    Timestamp::now()
}
