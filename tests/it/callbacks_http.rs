//! Callbacks against receivers that behave, misbehave and attack.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::DateTime;
use reqwest::header::HeaderMap;
use rstest::rstest;
use spillway::callback::http::{Poster, Reply, Verdict, envelope};
use spillway::callback::settings::Settings;
use spillway::callback::sign::Secret;
use spillway::clock::{Clock, ManualClock, SharedClock, SystemClock};
use spillway::domain::job::{Callback, CallbackBody};
use spillway::domain::units::Span;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OLD_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// A request as it came over the wire.
#[derive(Clone, Debug)]
struct Seen {
    line: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

/// A receiver that writes its answers itself, byte by byte if need be.
struct Receiver {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    touched: Arc<AtomicBool>,
    stopped: Arc<AtomicBool>,
}

impl Receiver {
    /// Reads each request whole and answers it.
    fn start(answer: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&seen);
        let talk = move |mut stream: TcpStream| {
            if let Some(request) = read_request(&mut stream) {
                kept.lock().unwrap().push(request);
                answer(&mut stream);
            }
        };
        let mut receiver = Self::raw(talk);
        receiver.seen = seen;
        receiver
    }

    /// Answers with this text.
    fn saying(answer: impl Into<String>) -> Self {
        let answer = answer.into();
        Self::start(move |stream| {
            let _sent = stream.write_all(answer.as_bytes());
        })
    }

    /// Answers with this status, these header lines and this body.
    fn answering(status: u16, headers: &str, body: &str) -> Self {
        let length = body.len();
        Self::saying(format!(
            "HTTP/1.1 {status} Whatever\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
        ))
    }

    /// Does with each connection what `talk` does.
    fn raw(talk: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stopped, touched) =
            (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (stop, touch, talk) = (Arc::clone(&stopped), Arc::clone(&touched), Arc::new(talk));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                touch.store(true, Ordering::SeqCst);
                let talk = Arc::clone(&talk);
                std::thread::spawn(move || talk(stream));
            }
        });
        Self { address, seen: Arc::default(), touched, stopped }
    }

    fn url(&self, rest: &str) -> String {
        format!("http://{}{rest}", self.address)
    }

    fn only(&self) -> Seen {
        let seen = self.seen.lock().unwrap();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen[0].clone()
    }

    fn was_touched(&self) -> bool {
        self.touched.load(Ordering::SeqCst)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the listener, so that it sees that it is to stop.
        let _woken = TcpStream::connect(self.address);
    }
}

fn read_request(stream: &mut TcpStream) -> Option<Seen> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let line = lines.next().unwrap().to_owned();
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        headers
            .append(name.parse::<reqwest::header::HeaderName>().unwrap(), value.parse().unwrap());
    }
    let length = headers["content-length"].to_str().unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(Seen { line, headers, body })
}

fn callback(url: impl Into<String>) -> Callback {
    Callback {
        url: url.into(),
        headers: BTreeMap::new(),
        body: CallbackBody::Envelope,
        min_delay: None,
        success_statuses: Vec::new(),
    }
}

fn poster_with(allowed: &[&str], timeout: Duration, clock: SharedClock) -> Poster {
    let settings = Settings {
        allow_networks: allowed.iter().map(|net| net.parse().unwrap()).collect(),
        timeout: Span(timeout),
        ..Settings::default()
    };
    let signing = [SECRET, OLD_SECRET].map(|text| Secret::parse(text).unwrap()).into();
    Poster::new(&settings, signing, clock).unwrap()
}

/// A poster that may reach the receivers of these tests.
fn poster() -> Poster {
    poster_with(&["127.0.0.0/8"], Duration::from_secs(20), Arc::new(SystemClock))
}

/// The same in a hurry.
fn hasty() -> Poster {
    poster_with(&["127.0.0.0/8"], Duration::from_millis(600), Arc::new(SystemClock))
}

async fn post(poster: &Poster, url: impl Into<String>) -> Reply {
    poster.post(&callback(url), "job_0_1", 1, Bytes::from_static(b"{}")).await
}

