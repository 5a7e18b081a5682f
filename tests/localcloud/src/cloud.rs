//! The cloud on one machine, as a value: started, driven and stopped by tests and by the command line.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::broadcast;

use crate::aws::{ACCOUNT, Aws, AwsError, Call, Credentials, REGION, Reply, element, elements, encode_path};
use crate::deploy::{self, DeployError, Override, Stack};
use crate::executions::{Execution, Executions};
use crate::gateway::{self, Access, Backends, Faults, S3};
use crate::identities::Identities;
use crate::inbox::{Inbox, Message};
use crate::lambda_host::{FunctionSpec, Host, Invoked, LogLine, PeakRss, Surroundings};
use crate::layer::{self, Database};
use crate::metrics::Metrics;
use crate::moto::{Moto, MotoError};
use crate::workspace;

/// What a cloud is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// Objects, identities, logs and layers; created when missing.
    pub home: PathBuf,
    pub template: PathBuf,
    /// Parameters of the template that differ from their defaults.
    pub parameters: BTreeMap<String, String>,
    pub overrides: Vec<Override>,
    /// Where the functions' programs are.
    pub artifacts: PathBuf,
    /// PostgreSQL client tools, `<pgtools>/<major>/bin/pg_dump`.
    pub pgtools: PathBuf,
    pub s3: S3Backend,
    /// Every call of a function or a machine is checked against its role's policies and the buckets'.
    pub iam_enforced: bool,
    pub databases: Vec<Database>,
    /// Added to every function's environment.
    pub environment: BTreeMap<String, String>,
    /// The gateway's port; 0 for any free one.
    pub port: u16,
}

impl Options {
    /// The project's own template and the programs built beside this one.
    pub fn new(home: impl Into<PathBuf>) -> Self {
        Self {
            home: home.into(),
            template: workspace::root().join("infra/template.yaml"),
            parameters: BTreeMap::new(),
            overrides: Vec::new(),
            artifacts: workspace::artifacts(),
            pgtools: PathBuf::from("/usr/lib/postgresql"),
            s3: S3Backend::Folder,
            iam_enforced: false,
            databases: Vec::new(),
            environment: BTreeMap::new(),
            port: 0,
        }
    }
}

/// Who keeps the objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum S3Backend {
    /// Plain files under `<home>/s3`: fast; no versions, no locks.
    Folder,
    /// The control plane's S3, in memory: versions, locks, and its own check of roles.
    Moto,
}

