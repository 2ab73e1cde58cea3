//! A second chance for inputs that do not fit their task as they came, but do when texts are read
//! as the numbers, lists and objects that the task's schema wants.

use super::coerce::{READ_AS_WANTED, fitted};
use super::reader::Manner;
use crate::engine::Engine;
use crate::engine::intake::{Accepted, GroupSubmission, IntakeError, Submission, Submitter};

type Taken = Result<(Accepted, Option<String>), IntakeError>;

/// Submits a job; tells when its input was read differently.
pub(super) async fn submit(
    engine: &Engine,
    from: Submitter,
    mut submission: Submission,
    manner: Manner,
) -> Taken {
    if manner.strict {
        return Ok((engine.submit(from, submission).await?, None));
    }
    // In a form an object has no other way to come than as text, and a text would fit as well.
    if manner.is_form && fit(engine, &mut submission, manner) {
        return Ok((engine.submit(from, submission).await?, None));
    }
    match engine.submit(from.clone(), submission.clone()).await {
        Err(IntakeError::InvalidInput { .. }) if fit(engine, &mut submission, manner) => {
            Ok((engine.submit(from, submission).await?, Some(READ_AS_WANTED.to_owned())))
        }
        done => Ok((done?, None)),
    }
}

/// Submits a group; tells when an input was read differently.
pub(super) async fn submit_group(
    engine: &Engine,
    from: Submitter,
    mut group: GroupSubmission,
    manner: Manner,
) -> Taken {
    if manner.strict {
        return Ok((engine.submit_group(from, group).await?, None));
    }
    if manner.is_form && fit_all(engine, &mut group, manner) {
        return Ok((engine.submit_group(from, group).await?, None));
    }
    match engine.submit_group(from.clone(), group.clone()).await {
        Err(IntakeError::InGroup { fault, .. })
            if matches!(*fault, IntakeError::InvalidInput { .. })
                && fit_all(engine, &mut group, manner) =>
        {
            Ok((engine.submit_group(from, group).await?, Some(READ_AS_WANTED.to_owned())))
        }
        done => Ok((done?, None)),
    }
}

fn fit_all(engine: &Engine, group: &mut GroupSubmission, manner: Manner) -> bool {
    let fitted = |job: &mut Submission| fit(engine, job, manner);
    group.jobs.iter_mut().map(fitted).filter(|fitted| *fitted).count() > 0
}

fn fit(engine: &Engine, submission: &mut Submission, manner: Manner) -> bool {
    let task = engine.catalog().task(&submission.task);
    let read = task.and_then(|task| fitted(&submission.input, task, manner.is_form));
    let fits = read.is_some();
    if let Some(input) = read {
        submission.input = input;
    }
    fits
}
