//! What a drill makes on its server, by which it is known, and who removes it.

use localcloud::postgres::SUPERUSER;
use serde_json::json;

use super::rehearsal::{Rehearsal, check, standby};

fn sql(text: &str) -> String {
    standby().psql("postgres", text).unwrap()
}

/// The comment of a database; empty without one, or without the database.
fn comment(database: &str) -> String {
    sql(&format!(
        "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = '{database}'"
    ))
}

fn exists(database: &str) -> bool {
    let count = format!("SELECT count(*) FROM pg_database WHERE datname = '{database}'");
    sql(&count) == "1"
}

/// An RFC 3339 time so many hours ago.
fn ago(hours: i64) -> jiff::Timestamp {
    let now = jiff::Timestamp::try_from(std::time::SystemTime::now()).unwrap();
    now - jiff::SignedDuration::from_hours(hours)
}

#[tokio::test]
async fn a_drill_that_was_cut_off_between_its_plan_and_its_database_goes_on_and_is_cleaned_up() {
    let rehearsal = Rehearsal::new("drill-unmade", "CREATE TABLE t AS SELECT 1 AS i", "").await;
    sql("CREATE ROLE drill_powerless LOGIN PASSWORD 'powerless'");
    let powerless = standby().url_with_password(SUPERUSER, "drill_powerless", Some("powerless"));
    rehearsal.drill_on(&powerless).await;
    let drill = rehearsal.choose().await;
    let (_, says) = rehearsal.step("restore", &drill).await.unwrap_err();
    assert!(
        says.contains("permission denied to create database"),
        "{says}"
    );
    rehearsal
        .drill_on(&standby().url(SUPERUSER, SUPERUSER))
        .await;

    // As a connection leaves it that is lost before the mark was written.
    let scratch = drill["scratch"].as_str().unwrap();
    sql(&format!("CREATE DATABASE {scratch} TEMPLATE template0"));
    rehearsal.step("restore", &drill).await.unwrap();
    assert!(comment(scratch).starts_with("lifeboat scratch "));
    rehearsal.step("check", &drill).await.unwrap();

    // And as the engine leaves one that it began to fill without the mark.
    sql(&format!(
        "COMMENT ON DATABASE {scratch} IS 'Lifeboat: being restored, do not use'"
    ));
    rehearsal.step("destroy", &drill).await.unwrap();
    assert!(!exists(scratch));
    let recorded = rehearsal.step("record", &drill).await.unwrap();
    assert_eq!(recorded["verdict"], "passed", "{recorded:#}");
    sql("DROP ROLE drill_powerless");
}

#[tokio::test]
async fn two_drills_at_once_share_the_roles_that_they_make_and_the_last_one_drops_them() {
    let source = "DO $$ BEGIN CREATE ROLE drill_shares_me; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
        CREATE TABLE t AS SELECT 1 AS i; ALTER TABLE t OWNER TO drill_shares_me;";
    let rehearsal = Rehearsal::new("drill-roles", source, "").await;
    let marks = || {
        sql(
            "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = 'drill_shares_me'",
        )
    };
    let id = |drill: &serde_json::Value| drill["drill_id"].as_str().unwrap().to_owned();
    // A day ago, one was killed together with its state machine.
    sql(&format!(
        "CREATE ROLE drill_shares_me; COMMENT ON ROLE drill_shares_me IS
         'lifeboat drill role {} 20261101T020000Z-0a1b2c3d'; CREATE ROLE drill_of_a_person;
         COMMENT ON ROLE drill_of_a_person IS 'lifeboat drill role, as a person words it'",
        ago(25)
    ));
    let one = rehearsal.choose().await;
    rehearsal.step("restore", &one).await.unwrap();
    assert!(!marks().contains("0a1b2c3d"), "{}", marks());
    let two = rehearsal.choose().await;
    rehearsal.step("restore", &two).await.unwrap();
    assert!(
        marks().contains(&id(&one)) && marks().contains(&id(&two)),
        "{}",
        marks()
    );
    rehearsal.step("destroy", &one).await.unwrap();
    assert!(
        !marks().contains(&id(&one)) && marks().contains(&id(&two)),
        "{}",
        marks()
    );
    rehearsal.step("check", &two).await.unwrap();
    rehearsal.step("destroy", &two).await.unwrap();
    assert_eq!(marks(), "");
    let recorded = rehearsal.step("record", &two).await.unwrap();
    assert_eq!(recorded["verdict"], "passed", "{recorded:#}");
    let evidence = rehearsal.evidence().await;
    assert_eq!(check(&evidence, "catalog_owners")["status"], "passed");
    let kept = "SELECT count(*) FROM pg_roles WHERE rolname = 'drill_of_a_person'";
    assert_eq!(sql(kept), "1");
    sql("DROP ROLE drill_of_a_person");
}

