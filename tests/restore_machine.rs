//! The restore as a person meets it: planned, approved or refused, carried out by the state machine,
//! proven, written down.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod by_shell;
mod decisions;
mod inputs;
mod interruptions;
mod kills;
pub(crate) mod rescue;
mod roles;
mod surgical;
mod terminal;
mod wrong_targets;

use serde_json::json;

use rescue::{Rescue, SHOP, standby};

/// A row that is half of what the function may take, as text.
const WIDE: &str = "
    CREATE TABLE shop.wide AS SELECT 1 AS id, decode(repeat(md5('x'), 4000000), 'hex') AS picture;";
const MEMORY_MAX: u64 = 256 << 20;

#[tokio::test]
async fn an_approved_restore_ends_proven_and_is_recorded() {
    let rescue = Rescue::new("restored", &format!("{SHOP}{WIDE}")).await;
    let before = rescue.live_as_text();
    let asked = rescue.ask(&rescue.request("restored_copy")).await;
    for expected in [
        "Restore everything of restored into the new database restored_copy on standby.",
        ", verified",
        "is NOT in this backup",
        "4 tables",
        "Decide before",
        "no client program",
        "cannot be known from here",
        "lifeboat-restore",
        "\"approve\"",
        "\"refuse\"",
    ] {
        assert!(
            asked.message.contains(expected),
            "{expected}: {}",
            asked.message
        );
    }
    let tokens = rescue.tokens(&asked.plan_id).await;
    assert_eq!(tokens.len(), 1);
    assert!(
        !asked.message.contains(&tokens[0]),
        "the token is in a message"
    );
    assert!(!rescue.subject.cloud.logs("restore").contains(&tokens[0]));

    let answer = rescue
        .approve(&asked, "standby/restored_copy")
        .await
        .unwrap();
    assert_eq!(answer["approved"], true);
    let ended = rescue.subject.wait(&asked.execution).await;
    let report = rescue.assert_restored(&ended);
    assert_eq!(report["verdict"], "proven");
    assert!(
        report["words"].as_str().unwrap().starts_with("PROVEN"),
        "{report}"
    );

    let standby = standby();
    let rows = "SELECT count(*) || ' ' || sum(price) FROM shop.items";
    assert_eq!(
        standby.psql("restored_copy", rows).unwrap(),
        rescue.subject.sql(rows)
    );
    let leftover = "SELECT coalesce(shobj_description(oid, 'pg_database'), 'none') ||
        (SELECT count(*) FROM pg_namespace WHERE nspname ~ 'lifeboat')
        FROM pg_database WHERE datname = current_database()";
    assert_eq!(standby.psql("restored_copy", leftover).unwrap(), "none0");
    assert_eq!(rescue.live_as_text(), before);

    let record = rescue.record(&report).await;
    assert_eq!(record["verdict"], "proven");
    assert_eq!(record["decision"]["operator"], "Grace");
    assert_eq!(record["applied"]["by"], ended.arn.as_str());
    assert_eq!(
        record["advance"]["proof"]["tables"]
            .as_array()
            .unwrap()
            .len(),
        4
    );
    assert_eq!(
        record["hashes"]["manifest_sha256"].as_str().unwrap().len(),
        64
    );
    rescue.assert_no_secret(&ended).await;
    let peaks = rescue.subject.cloud.function_peak_rss("restore");
    let peak = peaks
        .iter()
        .map(|it| it.tree_bytes.max(it.process_bytes))
        .max();
    assert!(peak.unwrap() <= MEMORY_MAX, "{} MiB", peak.unwrap() >> 20);
    // Whoever was asked is the only one who heard of it.
    assert_eq!(rescue.messages_about(&asked).await.len(), 1);
}

#[tokio::test]
async fn the_schema_alone_and_the_rows_alone_are_restored() {
    let rescue = Rescue::new("in-parts", SHOP).await;
    let mut schema = rescue.request("in_parts_schema");
    schema["scope"] = json!("schema_only");
    let report = rescue.restore(&schema, "standby/in_parts_schema").await;
    assert_eq!(report["verdict"], "restored");
    let count = "SELECT count(*) FROM shop.items";
    assert_eq!(standby().psql("in_parts_schema", count).unwrap(), "0");

    let rows = json!({"database": "in-parts", "scope": "data_only",
        "target": {"existing_tables": {"target": "standby", "database": "in_parts_schema"}}});
    let report = rescue.restore(&rows, "standby/in_parts_schema").await;
    assert_eq!(report["verdict"], "proven", "{report}");
    assert_eq!(
        standby().psql("in_parts_schema", count).unwrap(),
        rescue.subject.sql(count)
    );
}