#[derive(Debug, thiserror::Error)]
pub enum CloudError {
    #[error("cannot prepare {path}")]
    Home { path: PathBuf, #[source] source: std::io::Error },
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

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) home: PathBuf,
    _moto: Moto,
    /// Calls through the gateway, as whoever deployed.
    pub(crate) aws: Aws,
    admin: Credentials,
    pub(crate) stack: Stack,
    pub(crate) host: Arc<Host>,
    pub(crate) executions: Arc<Executions>,
    pub(crate) metrics: Arc<Metrics>,
    faults: Faults,
    inbox: Inbox,
    recipients: [String; 2],
    databases: tokio::sync::Mutex<Vec<Database>>,
    s3: S3Backend,
    pub(crate) alarms: std::sync::Mutex<crate::alarms::States>,
    /// Alarms warm up from here.
    pub(crate) created: jiff::Timestamp,
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
            Ok(inner) => Ok(Self { inner: Arc::new(inner), runtime: Some(runtime) }),
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
        runtime.spawn(work(self.inner.clone())).await.unwrap_or(Err(CloudError::Stopped))
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
        self.inner.stack.roles.get(logical_id).map(|role| &role.credentials)
    }

    /// The physical name that a logical id of the template got.
    pub fn physical(&self, logical_id: &str) -> Option<&str> {
        self.inner.stack.template.physical(logical_id)
    }

    /// What the template says of a function; by logical id, name or binary.
    pub fn function(&self, function: &str) -> Option<&FunctionSpec> {
        self.inner.host.spec(function)
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
        let binary = self.inner.host.spec(function).map_or(function, |spec| &spec.binary);
        let log = self.inner.home.join(format!("logs/{binary}.log"));
        std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Peak memory of each invocation of a function so far, oldest first.
    pub fn function_peak_rss(&self, function: &str) -> Vec<PeakRss> {
        let logical_id = self.inner.host.spec(function).map_or(function, |spec| &spec.logical_id);
        self.inner.host.peaks().into_iter().filter(|peak| peak.logical_id == logical_id).collect()
    }

    /// Invokes a function by logical id, name or binary, through the gateway, and waits for its answer.
    pub async fn invoke(&self, function: &str, event: &Value) -> Result<Invoked, CloudError> {
        let spec = self.inner.host.spec(function).ok_or_else(|| CloudError::Unknown(function.to_owned()))?;
        let path = format!("/2015-03-31/functions/{}/invocations", spec.name);
        let body = Bytes::from(event.to_string());
        self.on(|inner| async move {
            let call = Call { service: "lambda", action: "Invoke", method: Method::POST, path_and_query: &path, headers: Vec::new(), body };
            let reply = inner.aws.checked(call).await?;
            let header = |name| reply.headers.get(name).and_then(|value| value.to_str().ok());
            Ok(Invoked {
                request_id: header("x-amzn-requestid").unwrap_or_default().to_owned(),
                failed: header("x-amz-function-error").is_some(),
                payload: reply.body.clone(),
            })
        })
        .await
    }

    /// Starts a state machine, named by logical id, and returns the execution's ARN.
    pub async fn start_execution(&self, machine: &str, input: &Value) -> Result<String, CloudError> {
        let (machine, input) = (machine.to_owned(), input.clone());
        self.on(|inner| async move { inner.start_execution(&machine, &input).await }).await
    }

    /// Waits for an execution's end, and for what its end sets off (rules, counts).
    pub async fn wait(&self, execution_arn: &str) -> Result<Execution, CloudError> {
        let arn = execution_arn.to_owned();
        self.on(|inner| async move { inner.executions.wait(&arn).await.ok_or(CloudError::Unknown(arn)) }).await
    }

    /// Starts a state machine and waits for its end.
    pub async fn run(&self, machine: &str, input: &Value) -> Result<Execution, CloudError> {
        let arn = self.start_execution(machine, input).await?;
        self.wait(&arn).await
    }

    /// Stops an execution, as an operator would.
    pub async fn stop_execution(&self, execution_arn: &str) -> Result<(), CloudError> {
        let request = json!({"executionArn": execution_arn, "error": "Stopped", "cause": "by hand"});
        self.on(|inner| async move { Ok(inner.aws.json("states", "AWSStepFunctions.StopExecution", &request).await.map(drop)?) })
            .await
    }

    /// Everything published to the template's topics since the start, oldest first.
    pub async fn published_messages(&self) -> Result<Vec<Message>, CloudError> {
        self.on(|inner| async move { Ok(inner.inbox.all(&inner.aws).await?) }).await
    }

    /// Adds databases to the configuration, or replaces those of the same name, and puts their secrets.
    /// Functions that are warm keep the old configuration and are ended, as a deployment would.
    pub async fn configure(&self, databases: Vec<Database>) -> Result<(), CloudError> {
        self.on(|inner| async move { inner.configure(databases).await }).await
    }

    /// Puts a secret as it is, also one that no function can use.
    pub async fn put_secret(&self, name: &str, value: &str) -> Result<(), CloudError> {
        let (name, value) = (name.to_owned(), value.to_owned());
        self.on(|inner| async move { Ok(inner.put_secret(&name, &value).await?) }).await
    }

    /// Keys and sizes in a bucket, named by logical or physical id, in order.
    pub async fn objects(&self, bucket: &str) -> Result<BTreeMap<String, u64>, CloudError> {
        let bucket = self.physical(bucket).unwrap_or(bucket).to_owned();
        self.on(|inner| async move { Ok(inner.list(&bucket).await?) }).await
    }

    /// The bytes of one object.
    pub async fn object(&self, bucket: &str, key: &str) -> Result<Bytes, CloudError> {
        let path = self.object_url_path(bucket, key);
        Ok(self.s3(Method::GET, &path, Bytes::new()).await?.body)
    }

    /// Writes an object past every role and rule, as an attacker or a bit flip would.
    pub async fn overwrite(&self, bucket: &str, key: &str, bytes: impl Into<Bytes>) -> Result<(), CloudError> {
        let path = self.object_url_path(bucket, key);
        let body = bytes.into();
        self.on(|inner| async move {
            // A bucket with Object Lock refuses writes without it.
            let headers = vec![("x-amz-sdk-checksum-algorithm", "CRC32")];
            let call = Call { service: "s3", action: "PutObject", method: Method::PUT, path_and_query: &path, headers, body };
            Ok(inner.aws.checked(call).await.map(drop)?)
        })
        .await
    }

    /// Removes an object past every role and rule.
    pub async fn remove(&self, bucket: &str, key: &str) -> Result<(), CloudError> {
        let path = self.object_url_path(bucket, key);
        self.s3(Method::DELETE, &path, Bytes::new()).await.map(drop)
    }

    /// Any S3 request as whoever deployed; the path is percent-encoded.
    pub async fn s3(&self, method: Method, path_and_query: &str, body: Bytes) -> Result<Reply, CloudError> {
        let path = path_and_query.to_owned();
        self.on(|inner| async move {
            let call = Call { service: "s3", action: "S3", method, path_and_query: &path, headers: Vec::new(), body };
            Ok(inner.aws.checked(call).await?)
        })
        .await
    }

    /// Any S3 request with somebody's keys, whatever the answer's status.
    pub async fn s3_as(
        &self,
        credentials: &Credentials,
        method: Method,
        path_and_query: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Reply, CloudError> {
        let (credentials, path) = (credentials.clone(), path_and_query.to_owned());
        let headers: Vec<_> = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.on(|inner| async move {
            let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let call = Call { service: "s3", action: "S3", method, path_and_query: &path, headers, body };
            Ok(inner.aws.with(credentials).send(call).await?)
        })
        .await
    }

    /// An API call with the JSON protocol and somebody's keys.
    pub async fn api_as(
        &self,
        credentials: &Credentials,
        service: &str,
        target: &str,
        request: &Value,
    ) -> Result<Value, CloudError> {
        let credentials = credentials.clone();
        let (service, target, request) = (service.to_owned(), target.to_owned(), request.clone());
        self.on(|inner| async move { Ok(inner.aws.with(credentials).json(&service, &target, &request).await?) }).await
    }

    /// Where an object lies as a plain file; only with the folder.
    pub fn object_file(&self, bucket: &str, key: &str) -> Option<PathBuf> {
        let bucket = self.physical(bucket).unwrap_or(bucket);
        (self.inner.s3 == S3Backend::Folder).then(|| self.inner.home.join("s3").join(bucket).join(key))
    }

    fn object_url_path(&self, bucket: &str, key: &str) -> String {
        encode_path(&format!("/{}/{key}", self.physical(bucket).unwrap_or(bucket)))
    }

    /// An API call with the JSON protocol, as whoever deployed.
    pub async fn api(&self, service: &str, target: &str, request: &Value) -> Result<Value, CloudError> {
        let (service, target, request) = (service.to_owned(), target.to_owned(), request.clone());
        self.on(|inner| async move { Ok(inner.aws.json(&service, &target, &request).await?) }).await
    }

    /// The schedules that fall due after `from` and not after `to`, in order of time.
    pub fn due(&self, from: jiff::Timestamp, to: jiff::Timestamp) -> Result<Vec<crate::schedules::Due>, CloudError> {
        Ok(crate::schedules::due(&self.inner.schedules()?, from, to))
    }

    /// Starts what the schedules would have started between two instants; the executions' ARNs.
    pub async fn fire_due(&self, from: jiff::Timestamp, to: jiff::Timestamp) -> Result<Vec<String>, CloudError> {
        let due = self.due(from, to)?;
        self.on(|inner| async move {
            let mut arns = Vec::new();
            for due in due {
                let input = serde_json::from_str(&due.input).unwrap_or(Value::String(due.input));
                arns.push(inner.start_execution(&due.target, &input).await?);
            }
            Ok(arns)
        })
        .await
    }

    /// Looks at every alarm as it stands at `now`; one that goes off publishes to its topics.
    pub async fn evaluate_alarms(&self, now: jiff::Timestamp) -> Result<Vec<crate::alarms::Evaluated>, CloudError> {
        self.on(|inner| async move { inner.evaluate_alarms(now).await }).await
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

impl Inner {
    async fn start(options: Options) -> Result<Self, CloudError> {
        let home = prepare_home(&options)?;
        let in_home = |source| CloudError::Home { path: home.clone(), source };
        let identities = Identities::of(&home).map_err(in_home)?;
        let layer_root = home.join("layer");
        layer::link_tools(&layer_root, &options.pgtools).map_err(in_home)?;

        let http = reqwest::Client::builder().no_proxy().build().map_err(CloudError::Iam)?;
        let listener = TcpListener::bind(("127.0.0.1", options.port)).await.map_err(in_home)?;
        let port = listener.local_addr().map_err(in_home)?.port();
        let endpoint = format!("http://127.0.0.1:{port}");
        let moto = Moto::start(&http, &home, port).await?;

        let nobody = Credentials { access_key: "AKIAFIRST".into(), secret_key: "first".into(), session_token: None };
        let admin = deploy::roles::create_admin(&Aws::new(http.clone(), moto.url.clone(), nobody)).await?;
        let control = Aws::new(http.clone(), moto.url.clone(), admin.clone());
        let plan = deploy::Plan {
            template: &options.template,
            parameters: &options.parameters,
            overrides: &options.overrides,
            artifacts: &options.artifacts,
            buckets_are_real: options.s3 == S3Backend::Moto,
        };
        let stack = deploy::deploy(&control, &plan).await?;
        let inbox = Inbox::open(&control, &stack.topics).await?;
        if options.iam_enforced && options.s3 == S3Backend::Moto {
            moto.enforce_iam(&http).await.map_err(CloudError::Iam)?;
        }

        let metrics = Arc::new(Metrics::default());
        let surroundings = Surroundings {
            region: REGION.into(),
            endpoint: endpoint.clone(),
            layer_root: layer_root.clone(),
            logs: home.join("logs"),
            extra_environment: options.environment.clone(),
        };
        let host = Arc::new(Host::new(stack.functions.clone(), surroundings, metrics.clone()));
        let executions = Executions::new(control, stack.rules.clone(), metrics.clone());
        let faults = Faults::default();
        let s3 = open_s3(options.s3, &home, &stack, &admin).map_err(in_home)?;
        let backends = Arc::new(OnceLock::new());
        let _first = backends.set(Backends {
            http: http.clone(),
            moto: moto.url.clone(),
            admin: admin.clone(),
            s3,
            host: host.clone(),
            executions: executions.clone(),
            access: Access {
                enforced: options.iam_enforced,
                roles: stack.roles.clone(),
                machine_roles: stack.machine_roles.clone(),
                bucket_policies: stack.bucket_policies.clone(),
            },
            faults: faults.clone(),
        });
        tokio::spawn(gateway::serve(listener, backends));

        let inner = Self {
            _moto: moto,
            aws: Aws::new(http, endpoint, admin.clone()),
            recipients: identities.recipients.clone(),
            databases: tokio::sync::Mutex::default(),
            s3: options.s3,
            alarms: std::sync::Mutex::default(),
            created: jiff::Timestamp::try_from(std::time::SystemTime::now()).unwrap_or_default(),
            home, admin, stack, host, executions, metrics, faults, inbox,
        };
        inner.put_secret("lifeboat/identity", &identities.online).await?;
        inner.configure(options.databases).await?;
        Ok(inner)
    }

    async fn configure(&self, added: Vec<Database>) -> Result<(), CloudError> {
        let mut databases = self.databases.lock().await;
        for database in added {
            self.put_secret(&format!("lifeboat/database/{}", database.name), &database.url).await?;
            databases.retain(|known| known.name != database.name);
            databases.push(database);
        }
        let layer = self.home.join("layer");
        layer::write_config(&layer, &self.recipients, &databases)
            .map_err(|source| CloudError::Home { path: layer, source })?;
        self.host.recycle();
        Ok(())
    }

    async fn put_secret(&self, name: &str, value: &str) -> Result<(), AwsError> {
        let request = json!({"Name": name, "SecretString": value, "ClientRequestToken": crate::lambda_host::request_id()});
        match self.aws.json("secretsmanager", "secretsmanager.CreateSecret", &request).await {
            Err(AwsError::Refused { body, .. }) if body.contains("ResourceExists") => {}
            other => return other.map(drop),
        }
        let request = json!({"SecretId": name, "SecretString": value, "ClientRequestToken": crate::lambda_host::request_id()});
        self.aws.json("secretsmanager", "secretsmanager.PutSecretValue", &request).await.map(drop)
    }

    pub(crate) async fn start_execution(&self, machine: &str, input: &Value) -> Result<String, CloudError> {
        let arn = self.stack.template.physical(machine).unwrap_or(machine);
        // The engine needs a name, where AWS would make one up.
        let name = crate::lambda_host::request_id();
        let request = json!({"stateMachineArn": arn, "name": name, "input": input.to_string()});
        let answer = self.aws.json("states", "AWSStepFunctions.StartExecution", &request).await?;
        answer["executionArn"].as_str().map(str::to_owned).ok_or_else(|| CloudError::Unknown(machine.to_owned()))
    }

    async fn list(&self, bucket: &str) -> Result<BTreeMap<String, u64>, AwsError> {
        let mut objects = BTreeMap::new();
        let mut after = String::new();
        loop {
            let path = format!("/{bucket}?list-type=2&start-after={}", encode_path(&after).replace('/', "%2F"));
            let call = Call {
                service: "s3",
                action: "ListObjectsV2",
                method: Method::GET,
                path_and_query: &path,
                headers: Vec::new(),
                body: Bytes::new(),
            };
            let reply = self.aws.checked(call).await?;
            let xml = String::from_utf8_lossy(&reply.body);
            for entry in elements(&xml, "Contents") {
                let size = element(entry, "Size").and_then(|size| size.parse().ok()).unwrap_or_default();
                objects.insert(element(entry, "Key").unwrap_or_default(), size);
            }
            let last = objects.keys().next_back().cloned().unwrap_or_default();
            if element(&xml, "IsTruncated").as_deref() != Some("true") || last == after {
                return Ok(objects);
            }
            after = last;
        }
    }
}

fn prepare_home(options: &Options) -> Result<PathBuf, CloudError> {
    let prepare = || {
        std::fs::create_dir_all(&options.home)?;
        let home = options.home.canonicalize()?;
        for folder in ["s3", "logs", "layer"] {
            std::fs::create_dir_all(home.join(folder))?;
        }
        Ok(home)
    };
    prepare().map_err(|source| CloudError::Home { path: options.home.clone(), source })
}

fn open_s3(backend: S3Backend, home: &Path, stack: &Stack, admin: &Credentials) -> std::io::Result<S3> {
    match backend {
        S3Backend::Moto => Ok(S3::Moto),
        S3Backend::Folder => {
            for bucket in &stack.buckets {
                std::fs::create_dir_all(home.join("s3").join(bucket))?;
            }
            let roles = stack.roles.values().map(|role| &role.credentials);
            gateway::folder_s3(&home.join("s3"), roles.chain([admin]))
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
