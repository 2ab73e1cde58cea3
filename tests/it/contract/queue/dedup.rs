//! Idempotency keys.

use std::time::Duration;

use rstest::rstest;
use spillway::domain::job::Job;
use spillway::domain::result::Status;
use spillway::queue::{Ahead, Batch, Dedup, Pushed};

use super::store::{Kind, LONG, SHORT, ending, group_of, job, line, one};
use crate::support::eventually;

fn dedup(key: &str, fingerprint: &str, keep: Duration) -> Dedup {
    Dedup { key: key.to_owned(), fingerprint: fingerprint.to_owned(), keep }
}

fn keyed(job: &Job, key: &str, fingerprint: &str) -> Batch {
    Batch { dedup: Some(dedup(key, fingerprint, LONG)), ..one(job) }
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_is_given_the_first_id(#[case] kind: Kind) {
    let store = kind.open().await;
    let (first, second) = (job(), job());
    let stored = store.push(keyed(&first, "aa", "f1")).await.unwrap();
    assert!(matches!(stored, Pushed::Stored { ahead: Ahead { line: 0, .. }, .. }), "{stored:?}");
    let repeated = Pushed::Repeated { id: first.id.to_string() };
    assert_eq!(store.push(keyed(&second, "aa", "f1")).await.unwrap(), repeated);
    assert!(store.find(&second.id).await.unwrap().is_none());

    let lease = store.take(&line()).await;
    store.finish(&lease.token, ending(&first, Status::Succeeded)).await;
    assert_eq!(store.push(keyed(&second, "aa", "f1")).await.unwrap(), repeated);
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn another_request_under_the_same_key_is_told_so(#[case] kind: Kind) {
    let store = kind.open().await;
    store.push(keyed(&job(), "aa", "f1")).await.unwrap();
    let other = job();
    assert_eq!(store.push(keyed(&other, "aa", "f2")).await.unwrap(), Pushed::KeyReused);
    assert!(store.find(&other.id).await.unwrap().is_none());
    let stored = store.push(keyed(&other, "bb", "f2")).await.unwrap();
    assert!(matches!(stored, Pushed::Stored { ahead: Ahead { line: 1, .. }, .. }), "{stored:?}");
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_group_is_given_the_groups_id(#[case] kind: Kind) {
    let store = kind.open().await;
    let (first, jobs) = group_of(3);
    let key = Some(dedup("aa", "f1", LONG));
    let batch = Batch { jobs, group: Some(first.clone()), dedup: key.clone() };
    store.push(batch).await.unwrap();
    let (second, jobs) = group_of(3);
    let batch = Batch { jobs, group: Some(second.clone()), dedup: key };
    let repeated = Pushed::Repeated { id: first.id.to_string() };
    assert_eq!(store.push(batch).await.unwrap(), repeated);
    assert!(store.find_group(&second.id).await.unwrap().is_none());
    assert_eq!(store.depths().await.unwrap().open, 3);
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn parallel_pushes_under_one_key_store_exactly_one(#[case] kind: Kind) {
    let store = kind.open().await;
    let pushes = (0..64).map(|n| {
        let (queue, job) = (store.shared(), job());
        let batch = keyed(&job, "aa", if n % 2 == 0 { "even" } else { "odd" });
        async move { (queue.push(batch).await.unwrap(), job.id) }
    });
    let answers = futures::future::join_all(pushes).await;
    let stored: Vec<_> =
        answers.iter().filter(|(pushed, _)| matches!(pushed, Pushed::Stored { .. })).collect();
    assert_eq!(stored.len(), 1, "{answers:?}");
    let id = stored[0].1.to_string();
    let repeated =
        answers.iter().filter(|(pushed, _)| *pushed == Pushed::Repeated { id: id.clone() });
    assert_eq!(repeated.count(), 31);
    let reused = answers.iter().filter(|(pushed, _)| *pushed == Pushed::KeyReused);
    assert_eq!(reused.count(), 32);
    assert_eq!(store.take_all(&line()).await, [id]);
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_forgotten_after_its_time(#[case] kind: Kind) {
    let store = kind.open().await;
    let batch =
        |fingerprint: &str| Batch { dedup: Some(dedup("aa", fingerprint, SHORT)), ..one(&job()) };
    store.push(batch("f1")).await.unwrap();
    eventually("the key is forgotten", || async {
        matches!(
            store.push(batch("f2")).await.unwrap(),
            Pushed::Stored { ahead: Ahead { line: 1, .. }, .. }
        )
    })
    .await;
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::embedded(Kind::Embedded)]
#[tokio::test]
async fn a_key_is_recalled_without_storing_anything(#[case] kind: Kind) {
    let store = kind.open().await;
    let stored = job();
    let batch = keyed(&stored, "aa", "f1");
    let dedup = batch.dedup.clone().unwrap();
    assert_eq!(store.recall(&dedup).await.unwrap(), None);
    store.push(batch).await.unwrap();
    let repeated = Pushed::Repeated { id: stored.id.to_string() };
    assert_eq!(store.recall(&dedup).await.unwrap(), Some(repeated));
    let other = keyed(&job(), "aa", "f2").dedup.unwrap();
    assert_eq!(store.recall(&other).await.unwrap(), Some(Pushed::KeyReused));
}
