//! Where the home's backups are restored to: a private server of its own, a given one, or, for single
//! tables, the live database.

use std::path::Path;

use localcloud::Target;
use localcloud::postgres::{Cluster, Major, SUPERUSER, quoted};
use localcloud::sample;

use crate::Failure;

/// Its name in the configuration.
pub(crate) const STANDBY: &str = "standby";
pub(crate) const LIVE: &str = "live";
/// Its folder in the home.
const FOLDER: &str = "standby";

/// A target, and the server that runs as long as this lives.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) target: Target,
    /// For a person who wants to look.
    pub(crate) folder: Option<String>,
    cluster: Option<Cluster>,
}

impl Place {
    /// Makes roles on a private server, without login: policies, owners and grants name them. False on a server
    /// that is somebody's, where only they may do that.
    pub(crate) fn create_roles(&self, names: &[String]) -> Result<bool, Failure> {
        let Some(cluster) = &self.cluster else {
            return Ok(false);
        };
        for name in names {
            cluster.psql(SUPERUSER, &format!("CREATE ROLE {} NOLOGIN", quoted(name)))?;
        }
        Ok(!names.is_empty())
    }

    /// A server that is not the source's: another cluster, with another system identifier.
    pub(crate) fn standby(home: &Path, url: Option<&str>) -> Result<Self, Failure> {
        if let Some(url) = url {
            return Ok(Self::given(STANDBY, url, false));
        }
        let folder = home.join(FOLDER);
        let cluster = Cluster::start(Major::debian()?, &folder)?;
        Ok(Self {
            target: target(STANDBY, cluster.url(SUPERUSER, SUPERUSER), false),
            folder: Some(folder.display().to_string()),
            cluster: Some(cluster),
        })
    }

    /// The database that the application uses; without a URL, the sample on its private server.
    pub(crate) fn live(home: &Path, url: Option<&str>) -> Result<Self, Failure> {
        if let Some(url) = url {
            return Ok(Self::given(LIVE, url, true));
        }
        let folder = home.join("postgres");
        let cluster = Cluster::start(Major::debian()?, &folder)?;
        Ok(Self {
            target: target(LIVE, cluster.url(sample::DATABASE, SUPERUSER), true),
            folder: Some(folder.display().to_string()),
            cluster: Some(cluster),
        })
    }

    fn given(name: &str, url: &str, live: bool) -> Self {
        Self {
            target: target(name, url.to_owned(), live),
            folder: None,
            cluster: None,
        }
    }
}

fn target(name: &str, url: String, live: bool) -> Target {
    Target {
        name: name.to_owned(),
        url,
        live,
    }
}
