//! Single tables, staged beside the live ones.

use serde_json::json;

use super::rescue::{Rescue, SHOP, target};

/// Large against the manifest, and beside a larger one.
const LARGE: &str = "
    CREATE TABLE shop.log AS SELECT n AS id, md5(n::text) AS a, md5(n::text || 'x') AS b FROM generate_series(1, 40000) n;
    ALTER TABLE shop.log ADD PRIMARY KEY (id);
    CREATE TABLE shop.other AS SELECT * FROM shop.log, generate_series(1, 3) k;";

#[tokio::test]
async fn tables_arrive_beside_the_live_ones_with_what_differs_and_how_to_merge() {
    let rescue = Rescue::new("surgical", &format!("{SHOP}{LARGE}")).await;
    let subject = &rescue.subject;
    subject.sql(
        "UPDATE shop.items SET price = 0 WHERE id <= 7; DELETE FROM shop.orders; DELETE FROM shop.items WHERE id > 2990;
         INSERT INTO shop.items VALUES (9001, 'new', 1); DROP TABLE shop.empty CASCADE;",
    );
    let before = rescue.live_as_text();
    let live = target("live-surgical", &subject.url(), true);
    subject.cloud.configure_targets(vec![live]).await.unwrap();
    let request = json!({"database": "surgical", "scope": {"tables": ["shop.items", "shop.empty", "shop.log"]},
        "target": {"staging": {"target": "live-surgical", "schema": "lifeboat_items"}}});
    let asked = rescue.ask(&request).await;
    let typed = "live-surgical/surgical/lifeboat_items";
    rescue.approve(&asked, typed).await.unwrap();
    let ended = subject.wait(&asked.execution).await;
    let report = rescue.assert_restored(&ended);
    assert_eq!(report["verdict"], "proven", "{report}");

    // The tables' own objects, and hardly more: what the report itself reads is counted, too.
    let manifest = &rescue.subject.manifests().await[0];
    let sum = |is_own: fn(&str) -> bool| -> u64 {
        let tables = manifest["tables"].as_array().unwrap().iter();
        let tables = tables.filter(|it| is_own(it["name"].as_str().unwrap()));
        let names = tables.flat_map(|it| it["objects"].as_array().unwrap());
        let names: Vec<&str> = names.filter_map(|it| it.as_str()).collect();
        let objects = manifest["objects"].as_array().unwrap().iter();
        let objects = objects.filter(|it| {
            let key = it["key"].as_str().unwrap();
            names.iter().any(|name| key.ends_with(&format!("/{name}")))
        });
        objects.map(|it| it["stored_bytes"].as_u64().unwrap()).sum()
    };
    let own = sum(|it| ["items", "empty", "log"].contains(&it));
    // The machine's output has less than the report, which is told again to whoever asks.
    let again = json!({"report": {"plan_id": asked.plan_id, "outcome": "finished"}});
    let again = rescue.call(&again).await.unwrap();
    let read = again["bytes_read"].as_u64().unwrap();
    assert!(sum(|_| true) > 2 * own);
    assert!(
        read > own && read <= own + own / 50,
        "{read} bytes for {own}"
    );

    let staged = "SELECT count(*) FROM lifeboat_items.items";
    assert_eq!(subject.sql(staged), "3000");
    let words = report["words"].as_str().unwrap();
    for expected in [
        "10 rows only in the backup, 1 only live, 7 changed",
        "shop.empty: not compared",
        "beside the live ones",
    ] {
        assert!(words.contains(expected), "{expected}: {words}");
    }
    let read = async |name: &str| {
        let key = report[name].as_str().unwrap();
        subject.cloud.object("VaultBucket", key).await.unwrap()
    };
    let difference: serde_json::Value =
        serde_json::from_slice(&read("difference_key").await).unwrap();
    let tables = difference["tables"].as_array().unwrap();
    let items = tables.iter().find(|it| it["live"]["name"] == "items");
    assert_eq!(items.unwrap()["changed_by_column"]["price"], 7);
    let script = String::from_utf8(read("merge_script_key").await.into()).unwrap();
    assert!(
        script.contains("lifeboat_items") && script.contains("shop"),
        "{script}"
    );

    rescue.assert_no_secret(&ended).await;
    subject.sql("DROP SCHEMA lifeboat_items CASCADE");
    assert_eq!(rescue.live_as_text(), before, "something live was changed");
}
