//! What every key store keeps to.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rstest::rstest;
use spillway::keys::file::FileKeyStore;
use spillway::keys::redis::RedisKeyStore;
use spillway::keys::secret::{find, generate};
use spillway::keys::{KeyRecord, KeyStore, KeyStoreError, SharedKeyStore};
use spillway::keyspace::Keyspace;
use tempfile::TempDir;

use crate::support::cluster::ClusterServers;
use crate::support::redis::RedisServer;

#[derive(Clone, Copy)]
enum Kind {
    File,
    Redis,
    Cluster,
}

/// Where one test's keys are. Each handle stands for a process of its own.
enum Place {
    File(TempDir),
    Redis(Box<Keyspace>),
}

impl Place {
    async fn new(kind: Kind) -> Self {
        match kind {
            Kind::File => Self::File(tempfile::tempdir().unwrap()),
            Kind::Redis => Self::Redis(Box::new(RedisServer::shared().keyspace().await)),
            Kind::Cluster => Self::Redis(Box::new(ClusterServers::shared().keyspace().await)),
        }
    }

    fn handle(&self) -> SharedKeyStore {
        match self {
            Self::File(folder) => Arc::new(FileKeyStore::new(folder.path().join("data"))),
            Self::Redis(keyspace) => Arc::new(RedisKeyStore::new((**keyspace).clone())),
        }
    }
}

fn record(id: &str, age: i64) -> KeyRecord {
    let created_at: DateTime<Utc> = DateTime::from_timestamp(1_760_000_000 - age, 123_000).unwrap();
    let (_, record) = generate(&format!("caller of {id}"), created_at, &mut rand::rng());
    KeyRecord { id: id.to_owned(), ..record }
}

async fn ids(store: &SharedKeyStore) -> Vec<String> {
    store.list().await.unwrap().into_iter().map(|record| record.id).collect()
}

#[rstest]
#[case::file(Kind::File)]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[tokio::test]
async fn an_empty_store_has_no_keys(#[case] kind: Kind) {
    let place = Place::new(kind).await;
    let store = place.handle();
    assert_eq!(store.list().await.unwrap(), []);
    assert!(!store.revoke("nothing").await.unwrap());
}

#[rstest]
#[case::file(Kind::File)]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[tokio::test]
async fn keys_are_listed_by_age_as_they_were_added(#[case] kind: Kind) {
    let place = Place::new(kind).await;
    let (writer, reader) = (place.handle(), place.handle());
    let (old, middle, young) = (record("old", 9), record("middle", 5), record("young", 1));
    for added in [&middle, &young, &old] {
        writer.add(added.clone()).await.unwrap();
    }
    let expected = vec![old, middle, young];
    assert_eq!(writer.list().await.unwrap(), expected);
    assert_eq!(reader.list().await.unwrap(), expected);
}

#[rstest]
#[case::file(Kind::File)]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[tokio::test]
async fn a_key_of_the_same_id_takes_the_others_place(#[case] kind: Kind) {
    let place = Place::new(kind).await;
    let store = place.handle();
    store.add(record("one", 9)).await.unwrap();
    let second = record("one", 1);
    store.add(second.clone()).await.unwrap();
    assert_eq!(store.list().await.unwrap(), [second]);
}

#[rstest]
#[case::file(Kind::File)]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[tokio::test]
async fn a_revoked_key_is_gone_for_everybody_at_once(#[case] kind: Kind) {
    let place = Place::new(kind).await;
    let (one, other) = (place.handle(), place.handle());
    let (key, kept) = generate("acme", DateTime::UNIX_EPOCH, &mut rand::rng());
    one.add(kept.clone()).await.unwrap();
    one.add(record("leaked", 1)).await.unwrap();
    assert_eq!(ids(&other).await, [kept.id.as_str(), "leaked"]);

    assert!(one.revoke("leaked").await.unwrap());
    assert_eq!(ids(&other).await, [kept.id.as_str()]);
    assert!(!other.revoke("leaked").await.unwrap());
    assert_eq!(find(&other.list().await.unwrap(), &key), Some(&kept));

    // The same size at the same moment is a change all the same.
    other.revoke(&kept.id).await.unwrap();
    let replaced = KeyRecord { caller: "emca".to_owned(), ..kept };
    one.add(replaced.clone()).await.unwrap();
    assert_eq!(other.list().await.unwrap(), [replaced]);
}

