//! What only the Redis queue has to bear: Redis set up badly, full, emptied, paused and killed.

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rstest::rstest;
use serde_json::value::RawValue;
use spillway::clock::{Clock, SystemClock};
use spillway::domain::id::IdSource;
use spillway::domain::job::{CachedPrefix, Flow, Job, Lane, Line, Share, Stage};
use spillway::domain::result::{DeliveryAttempt, JobResult, Status};
use spillway::keyspace::{Keyspace, KeyspaceError, Timeouts};
use spillway::lifecycle::Lifecycle;
use spillway::queue::redis::RedisQueue;
use spillway::queue::settings::Settings;
use spillway::queue::{
    Batch, Delivery, Durability, Ended, Ending, EventDelivery, Lease, Pushed, Queue, QueueError,
    Settled, Verdict,
};

use crate::support::eventually;
use crate::support::redis::{RedisServer, unique_prefix};
use crate::support::spillway::signal;

const LONG: Duration = Duration::from_secs(600);

const SHORT: Duration = Duration::from_millis(50);

static IDS: LazyLock<IdSource> = LazyLock::new(IdSource::default);

/// Timeouts short enough to be waited for.
const BRIEF: Timeouts =
    Timeouts { connect: Duration::from_millis(500), response: Duration::from_secs(1) };

pub(crate) struct Store {
    pub(crate) queue: RedisQueue,
    keyspace: Keyspace,
    pub(crate) lifecycle: Lifecycle,
}

pub(crate) async fn open_with(
    keyspace: Keyspace,
    settings: &Settings,
) -> Result<Store, QueueError> {
    let lifecycle = Lifecycle::default();
    let queue = RedisQueue::open(keyspace.clone(), settings, &lifecycle).await?;
    Ok(Store { queue, keyspace, lifecycle })
}

async fn open(server: &RedisServer) -> Store {
    open_with(server.keyspace().await, &Settings::default()).await.unwrap()
}

pub(crate) async fn open_brief(server: &RedisServer, settings: &Settings) -> Store {
    let keyspace = Keyspace::open(&server.url(), &unique_prefix(), BRIEF).await.unwrap();
    open_with(keyspace, settings).await.unwrap()
}

/// Why a queue does not open.
async fn refusal(server: &RedisServer, settings: &Settings) -> String {
    match open_with(server.keyspace().await, settings).await {
        Ok(_) => panic!("it opened"),
        Err(QueueError::Broken(why)) => why,
        Err(other) => panic!("{other}"),
    }
}

pub(crate) fn asking(durability: Durability) -> Settings {
    Settings { durability: Some(durability), ..Settings::default() }
}

impl Store {
    pub(crate) async fn push(&self, job: &Job) -> Result<Pushed, QueueError> {
        let jobs = vec![job.clone()];
        self.queue.push(Batch { jobs, group: None, dedup: None }).await
    }

    /// Stores a job; what it survives.
    pub(crate) async fn add(&self, job: &Job) -> Durability {
        match self.push(job).await.unwrap() {
            Pushed::Stored { durability, .. } => durability,
            other => panic!("{other:?}"),
        }
    }

    async fn take(&self, line: &Line, max: usize) -> Vec<Lease> {
        self.queue.lease(line, max, LONG).await.unwrap()
    }

    pub(crate) async fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let (name, rest) = words.split_first().unwrap();
        let mut command = redis::cmd(name);
        for word in rest {
            command.arg(*word);
        }
        self.keyspace.ask(&command).await.unwrap()
    }

    async fn used_memory(&self) -> u64 {
        let text: String = self.command(&["INFO", "memory"]).await;
        let figure = text.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
        figure.trim().parse().unwrap()
    }

    /// The names of all keys without the cell.
    async fn keys(&self) -> BTreeSet<String> {
        let pattern = format!("{}*", self.keyspace.prefix());
        let keys: Vec<String> = self.command(&["KEYS", &pattern]).await;
        let names = keys.iter().map(|key| key.strip_prefix(self.keyspace.prefix()).unwrap());
        // When it was swept last is known from the first sweep on.
        names.filter(|name| *name != "swept").map(str::to_owned).collect()
    }

    /// Runs everything in line and posts every result, to be forgotten at once.
    async fn work_off(&self) {
        for lease in self.take(&line(), 1_000).await {
            let ending = ending(&lease, Some(delivery()));
            self.queue.settle(&lease.token, Verdict::Finish(ending)).await.unwrap();
        }
        // A job has a callback and an event.
        for _ in 0..2 {
            for lease in self.take(&Line::Deliver, 1_000).await {
                let verdict = Verdict::Delivered { log: attempt() };
                assert_eq!(self.queue.settle(&lease.token, verdict).await.unwrap(), Settled::Done);
            }
        }
    }
}

