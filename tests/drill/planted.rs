//! Faults that are planted in the restored database, or that the source brings along.

use localcloud::postgres::Cluster;
use serde_json::{Value, json};

use super::rehearsal::{Rehearsal, check};

/// One of everything that a fault is planted in.
const ESTATE: &str = "
    CREATE EXTENSION pg_trgm;
    CREATE SCHEMA app;
    CREATE TABLE app.users (id serial PRIMARY KEY, mail text NOT NULL);
    INSERT INTO app.users (mail) SELECT i || '@example.com' FROM generate_series(1, 100) i;
    CREATE INDEX users_mail ON app.users (mail);
    ALTER TABLE app.users ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own_row ON app.users USING (id > 0);
    GRANT SELECT ON app.users TO pg_monitor;
    CREATE FUNCTION app.twice(i int) RETURNS int LANGUAGE sql AS 'SELECT i * 2';
    CREATE FUNCTION app.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE TRIGGER touched BEFORE UPDATE ON app.users FOR EACH ROW EXECUTE FUNCTION app.touch();
    CREATE TABLE app.orders (id int PRIMARY KEY, buyer int REFERENCES app.users CHECK (buyer > 0));
    CREATE VIEW app.mails AS SELECT mail FROM app.users;
    CREATE MATERIALIZED VIEW app.count AS SELECT count(*) AS n FROM app.users;
    CREATE PUBLICATION everything FOR TABLE app.users;
    COMMENT ON TABLE app.users IS 'who they are';";

fn sql(text: &'static str) -> impl FnOnce(&Cluster, &str) {
    move |cluster, scratch| {
        cluster.psql(scratch, text).unwrap();
    }
}

/// The check fails and names the object, and so does the verdict.
fn assert_found(evidence: &Value, code: &str, names: &str) {
    let found = check(evidence, code);
    assert_eq!(found["status"], "failed", "{found:#}");
    assert!(found["details"].to_string().contains(names), "{found:#}");
    assert!(found["remedy"].as_str().is_some_and(|it| it.len() > 20));
    assert_eq!(evidence["verdict"], "failed");
    let summary = found["summary"].as_str().unwrap();
    let findings = evidence["findings"].as_array().unwrap();
    let named = findings
        .iter()
        .any(|it| it["message"].as_str().unwrap().contains(summary));
    assert!(named, "{findings:#?}");
}

#[tokio::test]
async fn each_planted_fault_is_found_and_named() {
    let rehearsal = Rehearsal::new("planted", ESTATE, "").await;
    let evidence = rehearsal.drill_with(|_, _| ()).await;
    assert_eq!(evidence["verdict"], "passed", "{:#}", evidence["findings"]);
    // Each is for a check of its own, so one drill meets many.
    let one = [
        (
            "DROP POLICY own_row ON app.users",
            "catalog_policies",
            "missing: POLICY app.users own_row",
        ),
        (
            "REVOKE SELECT ON app.users FROM pg_monitor",
            "catalog_grants",
            "missing: ACL app.TABLE users",
        ),
        (
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'app.users_mail'::regclass",
            "indexes_valid",
            "app.users_mail is not valid",
        ),
        (
            "DROP EXTENSION pg_trgm",
            "catalog_extensions",
            "missing: EXTENSION pg_trgm",
        ),
        (
            "DROP TRIGGER touched ON app.users",
            "catalog_triggers",
            "missing: TRIGGER app.users touched",
        ),
        (
            "CREATE OR REPLACE FUNCTION app.twice(i int) RETURNS int LANGUAGE sql AS 'SELECT i * 3'",
            "catalog_functions",
            "changed: FUNCTION app.twice(integer)",
        ),
        (
            "ALTER TABLE app.orders DROP CONSTRAINT orders_buyer_fkey",
            "catalog_constraints",
            "missing: FK CONSTRAINT app.orders orders_buyer_fkey",
        ),
        (
            "DROP VIEW app.mails",
            "catalog_views",
            "missing: VIEW app.mails",
        ),
        (
            "SELECT setval('app.users_id_seq', 5)",
            "sequences_ahead",
            "app.users_id_seq is behind the values of app.users.id",
        ),
        (
            "DROP PUBLICATION everything",
            "catalog_publications",
            "missing: PUBLICATION everything",
        ),
        (
            "COMMENT ON TABLE app.users IS 'who they were'",
            "catalog_comments",
            "changed: COMMENT app.TABLE users",
        ),
        (
            "CREATE TABLE app.stray (i int)",
            "catalog_tables",
            "extra: TABLE app.stray",
        ),
        (
            "REFRESH MATERIALIZED VIEW app.count WITH NO DATA",
            "matviews_populated",
            "app.count is not populated",
        ),
    ];
    let other = [
        (
            "ALTER TABLE app.users DISABLE ROW LEVEL SECURITY",
            "catalog_policies",
            "missing: ROW SECURITY app.users",
        ),
        (
            "ALTER TABLE app.users OWNER TO pg_monitor",
            "catalog_owners",
            "TABLE app.users belongs to pg_monitor",
        ),
        (
            "ALTER TABLE app.orders DROP CONSTRAINT orders_buyer_check; ALTER TABLE app.orders ADD CONSTRAINT orders_buyer_check CHECK (buyer > 0) NOT VALID",
            "constraints_valid",
            "orders_buyer_check of app.orders is not validated",
        ),
    ];
    for planted in [&one[..], &other[..]] {
        let plant = |cluster: &Cluster, scratch: &str| {
            for (sql, _, _) in planted {
                cluster.psql(scratch, sql).unwrap();
            }
        };
        let evidence = rehearsal.drill_with(plant).await;
        for (_, code, names) in planted {
            assert_found(&evidence, code, names);
        }
    }
}

