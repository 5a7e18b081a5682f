//! What stands between a client and its server in the tests does what it says.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use localcloud::cutting_proxy::{Cut, CuttingProxy, Rule};
use localcloud::pgbouncer::{PgBouncer, PoolMode};
use localcloud::postgres::{Cluster, Major, SUPERUSER};

/// A server that sends 10 MB to everybody and then waits for the end.
fn talkative_server() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            std::thread::spawn(move || {
                client.write_all(&vec![7; 10_000_000]).ok();
                client.read_exact(&mut [0]).ok();
            });
        }
    });
    address
}

/// How many bytes arrive, and how it ends.
fn read_to_the_end(stream: &mut TcpStream) -> (usize, Result<(), std::io::ErrorKind>) {
    let mut total = 0;
    let mut buffer = vec![0; 65536];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return (total, Ok(())),
            Ok(length) => total += length,
            Err(error) => return (total, Err(error.kind())),
        }
    }
}

#[test]
fn a_connection_is_cut_after_exactly_so_many_bytes() {
    let server = talkative_server();
    for after_bytes in [1, 4096, 1_000_003] {
        let proxy = CuttingProxy::start(server).unwrap();
        proxy.add_rule(Rule {
            connection: Some(1),
            after_bytes,
            cut: Cut::Close,
        });
        let mut spared = TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
        assert!(proxy.wait_until(Duration::from_secs(5), |all| all.len() == 1));
        let mut cut = TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
        assert_eq!(
            read_to_the_end(&mut cut),
            (usize::try_from(after_bytes).unwrap(), Ok(()))
        );
        spared.read_exact(&mut vec![0; 10_000_000]).unwrap();
        let reports = proxy.connections();
        assert_eq!(
            (reports[1].bytes_to_client, reports[1].open, reports[0].open),
            (after_bytes, false, true)
        );
    }
}

#[test]
fn a_reset_is_a_reset() {
    let proxy = CuttingProxy::start(talkative_server()).unwrap();
    proxy.add_rule(Rule {
        connection: None,
        after_bytes: 100_000,
        cut: Cut::Reset,
    });
    let mut client = TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
    let (bytes, end) = read_to_the_end(&mut client);
    assert!(bytes <= 100_000);
    assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset));

    // Also while the proxy waits for a client that does not read.
    proxy.forget_rules();
    let mut lazy = TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
    assert!(
        proxy.wait_until(Duration::from_secs(5), |all| all.len() == 2
            && all[1].bytes_to_client > 0)
    );
    std::thread::sleep(Duration::from_millis(200));
    assert!(proxy.cut(1, Cut::Reset));
    assert_eq!(
        read_to_the_end(&mut lazy).1,
        Err(std::io::ErrorKind::ConnectionReset)
    );

    proxy.refuse_new(true);
    let mut refused = TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
    assert_eq!(
        read_to_the_end(&mut refused),
        (0, Err(std::io::ErrorKind::ConnectionReset))
    );
}

#[test]
fn a_stalled_connection_goes_on_when_resumed() {
    let proxy = CuttingProxy::start(talkative_server()).unwrap();
    proxy.add_rule(Rule {
        connection: None,
        after_bytes: 5000,
        cut: Cut::Stall,
    });
    let mut client = TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
    client.read_exact(&mut [0; 5000]).unwrap();
    client
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    assert_eq!(
        client.read(&mut [0]).unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock
    );
    proxy.resume();
    client.read_exact(&mut vec![0; 10_000_000 - 5000]).unwrap();
}

#[test]
fn one_backend_of_several_is_cut_by_name() {
    let cluster = Cluster::temporary(Major::V15).unwrap();
    let proxy = CuttingProxy::before_port(cluster.port()).unwrap();
    let url = proxy.url(&cluster.url("postgres", SUPERUSER), cluster.port());
    let mut sleepers: Vec<_> = ["first", "second"]
        .into_iter()
        .map(|name| {
            let mut psql = Command::new("psql");
            psql.args(["-Xc", "SELECT pg_sleep(3)"])
                .arg(&url)
                .env("PGAPPNAME", name);
            psql.stderr(std::process::Stdio::null())
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    let port = "SELECT client_port FROM pg_stat_activity WHERE application_name = 'second' AND query ~ 'sleep'";
    let port = loop {
        if let Ok(port) = cluster.psql("postgres", port).unwrap().parse() {
            break port;
        }
    };
    assert!(proxy.cut_backend(port, Cut::Reset));
    assert!(!proxy.cut_backend(port, Cut::Reset));
    assert!(!sleepers[1].wait().unwrap().success());
    assert!(sleepers[0].wait().unwrap().success());
}

#[test]
fn a_transaction_pooler_mixes_sessions_and_a_session_pooler_does_not() {
    let cluster = Cluster::temporary(Major::V15).unwrap();
    for (mode, expected) in [(PoolMode::Transaction, true), (PoolMode::Session, false)] {
        let bouncer = PgBouncer::start(&cluster, mode, 1).unwrap();
        let backend = |extra: &str| {
            let mut psql = Command::new("psql");
            psql.args(["-XAtq", "-c", "SELECT pg_backend_pid()", "-c", extra])
                .arg(bouncer.url("postgres"));
            psql.stdout(std::process::Stdio::piped()).spawn().unwrap()
        };
        // With one server connection, a session pooler makes the second client wait for the first.
        let mut first = backend("\\! sleep 1.5");
        std::thread::sleep(Duration::from_millis(700));
        let second = backend("SELECT 1");
        let second = second.wait_with_output().unwrap();
        let first_still_there = first.try_wait().unwrap().is_none();
        assert!(second.status.success(), "{}", bouncer.log());
        assert_eq!(first_still_there, expected, "{mode:?}");
        first.wait().unwrap();
    }
}
