//! Neon's API, version 2: the calls that Lifeboat makes, and nothing else.
//!
//! A change is never sent a second time unless the first one is known not to have happened:
//! there is no idempotency key, so after a lost answer the world is looked at, by name and by
//! our mark, and the caller's next try begins with the same look ([`ensure`]). Nothing is
//! deleted without a proof that it is ours ([`ownership::Deletable`]). Production is the
//! branch with `default == true`, asked for each time: its id changes when it is restored.

mod answers;
mod branches;
mod connection;
mod ensure;
mod error;
mod operations;
pub mod ownership;
mod pace;
pub mod plan;
mod projects;
mod recover;
mod retry;
mod transport;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Instant;

use url::{Host, Url};

use crate::policy::ProjectId;
use crate::secret::ApiKey;

pub use answers::{Branch, Consumption, Endpoint, Operation, Owner, ProjectFacts, Quota, Settings};
pub use branches::{Branches, NewBranch, Point};
pub use connection::ConnectionUri;
pub use ensure::{Ensured, Removed};
pub use error::NeonError;
use pace::Pace;
pub use projects::NewProject;
pub use recover::{InPlace, Past};

/// Where the API is. `https`; plain `http` to this machine only, where a stand-in may listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiUrl(String);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("write an https address such as https://console.neon.tech/api/v2; a key goes over it")]
pub struct InvalidApiUrl;

impl FromStr for ApiUrl {
    type Err = InvalidApiUrl;

    fn from_str(text: &str) -> Result<Self, InvalidApiUrl> {
        let url = Url::parse(text).map_err(|_| InvalidApiUrl)?;
        let is_loopback = match url.host().ok_or(InvalidApiUrl)? {
            Host::Ipv4(address) => address.is_loopback(),
            Host::Ipv6(address) => address.is_loopback(),
            Host::Domain(_) => false,
        };
        let is_plain = url.query().is_none() && url.fragment().is_none();
        let is_anonymous = url.username().is_empty() && url.password().is_none();
        let is_private = url.scheme() == "https" || (url.scheme() == "http" && is_loopback);
        if is_private && is_plain && is_anonymous {
            Ok(Self(text.trim_end_matches('/').to_owned()))
        } else {
            Err(InvalidApiUrl)
        }
    }
}

impl fmt::Display for ApiUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The API, for all projects and invocations of one process: they share its pace.
#[derive(Clone, Debug)]
pub struct Neon {
    http: reqwest::Client,
    base: ApiUrl,
    pace: Arc<Pace>,
}

impl Neon {
    /// # Errors
    ///
    /// The machine has no roots to verify TLS with.
    pub fn new(base: ApiUrl) -> Result<Self, NeonError> {
        Ok(Self {
            http: transport::client()?,
            base,
            pace: Arc::default(),
        })
    }

    /// One project, with the key that opens it. Nothing waits beyond `deadline`.
    pub fn project(&self, id: &ProjectId, key: ApiKey, deadline: Instant) -> Project {
        Project {
            neon: self.clone(),
            id: id.clone(),
            key,
            deadline,
        }
    }
}

/// What one project's key lets us do with it.
#[derive(Clone, Debug)]
pub struct Project {
    neon: Neon,
    id: ProjectId,
    key: ApiKey,
    deadline: Instant,
}

impl Project {
    pub fn id(&self) -> &ProjectId {
        &self.id
    }

    /// The path of something of this project.
    fn path(&self, rest: &str) -> String {
        format!("/projects/{}{rest}", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_travels_encrypted_or_not_at_all() {
        for text in [
            "https://console.neon.tech/api/v2",
            "http://127.0.0.1:4000/api/v2/",
            "http://[::1]:4000",
        ] {
            let parsed: Result<ApiUrl, InvalidApiUrl> = text.parse();
            assert_eq!(parsed.unwrap().to_string(), text.trim_end_matches('/'));
        }
        for text in [
            "",
            "console.neon.tech",
            "http://console.neon.tech/api/v2",
            "http://localhost.example.com/",
            "https://u:p@console.neon.tech/api/v2",
            "https://console.neon.tech/api/v2?key=1",
            "ftp://127.0.0.1/",
        ] {
            assert!(text.parse::<ApiUrl>().is_err(), "{text}");
        }
    }
}
