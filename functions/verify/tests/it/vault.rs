//! Vault and work bucket over the real S3 protocol, on a loopback port over a folder.

use std::error::Error;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use shared::key::Key;
use shared::store::Bucket;
use shared::verdict::{Code, VerdictRecord};
use tempfile::TempDir;
use verify::Invocation;
use verify::error::VerifyError;
use verify::report::Report;
use verify::verify_backup::{Next, Verifier};

use crate::sample::{Backup, database, id, item};

pub(crate) struct Cloud {
    folder: TempDir,
    pub(crate) weather: Arc<Weather>,
    pub(crate) vault: Bucket,
    pub(crate) work: Bucket,
    invocations: std::sync::atomic::AtomicU32,
}

impl Cloud {
    pub(crate) async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        for bucket in ["vault", "work"] {
            std::fs::create_dir(folder.path().join(bucket)).unwrap();
        }
        let mut service = S3ServiceBuilder::new(FileSystem::new(folder.path()).unwrap());
        service.set_auth(SimpleAuth::from_single("key", "secret"));
        let service = service.build();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let weather = Arc::new(Weather::default());
        let serving = weather.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (service, weather) = (service.clone(), serving.clone());
                let answer = hyper::service::service_fn(move |request| {
                    answer(service.clone(), weather.clone(), request)
                });
                tokio::spawn(async move {
                    let server = Builder::new(TokioExecutor::new());
                    // A client that goes away is none of the tests' business.
                    let _ended = server.serve_connection(TokioIo::new(socket), answer).await;
                });
            }
        });
        let aws = config(&endpoint).await;
        Self {
            folder,
            weather,
            vault: Bucket::new(&aws, "vault".to_owned()),
            work: Bucket::new(&aws, "work".to_owned()),
            invocations: 0.into(),
        }
    }

    /// A cloud that holds this backup.
    pub(crate) async fn with(backup: &Backup) -> Self {
        let cloud = Self::start().await;
        cloud.put(backup).await;
        cloud
    }

    pub(crate) async fn put(&self, backup: &Backup) {
        for (object, bytes) in backup.manifest.objects.iter().zip(&backup.objects) {
            let bytes = bytes.clone().into();
            self.vault.put_once(&object.key, bytes).await.unwrap();
        }
        self.put_manifest(&backup.manifest.to_json().unwrap()).await;
    }

    pub(crate) async fn put_manifest(&self, json: &[u8]) {
        let key = Key::Manifest(&database(), id()).to_string();
        self.vault
            .put_once(&key, json.to_vec().into())
            .await
            .unwrap();
    }

    /// Where an object of the vault lies as a plain file.
    pub(crate) fn file(&self, key: &str) -> PathBuf {
        self.folder.path().join("vault").join(key)
    }

    pub(crate) fn manifest_file(&self) -> PathBuf {
        self.file(&Key::Manifest(&database(), id()).to_string())
    }

    pub(crate) async fn verify(&self, backup: &Backup) -> Report {
        self.verify_within(backup, Duration::from_secs(60), None)
            .await
            .unwrap()
    }

    pub(crate) async fn verify_within(
        &self,
        backup: &Backup,
        time: Duration,
        next: Option<Next>,
    ) -> Result<Report, VerifyError> {
        use std::sync::atomic::Ordering;

        let n = self.invocations.fetch_add(1, Ordering::Relaxed);
        let verifier = Verifier {
            vault: &self.vault,
            work: &self.work,
            identities: Arc::new([backup.identities[0].clone()]),
            threads: 2,
            lock_days: 35,
        };
        let invocation = Invocation {
            request_id: format!("request {n}"),
            started_at: "2026-11-21T01:10:00Z".parse().unwrap(),
            deadline: Instant::now() + time,
        };
        verifier.verify(&invocation, &item(), next).await
    }

    /// The verdict that a report names.
    pub(crate) async fn verdict(&self, report: &Report) -> VerdictRecord {
        let key = report.verdict_key.as_ref().unwrap();
        let json = self.vault.get(key, None, 1 << 20).await.unwrap();
        serde_json::from_slice(&json).unwrap()
    }
}

/// What goes wrong between client and storage.
#[derive(Default)]
pub(crate) struct Weather {
    state: Mutex<State>,
}

