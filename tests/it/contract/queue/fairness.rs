//! Start-time fair queueing: each flow gets its share of a line, whatever it has queued.

use std::collections::BTreeMap;
use std::time::Duration;

use rstest::rstest;
use spillway::domain::job::{Flow, Job, Lane, Line, Owner, Share};
use spillway::domain::result::Status;
use spillway::queue::{Ahead, Batch, Delivery, Ending, Pushed, Verdict};

use super::store::{Kind, LONG, Store, ending, held_job, ids, job, job_of, line, one};

/// Stores so many jobs of a workflow.
async fn fill(store: &Store, workflow: &str, count: usize) -> Vec<Job> {
    let jobs: Vec<Job> = (0..count).map(|_| job_of(workflow)).collect();
    let batch = Batch { jobs: jobs.clone(), group: None, dedup: None };
    store.push(batch).await.unwrap();
    jobs
}

/// The workflows of the next jobs, in the order they are handed out.
async fn next(store: &Store, max: usize) -> Vec<String> {
    let leases = store.lease(&line(), max, LONG).await.unwrap();
    leases.iter().map(|lease| held_job(lease).0.workflow.clone().unwrap_or_default()).collect()
}

fn counts(workflows: &[String]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for workflow in workflows {
        *counts.entry(workflow.as_str()).or_default() += 1;
    }
    counts
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_does_not_delay_the_others(#[case] kind: Kind, #[values(1, 7, 30)] max: usize) {
    let store = kind.open().await;
    let flood = fill(&store, "a", 1000).await;
    fill(&store, "b", 10).await;
    fill(&store, "c", 10).await;
    let mut order = Vec::new();
    while order.len() < 40 {
        order.extend(next(&store, max).await);
    }
    for round in order[..30].chunks(3) {
        let expected = BTreeMap::from([("a", 1), ("b", 1), ("c", 1)]);
        assert_eq!(counts(round), expected, "{order:?}");
    }
    assert!(order[30..].iter().all(|workflow| workflow == "a"), "{order:?}");
    let rest = store.take_all(&line()).await;
    assert_eq!(rest, ids(&flood[order.len() - 20..]), "in order within a flow");
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn one_job_at_a_time_gets_no_more_than_its_share(#[case] kind: Kind) {
    let store = kind.open().await;
    fill(&store, "flood", 100).await;
    let (mut drips, mut waiting) = (0, false);
    for _ in 0..60 {
        if !waiting {
            store.add(&job_of("drip")).await;
            waiting = true;
        }
        if next(&store, 1).await == ["drip"] {
            waiting = false;
            drips += 1;
        }
    }
    assert!((29..=31).contains(&drips), "{drips} of 60");
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn idleness_saves_nothing_up(#[case] kind: Kind) {
    let store = kind.open().await;
    fill(&store, "late", 1).await;
    fill(&store, "steady", 100).await;
    assert_eq!(next(&store, 51).await.len(), 51);
    fill(&store, "late", 20).await;
    let order = next(&store, 20).await;
    let late = counts(&order)["late"];
    assert!((9..=11).contains(&late), "{order:?}");
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn lines_do_not_share_their_turns(#[case] kind: Kind) {
    let store = kind.open().await;
    fill(&store, "a", 30).await;
    assert_eq!(next(&store, 20).await.len(), 20);
    // What "a" has used of one line is not held against it in another.
    let other = Line::Run { lane: Lane::Batch, route: "x".to_owned() };
    for workflow in ["a", "b", "a", "b"] {
        let job = Job { lane: Lane::Batch, route: "x".to_owned(), ..job_of(workflow) };
        store.add(&job).await;
    }
    let leases = store.lease(&other, 2, LONG).await.unwrap();
    let flows: Vec<Flow> = leases.iter().map(|lease| held_job(lease).0.flow()).collect();
    assert_ne!(flows[0], flows[1]);
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn callers_with_the_same_workflow_name_are_different_flows(#[case] kind: Kind) {
    let store = kind.open().await;
    fill(&store, "same", 10).await;
    let other = Job { caller: "bob".to_owned(), ..job_of("same") };
    store.add(&other).await;
    let leases = store.lease(&line(), 2, LONG).await.unwrap();
    assert!(leases.iter().any(|lease| lease.token.id == other.id.to_string()));
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_flow_that_only_sends_back_does_not_stop_the_others(#[case] kind: Kind) {
    let store = kind.open().await;
    fill(&store, "a", 5).await;
    let others = fill(&store, "b", 5).await;
    let mut got = Vec::new();
    for _ in 0..12 {
        let lease = store.take(&line()).await;
        let (job, _) = held_job(&lease);
        if job.workflow.as_deref() == Some("b") {
            got.push(job.id.to_string());
        } else {
            let back = Verdict::Back { after: Duration::ZERO, progress: None };
            store.settle(&lease.token, back).await.unwrap();
        }
    }
    assert_eq!(got, ids(&others));
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn callback_hosts_share_the_line_evenly(#[case] kind: Kind) {
    let store = kind.open().await;
    let (slow, fast) = (Flow::of(&["slow:443"]), Flow::of(&["fast:443"]));
    for n in 0..24 {
        let job = job();
        store.add(&job).await;
        let lease = store.take(&line()).await;
        let flow = if n < 20 { slow.clone() } else { fast.clone() };
        let delivery = Some(Delivery { flow, after: Duration::ZERO });
        let ending = Ending { delivery, ..ending(&job, Status::Succeeded) };
        store.finish(&lease.token, ending).await;
    }
    let all = store.take_all(&Line::Deliver).await;
    assert_eq!(all.len(), 24);
    // The four results for the fast host were the last to be ready and are out after eight.
    let mut sorted = all.clone();
    sorted.sort();
    assert!(sorted[20..].iter().all(|id| all[..8].contains(id)), "{all:?}");
}

/// A callback that waits to be posted in this flow; its id.
async fn posted(store: &Store, flow: Flow) -> String {
    let job = job();
    store.add(&job).await;
    let lease = store.take(&line()).await;
    let delivery = Some(Delivery { flow, after: Duration::ZERO });
    store.finish(&lease.token, Ending { delivery, ..ending(&job, Status::Succeeded) }).await;
    job.id.to_string()
}

async fn next_past(store: &Store, past: &[&Owner], max: usize) -> Vec<String> {
    let past: Vec<Owner> = past.iter().copied().cloned().collect();
    let leases = store.lease_past(&Line::Deliver, max, LONG, &past).await.unwrap();
    leases.into_iter().map(|lease| lease.token.id).collect()
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn who_is_looked_past_saves_up_no_turns(#[case] kind: Kind) {
    let store = kind.open().await;
    let [flood, other, late] = ["flood", "other", "late"].map(Owner::of);
    for _ in 0..30 {
        for host in ["a", "b", "c"] {
            posted(&store, Flow::of_owner(&flood, host)).await;
        }
    }
    let mut others = Vec::new();
    for _ in 0..70 {
        others.push(posted(&store, Flow::of_owner(&other, "a")).await);
    }
    assert_eq!(next_past(&store, &[&flood], 25).await, others[..25]);
    assert_eq!(next_past(&store, &[&flood], 25).await, others[25..50]);
    // Nor does who comes meanwhile get the turns that others had before.
    let mut new = Vec::new();
    for _ in 0..20 {
        new.push(posted(&store, Flow::of_owner(&late, "a")).await);
    }
    let turns = next_past(&store, &[&flood], 10).await;
    let count = |turns: &[String], of: &[String]| turns.iter().filter(|id| of.contains(id)).count();
    assert!((4..=6).contains(&count(&turns, &new)), "{turns:?}");
    // Five flows: a fifth of the turns each.
    let turns = next_past(&store, &[], 25).await;
    for of in [&others, &new] {
        assert!((4..=6).contains(&count(&turns, of)), "{turns:?}");
    }
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn owners_are_looked_past_until_they_are_not(#[case] kind: Kind) {
    let store = kind.open().await;
    let [flood, other] = ["flood", "other"].map(Owner::of);
    let mut own = BTreeMap::<&Owner, Vec<String>>::new();
    // More flows than Redis is asked for at once, all before the other owner's one.
    for n in 0..300 {
        let (owner, host) = if n < 290 { (&flood, n) } else { (&other, 0) };
        let id = posted(&store, Flow::of_owner(owner, &host.to_string())).await;
        own.entry(owner).or_default().push(id);
    }
    let past = async |past: &[&Owner], max| next_past(&store, past, max).await;
    assert_eq!(past(&[&flood, &other], 1_000).await, [""; 0]);
    assert_eq!(past(&[&flood], 3).await, own[&other][..3], "in order within a flow");
    assert_eq!(past(&[&Owner::of("nobody"), &flood], 1_000).await, own[&other][3..]);
    assert_eq!(past(&[&flood], 1_000).await, [""; 0]);
    let mut rest = past(&[&other], 1_000).await;
    rest.sort();
    assert_eq!(rest, own[&flood], "nothing of it was lost");
    assert_eq!(store.depths().await.unwrap().ready, [], "and the line is empty");
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_jobs_behind_ten_thousand_are_out_with_as_many_of_them(#[case] kind: Kind) {
    let store = kind.open().await;
    for _ in 0..20 {
        fill(&store, "a", 500).await;
    }
    fill(&store, "b", 100).await;
    let mut order = Vec::new();
    while order.len() < 210 {
        order.extend(next(&store, 7).await);
    }
    assert_eq!(counts(&order[..210])["b"], 100);
}

/// Jain's index of what each of so many got: 1 when all got the same.
#[expect(clippy::cast_precision_loss, reason = "small counts")]
fn jain(counts: &[usize]) -> f64 {
    let sum: f64 = counts.iter().map(|count| *count as f64).sum();
    let squares: f64 = counts.iter().map(|count| (*count as f64).powi(2)).sum();
    sum * sum / (counts.len() as f64 * squares)
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn fifty_equal_workflows_get_the_same_of_any_500_turns(#[case] kind: Kind) {
    const FLOWS: usize = 50;
    const TURNS: usize = 1_000;
    let store = kind.open().await;
    let names: Vec<String> = (0..FLOWS).map(|n| n.to_string()).collect();
    for (n, name) in names.iter().enumerate() {
        // Most have just enough for the test, a few a multiple of that.
        fill(&store, name, if n % 10 == 0 { 600 } else { 25 }).await;
    }
    let mut order = Vec::new();
    while order.len() < TURNS {
        order.extend(next(&store, 9).await);
    }
    for window in order.windows(500) {
        let counts = counts(window);
        let got: Vec<usize> =
            names.iter().map(|name| counts.get(name.as_str()).copied().unwrap_or(0)).collect();
        let index = jain(&got);
        assert!(index >= 0.98, "{index}: {got:?}");
    }
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_gets_turns_by_its_weight(#[case] kind: Kind, #[values(1, 16)] max: usize) {
    let store = kind.open().await;
    for weight in [4.0, 1.0, 2.0] {
        let share = Some(Share { weight, ..Share::default() });
        let jobs = (0..450).map(|_| Job { share, ..job_of(&weight.to_string()) }).collect();
        store.push(Batch { jobs, group: None, dedup: None }).await.unwrap();
    }
    let mut order = Vec::new();
    while order.len() < 700 {
        order.extend(next(&store, max).await);
    }
    let counts = counts(&order[..700]);
    for (weight, fair) in [("1", 100_usize), ("2", 200), ("4", 400)] {
        let difference = counts[weight].abs_diff(fair);
        assert!(difference * 100 <= fair * 3, "{counts:?}");
    }
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_weight_changes_with_the_next_push(#[case] kind: Kind) {
    let store = kind.open().await;
    fill(&store, "a", 100).await;
    fill(&store, "b", 100).await;
    assert_eq!(counts(&next(&store, 20).await), BTreeMap::from([("a", 10), ("b", 10)]));
    let share = Some(Share { weight: 3.0, ..Share::default() });
    store.add(&Job { share, ..job_of("a") }).await;
    let got = counts(&next(&store, 40).await)["a"];
    assert!((29..=31).contains(&got), "{got} of 40");
    store.add(&job_of("a")).await;
    let got = counts(&next(&store, 40).await)["a"];
    assert!((19..=21).contains(&got), "{got} of 40");
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_place_is_told_as_fair_turns_make_it(#[case] kind: Kind) {
    let store = kind.open().await;
    let ahead = async |job: &Job| match store.push(one(job)).await.unwrap() {
        Pushed::Stored { ahead, .. } => (ahead, ahead.rank()),
        other => panic!("{other:?}"),
    };
    assert_eq!(ahead(&job_of("a")).await, (Ahead { line: 0, own: 0, flows: 1 }, 1));
    fill(&store, "a", 100).await;
    assert_eq!(ahead(&job_of("a")).await, (Ahead { line: 101, own: 101, flows: 1 }, 102));
    assert_eq!(ahead(&job_of("b")).await, (Ahead { line: 102, own: 0, flows: 2 }, 2));
    assert_eq!(ahead(&job_of("b")).await, (Ahead { line: 103, own: 1, flows: 2 }, 4));
    assert_eq!(ahead(&job_of("c")).await, (Ahead { line: 104, own: 0, flows: 3 }, 3));
    let depths = store.depths().await.unwrap();
    assert_eq!((depths.ready, depths.flows), (vec![(line(), 105)], vec![(line(), 3)]));
    // It is out after so many turns.
    let order = next(&store, 4).await;
    assert_eq!(counts(&order)["b"], 1 + usize::from(counts(&order)["a"] == 1), "{order:?}");
    store.take_all(&line()).await;
    assert_eq!(store.depths().await.unwrap().flows, []);
}
