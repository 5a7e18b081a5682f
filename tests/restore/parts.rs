//! Parts of a backup, other majors, and restores that must fail loudly.

use localcloud::postgres::{DatabaseOptions, Major};
use shared::error::{Name, chain};
use shared::restore::{self, LeaveOut, Order, RestoreError, Scope};

use super::{assert_advance_is_proven, create, everything, in_an_hour, restore_whole, target_of};
use crate::format::{Taken, assert_proven, service};
use crate::harness::{Backup, assert_same_text, cloud, cluster, dump_as_text, engine, open};

/// Without owners and grants: as into a server that knows none of the roles.
fn bare(plan_id: &str, scope: Scope) -> Order {
    Order {
        scope,
        owners: false,
        privileges: false,
        ..everything(plan_id, 2)
    }
}

pub(super) fn back_up(name: &'static str, major: Major, sql: &str) -> Backup {
    cluster(major)
        .create_database(name, &DatabaseOptions::default())
        .unwrap();
    cluster(major).psql(name, sql).unwrap();
    let taken = Taken {
        major,
        database: name,
        connections: 2,
        slice_mib: 256,
    };
    taken.back_up(name)
}

fn comment(major: Major, database: &str) -> String {
    let sql = format!(
        "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = '{database}'"
    );
    cluster(major).psql("postgres", &sql).unwrap()
}

#[test]
fn a_newer_server_takes_an_older_backup_whole() {
    let taken = Taken {
        major: Major::V15,
        database: service(Major::V15),
        connections: 2,
        slice_mib: 1,
    };
    let backup = taken.back_up("engine-upgrade");
    // The roles that user mappings name.
    service(Major::V18);
    let target = cluster(Major::V18);
    let order = everything("engine-upgrade", 4);
    let advance = engine(restore_whole(&backup, (target, "engine upgraded"), &order)).unwrap();
    assert_advance_is_proven(&advance);
    assert_proven(target, &backup, "engine upgraded");
}

#[test]
fn the_schema_and_then_the_rows_make_the_whole() {
    let major = Major::V16;
    let source = cluster(major);
    let backup = back_up(
        "engine-parts",
        major,
        "CREATE SCHEMA work;
         CREATE TABLE work.projects (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text);
         CREATE TABLE work.tasks (id serial PRIMARY KEY, project int NOT NULL REFERENCES work.projects,
             parent int REFERENCES work.tasks, name text);
         CREATE FUNCTION work.shout() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN NEW.name := upper(NEW.name); RETURN NEW; END';
         INSERT INTO work.projects (name) SELECT 'p' || n FROM generate_series(1, 100) n;
         INSERT INTO work.tasks (project, parent, name)
             SELECT 1 + n % 100, nullif(n, 1), 't' || n FROM generate_series(1, 1000) n;
         CREATE TRIGGER shout BEFORE INSERT ON work.tasks FOR EACH ROW EXECUTE FUNCTION work.shout();
         CREATE VIEW work.both AS SELECT t.id, p.name FROM work.tasks t JOIN work.projects p ON p.id = project",
    );
    let database = "engine parts";
    let schema = Order {
        scope: Scope::SchemaOnly,
        ..everything("engine-schema", 2)
    };
    let advance = engine(restore_whole(&backup, (source, database), &schema)).unwrap();
    let proof = advance.proof.unwrap();
    assert!(!proof.is_proven && proof.tables.is_empty());
    assert_eq!(advance.rows, 0);
    let options = ["--schema-only".to_owned(), "--no-subscriptions".to_owned()];
    assert_same_text(
        &dump_as_text(source, "engine-parts", &options),
        &dump_as_text(source, database, &options),
    );

    let rows = bare("engine-rows", Scope::DataOnly);
    let target = target_of(source, database);
    engine(async {
        let opened = open(&backup).await;
        let advance = restore::advance(&opened, &target, &rows, in_an_hour()).await;
        assert_advance_is_proven(&advance.unwrap());
        restore::finish(&opened, &target, &rows).await.unwrap();
        // Once more, the tables are not empty.
        let again = bare("engine-rows-again", Scope::DataOnly);
        let refused = restore::advance(&opened, &target, &again, in_an_hour()).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.name(), Name::Refused, "{refused}");
        assert!(refused.to_string().contains("work.tasks"), "{refused}");
    });
    assert_proven(source, &backup, database);
}

