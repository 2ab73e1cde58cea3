//! Addresses that are not the public internet's, and what each of them is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(bits: u128, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::from_bits(bits), prefix)
}

/// From the IANA registries of special-purpose addresses.
const V4: [(Ipv4Net, &str); 16] = [
    (v4(0, 0, 0, 0, 8), "an unspecified address"),
    (v4(10, 0, 0, 0, 8), "a private address"),
    (v4(100, 64, 0, 0, 10), "a carrier's private address"),
    (v4(127, 0, 0, 0, 8), "a loopback address"),
    (v4(169, 254, 0, 0, 16), "a link-local address, where clouds keep their credentials,"),
    (v4(172, 16, 0, 0, 12), "a private address"),
    (v4(192, 0, 0, 0, 24), "a reserved address"),
    (v4(192, 0, 2, 0, 24), "an address for documentation"),
    (v4(192, 88, 99, 0, 24), "a relay's address"),
    (v4(192, 168, 0, 0, 16), "a private address"),
    (v4(198, 18, 0, 0, 15), "an address for benchmarks"),
    (v4(198, 51, 100, 0, 24), "an address for documentation"),
    (v4(203, 0, 113, 0, 24), "an address for documentation"),
    (v4(224, 0, 0, 0, 4), "a multicast address"),
    (v4(255, 255, 255, 255, 32), "the broadcast address"),
    (v4(240, 0, 0, 0, 4), "a reserved address"),
];

/// The narrow ones stand before the wide ones that contain them. Those that carry an IPv4 address
/// inside are refused whole, whatever they carry.
const V6: [(Ipv6Net, &str); 16] = [
    (v6(0, 128), "an unspecified address"),
    (v6(1, 128), "a loopback address"),
    (v6(0, 96), "an old form of an IPv4 address"),
    (v6(0x0064_ff9b << 96, 96), "an IPv4 address behind NAT64"),
    (v6(0x0064_ff9b_0001 << 80, 48), "an IPv4 address behind NAT64"),
    (v6(0x0100 << 112, 64), "a discard address"),
    (v6(0x2001 << 112, 32), "an IPv4 address in a Teredo tunnel"),
    (v6(0x2001 << 112, 23), "a reserved address"),
    (v6(0x2001_0db8 << 96, 32), "an address for documentation"),
    (v6(0x2002 << 112, 16), "an IPv4 address in a 6to4 tunnel"),
    (v6(0x3fff << 112, 20), "an address for documentation"),
    (v6(0x5f00 << 112, 16), "a segment routing address"),
    (v6(0xfc00 << 112, 7), "a private address"),
    (v6(0xfe80 << 112, 10), "a link-local address"),
    (v6(0xfec0 << 112, 10), "a private address"),
    (v6(0xff00 << 112, 8), "a multicast address"),
];

/// The only part of IPv6 that has been given out to the public.
const PUBLIC_V6: Ipv6Net = v6(0x2000 << 112, 3);

/// What the address is when it is not a public one. An IPv4 address written as IPv6
/// (`::ffff:10.0.0.1`) is judged as IPv4.
pub(super) fn special(address: IpAddr) -> Option<&'static str> {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            V4.iter().find(|(net, _)| net.contains(&address)).map(|(_, what)| *what)
        }
        IpAddr::V6(address) => V6
            .iter()
            .find(|(net, _)| net.contains(&address))
            .map(|(_, what)| *what)
            .or_else(|| (!PUBLIC_V6.contains(&address)).then_some("a reserved address")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_every_range_are_special() {
        for (net, what) in V4 {
            for end in [net.network(), net.broadcast()] {
                assert!(special(end.into()).is_some(), "{end}, {what}");
                assert!(special(end.to_ipv6_mapped().into()).is_some(), "{end} mapped, {what}");
            }
        }
        for (net, what) in V6 {
            for end in [net.network(), net.broadcast()] {
                assert!(special(end.into()).is_some(), "{end}, {what}");
            }
        }
    }

    #[test]
    fn public_addresses_are_not_special() {
        let public = [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2a00::1",
            "::ffff:8.8.8.8",
        ];
        for text in public {
            assert_eq!(special(text.parse().unwrap()), None, "{text}");
        }
    }

    #[test]
    fn the_narrow_name_wins() {
        let cases = [
            ("::1", "a loopback address"),
            ("::", "an unspecified address"),
            ("2001:0:4136:e378::1", "an IPv4 address in a Teredo tunnel"),
            ("255.255.255.255", "the broadcast address"),
            ("fd00:ec2::254", "a private address"),
            ("4000::1", "a reserved address"),
        ];
        for (text, what) in cases {
            assert_eq!(special(text.parse().unwrap()), Some(what), "{text}");
        }
    }
}
