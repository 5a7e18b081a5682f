//! Where a request of the configuration may go. Pure.
//!
//! A drill runs inside the account, next to services that answer whoever reaches them: a name
//! in the configuration must not lead there, however it is written or whatever it resolves to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// Where an address lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    Public,
    /// Only when the configuration allows it.
    Private(&'static str),
    /// Not even then: no application is there.
    Never(&'static str),
}

/// One request's destination, as far as its URL tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    pub url: Url,
    pub host: String,
    pub port: u16,
    /// Set when the host is an address already.
    pub address: Option<IpAddr>,
}

/// Reads a URL whose `{database}` stands for the scratch database.
pub fn destination(url: &str, database: &str) -> Result<Destination, &'static str> {
    let (head, rest) = url.split_at(url.find(['?', '#']).unwrap_or(url.len()));
    let authority_end = head.find("://").map_or(0, |at| at + 3);
    let path_at = head[authority_end..].find('/');
    let path_at = path_at.map_or(head.len(), |at| at + authority_end);
    // Never in the host: the name of a database decides nothing about where to go.
    if head[..path_at].contains("{database}") {
        return Err("{database} may stand in the path and the query only");
    }
    let filled = format!(
        "{}{}",
        &head[..path_at],
        format!("{}{rest}", &head[path_at..]).replace("{database}", database)
    );
    let url = Url::parse(&filled).map_err(|_| "its url is not a URL")?;
    if url.scheme() != "https" {
        return Err("only https is allowed");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("its url holds a user: use header_secret");
    }
    let address = match url.host() {
        Some(Host::Domain(_)) => None,
        Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
        Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
        None => return Err("its url has no host"),
    };
    // To the letter: it is under this name that the connection is made.
    let host = url.host_str().unwrap_or_default().to_owned();
    let port = url.port_or_known_default().unwrap_or(443);
    Ok(Destination {
        url,
        host,
        port,
        address,
    })
}

/// Of what a name resolved to, the address to connect to; one that is forbidden among them
/// refuses all.
pub fn choose(addresses: &[IpAddr], allow_private: bool) -> Result<IpAddr, String> {
    for address in addresses {
        match reach(*address) {
            Reach::Public => {}
            Reach::Private(_) if allow_private => {}
            Reach::Private(what) => {
                return Err(format!(
                    "it leads to {address}, which is {what}: write allow_private = true if that is meant"
                ));
            }
            Reach::Never(what) => {
                return Err(format!(
                    "it leads to {address}, which is {what} and never allowed"
                ));
            }
        }
    }
    addresses
        .first()
        .copied()
        .ok_or_else(|| "its host has no address".to_owned())
}

pub fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(address) => of_v4(address),
        IpAddr::V6(address) => of_v6(address),
    }
}

/// Registries: IANA IPv4 Special-Purpose Address Registry (RFC 6890 and its updates).
fn of_v4(address: Ipv4Addr) -> Reach {
    let [a, b, c, _] = address.octets();
    match (a, b, c) {
        (169, 254, _) => Reach::Never("link-local, where the cloud's metadata service is"),
        (100, 100, 100) => Reach::Never("a metadata service"),
        (0, _, _) => Reach::Never("this host"),
        (224..=255, _, _) => Reach::Never("multicast or reserved"),
        (192, 0, 0) | (192, 0, 2) | (192, 88, 99) | (198, 51, 100) | (203, 0, 113) => {
            Reach::Never("reserved")
        }
        (198, 18..=19, _) => Reach::Never("reserved"),
        (127, _, _) => Reach::Private("this machine"),
        (10, _, _) | (172, 16..=31, _) | (192, 168, _) => Reach::Private("private"),
        (100, 64..=127, _) => Reach::Private("a carrier's"),
        _ => Reach::Public,
    }
}