#[test]
fn what_is_left_out_is_named_and_rows_of_it_are_missed() {
    let major = Major::V16;
    let backup = back_up(
        "engine-left-out",
        major,
        "CREATE SCHEMA platform; CREATE TABLE platform.t AS SELECT 1 AS a;
         CREATE SCHEMA app; CREATE TABLE app.t AS SELECT 1 AS a;
         CREATE VIEW app.v AS SELECT a FROM platform.t;
         CREATE PUBLICATION everything FOR ALL TABLES",
    );
    let mut order = bare("engine-left-out", Scope::Everything);
    order.leave_out = LeaveOut {
        extensions: Vec::new(),
        schemas: vec!["platform".to_owned()],
        publications: vec!["everything".to_owned()],
    };
    let target = (cluster(major), "engine left out");
    let advance = engine(restore_whole(&backup, target, &order)).unwrap();
    let proof = advance.proof.unwrap();
    assert_eq!(proof.differences(), [""; 0]);
    assert!(!proof.is_proven);
    let missed = ["TABLE DATA platform.t was left out with 1 rows"];
    assert_eq!(proof.inconclusive, missed);
    for name in [
        "SCHEMA platform",
        "TABLE platform.t",
        "VIEW app.v",
        "PUBLICATION everything",
    ] {
        assert!(
            proof.left_out.contains(&name.to_owned()),
            "{:?}",
            proof.left_out
        );
    }
    let sql = "SELECT string_agg(c.oid::regclass::text, ' ') FROM pg_class c
        WHERE relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname IN ('app', 'platform'))";
    assert_eq!(target.0.psql(target.1, sql).unwrap(), "app.t");
}

fn fails(backup: &Backup, major: Major, database: &str) -> RestoreError {
    let order = bare("engine-fails", Scope::Everything);
    let target = (cluster(major), database);
    let error = engine(restore_whole(backup, target, &order)).unwrap_err();
    assert_eq!(error.name(), Name::Failed, "{}", chain(&error));
    let comment = comment(major, database);
    assert!(comment.starts_with("Lifeboat: UNUSABLE: "), "{comment}");
    // It is not gone on with.
    let again = engine(async {
        let opened = open(backup).await;
        let target = target_of(cluster(major), database);
        restore::advance(&opened, &target, &order, in_an_hour()).await
    });
    assert_eq!(again.unwrap_err().name(), Name::Refused);
    error
}

#[test]
fn what_the_server_lacks_is_named_and_the_target_is_unusable() {
    let backup = back_up(
        "engine-collation",
        Major::V15,
        "CREATE COLLATION german (PROVIDER = icu, LOCALE = 'de')",
    );
    // Built without ICU.
    let error = chain(&fails(&backup, Major::V18, "engine collation"));
    assert!(error.starts_with("COLLATION public.german: "), "{error}");
    assert!(error.contains("leave it out"), "{error}");
}

