//! Everything that runs behind a cloud, and how it is started.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{CloudError, Options, S3Backend};
use crate::aws::{Aws, AwsError, Credentials, REGION};
use crate::deploy::{self, Stack};
use crate::executions::Executions;
use crate::gateway::{self, Access, Backends, Faults, S3};
use crate::identities::Identities;
use crate::inbox::Inbox;
use crate::lambda_host::{Host, Surroundings};
use crate::layer::{self, Database, Target};
use crate::metrics::Metrics;
use crate::moto::Moto;

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) home: PathBuf,
    _moto: Moto,
    /// Calls through the gateway, as whoever deployed.
    pub(crate) aws: Aws,
    pub(super) admin: Credentials,
    pub(crate) stack: Stack,
    pub(crate) host: Arc<Host>,
    pub(crate) executions: Arc<Executions>,
    pub(crate) metrics: Arc<Metrics>,
    pub(super) faults: Faults,
    pub(super) inbox: Inbox,
    pub(super) recipients: [String; 2],
    configured: tokio::sync::Mutex<(Vec<Database>, Vec<Target>)>,
    pub(super) s3: S3Backend,
    pub(crate) alarms: std::sync::Mutex<crate::alarms::States>,
    /// Alarms warm up from here.
    pub(crate) created: jiff::Timestamp,
}

/// What the stack is deployed into.
#[derive(Debug)]
struct Ground {
    home: PathBuf,
    http: reqwest::Client,
    /// The gateway's address, bound before the control plane starts, which has to know it.
    listener: TcpListener,
    endpoint: String,
    moto: Moto,
    admin: Credentials,
}

impl Ground {
    async fn prepare(options: &Options, home: PathBuf) -> Result<Self, CloudError> {
        let in_home = |source| CloudError::Home {
            path: home.clone(),
            source,
        };
        let http = reqwest::Client::builder()
            .no_proxy()
            .build()
            .map_err(CloudError::Iam)?;
        let listener = TcpListener::bind(("127.0.0.1", options.port))
            .await
            .map_err(in_home)?;
        let port = listener.local_addr().map_err(in_home)?.port();
        let moto = Moto::start(&http, &home, port).await?;
        let nobody = Credentials {
            access_key: "AKIAFIRST".into(),
            secret_key: "first".into(),
            session_token: None,
        };
        let first = Aws::new(http.clone(), moto.url.clone(), nobody);
        let admin = deploy::roles::create_admin(&first).await?;
        Ok(Self {
            home,
            http,
            listener,
            endpoint: format!("http://127.0.0.1:{port}"),
            moto,
            admin,
        })
    }

    /// The control plane without the gateway, as whoever deploys.
    fn control(&self) -> Aws {
        Aws::new(self.http.clone(), self.moto.url.clone(), self.admin.clone())
    }

    async fn deploy(&self, options: &Options) -> Result<(Stack, Inbox), CloudError> {
        let plan = deploy::Plan {
            template: &options.template,
            parameters: &options.parameters,
            overrides: &options.overrides,
            retry_seconds: options.retry_seconds,
            artifacts: &options.artifacts,
            buckets_are_real: options.s3 == S3Backend::Moto,
        };
        let stack = deploy::deploy(&self.control(), &plan).await?;
        let inbox = Inbox::open(&self.control(), &stack.topics).await?;
        if options.iam_enforced && options.s3 == S3Backend::Moto {
            self.moto
                .enforce_iam(&self.http)
                .await
                .map_err(CloudError::Iam)?;
        }
        Ok((stack, inbox))
    }

    fn host(&self, options: &Options, stack: &Stack, metrics: &Arc<Metrics>) -> Arc<Host> {
        let surroundings = Surroundings {
            region: REGION.into(),
            endpoint: self.endpoint.clone(),
            layer_root: self.home.join("layer"),
            logs: self.home.join("logs"),
            extra_environment: options.environment.clone(),
        };
        Arc::new(Host::new(
            stack.functions.clone(),
            surroundings,
            metrics.clone(),
        ))
    }
}

