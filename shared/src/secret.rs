//! Secrets Manager: database URLs and age identities, under fixed names.

use aws_config::SdkConfig;
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::error::ProvideErrorMetadata;
use serde::Deserialize;

use crate::aws::reason;
use crate::backup::DatabaseName;
use crate::database_url::{DatabaseUrl, UrlError};
use crate::policy::TargetName;

/// Reads secrets; no value is ever printed.
#[derive(Debug)]
pub struct Secrets {
    client: Client,
}

#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error(
        "the secret {0} does not exist: create it with `aws secretsmanager create-secret --name {0} --secret-string …`"
    )]
    Missing(String),
    #[error("the secret {0} may not be read by this function's role")]
    Denied(String),
    #[error("the secret {0} is binary: store it as text")]
    Binary(String),
    #[error("the secret {name} is JSON, but not {{\"url\": \"postgresql://…\"}}")]
    JsonWithoutUrl { name: String },
    #[error("the secret {name} {source}")]
    Url {
        name: String,
        #[source]
        source: UrlError,
    },
    #[error("the secret {0} holds no age identity: store the line AGE-SECRET-KEY-1… of age-keygen")]
    NoIdentity(String),
    #[error("the secret {name} could not be read: {reason}")]
    Unavailable { name: String, reason: String },
}

impl SecretError {
    /// Whether the same read may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

#[derive(Deserialize)]
struct JsonSecret {
    url: String,
}

impl Secrets {
    pub fn new(aws: &SdkConfig) -> Self {
        Self {
            client: Client::new(aws),
        }
    }

    /// The connection URL in `lifeboat/database/<name>`, plain or as `{"url": …}`.
    pub async fn database_url(&self, database: &DatabaseName) -> Result<DatabaseUrl, SecretError> {
        let name = format!("lifeboat/database/{database}");
        let value = self.read(&name).await?;
        parse_database_secret(name, &value)
    }

    /// The connection URL in `lifeboat/target/<name>`, plain or as `{"url": …}`.
    pub async fn target_url(&self, target: &TargetName) -> Result<DatabaseUrl, SecretError> {
        let name = format!("lifeboat/target/{target}");
        let value = self.read(&name).await?;
        parse_database_secret(name, &value)
    }

    /// The age identities in `lifeboat/identity`, as age-keygen writes them.
    pub async fn identities(&self) -> Result<Vec<age::x25519::Identity>, SecretError> {
        let name = "lifeboat/identity";
        let value = self.read(name).await?;
        parse_identities(name, &value)
    }

    async fn read(&self, name: &str) -> Result<String, SecretError> {
        let answer = self.client.get_secret_value().secret_id(name).send().await;
        let answer = answer.map_err(|error| match error.code() {
            Some("ResourceNotFoundException") => SecretError::Missing(name.to_owned()),
            Some("AccessDeniedException" | "AccessDenied") => SecretError::Denied(name.to_owned()),
            _ => SecretError::Unavailable {
                name: name.to_owned(),
                reason: reason(&error),
            },
        })?;
        answer
            .secret_string
            .ok_or_else(|| SecretError::Binary(name.to_owned()))
    }
}

fn parse_database_secret(name: String, value: &str) -> Result<DatabaseUrl, SecretError> {
    let url = if value.trim_start().starts_with('{') {
        let Ok(secret) = serde_json::from_str::<JsonSecret>(value) else {
            // The parser's own message could quote the value.
            return Err(SecretError::JsonWithoutUrl { name });
        };
        secret.url
    } else {
        value.to_owned()
    };
    DatabaseUrl::parse(&url).map_err(|source| SecretError::Url { name, source })
}

fn parse_identities(name: &str, value: &str) -> Result<Vec<age::x25519::Identity>, SecretError> {
    let lines = value.lines().map(str::trim);
    let identities: Vec<_> = lines.filter_map(|line| line.parse().ok()).collect();
    if identities.is_empty() {
        return Err(SecretError::NoIdentity(name.to_owned()));
    }
    Ok(identities)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_database_secret_are_read() {
        for value in [
            "postgres://u:p@h/db",
            "postgres://u:p@h/db\r\n",
            r#"{"url": "postgres://u:p@h/db"}"#,
            r#" {"url": "postgres://u:p@h/db", "rotated": "2026-11-01"}"#,
        ] {
            let url = parse_database_secret("lifeboat/database/app".to_owned(), value).unwrap();
            assert_eq!(url.to_string(), "u@h:5432/db");
        }
    }

    #[test]
    fn a_bad_secret_is_described_without_showing_it() {
        for (value, expected) in [
            ("", "the secret lifeboat/database/app is empty"),
            (
                "hunter2",
                "the secret lifeboat/database/app is not a connection URL",
            ),
            ("{\"uri\": \"hunter2\"}", "is JSON, but not"),
            ("{hunter2", "is JSON, but not"),
            ("{\"url\": \"hunter2\"}", "is not a connection URL"),
        ] {
            let error =
                parse_database_secret("lifeboat/database/app".to_owned(), value).unwrap_err();
            let text = crate::error::chain(&error);
            assert!(text.contains(expected), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn an_identity_file_with_comments_is_an_identity() {
        let file = "# created: 2026-11-21\n# public key: age1…\nAGE-SECRET-KEY-184JMZMVQH3E6U0PSL869004Y3U2NYV7R30EU99CSEDNPH02YUVFSZW44VU\n";
        assert_eq!(
            parse_identities("lifeboat/identity", file).unwrap().len(),
            1
        );
        assert!(parse_identities("lifeboat/identity", "REPLACE-ME").is_err());
    }
}
