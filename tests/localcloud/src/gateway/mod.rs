//! One address for the whole cloud: S3, Lambda's Invoke, and the control plane behind it.

mod answer;
mod asked;
mod exact_s3;
mod faults;
mod writers;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use s3s::Body;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use serde_json::Value;
use tokio::net::TcpListener;

use crate::aws::{Credentials, sign_request};
use crate::executions::Executions;
use crate::iam::{self, Decision};
use crate::lambda_host::{self, Host};
use answer::{cut, denied, lost, plain, s3_error};
use asked::Parts;
pub use faults::{Fault, FaultAction, Faults};
pub(crate) use writers::Writers;

/// More than any request that is buffered on its way to the control plane: a part of an upload in tests.
const BODY_BYTES_MAX: usize = 256 * 1024 * 1024;

/// The access key with which the control plane's Step Functions engine signs.
const ENGINE_ACCESS_KEY: &str = "ak";
const ENGINE_SECRET_KEY: &str = "sk";

/// Where S3 requests go.
pub(crate) enum S3 {
    /// Objects are plain files.
    Folder(S3Service),
    /// Versions and locks, but slow.
    Moto,
}

impl std::fmt::Debug for S3 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Folder(_) => "Folder",
            Self::Moto => "Moto",
        })
    }
}

/// A role of the template, with everything that decides what it may do.
#[derive(Clone, Debug)]
pub(crate) struct Role {
    pub(crate) arn: String,
    pub(crate) policies: Vec<Value>,
    pub(crate) credentials: Credentials,
}

/// Who may do what.
#[derive(Debug, Default)]
pub(crate) struct Access {
    pub(crate) enforced: bool,
    /// By logical id.
    pub(crate) roles: BTreeMap<String, Role>,
    /// Logical id of the role of each state machine, by the machine's ARN.
    pub(crate) machine_roles: BTreeMap<String, String>,
    /// By bucket.
    pub(crate) bucket_policies: BTreeMap<String, Vec<Value>>,
    /// ARNs of the template's secrets, each with the random end that its creation gave it.
    pub(crate) secrets: Vec<String>,
}

impl Access {
    /// A secret asked for by name is, to a policy, the ARN that it has.
    fn with_real_arn(&self, mut request: iam::Request) -> iam::Request {
        let without_end = |arn: &str| arn.rsplit_once('-').map(|(arn, _)| arn.to_owned());
        let asked = without_end(&request.resource);
        if let Some(arn) = self.secrets.iter().find(|arn| without_end(arn) == asked) {
            request.resource.clone_from(arn);
        }
        request
    }
}

/// Everything behind the gateway's address.
#[derive(Debug)]
pub(crate) struct Backends {
    pub(crate) http: reqwest::Client,
    pub(crate) moto: String,
    /// Who deployed, and may do everything.
    pub(crate) admin: Credentials,
    pub(crate) s3: S3,
    pub(crate) host: Arc<Host>,
    pub(crate) executions: Arc<Executions>,
    pub(crate) access: Access,
    pub(crate) faults: Faults,
    pub(crate) writers: Writers,
}

/// S3 over a folder, for everybody whose keys the cloud has handed out.
pub(crate) fn folder_s3<'a>(
    root: &Path,
    keys: impl Iterator<Item = &'a Credentials>,
) -> std::io::Result<S3> {
    let mut auth = SimpleAuth::from_single(ENGINE_ACCESS_KEY, ENGINE_SECRET_KEY);
    for credentials in keys {
        auth.register(
            credentials.access_key.clone(),
            credentials.secret_key.clone().into(),
        );
    }
    let mut builder = S3ServiceBuilder::new(exact_s3::ExactS3::new(root)?);
    builder.set_auth(auth);
    Ok(S3::Folder(builder.build()))
}