#[tokio::test]
async fn a_callback_arrives_signed_by_every_secret() {
    let receiver = Receiver::answering(200, "", "{\"message\":\"Workflow was started\"}");
    let now = SystemClock.now();
    let body = envelope("job.succeeded", now, "{\"text\":\"héllo\"}".as_bytes());
    let reply = poster().post(&callback(receiver.url("/hook")), "job_0_7", 3, body.clone()).await;
    assert_eq!((reply.verdict, reply.log.status), (Verdict::Taken, Some(200)));
    assert_eq!(reply.log.error, None);
    assert_eq!(reply.log.response.as_deref(), Some("{\"message\":\"Workflow was started\"}"));

    let seen = receiver.only();
    assert_eq!(seen.line, "POST /hook HTTP/1.1");
    assert_eq!(seen.body, body);
    for secret in [SECRET, OLD_SECRET] {
        let judge = standardwebhooks::Webhook::new(secret).unwrap();
        judge.verify(&seen.body, &seen.headers).unwrap();
    }
    assert_eq!(seen.headers["webhook-id"], "job_0_7");
    assert_eq!(seen.headers["spillway-attempt"], "3");
    assert_eq!(seen.headers["content-type"], "application/json");
    assert_eq!(seen.headers["accept-encoding"], "identity");
    assert_eq!(seen.headers["user-agent"], concat!("spillway/", env!("CARGO_PKG_VERSION")));
    assert_eq!(seen.headers["host"], receiver.address.to_string().as_str());
}

#[tokio::test]
async fn the_timestamp_is_that_of_the_attempt() {
    let receiver = Receiver::answering(204, "", "");
    let clock = Arc::new(ManualClock::at(DateTime::from_timestamp(1_760_000_000, 0).unwrap()));
    let poster = poster_with(&["127.0.0.1/32"], Duration::from_secs(20), clock.clone());
    post(&poster, receiver.url("/")).await;
    clock.advance(Duration::from_secs(90));
    let reply = post(&poster, receiver.url("/")).await;
    assert_eq!(reply.log.at, clock.now());
    let seen = receiver.seen.lock().unwrap().clone();
    let told = seen.iter().map(|one| one.headers["webhook-timestamp"].to_str().unwrap().to_owned());
    assert_eq!(told.collect::<Vec<_>>(), ["1760000000", "1760000090"]);
    assert_ne!(seen[0].headers["webhook-signature"], seen[1].headers["webhook-signature"]);
}

#[tokio::test]
async fn a_callers_headers_are_sent_along_and_never_in_the_place_of_ours() {
    let receiver = Receiver::answering(200, "", "");
    let mut callback = callback(receiver.url("/"));
    let pairs =
        [("Authorization", "Bearer abc"), ("X-Key", "1"), ("Host", "x"), ("Webhook-Id", "x")];
    callback.headers = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    poster().post(&callback, "job_0_1", 1, Bytes::from_static(b"{}")).await;
    let seen = receiver.only();
    assert_eq!(seen.headers["authorization"], "Bearer abc");
    assert_eq!(seen.headers["x-key"], "1");
    assert_eq!(seen.headers["webhook-id"], "job_0_1");
    assert_eq!(seen.headers.get_all("host").iter().count(), 1);
    assert_ne!(seen.headers["host"], "x");
}

#[rstest]
#[case::n8n("/webhook-waiting/1?signature=0123456789abcdef")]
#[case::azure("/t?api=2016-10-01&sp=%2Ftriggers%2Fmanual%2Frun&sv=1.0&sig=a-b_c%2Bd%3D")]
#[case::bare("/?")]
#[case::repeated("/?a=1&a=2&&=&b")]
#[case::lower_case_escapes("/?x=%2f%2F%zz%")]
#[case::plus_and_percent("/?x=a+b%20c")]
#[case::marks("/?x=!$()*,;:@/?-._~[]{}|^`\\")]
#[case::dots_in_query("/a?next=/../../b/./c")]
#[tokio::test]
async fn the_query_is_kept_byte_for_byte(#[case] target: &str) {
    let receiver = Receiver::answering(200, "", "");
    assert_eq!(post(&poster(), receiver.url(target)).await.verdict, Verdict::Taken);
    assert_eq!(receiver.only().line, format!("POST {target} HTTP/1.1"));
}

