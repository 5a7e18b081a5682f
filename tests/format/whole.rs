//! Whole databases there and back, without writers.

use localcloud::every_kind::{self, ROWS_IN_ANOTHER_ORDER};
use localcloud::postgres::{Cluster, Major};

use super::{
    DOCUMENT, Load, SERVICE_IN_ANOTHER_ORDER, Taken, assert_proven, assert_same_database, kinds,
    restore, service, shell,
};
use crate::harness::{Backup, Shell, assert_same_text, cluster, dump, dump_as_text, item, verify};

/// Takes the backup, restores it and compares; what was taken.
fn there_and_back(
    name: &str,
    taken: &Taken,
    load: Load,
    in_another_order: &[(&str, &str)],
) -> Backup {
    let cluster = cluster(taken.major);
    let backup = taken.back_up(name);
    let copy = format!("{name} copy");
    restore(name, &backup, (cluster, &copy), load);
    assert_same_database(cluster, (taken.database, &copy), in_another_order);
    assert_proven(cluster, &backup, &copy);
    backup
}

fn sliced_tables(backup: &Backup) -> usize {
    backup
        .manifest
        .tables
        .iter()
        .filter(|it| it.objects.len() > 1)
        .count()
}

fn every_kind_comes_back(major: Major, connections: u32) {
    let taken = Taken {
        major,
        database: kinds(major),
        connections,
        slice_mib: 1,
    };
    let name = format!("kinds-{}-{connections}", major.0);
    let backup = there_and_back(&name, &taken, Load::InOrder, &ROWS_IN_ANOTHER_ORDER);
    assert!(sliced_tables(&backup) > 0, "nothing was cut");
}

#[test]
fn every_kind_of_object_comes_back_from_15_with_1_connection() {
    every_kind_comes_back(Major::V15, 1);
}

#[test]
fn every_kind_of_object_comes_back_from_15_with_4_connections() {
    every_kind_comes_back(Major::V15, 4);
}

#[test]
#[ignore = "the versions before and after it are tested each time: make slow"]
fn every_kind_of_object_comes_back_from_16_with_4_connections() {
    every_kind_comes_back(Major::V16, 4);
}

#[test]
fn every_kind_of_object_comes_back_from_18_with_1_connection() {
    every_kind_comes_back(Major::V18, 1);
}

#[test]
fn every_kind_of_object_comes_back_from_18_with_4_connections() {
    every_kind_comes_back(Major::V18, 4);
}

#[test]
fn a_service_with_many_tables_comes_back_in_slices() {
    let major = Major::V15;
    let taken = Taken {
        major,
        database: service(major),
        connections: 4,
        slice_mib: 1,
    };
    let backup = there_and_back("service", &taken, Load::Parallel, &SERVICE_IN_ANOTHER_ORDER);
    assert!(sliced_tables(&backup) > 0, "nothing was cut");
    // The same event once more changes nothing.
    let again = item("service", "2026-11-21T01:00:00Z");
    let answer = String::from_utf8_lossy(&dump(&again).payload).into_owned();
    assert!(answer.contains("\"already_committed\""), "{answer}");
    assert_eq!(verify(&again)["verdict"], "passed");
    // Slice size and connections are nobody's business but the run's.
    let other = Taken {
        connections: 1,
        slice_mib: 256,
        ..taken
    };
    let other = other.back_up("service-whole");
    assert_eq!(sliced_tables(&other), 0);
    let content = |backup: &Backup| {
        let tables = backup.manifest.tables.iter();
        let facts = tables.map(|it| (it.name.clone(), it.rows, it.copy_bytes, it.fingerprint));
        facts.collect::<Vec<_>>()
    };
    assert_eq!(content(&backup), content(&other));
}

#[test]
fn latin1_comes_back_byte_for_byte() {
    let major = Major::V15;
    every_kind::create_latin1(cluster(major), "latin").unwrap();
    let taken = Taken {
        major,
        database: "latin",
        connections: 1,
        slice_mib: 256,
    };
    let backup = there_and_back("latin1", &taken, Load::Parallel, &[]);
    assert_eq!(backup.manifest.settings.encoding, "LATIN1");
    let names: Vec<&str> = backup
        .manifest
        .tables
        .iter()
        .map(|it| it.name.as_str())
        .collect();
    assert_eq!(names, ["café", "sizes"]);
    assert_eq!(
        backup.manifest.tables[0].copy_columns,
        ["id", "größe", "raw"]
    );
}