#[test]
fn what_a_function_says_about_rows_is_told_to_nobody() {
    let backup = back_up(
        "engine-talkative",
        Major::V16,
        "CREATE FUNCTION norm(t text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
            IF current_setting('search_path') IN ('', '\"\"') THEN
                RAISE EXCEPTION 'what is %?', t;
            END IF;
            RETURN t; END $$;
         CREATE TABLE users (name text); INSERT INTO users VALUES ('hunter2');
         CREATE INDEX by_norm ON users (norm(name))",
    );
    let error = chain(&fails(&backup, Major::V16, "engine talkative"));
    assert!(error.starts_with("INDEX public.by_norm: "), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
    assert!(!comment(Major::V16, "engine talkative").contains("hunter2"));
}

#[test]
fn an_altered_object_is_never_loaded() {
    let backup = back_up(
        "engine-altered",
        Major::V16,
        "CREATE TABLE t AS SELECT n, md5(n::text) FROM generate_series(1, 20000) n",
    );
    let key = |it: &&shared::manifest::Object| it.key.contains(".dat.zst.");
    let object = backup.manifest.objects.iter().find(key).unwrap();
    let file = cloud().object_file("VaultBucket", &object.key).unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let error = fails(&backup, Major::V16, "engine altered");
    assert!(matches!(error, RestoreError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains(&object.key), "{error}");
    let rows = cluster(Major::V16).psql("engine altered", "SELECT count(*) FROM t");
    assert_eq!(rows.unwrap(), "0");
}

#[test]
fn a_publication_of_everything_and_watchful_event_triggers_see_nothing_of_us() {
    let backup = back_up(
        "engine-watched",
        Major::V16,
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1);
         CREATE TABLE audit (what text);
         CREATE FUNCTION note() RETURNS event_trigger LANGUAGE plpgsql SET search_path = public AS
             'BEGIN INSERT INTO audit VALUES (tg_tag); END';
         CREATE PUBLICATION everything FOR ALL TABLES;
         CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION note();
         CREATE EVENT TRIGGER watch_drops ON sql_drop EXECUTE FUNCTION note()",
    );
    let order = everything("engine-watched", 2);
    let target = (cluster(Major::V16), "engine watched");
    let advance = engine(restore_whole(&backup, target, &order)).unwrap();
    assert_advance_is_proven(&advance);
    // Also after the ledger is gone.
    assert_proven(target.0, &backup, target.1);
}

#[test]
fn rows_that_the_manifest_does_not_count_are_never_proven() {
    let backup = back_up(
        "engine-uncounted",
        Major::V16,
        "CREATE TABLE t AS SELECT 1 AS i; CREATE TABLE u AS SELECT 2 AS i; CREATE SEQUENCE s",
    );
    let order = bare("engine-uncounted", Scope::Everything);
    let (server, database) = (cluster(Major::V16), "engine uncounted");
    let proof = engine(async {
        create(&backup, server, database).await;
        let mut opened = open(&backup).await;
        let mut manifest = (*opened.manifest).clone();
        manifest.tables.retain(|it| it.name != "t");
        manifest.sequences[0].name = "gone".to_owned();
        opened.manifest = manifest.into();
        let target = target_of(server, database);
        let advance = restore::advance(&opened, &target, &order, in_an_hour()).await;
        advance.unwrap().proof.unwrap()
    });
    assert!(!proof.is_proven);
    for expected in ["TABLE DATA public.t", "public.gone is in the manifest"] {
        assert!(
            proof.inconclusive.iter().any(|it| it.contains(expected)),
            "{expected} is not in {:?}",
            proof.inconclusive
        );
    }
}

#[test]
fn a_comment_like_the_mark_of_a_scratch_database_is_not_given_to_a_restored_one() {
    let backup = back_up(
        "engine-marked",
        Major::V16,
        "DO $$ BEGIN EXECUTE format('COMMENT ON DATABASE %I IS %L', current_database(),
            'lifeboat scratch 2020-01-01T00:00:00Z 1'); END $$",
    );
    let order = bare("engine-marked", Scope::Everything);
    let target = (cluster(Major::V16), "engine marked");
    engine(restore_whole(&backup, target, &order)).unwrap();
    assert_eq!(comment(Major::V16, "engine marked"), "");
}

#[test]
fn a_row_of_many_megabytes_is_restored() {
    let backup = back_up(
        "engine-wide",
        Major::V16,
        "CREATE TABLE wide (id int PRIMARY KEY, b bytea);
         INSERT INTO wide SELECT n, decode(repeat(md5(n::text), 2000000), 'hex') FROM generate_series(1, 3) n",
    );
    let order = bare("engine-wide", Scope::Everything);
    let target = (cluster(Major::V16), "engine wide");
    let advance = engine(restore_whole(&backup, target, &order)).unwrap();
    assert_advance_is_proven(&advance);
    assert!(advance.copy_bytes > 180_000_000);
}

/// Statistics of an expression need its index, those of a pair their object: both come after the rows.
#[test]
fn a_restored_table_has_the_statistics_of_its_indexes_too() {
    let major = Major::V16;
    let backup = back_up(
        "engine-statistics",
        major,
        "CREATE TABLE measured AS SELECT n AS id, n % 7 AS week, n % 14 AS fortnight, md5(n::text) AS name
             FROM generate_series(1, 5000) n;
         CREATE INDEX by_start ON measured (left(name, 3));
         CREATE STATISTICS of_both (dependencies) ON week, fortnight FROM measured;
         CREATE TABLE years (y int, name text) PARTITION BY LIST (y);
         CREATE TABLE y1 PARTITION OF years FOR VALUES IN (1);
         INSERT INTO years SELECT 1, md5(n::text) FROM generate_series(1, 5000) n;
         CREATE INDEX year_start ON y1 (left(name, 3))",
    );
    let database = "engine statistics";
    let order = bare("engine-statistics", Scope::Everything);
    let advance = engine(restore_whole(&backup, (cluster(major), database), &order)).unwrap();
    assert_advance_is_proven(&advance);
    for table in ["measured", "by_start", "years", "year_start"] {
        let sql = format!("SELECT count(*) > 0 FROM pg_stats WHERE tablename = '{table}'");
        let has_statistics = cluster(major).psql(database, &sql).unwrap();
        assert_eq!(has_statistics, "t", "{table}");
    }
    let sql = "SELECT dependencies IS NOT NULL FROM pg_stats_ext WHERE statistics_name = 'of_both'";
    assert_eq!(cluster(major).psql(database, sql).unwrap(), "t");
}
