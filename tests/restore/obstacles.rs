//! What stands in a restore's way is found before it begins: what servers say, and what archives need.

use std::collections::BTreeSet;

use localcloud::postgres::{DatabaseOptions, Major};
use shared::database_url::DatabaseUrl;
use shared::manifest::{DatabaseSettings, Manifest};
use shared::restore::guard::{self, TargetFacts};
use shared::restore::{self, Destination, Order, Scope};

use super::{assert_advance_is_proven, everything, in_an_hour, restore_whole, target_of, url};
use crate::format::Taken;
use crate::harness::{Backup, cluster, engine, open};

const MAJOR: Major = Major::V15;
const DATABASE: &str = "engine-obstacles";

const SCHEMA: &str = "
    CREATE ROLE \"mapped one\";
    CREATE ROLE powerless LOGIN PASSWORD 'powerless' CREATEDB;
    CREATE ROLE rds_superuser;
    CREATE ROLE hosted LOGIN PASSWORD 'hosted' CREATEDB IN ROLE rds_superuser;
    CREATE SCHEMA config;
    CREATE EXTENSION lifeboat_fixture SCHEMA config;
    INSERT INTO config.settings VALUES ('mine', 'x');
    CREATE TABLE t (id int PRIMARY KEY);
    INSERT INTO t VALUES (1);
    CREATE POLICY \"read TO nobody USING (x)\" ON t USING (true);
    CREATE FOREIGN DATA WRAPPER far;
    CREATE SERVER far FOREIGN DATA WRAPPER far;
    CREATE USER MAPPING FOR \"mapped one\" SERVER far;
    CREATE FUNCTION note() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
    CREATE EVENT TRIGGER watch ON sql_drop EXECUTE FUNCTION note();
    CREATE PUBLICATION everything FOR ALL TABLES;";

fn back_up() -> Backup {
    let server = cluster(MAJOR);
    let options = DatabaseOptions::default();
    server.create_database(DATABASE, &options).unwrap();
    server.psql(DATABASE, SCHEMA).unwrap();
    let taken = Taken {
        major: MAJOR,
        database: DATABASE,
        connections: 2,
        slice_mib: 256,
    };
    taken.back_up(DATABASE)
}

fn new_database() -> Destination {
    Destination::NewDatabase {
        target: "standby".parse().unwrap(),
        database: "engine nowhere".to_owned(),
    }
}

fn ask(manifest: &Manifest, url: &DatabaseUrl, destination: &Destination) -> TargetFacts {
    engine(guard::gather(manifest, url, destination)).unwrap()
}

fn missing_locale(manifest: &Manifest, major: Major, settings: DatabaseSettings) -> Option<String> {
    let manifest = Manifest {
        settings,
        ..manifest.clone()
    };
    let url = url(cluster(major), "postgres");
    ask(&manifest, &url, &new_database()).missing_locale
}

