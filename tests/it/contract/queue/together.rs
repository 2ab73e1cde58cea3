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

/// Takes the next job and has it answered.
async fn answered(store: &Store) -> Job {
    let lease = store.take(&line()).await;
    let job = held_job(&lease).0.clone();
    store.finish(&lease.token, ending(&job, Status::Succeeded)).await;
    job
}

/// Stores such jobs and has them answered one after another. Which prefixes they had, in order.
async fn order(store: &Store, prefixes: &str) -> String {
    let jobs = jobs(prefixes);
    add_all(store, &jobs).await;
    let mut order = Vec::new();
    for _ in &jobs {
        order.push(answered(store).await.id.to_string());
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
async fn jobs_with_one_prefix_leave_together(#[case] kind: Kind) {
    for (stored, expected) in [
        ("xyxyxy", "xxxyyy"),
        ("xyzxyz", "xxyyzz"),
        (".x.y.x.y", ".xx.yy.."),
        ("....", "...."),
        ("y.x.", "y.x."),
    ] {
        let store = kind.open().await;
        assert_eq!(order(&store, stored).await, expected, "{stored}");
    }
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn so_many_in_a_row_and_then_the_oldest(#[case] kind: Kind) {
    let (store, many) = (kind.open().await, "x".repeat(MOST * 3));
    let (row, rest) = ("x".repeat(MOST), "x".repeat(MOST * 2));
    assert_eq!(order(&store, &format!("xy{many}")).await, format!("x{row}y{rest}"));
    // One without a prefix is the next, too, and does not end what is warm.
    let store = kind.open().await;
    assert_eq!(order(&store, &format!("x..{many}")).await, format!("x{row}.{row}.{row}"));
    // Those of one prefix alone hold nobody up: they are the oldest.
    let store = kind.open().await;
    assert_eq!(order(&store, &format!("{many}yx")).await, format!("{many}xy"));
    // Also when many are taken before any is answered.
    let store = kind.open().await;
    let all = jobs(&format!("xy{many}"));
    add_all(&store, &all).await;
    answered(&store).await;
    let taken = store.take_all(&line()).await;
    assert_eq!(taken.iter().position(|id| *id == all[1].id.to_string()), Some(MOST));
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn between_flows_nothing_changes(#[case] kind: Kind, #[values(1.0, 3.0)] share: f64) {
    let store = kind.open().await;
    let of_alike = Some(Share { weight: share, ..Share::default() });
    let mut all = Vec::new();
    for n in 0..120 {
        all.push(Job { share: of_alike, ..begins("alike", "x", LONG) });
        all.push(begins("mixed", &format!("{}", n % 3), LONG));
        all.push(job_of("plain"));
    }
    add_all(&store, &all).await;
    let mut got: BTreeMap<String, f64> = BTreeMap::new();
    for _ in 0..120 {
        *got.entry(answered(&store).await.workflow.unwrap()).or_default() += 1.0;
        let turns: f64 = got.values().sum();
        for (flow, weight) in [("alike", share), ("mixed", 1.0), ("plain", 1.0)] {
            let due = turns * weight / (share + 2.0);
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
    assert_eq!(answered(&store).await.id, all[0].id);
    tokio::time::sleep(SHORT * 2).await;
    let rest = [answered(&store).await, answered(&store).await, answered(&store).await];
    assert_eq!(ids(&rest), ids([&all[1], &all[3], &all[2]]));
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn who_is_put_back_has_its_place(#[case] kind: Kind) {
    let store = kind.open().await;
    let all = jobs("xyxxyx");
    let [x1, y1, x2, x3, y2, x4] = &all[..] else { panic!("six jobs") };
    add_all(&store, &all).await;
    let early = store.take(&line()).await;
    store.settle(&early.token, Verdict::back(Duration::ZERO)).await.unwrap();
    assert_eq!(store.take_all(&line()).await, ids([x1, y1, x2, x3, y2, x4]), "nothing is warm");

    // At once, after a pause, and after its holder vanished.
    let store = kind.open().await;
    add_all(&store, &all).await;
    answered(&store).await;
    let held = store.lease(&line(), 3, LONG).await.unwrap();
    assert_eq!(held.iter().map(|l| l.token.id.clone()).collect::<Vec<_>>(), ids([x2, x3, x4]));
    store.settle(&held[0].token, Verdict::back(Duration::ZERO)).await.unwrap();
    store.settle(&held[1].token, Verdict::back(Duration::from_millis(1))).await.unwrap();
    crate::support::eventually("it comes due", || async {
        store.sweep(10).await.unwrap().due == 1
    })
    .await;
    store.lose(&held[2].token).await;
    assert_eq!(store.take_all(&line()).await, ids([x2, x3, x4, y1, y2]));
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn only_what_was_answered_is_warm(#[case] kind: Kind) {
    let store = kind.open().await;
    let all = jobs("xyxyx");
    add_all(&store, &all).await;
    let failed = store.take(&line()).await;
    store.finish(&failed.token, ending(&all[0], Status::Failed)).await;
    assert_eq!(answered(&store).await.id, all[1].id);
    store.end(&all[2].id, ending(&all[2], Status::Cancelled)).await.unwrap();
    assert_eq!(store.take_all(&line()).await, ids([&all[3], &all[4]]));
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn who_is_gone_is_not_waited_for(#[case] kind: Kind) {
    let store = kind.open().await;
    let all = jobs("xyxxy.");
    let [x1, y1, x2, x3, y2, open] = &all[..] else { panic!("six jobs") };
    add_all(&store, &all).await;
    answered(&store).await;
    store.end(&x2.id, ending(x2, Status::Cancelled)).await.unwrap();
    assert_eq!(store.take_all(&line()).await, ids([x3, y1, y2, open]));
    // One that is run again has its place; one that is posted again has none.
    store.end(&y1.id, ending(y1, Status::Cancelled)).await.unwrap();
    let more = jobs("zx");
    add_all(&store, &more).await;
    for job in [x1, x2] {
        store.replay(&job.id, Replay::Run).await.unwrap();
    }
    store.replay(&y1.id, Replay::Post(super::store::delivery())).await.unwrap();
    assert_eq!(store.take_all(&line()).await, ids([x1, x2, &more[1], &more[0]]));
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
    assert_eq!(answered(&store).await.id, all[0].id);
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
    assert_eq!(answered(&store).await.id, all[0].id);
    assert_eq!(store.take_all(&line()).await, ids([&all[2], &all[4]]));
    store.end(&all[2].id, ending(&all[2], Status::Cancelled)).await.unwrap();
    assert_eq!(store.take_all(&line()).await, ids([&all[1]]));
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
