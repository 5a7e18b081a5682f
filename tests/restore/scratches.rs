//! Scratch databases: made as the backup was, dropped without harm to a publisher, never mistaken.

use localcloud::postgres::{Cluster, DatabaseOptions, Major, Options};
use shared::manifest::DatabaseSettings;
use shared::restore::scratch::{self, Leftover, MARK};

use super::url;
use crate::harness::{cluster, engine};

fn settings() -> DatabaseSettings {
    DatabaseSettings {
        encoding: "LATIN1".to_owned(),
        locale_provider: "libc".to_owned(),
        collate: "C".to_owned(),
        ctype: "C".to_owned(),
        icu_locale: None,
        lc_monetary: None,
    }
}

#[test]
fn only_marked_databases_are_found_and_dropped() {
    let server = cluster(Major::V18);
    let postgres = url(server, "postgres");
    let mark = format!("{MARK}2026-11-21T02:00:00Z drill-1");
    engine(async {
        for _ in 0..2 {
            // Again, after a lost answer.
            scratch::create_database(&postgres, "scratch \"one\"", &settings(), &mark)
                .await
                .unwrap();
        }
        let sql =
            "SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname LIKE 'scratch %'";
        assert_eq!(server.psql("postgres", sql).unwrap(), "LATIN1");
        let found = scratch::marked_leftovers(&postgres).await.unwrap();
        assert_eq!(
            found,
            [Leftover {
                database: "scratch \"one\"".to_owned(),
                mark: "2026-11-21T02:00:00Z drill-1".to_owned(),
            }]
        );
        server
            .create_database("somebody's", &DatabaseOptions::default())
            .unwrap();
        let refused = scratch::drop_database(&postgres, "somebody's")
            .await
            .unwrap_err();
        assert!(
            refused.to_string().contains("not ours to drop"),
            "{refused}"
        );
        let taken = scratch::create_database(&postgres, "somebody's", &settings(), &mark).await;
        assert!(taken.unwrap_err().to_string().contains("already"));

        scratch::drop_database(&postgres, "scratch \"one\"")
            .await
            .unwrap();
        scratch::drop_database(&postgres, "scratch \"one\"")
            .await
            .unwrap();
        assert_eq!(scratch::marked_leftovers(&postgres).await.unwrap(), []);
    });
}

#[test]
fn a_live_publishers_slot_survives_the_end_of_a_scratch_database() {
    let options = Options {
        settings: vec!["wal_level = logical".to_owned()],
        ..Options::default()
    };
    let publisher = Cluster::temporary_with(Major::V16, &options).unwrap();
    publisher
        .psql(
            "postgres",
            "CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION p FOR TABLE t;
             SELECT pg_create_logical_replication_slot('prod_slot', 'pgoutput')",
        )
        .unwrap();
    let server = cluster(Major::V16);
    let postgres = url(server, "postgres");
    engine(async {
        let settings = DatabaseSettings {
            encoding: "UTF8".to_owned(),
            ..settings()
        };
        scratch::create_database(&postgres, "subscribed", &settings, &format!("{MARK}x y"))
            .await
            .unwrap();
        let connection = format!(
            "host={} port={} dbname=postgres user=postgres password={}",
            publisher.socket_dir().display(),
            publisher.port(),
            publisher.password().unwrap_or_default()
        );
        server
            .psql(
                "subscribed",
                &format!(
                    "CREATE TABLE t (id int PRIMARY KEY);
                     CREATE SUBSCRIPTION s CONNECTION '{connection}' PUBLICATION p
                     WITH (create_slot = false, slot_name = 'prod_slot', copy_data = false)"
                ),
            )
            .unwrap();
        scratch::drop_database(&postgres, "subscribed")
            .await
            .unwrap();
    });
    let slots = "SELECT string_agg(slot_name, ' ') FROM pg_replication_slots";
    assert_eq!(publisher.psql("postgres", slots).unwrap(), "prod_slot");
    let gone = "SELECT count(*) FROM pg_database WHERE datname = 'subscribed'";
    assert_eq!(server.psql("postgres", gone).unwrap(), "0");
}
