//! How to connect to a branch: asked for each branch, since a child of a protected branch has
//! passwords of its own.

use std::fmt;

use reqwest::Method;

use super::answers::{ResetAnswer, UriAnswer};
use super::ownership::Own;
use super::transport::Call;
use super::{NeonError, Project};
use crate::database_url::{DatabaseUrl, UrlError};

/// A connection URL with its password. Goes into a secret, and nowhere else.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectionUri(String);

impl fmt::Debug for ConnectionUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConnectionUri(…)")
    }
}

impl ConnectionUri {
    /// The text, for the secret.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Refuses a pooled host, and anything but verified TLS to another machine.
    pub fn parse(&self) -> Result<DatabaseUrl, UrlError> {
        DatabaseUrl::parse(&self.0)
    }
}

impl Project {
    /// The direct endpoint of one of our branches, as `role`.
    ///
    /// Where the project does not keep passwords, the role gets a new one: on this branch, and
    /// only if that is a temporary one.
    pub async fn connection_uri(
        &self,
        branch: &Own,
        role: &str,
        database: &str,
    ) -> Result<ConnectionUri, NeonError> {
        let asked = self.ask_uri(branch.id(), role, database).await;
        match asked {
            Err(NeonError::Rejected { status: 412, .. }) if branch.mark().class.is_temporary() => {
                self.reset_password(branch, role).await?;
                self.ask_uri(branch.id(), role, database).await
            }
            asked => asked,
        }
    }

    async fn ask_uri(
        &self,
        branch_id: &str,
        role: &str,
        database: &str,
    ) -> Result<ConnectionUri, NeonError> {
        let doing = "ask how to connect to a branch";
        // Without `pooled`, which would give a host that breaks dumps.
        let call = Call::read(doing, self.path("/connection_uri"))
            .with("branch_id", branch_id)
            .with("database_name", database)
            .with("role_name", role);
        let answer: Option<UriAnswer> = self.send(&call).await?;
        let answer = answer.ok_or_else(|| NeonError::Missing {
            doing,
            what: format!(
                "the role {role} or the database {database} (role and database of [database.neon] in lifeboat.toml)"
            ),
        })?;
        Ok(ConnectionUri(answer.uri))
    }

    async fn reset_password(&self, branch: &Own, role: &str) -> Result<(), NeonError> {
        let doing = "give a role of the temporary branch a password";
        let path = format!(
            "/branches/{}/roles/{}/reset_password",
            branch.id(),
            encoded(role)
        );
        let call = Call::change(doing, Method::POST, self.path(&path));
        let answer: Option<ResetAnswer> = self.send(&call).await?;
        let answer = answer.ok_or_else(|| NeonError::Missing {
            doing,
            what: format!("the role {role}"),
        })?;
        self.finish(doing, &answer.operations).await
    }
}

/// A role's name may hold anything.
fn encoded(segment: &str) -> String {
    percent_encoding::utf8_percent_encode(segment, percent_encoding::NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pooled_answer_is_refused_and_no_password_is_shown() {
        let uri = ConnectionUri(
            "postgresql://r:hunter2@ep-a-pooler.eu.aws.neon.tech/d?sslmode=require".to_owned(),
        );
        let error = uri.parse().unwrap_err().to_string();
        assert!(
            error.contains("pooled") && !error.contains("hunter2"),
            "{error}"
        );
        assert!(!format!("{uri:?}").contains("hunter2"));
        let direct = ConnectionUri(
            "postgresql://r:hunter2@ep-a.eu.aws.neon.tech/d?sslmode=require&channel_binding=require"
                .to_owned(),
        );
        assert_eq!(direct.parse().unwrap().host, "ep-a.eu.aws.neon.tech");
    }
}