impl Inner {
    pub(super) async fn start(options: Options) -> Result<Self, CloudError> {
        let home = prepare_home(&options)?;
        let in_home = |source| CloudError::Home {
            path: home.clone(),
            source,
        };
        let identities = Identities::of(&home).map_err(in_home)?;
        layer::link_tools(&home.join("layer"), &options.pgtools).map_err(in_home)?;
        let ground = Ground::prepare(&options, home.clone()).await?;
        let (stack, inbox) = ground.deploy(&options).await?;

        let metrics = Arc::new(Metrics::default());
        let host = ground.host(&options, &stack, &metrics);
        let executions = Executions::new(ground.control(), stack.rules.clone(), metrics.clone());
        let faults = Faults::default();
        let backends = Backends {
            http: ground.http.clone(),
            moto: ground.moto.url.clone(),
            admin: ground.admin.clone(),
            s3: open_s3(options.s3, &home, &stack, &ground.admin).map_err(in_home)?,
            host: host.clone(),
            executions: executions.clone(),
            access: Access {
                enforced: options.iam_enforced,
                roles: stack.roles.clone(),
                machine_roles: stack.machine_roles.clone(),
                bucket_policies: stack.bucket_policies.clone(),
                secrets: stack.secrets.clone(),
            },
            faults: faults.clone(),
            writers: gateway::Writers::default(),
        };
        tokio::spawn(gateway::serve(ground.listener, Arc::new(backends)));

        let inner = Self {
            _moto: ground.moto,
            aws: Aws::new(ground.http, ground.endpoint, ground.admin.clone()),
            admin: ground.admin,
            recipients: identities.recipients.clone(),
            configured: tokio::sync::Mutex::default(),
            s3: options.s3,
            alarms: std::sync::Mutex::default(),
            created: jiff::Timestamp::try_from(std::time::SystemTime::now()).unwrap_or_default(),
            home,
            stack,
            host,
            executions,
            metrics,
            faults,
            inbox,
        };
        inner
            .put_secret("lifeboat/identity", &identities.online)
            .await?;
        inner.configure(options.databases, options.targets).await?;
        Ok(inner)
    }

    pub(super) async fn configure(
        &self,
        added: Vec<Database>,
        targets: Vec<Target>,
    ) -> Result<(), CloudError> {
        let mut configured = self.configured.lock().await;
        let (databases, known_targets) = &mut *configured;
        for target in targets {
            let secret = format!("lifeboat/target/{}", target.name);
            self.put_secret(&secret, &target.url).await?;
            known_targets.retain(|known| known.name != target.name);
            known_targets.push(target);
        }
        for database in added {
            self.put_secret(
                &format!("lifeboat/database/{}", database.name),
                &database.url,
            )
            .await?;
            databases.retain(|known| known.name != database.name);
            databases.push(database);
        }
        let layer = self.home.join("layer");
        layer::write_config(&layer, &self.recipients, databases, known_targets).map_err(
            |source| CloudError::Home {
                path: layer,
                source,
            },
        )?;
        self.host.recycle();
        Ok(())
    }

    pub(super) async fn put_secret(&self, name: &str, value: &str) -> Result<(), AwsError> {
        let request = json!({"Name": name, "SecretString": value, "ClientRequestToken": crate::lambda_host::request_id()});
        match self
            .aws
            .json("secretsmanager", "secretsmanager.CreateSecret", &request)
            .await
        {
            Err(AwsError::Refused { body, .. }) if body.contains("ResourceExists") => {}
            other => return other.map(drop),
        }
        let request = json!({"SecretId": name, "SecretString": value, "ClientRequestToken": crate::lambda_host::request_id()});
        self.aws
            .json("secretsmanager", "secretsmanager.PutSecretValue", &request)
            .await
            .map(drop)
    }

    pub(crate) async fn start_execution(
        &self,
        machine: &str,
        input: &Value,
    ) -> Result<String, CloudError> {
        let arn = self.stack.template.physical(machine).unwrap_or(machine);
        // The engine needs a name, where AWS would make one up.
        let name = crate::lambda_host::request_id();
        let request = json!({"stateMachineArn": arn, "name": name, "input": input.to_string()});
        let answer = self
            .aws
            .json("states", "AWSStepFunctions.StartExecution", &request)
            .await?;
        answer["executionArn"]
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| CloudError::Unknown(machine.to_owned()))
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
    prepare().map_err(|source| CloudError::Home {
        path: options.home.clone(),
        source,
    })
}

fn open_s3(
    backend: S3Backend,
    home: &Path,
    stack: &Stack,
    admin: &Credentials,
) -> std::io::Result<S3> {
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
