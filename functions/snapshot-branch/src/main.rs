//! Wires the function to Lambda; the only code that reads the clock.

use std::time::{Instant, SystemTime};

use jiff::Timestamp;
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::Value;
use shared::approval::Approvals;
use shared::config::process_env;
use shared::key::PlanOf;
use shared::neon::Neon;
use shared::secret::Secrets;
use shared::store::Bucket;
use shared::{aws, telemetry};
use snapshot_branch::{Config, Function, Invocation};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::init();
    let config = Config::read(process_env)?;
    let aws = aws::load().await;
    let function = &Function {
        vault: Bucket::new(&aws, config.vault_bucket.clone()),
        secrets: Secrets::new(&aws),
        neon: Neon::new(config.neon_api_url.clone())?,
        approvals: config.asking.as_ref().map(|asking| {
            let (work, topic) = (config.work_bucket.clone(), asking.page_topic.clone());
            Approvals::new(&aws, PlanOf::Recovery, work, topic)
        }),
        config,
    };

    run(service_fn(async |event: LambdaEvent<Value>| {
        function.handle(&invocation(&event), event.payload).await
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
        deadline: Instant::now() + left.unwrap_or_default(),
    }
}
