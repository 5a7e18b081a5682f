//! How to connect to a branch: asked for each branch, since a child of a protected branch has
//! passwords of its own.

use std::fmt;

use reqwest::Method;
use url::Url;

use super::answers::{ResetAnswer, UriAnswer};
use super::ensure::{FLICKER, FLICKERS_MAX};
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

    fn direct(host: &str, role: &str, database: &str) -> Self {
        let (role, database) = (encoded(role), encoded(database));
        Self(format!(
            "postgresql://{role}@{host}/{database}?sslmode=require"
        ))
    }

    fn with_password(self, mut url: Url, password: &str) -> Self {
        match url.set_password(Some(password)) {
            Ok(()) => Self(url.into()),
            // Without a host; whoever parses it says so.
            Err(()) => self,
        }
    }

    pub(super) fn has_password(&self) -> bool {
        Url::parse(&self.0).is_ok_and(|it| it.password().is_some())
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
    /// only if that is a temporary one. What Neon answers then is not documented, so both are
    /// taken: a refusal (412, as for a role's password) and a URL without a password.
    pub async fn connection_uri(
        &self,
        branch: &Own,
        role: &str,
        database: &str,
    ) -> Result<ConnectionUri, NeonError> {
        let is_ours = branch.mark().class.is_temporary();
        let asked = match self.ask_uri(branch.id(), role, database).await {
            Err(NeonError::Rejected { status: 412, .. }) if is_ours => {
                self.direct_url(branch, role, database).await?
            }
            asked => asked?,
        };
        match Url::parse(&asked.0) {
            Ok(url) if url.password().is_none() && is_ours => {
                let password = self.reset_password(branch, role).await?;
                Ok(asked.with_password(url, &password))
            }
            // What is no URL is told by whoever parses it.
            Ok(_) | Err(_) => Ok(asked),
        }
    }

    /// The same, with a password that the role has on this branch alone: for whoever may connect to
    /// it and to nothing else. A branch of one that is not protected has the passwords of that one.
    ///
    /// # Errors
    ///
    /// Also for a branch that is not temporary, whose passwords stay.
    pub async fn own_connection_uri(
        &self,
        branch: &Own,
        role: &str,
        database: &str,
    ) -> Result<ConnectionUri, NeonError> {
        if !branch.mark().class.is_temporary() {
            return Err(NeonError::Missing {
                doing: "give a role of the temporary branch a password",
                what: format!("a temporary branch with the id {}", branch.id()),
            });
        }
        let asked = self.connection_uri(branch, role, database).await?;
        match Url::parse(&asked.0) {
            Ok(url) => {
                let password = self.reset_password(branch, role).await?;
                Ok(asked.with_password(url, &password))
            }
            // What is no URL is told by whoever parses it.
            Err(_) => Ok(asked),
        }
    }

    /// Put together, without a password. Neon's hosts take TLS only, at the default port.
    async fn direct_url(
        &self,
        branch: &Own,
        role: &str,
        database: &str,
    ) -> Result<ConnectionUri, NeonError> {
        let endpoints = self.endpoints(branch.id()).await?;
        let endpoint = endpoints.first().ok_or_else(|| NeonError::Missing {
            doing: "ask how to connect to a branch",
            what: "the branch's compute".to_owned(),
        })?;
        Ok(ConnectionUri::direct(&endpoint.host, role, database))
    }

    pub(super) async fn ask_uri(
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
        let mut answer: Option<UriAnswer> = None;
        for look in 0..FLICKERS_MAX {
            // What was just made may be unknown for a moment.
            if look > 0 {
                tokio::time::sleep(FLICKER).await;
            }
            answer = self.send(&call).await?;
            if answer.is_some() {
                break;
            }
        }
        let answer = answer.ok_or_else(|| NeonError::Missing {
            doing,
            what: format!(
                "the role {role} or the database {database} (role and database of [database.neon] in lifeboat.toml)"
            ),
        })?;
        Ok(ConnectionUri(answer.uri))
    }

    async fn reset_password(&self, branch: &Own, role: &str) -> Result<String, NeonError> {
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
        self.finish(doing, &answer.operations).await?;
        Ok(answer.role.password)
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

    #[test]
    fn a_url_that_came_without_a_password_gets_the_new_one() {
        let bare = ConnectionUri::direct("ep-a.eu.aws.neon.tech", "the owner", "a/b");
        let url = Url::parse(&bare.0).unwrap();
        assert_eq!(url.password(), None);
        let whole = bare.with_password(url, "p@ss/w:rd").parse().unwrap();
        assert_eq!(
            (
                &*whole.user,
                &*whole.password,
                &*whole.database,
                &*whole.host
            ),
            ("the owner", "p@ss/w:rd", "a/b", "ep-a.eu.aws.neon.tech")
        );
    }
}
