//! The AWS SDK, configured the same way in every function.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::error::chain;

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
        .retry_config(RetryConfig::standard())
        .timeout_config(timeouts)
        .load()
        .await
}

/// Why a call failed, in one line that a person can read.
///
/// Not the SDK's own `DisplayErrorContext`: that prints the whole response, body and all, and
/// the body may be a secret.
pub fn reason<E>(error: &SdkError<E>) -> String
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let Some(code) = error.code() else {
        // No answer, or none that was understood.
        let status = error.raw_response().map(|it| it.status().as_u16());
        let status = status.map(|status| format!(" (HTTP status {status})"));
        return chain(error) + &status.unwrap_or_default();
    };
    let mut reason = code.to_owned();
    if let Some(message) = error.message() {
        reason.push_str(": ");
        reason.push_str(message);
    }
    if let Some(request) = error.meta().extra("aws_request_id") {
        reason.push_str(&format!(" (request {request})"));
    }
    reason
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_s3::config::http::HttpResponse;
    use aws_sdk_s3::error::ErrorMetadata;
    use aws_sdk_s3::operation::get_object::GetObjectError;
    use aws_sdk_s3::primitives::SdkBody;

    fn answered(status: u16, body: &'static str) -> HttpResponse {
        HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body))
    }

    #[test]
    fn an_answer_is_told_by_its_code_and_message() {
        let error = ErrorMetadata::builder().code("AccessDenied").message("no");
        let error = error.custom("aws_request_id", "R1").build();
        let error =
            SdkError::service_error(GetObjectError::generic(error), answered(403, "CANARY"));
        assert_eq!(reason(&error), "AccessDenied: no (request R1)");
    }

    #[test]
    fn an_answer_that_is_not_understood_is_not_quoted() {
        let error: SdkError<GetObjectError> =
            SdkError::response_error("not JSON", answered(200, "CANARY"));
        let reason = reason(&error);
        assert!(!reason.contains("CANARY"), "{reason}");
        assert!(reason.ends_with("not JSON (HTTP status 200)"), "{reason}");
    }
}