#[rstest]
#[case::file(Kind::File)]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[tokio::test]
async fn keys_added_at_the_same_time_are_all_kept(#[case] kind: Kind) {
    let place = Place::new(kind).await;
    let handles = [place.handle(), place.handle()];
    let adds = (0..40).map(|n| {
        let store = Arc::clone(&handles[n % 2]);
        async move { store.add(record(&format!("k{n}"), 0)).await }
    });
    for added in futures::future::join_all(adds).await {
        added.unwrap();
    }
    let expected: BTreeSet<String> = (0..40).map(|n| format!("k{n}")).collect();
    for store in &handles {
        assert_eq!(ids(store).await.into_iter().collect::<BTreeSet<_>>(), expected);
    }
}

#[rstest]
#[case::file(Kind::File)]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[tokio::test]
async fn all_replicas_get_one_signing_secret(#[case] kind: Kind) {
    let place = Place::new(kind).await;
    let handles: Vec<SharedKeyStore> = (0..8).map(|_| place.handle()).collect();
    let fresh: Vec<String> = (0..8).map(|n| format!("whsec_{n}")).collect();
    let asked = handles.iter().zip(&fresh).map(|(store, fresh)| store.signing_secret(fresh));
    let told: BTreeSet<String> =
        futures::future::join_all(asked).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(told.len(), 1, "{told:?}");

    handles[0].add(record("one", 1)).await.unwrap();
    let later = place.handle().signing_secret("whsec_late").await.unwrap();
    assert!(told.contains(&later));
    assert_eq!(ids(&handles[7]).await, ["one"]);
}

#[tokio::test]
async fn the_file_is_for_its_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let store = FileKeyStore::new(&data);
    // What a crash left behind, readable by all.
    fs::create_dir(&data).unwrap();
    fs::write(data.join("keys.json.new"), "half a fi").unwrap();
    store.add(record("one", 1)).await.unwrap();
    store.signing_secret("whsec_x").await.unwrap();
    for entry in fs::read_dir(&data).unwrap() {
        let path = entry.unwrap().path();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
    }
    assert!(!data.join("keys.json.new").exists());
}

#[tokio::test]
async fn a_missing_folder_is_made_only_to_write() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("a/b");
    let store = FileKeyStore::new(&data);
    assert_eq!(store.list().await.unwrap(), []);
    assert!(!store.revoke("x").await.unwrap());
    assert!(!data.exists());
    store.add(record("one", 1)).await.unwrap();
    let mode = fs::metadata(&data).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[tokio::test]
async fn a_broken_file_is_told_by_its_path_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let store = FileKeyStore::new(folder.path());
    store.add(record("one", 1)).await.unwrap();
    for text in ["", "{", "7", r#"{"keys":"whsec_hidden"}"#, r#"{"whsec_hidden":1}"#] {
        fs::write(&path, text).unwrap();
        let faults = [
            store.list().await.unwrap_err(),
            store.add(record("two", 1)).await.unwrap_err(),
            store.revoke("one").await.unwrap_err(),
            store.signing_secret("whsec_x").await.unwrap_err(),
        ];
        for fault in faults {
            assert!(matches!(fault, KeyStoreError::Broken(_)), "{text}: {fault}");
            let told = fault.to_string();
            assert!(told.contains(path.to_str().unwrap()), "{told}");
            assert!(!told.contains("hidden"), "{told}");
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    fs::write(&path, r#"{"keys":[]}"#).unwrap();
    assert_eq!(store.list().await.unwrap(), []);
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_unavailable() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let store = FileKeyStore::new(&file);
    let fault = store.add(record("one", 1)).await.unwrap_err();
    assert!(matches!(fault, KeyStoreError::Unavailable(_)), "{fault}");
}

#[tokio::test]
async fn a_broken_record_in_redis_is_told_by_its_key() {
    let keyspace = RedisServer::shared().keyspace().await;
    let store = RedisKeyStore::new(keyspace.clone());
    let put = redis::Cmd::hset(keyspace.key("keys"), "one", "whsec_hidden");
    keyspace.ask::<()>(&put).await.unwrap();
    let fault = store.list().await.unwrap_err();
    assert!(matches!(fault, KeyStoreError::Broken(_)), "{fault}");
    assert!(fault.to_string().contains("keys one") && !fault.to_string().contains("hidden"));
}

#[tokio::test]
async fn a_redis_that_is_gone_is_unavailable() {
    let mut server = RedisServer::start(&[]);
    let store = RedisKeyStore::new(server.keyspace().await);
    store.add(record("one", 1)).await.unwrap();
    server.kill();
    let fault = store.list().await.unwrap_err();
    assert!(matches!(fault, KeyStoreError::Unavailable(_)), "{fault}");
    server.restart();
    let store: SharedKeyStore = Arc::new(store);
    crate::support::eventually("keys are listed again", || async {
        store.list().await.is_ok_and(|records| records.len() == 1)
    })
    .await;
}