/// Serves until the task is aborted.
pub(crate) async fn serve(listener: TcpListener, backends: Arc<Backends>) {
    while let Ok((stream, _)) = listener.accept().await {
        let backends = backends.clone();
        let service = hyper::service::service_fn(move |request| {
            let backends = backends.clone();
            async move { backends.handle(request).await }
        });
        tokio::spawn(async move {
            let _small_answers_at_once = stream.set_nodelay(true);
            let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            let _peer_gone = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// An error closes the connection without an answer.
type Handled = Result<Response<Body>, std::io::Error>;

impl Backends {
    async fn handle(&self, request: Request<Incoming>) -> Handled {
        let parts = Parts {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            query: request.uri().query().unwrap_or_default().to_owned(),
            headers: request.headers().clone(),
        };
        match self.faults.meet(
            &parts.method,
            &parts.path,
            &parts.query,
            parts.header("x-amz-target"),
        ) {
            None => self.route(parts, request).await,
            Some(FaultAction::Status { status, code }) => Ok(s3_error(status, &code, &parts.path)),
            Some(FaultAction::Reset) => {
                Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset))
            }
            Some(FaultAction::Delay(pause)) => {
                tokio::time::sleep(pause).await;
                self.route(parts, request).await
            }
            Some(FaultAction::LoseAnswer) => lost(self.route(parts, request).await?).await,
            Some(FaultAction::CutAnswer(after)) => {
                cut(self.route(parts, request).await?, after).await
            }
        }
    }

    async fn route(&self, parts: Parts, request: Request<Incoming>) -> Handled {
        let (access_key, service) = match parts.signed_for() {
            Some((access_key, service)) => (Some(access_key), service),
            None if parts.path.starts_with("/moto-api") => (None, "moto".to_owned()),
            None => (None, "s3".to_owned()),
        };
        if service == "s3"
            && let S3::Folder(folder) = &self.s3
        {
            if let Some(denied) = self.refused(&service, &parts, b"", access_key.as_deref()) {
                return Ok(denied);
            }
            return folder
                .call(request.map(Body::from))
                .await
                .map_err(|error| std::io::Error::other(format!("{error:?}")));
        }
        let Ok(body) = Limited::new(request.into_body(), BODY_BYTES_MAX)
            .collect()
            .await
        else {
            return Ok(plain(
                StatusCode::PAYLOAD_TOO_LARGE,
                "the request is too large",
            ));
        };
        let body = body.to_bytes();
        if let Some(denied) = self.refused(&service, &parts, &body, access_key.as_deref()) {
            return Ok(denied);
        }
        match lambda_host::function_of(&parts.path) {
            Some(function) if service == "lambda" => {
                let response =
                    lambda_host::serve(self.host.clone(), &function, &parts.headers, body).await;
                Ok(response.map(Body::from))
            }
            _ => {
                self.moto(&service, &parts, body, access_key.as_deref())
                    .await
            }
        }
    }

    /// The answer to a request that the caller's role may not make.
    fn refused(
        &self,
        service: &str,
        parts: &Parts,
        body: &[u8],
        access_key: Option<&str>,
    ) -> Option<Response<Body>> {
        if !self.access.enforced || service == "moto" {
            return None;
        }
        let request = self
            .access
            .with_real_arn(asked::asked(service, parts, body));
        let may = match access_key {
            Some(key) if key == self.admin.access_key => true,
            Some(ENGINE_ACCESS_KEY) => self.engine_role(&request).is_some(),
            Some(key) => self
                .access
                .roles
                .values()
                .find(|role| role.credentials.access_key == key)
                .is_some_and(|role| self.may_answer(role, &request) || self.may(role, &request)),
            None => false,
        };
        (!may).then(|| denied(service, &request))
    }

    /// Whether a task token may be answered. The token does not say whose execution waits for it, so it is any
    /// machine that is running.
    fn may_answer(&self, role: &Role, request: &iam::Request) -> bool {
        request.action.starts_with("states:SendTask")
            && self
                .executions
                .running_machines()
                .into_iter()
                .any(|machine| {
                    let resource = machine;
                    self.may(
                        role,
                        &iam::Request {
                            resource,
                            ..request.clone()
                        },
                    )
                })
    }

    fn may(&self, role: &Role, request: &iam::Request) -> bool {
        let mut request = request.clone();
        request
            .context
            .insert("aws:principalarn".into(), role.arn.clone());
        let bucket = request
            .resource
            .strip_prefix("arn:aws:s3:::")
            .and_then(|rest| rest.split('/').next());
        let bucket_policies = bucket
            .and_then(|bucket| self.access.bucket_policies.get(bucket))
            .map_or(&[][..], Vec::as_slice);
        iam::decide(&role.policies, bucket_policies, &request) == Decision::Allowed
    }

    /// The role that a request of the Step Functions engine is made with. The engine does not say for which
    /// machine it calls, so it is any role of a machine that is running and may do it.
    fn engine_role(&self, request: &iam::Request) -> Option<&Role> {
        let running = self.executions.running_machines();
        self.access
            .machine_roles
            .iter()
            .filter(|(machine, _)| running.contains(*machine))
            .filter_map(|(_, role)| self.access.roles.get(role))
            .find(|role| self.may(role, request))
    }

    /// Passes a request on to the control plane.
    async fn moto(
        &self,
        service: &str,
        parts: &Parts,
        body: Bytes,
        access_key: Option<&str>,
    ) -> Handled {
        let query = if parts.query.is_empty() {
            String::new()
        } else {
            format!("?{}", parts.query)
        };
        let mut request = Request::new(body);
        *request.method_mut() = parts.method.clone();
        *request.headers_mut() = parts.headers.clone();
        *request.uri_mut() = format!("{}{}{query}", self.moto, parts.path)
            .parse()
            .map_err(std::io::Error::other)?;
        request.headers_mut().remove("transfer-encoding");

        // With enforcement the control plane checks S3 requests as they are signed. Elsewhere its check knows no
        // resources, so that ours, above, decides, and the request is made by somebody who may do anything.
        if self.access.enforced && service != "moto" {
            let signer = match access_key {
                Some(ENGINE_ACCESS_KEY) if service == "s3" => self
                    .engine_role(&asked::asked(service, parts, b""))
                    .map(|role| &role.credentials),
                // Its check takes a lock for a write of the object.
                _ if service == "s3" && parts.parameter("retention").is_some() => Some(&self.admin),
                _ if service == "s3" => None,
                _ => Some(&self.admin),
            };
            if let Some(signer) = signer {
                request.headers_mut().remove("host");
                sign_request(&mut request, service, signer).map_err(std::io::Error::other)?;
            }
        }
        let started =
            service == "states" && parts.header("x-amz-target").ends_with(".StartExecution");
        let _alone = if service == "s3" && parts.headers.contains_key("if-none-match") {
            Some(self.writers.alone(parts.path.clone()).await)
        } else {
            None
        };
        let request = reqwest::Request::try_from(request.map(reqwest::Body::from))
            .map_err(std::io::Error::other)?;
        let response = match self.http.execute(request).await {
            Ok(response) => response,
            Err(error) => {
                return Ok(plain(
                    StatusCode::BAD_GATEWAY,
                    &format!("the control plane does not answer: {error}"),
                ));
            }
        };
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.bytes().await.map_err(std::io::Error::other)?;
        if started && status.is_success() {
            self.executions.started(&body);
        }
        let mut answer = Response::new(Body::from(body));
        *answer.status_mut() = status;
        *answer.headers_mut() = headers;
        answer.headers_mut().remove("transfer-encoding");
        answer.headers_mut().remove("connection");
        Ok(answer)
    }
}
