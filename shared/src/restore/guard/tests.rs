mod cases;

use super::*;
use crate::restore::Scope;
use cases::{Case, destination, endpoint, good, good_existing, good_staging, staging};
use serde_json::json;

/// What comes of the case with this change: exactly these codes, each with words and a remedy.
fn check(mut case: Case, change: impl FnOnce(&mut Case), expected: &[ObstacleCode]) {
    change(&mut case);
    let obstacles = case.judge();
    let codes: Vec<ObstacleCode> = obstacles.iter().map(|it| it.code).collect();
    assert_eq!(codes, expected, "{obstacles:#?}");
    for obstacle in obstacles {
        assert!(
            obstacle.message.len() > 20 && obstacle.remedy.len() > 10,
            "{obstacle:?}"
        );
    }
}

#[test]
fn what_may_go_where_it_is_told_to_meets_no_obstacle() {
    check(good(), |_| {}, &[]);
    check(good_staging(), |_| {}, &[]);
    check(good_existing(), |_| {}, &[]);
    // Another database beside the source, on its own server.
    check(
        good(),
        |it| it.target.system_identifier = Some("7".to_owned()),
        &[],
    );
    // Another server of the same machine.
    check(
        good(),
        |it| {
            it.target.database = "app".to_owned();
            it.target.endpoint = endpoint("db.example", 5433, &["192.0.2.1"]);
        },
        &[],
    );
}

#[test]
fn the_source_is_refused_however_it_is_called() {
    use ObstacleCode::IsTheSource;
    let same_cluster = |it: &mut Case| it.target.system_identifier = Some("7".to_owned());
    check(
        good(),
        |it| {
            same_cluster(it);
            it.target.database = "app".to_owned();
        },
        &[IsTheSource],
    );
    // By its endpoint alone: the cluster behind it may be a new one since, or may not be asked.
    for (host, port, addresses) in [
        ("db.example", 5432, &[][..]),
        ("DB.Example.", 5432, &[]),
        ("alias.example", 5432, &["192.0.2.1"]),
        ("db-pooler.example", 5432, &[]),
        ("db-pooler.example", 6543, &[]),
        ("192.0.2.1", 5432, &["192.0.2.1"]),
    ] {
        for identifier in [None, Some("8".to_owned())] {
            check(
                good(),
                |it| {
                    it.target.database = "app".to_owned();
                    it.target.endpoint = endpoint(host, port, addresses);
                    it.target.system_identifier = identifier;
                },
                &[IsTheSource],
            );
        }
    }
    check(good_existing(), same_cluster, &[IsTheSource]);
    check(
        good(),
        |it| {
            // As its secret says today.
            it.source.endpoints.push(endpoint("new.example", 5432, &[]));
            it.target.endpoint = endpoint("new.example", 5432, &[]);
            it.target.database = "app".to_owned();
        },
        &[IsTheSource],
    );
}

#[test]
fn production_takes_nothing_but_a_staging_schema() {
    use ObstacleCode::{Exists, IsLive, Mismatch, Missing};
    check(good(), |it| it.live = true, &[IsLive]);
    check(good_existing(), |it| it.live = true, &[IsLive]);
    check(
        good_staging(),
        |it| it.target.schema_exists = true,
        &[Exists],
    );
    check(
        good_staging(),
        |it| it.order.scope = serde_json::from_value(json!({"tables": ["app.User"]})).unwrap(),
        &[Missing],
    );
    check(
        good_staging(),
        |it| it.order.scope = Scope::Tables(Vec::new()),
        &[Mismatch],
    );
    check(
        good_staging(),
        |it| {
            it.destination =
                destination(json!({"staging": {"target": "standby", "schema": "pg_temp"}}));
        },
        &[Mismatch],
    );
}

#[test]
fn scope_and_destination_belong_together() {
    use ObstacleCode::Mismatch;
    check(good(), |it| it.order.scope = Scope::DataOnly, &[Mismatch]);
    check(good(), |it| it.destination = staging(), &[Mismatch]);
    check(
        good(),
        |it| it.order.scope = serde_json::from_value(json!({"tables": ["app.users"]})).unwrap(),
        &[Mismatch],
    );
    for name in ["", &"x".repeat(64), "a\nb"] {
        check(
            good(),
            |it| {
                it.destination =
                    destination(json!({"new_database": {"target": "standby", "database": name}}));
            },
            &[Mismatch],
        );
    }
}

