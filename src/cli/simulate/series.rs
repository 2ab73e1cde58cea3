//! What the chart draws: counts by lane in equal intervals, and bucket levels.

use super::run::{Outcome, Sample, Seen};
use crate::domain::job::Lane;

/// The lanes as they lie on each other in the chart, the lowest first.
pub(super) const LANES: [Lane; 3] = Lane::ALL;

/// Points of one line of levels.
const POINTS: usize = 300;

/// Something drawn.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    /// The place of its colour.
    pub(super) colour: usize,
    pub(super) points: Vec<(f64, f64)>,
    /// Filled down to zero.
    pub(super) is_filled: bool,
}

/// Counts in intervals, for each lane.
pub(super) struct Series {
    pub(super) arrivals: [Vec<f64>; 3],
    pub(super) departures: [Vec<f64>; 3],
    /// Jobs that wait at the end of each interval.
    pub(super) backlog: [Vec<f64>; 3],
}

impl Series {
    /// Counts what happened from the first arrival to the end.
    pub(super) fn of(outcome: &Outcome, end: f64, interval: f64) -> Self {
        let places = place(end, interval) + 1;
        let empty = || [(); 3].map(|()| vec![0.0; places]);
        let (mut arrivals, mut departures, mut changes) = (empty(), empty(), empty());
        for job in &outcome.jobs {
            let (from, to) = job.waited();
            add(&mut arrivals, job, place(from, interval), 1.0);
            add(&mut changes, job, place(from, interval), 1.0);
            add(&mut changes, job, place(to, interval), -1.0);
        }
        for call in &outcome.calls {
            if let Some(job) = outcome.jobs.get(call.row) {
                add(&mut departures, job, place(outcome.since(call.at), interval), 1.0);
            }
        }
        let backlog = changes.map(|changes| {
            let sums = changes.iter().scan(0.0, |sum, change| {
                *sum += change;
                Some(*sum)
            });
            sums.collect()
        });
        Self { arrivals, departures, backlog }
    }
}

fn add(counts: &mut [Vec<f64>; 3], job: &Seen, place: usize, more: f64) {
    let lane = LANES.iter().position(|lane| *lane == job.lane);
    let count = lane.and_then(|lane| counts.get_mut(lane)).and_then(|lane| lane.get_mut(place));
    if let Some(count) = count {
        *count += more;
    }
}

/// The interval a moment lies in.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, which is what is wanted"
)]
fn place(at: f64, interval: f64) -> usize {
    (at / interval).floor() as usize
}

/// Stairs that lie on each other, the highest first, so that each hides the rest of the one before.
pub(super) fn steps(counts: &[Vec<f64>; 3], interval: f64) -> Vec<Layer> {
    let mut sums = vec![0.0; counts.iter().map(Vec::len).max().unwrap_or_default()];
    let mut layers = Vec::new();
    for (colour, lane) in counts.iter().enumerate() {
        for (sum, count) in sums.iter_mut().zip(lane) {
            *sum += count;
        }
        if lane.iter().all(|count| *count <= 0.0) {
            continue;
        }
        let mut points = Vec::with_capacity(2 * sums.len());
        let mut left = 0.0;
        for sum in &sums {
            points.extend([(left, *sum), (left + interval, *sum)]);
            left += interval;
        }
        layers.push(Layer { colour, points, is_filled: true });
    }
    layers.reverse();
    layers
}

/// A line's height, name and points.
type Line = (f64, String, Vec<(f64, f64)>);

/// The highest lines of levels with their names, thinned out to what can be seen.
pub(super) fn heights(
    samples: &[Sample],
    end: f64,
    names: Vec<String>,
    most: usize,
) -> Vec<(String, Layer)> {
    #[expect(clippy::cast_precision_loss, reason = "a count of points")]
    let width = end / POINTS as f64;
    let mut lines: Vec<Line> = names
        .into_iter()
        .enumerate()
        .map(|(index, name)| {
            let level = |sample: &Sample| sample.levels.get(index).copied().unwrap_or_default();
            let points = thinned(samples, width, level);
            (points.iter().map(|(_, level)| level).sum(), name, points)
        })
        .collect();
    lines.sort_by(|a, b| b.0.total_cmp(&a.0));
    lines.truncate(most);
    let layer = |(colour, (_, name, points))| (name, Layer { colour, points, is_filled: false });
    lines.into_iter().enumerate().map(layer).collect()
}

/// The averages of samples that lie closer together than this.
fn thinned(samples: &[Sample], width: f64, level: impl Fn(&Sample) -> f64) -> Vec<(f64, f64)> {
    samples
        .chunk_by(|a, b| place(a.at, width) == place(b.at, width))
        .filter_map(|chunk| {
            #[expect(clippy::cast_precision_loss, reason = "a count of samples")]
            let count = chunk.len() as f64;
            Some((chunk.first()?.at, chunk.iter().map(&level).sum::<f64>() / count))
        })
        .collect()
}
