//! A live publisher whose replication slot must survive drill and teardown.

use localcloud::postgres::{Cluster, DatabaseOptions, Major, Options, SUPERUSER};
use serde_json::json;

use super::rehearsal::{Rehearsal, standby};

#[tokio::test]
async fn a_live_publishers_slot_survives_drill_and_teardown() {
    let options = Options {
        settings: vec!["wal_level = logical".into()],
        ..Options::default()
    };
    let publisher = Cluster::temporary_with(Major::debian().unwrap(), &options).unwrap();
    publisher
        .create_database("origin", &DatabaseOptions::default())
        .unwrap();
    publisher
        .psql("origin", "CREATE TABLE events (id int PRIMARY KEY); INSERT INTO events VALUES (1); CREATE PUBLICATION all_events FOR TABLE events")
        .unwrap();
    publisher
        .psql(
            "origin",
            "SELECT pg_create_logical_replication_slot('live_slot', 'pgoutput')",
        )
        .unwrap();

    let conninfo = format!(
        "host=127.0.0.1 port={} user={SUPERUSER} password={} dbname=origin",
        publisher.port(),
        publisher.password().unwrap_or_default()
    );
    let sql = format!(
        "CREATE TABLE events (id int PRIMARY KEY);
         CREATE SUBSCRIPTION live CONNECTION '{conninfo}' PUBLICATION all_events
             WITH (create_slot = false, slot_name = live_slot);"
    );
    let rehearsal = Rehearsal::new("subscribed", &sql, "").await;
    let slots = || {
        publisher
            .psql(
                "origin",
                "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'live_slot'",
            )
            .unwrap()
    };
    let ended = rehearsal.drill(&json!({})).await;
    rehearsal.assert_proven(&ended).await;
    assert_eq!(slots(), "1");

    // One that somebody made in the scratch database is cut from its slot before it goes.
    let evidence = rehearsal
        .drill_with(|server, scratch| {
            server
                .psql(
                    scratch,
                    &format!(
                        "CREATE SUBSCRIPTION stray CONNECTION '{conninfo}' PUBLICATION all_events
                         WITH (create_slot = false, slot_name = live_slot, enabled = false)"
                    ),
                )
                .unwrap();
        })
        .await;
    assert_eq!(evidence["teardown"]["is_destroyed"], true);
    assert_eq!(slots(), "1");
    // The source's own subscription holds on.
    let own = rehearsal
        .subject
        .sql("SELECT subname || subenabled FROM pg_subscription s JOIN pg_database d ON d.oid = subdbid WHERE datname = current_database()");
    assert_eq!(own, "livetrue");
    let none = "SELECT count(*) FROM pg_subscription";
    assert_eq!(standby().psql("postgres", none).unwrap(), "0");
    rehearsal.subject.sql("ALTER SUBSCRIPTION live DISABLE; ALTER SUBSCRIPTION live SET (slot_name = NONE); DROP SUBSCRIPTION live");
}
