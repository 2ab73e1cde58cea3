//! No spelling of an address and no answer of a name service gets past the guard.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;

/// Each range of the table, and the spellings that URL parsers take for an address.
const SPECIAL_HOSTS: [&str; 54] = [
    "127.0.0.1",
    "127.1",
    "127.0.0.1.",
    "0x7f.1",
    "0x7f000001",
    "2130706433",
    "017700000001",
    "0177.0.0.1",
    "%31%32%37.0.0.1",
    "127。0。0。1",
    "①②⑦.0.0.1",
    "0",
    "0.0.0.0",
    "10.0.0.1",
    "0xa000001",
    "100.64.0.1",
    "169.254.169.254",
    "2852039166",
    "0xa9.0xfe.0xa9.0xfe",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "[::]",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::ffff:10.0.0.1]",
    "[::127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::a00:1]",
    "[64:ff9b:1::a00:1]",
    "[100::1]",
    "[2001::1]",
    "[2001:0:a00:1::]",
    "[2001:db8::1]",
    "[2002:7f00:1::]",
    "[2002:a00:1::1]",
    "[3fff::1]",
    "[5f00::1]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[fe80::1]",
    "[fec0::1]",
    "[ff02::1]",
];

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn strict() -> Guard {
    Guard::new(Vec::new(), true)
}

fn code(guard: &Guard, url: &str) -> Option<&'static str> {
    guard.admit(url).err().map(|refusal| refusal.code())
}

/// A guard whose name service gives these answers in turn, the last one for ever.
fn answering(allowed: &[&str], answers: &[&[&str]]) -> (Guard, Arc<AtomicUsize>) {
    let answers: Vec<Vec<IpAddr>> = answers
        .iter()
        .map(|answer| answer.iter().map(|text| text.parse().unwrap()).collect())
        .collect();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let lookup: Lookup = Box::new(move |_host| {
        let turn = count.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
        let answer = answers[turn].clone();
        Box::pin(async move { Ok(answer) })
    });
    (Guard::with_lookup(nets(allowed), true, lookup), asked)
}

async fn connects_to(guard: &Guard, name: &str) -> Result<Vec<IpAddr>, String> {
    match guard.resolve(name.parse().unwrap()).await {
        Ok(found) => Ok(found.map(|socket| socket.ip()).collect()),
        Err(fault) => Err(fault.to_string()),
    }
}

#[test]
fn public_addresses_pass_as_they_are() {
    let urls = [
        "https://hooks.example.com/a/b?c=d",
        "http://hooks.example.com./",
        "https://hooks.zapier.com/hooks/catch/1/abc/",
        "https://1.1.1.1/",
        "https://[2606:4700:4700::1111]:8443/",
        "http://example.com:5678/webhook-waiting/7?signature=0a1b",
        "https://my_bucket.example.com/",
        "https://bücher.example/",
    ];
    for url in urls {
        assert_eq!(code(&strict(), url), None, "{url}");
    }
}

#[test]
fn what_is_not_a_callback_url_is_refused_with_a_reason() {
    let long = format!("https://example.com/{}", "a".repeat(MAX_URL));
    let cases = [
        ("", "it must begin with"),
        ("hooks.example.com/a", "it must begin with"),
        ("ftp://example.com/", "it must begin with"),
        ("file:///etc/passwd", "it must begin with"),
        ("https://", "it has no host"),
        ("https://user@example.com/", "Authorization header"),
        ("https://:secret@example.com/", "Authorization header"),
        ("https://example.com/#part", "after `#`"),
        ("https://example.com/?a=\n1", "line break"),
        ("https://exam\tple.com/", "line break"),
        ("https://example.com:99999/", "its port"),
        ("https://1.2.3.4.5/", "not an IP address"),
        ("https://a..example.com/", "not a host name"),
        ("https://{{host}}.example.com/", "not a host name"),
        (long.as_str(), "longer than"),
    ];
    for (url, reason) in cases {
        let refusal = strict().admit(url).unwrap_err();
        assert_eq!(refusal.code(), "invalid_callback_url", "{url}");
        assert!(refusal.to_string().contains(reason), "{url}: {refusal}");
    }
}

#[test]
fn plain_http_can_be_switched_off() {
    let guard = Guard::new(Vec::new(), false);
    assert_eq!(guard.admit("http://example.com/"), Err(Refusal::PlainHttp));
    assert!(guard.admit("https://example.com/").is_ok());
}

#[test]
fn special_addresses_are_refused_in_every_spelling() {
    for host in SPECIAL_HOSTS {
        let refusal = strict().admit(&format!("http://{host}/?token=hidden")).unwrap_err();
        assert_eq!(refusal.code(), "blocked_destination", "{host}: {refusal}");
        assert!(!refusal.to_string().contains("hidden"), "{refusal}");
    }
}

