//! Jobs of a flow whose prompts begin alike leave together, while what they begin with is cached.

use std::collections::BTreeMap;
use std::time::Duration;

use rstest::rstest;
use spillway::clock::{Clock, SystemClock};
use spillway::domain::job::{CachedPrefix, Job, Share};
use spillway::domain::result::Status;
use spillway::queue::{Batch, MOST_ALIKE, Replay, Verdict};

use super::store::{Kind, LONG, SHORT, Store, ending, held_job, ids, job_of, line};

const MOST: usize = MOST_ALIKE as usize;

/// A job of this workflow whose prompt begins with this, which stays cached for so long.
fn begins(workflow: &str, prefix: &str, warm: Duration) -> Job {
    Job { prefix: Some(CachedPrefix::of(&[prefix], warm)), ..job_of(workflow) }
}

/// Jobs of the workflow `a`: a letter is a prefix, a dot none.
fn jobs(prefixes: &str) -> Vec<Job> {
    let job = |prefix: char| match prefix {
        '.' => job_of("a"),
        letter => begins("a", &letter.to_string(), LONG),
    };
    prefixes.chars().map(job).collect()
}

async fn add_all(store: &Store, jobs: &[Job]) {
    store.push(Batch { jobs: jobs.to_vec(), group: None, dedup: None }).await.unwrap();
}

