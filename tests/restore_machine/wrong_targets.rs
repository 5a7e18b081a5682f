//! Ways to point a restore at production, or at anything else that is not to be written to. All are refused, and
//! nothing is changed.

use localcloud::cutting_proxy::CuttingProxy;
use localcloud::pgbouncer::{PgBouncer, PoolMode};
use localcloud::postgres::SUPERUSER;
use serde_json::{Value, json};

use super::rescue::{Rescue, SHOP, standby, target};
use crate::harness::dump_as_text;

/// What must come of planning with a target.
struct Wrong {
    what: &'static str,
    /// The secret of the target, and whether it is marked live.
    url: String,
    live: bool,
    scope: Value,
    /// `target` in it stands for the target's name.
    destination: fn(&str) -> Value,
}

fn new(target: &str) -> Value {
    json!({"new_database": {"target": target, "database": "production"}})
}

fn another(target: &str) -> Value {
    json!({"new_database": {"target": target, "database": "wrong_copy"}})
}

fn existing(target: &str) -> Value {
    json!({"existing_tables": {"target": target, "database": "production"}})
}

fn staging(target: &str) -> Value {
    json!({"staging": {"target": target, "schema": "lifeboat_wrong"}})
}

fn staging_in_use(target: &str) -> Value {
    json!({"staging": {"target": target, "schema": "shop"}})
}

