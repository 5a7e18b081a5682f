//! The AWS SDK, configured the same way in every function.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};

/// Credentials, region and endpoint come from the environment, as Lambda sets it.
///
/// The SDK's retries are the only ones below the state machine's. An attempt may take as long
/// as one part needs on a slow line; what moves no byte at all is ended earlier by the SDK's
/// own stalled-stream protection.
pub async fn load() -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(5))
        .operation_attempt_timeout(Duration::from_secs(120))
        .build();
    aws_config::defaults(BehaviorVersion::latest())
        .retry_config(RetryConfig::standard().with_max_attempts(5))
        .timeout_config(timeouts)
        .load()
        .await
}
