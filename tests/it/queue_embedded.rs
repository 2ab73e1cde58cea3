//! The embedded store across restarts, crashes and a disk that is full.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redb::{ReadableDatabase, ReadableTableMetadata};
use serde_json::value::RawValue;
use spillway::clock::{Clock, SharedClock, SystemClock};
use spillway::domain::id::JobId;
use spillway::domain::job::{CachedPrefix, Flow, Job, Line, Share, Stage};
use spillway::domain::result::{JobResult, Status};
use spillway::queue::embedded::EmbeddedQueue;
use spillway::queue::{
    Batch, Dedup, Delivery, Ending, Lease, MOST_LOSSES, Pushed, Queue, QueueError, Verdict,
};

use crate::support::eventually;
use crate::support::job::{job, line, raw};

const LONG: Duration = Duration::from_secs(600);

fn clock() -> SharedClock {
    Arc::new(SystemClock)
}

fn open(folder: &Path) -> EmbeddedQueue {
    EmbeddedQueue::open(folder, clock()).unwrap()
}

/// What the disk would hold if the power went now.
fn crashed(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in fs::read_dir(folder).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    copy
}

fn jobs(count: usize) -> Vec<Job> {
    (0..count).map(|_| Job { input: raw(r#""hello""#), ..job() }).collect()
}

async fn add(queue: &EmbeddedQueue, job: &Job) {
    let batch = Batch { jobs: vec![job.clone()], group: None, dedup: None };
    let pushed = queue.push(batch).await.unwrap();
    assert!(matches!(pushed, Pushed::Stored { .. }), "{pushed:?}");
}

async fn take(queue: &EmbeddedQueue, line: &Line) -> Lease {
    queue.lease(line, 1, LONG).await.unwrap().pop().expect("something waits in the line")
}

fn ending(job: &Job) -> Ending {
    let result = JobResult::open(job, Status::Succeeded);
    let result = result.ended(Status::Succeeded, SystemClock.now(), None);
    let delivery = Delivery { flow: Flow::of(&["example.com:443"]), after: Duration::ZERO };
    Ending {
        result: Bytes::from(serde_json::to_vec(&result).unwrap()),
        status: Status::Succeeded,
        delivery: Some(delivery),
        events: Vec::new(),
        group: None,
        keep: LONG,
    }
}

async fn stage(queue: &EmbeddedQueue, id: &JobId) -> Stage {
    queue.find(id).await.unwrap().expect("the job is there").stage
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let jobs = jobs(3);
    let [waiting, ended, delayed] = &jobs[..] else { panic!("three jobs") };
    {
        let queue = open(folder.path());
        let dedup = Dedup { key: "aa".to_owned(), fingerprint: "f".to_owned(), keep: LONG };
        let batch = Batch { jobs: vec![ended.clone()], group: None, dedup: Some(dedup) };
        queue.push(batch).await.unwrap();
        let lease = take(&queue, &line()).await;
        queue.settle(&lease.token, Verdict::Finish(ending(ended))).await.unwrap();
        add(&queue, delayed).await;
        let lease = take(&queue, &line()).await;
        queue.settle(&lease.token, Verdict::Back { after: LONG, progress: None }).await.unwrap();
        add(&queue, waiting).await;
    }
    let queue = open(folder.path());
    let depths = queue.depths().await.unwrap();
    assert_eq!((depths.open, depths.leased, depths.delayed), (2, 0, 1));
    assert_eq!(take(&queue, &line()).await.token.id, waiting.id.to_string());
    assert_eq!(take(&queue, &Line::Deliver).await.token.id, ended.id.to_string());
    assert_eq!(stage(&queue, &delayed.id).await, Stage::Queued);
    let dedup = Dedup { key: "aa".to_owned(), fingerprint: "f".to_owned(), keep: LONG };
    let batch = Batch { jobs: vec![waiting.clone()], group: None, dedup: Some(dedup) };
    let repeated = Pushed::Repeated { id: ended.id.to_string() };
    assert_eq!(queue.push(batch).await.unwrap(), repeated);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_survives_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    let jobs = jobs(2);
    let [run, waiting] = &jobs[..] else { panic!("two jobs") };
    add(&queue, run).await;
    let lease = take(&queue, &line()).await;
    queue.settle(&lease.token, Verdict::Finish(ending(run))).await.unwrap();
    add(&queue, waiting).await;

    let copy = crashed(folder.path());
    let after = open(copy.path());
    assert_eq!(stage(&after, &run.id).await, Stage::Delivering);
    assert_eq!(take(&after, &Line::Deliver).await.token.id, run.id.to_string());
    assert_eq!(take(&after, &line()).await.token.id, waiting.id.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_held_when_the_process_ended_are_back_in_line_with_a_loss() {
    let folder = tempfile::tempdir().unwrap();
    let jobs = jobs(1);
    add(&open(folder.path()), &jobs[0]).await;
    for losses in 0..MOST_LOSSES {
        let queue = open(folder.path());
        let lease = take(&queue, &line()).await;
        assert_eq!(lease.losses, losses);
    }
    let queue = open(folder.path());
    assert!(queue.lease(&line(), 1, LONG).await.unwrap().is_empty());
    assert_eq!(queue.sweep(10).await.unwrap().lost, [jobs[0].id.clone()]);
    assert_eq!(queue.depths().await.unwrap().leased, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_that_ran_all_it_may_when_the_process_ended_runs_again() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    let share = Some(Share { max_running: Some(1), ..Share::default() });
    for job in jobs(3) {
        add(&queue, &Job { share, ..job }).await;
    }
    take(&queue, &line()).await;
    assert!(queue.lease(&line(), 1, LONG).await.unwrap().is_empty());
    drop(queue);
    let queue = open(folder.path());
    take(&queue, &line()).await;
    assert!(queue.lease(&line(), 1, LONG).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_what_begins_alike_nothing_is_left_however_it_left_its_line() {
    type Alike = redb::TableDefinition<
        'static,
        (&'static str, &'static str, &'static str, &'static str),
        (),
    >;
    type Warm =
        redb::TableDefinition<'static, (&'static str, &'static str), (&'static str, u64, u32)>;
    let folder = tempfile::tempdir().unwrap();
    let left = |queue: EmbeddedQueue| {
        drop(queue);
        let database = redb::Database::open(folder.path().join("queue.redb")).unwrap();
        let read = database.begin_read().unwrap();
        let alike = read.open_table(Alike::new("alike")).unwrap().len().unwrap();
        (alike, read.open_table(Warm::new("warm")).unwrap().len().unwrap())
    };
    let prefix = Some(CachedPrefix::of(&["x"], LONG));
    let jobs: Vec<Job> =
        jobs(5).into_iter().map(|job| Job { prefix: prefix.clone(), ..job }).collect();
    let queue = open(folder.path());
    for job in &jobs {
        add(&queue, job).await;
    }
    queue.end(&jobs[4].id, ending(&jobs[4])).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(take(&queue, &line()).await);
    }
    queue.settle(&held[0].token, Verdict::back(Duration::ZERO)).await.unwrap();
    queue.settle(&held[1].token, Verdict::back(LONG)).await.unwrap();
    assert_eq!(left(queue), (2, 0), "one put back and one that waits");

    // The third is freed at the start.
    let queue = open(folder.path());
    assert_eq!(left(queue), (3, 0));
    let queue = open(folder.path());
    queue.settle(&held[2].token, Verdict::Finish(ending(&jobs[2]))).await.unwrap();
    take(&queue, &line()).await;
    assert_eq!(left(queue), (1, 1), "one was answered, one is held and one waits");
    let queue = open(folder.path());
    for job in &jobs {
        queue.end(&job.id, ending(job)).await.unwrap();
    }
    assert_eq!(left(queue), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_soon_on_disk_so_that_a_job_that_kills_its_process_is_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    let jobs = jobs(1);
    add(&queue, &jobs[0]).await;
    take(&queue, &line()).await;
    eventually("the lease is on disk", || async {
        let copy = crashed(folder.path());
        // A copy made while the file is written may be torn; the next one is not.
        let Ok(after) = EmbeddedQueue::open(copy.path(), clock()) else { return false };
        take(&after, &line()).await.losses == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settle_from_before_the_restart_still_counts_until_the_job_is_leased_again() {
    let folder = tempfile::tempdir().unwrap();
    let jobs = jobs(1);
    let lease = {
        let queue = open(folder.path());
        add(&queue, &jobs[0]).await;
        take(&queue, &line()).await
    };
    let queue = open(folder.path());
    queue.settle(&lease.token, Verdict::Finish(ending(&jobs[0]))).await.unwrap();
    assert_eq!(stage(&queue, &jobs[0].id).await, Stage::Delivering);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_has_one_owner() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    let second = EmbeddedQueue::open(folder.path(), clock()).err().expect("it is refused");
    let expected = "another spillway uses this folder";
    assert_eq!(second.to_string(), expected);
    queue.ping().await.unwrap();
    drop(queue);
    open(folder.path()).ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_pushes_share_their_flushes_and_all_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    let jobs = jobs(500);
    futures::future::join_all(jobs.iter().map(|job| add(&queue, job))).await;
    let copy = crashed(folder.path());
    let after = open(copy.path());
    let ids: Vec<JobId> = jobs.iter().map(|job| job.id.clone()).collect();
    assert_eq!(after.find_all(&ids).await.unwrap().len(), 500);
    drop(queue);
    let queue = open(folder.path());
    assert_eq!(queue.find_all(&ids).await.unwrap().len(), 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_with_nothing_to_do_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    add(&queue, &jobs(1)[0]).await;
    let read = || fs::read(folder.path().join("queue.redb")).unwrap();
    let before = read();
    for _ in 0..20 {
        queue.sweep(100).await.unwrap();
        queue.ping().await.unwrap();
    }
    assert!(read() == before, "the file changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_whose_caller_went_away_is_taken_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    let jobs = jobs(1);
    let batch = Batch { jobs: jobs.clone(), group: None, dedup: None };
    let mut push = queue.push(batch);
    assert!(futures::poll!(push.as_mut()).is_pending());
    drop(push);
    eventually("the job is stored", || async { queue.find(&jobs[0].id).await.unwrap().is_some() })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_a_newer_layout_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let facts: redb::TableDefinition<'_, &str, u64> = redb::TableDefinition::new("facts");
    {
        let database = redb::Database::open(folder.path().join("queue.redb")).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(facts).unwrap().insert("schema", 99).unwrap();
        transaction.commit().unwrap();
    }
    let fault = EmbeddedQueue::open(folder.path(), clock()).err().expect("it is refused");
    assert!(fault.to_string().contains("layout 99"), "{fault}");
}

#[test]
fn a_folder_that_cannot_be_made_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    let fault = EmbeddedQueue::open(&file.join("store"), clock()).err();
    assert!(matches!(fault, Some(QueueError::Unavailable(_))), "{fault:?}");
}

#[test]
fn a_full_disk_is_told_and_costs_nothing_that_was_answered() {
    // A limit on the size of files stands for the disk. It is a process', so it needs one.
    let name = "queue_embedded::in_a_process_with_little_room";
    let script = r#"trap "" XFSZ; ulimit -S -f 4096; exec "$0" --exact --ignored "$1""#;
    let program = std::env::current_exe().unwrap();
    let child = Command::new("bash").args(["-c", script]).arg(program).arg(name).output().unwrap();
    let told = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && told.contains("1 passed"), "{told}");
}

#[ignore = "the test above starts it"]
#[tokio::test(flavor = "multi_thread")]
async fn in_a_process_with_little_room() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    let text = serde_json::to_string(&"x".repeat(100_000)).unwrap();
    let job = |job: Job| Job { input: RawValue::from_string(text.clone()).unwrap(), ..job };
    let mut taken = Vec::new();
    for job in jobs(500).into_iter().map(job) {
        let batch = Batch { jobs: vec![job.clone()], group: None, dedup: None };
        match queue.push(batch).await {
            Ok(_) => taken.push(job.id),
            Err(fault) => {
                assert!(matches!(fault, QueueError::Full), "{fault:?}");
                break;
            }
        }
    }
    assert!((1..500).contains(&taken.len()), "{}", taken.len());
    // Nothing that was answered is lost, and small steps may or may not find room.
    eventually("what was taken can be read", || async {
        queue.find_all(&taken).await.is_ok_and(|found| found.len() == taken.len())
    })
    .await;

    let process = std::process::id().to_string();
    let room = Command::new("prlimit").args(["--fsize=unlimited", "--pid", &process]).status();
    assert!(room.unwrap().success());
    let job = jobs(1).remove(0);
    eventually("there is room again", || async {
        let batch = Batch { jobs: vec![job.clone()], group: None, dedup: None };
        queue.push(batch).await.is_ok()
    })
    .await;
    drop(queue);
    taken.push(job.id);
    let found = open(folder.path()).find_all(&taken).await.unwrap();
    assert_eq!(found.len(), taken.len());
}

#[tokio::test]
async fn nobody_else_may_read_the_store_whatever_its_folder_and_file_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("queue.redb");
    let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    let mode = || fs::metadata(&file).unwrap().permissions().mode() & 0o777;
    set(folder.path(), 0o755).unwrap();
    drop(open(folder.path()));
    assert_eq!(mode(), 0o600, "made");
    set(&file, 0o644).unwrap();
    drop(open(folder.path()));
    assert_eq!(mode(), 0o600, "found");
}
