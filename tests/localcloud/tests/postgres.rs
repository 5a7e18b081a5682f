//! The private clusters behave like servers, and leave nothing behind.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

use localcloud::postgres::{
    Auth, Authority, Cluster, DatabaseOptions, Flaw, Major, Options, SUPERUSER, pgtools_dir,
};

fn scratch(name: &str) -> std::path::PathBuf {
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::remove_dir_all(&dir).ok();
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

#[test]
fn every_major_starts_answers_and_leaves_nothing() {
    for major in Major::ALL {
        let cluster = Cluster::temporary(major).unwrap();
        let version = cluster.psql("postgres", "SHOW server_version_num").unwrap();
        assert!(version.starts_with(&major.0.to_string()), "{version}");
        let server = cluster.psql("postgres", "SELECT pg_backend_pid()").unwrap();
        let data = cluster.data_dir();
        let postmaster = std::fs::read_to_string(data.join("postmaster.pid")).unwrap();
        let postmaster = postmaster.lines().next().unwrap().to_owned();
        drop(cluster);
        assert!(!data.exists());
        for pid in [server, postmaster] {
            assert!(!std::path::Path::new("/proc").join(pid).exists());
        }
    }
}

#[test]
fn a_cluster_outlives_the_thread_that_started_it() {
    let cluster = std::thread::spawn(|| Cluster::temporary(Major::V15).unwrap())
        .join()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(cluster.psql("postgres", "SELECT 1").unwrap(), "1");
}

#[test]
fn a_wrong_password_is_refused_and_trust_asks_for_none() {
    let scram = Cluster::temporary(Major::V15).unwrap();
    let try_login = |url: String| {
        let psql = Command::new("psql")
            .args(["-X", "-w", "-c", "SELECT 1", &url])
            .env("PGPASSFILE", "/none")
            .output();
        psql.unwrap().status.success()
    };
    assert!(try_login(scram.url("postgres", SUPERUSER)));
    assert!(!try_login(scram.url_with_password(
        "postgres",
        SUPERUSER,
        Some("wrong")
    )));
    assert!(!try_login(
        scram.url_with_password("postgres", SUPERUSER, None)
    ));

    let options = Options {
        auth: Auth::Trust,
        ..Options::default()
    };
    let trust = Cluster::temporary_with(Major::V15, &options).unwrap();
    assert!(try_login(trust.url("postgres", SUPERUSER)));
}

#[test]
fn a_cluster_keeps_its_data_over_restart_crash_and_a_second_start() {
    let dir = scratch("kept cluster");
    let cluster = Cluster::start(Major::V18, &dir.join("postgres")).unwrap();
    let odd = r#"od"d näme = 1"#;
    cluster
        .create_database(odd, &DatabaseOptions::default())
        .unwrap();
    cluster
        .psql(odd, "CREATE TABLE t AS SELECT 42 AS answer")
        .unwrap();
    let port = cluster.port();
    cluster.restart().unwrap();
    cluster.crash().unwrap();
    assert!(cluster.psql(odd, "SELECT 1").is_err());
    cluster.start_again().unwrap();
    assert_eq!(cluster.port(), port);
    drop(cluster);

    let cluster = Cluster::start(Major::V18, &dir.join("postgres")).unwrap();
    assert_eq!(cluster.psql(odd, "SELECT answer FROM t").unwrap(), "42");
    let by_url = Command::new("psql")
        .args(["-XAtc", "SELECT answer FROM t"])
        .arg(cluster.url(odd, SUPERUSER))
        .output();
    assert_eq!(String::from_utf8_lossy(&by_url.unwrap().stdout), "42\n");
}

#[test]
fn a_database_may_have_another_encoding() {
    let cluster = Cluster::temporary(Major::V15).unwrap();
    let latin1 = DatabaseOptions {
        encoding: "LATIN1",
        locale: "C",
        ..DatabaseOptions::default()
    };
    cluster.create_database("latin", &latin1).unwrap();
    assert_eq!(
        cluster.psql("latin", "SHOW server_encoding").unwrap(),
        "LATIN1"
    );
}

#[test]
fn a_client_that_verifies_accepts_the_good_certificate_only() {
    let authority = Authority::create(&scratch("authority")).unwrap();
    for (flaw, expected) in [
        (Flaw::None, ""),
        (Flaw::Expired, "certificate verify failed"),
        (Flaw::WrongHost, "does not match host name"),
        (Flaw::SelfSigned, "certificate verify failed"),
    ] {
        let options = Options {
            tls: Some(authority.issue(flaw).unwrap()),
            ..Options::default()
        };
        let cluster = Cluster::temporary_with(Major::V15, &options).unwrap();
        let mut psql = cluster.client("psql", "postgres").unwrap();
        psql.env("PGHOST", "localhost")
            .env("PGSSLMODE", "verify-full");
        let output = psql
            .env("PGSSLROOTCERT", authority.root_certificate())
            .args(["-Xc", "SELECT 1"])
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            output.status.success(),
            expected.is_empty(),
            "{flaw:?}: {stderr}"
        );
        assert!(stderr.contains(expected), "{flaw:?}: {stderr}");
    }
}

