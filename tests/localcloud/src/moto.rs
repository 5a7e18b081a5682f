//! The AWS control plane: a moto server of our own.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::child::{Child, Output, Start};
use crate::workspace;

const START_MAX: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Moto {
    child: Child,
    pub(crate) url: String,
}

#[derive(Debug, thiserror::Error)]
pub enum MotoError {
    #[error("the AWS control plane is not installed at {0}; run `make tools`")]
    NotInstalled(String),
    #[error("the AWS control plane could not be started; see {log}")]
    Start {
        log: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the AWS control plane does not answer; see {log}")]
    NoAnswer { log: String },
}

impl Moto {
    /// Starts the server and waits until it answers. It calls other services at `gateway_port`.
    pub(crate) async fn start(
        http: &reqwest::Client,
        home: &Path,
        gateway_port: u16,
    ) -> Result<Self, MotoError> {
        let program = workspace::venv().join("bin/moto_server");
        if !program.is_file() {
            return Err(MotoError::NotInstalled(program.display().to_string()));
        }
        let log = home.join("logs/control-plane.log");
        let failed = |source| MotoError::Start {
            log: log.display().to_string(),
            source,
        };
        let port = free_port().map_err(failed)?;
        let child = Child::spawn(Start {
            program: &program,
            args: ["-H", "127.0.0.1", "-p", &port.to_string()]
                .map(Into::into)
                .to_vec(),
            environment: BTreeMap::from([
                ("MOTO_PORT".to_owned(), gateway_port.to_string()),
                // Its Step Functions engine signs with keys of its own, and has no other place for a region.
                (
                    "AWS_DEFAULT_REGION".to_owned(),
                    crate::aws::REGION.to_owned(),
                ),
                ("PATH".to_owned(), "/usr/bin:/bin".to_owned()),
                ("HOME".to_owned(), home.display().to_string()),
                (
                    "MOTO_IAM_LOAD_MANAGED_POLICIES".to_owned(),
                    "false".to_owned(),
                ),
            ]),
            directory: home.to_owned(),
            output: Output::File(File::create(&log).map_err(failed)?),
        })
        .map_err(failed)?;
        let mut moto = Self {
            child,
            url: format!("http://127.0.0.1:{port}"),
        };
        moto.configure(http)
            .await
            .map_err(|()| MotoError::NoAnswer {
                log: log.display().to_string(),
            })?;
        Ok(moto)
    }

    /// Makes the state machines run for real, and Lambda not start containers; the first call that succeeds says it is up.
    async fn configure(&mut self, http: &reqwest::Client) -> Result<(), ()> {
        let config = json!({"stepfunctions": {"execute_state_machine": true}, "lambda": {"use_docker": false}});
        let begun = Instant::now();
        while begun.elapsed() < START_MAX && !self.child.has_ended() {
            let answer = http
                .post(format!("{}/moto-api/config", self.url))
                .json(&config)
                .send()
                .await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(())
    }

    /// From now on, S3 requests are checked against the policies of whoever signed them.
    pub(crate) async fn enforce_iam(&self, http: &reqwest::Client) -> Result<(), reqwest::Error> {
        http.post(format!("{}/moto-api/reset-auth", self.url))
            .body("0")
            .send()
            .await?
            .error_for_status()?;
        Ok(())
    }
}

/// A port that was free a moment ago.
fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?
        .local_addr()?
        .port())
}
