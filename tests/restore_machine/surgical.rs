//! Single tables, staged beside the live ones.

use serde_json::json;

use super::rescue::{Rescue, SHOP, target};

#[tokio::test]
async fn tables_arrive_beside_the_live_ones_with_what_differs_and_how_to_merge() {
    let rescue = Rescue::new("surgical", SHOP).await;
    let subject = &rescue.subject;
    subject.sql(
        "UPDATE shop.items SET price = 0 WHERE id <= 7; DELETE FROM shop.orders; DELETE FROM shop.items WHERE id > 2990;
         INSERT INTO shop.items VALUES (9001, 'new', 1); DROP TABLE shop.empty CASCADE;",
    );
    let before = rescue.live_as_text();
    let live = target("live-surgical", &subject.url(), true);
    subject.cloud.configure_targets(vec![live]).await.unwrap();
    let request = json!({"database": "surgical", "scope": {"tables": ["shop.items", "shop.empty"]},
        "target": {"staging": {"target": "live-surgical", "schema": "lifeboat_items"}}});
    let report = rescue
        .restore(&request, "live-surgical/surgical/lifeboat_items")
        .await;
    assert_eq!(report["verdict"], "proven", "{report}");

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

    subject.sql("DROP SCHEMA lifeboat_items CASCADE");
    assert_eq!(rescue.live_as_text(), before, "something live was changed");
}
