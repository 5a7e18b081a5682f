//! Secrets Manager: database URLs, age identities and API keys, under fixed names.

use std::fmt;

use aws_config::SdkConfig;
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use serde::{Deserialize, Serialize};

use crate::aws::reason;
use crate::backup::DatabaseName;
use crate::database_url::{DatabaseUrl, UrlError};
use crate::neon::ConnectionUri;
use crate::policy::{ProjectId, TargetName};

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
    #[error("the secret {0} holds no API key: store the key that the Neon console showed, alone")]
    NoApiKey(String),
    #[error(
        "the secret {name} is of the branch {found}, not of {wanted}: another run of the same work has made it; run this one again"
    )]
    OtherBranch {
        name: String,
        found: String,
        wanted: String,
    },
    #[error("the secret {0} holds no header: store one `Name: value` a line")]
    NoHeaders(String),
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

/// How to reach the temporary branch of one backup, drill or rehearsal: written and deleted by
/// whoever makes the branch, read by dump, by drill, or by whoever rehearses.
#[derive(Serialize, Deserialize)]
struct BranchSecret {
    branch_id: String,
    url: String,
}

/// The name of that secret: each execution of a backup and each drill has its own, so runs never
/// touch each other's.
pub fn branch_secret(database: &DatabaseName, id: &str) -> String {
    format!("lifeboat/branch/{database}/{id}")
}

/// Of a rehearsal's. Apart from the others: whoever rehearses may read what has this prefix, and
/// the passwords of a dump's or drill's branch may be production's.
pub fn rehearsal_secret(database: &DatabaseName, branch: &str) -> String {
    format!("lifeboat/rehearsal/{database}/{branch}")
}

/// Opens one Neon project.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

impl ApiKey {
    /// One word of plain characters, so that it can be a header.
    pub fn parse(value: &str) -> Option<Self> {
        let value = value.trim();
        let is_key = !value.is_empty() && value.bytes().all(|it| it.is_ascii_graphic());
        is_key.then(|| Self(value.to_owned()))
    }

    /// For the request's header, and nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
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

    /// The API key in `lifeboat/neon/<project>`.
    pub async fn neon_key(&self, project: &ProjectId) -> Result<ApiKey, SecretError> {
        let name = format!("lifeboat/neon/{project}");
        let value = self.read(&name).await?;
        ApiKey::parse(&value).ok_or(SecretError::NoApiKey(name))
    }

    /// The connection URL of the temporary branch of a backup or drill, if it is the branch of
    /// that id.
    pub async fn branch_url(
        &self,
        database: &DatabaseName,
        id: &str,
        branch_id: &str,
    ) -> Result<DatabaseUrl, SecretError> {
        let name = branch_secret(database, id);
        let value = self.read(&name).await?;
        parse_branch_secret(name, &value, branch_id)
    }

    /// The request headers in the secret of that name: one `Name: value` a line.
    pub async fn headers(&self, name: &str) -> Result<Vec<Header>, SecretError> {
        let value = self.read(name).await?;
        parse_headers(name, &value)
    }

    /// Stores how to reach a temporary branch, under one of the names above; again with the same
    /// is the same.
    pub async fn put_branch_url(
        &self,
        name: &str,
        branch_id: &str,
        uri: &ConnectionUri,
    ) -> Result<(), SecretError> {
        let (branch_id, url) = (branch_id.to_owned(), uri.expose().to_owned());
        let secret = serde_json::to_string(&BranchSecret { branch_id, url });
        let Ok(secret) = secret else {
            let name = name.to_owned();
            return Err(SecretError::JsonWithoutUrl { name });
        };
        self.put(name, &secret).await
    }

    /// Stores how to reach the server of a target; again with the same is the same.
    pub async fn put_target_url(
        &self,
        target: &TargetName,
        uri: &ConnectionUri,
    ) -> Result<(), SecretError> {
        let name = format!("lifeboat/target/{target}");
        self.put(&name, uri.expose()).await
    }