#[test]
fn a_refusal_says_what_to_do() {
    let refusal =
        strict().admit("http://localhost:5678/webhook-waiting/1?signature=a").unwrap_err();
    assert!(refusal.to_string().contains("N8N_WEBHOOK_URL"), "{refusal}");
    let refusal = strict().admit("http://0x7f.1/").unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "callbacks do not go to 127.0.0.1, which is a loopback address. If that is your n8n, set its \
         N8N_WEBHOOK_URL to an address Spillway can reach, or allow this one in Spillway's settings: \
         callbacks.allow_networks = [\"127.0.0.1/32\"]"
    );
    let refusal = strict().admit("http://[::1]/").unwrap_err();
    assert!(refusal.to_string().ends_with("[\"::1/128\"]"), "{refusal}");
}

#[test]
fn names_inside_a_network_are_refused() {
    let names = [
        "localhost",
        "LOCALHOST",
        "localhost.",
        "a.localhost",
        "n8n",
        "n8n.",
        "printer.local",
        "metadata.google.internal",
        "METADATA.google.internal.",
        "db.lan",
        "router.home.arpa",
        "host.localdomain",
    ];
    for name in names {
        let refusal = strict().admit(&format!("http://{name}/")).unwrap_err();
        assert!(matches!(refusal, Refusal::Internal(_)), "{name}: {refusal}");
    }
    for name in ["notlocalhost.example", "local.example.com", "internal.example.com"] {
        assert_eq!(code(&strict(), &format!("http://{name}/")), None, "{name}");
    }
}

#[test]
fn an_allowed_network_is_reached_and_no_other() {
    let guard = Guard::new(nets(&["127.0.0.0/8", "fd00::/64"]), true);
    let reached = [
        "http://127.0.0.1:5678/",
        "http://[::ffff:127.0.0.1]/",
        "http://2130706433/",
        "http://[fd00::7]/",
    ];
    for url in reached {
        assert_eq!(code(&guard, url), None, "{url}");
    }
    let others =
        ["http://10.0.0.1/", "http://[::1]/", "http://[fd01::7]/", "http://[2002:7f00:1::]/"];
    for url in others {
        assert_eq!(code(&guard, url), Some("blocked_destination"), "{url}");
    }
    let mapped = Guard::new(nets(&["::ffff:10.0.0.0/104"]), true);
    assert_eq!(code(&mapped, "http://[::ffff:10.0.0.1]/"), None);
}

#[test]
fn ports_of_other_services_are_refused_also_where_the_network_is_allowed() {
    for port in [0, 22, 25, 81, 110, 3306, 5432, 6379, 11211] {
        let url = format!("http://example.com:{port}/");
        assert_eq!(strict().admit(&url), Err(Refusal::Port(port)), "{port}");
    }
    for port in [80, 443, 1024, 3000, 5678, 8080, 8443, 65_535] {
        assert_eq!(code(&strict(), &format!("http://example.com:{port}/")), None, "{port}");
    }
    let guard = Guard::new(nets(&["10.1.0.0/16", "127.0.0.1/32", "::1/128"]), true);
    for host in ["10.1.2.3", "127.0.0.1", "127.1", "[::1]", "[::ffff:127.0.0.1]", "localhost"] {
        for port in [22, 25, 81, 5432, 6379, 11211] {
            let url = format!("http://{host}:{port}/");
            assert_eq!(guard.admit(&url), Err(Refusal::Port(port)), "{url}");
        }
        for port in [80, 443, 1024, 5678, 8080, 43_210] {
            let url = format!("http://{host}:{port}/");
            assert_eq!(code(&guard, &url), None, "{url}");
        }
    }
    assert_eq!(guard.admit("http://1.1.1.1:6379/"), Err(Refusal::Port(6379)));
    assert_eq!(guard.admit("http://example.com:25/"), Err(Refusal::Port(25)));
}

#[tokio::test]
async fn a_name_that_turns_private_is_refused_at_the_connection() {
    let (guard, _) = answering(&[], &[&["93.184.215.14"], &["127.0.0.1"]]);
    assert!(guard.admit_resolved("http://rebind.example/").await.is_ok());
    let refused = connects_to(&guard, "rebind.example").await.unwrap_err();
    assert!(!refused.contains("127"), "{refused}");
}

#[tokio::test]
async fn one_forbidden_answer_spoils_a_public_name() {
    let answer: &[&str] = &["93.184.215.14", "::ffff:169.254.169.254"];
    let (guard, _) = answering(&[], &[answer]);
    assert!(connects_to(&guard, "mixed.example").await.is_err());
    let refusal = guard.admit_resolved("http://mixed.example/").await.unwrap_err();
    assert_eq!(refusal, Refusal::Resolved("mixed.example".to_owned()));
    assert!(!refusal.to_string().contains("169"), "{refusal}");
}

