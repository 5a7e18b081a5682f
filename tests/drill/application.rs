//! An application that a drill asks, over TLS, and where it refuses to ask.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use localcloud::postgres::Flaw;
use serde_json::json;

use super::rehearsal::Rehearsal;
use crate::harness::{authority, scratch};

/// Answers over TLS as a test needs it, and writes down the headers it was sent.
const SERVER: &str = r#"
import http.server, ssl, sys, json, time
certificate, key, seen = sys.argv[1:4]
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        open(seen, 'a').write(json.dumps({'method': self.command, 'path': self.path, 'token': self.headers.get('X-Token')}) + '\n')
        path = self.path.split('?')[0]
        if path == '/slow': time.sleep(60)
        if path == '/redirect':
            self.send_response(302); self.send_header('Location', '/health'); self.end_headers(); return
        body = {'/health': b'{"database": {"ok": true}}', '/ill': b'{"database": {"ok": "CANARY"}}', '/big': b' ' * (2 << 20)}.get(path, b'CANARY')
        self.send_response(200 if path in ('/health', '/ill', '/big') else 404)
        self.send_header('Content-Length', str(len(body))); self.end_headers()
        if self.command != 'HEAD': self.wfile.write(body)
    do_HEAD = do_POST = do_GET
    def log_message(self, *args): pass
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); context.load_cert_chain(certificate, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
"#;

pub(super) struct Application {
    child: Child,
    port: u16,
    seen: std::path::PathBuf,
}

impl Application {
    pub(super) fn start(name: &str) -> Self {
        let certificate = authority().issue(Flaw::None).unwrap();
        let seen = scratch().join(format!("{name}.seen"));
        let mut child = Command::new("python3")
            .args(["-c", SERVER])
            .args([&certificate.certificate, &certificate.key, &seen])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        Self {
            child,
            port: line.trim().parse().unwrap(),
            seen,
        }
    }
}

impl Application {
    /// A check of the policy, of a path of this application.
    pub(super) fn check(&self, name: &str, path: &str, more: &str) -> String {
        http(
            name,
            &format!("https://localhost:{}{path}", self.port),
            more,
        )
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn http(name: &str, url: &str, more: &str) -> String {
    format!("[[database.drill.http]]\nname = '{name}'\nurl = '{url}'\n{more}\n")
}

#[tokio::test]
async fn an_application_is_asked_once_and_only_where_it_may_be() {
    let application = Application::start("application");
    let at = |path: &str| format!("https://localhost:{}{path}", application.port);
    let path = "json_path = '$.database.ok'\nexpect = 'true'\nallow_private = true";
    let policy = [
        http(
            "well",
            &at("/health?database={database}"),
            &format!("{path}\nheader_secret = 'lifeboat/channel/drill-app'"),
        ),
        http("ill", &at("/ill"), path),
        http("redirected", &at("/redirect"), "allow_private = true"),
        http("too big", &at("/big"), path),
        http("not found", &at("/nowhere"), "allow_private = true"),
        http("private", &at("/health"), ""),
        http(
            "metadata",
            "https://169.254.169.254/latest/meta-data/",
            "allow_private = true",
        ),
        http(
            "disguised",
            "https://[::ffff:169.254.169.254]/",
            "allow_private = true",
        ),
        http("gone", "https://localhost:1/", "allow_private = true"),
        http(
            "posted",
            &at("/health"),
            &format!("{path}\nmethod = 'POST'"),
        ),
        http("head", &at("/big"), "allow_private = true\nmethod = 'HEAD'"),
    ]
    .concat();
    let rehearsal = Rehearsal::new(
        "asked-application",
        "CREATE TABLE t AS SELECT 1 AS i",
        &policy,
    )
    .await;
    let cloud = rehearsal.subject.cloud;
    cloud
        .put_secret("lifeboat/channel/drill-app", "X-Token: hidden-word\n")
        .await
        .unwrap();
    let ended = rehearsal.drill(&json!({})).await;
    rehearsal
        .assert_not_proven(&ended, &["ill", "redirected"])
        .await;

    let evidence = rehearsal.evidence().await;
    let of = |name: &str| {
        let checks = evidence["checks"].as_array().unwrap();
        let check = checks.iter().find(|it| it["name"] == name).unwrap();
        let text = |field: &str| check[field].as_str().unwrap().to_owned();
        (text("status"), text("summary"))
    };
    for (name, status, says) in [
        ("well", "passed", "as expected"),
        ("ill", "failed", "another value than expected"),
        ("redirected", "failed", "status 302, expected 200"),
        ("too big", "failed", "larger than 1024 KiB"),
        ("not found", "failed", "status 404, expected 200"),
        ("private", "inconclusive", "allow_private = true"),
        ("metadata", "inconclusive", "never allowed"),
        ("disguised", "inconclusive", "never allowed"),
        ("gone", "inconclusive", "it does not answer"),
        ("posted", "passed", "as expected"),
        ("head", "passed", "status 200"),
    ] {
        let (found, summary) = of(name);
        assert_eq!(found, status, "{name}: {summary}");
        assert!(summary.contains(says), "{name}: {summary}");
    }
    let seen = std::fs::read_to_string(&application.seen).unwrap();
    let scratch = evidence["drill"]["scratch"].as_str().unwrap();
    let expected = json!({"method": "GET", "path": format!("/health?database={scratch}"), "token": "hidden-word"});
    let seen: Vec<serde_json::Value> = seen
        .lines()
        .map(|it| serde_json::from_str(it).unwrap())
        .collect();
    assert_eq!(seen[0], expected);
    // Each once; neither the redirect was followed, nor the forbidden ones asked.
    let methods: Vec<&str> = seen
        .iter()
        .map(|it| it["method"].as_str().unwrap())
        .collect();
    let expected = ["GET", "GET", "GET", "GET", "GET", "POST", "HEAD"];
    assert_eq!(methods, expected, "{seen:#?}");
    for secret in ["hidden-word", "CANARY"] {
        rehearsal.subject.assert_nowhere(&ended, secret).await;
        assert!(
            !evidence.to_string().contains(secret),
            "{secret} is in the evidence"
        );
        assert!(
            !cloud.logs("drill").contains(secret),
            "{secret} is in the log"
        );
    }
}