#[test]
fn the_tools_folder_has_the_client_programs_of_each_major() {
    let dir = scratch("pgtools");
    pgtools_dir(&dir, &Major::ALL).unwrap();
    pgtools_dir(&dir, &Major::ALL).unwrap();
    for major in Major::ALL {
        for program in ["pg_dump", "pg_restore", "psql"] {
            let version = Command::new(dir.join(format!("{}/bin/{program}", major.0)))
                .arg("--version")
                .output()
                .unwrap();
            let version = String::from_utf8_lossy(&version.stdout).into_owned();
            assert!(version.contains(&format!(" {}.", major.0)), "{version}");
        }
    }
}

#[test]
fn a_server_ends_with_the_process_that_started_it() {
    // The test program itself, as a child that is killed without a chance to tidy up.
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args([
        "--exact",
        "hold_a_server_for_a_while",
        "--ignored",
        "--nocapture",
    ]);
    let mut child = child.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    let pid = std::io::BufRead::lines(stdout)
        .map_while(Result::ok)
        .find_map(|line| Some(line.split_once("postmaster ")?.1.to_owned()))
        .unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let process = std::path::Path::new("/proc").join(pid);
    for _ in 0..200 {
        if !process.exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("the server outlived its parent");
}

#[test]
#[ignore = "the child of a_server_ends_with_the_process_that_started_it"]
fn hold_a_server_for_a_while() {
    let cluster = Cluster::temporary(Major::V15).unwrap();
    let postmaster = std::fs::read_to_string(cluster.data_dir().join("postmaster.pid")).unwrap();
    println!("postmaster {}", postmaster.lines().next().unwrap());
    std::thread::sleep(std::time::Duration::from_secs(60));
}

#[test]
fn a_cluster_below_a_folder_that_only_we_may_enter_works_too() {
    use std::os::unix::fs::PermissionsExt;
    let home = scratch("private home");
    std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o700)).unwrap();
    for _ in 0..2 {
        let cluster = Cluster::start(Major::V15, &home.join("postgres")).unwrap();
        cluster
            .psql("postgres", "CREATE TABLE IF NOT EXISTS kept (n integer)")
            .unwrap();
    }
    let cluster = Cluster::start(Major::V15, &home.join("postgres")).unwrap();
    assert_eq!(
        cluster
            .psql("postgres", "SELECT count(*) FROM kept")
            .unwrap(),
        "0"
    );
    assert!(home.join("postgres/data/PG_VERSION").exists());
    drop(cluster);

    // Whoever removes the folder gets a new cluster.
    std::fs::remove_file(home.join("postgres"))
        .or_else(|_| std::fs::remove_dir_all(home.join("postgres")))
        .unwrap();
    let cluster = Cluster::start(Major::V15, &home.join("postgres")).unwrap();
    assert!(
        cluster
            .psql("postgres", "SELECT count(*) FROM kept")
            .is_err()
    );
    let data = cluster.data_dir();
    drop(cluster);
    std::fs::remove_dir_all(data.parent().unwrap()).unwrap();
}
