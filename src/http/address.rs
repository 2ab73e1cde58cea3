//! Where a request comes from.

use std::net::{IpAddr, Ipv6Addr};

use actix_web::HttpRequest;
use ipnet::IpNet;

/// A caller's address in words: of IPv6 the network of 64 bits, which is what one household or
/// machine has. Proxies in these networks are believed whom they pass on; nobody else is.
pub(super) fn of(request: &HttpRequest, proxies: &[IpNet]) -> Option<String> {
    let peer = request.peer_addr()?.ip();
    let passed_on = request.headers().get_all("x-forwarded-for");
    // What cannot be read must not hide what our own proxies have written behind it.
    let lines: Vec<_> = passed_on.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    let passed_on: Vec<&str> = lines.iter().flat_map(|line| line.split(',')).collect();
    Some(told(origin(peer, &passed_on, proxies)))
}

/// From the nearest hop back to the first that is no proxy of ours: what lies before it anybody may
/// have written.
fn origin(peer: IpAddr, passed_on: &[&str], proxies: &[IpNet]) -> IpAddr {
    let is_ours = |address: &IpAddr| proxies.iter().any(|network| network.contains(address));
    let mut origin = peer.to_canonical();
    for before in passed_on.iter().rev() {
        if !is_ours(&origin) {
            break;
        }
        let Some(address) = parse(before) else { break };
        origin = address.to_canonical();
    }
    origin
}

/// An address, maybe with a port.
fn parse(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let with_port = || text.parse().ok().map(|socket: std::net::SocketAddr| socket.ip());
    text.parse().ok().or_else(with_port)
}

fn told(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{}/64", Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;
    use actix_web::test::TestRequest;

    fn from(peer: &str, passed_on: &[&str], proxies: &[&str]) -> String {
        let proxies: Vec<IpNet> = proxies.iter().map(|text| text.parse().unwrap()).collect();
        told(origin(peer.parse().unwrap(), passed_on, &proxies))
    }

    #[test]
    fn only_proxies_of_ours_are_believed() {
        let ours = ["10.0.0.0/8", "fd00::/8"];
        assert_eq!(from("192.0.2.1", &["198.51.100.7"], &ours), "192.0.2.1");
        assert_eq!(from("10.0.0.1", &["198.51.100.7"], &ours), "198.51.100.7");
        assert_eq!(from("10.0.0.1", &["198.51.100.7"], &[]), "10.0.0.1");
        assert_eq!(
            from("10.0.0.1", &["1.2.3.4", "198.51.100.7", " 10.9.9.9"], &ours),
            "198.51.100.7"
        );
        assert_eq!(from("::ffff:10.0.0.1", &["198.51.100.7:4711"], &ours), "198.51.100.7");
        assert_eq!(from("10.0.0.1", &["unknown"], &ours), "10.0.0.1");
        assert_eq!(from("10.0.0.1", &[], &ours), "10.0.0.1");
    }

    #[test]
    fn what_cannot_be_read_hides_nothing_behind_it() {
        let mut request = TestRequest::default().peer_addr("10.0.0.1:1".parse().unwrap());
        let line = HeaderValue::from_bytes(b"\xff, 198.51.100.7").unwrap();
        request = request.insert_header(("x-forwarded-for", line));
        let proxies = ["10.0.0.0/8".parse().unwrap()];
        let found = of(&request.to_http_request(), &proxies);
        assert_eq!(found.as_deref(), Some("198.51.100.7"));
    }

    #[test]
    fn of_ipv6_the_network_counts() {
        assert_eq!(from("2001:db8:1:2:3:4:5:6", &[], &[]), "2001:db8:1:2::/64");
        assert_eq!(from("fd00::1", &["[2001:db8:1:2::9]:80"], &["fd00::/8"]), "2001:db8:1:2::/64");
    }
}
