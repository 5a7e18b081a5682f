//! Whether two names lead to one server. Pure.

use std::net::IpAddr;

use super::Endpoint;

pub(super) fn is_local(host: &str) -> bool {
    host.starts_with('/')
        || host == "localhost"
        || host.parse::<IpAddr>().is_ok_and(|it| it.is_loopback())
}

/// Whether two endpoints lead to one server, as far as names and addresses tell. A pooler of
/// the same host is the same server, whatever its port.
pub(super) fn is_same(one: &Endpoint, other: &Endpoint) -> bool {
    let same_name = direct(&one.host) == direct(&other.host);
    let same_address = one.addresses.iter().any(|it| other.addresses.contains(it));
    let is_pooler = |it: &Endpoint| direct(&it.host) != plain(&it.host) || it.port == 6543;
    let same_port = one.port == other.port || is_pooler(one) || is_pooler(other);
    (same_name || same_address) && same_port
}

fn plain(host: &str) -> String {
    host.trim_end_matches('.').to_ascii_lowercase()
}

/// The host without what makes it the pooler of that host.
fn direct(host: &str) -> String {
    let host = plain(host);
    match host.split_once('.') {
        Some((first, rest)) => match first.strip_suffix("-pooler") {
            Some(first) => format!("{first}.{rest}"),
            None => host,
        },
        None => host,
    }
}
