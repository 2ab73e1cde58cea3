//! What is left in Redis: nothing of what is over, and the rest though a part is lost.

use std::collections::BTreeSet;
use std::time::Duration;

use rstest::rstest;
use spillway::domain::job::{CachedPrefix, Job, Share};
use spillway::queue::{Ended, Queue, QueueError, Settled, Verdict};

use super::{LONG, SHORT, delivery, ending, ending_of, job, line, open};
use crate::support::eventually;
use crate::support::redis::RedisServer;

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