fn line() -> Line {
    Line::Run { lane: Lane::Standard, route: "cheap".to_owned() }
}

pub(crate) fn job(input: &str, workflow: &str) -> Job {
    let now = SystemClock.now();
    Job {
        id: IDS.job(now),
        caller: "alice".to_owned(),
        task: "tag".to_owned(),
        input: RawValue::from_string(format!("{input:?}")).unwrap(),
        route: "cheap".to_owned(),
        lane: Lane::Standard,
        created_at: now,
        workflow: Some(workflow.to_owned()),
        session: None,
        callback: None,
        deliver_by: Some(now + chrono::Duration::hours(1)),
        max_cost_usd: None,
        provider: None,
        metadata: None,
        group: None,
        traceparent: None,
        share: None,
        prefix: None,
    }
}

fn delivery() -> Delivery {
    Delivery { flow: Flow::of(&["example.com:443"]), after: Duration::ZERO }
}

/// The end of a leased job, kept for a millisecond.
fn ending(lease: &Lease, delivery: Option<Delivery>) -> Ending {
    let spillway::queue::Item::Job(job, _) = &lease.item else { panic!("{lease:?}") };
    ending_of(job, delivery)
}
/// The same with an event for somebody, due at once.
fn ending_of(job: &Job, delivery: Option<Delivery>) -> Ending {
    static IDS: LazyLock<IdSource> = LazyLock::new(IdSource::default);
    let now = SystemClock.now();
    let event = EventDelivery {
        id: IDS.event(now),
        subscription: IDS.subscription(now),
        delivery: Delivery { flow: Flow::of(&["one who asked"]), after: Duration::ZERO },
    };
    let status = Status::Succeeded;
    let result = JobResult::open(job, status).ended(status, SystemClock.now(), None);
    let result = Bytes::from(serde_json::to_vec(&result).unwrap());
    Ending {
        result,
        status,
        delivery,
        events: vec![event],
        group: None,
        keep: Duration::from_millis(1),
    }
}

