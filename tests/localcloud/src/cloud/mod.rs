//! The cloud on one machine, as a value: started, driven and stopped by tests and by the command line.

mod drive;
mod objects;
mod options;
mod running;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::broadcast;

use crate::aws::{ACCOUNT, AwsError, Credentials, REGION};
use crate::deploy::DeployError;
use crate::gateway::Faults;
use crate::lambda_host::{FunctionSpec, LogLine, PeakRss};
use crate::metrics::Metrics;
use crate::moto::MotoError;
pub use options::{Options, S3Backend};
pub(crate) use running::Inner;

#[derive(Debug, thiserror::Error)]
pub enum CloudError {
    #[error("cannot prepare {path}")]
    Home {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Moto(#[from] MotoError),
    #[error(transparent)]
    Deploy(#[from] DeployError),
    #[error(transparent)]
    Aws(#[from] AwsError),
    #[error("the control plane cannot enforce IAM")]
    Iam(#[source] reqwest::Error),
    /// No resource of that logical id, name or ARN.
    #[error("the stack has no {0}")]
    Unknown(String),
    /// The cloud was stopped meanwhile.
    #[error("the cloud has been stopped")]
    Stopped,
}

/// A running cloud; dropping it stops everything it started.
#[derive(Debug)]
pub struct Cloud {
    inner: Arc<Inner>,
    runtime: Option<Runtime>,
}

impl Cloud {
    /// Starts the cloud and deploys the template into it.
    ///
    /// # Errors
    ///
    /// Whatever had been started by then is stopped.
    pub async fn start(options: Options) -> Result<Self, CloudError> {
        // A runtime of its own: processes die with the thread that started them, and a cloud that several tests
        // share outlives each test's runtime.
        let home = options.home.clone();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(4)
            .enable_all()
            .build()
            .map_err(|source| CloudError::Home { path: home, source })?;
        let started = runtime.spawn(Inner::start(options)).await;
        match started.unwrap_or(Err(CloudError::Stopped)) {
            Ok(inner) => Ok(Self {
                inner: Arc::new(inner),
                runtime: Some(runtime),
            }),
            Err(error) => {
                runtime.shutdown_background();
                Err(error)
            }
        }
    }

    /// Runs on the cloud's own runtime.
    async fn on<F, T>(&self, work: impl FnOnce(Arc<Inner>) -> F) -> Result<T, CloudError>
    where
        F: Future<Output = Result<T, CloudError>> + Send + 'static,
        T: Send + 'static,
    {
        let runtime = self.runtime.as_ref().ok_or(CloudError::Stopped)?;
        runtime
            .spawn(work(self.inner.clone()))
            .await
            .unwrap_or(Err(CloudError::Stopped))
    }

    /// For `AWS_ENDPOINT_URL`.
    pub fn endpoint(&self) -> &str {
        self.inner.aws.endpoint()
    }

    /// Keys of somebody who may do everything.
    pub fn admin_credentials(&self) -> &Credentials {
        &self.inner.admin
    }

    /// Keys of a role of the template.
    pub fn role_credentials(&self, logical_id: &str) -> Option<&Credentials> {
        self.inner
            .stack
            .roles
            .get(logical_id)
            .map(|role| &role.credentials)
    }

    /// The physical name that a logical id of the template got.
    pub fn physical(&self, logical_id: &str) -> Option<&str> {
        self.inner.stack.template.physical(logical_id)
    }

    /// What the template says of a function; by logical id, name or binary.
    pub fn function(&self, function: &str) -> Option<&FunctionSpec> {
        self.inner.host.spec(function)
    }

    /// Answers for a function of a user's own, which is invoked by that name.
    pub fn hook(
        &self,
        name: &str,
        answer: impl Fn(Value) -> Result<Value, String> + Send + Sync + 'static,
    ) {
        self.inner.host.add_hook(name, answer);
    }

    pub fn home(&self) -> &Path {
        &self.inner.home
    }

    /// The recipients that the configuration names: online, offline.
    pub fn recipients(&self) -> &[String; 2] {
        &self.inner.recipients
    }

    pub fn faults(&self) -> &Faults {
        &self.inner.faults
    }

    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// Every log line of every function from now on.
    pub fn log_lines(&self) -> broadcast::Receiver<LogLine> {
        self.inner.host.subscribe()
    }

    /// All that a function has written so far, in this home's runs.
    pub fn logs(&self, function: &str) -> String {
        let binary = self
            .inner
            .host
            .spec(function)
            .map_or(function, |spec| &spec.binary);
        let log = self.inner.home.join(format!("logs/{binary}.log"));
        std::fs::read(log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Peak memory of each invocation of a function so far, oldest first.
    pub fn function_peak_rss(&self, function: &str) -> Vec<PeakRss> {
        let logical_id = self
            .inner
            .host
            .spec(function)
            .map_or(function, |spec| &spec.logical_id);
        self.inner
            .host
            .peaks()
            .into_iter()
            .filter(|peak| peak.logical_id == logical_id)
            .collect()
    }

    /// Stops everything; dropping does the same.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        self.inner.host.kill_all();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The environment that makes the AWS CLI and SDKs talk to this cloud.
pub fn client_environment(cloud: &Cloud) -> BTreeMap<String, String> {
    let admin = cloud.admin_credentials();
    [
        ("AWS_ENDPOINT_URL", cloud.endpoint()),
        ("AWS_ACCESS_KEY_ID", &admin.access_key),
        ("AWS_SECRET_ACCESS_KEY", &admin.secret_key),
        ("AWS_DEFAULT_REGION", REGION),
        ("AWS_ACCOUNT_ID", ACCOUNT),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}