#[test]
fn what_a_server_lacks_and_an_archive_needs_is_known_before() {
    let (server, backup) = (cluster(MAJOR), back_up());
    let manifest = &backup.manifest;

    // The locale, by provider.
    let settings = |provider: &str, collate: &str, icu_locale: Option<&str>| DatabaseSettings {
        locale_provider: provider.to_owned(),
        collate: collate.to_owned(),
        ctype: collate.to_owned(),
        icu_locale: icu_locale.map(str::to_owned),
        ..manifest.settings.clone()
    };
    for (major, provider, collate, locale, expected) in [
        (Major::V15, "libc", "C.UTF-8", None, None),
        (Major::V15, "libc", "C.utf8", None, None),
        (
            Major::V15,
            "libc",
            "xx_XX.UTF-8",
            None,
            Some("operating system's locale xx_XX.UTF-8"),
        ),
        (Major::V15, "icu", "C", Some("de"), None),
        (
            Major::V18,
            "icu",
            "C",
            Some("de"),
            Some("locale de of the provider icu"),
        ),
        (
            Major::V15,
            "builtin",
            "C",
            Some("C.UTF-8"),
            Some("locale C.UTF-8 of the provider builtin"),
        ),
        (Major::V18, "builtin", "C", Some("C.UTF-8"), None),
        (
            Major::V18,
            "builtin",
            "C",
            Some("C.UTF-9"),
            Some("locale C.UTF-9"),
        ),
    ] {
        let found = missing_locale(manifest, major, settings(provider, collate, locale));
        let is_expected = match (&found, expected) {
            (Some(found), Some(expected)) => found.contains(expected),
            (found, expected) => found.is_none() && expected.is_none(),
        };
        assert!(
            is_expected,
            "{major:?} {provider} {collate} {locale:?}: {found:?}"
        );
    }

    // Roles, and what only a superuser may create.
    let opened = engine(open(&backup));
    let order = Order {
        owners: false,
        privileges: false,
        ..everything("engine-obstacles", 2)
    };
    assert_eq!(
        guard::roles(&opened, &order),
        BTreeSet::from(["mapped one".to_owned()])
    );
    assert_eq!(
        guard::superuser_only(&opened, &order),
        [
            "FOREIGN DATA WRAPPER far",
            "PUBLICATION everything",
            "EVENT TRIGGER watch"
        ]
    );
    for (role, has_platform_rights) in [("powerless", false), ("hosted", true)] {
        let url = server.url_with_password(DATABASE, role, Some(role));
        let url = DatabaseUrl::parse(&url).unwrap();
        let facts = ask(manifest, &url, &new_database());
        assert_eq!(facts.has_platform_rights, has_platform_rights, "{role}");
        assert!(facts.superuser_extensions.contains("lifeboat_fixture"));
        assert!(!facts.superuser_extensions.contains("plpgsql"));
        // Live tables that it may not read.
        let staging = Destination::Staging {
            target: "live".parse().unwrap(),
            schema: "lifeboat_x".to_owned(),
        };
        let facts = ask(manifest, &url, &staging);
        assert!(
            facts
                .unreadable
                .contains(&("public".to_owned(), "t".to_owned()))
        );
    }
}

#[test]
fn rows_go_beside_those_that_an_extension_brings_and_never_under_a_stubborn_trigger() {
    let server = cluster(MAJOR);
    let name = "engine-beside";
    let options = DatabaseOptions::default();
    server.create_database(name, &options).unwrap();
    let sql = "CREATE SCHEMA config; CREATE EXTENSION lifeboat_fixture SCHEMA config;
        INSERT INTO config.settings VALUES ('mine', 'x'); CREATE TABLE t AS SELECT 1 AS a";
    server.psql(name, sql).unwrap();
    let taken = Taken {
        major: MAJOR,
        database: name,
        connections: 2,
        slice_mib: 256,
    };
    let backup = taken.back_up(name);
    let copy = "engine beside copy";
    let schema = Order {
        scope: Scope::SchemaOnly,
        ..everything("engine-beside-schema", 2)
    };
    engine(restore_whole(&backup, (server, copy), &schema)).unwrap();
    let shipped = "SELECT count(*) FROM config.settings";
    assert_eq!(server.psql(copy, shipped).unwrap(), "2");

    let destination = Destination::ExistingTables {
        target: "standby".parse().unwrap(),
        database: copy.to_owned(),
    };
    let facts = || ask(&backup.manifest, &url(server, "postgres"), &destination);
    let tables = facts().tables;
    assert!(tables.len() >= 2, "{tables:?}");
    assert!(tables.values().all(|it| !it.has_rows), "{tables:?}");

    let trigger =
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER f BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()";
    server.psql(copy, trigger).unwrap();
    let is_stubborn = || facts().tables.values().any(|it| it.has_stubborn_triggers);
    assert!(!is_stubborn());
    for state in ["ALWAYS", "REPLICA"] {
        let sql = format!("ALTER TABLE t ENABLE {state} TRIGGER f");
        server.psql(copy, &sql).unwrap();
        assert!(is_stubborn(), "{state}");
    }
    server.psql(copy, "DROP TRIGGER f ON t").unwrap();

    let rows = Order {
        scope: Scope::DataOnly,
        owners: false,
        privileges: false,
        ..everything("engine-beside-rows", 2)
    };
    let advance = engine(async {
        let opened = open(&backup).await;
        restore::advance(&opened, &target_of(server, copy), &rows, in_an_hour()).await
    });
    assert_advance_is_proven(&advance.unwrap());
    assert_eq!(server.psql(copy, shipped).unwrap(), "3");
}
