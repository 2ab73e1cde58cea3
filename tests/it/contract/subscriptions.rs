//! What every store of subscriptions keeps to.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, LazyLock};

use rstest::rstest;
use spillway::clock::{Clock, SystemClock};
use spillway::domain::id::{IdSource, SubscriptionId};
use spillway::domain::job::{Callback, CallbackBody};
use spillway::domain::result::Status;
use spillway::domain::units::Span;
use spillway::keyspace::Keyspace;
use spillway::subscriptions::file::FileSubscriptions;
use spillway::subscriptions::redis::RedisSubscriptions;
use spillway::subscriptions::{
    Added, JobFilter, Request, SharedSubscriptionStore, StoreError, Subscription,
};
use tempfile::TempDir;

use crate::support::cluster::ClusterServers;
use crate::support::redis::RedisServer;

static IDS: LazyLock<IdSource> = LazyLock::new(IdSource::default);

#[derive(Clone, Copy)]
enum Kind {
    File,
    Memory,
    Redis,
    Cluster,
}

/// Where one test's subscriptions are. Each handle stands for a process of its own.
enum Place {
    File(TempDir),
    Memory(SharedSubscriptionStore),
    Redis(Box<Keyspace>),
}

impl Place {
    async fn new(kind: Kind) -> Self {
        match kind {
            Kind::File => Self::File(tempfile::tempdir().unwrap()),
            Kind::Memory => Self::Memory(Arc::new(FileSubscriptions::in_memory())),
            Kind::Redis => Self::Redis(Box::new(RedisServer::shared().keyspace().await)),
            Kind::Cluster => Self::Redis(Box::new(ClusterServers::shared().keyspace().await)),
        }
    }

    fn handle(&self) -> SharedSubscriptionStore {
        match self {
            Self::File(folder) => Arc::new(FileSubscriptions::new(folder.path().join("data"))),
            Self::Memory(store) => Arc::clone(store),
            Self::Redis(keyspace) => Arc::new(RedisSubscriptions::new((**keyspace).clone())),
        }
    }
}

/// A subscription of this caller with everything in it.
fn subscription(caller: &str) -> Subscription {
    Subscription {
        id: IDS.subscription(SystemClock.now()),
        caller: caller.to_owned(),
        name: Some("Zürich “leads”".to_owned()),
        callback: Callback {
            url: "https://hooks.example.com/a?sig=%2F&x=ü".to_owned(),
            headers: BTreeMap::from([("x-secret".to_owned(), "hunter2".to_owned())]),
            body: CallbackBody::Bare,
            min_delay: Some(Span::millis(250)),
            success_statuses: vec![409],
        },
        filter: JobFilter {
            statuses: vec![Status::Failed, Status::Expired],
            tasks: vec!["tag".to_owned()],
            workflows: vec!["a/b".to_owned()],
        },
        secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned(),
        created_at: SystemClock.now(),
        request: None,
    }
}

async fn all(store: &SharedSubscriptionStore) -> Vec<Subscription> {
    store.changed(None).await.unwrap().expect("the first look always tells").all
}

fn ids(of: &[Subscription]) -> Vec<SubscriptionId> {
    of.iter().map(|one| one.id.clone()).collect()
}

#[rstest]
#[case::file(Kind::File)]
#[case::memory(Kind::Memory)]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[tokio::test]
async fn what_is_added_is_told_to_everybody_in_order_as_it_came(#[case] kind: Kind) {
    let place = Place::new(kind).await;
    let (one, other) = (place.handle(), place.handle());
    assert!(all(&one).await.is_empty());
    let made = [subscription("alice"), subscription("bob"), subscription("alice")];
    for index in [1, 0, 2] {
        assert_eq!(one.add(made[index].clone(), 2).await.unwrap(), Added::Stored);
    }
    assert_eq!(all(&one).await, made);
    assert_eq!(all(&other).await, made);
}

#[rstest]
#[case::file(Kind::File)]
#[case::memory(Kind::Memory)]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[tokio::test]
async fn only_changes_are_told(#[case] kind: Kind) {
    let place = Place::new(kind).await;
    let (one, other) = (place.handle(), place.handle());
    let empty = other.changed(None).await.unwrap().unwrap();
    assert!(other.changed(Some(&empty.version)).await.unwrap().is_none());
    let made = subscription("alice");
    one.add(made.clone(), 9).await.unwrap();
    let first = other.changed(Some(&empty.version)).await.unwrap().expect("one was added");
    assert_eq!(ids(&first.all), std::slice::from_ref(&made.id));
    assert!(other.changed(Some(&first.version)).await.unwrap().is_none());
    one.remove("alice", &made.id).await.unwrap();
    let second = other.changed(Some(&first.version)).await.unwrap().expect("it was removed");
    assert!(second.all.is_empty());
    assert!(other.changed(Some(&second.version)).await.unwrap().is_none());
    assert!(other.changed(Some(&first.version)).await.unwrap().is_some());
}

#[rstest]
#[case::file(Kind::File)]
#[case::memory(Kind::Memory)]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[tokio::test]
async fn only_its_caller_removes_one_and_once(#[case] kind: Kind) {
    let place = Place::new(kind).await;
    let (one, other) = (place.handle(), place.handle());
    let (first, second) = (subscription("alice"), subscription("alice"));
    for made in [&first, &second] {
        one.add(made.clone(), 9).await.unwrap();
    }
    assert!(!other.remove("bob", &first.id).await.unwrap());
    assert_eq!(all(&one).await.len(), 2);
    assert!(other.remove("alice", &first.id).await.unwrap());
    assert!(!one.remove("alice", &first.id).await.unwrap());
    assert_eq!(ids(&all(&one).await), [second.id]);
}