fn attempt() -> DeliveryAttempt {
    DeliveryAttempt {
        at: SystemClock.now(),
        status: Some(200),
        ms: 5,
        error: None,
        response: None,
        event: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_evicts_is_refused_unless_the_operator_allows_it() {
    let server = RedisServer::start(&["--maxmemory-policy", "allkeys-lru"]);
    let why = refusal(&server, &Settings::default()).await;
    assert!(why.contains("allkeys-lru") && why.contains("noeviction"), "{why}");
    let allowing = Settings { allow_eviction: true, ..Settings::default() };
    let store = open_with(server.keyspace().await, &allowing).await.unwrap();
    store.add(&job("a", "w")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_keeps_its_settings_to_itself_is_taken_at_its_info() {
    let hidden = ["--rename-command", "CONFIG", ""];
    let server = RedisServer::start(&hidden);
    assert_eq!(open(&server).await.queue.durability(), Durability::Appended);
    let server =
        RedisServer::start(&[&hidden[..], &["--maxmemory-policy", "volatile-ttl"]].concat());
    assert!(refusal(&server, &Settings::default()).await.contains("volatile-ttl"));
}

#[rstest]
#[case(&["--appendonly", "no"], Durability::Volatile)]
#[case(&["--appendfsync", "everysec"], Durability::Appended)]
#[case(&["--appendfsync", "always"], Durability::Fsynced)]
#[tokio::test(flavor = "multi_thread")]
async fn the_level_is_what_redis_does(#[case] options: &[&str], #[case] expected: Durability) {
    let server = RedisServer::start(options);
    let store = open(&server).await;
    assert_eq!(store.queue.durability(), expected);
    assert_eq!(store.add(&job("a", "w")).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_level_that_redis_can_never_reach_is_refused() {
    let server = RedisServer::start(&["--appendonly", "no"]);
    for level in [Durability::Appended, Durability::Fsynced] {
        let why = refusal(&server, &asking(level)).await;
        assert!(why.contains(level.as_str()) && why.contains("appendonly yes"), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_syncs_each_second_is_waited_for_or_refused() {
    let keyspace = RedisServer::shared().keyspace().await;
    match open_with(keyspace, &asking(Durability::Fsynced)).await {
        // Redis 7.2 or newer.
        Ok(store) => {
            let jobs: Vec<Job> = (0..100).map(|_| job("a", "w")).collect();
            let levels = futures::future::join_all(jobs.iter().map(|job| store.add(job))).await;
            assert_eq!(levels, [Durability::Fsynced; 100]);
            assert_eq!(store.queue.durability(), Durability::Fsynced);
        }
        Err(refused) => assert!(refused.to_string().contains("appendfsync always"), "{refused}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_flushall_the_service_goes_on() {
    let server = RedisServer::start(&[]);
    let store = open(&server).await;
    let jobs: Vec<Job> = (0..4).map(|_| job("a", "w")).collect();
    for job in &jobs {
        store.add(job).await;
    }
    let leases = store.take(&line(), 2).await;
    let back = Verdict::Back { after: LONG, progress: None };
    store.queue.settle(&leases[0].token, back).await.unwrap();
    let () = store.command(&["FLUSHALL"]).await;

    let finish = Verdict::Finish(ending(&leases[1], Some(delivery())));
    assert_eq!(store.queue.settle(&leases[1].token, finish).await.unwrap(), Settled::Stale);
    let held = leases[1].token.clone();
    assert_eq!(store.queue.renew(std::slice::from_ref(&held), LONG).await.unwrap(), [held]);
    let end = store.queue.end(&jobs[3].id, ending_of(&jobs[3], None)).await.unwrap();
    assert_eq!(end, Ended::Unknown);
    assert_eq!(store.queue.sweep(100).await.unwrap(), spillway::queue::Swept::default());
    assert!(store.take(&line(), 10).await.is_empty());
    assert_eq!(store.keys().await, BTreeSet::new(), "nothing is left behind");

    store.add(&job("a", "w")).await;
    store.work_off().await;
    assert_eq!(store.queue.depths().await.unwrap().open, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_workflows_at_their_cap_nothing_is_left_when_all_is_over_or_gone() {
    let server = RedisServer::start(&[]);
    let store = open(&server).await;
    let share = Some(Share { max_running: Some(1), max_queued: Some(4), weight: 2.0 });
    for (flushed, count) in [(true, 0), (false, 8)] {
        for n in 0..8 {
            store.add(&Job { share, ..job("a", &format!("workflow {}", n % 2)) }).await;
        }
        let held = store.take(&line(), 10).await;
        assert_eq!(held.len(), 2);
        if flushed {
            let () = store.command(&["FLUSHALL"]).await;
        }
        for lease in held {
            store.queue.settle(&lease.token, Verdict::Finish(ending(&lease, None))).await.unwrap();
        }
        for _ in 0..3 {
            store.work_off().await;
        }
        let mut purged = 0;
        while purged < count {
            purged += store.queue.sweep(100).await.unwrap().purged;
        }
        let left: &[&str] = if flushed { &[] } else { &["n"] };
        assert_eq!(store.keys().await, left.iter().map(|&name| name.to_owned()).collect());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_what_begins_alike_nothing_is_left_however_it_left_its_line() {
    let server = RedisServer::start(&[]);
    let store = open(&server).await;
    let alike = |warm| Some(CachedPrefix::of(&["x"], warm));
    let jobs: Vec<Job> = (0..6).map(|_| Job { prefix: alike(SHORT), ..job("a", "w") }).collect();
    let beside = async || {
        let keys = store.keys().await;
        let (of, kept): (Vec<_>, Vec<_>) = keys
            .into_iter()
            .filter(|key| key.starts_with("b:") || key.starts_with("c:"))
            .partition(|key| key.starts_with("b:"));
        let count = match of.first() {
            Some(key) => store.command(&["ZCARD", &store.keyspace.key(key)]).await,
            None => 0_u64,
        };
        (count, kept.len())
    };
    for job in &jobs {
        store.add(job).await;
    }
    assert_eq!(beside().await, (6, 0));
    // Never leased and ended; leased, lost from there and freed; put back for now and for later.
    store.queue.end(&jobs[5].id, ending_of(&jobs[5], None)).await.unwrap();
    assert_eq!(beside().await, (5, 0));
    let held = store.take(&line(), 4).await;
    assert_eq!((held.len(), beside().await.0), (4, 1));
    for (lease, after) in held.iter().zip([Duration::ZERO, LONG]) {
        store.queue.settle(&lease.token, Verdict::back(after)).await.unwrap();
    }
    assert_eq!(beside().await.0, 2);
    store.queue.renew(&[held[2].token.clone()], Duration::from_millis(1)).await.unwrap();
    eventually("it is freed", || async { store.queue.sweep(10).await.unwrap().freed == 1 }).await;
    assert_eq!(beside().await.0, 3);
    // A settle that comes late, and what Redis lost the text of.
    let late = Verdict::Finish(ending(&held[2], None));
    assert_eq!(store.queue.settle(&held[2].token, late).await.unwrap(), Settled::Done);
    let text = store.keyspace.key(&format!("j:{}", held[0].token.id));
    let () = store.command(&["DEL", &text]).await;
    assert_eq!(beside().await.0, 2);
    assert_eq!(store.take(&line(), 10).await.len(), 1);
    for job in &jobs[1..5] {
        store.queue.end(&job.id, ending_of(job, None)).await.unwrap();
    }
    eventually("nothing is warm any more", || async { beside().await == (0, 0) }).await;
    let plain = job("a", "w");
    store.add(&plain).await;
    store.take(&line(), 1).await;
    assert_eq!(beside().await, (0, 0), "an ordinary job has none of that");
    let shares: u64 = store.command(&["HLEN", &store.keyspace.key("shares")]).await;
    assert_eq!(shares, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_redis_lost_a_part_of_does_not_stop_the_rest() {
    let store = open(RedisServer::shared()).await;
    let jobs: Vec<Job> = (0..3).map(|_| job("a", "w")).collect();
    for job in &jobs {
        store.add(job).await;
    }
    let lost = store.keyspace.key(&format!("j:{}", jobs[0].id));
    let () = store.command(&["DEL", &lost]).await;
    let damaged = store.keyspace.key(&format!("j:{}", jobs[1].id));
    let () = store.command(&["SET", &damaged, "{"]).await;
    let leases = store.take(&line(), 3).await;
    assert_eq!(leases.len(), 1);
    assert_eq!(leases[0].token.id, jobs[2].id.to_string());
    let depths = store.queue.depths().await.unwrap();
    assert_eq!((depths.open, depths.leased), (2, 2), "the damaged one is told as lost in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_come_back_after_a_script_flush() {
    let server = RedisServer::start(&[]);
    let store = open(&server).await;
    let () = store.command(&["SCRIPT", "FLUSH"]).await;
    let jobs: Vec<Job> = (0..20).map(|_| job("a", "w")).collect();
    futures::future::join_all(jobs.iter().map(|job| store.add(job))).await;
    let () = store.command(&["SCRIPT", "FLUSH"]).await;
    store.work_off().await;
    assert_eq!(store.queue.depths().await.unwrap().open, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_redis_refuses_new_jobs_and_works_off_what_it_has() {
    let server = RedisServer::start(&[]);
    let store = open(&server).await;
    let input = "x".repeat(10_000);
    for _ in 0..50 {
        store.add(&job(&input, "w")).await;
    }
    let first = store.take(&line(), 1).await.remove(0);
    let () = store.command(&["CONFIG", "SET", "maxmemory", "1mb"]).await;
    assert!(store.used_memory().await > 1 << 20);
    assert!(store.queue.depths().await.unwrap().memory.unwrap() > 1.0);
    let refused = job("a", "w");
    assert!(matches!(store.push(&refused).await, Err(QueueError::Full)));
    assert!(store.queue.find(&refused.id).await.unwrap().is_none(), "nothing of it was stored");

    assert!(store.queue.renew(std::slice::from_ref(&first.token), LONG).await.unwrap().is_empty());
    let back = Verdict::Back { after: Duration::ZERO, progress: None };
    store.queue.settle(&first.token, back).await.unwrap();
    let second = store.take(&line(), 1).await.remove(0);
    let spillway::queue::Item::Job(second, _) = second.item else { panic!("a job") };
    let end = store.queue.end(&second.id, ending_of(&second, None)).await.unwrap();
    assert_eq!(end, Ended::Now);
    store.work_off().await;
    let mut purged = 0;
    while purged < 50 {
        purged += store.queue.sweep(100).await.unwrap().purged;
    }
    let () = store.command(&["CONFIG", "SET", "maxmemory", "100mb"]).await;
    store.add(&refused).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_given_back_once_all_is_over() {
    // The log of slow commands keeps their arguments.
    let server = RedisServer::start(&["--slowlog-max-len", "0"]);
    let store = open(&server).await;
    let round = async |count: usize| {
        for n in 0..count {
            store.add(&job(&"x".repeat(1_000), &format!("workflow {}", n % 100))).await;
        }
        let full = store.used_memory().await;
        store.work_off().await;
        let mut purged = 0;
        while purged < count {
            purged += store.queue.sweep(100).await.unwrap().purged;
        }
        full
    };
    round(200).await;
    assert_eq!(store.keys().await, BTreeSet::from(["n".to_owned()]));
    let before = store.used_memory().await;
    let full = round(1_000).await;
    assert!(full > before + 1_000_000, "{full} after {before}");
    assert_eq!(store.keys().await, BTreeSet::from(["n".to_owned()]));
    // Freeing goes on in the background for a moment.
    eventually("memory is back where it was", || async {
        store.used_memory().await < before + 200_000
    })
    .await;
}

#[rstest]
#[case::plain(false, 600)]
#[case::with_a_deadline(true, 850)]
#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_job_costs_little_more_than_its_text(#[case] deadline: bool, #[case] most: u64) {
    const COUNT: u64 = 1_000;
    let store = open(RedisServer::shared()).await;
    // Short ones: Redis' allocator rounds a long text up by as much as a quarter.
    let made = (0..COUNT).map(|_| job("a", "w"));
    let jobs: Vec<Job> =
        made.map(|job| Job { deliver_by: job.deliver_by.filter(|_| deadline), ..job }).collect();
    futures::future::join_all(jobs.iter().map(|job| store.add(job))).await;
    let text: usize = jobs.iter().map(|job| serde_json::to_vec(job).unwrap().len()).sum();
    let mut all = 0;
    for name in store.keys().await {
        let key = store.keyspace.key(&name);
        all += store.command::<u64>(&["MEMORY", "USAGE", &key, "SAMPLES", "0"]).await;
    }
    let beyond = (all - u64::try_from(text).unwrap()) / COUNT;
    assert!((300..most).contains(&beyond), "{beyond} bytes beyond its text");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_redis_is_not_waited_for_and_taken_back_at_once() {
    let server = RedisServer::start(&[]);
    let store = open_brief(&server, &Settings::default()).await;
    store.add(&job("a", "w")).await;
    signal(server.pid(), "STOP");
    let began = Instant::now();
    let jobs: Vec<Job> = (0..8).map(|_| job("a", "w")).collect();
    for answer in futures::future::join_all(jobs.iter().map(|job| store.push(job))).await {
        assert!(matches!(answer, Err(QueueError::Unavailable(_))), "{answer:?}");
    }
    assert!(matches!(store.queue.ping().await, Err(QueueError::Unavailable(_))));
    let took = began.elapsed();
    assert!(took < 4 * (BRIEF.connect + BRIEF.response), "two calls took {took:?}");
    signal(server.pid(), "CONT");
    eventually("it is taken back", || async { store.queue.ping().await.is_ok() }).await;
    // What was asked meanwhile may have happened: asking again does no harm.
    for job in &jobs {
        eventually("the job is stored", || async { store.push(job).await.is_ok() }).await;
    }
    assert_eq!(store.queue.depths().await.unwrap().open, 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_redis_is_taken_back_with_what_it_has_on_disk() {
    let mut server = RedisServer::start(&["--appendfsync", "always"]);
    let store = open_brief(&server, &Settings::default()).await;
    let kept = job("a", "w");
    store.add(&kept).await;
    let mut hints = store.queue.hints(&kept.line());
    server.kill();
    let began = Instant::now();
    for answer in futures::future::join_all((0..32).map(|_| store.queue.ping())).await {
        assert!(matches!(answer, Err(QueueError::Unavailable(_))), "{answer:?}");
    }
    assert!(began.elapsed() < 2 * (BRIEF.connect + BRIEF.response));
    hints.mark_unchanged();
    server.restart();
    // On every connection at once, whatever it met while Redis was gone.
    for answer in futures::future::join_all((0..32).map(|_| store.queue.ping())).await {
        answer.unwrap();
    }
    let found = store.queue.find(&kept.id).await.unwrap().unwrap();
    assert_eq!(found.stage, Stage::Queued);
    let listened = tokio::time::timeout(Duration::from_secs(60), hints.changed()).await;
    assert!(listened.is_ok(), "it listens again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_down_is_told_at_once() {
    let mut server = RedisServer::start(&[]);
    server.kill();
    let began = Instant::now();
    let refused = Keyspace::open(&server.url(), "sw", BRIEF).await;
    let Err(KeyspaceError::Unreachable(why)) = refused.map(|_| ()) else { panic!("it opened") };
    assert!(why.contains("refused"), "{why}");
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_fills_at_one_replica_is_hinted_at_the_others() {
    let one = open(RedisServer::shared()).await;
    let two = open_with(one.keyspace.clone(), &Settings::default()).await.unwrap();
    let mut hints = two.queue.hints(&job("a", "w").line());
    let deadline = Instant::now() + Duration::from_secs(60);
    // The first hint may be that the subscription has begun.
    for _ in 0..2 {
        hints.mark_unchanged();
        while !hints.has_changed().unwrap() {
            assert!(Instant::now() < deadline, "no hint came");
            one.add(&job("a", "w")).await;
            one.work_off().await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
