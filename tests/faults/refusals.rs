//! What is refused before a byte is copied, and said in words that lead to the remedy.

use localcloud::pgbouncer::{PgBouncer, PoolMode};
use serde_json::{Value, json};

use super::clouds;
use super::subject::{Subject, database};

/// A word that nobody may ever read again outside the secret.
const CANARY: &str = "canary-4b1f-never-shown";

/// A host name that no resolver sends anywhere: a label is at most 63 characters long.
fn impossible_host() -> String {
    format!("{}.example", "x".repeat(64))
}

/// Configured wrongly in one way each, with what the alert has to say.
fn wrong_secrets(port: u16) -> Vec<(&'static str, String, &'static str)> {
    let at = |rest: &str| format!("postgresql://postgres:{CANARY}@{rest}");
    vec![
        (
            "wrong-password",
            at(&format!("127.0.0.1:{port}/postgres")),
            "refuses user postgres: check user and password",
        ),
        (
            "unknown-host",
            at(&format!(
                "{}:5432/app?sslmode=verify-full",
                impossible_host()
            )),
            "is unknown: check the host name",
        ),
        (
            "empty-secret",
            " \n".to_owned(),
            "the secret lifeboat/database/empty-secret is empty",
        ),
        (
            "no-url",
            CANARY.to_owned(),
            "the secret lifeboat/database/no-url is not a connection URL",
        ),
        (
            "json-secret",
            format!("{{\"uri\": \"{CANARY}\"}}"),
            "is JSON, but not",
        ),
        (
            "no-host",
            at("/app"),
            "the secret lifeboat/database/no-host",
        ),
        (
            "odd-option",
            at("db.example:5432/app?service=x"),
            "has the option \"service\", which Lifeboat does not take",
        ),
        (
            "weak-tls",
            at("db.example:5432/app?sslmode=disable"),
            "write sslmode=verify-full",
        ),
        (
            "pooler-host",
            at("ep-cool-1-pooler.eu-central-1.aws.neon.tech/app"),
            "pooled endpoint",
        ),
        ("pooler-port", at("db.example:6543/app"), "pooled endpoint"),
    ]
}

#[tokio::test]
async fn each_wrong_secret_is_told_apart_none_is_shown_and_the_right_one_is_backed_up() {
    let good = Subject::new("beside-wrong", "CREATE TABLE t AS SELECT 1 AS i").await;
    let wrong = wrong_secrets(good.cluster.port());
    let configured = wrong
        .iter()
        .map(|(name, url, _)| database(name, url, ""))
        .collect();
    good.cloud.configure(configured).await.unwrap();
    good.cloud
        .configure(vec![database("no-secret", "gone", "")])
        .await
        .unwrap();
    let delete =
        json!({"SecretId": "lifeboat/database/no-secret", "ForceDeleteWithoutRecovery": true});
    good.cloud
        .api("secretsmanager", "secretsmanager.DeleteSecret", &delete)
        .await
        .unwrap();

    let mut expected: Vec<(&str, &str)> = wrong
        .iter()
        .map(|(name, _, words)| (*name, *words))
        .collect();
    expected.push((
        "no-secret",
        "does not exist: create it with `aws secretsmanager create-secret",
    ));
    let mut names: Vec<&str> = expected.iter().map(|(name, _)| *name).collect();
    names.insert(3, good.name);
    let ended = good
        .cloud
        .run("BackupMachine", &json!({"databases": names}))
        .await
        .unwrap();

    for (name, words) in expected {
        let subject = Subject { name, ..good };
        subject.assert_failed(&ended, "Refused", &[words]).await;
    }
    let summary: Value = serde_json::from_str(ended.cause.as_deref().unwrap()).unwrap();
    let of_good = summary
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["database"] == good.name)
        .unwrap();
    assert_eq!(
        of_good["outcome"], "verified",
        "the others' failures leave it alone"
    );
    assert_eq!(good.verdicts().await[0]["verdict"], "passed");
    good.assert_nowhere(&ended, CANARY).await;
}