#[tokio::test]
async fn what_no_url_may_contain_is_escaped_as_browsers_do() {
    let receiver = Receiver::answering(200, "", "");
    post(&poster(), receiver.url("/?x=a b\"c<d>é'f")).await;
    assert_eq!(receiver.only().line, "POST /?x=a%20b%22c%3Cd%3E%C3%A9%27f HTTP/1.1");
}

#[rstest]
#[case(301)]
#[case(302)]
#[case(303)]
#[case(307)]
#[case(308)]
#[tokio::test]
async fn a_redirect_is_not_followed(#[case] status: u16) {
    let target = Receiver::answering(200, "", "");
    let location = format!("location: {}\r\n", target.url("/"));
    let receiver = Receiver::answering(status, &location, "");
    let reply = post(&poster(), receiver.url("/")).await;
    assert_eq!((reply.verdict, reply.log.status), (Verdict::Again, Some(status)));
    assert!(reply.log.error.unwrap().contains("redirect"));
    assert!(!target.was_touched());
}

#[rstest]
#[case::finished(409, "", "The execution \"7\" has finished already.", Verdict::Taken)]
#[case::running(409, "", "The execution \"7\" is running already.", Verdict::Again)]
#[case::gone(410, "", "", Verdict::Gone)]
#[case::abort(500, "webhook-delivery: abort-message\r\n", "", Verdict::Gone)]
#[case::starting(404, "", "<!DOCTYPE html>", Verdict::Again)]
#[case::too_early(425, "", "", Verdict::Again)]
#[case::busy(429, "", "", Verdict::Again)]
#[case::unknown(401, "", "{\"error\":\"Invalid token\"}", Verdict::Again)]
#[case::made_up(799, "", "", Verdict::Again)]
#[case::accepted(202, "", "", Verdict::Taken)]
#[tokio::test]
async fn answers_mean_what_the_platforms_mean(
    #[case] status: u16,
    #[case] headers: &str,
    #[case] body: &str,
    #[case] verdict: Verdict,
) {
    let receiver = Receiver::answering(status, headers, body);
    let reply = post(&poster(), receiver.url("/")).await;
    assert_eq!((reply.verdict, reply.log.status), (verdict, Some(status)));
    assert_eq!(reply.log.response.unwrap_or_default(), body);
}

#[tokio::test]
async fn a_caller_says_which_statuses_count_as_taken() {
    let receiver = Receiver::answering(404, "", "");
    let mut callback = callback(receiver.url("/"));
    callback.success_statuses = vec![404];
    let reply = poster().post(&callback, "job_0_1", 1, Bytes::from_static(b"{}")).await;
    assert_eq!(reply.verdict, Verdict::Taken);
}

#[rstest]
#[case::seconds(429, "120", Some(120))]
#[case::date(503, "Thu, 09 Oct 2025 08:54:20 GMT", Some(60))]
#[case::past(503, "Thu, 09 Oct 2025 08:00:00 GMT", Some(0))]
#[case::far(503, "9999999", Some(86_400))]
#[case::nonsense(503, "later", None)]
#[case::taken(200, "120", None)]
#[tokio::test]
async fn retry_after_is_told(
    #[case] status: u16,
    #[case] text: &str,
    #[case] seconds: Option<u64>,
) {
    let receiver = Receiver::answering(status, &format!("retry-after: {text}\r\n"), "");
    let clock = Arc::new(ManualClock::at(DateTime::from_timestamp(1_760_000_000, 0).unwrap()));
    let poster = poster_with(&["127.0.0.0/8"], Duration::from_secs(20), clock);
    let reply = post(&poster, receiver.url("/")).await;
    assert_eq!(reply.retry_after, seconds.map(Duration::from_secs));
}