#[rstest]
#[case::file(Kind::File)]
#[case::memory(Kind::Memory)]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_has_no_more_than_it_may_however_many_are_added_at_once(#[case] kind: Kind) {
    let place = Place::new(kind).await;
    let handles: Vec<_> = (0..4).map(|_| place.handle()).collect();
    let adds = (0..20).map(|index| {
        let store = Arc::clone(&handles[index % handles.len()]);
        // A caller whose name begins as another's is another.
        let caller = if index % 2 == 0 { "alice" } else { "alice/b" };
        tokio::spawn(async move { store.add(subscription(caller), 3).await.unwrap() })
    });
    let added = futures::future::join_all(adds).await;
    assert_eq!(
        added.into_iter().filter(|added| *added.as_ref().unwrap() == Added::Stored).count(),
        6
    );
    let there = all(&handles[0]).await;
    assert_eq!(there.iter().filter(|one| one.caller == "alice").count(), 3);
    let gone = there.iter().find(|one| one.caller == "alice").unwrap();
    handles[1].remove("alice", &gone.id).await.unwrap();
    assert_eq!(handles[2].add(subscription("alice"), 3).await.unwrap(), Added::Stored);
    assert_eq!(handles[3].add(subscription("alice"), 3).await.unwrap(), Added::Full);
}

#[rstest]
#[case::file(Kind::File)]
#[case::memory(Kind::Memory)]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[tokio::test(flavor = "multi_thread")]
async fn one_key_makes_one_subscription_however_often_it_comes(#[case] kind: Kind) {
    let place = Place::new(kind).await;
    let handles: Vec<_> = (0..4).map(|_| place.handle()).collect();
    let request = Request { key: "0a".repeat(32), fingerprint: "1b".repeat(32) };
    let under_key =
        |caller: &str| Subscription { request: Some(request.clone()), ..subscription(caller) };
    let adds = (0..20).map(|index| {
        let (store, made) = (Arc::clone(&handles[index % handles.len()]), under_key("alice"));
        // There is room for one only: who has it is told so all the same.
        tokio::spawn(async move { (store.add(made.clone(), 1).await.unwrap(), made) })
    });
    let added = futures::future::join_all(adds).await.into_iter().map(Result::unwrap);
    let (stored, known): (Vec<_>, Vec<_>) = added.partition(|(what, _)| *what == Added::Stored);
    let [(_, made)] = &stored[..] else { panic!("{stored:?}") };
    assert!(known.iter().all(|(what, _)| *what == Added::Known(Box::new(made.clone()))));
    assert_eq!(all(&handles[1]).await, std::slice::from_ref(made));
    // Others' keys and requests without one are others.
    assert_eq!(handles[2].add(under_key("bob"), 1).await.unwrap(), Added::Stored);
    for _ in 0..2 {
        assert_eq!(handles[2].add(subscription("alice"), 3).await.unwrap(), Added::Stored);
    }
    // What has ended is made anew.
    assert!(handles[3].remove("alice", &made.id).await.unwrap());
    assert_eq!(handles[0].add(under_key("alice"), 3).await.unwrap(), Added::Stored);
}

#[tokio::test]
async fn the_file_is_its_owners_alone_and_a_damaged_one_is_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let store: SharedSubscriptionStore = Arc::new(FileSubscriptions::new(&data));
    assert!(all(&store).await.is_empty());
    assert!(!data.exists(), "nothing is touched before the first is made");
    store.add(subscription("alice"), 9).await.unwrap();
    let path = data.join("subscriptions.json");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    fs::write(&path, "{\"subscriptions\": [\"whsec_oops\"]}").unwrap();
    let fault = store.changed(None).await.unwrap_err();
    assert!(matches!(fault, StoreError::Broken(_)), "{fault}");
    assert!(!fault.to_string().contains("whsec"), "{fault}");
}

#[tokio::test]
async fn a_damaged_subscription_does_not_hide_the_others() {
    let keyspace = RedisServer::shared().keyspace().await;
    let store: SharedSubscriptionStore = Arc::new(RedisSubscriptions::new(keyspace.clone()));
    let made = subscription("alice");
    store.add(made.clone(), 9).await.unwrap();
    let mut damage = redis::cmd("HSET");
    damage.arg(keyspace.key("subscriptions")).arg("x/sub_0_x").arg("{");
    keyspace.ask::<i64>(&damage).await.unwrap();
    assert_eq!(ids(&all(&store).await), [made.id]);
}

#[test]
fn a_filter_lets_through_what_matches_all_of_its_lists() {
    let job = |task: &str, workflow: Option<&str>| {
        let mut job = super::queue::plain_job();
        job.task = task.to_owned();
        job.workflow = workflow.map(str::to_owned);
        job
    };
    let filter = subscription("alice").filter;
    assert!(filter.fits(&job("tag", Some("a/b")), Status::Failed));
    assert!(!filter.fits(&job("tag", Some("a/b")), Status::Succeeded));
    assert!(!filter.fits(&job("plan", Some("a/b")), Status::Failed));
    assert!(!filter.fits(&job("tag", None), Status::Failed));
    assert!(JobFilter::default().fits(&job("plan", None), Status::Succeeded));
}

#[test]
fn what_is_logged_of_a_subscription_is_no_secret() {
    let shown = format!("{:?}", subscription("alice"));
    for secret in ["whsec", "sig", "hunter2", "/a"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