/// Registries: IANA IPv6 Special-Purpose Address Registry.
fn of_v6(address: Ipv6Addr) -> Reach {
    let segments = address.segments();
    // AWS's metadata service and time server, and the resolver, by their prefix.
    if segments[0] == 0xfd00 && segments[1] == 0x0ec2 {
        return Reach::Never("the cloud's metadata service");
    }
    match segments {
        [0, 0, 0, 0, 0, 0, 0, 1] => Reach::Private("this machine"),
        [0, 0, 0, 0, 0, _, _, _] => Reach::Never("an IPv4 address in disguise"),
        [0x64, 0xff9b, ..] => Reach::Never("an IPv4 address in disguise"),
        [0x2001, 0, ..] | [0x2002, ..] => Reach::Never("an IPv4 address in a tunnel"),
        [0x2001, 0xdb8, ..] | [0x100, 0, 0, 0, ..] => Reach::Never("reserved"),
        [0xfe80..=0xfebf, ..] => Reach::Never("link-local"),
        [0xfec0..=0xfeff, ..] => Reach::Private("private"),
        [0xfc00..=0xfdff, ..] => Reach::Private("private"),
        [0x2000..=0x3fff, ..] => Reach::Public,
        _ => Reach::Never("reserved"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the function does it: the URL, then what it resolves to.
    fn verdict(url: &str, allow_private: bool) -> Result<IpAddr, String> {
        let destination = destination(url, "scratch")?;
        let address = destination.address.ok_or("a name")?;
        choose(&[address], allow_private)
    }

    #[test]
    fn addresses_inside_are_refused_however_they_are_written() {
        for host in [
            "127.0.0.1",
            "127.1",
            "0x7f000001",
            "2130706433",
            "017700000001",
            "0177.0.0.1",
            "127.0.0.1.",
            "127。0。0。1",
            "１２７.0.0.1",
            "0",
            "0.0.0.0",
            "10.0.0.1",
            "10.255.255.255",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "169.254.169.254",
            "0xa9fea9fe",
            "2852039166",
            "169.254.170.2",
            "169.254.100.1",
            "100.100.100.200",
            "192.0.0.192",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "[::]",
            "[::1]",
            "[0:0:0:0:0:0:0:1]",
            "[fe80::1]",
            "[febf::1]",
            "[fec0::1]",
            "[fc00::1]",
            "[fd12:3456::1]",
            "[fd00:ec2::254]",
            "[fd00:ec2::23]",
            "[::ffff:127.0.0.1]",
            "[::ffff:169.254.169.254]",
            "[::ffff:a9fe:a9fe]",
            "[::ffff:8.8.8.8]",
            "[::127.0.0.1]",
            "[64:ff9b::a9fe:a9fe]",
            "[64:ff9b:1::7f00:1]",
            "[2002:7f00:1::]",
            "[2001:0:7f00:1::]",
            "[2001:db8::1]",
            "[ff02::1]",
            "[100::1]",
        ] {
            let refused = verdict(&format!("https://{host}/"), false);
            assert!(refused.is_err(), "{host}: {refused:?}");
        }
    }

    #[test]
    fn some_are_refused_even_when_private_ones_are_allowed() {
        for host in [
            "169.254.169.254",
            "169.254.170.2",
            "[fd00:ec2::254]",
            "[::ffff:169.254.169.254]",
            "[fe80::1]",
            "100.100.100.200",
            "0.0.0.0",
            "224.0.0.1",
            "[64:ff9b::a9fe:a9fe]",
        ] {
            let error = verdict(&format!("https://{host}/"), true).unwrap_err();
            assert!(error.contains("never allowed"), "{error}");
        }
        for host in [
            "10.0.0.1",
            "127.0.0.1",
            "[::1]",
            "[fd12:3456::1]",
            "100.64.0.1",
        ] {
            assert!(verdict(&format!("https://{host}/"), true).is_ok(), "{host}");
        }
    }

    #[test]
    fn public_addresses_are_allowed() {
        for host in [
            "8.8.8.8",
            "93.184.215.14",
            "[2606:4700::1111]",
            "172.15.0.1",
            "172.32.0.1",
        ] {
            assert!(
                verdict(&format!("https://{host}/"), false).is_ok(),
                "{host}"
            );
        }
    }

    #[test]
    fn one_forbidden_address_of_a_name_refuses_all() {
        let addresses = ["8.8.8.8", "10.0.0.1"].map(|it| it.parse().unwrap());
        assert!(choose(&addresses, false).is_err());
        assert_eq!(choose(&addresses, true), Ok(addresses[0]));
        assert!(choose(&[], true).is_err());
    }

    #[test]
    fn only_plain_https_is_allowed() {
        for url in [
            "http://a.example/",
            "HTTP://a.example",
            "ftp://a.example/",
            "file:///etc/passwd",
            "gopher://a.example/",
            "https://",
            "//a.example/",
            "https://user@a.example/",
            "https://user:word@a.example/",
            "https://a.example@127.0.0.1/",
            "https://{database}.example/",
            "https://a.example:99999/",
            "",
        ] {
            assert!(destination(url, "scratch").is_err(), "{url}");
        }
    }

    #[test]
    fn the_scratch_database_is_named_in_path_and_query() {
        let found = destination("https://A.example/{database}/x?on={database}", "s_1").unwrap();
        assert_eq!(found.url.as_str(), "https://a.example/s_1/x?on=s_1");
        assert_eq!((found.host.as_str(), found.port), ("a.example", 443));
        let found = destination("https://a.example?on={database}", "s_1").unwrap();
        assert_eq!(found.url.as_str(), "https://a.example/?on=s_1");
    }
}
