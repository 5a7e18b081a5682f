use std::time::Instant;

use dump::{Config, Invocation, dump, until};
use jiff::Timestamp;
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use shared::backup::BackupItem;
use shared::config::process_env;
use shared::secret::Secrets;
use shared::store::Bucket;
use shared::{aws, telemetry};

#[tokio::main(flavor = "multi_thread")]
async fn main() -> Result<(), Error> {
    telemetry::init();
    let config = Config::read(process_env)?;
    let aws = aws::load().await;
    let bucket = Bucket::new(&aws, config.vault_bucket.clone());
    let secrets = Secrets::new(&aws);

    run(service_fn(async |event: LambdaEvent<BackupItem>| {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one place that reads the clock"
        )]
        let started_at = Timestamp::now();
        let invocation = Invocation {
            request_id: event.context.request_id.clone(),
            started_at,
            deadline: Instant::now() + until(started_at, event.context.deadline),
        };
        dump(&config, &bucket, &secrets, invocation, event.payload).await
    }))
    .await
}