/// What a restore would change in its session.
fn settings(mut psql: std::process::Command) -> String {
    let names = "default_transaction_read_only, statement_timeout, lock_timeout, search_path, row_security, standard_conforming_strings";
    let shown = format!(
        "SELECT name, setting FROM pg_settings WHERE name = ANY (string_to_array('{names}', ', ')) ORDER BY 1"
    );
    let output = psql.args(["-X", "-qAt", "-c", &shown]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn no_way_to_point_at_production_is_let_through() {
    let rescue = Rescue::new("production", SHOP).await;
    let (cluster, subject) = (rescue.subject.cluster, &rescue.subject);
    let (proxy, pooler) = (
        CuttingProxy::before_port(cluster.port()).unwrap(),
        PgBouncer::start(cluster, PoolMode::Session, 4).unwrap(),
    );
    let transaction = PgBouncer::start(cluster, PoolMode::Transaction, 4).unwrap();
    let other_pooled = PgBouncer::start(standby(), PoolMode::Transaction, 4).unwrap();
    let server = cluster.url(SUPERUSER, SUPERUSER);
    let live = subject.url();
    let other = standby().url(SUPERUSER, SUPERUSER);
    standby()
        .psql("postgres", "CREATE DATABASE production")
        .unwrap();
    standby().psql("production", SHOP).unwrap();
    standby()
        .psql(
            "postgres",
            "CREATE ROLE powerless LOGIN PASSWORD 'powerless'",
        )
        .unwrap();
    let by_socket = format!("{server}?host={}", cluster.socket_dir().display());
    let by_name = server.replace("127.0.0.1", "localhost");
    let everything = json!("everything");
    let rows = json!("data_only");
    let items = json!({"tables": ["shop.items"]});
    let wrong = |what, url: &str, scope: &Value, destination| Wrong {
        what,
        url: url.to_owned(),
        live: false,
        scope: scope.clone(),
        destination,
    };
    let marked = |it: Wrong| Wrong { live: true, ..it };
    let powerless = standby().url_with_password(SUPERUSER, "powerless", Some("powerless"));
    let all = [
        wrong("the source itself", &server, &everything, new),
        wrong("the source by its database", &live, &everything, new),
        wrong(
            "the source under another name of its host",
            &by_name,
            &everything,
            new,
        ),
        wrong("the source by its socket", &by_socket, &everything, new),
        wrong(
            "the source behind another port",
            &proxy.url(&server, cluster.port()),
            &everything,
            new,
        ),
        wrong(
            "the source behind a session pooler",
            &pooler.url(SUPERUSER),
            &everything,
            new,
        ),
        wrong(
            "the source behind a transaction pooler",
            &transaction.url(SUPERUSER),
            &everything,
            new,
        ),
        wrong(
            "a new database, behind a transaction pooler",
            &other_pooled.url(SUPERUSER),
            &everything,
            another,
        ),
        marked(wrong(
            "a staging schema, behind a transaction pooler",
            &transaction.url("production"),
            &items,
            staging,
        )),
        wrong("the source's tables", &server, &rows, existing),
        wrong(
            "the source's tables under another host",
            &by_name,
            &rows,
            existing,
        ),
        wrong(
            "the source's tables behind another port",
            &proxy.url(&live, cluster.port()),
            &rows,
            existing,
        ),
        marked(wrong(
            "a new database where live is written",
            &server,
            &everything,
            another,
        )),
        marked(wrong("rows into what is live", &server, &rows, existing)),
        marked(wrong(
            "a server that is marked live",
            &other,
            &everything,
            another,
        )),
        marked(wrong(
            "a schema that the live database uses",
            &live,
            &items,
            staging_in_use,
        )),
        wrong("another database that has tables", &other, &everything, new),
        wrong("filled tables of another database", &other, &rows, existing),
        marked(wrong(
            "a whole database into a schema",
            &live,
            &everything,
            staging,
        )),
        wrong("tables into a new database", &other, &items, another),
        wrong("rows into a new database", &other, &rows, another),
        wrong(
            "a whole database into existing tables",
            &other,
            &everything,
            existing,
        ),
        wrong(
            "a role that may not create databases",
            &powerless,
            &everything,
            another,
        ),
        wrong(
            "TLS below the rule",
            "postgresql://u:p@db.example:5432/app?sslmode=disable",
            &everything,
            another,
        ),
        wrong(
            "a pooled twin by name",
            "postgresql://u:p@ep-a-pooler.eu.neon.tech/app",
            &everything,
            another,
        ),
        wrong(
            "a pooled twin by port",
            "postgresql://u:p@db.example:6543/app",
            &everything,
            another,
        ),
        wrong(
            "a secret that is no URL",
            "production",
            &everything,
            another,
        ),
        wrong(
            "another kind of database",
            "mysql://u:p@db.example/app",
            &everything,
            another,
        ),
        wrong(
            "options that redirect",
            "postgresql://u:p@127.0.0.1/app?service=production",
            &everything,
            another,
        ),
    ];
    assert!(all.len() >= 20);

    let databases = || {
        let sql = "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database";
        [cluster, standby()].map(|it| it.psql("postgres", sql).unwrap())
    };
    let before = (
        rescue.live_as_text(),
        dump_as_text(standby(), "production", &[]),
    );
    let schemas = "SELECT string_agg(nspname, ' ' ORDER BY 1) FROM pg_namespace";
    let schemas_before = subject.sql(schemas);
    let mut let_through = Vec::new();
    for (number, wrong) in all.into_iter().enumerate() {
        let name = format!("wrong-{number}");
        subject
            .cloud
            .configure_targets(vec![target(&name, &wrong.url, wrong.live)])
            .await
            .unwrap();
        let request = json!({"database": "production", "scope": wrong.scope,
            "target": (wrong.destination)(&name)});
        let planned = rescue.call(&json!({"plan": request})).await;
        let words = match &planned {
            // No plan at all.
            Err((error, message)) if error == "Refused" => message.clone(),
            Ok(plan) if plan["can_be_done"] == false => {
                assert!(!plan["obstacles"].as_array().unwrap().is_empty());
                // And nobody can approve it.
                let approve = json!({"approve": {"plan_id": plan["plan_id"], "operator": "Mallory",
                    "target_name_typed": plan["target"]}});
                let (error, _) = rescue.call(&approve).await.unwrap_err();
                assert_eq!(error, "Refused", "{}", wrong.what);
                plan["words"].as_str().unwrap().to_owned()
            }
            Ok(_) | Err(_) => {
                let_through.push(format!("{}: {planned:?}", wrong.what));
                continue;
            }
        };
        assert!(!words.contains("powerless@") && words.len() > 20, "{words}");
    }
    assert!(
        let_through.is_empty(),
        "let through:\n{}",
        let_through.join("\n")
    );
    // What the application gets from the pool is as it left it.
    for (pooled, server, database) in [
        (&transaction, cluster, "production"),
        (&other_pooled, standby(), SUPERUSER),
    ] {
        for _ in 0..4 {
            let mut psql = server.client("psql", database).unwrap();
            psql.env("PGPORT", pooled.port().to_string());
            let own = server.client("psql", database).unwrap();
            assert_eq!(settings(psql), settings(own), "{database}");
        }
    }
    assert_eq!(subject.sql(schemas), schemas_before);
    let after = (
        rescue.live_as_text(),
        dump_as_text(standby(), "production", &[]),
    );
    assert!(before == after, "a database was changed");
    let names = databases().join(" ");
    assert!(!names.contains("wrong_copy"), "{names}");
}