#[derive(Clone, Default)]
struct State {
    /// Before each answer about an archive object.
    delay: Duration,
    /// A key's end, and the status of every answer about it.
    refused: Option<(&'static str, u16)>,
    /// What a list of versions answers.
    versions: Option<String>,
    /// Bytes after which an answer breaks off, and how many more will.
    broken: (usize, u32),
}

impl Weather {
    pub(crate) fn delay(&self, delay: Duration) {
        self.state.lock().unwrap().delay = delay;
    }

    pub(crate) fn refuse(&self, key_end: &'static str, status: u16) {
        self.state.lock().unwrap().refused = Some((key_end, status));
    }

    pub(crate) fn break_off_after(&self, bytes: usize, times: u32) {
        self.state.lock().unwrap().broken = (bytes, times);
    }

    /// Key, version, and whether it is a delete marker; the newest first.
    pub(crate) fn list_versions(&self, versions: &[(&str, &str, bool)]) {
        let mut xml = "<ListVersionsResult><IsTruncated>false</IsTruncated>".to_owned();
        for (n, (key, id, is_delete_marker)) in versions.iter().rev().enumerate() {
            let tag = if *is_delete_marker {
                "DeleteMarker"
            } else {
                "Version"
            };
            let at = format!("2026-11-21T01:00:{:02}.000Z", n + 1);
            xml += &format!(
                "<{tag}><Key>{key}</Key><VersionId>{id}</VersionId><LastModified>{at}</LastModified></{tag}>"
            );
        }
        self.state.lock().unwrap().versions = Some(xml + "</ListVersionsResult>");
    }

    pub(crate) fn breaks_left(&self) -> u32 {
        self.state.lock().unwrap().broken.1
    }
}

type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

async fn answer(
    service: S3Service,
    weather: Arc<Weather>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Box<dyn Error + Send + Sync>> {
    let state = weather.state.lock().unwrap().clone();
    let path = request.uri().path().to_owned();
    let is_archive_read = request.method() == "GET" && path.contains("/archive-");
    if is_archive_read {
        tokio::time::sleep(state.delay).await;
    }
    if let Some((end, status)) = state.refused
        && path.ends_with(end)
    {
        let code = if status == 403 {
            "AccessDenied"
        } else {
            "SlowDown"
        };
        return answer_xml(status, format!("<Error><Code>{code}</Code></Error>"));
    }
    let asks = |what| request.uri().query().is_some_and(|it| it.contains(what));
    if let Some(xml) = state.versions.filter(|_| asks("versions")) {
        return answer_xml(200, xml);
    }
    let answer = hyper::service::Service::call(&service, request).await?;
    let (head, body) = answer.into_parts();
    let length = head.headers.get("content-length");
    let length = length.map_or(0, |it| it.to_str().unwrap().parse().unwrap());
    let (limit, times) = state.broken;
    let mut body = body.boxed_unsync();
    if is_archive_read && times > 0 && length > limit {
        weather.state.lock().unwrap().broken.1 -= 1;
        body = cut(body, limit);
    }
    Ok(Response::from_parts(head, body))
}

fn answer_xml(status: u16, xml: String) -> Result<Response<Body>, Box<dyn Error + Send + Sync>> {
    let body = Full::new(Bytes::from(xml)).map_err(|never| match never {});
    let answer = Response::builder().status(status);
    Ok(answer.body(body.boxed_unsync())?)
}

/// The length stays the promised one: the connection ends instead.
fn cut(body: Body, limit: usize) -> Body {
    let mut passed = 0;
    body.map_frame(move |frame| {
        passed += frame.data_ref().map_or(0, Bytes::len);
        if passed > limit {
            Frame::data(Bytes::new())
        } else {
            frame
        }
    })
    .boxed_unsync()
}

async fn config(endpoint: &str) -> SdkConfig {
    aws_config::defaults(BehaviorVersion::latest())
        .credentials_provider(Credentials::new("key", "secret", None, None, "tests"))
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .load()
        .await
}

/// Code and object's name of every finding.
pub(crate) fn found(report: &Report) -> Vec<(Code, String)> {
    let name = |key: &Option<String>| shared::key::object_name(key.as_deref().unwrap_or("")).into();
    let findings = report.findings.iter();
    findings.map(|it| (it.code, name(&it.object))).collect()
}