    async fn put(&self, name: &str, secret: &str) -> Result<(), SecretError> {
        let create = self.client.create_secret().name(name);
        let created = create.secret_string(secret).send().await;
        match created {
            Ok(_) => return Ok(()),
            Err(error) if error.code() == Some("ResourceExistsException") => {}
            Err(error) => return Err(failed(name, &error)),
        }
        let put = self.client.put_secret_value().secret_id(name);
        let put = put.secret_string(secret).send().await;
        put.map(drop).map_err(|error| failed(name, &error))
    }

    /// Deletes it for good; one that is gone is deleted already.
    pub async fn delete_branch_url(&self, name: &str) -> Result<(), SecretError> {
        let delete = self.client.delete_secret().secret_id(name);
        match delete.force_delete_without_recovery(true).send().await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("ResourceNotFoundException") => Ok(()),
            Err(error) => Err(failed(name, &error)),
        }
    }

    async fn read(&self, name: &str) -> Result<String, SecretError> {
        let answer = self.client.get_secret_value().secret_id(name).send().await;
        let answer = answer.map_err(|error| failed(name, &error))?;
        answer
            .secret_string
            .ok_or_else(|| SecretError::Binary(name.to_owned()))
    }
}

fn failed<E>(name: &str, error: &SdkError<E>) -> SecretError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match error.code() {
        Some("ResourceNotFoundException") => SecretError::Missing(name.to_owned()),
        Some("AccessDeniedException" | "AccessDenied") => SecretError::Denied(name.to_owned()),
        _ => SecretError::Unavailable {
            name: name.to_owned(),
            reason: reason(error),
        },
    }
}

fn parse_branch_secret(
    name: String,
    value: &str,
    branch_id: &str,
) -> Result<DatabaseUrl, SecretError> {
    let Ok(secret) = serde_json::from_str::<BranchSecret>(value) else {
        return Err(SecretError::JsonWithoutUrl { name });
    };
    if secret.branch_id != branch_id {
        return Err(SecretError::OtherBranch {
            name,
            found: secret.branch_id,
            wanted: branch_id.to_owned(),
        });
    }
    DatabaseUrl::parse(&secret.url).map_err(|source| SecretError::Url { name, source })
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

/// A header of a request, whose value is a credential.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    pub name: String,
    pub value: String,
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: …", self.name)
    }
}

fn parse_headers(name: &str, value: &str) -> Result<Vec<Header>, SecretError> {
    let lines = value.lines().map(str::trim).filter(|it| !it.is_empty());
    let headers: Option<Vec<Header>> = lines
        .map(|line| {
            let (name, value) = line.split_once(':')?;
            Some(Header {
                name: name.trim().to_owned(),
                value: value.trim().to_owned(),
            })
        })
        .collect();
    headers
        .filter(|it| !it.is_empty())
        .ok_or_else(|| SecretError::NoHeaders(name.to_owned()))
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
    fn a_branchs_secret_is_taken_for_that_branch_only() {
        let name = || "lifeboat/branch/app/20261121T010000Z-nightly-0a1b2c3d".to_owned();
        let value = r#"{"branch_id": "br-a", "url": "postgres://u:hunter2@h/db"}"#;
        let url = parse_branch_secret(name(), value, "br-a").unwrap();
        assert_eq!(url.to_string(), "u@h:5432/db");
        for (value, branch) in [(value, "br-b"), ("postgres://u:hunter2@h/db", "br-a")] {
            let error = parse_branch_secret(name(), value, branch).unwrap_err();
            assert!(!crate::error::chain(&error).contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn an_api_key_is_one_word_and_never_shown() {
        let key = ApiKey::parse("napi_hunter2\r\n").unwrap();
        assert_eq!(
            (key.expose(), &*format!("{key:?}")),
            ("napi_hunter2", "ApiKey(…)")
        );
        for value in ["", " \n", "two words", "schlüssel"] {
            assert!(ApiKey::parse(value).is_none(), "{value}");
        }
    }

    #[test]
    fn headers_are_read_and_never_shown() {
        let name = "lifeboat/channel/drill-app";
        let headers = parse_headers(name, "Authorization: Bearer a:b\n\nX-Drill: 1\n").unwrap();
        assert_eq!(headers[0].value, "Bearer a:b");
        assert_eq!(format!("{headers:?}"), "[Authorization: …, X-Drill: …]");
        for value in ["", "hunter2", "A: b\nhunter2"] {
            let error = parse_headers(name, value).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
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