#[test]
fn bytes_without_an_encoding_come_back_byte_for_byte() {
    let major = Major::V18;
    every_kind::create_sql_ascii(cluster(major), "ascii").unwrap();
    let taken = Taken {
        major,
        database: "ascii",
        connections: 4,
        slice_mib: 256,
    };
    let backup = there_and_back("sql-ascii", &taken, Load::Parallel, &[]);
    assert_eq!(backup.manifest.settings.encoding, "SQL_ASCII");
}

#[test]
fn a_new_server_gets_roles_settings_and_subscriptions_too() {
    let major = Major::V15;
    let source = cluster(major);
    let database = kinds(major);
    source
        .psql(
            "postgres",
            "ALTER DATABASE kinds SET work_mem = '7MB'; COMMENT ON DATABASE kinds IS 'a database';
             GRANT CREATE ON DATABASE kinds TO fixture_app; ALTER DATABASE kinds CONNECTION LIMIT 50",
        )
        .unwrap();
    let taken = Taken {
        major,
        database,
        connections: 2,
        slice_mib: 256,
    };
    let backup = taken.back_up("moving");

    let target = Cluster::temporary(major).unwrap();
    let mut shell = shell("moving", &backup, &target, "postgres");
    let (_, complaints) = shell.run(&["identity", "fetch", "check", "open", "roles", "new-server"]);
    assert_eq!(complaints, "", "though the server has a role postgres");
    let mut options = vec!["--create".to_owned()];
    options.extend(ROWS_IN_ANOTHER_ORDER.map(|(table, _)| format!("--exclude-table-data={table}")));
    assert_same_text(
        &dump_as_text(source, database, &options),
        &dump_as_text(&target, database, &options),
    );
    assert_proven(&target, &backup, database);
    // Other tests make roles on this server meanwhile.
    let roles = "SELECT string_agg(r::text, ' ' ORDER BY r) FROM (
            SELECT roleid::regrole, member::regrole, admin_option FROM pg_auth_members
            WHERE member::regrole::text LIKE 'fixture%') AS r
        UNION ALL SELECT string_agg(rolname || rolconfig::text, ' ' ORDER BY rolname) FROM pg_roles
            WHERE rolname LIKE 'fixture%'";
    assert_eq!(
        source.psql("postgres", roles).unwrap(),
        target.psql("postgres", roles).unwrap()
    );
}

#[test]
fn a_membership_keeps_the_options_that_newer_servers_know() {
    let major = Major::V16;
    let source = cluster(major);
    source
        .psql(
            "postgres",
            "CREATE ROLE \"sees all\"; CREATE ROLE clerk;
             GRANT \"sees all\" TO clerk WITH ADMIN TRUE, INHERIT FALSE, SET FALSE",
        )
        .unwrap();
    let taken = Taken {
        major,
        database: service(major),
        connections: 1,
        slice_mib: 256,
    };
    let backup = taken.back_up("options");
    let target = Cluster::temporary(major).unwrap();
    let mut shell = shell("options", &backup, &target, "postgres");
    shell.run(&["identity", "fetch", "check", "open", "roles"]);
    let options = "SELECT admin_option, inherit_option, set_option FROM pg_auth_members
        WHERE roleid = '\"sees all\"'::regrole AND member = 'clerk'::regrole";
    assert_eq!(target.psql("postgres", options).unwrap().trim(), "t|f|f");
}

#[test]
fn a_newer_pg_restore_has_one_harmless_complaint_about_an_older_server() {
    let major = Major::V15;
    let cluster = cluster(major);
    let taken = Taken {
        major,
        database: service(major),
        connections: 2,
        slice_mib: 256,
    };
    let backup = taken.back_up("older");
    let settings = &backup.manifest.settings;
    let mut shell = Shell::new(DOCUMENT, "older", Major::V18)
        .connect(cluster, "older copy")
        .env("BACKUP", &backup.uri)
        .env("ENCODING", &settings.encoding)
        .env("COLLATE", &settings.collate)
        .env("CTYPE", &settings.ctype);
    shell.run(&["identity", "fetch", "check", "open", "create"]);
    let (is_success, _, complaints) = shell.try_run(&["load-with-newer"]);
    assert!(!is_success, "the document says that it exits with 1");
    let errors: Vec<&str> = complaints
        .lines()
        .filter(|line| line.contains("ERROR"))
        .collect();
    assert!(!errors.is_empty());
    for error in errors {
        let known = "ERROR:  unrecognized configuration parameter \"transaction_timeout\"";
        assert!(error.contains(known), "{error}");
    }
    assert_same_database(
        cluster,
        (taken.database, "older copy"),
        &SERVICE_IN_ANOTHER_ORDER,
    );
    assert_proven(cluster, &backup, "older copy");
}