#[tokio::test]
async fn a_name_of_the_operators_network_leads_only_where_they_allow() {
    let (guard, _) = answering(&["127.0.0.0/8"], &[&["::1", "127.0.0.1"]]);
    assert!(guard.admit_resolved("http://localhost:5678/").await.is_ok());
    assert_eq!(connects_to(&guard, "localhost").await, Ok(vec![Ipv4Addr::LOCALHOST.into()]));

    let (guard, _) = answering(&["172.18.0.0/16"], &[&["172.19.0.4"]]);
    assert!(guard.admit("http://n8n:5678/").is_ok());
    assert!(guard.admit_resolved("http://n8n:5678/").await.is_err());
    assert!(connects_to(&guard, "n8n").await.is_err());

    // Not even a public address: such a name has no business outside.
    let (guard, _) = answering(&["172.18.0.0/16"], &[&["93.184.215.14"]]);
    assert!(connects_to(&guard, "n8n").await.is_err());
    assert!(connects_to(&guard, "n8n.example.com").await.is_ok());
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_let_through_for_now() {
    let broken: Lookup =
        Box::new(|_host| Box::pin(async { Err(io::Error::other("no such name")) }));
    let guard = Guard::with_lookup(Vec::new(), true, broken);
    assert!(guard.admit_resolved("https://later.example/").await.is_ok());
    assert!(connects_to(&guard, "later.example").await.is_err());

    let silent: Lookup = Box::new(|_host| Box::pin(std::future::pending()));
    let guard = Guard::with_lookup(Vec::new(), true, silent);
    assert!(guard.admit_resolved("https://silent.example/").await.is_ok());
}

#[tokio::test]
async fn a_burst_asks_the_name_service_once() {
    let (guard, asked) = answering(&[], &[&["93.184.215.14"]]);
    let burst = (0..100).map(|n| {
        let guard = guard.clone();
        async move { guard.admit_resolved(&format!("https://one.example/{n}")).await }
    });
    assert!(futures::future::join_all(burst).await.iter().all(Result::is_ok));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    // A connection never relies on what was said before.
    assert!(connects_to(&guard, "one.example").await.is_ok());
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

/// Addresses of the networks that matter most.
fn private() -> impl Strategy<Value = Ipv4Addr> {
    let within = |base: u32, bits: u32| (0..1u32 << bits).prop_map(move |n| base + n);
    prop_oneof![
        within(0x0a00_0000, 24),
        within(0x7f00_0000, 24),
        within(0xac10_0000, 20),
        within(0xc0a8_0000, 16),
        within(0xa9fe_0000, 16),
        within(0x6440_0000, 22),
        within(0xe000_0000, 29),
    ]
    .prop_map(Ipv4Addr::from)
}

proptest! {
    #[test]
    fn no_private_address_passes_in_any_spelling(address in private(), mixed in 0u8..81) {
        let number = u32::from(address);
        let [a, b, c, d] = address.octets();
        let digit = |part: u8, place: u8| match mixed / 3u8.pow(u32::from(place)) % 3 {
            0 => format!("{part}"),
            1 => format!("0{part:o}"),
            _ => format!("0x{part:x}"),
        };
        let six = |segments: [u16; 8]| format!("[{}]", Ipv6Addr::from(segments));
        let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let spellings = [
            address.to_string(),
            format!("{address}."),
            number.to_string(),
            format!("{number:#x}"),
            format!("0{number:o}"),
            format!("{a}.{}", number & 0x00ff_ffff),
            format!("{a}.{b}.{low}"),
            format!("{}.{}.{}.{}", digit(a, 0), digit(b, 1), digit(c, 2), digit(d, 3)),
            format!("[{}]", address.to_ipv6_mapped()),
            format!("[::ffff:{address}]"),
            six([0, 0, 0, 0, 0, 0, high, low]),
            six([0x64, 0xff9b, 0, 0, 0, 0, high, low]),
            six([0x64, 0xff9b, 1, 0, 0, 0, high, low]),
            six([0x2002, high, low, 0, 0, 0, 0, 1]),
            six([0x2001, 0, high, low, 0, 0, !high, !low]),
        ];
        for host in spellings {
            let refused = code(&strict(), &format!("https://{host}/"));
            prop_assert_eq!(refused, Some("blocked_destination"), "{}", host);
        }
    }

    #[test]
    fn no_text_upsets_the_guard(text in ".{0,80}") {
        let _judged = strict().admit(&text);
        let _judged = strict().admit(&format!("https://{text}/"));
    }
}
