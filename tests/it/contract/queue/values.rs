//! What callers give is given back unchanged.

use std::collections::BTreeMap;

use bytes::Bytes;
use rstest::rstest;
use spillway::clock::{Clock, SystemClock};
use spillway::domain::choice::Cutoffs;
use spillway::domain::job::{Callback, CallbackBody, Job, ProviderChoice};
use spillway::domain::result::{JobResult, Status};
use spillway::domain::units::Span;
use spillway::queue::{Batch, Ending};

use super::store::{Kind, ending, group_of, held_job, job, line, raw};

/// JSON that a careless store changes.
const ODD: [&str; 9] = [
    "1e400",
    "0.10",
    "-0",
    "123456789012345678901234567890.000",
    r#"{"b":1,"a":2,"b":3}"#,
    r#"  { "spaced" :  [ 1 , 2 ]  }  "#,
    r#""\u00e9\ud83d\ude00 \/ é😀 \u0000""#,
    r#"{"":[[],{},null,[[[[[[[[[[]]]]]]]]]]]}"#,
    "[]",
];

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn input_and_metadata_survive_byte_for_byte(#[case] kind: Kind) {
    let store = kind.open().await;
    for text in ODD {
        let text = text.trim();
        let job = Job { input: raw(text), metadata: Some(raw(text)), ..job() };
        store.add(&job).await;
        let lease = store.take(&line()).await;
        let (held, _) = held_job(&lease);
        assert_eq!(held.input.get(), text);
        store.finish(&lease.token, ending(&job, Status::Succeeded)).await;
        let record = store.record(&job.id).await;
        assert_eq!(record.job.input.get(), text);
        assert_eq!(record.job.metadata.unwrap().get(), text);
        assert_eq!(record.result.unwrap().metadata.unwrap().get(), text);
    }
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_large_input_survives(#[case] kind: Kind) {
    let store = kind.open().await;
    let text = serde_json::to_string(&"żółć😀 ".repeat(90_000)).unwrap();
    assert!(text.len() > 1 << 20);
    let job = Job { input: raw(&text), ..job() };
    store.add(&job).await;
    let lease = store.take(&line()).await;
    assert!(held_job(&lease).0.input.get() == text);
    assert!(store.record(&job.id).await.job.input.get() == text);
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn every_field_of_a_job_survives(#[case] kind: Kind) {
    let store = kind.open().await;
    let job = Job {
        caller: "zoë \n\0 |/:{}".to_owned(),
        task: "plan".to_owned(),
        route: "a route/with:odd{0}name é".to_owned(),
        workflow: Some("wörk\0flow".to_owned()),
        session: Some("conversation-42".to_owned()),
        callback: Some(Callback {
            url: "https://n8n.example/webhook-waiting/1?signature=a%2Bb&c=%zz".to_owned(),
            headers: BTreeMap::from([("Authorization".to_owned(), "Bearer ü".to_owned())]),
            body: CallbackBody::Bare,
            min_delay: Some(Span::millis(250)),
            success_statuses: vec![409, 410],
        }),
        deliver_by: Some(SystemClock.now() + chrono::Duration::days(3)),
        max_cost_usd: Some(0.1 + 0.2),
        provider: Some(ProviderChoice {
            order: vec!["anthropic".to_owned()],
            allow_fallbacks: Some(false),
            preferred_max_latency: Some(Cutoffs::Median(1e-7)),
            ..ProviderChoice::default()
        }),
        metadata: Some(raw("{\"row\":1.0}")),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        ..job()
    };
    store.add(&job).await;
    let expected = serde_json::to_string(&job).unwrap();
    let found = store.record(&job.id).await.job;
    assert_eq!(serde_json::to_string(&found).unwrap(), expected);
    let lease = store.take(&job.line()).await;
    assert_eq!(serde_json::to_string(held_job(&lease).0).unwrap(), expected);
    let depths = store.depths().await.unwrap();
    assert_eq!((depths.leased, depths.open), (1, 1));
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn every_field_of_a_result_survives(#[case] kind: Kind) {
    let store = kind.open().await;
    let job = Job { metadata: Some(raw("1e400")), ..job() };
    store.add(&job).await;
    let open = JobResult::open(&job, Status::Succeeded);
    let result = JobResult {
        text: Some("a\u{0}b “ü” 😀".to_owned()),
        data: Some(serde_json::json!({"z": 1, "a": [0.1, null, u64::MAX, i64::MIN]})),
        cost_usd: Some(0.000_31),
        fell_back: true,
        ..open.ended(Status::Succeeded, SystemClock.now(), None)
    };
    let text = serde_json::to_string(&result).unwrap();
    let lease = store.take(&line()).await;
    let ending = Ending { result: Bytes::from(text.clone()), ..ending(&job, Status::Succeeded) };
    store.finish(&lease.token, ending).await;
    let found = store.record(&job.id).await.result.unwrap();
    assert_eq!(serde_json::to_string(&found).unwrap(), text);
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn every_field_of_a_group_survives(#[case] kind: Kind) {
    let store = kind.open().await;
    let (mut group, jobs) = group_of(2);
    group.metadata = Some(raw(r#"{"n":1e400,"n":0.10}"#));
    group.callback = Some(Callback {
        url: "https://hooks.example/é?q".to_owned(),
        headers: BTreeMap::new(),
        body: CallbackBody::Envelope,
        min_delay: None,
        success_statuses: Vec::new(),
    });
    store.push(Batch { jobs, group: Some(group.clone()), dedup: None }).await.unwrap();
    let found = store.find_group(&group.id).await.unwrap().unwrap().group;
    assert_eq!(serde_json::to_string(&found).unwrap(), serde_json::to_string(&group).unwrap());
}