#[test]
fn nothing_is_restored_over_what_is_there() {
    use ObstacleCode::{Columns, Encoding, Exists, Missing, NotEmpty, Rights, Triggers};
    check(good(), |it| it.target.database_exists = true, &[Exists]);
    check(
        good(),
        |it| {
            it.target.database_exists = true;
            it.target.user_tables = 3;
        },
        &[NotEmpty],
    );
    check(
        good(),
        |it| {
            it.target.database_exists = true;
            it.target.ledger = Some("20261121T030501Z-8f".to_owned());
        },
        &[Exists],
    );
    let users = |case: &mut Case, change: fn(&mut TableFacts)| {
        case.target.tables.values_mut().for_each(change);
    };
    check(
        good_existing(),
        |it| users(it, |it| it.has_rows = true),
        &[NotEmpty],
    );
    check(
        good_existing(),
        |it| users(it, |it| it.columns.clear()),
        &[Columns],
    );
    check(
        good_existing(),
        |it| users(it, |it| it.has_stubborn_triggers = true),
        &[Triggers],
    );
    check(good_existing(), |it| it.target.tables.clear(), &[Missing]);
    check(
        good_existing(),
        |it| it.target.database_exists = false,
        &[Missing],
    );
    check(
        good_existing(),
        |it| it.target.is_superuser = false,
        &[Rights],
    );
    check(
        good_existing(),
        |it| it.target.encoding = Some("LATIN1".to_owned()),
        &[Encoding],
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "one list of ways to be unfit")]
fn a_server_that_cannot_take_it_is_told_with_the_remedy() {
    use ObstacleCode::{
        Extension, JobTooLong, Locale, ReadOnly, Rights, Role, RowSecurity, ServerTooOld, WeakTls,
    };
    check(
        good(),
        |it| it.target.server_version = 150_018,
        &[ServerTooOld],
    );
    check(good_staging(), |it| it.target.server_version = 150_018, &[]);
    check(good(), |it| it.target.is_in_recovery = true, &[ReadOnly]);
    check(
        good(),
        |it| it.target.can_create_database = false,
        &[Rights],
    );
    check(good(), |it| it.target.tls = Tls::Local, &[WeakTls]);
    check(
        good(),
        |it| {
            it.target.tls = Tls::Local;
            it.target.endpoint = endpoint("127.0.0.1", 5432, &["127.0.0.1"]);
        },
        &[],
    );
    let without = |name: &'static str| move |it: &mut Case| drop(it.target.extensions.remove(name));
    check(good(), without("hstore"), &[Extension]);
    check(
        good(),
        |it| {
            without("hstore")(it);
            it.order.leave_out.extensions = vec!["hstore".to_owned()];
        },
        &[],
    );
    let offers = |version: &'static str| {
        move |it: &mut Case| {
            let versions = BTreeSet::from([version.to_owned()]);
            it.target.extensions.insert("hstore".to_owned(), versions);
        }
    };
    check(good(), offers("1.7"), &[Extension]);
    check(good(), offers("1.10"), &[]);
    check(
        good(),
        |it| it.roles = BTreeSet::from(["writer".to_owned()]),
        &[Role],
    );
    check(
        good(),
        |it| it.roles = BTreeSet::from(["reader".to_owned()]),
        &[],
    );
    check(
        good(),
        |it| it.forced.push("app.users".to_owned()),
        &[RowSecurity],
    );
    check(
        good(),
        |it| {
            it.forced.push("app.users".to_owned());
            it.target.bypasses_row_security = true;
        },
        &[],
    );
    check(
        good(),
        |it| it.target.missing_locale = Some("de_XX.UTF-8 (libc)".to_owned()),
        &[Locale],
    );
    check(
        good_existing(),
        |it| it.target.missing_locale = Some("de_XX.UTF-8 (libc)".to_owned()),
        &[],
    );
    check(
        good(),
        |it| it.estimate.longest_job_seconds = 701.0,
        &[JobTooLong],
    );
    check(
        good(),
        |it| {
            it.estimate.longest_job_seconds = 701.0;
            it.job_seconds_max = None;
        },
        &[],
    );
}

#[test]
fn what_only_a_superuser_may_create_is_told_to_any_other_role() {
    use ObstacleCode::Rights;
    let changes: [fn(&mut Case); 2] = [
        |it| it.superuser_only.push("EVENT TRIGGER watch".to_owned()),
        |it| it.target.superuser_extensions = BTreeSet::from(["hstore".to_owned()]),
    ];
    for change in changes {
        check(good(), change, &[Rights]);
        let also = |more: fn(&mut Case)| {
            move |it: &mut Case| {
                change(it);
                more(it);
            }
        };
        check(good(), also(|it| it.target.is_superuser = true), &[]);
        check(good(), also(|it| it.target.has_platform_rights = true), &[]);
        check(good_staging(), change, &[]);
    }
    check(
        good(),
        |it| {
            it.target.superuser_extensions.insert("hstore".to_owned());
            it.order.leave_out.extensions = vec!["hstore".to_owned()];
        },
        &[],
    );
}

#[test]
fn all_obstacles_are_told_at_once() {
    let mut case = good();
    case.live = true;
    case.target.is_in_recovery = true;
    case.target.server_version = 140_000;
    case.target.can_create_database = false;
    case.target.database_exists = true;
    case.target.extensions.clear();
    case.roles.insert("writer".to_owned());
    assert_eq!(case.judge().len(), 7);
}