/// Stores such jobs and takes all. Which prefixes they had, in order.
async fn order(store: &Store, prefixes: &str, at_once: usize) -> String {
    let jobs = jobs(prefixes);
    add_all(store, &jobs).await;
    let mut order = Vec::new();
    while order.len() < jobs.len() {
        let leases = store.lease(&line(), at_once, LONG).await.unwrap();
        assert!(!leases.is_empty(), "some were forgotten after {}", order.len());
        order.extend(leases.into_iter().map(|lease| lease.token.id));
    }
    let letters: BTreeMap<String, char> = ids(&jobs).into_iter().zip(prefixes.chars()).collect();
    // Of the same prefix the oldest goes first.
    for letter in letters.values() {
        let of = |id: &&String| letters[*id] == *letter;
        assert!(order.iter().filter(of).is_sorted(), "{order:?}");
    }
    order.iter().map(|id| letters[id]).collect()
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn jobs_with_one_prefix_leave_together(#[case] kind: Kind, #[values(1, 5)] at_once: usize) {
    for (stored, expected) in [
        ("xyxyxy", "xxxyyy"),
        ("xyzxyz", "xxyyzz"),
        (".x.y.x.y", ".xx.yy.."),
        ("....", "...."),
        ("y.x.", "y.x."),
    ] {
        let store = kind.open().await;
        assert_eq!(order(&store, stored, at_once).await, expected, "{stored}");
    }
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn so_many_in_a_row_and_then_the_oldest(#[case] kind: Kind) {
    let (store, many) = (kind.open().await, "x".repeat(MOST * 3));
    let (row, rest) = ("x".repeat(MOST), "x".repeat(MOST * 2));
    assert_eq!(order(&store, &format!("xy{many}"), 3).await, format!("{row}y{rest}x"));
    // One without a prefix is the next, too, and does not end what is warm.
    let store = kind.open().await;
    assert_eq!(order(&store, &format!("x..{many}"), 3).await, format!("{row}.{row}.{row}x"));
    // Those of one prefix alone hold nobody up: they are the oldest.
    let store = kind.open().await;
    assert_eq!(order(&store, &format!("{many}y"), 3).await, format!("{many}y"));
    // Who comes last is not passed over again and again.
    let store = kind.open().await;
    assert_eq!(order(&store, &format!("{many}yx"), 1).await, format!("{many}yx"));
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn between_flows_nothing_changes(#[case] kind: Kind, #[values(1.0, 3.0)] weight: f64) {
    let store = kind.open().await;
    let share = Some(Share { weight, ..Share::default() });
    let mut all = Vec::new();
    for n in 0..120 {
        all.push(Job { share, ..begins("alike", "x", LONG) });
        all.push(begins("mixed", &format!("{}", n % 3), LONG));
        all.push(job_of("plain"));
    }
    add_all(&store, &all).await;
    let mut got: BTreeMap<String, f64> = BTreeMap::new();
    for _ in 0..120 {
        let lease = store.take(&line()).await;
        *got.entry(held_job(&lease).0.workflow.clone().unwrap()).or_default() += 1.0;
        let turns: f64 = got.values().sum();
        for (flow, weight) in [("alike", weight), ("mixed", 1.0), ("plain", 1.0)] {
            let due = turns * weight / (share.unwrap().weight + 2.0);
            let got = got.get(flow).copied().unwrap_or_default();
            assert!((got - due).abs() <= 2.0, "{flow}: {got} of {due} after {turns}");
        }
    }
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_cold_again_holds_nobody_up(#[case] kind: Kind) {
    let store = kind.open().await;
    let all = [
        begins("a", "x", SHORT),
        begins("a", "y", LONG),
        begins("a", "x", SHORT),
        begins("a", "y", LONG),
    ];
    add_all(&store, &all).await;
    let first = store.take(&line()).await;
    assert_eq!(first.token.id, all[0].id.to_string());
    tokio::time::sleep(SHORT * 2).await;
    let rest = store.take_all(&line()).await;
    assert_eq!(rest, ids([&all[1], &all[3], &all[2]]));
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn who_is_put_back_has_its_place_and_lets_the_oldest_go(#[case] kind: Kind) {
    let store = kind.open().await;
    let all = jobs("xyxxyx");
    let [x1, y1, x2, x3, y2, x4] = &all[..] else { panic!("six jobs") };
    add_all(&store, &all).await;
    assert_eq!(store.take(&line()).await.token.id, x1.id.to_string());
    let lease = store.take(&line()).await;
    assert_eq!(lease.token.id, x2.id.to_string());
    store.settle(&lease.token, Verdict::back(Duration::ZERO)).await.unwrap();
    assert_eq!(store.take_all(&line()).await, ids([y1, y2, x2, x3, x4]));

    // After a pause and after its holder vanished it is where it was, too.
    let store = kind.open().await;
    add_all(&store, &all).await;
    let first = store.take(&line()).await;
    let second = store.take(&line()).await;
    store.settle(&first.token, Verdict::back(Duration::from_millis(1))).await.unwrap();
    crate::support::eventually("it comes due", || async {
        store.sweep(10).await.unwrap().due == 1
    })
    .await;
    store.lose(&second.token).await;
    assert_eq!(store.take_all(&line()).await, ids([x1, y1, y2, x2, x3, x4]));
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn who_is_gone_is_not_waited_for(#[case] kind: Kind) {
    let store = kind.open().await;
    let all = jobs("xyxxy");
    let [x1, y1, x2, x3, y2] = &all[..] else { panic!("five jobs") };
    add_all(&store, &all).await;
    store.take(&line()).await;
    store.end(&x2.id, ending(x2, Status::Cancelled)).await.unwrap();
    assert_eq!(store.take_all(&line()).await, ids([x3, y1, y2]));
    // One that is run again has its place; one that is posted again has none.
    store.end(&x1.id, ending(x1, Status::Cancelled)).await.unwrap();
    store.end(&y1.id, ending(y1, Status::Cancelled)).await.unwrap();
    let more = jobs("xzx");
    add_all(&store, &more).await;
    for job in [x1, x2] {
        store.replay(&job.id, Replay::Run).await.unwrap();
    }
    store.replay(&y1.id, Replay::Post(super::store::delivery())).await.unwrap();
    assert_eq!(store.take_all(&line()).await, ids([x1, x2, &more[0], &more[2], &more[1]]));
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn deadlines_come_first_and_leave_what_is_warm_as_it_is(#[case] kind: Kind) {
    let store = kind.open().await;
    let mut all = jobs("xyxyx");
    let by = SystemClock.now() + chrono::Duration::seconds(60);
    let urgent = Job { deliver_by: Some(by), ..begins("a", "z", LONG) };
    all.push(urgent.clone());
    add_all(&store, &all[..5]).await;
    let first = store.take(&line()).await;
    assert_eq!(first.token.id, all[0].id.to_string());
    store.add(&urgent).await;
    let expected = ids([&urgent, &all[2], &all[4], &all[1], &all[3]]);
    assert_eq!(store.take_all(&line()).await, expected);
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn caps_hold_for_those_that_begin_alike(#[case] kind: Kind) {
    let store = kind.open().await;
    let share = Some(Share { max_running: Some(2), ..Share::default() });
    let all: Vec<Job> = jobs("xyxyx").into_iter().map(|job| Job { share, ..job }).collect();
    add_all(&store, &all).await;
    assert_eq!(store.take_all(&line()).await, ids([&all[0], &all[2]]));
    store.end(&all[0].id, ending(&all[0], Status::Cancelled)).await.unwrap();
    assert_eq!(store.take_all(&line()).await, ids([&all[4]]));
}

#[test]
fn jobs_of_before_are_read_and_the_prefix_stands_behind_the_id() {
    let old = serde_json::to_value(job_of("a")).unwrap();
    assert!(old.get("prefix").is_none());
    let read: Job = serde_json::from_value(old).unwrap();
    assert_eq!(read.prefix, None);
    let job = begins("a", "x", Duration::from_secs(300));
    let text = serde_json::to_string(&job).unwrap();
    let digest = job.prefix.as_ref().unwrap().digest();
    let begins =
        format!(r#"{{"id":"{}","prefix":{{"digest":"{digest}","warm_ms":300000}},"#, job.id);
    assert!(text.starts_with(&begins), "{text}");
    assert_eq!(serde_json::from_str::<Job>(&text).unwrap().prefix, job.prefix);
}