/// Writes the same bytes for ever, until the other side has had enough.
fn flood(stream: &mut TcpStream, bytes: &[u8], pause: Duration) {
    while stream.write_all(bytes).is_ok() {
        std::thread::sleep(pause);
    }
}

#[tokio::test]
async fn an_endless_body_is_read_no_further_than_needed() {
    let receiver = Receiver::start(|stream| {
        stream.write_all(b"HTTP/1.1 500 No\r\n\r\n").unwrap();
        flood(stream, &vec![b'x'; 65_536], Duration::ZERO);
    });
    let begun = Instant::now();
    let reply = post(&poster(), receiver.url("/")).await;
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert_eq!((reply.verdict, reply.log.status), (Verdict::Again, Some(500)));
    assert_eq!(reply.log.response.unwrap().len(), 2_048);
}

#[rstest]
#[case(200, Verdict::Taken)]
#[case(500, Verdict::Again)]
#[tokio::test]
async fn a_trickling_body_ends_with_the_deadline(#[case] status: u16, #[case] verdict: Verdict) {
    let receiver = Receiver::start(move |stream| {
        write!(stream, "HTTP/1.1 {status} Slow\r\ncontent-length: 1000\r\n\r\n").unwrap();
        flood(stream, b"x", Duration::from_millis(50));
    });
    let begun = Instant::now();
    let reply = post(&hasty(), receiver.url("/")).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!((reply.verdict, reply.log.status), (verdict, Some(status)));
    assert!(reply.log.ms >= 600, "{:?}", reply.log);
}

#[rstest]
#[case::silence("")]
#[case::half_a_head("HTTP/1.1 200 OK\r\ncontent-")]
#[tokio::test]
async fn a_receiver_that_never_answers_is_left_at_the_deadline(#[case] beginning: &'static str) {
    let receiver = Receiver::start(move |stream| {
        stream.write_all(beginning.as_bytes()).unwrap();
        // Until the other side hangs up.
        let _ended = stream.read(&mut [0]);
    });
    let begun = Instant::now();
    let reply = post(&hasty(), receiver.url("/?token=hidden-token")).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!((reply.verdict, reply.log.status), (Verdict::Again, None));
    assert_eq!(reply.log.error.as_deref(), Some("no answer within 600ms"));
}

#[tokio::test]
async fn endless_headers_are_given_up() {
    let receiver = Receiver::start(|stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n").unwrap();
        let line = format!("x-more: {}\r\n", "y".repeat(8_000));
        for _ in 0..1_300 {
            if stream.write_all(line.as_bytes()).is_err() {
                break;
            }
        }
        let _ended = stream.write_all(b"\r\n");
    });
    let begun = Instant::now();
    let reply = post(&poster(), receiver.url("/")).await;
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert_eq!((reply.verdict, reply.log.status), (Verdict::Again, None));
}

#[tokio::test]
async fn a_compressed_bomb_is_not_inflated() {
    // `inflated`, eight times: a client that unpacks shows the word.
    const PACKED: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xcb\xcc\x4b\xcb\x49\x2c\x49\x4d\xc9\x24\x93\x06\x00\x00\x29\x56\x0a\x40\x00\x00\x00";
    let receiver = Receiver::start(|stream| {
        let length = PACKED.len();
        write!(stream, "HTTP/1.1 500 No\r\nconnection: close\r\ncontent-encoding: gzip\r\n")
            .unwrap();
        write!(stream, "content-length: {length}\r\n\r\n").unwrap();
        stream.write_all(PACKED).unwrap();
    });
    let reply = post(&poster(), receiver.url("/")).await;
    assert_eq!((reply.verdict, reply.log.status), (Verdict::Again, Some(500)));
    assert_eq!(reply.log.response, None);
}

