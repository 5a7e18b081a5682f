//! Neon on one machine: the API v2 as documented, over branches that are real PostgreSQL clusters.
//!
//! A branch is a point in the log of another. When a compute first needs it, the base of the project is copied and the
//! log replayed up to that point, so that what was committed a second later really is not there. A branch without a
//! compute costs nothing, and so does a project until somebody connects.
//!
//! Every endpoint has two fixed ports on 127.0.0.1, one for its compute and one for a real PgBouncer before it, which
//! stay over suspends and restores as Neon's hosts do. URLs of the API lead to 127.0.0.1 for the compute. The names of
//! hosts (`ep-….localhost`, `ep-…-pooler.localhost`) resolve nowhere; only a pooled URL has one, so that it can be
//! refused by name. A test reaches the pooler by [`Neon::pooled_url`].
//!
//! Not in it: read replicas, schema-only branches, archiving, autosuspend, deleted branches that come back.

mod access;
mod branches;
mod create_branch;
mod endpoints;
mod faults;
mod gate;
mod hub;
mod lsn;
mod names;
mod operations;
mod options;
mod plan;
mod projects;
mod refusal;
mod restore_branch;
mod routes;
mod schema;
mod server;
mod shapes;
mod snapshots;
mod storage;
mod timeline;
mod world;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

pub use self::faults::{NeonFault, NeonFaultAction, NeonFaults, OperationFault};
pub use self::gate::Traffic;
use self::hub::Hub;
pub use self::options::{NeonOptions, ProjectOptions, Seeded};
pub use self::plan::{Limits, Plan};
use self::refusal::Refusal;
pub use self::server::NeonCall;
use self::storage::Storage;
use crate::postgres::{Major, PostgresError, quoted};

#[derive(Debug, thiserror::Error)]
pub enum NeonError {
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    #[error("the stand-in cannot listen: {0}")]
    Listen(#[from] std::io::Error),
    /// What the API would have said.
    #[error("{0}")]
    Refused(String),
    #[error("the stand-in has been stopped")]
    Stopped,
}

impl From<Refusal> for NeonError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal.message)
    }
}

/// A branch as a test sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeonBranch {
    pub id: String,
    pub name: String,
    pub parent: Option<String>,
    pub is_default: bool,
    pub is_protected: bool,
    pub annotation: BTreeMap<String, String>,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    /// Its compute, if it has one.
    pub endpoint: Option<String>,
}

/// A running stand-in. Dropping it ends every server and removes every file. Its functions block, on threads of its
/// own, so that they can be called from anywhere.
pub struct Neon {
    hub: Arc<Hub>,
    url: String,
    runtime: Option<Runtime>,
}

impl std::fmt::Debug for Neon {
    /// Without the key and the passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Neon")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl Neon {
    /// # Errors
    ///
    /// PostgreSQL is not installed, or loopback has no port left.
    pub fn start(options: NeonOptions) -> Result<Self, NeonError> {
        let major = match options.major {
            Some(major) => major,
            None => Major::debian()?,
        };
        let storage = Arc::new(Storage::open(major, options.certificate.clone())?);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let hub = Arc::new_cyclic(|me| Hub {
            me: me.clone(),
            world: tokio::sync::Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            storage,
            options,
            faults: NeonFaults::default(),
            calls: Mutex::default(),
            key: names::key(),
        });
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let url = format!("http://{}{}", listener.local_addr()?, server::PREFIX);
        let serving = hub.clone();
        runtime.spawn(async move {
            if let Ok(listener) = TcpListener::from_std(listener) {
                server::serve(listener, serving).await;
            }
        });
        Ok(Self {
            hub,
            url,
            runtime: Some(runtime),
        })
    }