#[tokio::test]
async fn a_changed_definition_is_shown_as_a_difference() {
    let rehearsal = Rehearsal::new("shown-difference", ESTATE, "").await;
    let plant = "ALTER POLICY own_row ON app.users USING (true)";
    let evidence = rehearsal.drill_with(sql(plant)).await;
    let found = check(&evidence, "catalog_policies");
    let details = found["details"][0].as_str().unwrap();
    assert!(
        details.contains("- CREATE POLICY own_row ON app.users USING ((id > 0));"),
        "{details}"
    );
    assert!(
        details.contains("+ CREATE POLICY own_row ON app.users USING (true);"),
        "{details}"
    );
    assert!(rehearsal.page().await.contains("USING (true)"));
}

#[tokio::test]
async fn a_sequence_behind_at_the_source_is_found_although_the_copy_is_equal() {
    let sql =
        "CREATE TABLE t (id serial PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 50);";
    let rehearsal = Rehearsal::new("sequence-behind", sql, "").await;
    let ended = rehearsal.drill(&json!({})).await;
    rehearsal
        .assert_not_proven(
            &ended,
            &["public.t_id_seq is behind the values of public.t.id"],
        )
        .await;
    let evidence = rehearsal.evidence().await;
    assert_eq!(check(&evidence, "fingerprints")["status"], "passed");
    assert_eq!(check(&evidence, "sequence_values")["status"], "passed");
    // The bytes are those that were taken: the backup stays verified.
    let again = rehearsal.drill(&json!({})).await;
    assert_eq!(again.status, "FAILED");
}

#[tokio::test]
async fn a_function_with_unqualified_names_that_breaks_a_materialized_view_is_named() {
    let sql = "
        CREATE TABLE prices AS SELECT 1 AS price;
        CREATE FUNCTION total() RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT sum(price) FROM prices); END';
        CREATE MATERIALIZED VIEW totals AS SELECT total() AS total;";
    let rehearsal = Rehearsal::new("unqualified", sql, "").await;
    let ended = rehearsal.drill(&json!({})).await;
    rehearsal
        .assert_not_proven(&ended, &["totals", "relation \"prices\" does not exist"])
        .await;
    let verdict = rehearsal.drill_verdicts().await.pop().unwrap();
    assert_eq!(verdict["verdict"], "failed");
    assert_eq!(verdict["findings"][0]["code"], "restore_failed");
}

#[tokio::test]
async fn floors_freshness_and_assertions_that_do_not_hold_are_named() {
    let policy = "
        [[database.drill.table]]
        name = 'orders'
        min_rows = 11
        fresh_column = 'at'
        fresh_within_minutes = 60
        [[database.drill.sql]]
        name = 'no order is negative'
        query = 'SELECT count(*) FROM public.orders WHERE price < 0'
        expect = '0'
        priority = 'P0'
        [[database.drill.sql]]
        name = 'is not SQL'
        query = 'SELEC 1'
        expect = '1'
        [[database.drill.sql]]
        name = 'wants to write'
        query = 'SELECT public.add_order()'
        expect = '1'";
    let sql = "CREATE TABLE orders AS SELECT i, i - 2 AS price, timestamptz '2026-01-01' AS at FROM generate_series(1, 10) i;
        CREATE FUNCTION add_order() RETURNS int LANGUAGE sql AS 'INSERT INTO public.orders VALUES (11) RETURNING i';";
    let rehearsal = Rehearsal::new("unmet", sql, policy).await;
    let ended = rehearsal.drill(&json!({})).await;
    rehearsal
        .assert_not_proven(&ended, &["no order is negative: it is 1", "only 10 rows"])
        .await;
    let evidence = rehearsal.evidence().await;
    assert_eq!(check(&evidence, "row_floor")["status"], "failed");
    assert_eq!(check(&evidence, "freshness")["status"], "failed");
    let named = |name: &str| {
        let checks = evidence["checks"].as_array().unwrap();
        checks.iter().find(|it| it["name"] == name).unwrap()["status"].clone()
    };
    assert_eq!(named("no order is negative"), "failed");
    assert_eq!(named("is not SQL"), "failed");
    assert_eq!(named("wants to write"), "inconclusive");
}