#[tokio::test]
async fn a_role_without_rights_is_told_everything_it_lacks_at_once() {
    let subject = Subject::new(
        "few-rights",
        "CREATE ROLE few_rights LOGIN PASSWORD 'pw';
         CREATE TABLE closed_a (id serial); CREATE TABLE closed_b (i int);
         CREATE TABLE open (i int); GRANT SELECT ON open TO few_rights;
         CREATE TABLE hidden (i int); ALTER TABLE hidden ENABLE ROW LEVEL SECURITY;
         GRANT SELECT ON hidden TO few_rights;
         CREATE SCHEMA walled; CREATE TABLE walled.inside (i int); GRANT SELECT ON walled.inside TO few_rights;
         SELECT lo_from_bytea(4711, 'x');",
    )
    .await;
    let url = subject
        .cluster
        .url_with_password(subject.name, "few_rights", Some("pw"));
    subject.configure(&url, "").await;
    let ended = subject.back_up().await;
    let causes = [
        "row-level security would hide rows from few_rights in public.hidden: ALTER ROLE few_rights BYPASSRLS",
        "few_rights may not read public.closed_a, public.closed_b, walled.inside: GRANT",
        "the sequences public.closed_a_id_seq: GRANT SELECT",
        "the large objects 4711: GRANT SELECT ON LARGE OBJECT",
    ];
    subject.assert_failed(&ended, "Refused", &causes).await;

    subject.sql(
        "GRANT pg_read_all_data TO few_rights; ALTER ROLE few_rights BYPASSRLS;
         GRANT SELECT ON LARGE OBJECT 4711 TO few_rights",
    );
    let ended = subject.back_up().await;
    let manifest = subject.assert_verified(&ended).await;
    assert_eq!(manifest["totals"]["tables"], 5, "the remedies are enough");
}

#[tokio::test]
async fn a_transaction_pooler_is_refused_and_its_sessions_are_left_as_they_were() {
    let subject = Subject::new("pooled", "CREATE TABLE t AS SELECT 1 AS i").await;
    let pooler = PgBouncer::start(subject.cluster, PoolMode::Transaction, 8).unwrap();
    subject.configure(&pooler.url(subject.name), "").await;
    let settings = "SELECT string_agg(name || '=' || setting, ',' ORDER BY name) FROM pg_settings
        WHERE name IN ('search_path', 'client_encoding', 'DateStyle', 'TimeZone', 'row_security', 'statement_timeout',
            'extra_float_digits', 'bytea_output', 'default_transaction_read_only')";
    let through = |sql: &str| {
        let mut psql = subject.cluster.client("psql", subject.name).unwrap();
        psql.env("PGPORT", pooler.port().to_string())
            .args(["-X", "-qAt", "-c", sql]);
        let output = psql.output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    let before = through(settings);
    let ended = subject.back_up().await;
    subject
        .assert_failed(
            &ended,
            "Refused",
            &[
                "is a transaction pooler",
                "use the direct host or a session pooler",
            ],
        )
        .await;
    for _ in 0..16 {
        assert_eq!(through(settings), before, "a pooled session was changed");
    }
}

#[tokio::test]
async fn a_session_pooler_is_as_good_as_the_server() {
    let subject = Subject::new("session-pooled", "CREATE TABLE t AS SELECT 1 AS i").await;
    let pooler = PgBouncer::start(subject.cluster, PoolMode::Session, 20).unwrap();
    subject.configure(&pooler.url(subject.name), "").await;
    let ended = subject.back_up().await;
    subject.assert_verified(&ended).await;
}

#[tokio::test]
async fn a_run_of_no_database_or_of_an_unknown_one_is_refused_and_told() {
    let cloud = clouds::shared().await;
    cloud
        .configure(vec![database(
            "exists",
            "postgresql://u@127.0.0.1/exists",
            "",
        )])
        .await
        .unwrap();
    for (input, words) in [
        (json!({"databases": []}), "`databases` is an empty list"),
        (
            json!({"databases": ["exists", "typed-wrong"]}),
            "lifeboat.toml does not know typed-wrong",
        ),
        (json!({"kind": "hourly"}), "unknown variant `hourly`"),
        (json!({"database": ["exists"]}), "unknown field `database`"),
    ] {
        let ended = cloud.run("BackupMachine", &input).await.unwrap();
        assert_eq!(
            (ended.status.as_str(), ended.error.as_deref()),
            ("FAILED", Some("Refused")),
            "{ended:?}"
        );
        assert!(ended.cause.as_deref().unwrap().contains(words), "{ended:?}");
        let name = ended.arn.rsplit(':').next().unwrap();
        let messages = cloud.published_messages().await.unwrap();
        let told = messages
            .iter()
            .any(|message| message.text.contains(name) && message.text.contains(words));
        assert!(told, "nobody was told of {words}: {messages:?}");
    }
}

#[tokio::test]
async fn a_configuration_without_any_database_is_refused() {
    let cloud = clouds::start("no-databases", |_| {}).await;
    let ended = cloud.run("BackupMachine", &json!({})).await.unwrap();
    assert_eq!(
        (ended.status.as_str(), ended.error.as_deref()),
        ("FAILED", Some("Refused")),
        "{ended:?}"
    );
    assert!(
        ended
            .cause
            .as_deref()
            .unwrap()
            .contains("lifeboat.toml names no database"),
        "{ended:?}"
    );
    assert!(!cloud.published_messages().await.unwrap().is_empty());
}

#[tokio::test]
async fn an_empty_database_is_backed_up_as_what_it_is() {
    let subject = Subject::new("empty-database", "").await;
    let ended = subject.back_up().await;
    let manifest = subject.assert_verified(&ended).await;
    assert_eq!(manifest["totals"]["tables"], 0);
}