    /// Where the API begins: `http://127.0.0.1:…/api/v2`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A key that opens every project.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.hub.key
    }

    /// A key that opens one project, and neither makes nor deletes any.
    #[must_use]
    pub fn project_key(&self, project: &str) -> String {
        format!("{}_{project}", self.hub.key)
    }

    #[must_use]
    pub fn faults(&self) -> &NeonFaults {
        &self.hub.faults
    }

    /// Every request so far that has been answered, or cut off.
    #[must_use]
    pub fn calls(&self) -> Vec<NeonCall> {
        let calls = self.hub.calls.lock();
        calls.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Those of one project.
    #[must_use]
    pub fn calls_of(&self, project: &str) -> Vec<NeonCall> {
        let mut calls = self.calls();
        calls.retain(|it| it.project.as_deref() == Some(project));
        calls
    }

    /// A new project. With a seed its compute is running afterwards.
    ///
    /// # Errors
    ///
    /// The cluster cannot be made, or the seed fails.
    pub fn project(&self, options: ProjectOptions) -> Result<Seeded, NeonError> {
        let hub = self.hub.clone();
        let seed = (!options.seed.is_empty()).then(|| {
            let ProjectOptions { role, seed, .. } = &options;
            format!("SET SESSION AUTHORIZATION {};\n{seed}", quoted(role))
        });
        let database = options.database.clone();
        let seeded = self.on(async move {
            let id = projects::add(&hub, options).await?;
            let mut world = hub.world.lock().await;
            let branch = world.project(&id)?.default_branch()?.clone();
            if let Some(seed) = seed {
                // Other projects do not wait for it.
                drop(world);
                let timeline = branch.timeline.clone();
                Hub::blocking(move || {
                    timeline.start(&branch.logins)?;
                    timeline.psql(&database, &seed)?;
                    timeline.mark_seeded()
                })
                .await??;
                world = hub.world.lock().await;
                let endpoint = &mut world.project(&id)?.endpoints[0];
                endpoint.state = "active";
                endpoint.started_at = Some(now());
            }
            let endpoint = &world.project(&id)?.endpoints[0];
            Ok(Seeded {
                branch: branch.id,
                endpoint: endpoint.id.clone(),
                project: id,
            })
        });
        seeded?.map_err(|refusal: Refusal| refusal.into())
    }

    /// Puts fields over those of the project's own JSON: consumption, sizes, settings.
    ///
    /// # Errors
    ///
    /// There is no such project, or `fields` is no object.
    pub fn set(&self, project: &str, fields: Value) -> Result<(), NeonError> {
        let Value::Object(fields) = fields else {
            return Err(NeonError::Refused("not an object".to_owned()));
        };
        self.with(project, move |project| {
            project.overrides.extend(fields);
            Ok(())
        })
    }

    /// Says of a branch that it is in that state, whatever it is doing.
    ///
    /// # Errors
    ///
    /// There is no such branch.
    pub fn set_state(
        &self,
        project: &str,
        branch: &str,
        state: &'static str,
    ) -> Result<(), NeonError> {
        let branch = branch.to_owned();
        self.with(project, move |project| {
            project.branch_mut(&branch)?.state = Some(state);
            Ok(())
        })
    }

    /// Makes a branch look older than it is.
    ///
    /// # Errors
    ///
    /// There is no such branch.
    pub fn age(&self, project: &str, branch: &str, by: Duration) -> Result<(), NeonError> {
        let branch = branch.to_owned();
        self.with(project, move |project| {
            let branch = project.branch_mut(&branch)?;
            let by = SignedDuration::try_from(by).unwrap_or_default();
            (branch.created_at, branch.updated_at) =
                (branch.created_at - by, branch.updated_at - by);
            Ok(())
        })
    }

    /// # Errors
    ///
    /// There is no such project.
    pub fn branches(&self, project: &str) -> Result<Vec<NeonBranch>, NeonError> {
        self.with(project, |project| {
            let branches = project.branches.iter().map(|it| NeonBranch {
                id: it.id.clone(),
                name: it.name.clone(),
                parent: it.parent.as_ref().map(|it| it.branch.clone()),
                is_default: it.is_default,
                is_protected: it.is_protected,
                annotation: it.annotation.clone(),
                created_at: it.created_at,
                expires_at: it.expires_at,
                endpoint: project.endpoint_of(&it.id).map(|it| it.id.clone()),
            });
            Ok(branches.collect())
        })
    }

    /// Waits until no operation of the project runs.
    ///
    /// # Errors
    ///
    /// There is no such project.
    pub fn settle(&self, project: &str) -> Result<(), NeonError> {
        while self.with(project, |project| Ok(project.is_busy()))? {
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// What has gone through an endpoint so far.
    ///
    /// # Errors
    ///
    /// There is no such endpoint.
    pub fn traffic(&self, project: &str, endpoint: &str) -> Result<Traffic, NeonError> {
        let endpoint = endpoint.to_owned();
        self.with(project, move |project| {
            Ok(project.endpoint(&endpoint)?.gate.traffic())
        })
    }

    /// Runs SQL as the superuser, past every endpoint; `branch` is an id or a name.
    ///
    /// # Errors
    ///
    /// There is no such branch, its server does not start, or the SQL fails.
    pub fn psql(
        &self,
        project: &str,
        branch: &str,
        database: &str,
        sql: &str,
    ) -> Result<String, NeonError> {
        let name = branch.to_owned();
        let (timeline, logins) = self.with(project, move |project| {
            let mut found = project.branches.iter();
            let found = found.rfind(|it| it.id == name || it.name == name);
            let found = found.ok_or_else(|| Refusal::missing("branch not found"))?;
            Ok((found.timeline.clone(), found.logins.clone()))
        })?;
        timeline.start(&logins)?;
        Ok(timeline.psql(database, sql)?)
    }

    /// A URL through the pooler before a branch's compute, with an address in the place of its name.
    ///
    /// # Errors
    ///
    /// The branch does not exist or has no compute.
    pub fn pooled_url(&self, project: &str, branch: &str) -> Result<String, NeonError> {
        let (branch, has_tls) = (branch.to_owned(), self.hub.options.certificate.is_some());
        self.with(project, move |project| {
            let branch = project.branch(&branch)?;
            let endpoint = project.endpoint_of(&branch.id);
            let endpoint = endpoint.ok_or_else(|| Refusal::missing("endpoint not found"))?;
            let (login, database) = (&branch.logins[0], &branch.databases[0].name);
            let login = (login.0.as_str(), Some(login.1.as_str()));
            let url = shapes::uri(endpoint, login, database, true, has_tls);
            Ok(url.replace(&shapes::host(&endpoint.id, true), "127.0.0.1"))
        })
    }

    fn with<T: Send + 'static>(
        &self,
        project: &str,
        work: impl FnOnce(&mut world::Project) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, NeonError> {
        let (hub, project) = (self.hub.clone(), project.to_owned());
        let worked = self.on(async move {
            let mut world = hub.world.lock().await;
            work(world.project(&project)?)
        });
        worked?.map_err(|refusal: Refusal| refusal.into())
    }

    /// Waits for something that runs on the stand-in's own threads.
    fn on<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, NeonError> {
        let runtime = self.runtime.as_ref().ok_or(NeonError::Stopped)?;
        let (answer, reply) = std::sync::mpsc::channel();
        runtime.spawn(async move { answer.send(work.await).ok() });
        reply.recv().map_err(|_| NeonError::Stopped)
    }
}

impl Drop for Neon {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        self.hub.storage.close();
    }
}

fn now() -> Timestamp {
    let now = Timestamp::try_from(std::time::SystemTime::now()).unwrap_or_default();
    // The API and PostgreSQL count in microseconds.
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}
