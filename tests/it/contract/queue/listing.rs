//! Pages of a caller's jobs.

use rstest::rstest;
use spillway::domain::id::JobId;
use spillway::domain::job::Job;
use spillway::domain::result::Status;
use spillway::queue::{Ended, Filter, PAGE_BYTES};

use super::store::{Kind, Store, ending, ids, job, job_of, line, raw};

fn filter() -> Filter {
    Filter { caller: "alice".to_owned(), limit: 100, ..Filter::default() }
}

/// Everything a filter lists, page by page.
async fn list(store: &Store, filter: Filter) -> Vec<String> {
    let (mut all, mut after) = (Vec::new(), filter.after.clone());
    loop {
        let page = store.page(&Filter { after: after.clone(), ..filter.clone() }).await.unwrap();
        assert!(page.jobs.len() <= filter.limit, "more than asked for");
        all.extend(page.jobs.iter().map(|record| record.job.id.to_string()));
        match page.next {
            Some(next) => after = Some(next),
            None => return all,
        }
    }
}

async fn add_all(store: &Store, jobs: &[Job]) {
    for job in jobs {
        store.add(job).await;
    }
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn pages_show_every_job_once_the_newest_first(#[case] kind: Kind) {
    let store = kind.open().await;
    let jobs: Vec<Job> = (0..25).map(|_| job()).collect();
    add_all(&store, &jobs).await;
    let expected = ids(jobs.iter().rev());
    for limit in [1, 5, 7, 25, 100] {
        assert_eq!(list(&store, Filter { limit, ..filter() }).await, expected, "by {limit}");
    }
    let page = store.page(&Filter { limit: 7, ..filter() }).await.unwrap();
    assert_eq!((page.jobs.len(), page.next.is_some()), (7, true));
    let page = store.page(&filter()).await.unwrap();
    assert_eq!((page.jobs.len(), page.next), (25, None));
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_page_begins_after_any_job_even_an_unknown_one(#[case] kind: Kind) {
    let store = kind.open().await;
    let (old, unknown, new) = (job(), job(), job());
    add_all(&store, &[old.clone(), new.clone()]).await;
    let after = |id: &JobId| Filter { after: Some(id.clone()), ..filter() };
    assert_eq!(list(&store, after(&new.id)).await, ids([&old]));
    assert_eq!(list(&store, after(&unknown.id)).await, ids([&old]));
    assert!(list(&store, after(&old.id)).await.is_empty());
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_sees_only_its_own_jobs(#[case] kind: Kind) {
    let store = kind.open().await;
    let mine = job();
    // Names that begin alike or look like a store's key are other callers all the same.
    let others = ["alic", "alice2", "alice/x", "Alice", "", "alice\0"];
    for caller in others {
        store.add(&Job { caller: caller.to_owned(), ..job() }).await;
    }
    store.add(&mine).await;
    assert_eq!(list(&store, filter()).await, ids([&mine]));
    for caller in others {
        let found = list(&store, Filter { caller: caller.to_owned(), ..filter() }).await;
        assert_eq!(found.len(), 1, "{caller:?}");
    }
    assert!(list(&store, Filter { caller: "nobody".to_owned(), ..filter() }).await.is_empty());
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_filter_picks_by_workflow_and_task(#[case] kind: Kind) {
    let store = kind.open().await;
    let (plain, lead) = (job(), job_of("lead"));
    let plan = Job { task: "plan".to_owned(), ..job_of("lead") };
    add_all(&store, &[plain.clone(), lead.clone(), plan.clone()]).await;
    let workflow = Some("lead".to_owned());
    let task = Some("tag".to_owned());
    let of_workflow = Filter { workflow: workflow.clone(), ..filter() };
    assert_eq!(list(&store, of_workflow).await, ids([&plan, &lead]));
    let of_task = Filter { task: task.clone(), ..filter() };
    assert_eq!(list(&store, of_task).await, ids([&lead, &plain]));
    let of_both = Filter { workflow, task, limit: 1, ..filter() };
    assert_eq!(list(&store, of_both).await, ids([&lead]));
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_filter_picks_by_status(#[case] kind: Kind) {
    let store = kind.open().await;
    let jobs: Vec<Job> = (0..4).map(|_| job()).collect();
    add_all(&store, &jobs).await;
    let [done, running, cancelled, queued] = &jobs[..] else { panic!("four jobs") };
    let lease = store.take(&line()).await;
    store.finish(&lease.token, ending(done, Status::Succeeded)).await;
    store.take(&line()).await;
    let end = store.end(&cancelled.id, ending(cancelled, Status::Cancelled)).await.unwrap();
    assert_eq!(end, Ended::Now);
    for (status, job) in [
        (Status::Succeeded, done),
        (Status::Running, running),
        (Status::Cancelled, cancelled),
        (Status::Queued, queued),
    ] {
        let of_status = Filter { status: Some(status), ..filter() };
        assert_eq!(list(&store, of_status).await, ids([job]), "{status:?}");
    }
    let of_status = Filter { status: Some(Status::Expired), ..filter() };
    assert!(list(&store, of_status).await.is_empty());
}

#[rstest]
#[case::redis(Kind::Redis)]
#[case::cluster(Kind::Cluster)]
#[case::embedded(Kind::Embedded)]
#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_large_jobs_is_shorter_and_none_is_left_out(#[case] kind: Kind) {
    let store = kind.open().await;
    let large = format!("\"{}\"", "x".repeat(PAGE_BYTES / 4));
    let jobs: Vec<Job> = (0..10).map(|_| Job { input: raw(&large), ..job() }).collect();
    add_all(&store, &jobs).await;
    let page = store.page(&filter()).await.unwrap();
    assert_eq!((page.jobs.len(), page.next), (4, Some(jobs[6].id.clone())));
    assert_eq!(list(&store, filter()).await, ids(jobs.iter().rev()));
}