#[rstest]
#[case::garbage("this is not HTTP at all\r\n\r\n")]
#[case::nothing("")]
#[case::two_lengths("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx")]
#[tokio::test]
async fn a_garbled_answer_is_tried_again(#[case] answer: &str) {
    let receiver = Receiver::saying(answer);
    let reply = post(&poster(), receiver.url("/?token=hidden-token")).await;
    assert_eq!((reply.verdict, reply.log.status), (Verdict::Again, None));
    let error = reply.log.error.unwrap();
    assert!(error.starts_with("no usable answer") && !error.contains("hidden"), "{error}");
}

#[tokio::test]
async fn a_body_that_breaks_off_changes_nothing_about_the_status() {
    let receiver = Receiver::saying("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf");
    let reply = post(&poster(), receiver.url("/")).await;
    assert_eq!(reply.verdict, Verdict::Taken);
    assert_eq!(reply.log.response.as_deref(), Some("half"));
    assert_eq!(reply.log.error.as_deref(), Some("the answer broke off"));
}

#[tokio::test]
async fn garbage_for_a_tls_handshake_is_tried_again() {
    let receiver = Receiver::raw(|mut stream| {
        let _sent = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let _ended = stream.read_to_end(&mut Vec::new());
    });
    let url = format!("https://{}/?token=hidden-token", receiver.address);
    let reply = post(&poster(), url).await;
    assert_eq!((reply.verdict, reply.log.status), (Verdict::Again, None));
    let error = reply.log.error.unwrap();
    assert!(error.starts_with("no connection") && !error.contains("hidden"), "{error}");
    assert!(receiver.was_touched());
}

#[tokio::test]
async fn a_tls_handshake_that_never_ends_is_left_at_the_deadline() {
    let receiver = Receiver::raw(|mut stream| {
        let _ended = stream.read_to_end(&mut Vec::new());
    });
    let begun = Instant::now();
    let reply = post(&hasty(), format!("https://{}/", receiver.address)).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!((reply.verdict, reply.log.status), (Verdict::Again, None));
}

#[tokio::test]
async fn a_closed_port_is_tried_again_and_no_secret_is_told() {
    let port = crate::support::free_port();
    let reply = post(&poster(), format!("http://127.0.0.1:{port}/?token=hidden-token")).await;
    assert_eq!((reply.verdict, reply.log.status), (Verdict::Again, None));
    let error = reply.log.error.unwrap();
    assert!(error.contains("refused") && !error.contains("hidden"), "{error}");
}

#[rstest]
#[case::address("127.0.0.1")]
#[case::short("127.1")]
#[case::number("2130706433")]
#[case::mapped("[::ffff:127.0.0.1]")]
#[case::name("localhost")]
#[tokio::test]
async fn this_machine_is_out_of_reach_unless_allowed(#[case] host: &str) {
    let receiver = Receiver::answering(200, "", "secret of the inside");
    let url = format!("http://{host}:{}/?token=hidden-token", receiver.address.port());
    // The second allows something else, so that names go as far as the resolver.
    for allowed in [&[][..], &["10.9.8.0/24"]] {
        let poster = poster_with(allowed, Duration::from_secs(20), Arc::new(SystemClock));
        let reply = post(&poster, url.as_str()).await;
        assert_eq!((reply.verdict, reply.log.status), (Verdict::Again, None));
        assert_eq!(reply.log.error.as_deref(), Some("blocked_destination"));
        assert_eq!(reply.log.response, None);
    }
    assert!(!receiver.was_touched());

    let reply = post(&poster(), url).await;
    assert_eq!(reply.verdict, Verdict::Taken, "{:?}", reply.log);
}

#[tokio::test]
async fn a_url_that_cannot_be_posted_to_says_why() {
    let reply = post(&poster(), "ftp://example.com/?token=hidden-token").await;
    assert_eq!(reply.verdict, Verdict::Again);
    let error = reply.log.error.unwrap();
    assert!(error.contains("https://") && !error.contains("hidden"), "{error}");
}

#[test]
fn a_poster_without_a_secret_is_not_made() {
    let made = Poster::new(&Settings::default(), Vec::new(), Arc::new(SystemClock));
    assert!(made.is_err());
}