#[tokio::test]
async fn a_teardown_that_fails_is_told_and_the_janitor_takes_what_it_left() {
    let rehearsal = Rehearsal::new("drill-torn", "CREATE TABLE t AS SELECT 1 AS i", "").await;
    let drill = rehearsal.choose().await;
    let scratch = drill["scratch"].as_str().unwrap();
    rehearsal.step("restore", &drill).await.unwrap();
    assert!(comment(scratch).starts_with("lifeboat scratch "));

    let recorded = rehearsal
        .invoke(&json!({"record": {"drill": drill,
            "failure": {"Error": "Runtime.ExitError", "Cause": "{\"errorMessage\": \"killed\"}"},
            "teardown_failure": {"Error": "Transient", "Cause": "the server is gone"}}}))
        .await
        .unwrap();
    assert_eq!(recorded["verdict"], "inconclusive");
    assert_eq!(recorded["is_destroyed"], false);
    assert!(rehearsal.page().await.contains("the server is gone"));

    // As if it had happened two days ago, beside one of a person, one of today, and one that a
    // person has given another name to keep it.
    let id = drill["drill_id"].as_str().unwrap();
    let (old, new) = (ago(48), ago(0));
    sql(&format!(
        "COMMENT ON DATABASE {scratch} IS 'lifeboat scratch {old} {id}'"
    ));
    let kept = ["drill_of_a_person", "drill_of_today", "drill_renamed"];
    for name in kept {
        sql(&format!("CREATE DATABASE {name}"));
    }
    sql(&format!(
        "COMMENT ON DATABASE drill_of_today IS 'lifeboat scratch {new} {id}'"
    ));
    sql(&format!(
        "COMMENT ON DATABASE drill_renamed IS 'lifeboat scratch {old} {id}'"
    ));
    let next = rehearsal.choose().await;
    rehearsal.step("restore", &next).await.unwrap();
    rehearsal.step("destroy", &next).await.unwrap();
    assert!(!exists(scratch));
    for name in kept {
        assert!(exists(name), "{name}");
        sql(&format!("DROP DATABASE {name}"));
    }
}

/// Makes its scratch database one that cannot be dropped.
const STUBBORN: &str = "CREATE TABLE t AS SELECT 1 AS i;
    CREATE FUNCTION cling() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
        IF current_database() ~ '^lifeboat_drill_' THEN
            EXECUTE format('ALTER DATABASE %I IS_TEMPLATE true', current_database());
        END IF;
        RETURN 1;
    END $$;
    CREATE MATERIALIZED VIEW clinging AS SELECT cling();";

#[tokio::test]
async fn what_was_found_is_told_together_with_a_teardown_that_failed() {
    let wrong = "
        [[database.drill.sql]]
        name = 'adds up'
        query = 'SELECT 1'
        expect = '2'";
    let mut rehearsal = Rehearsal::new("drill-clings", STUBBORN, wrong).await;
    for (policy, headline, says) in [
        (
            wrong,
            "the restore drill of drill-clings FAILED",
            "assertion_failed: adds up",
        ),
        (
            "",
            "the restore drill of drill-clings left its copy behind",
            "the backup is proven",
        ),
    ] {
        rehearsal.change_policy(policy).await;
        let ended = rehearsal.drill(&json!({})).await;
        assert_eq!(ended.status, "FAILED", "{ended:#?}");
        let evidence = rehearsal.evidence().await;
        assert_eq!(evidence["teardown"]["is_destroyed"], false);
        let could_not = "could NOT be destroyed: Failed";
        let told = [headline, says, could_not, "aws s3 presign 's3://"];
        rehearsal.assert_told(&ended, &told).await;
        let scratch = evidence["drill"]["scratch"].as_str().unwrap();
        sql(&format!("ALTER DATABASE {scratch} IS_TEMPLATE false"));
        sql(&format!("DROP DATABASE {scratch}"));
    }
}
