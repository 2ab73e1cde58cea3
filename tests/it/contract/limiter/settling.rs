//! What is charged too much comes back, as far as it is still there.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rstest::rstest;
use spillway::domain::limits::{Axis, Cost};
use spillway::limiter::{Ask, End, Turn};

use super::{Bench, Kind, ask, minute, ms, pool, tried};

/// Calls as (charged, used, ms from the departure to the end, ms to the next call), none of which
/// uses more than it is charged.
fn calls() -> impl Strategy<Value = Vec<(f64, f64, u64, u64)>> {
    let call =
        (2..40u32, 0..100u32, 20..4_000u64, 0..150u64).prop_map(|(charged, part, time, pause)| {
            let charged = f64::from(charged);
            (charged, (charged * f64::from(part) / 100.0).ceil(), time, pause)
        });
    prop::collection::vec(call, 20..120)
}

/// A call that left: when it was granted its turn, when it left, in seconds, and what it used.
struct Left {
    granted: f64,
    at: f64,
    used: f64,
}

#[rstest]
#[case(Kind::Local)]
#[case(Kind::Redis)]
fn no_window_uses_more_than_allowed_however_much_was_charged_too_much(#[case] kind: Kind) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bench = runtime.block_on(Bench::new(kind));
    let (rate, burst) = (50.0, 60.0);
    let case = std::cell::Cell::new(0);
    let outcome = TestRunner::new(tried(kind)).run(&calls(), |calls| {
        case.set(case.get() + 1);
        let pool =
            pool(&format!("{}", case.get()), vec![minute(Axis::OutputTokens, rate, burst)], None);
        let mut now = 0;
        let mut under_way: Vec<(u64, Ask, End)> = Vec::new();
        let mut left = Vec::new();
        for (number, (charged, used, time, pause)) in calls.into_iter().enumerate() {
            let cost = Cost { requests: 1.0, output: charged, ..Cost::default() };
            let asked = Ask { cost, ..ask(&format!("{number}"), &[&pool]) };
            loop {
                let step = match runtime.block_on(bench.take(&asked)) {
                    Turn::Granted { wait, .. } => {
                        let waited = u64::try_from(wait.as_millis()).unwrap() + 1;
                        let used = Cost { output: used, ..cost };
                        let since = ms(waited + time);
                        let end = End { since, age: ms(time), ..End::used(used) };
                        let [granted, at] = [now, now + waited].map(|at| ms(at).as_secs_f64());
                        left.push(Left { granted, at, used: used.output });
                        under_way.push((now + waited + time, asked, end));
                        break;
                    }
                    Turn::NotBefore { .. } => 10,
                };
                now += step;
                bench.pass(ms(step));
                settle_until(&runtime, &bench, &mut under_way, now);
            }
            now += pause;
            bench.pass(ms(pause));
            settle_until(&runtime, &bench, &mut under_way, now);
        }
        left.sort_by(|a, b| a.at.total_cmp(&b.at));
        for from in 0..left.len() {
            let (mut sum, mut first) = (0.0, f64::INFINITY);
            for call in &left[from..] {
                sum += call.used;
                first = first.min(call.granted);
                // What comes back is no more than what was there when the first of these was
                // granted, which may be a while before it left.
                let allowed = burst + rate * (call.at - first + 0.001);
                prop_assert!(sum <= allowed + 1e-6, "{sum} > {allowed}");
            }
        }
        Ok(())
    });
    if let Err(fault) = outcome {
        panic!("{fault}");
    }
}

fn settle_until(
    runtime: &tokio::runtime::Runtime,
    bench: &Bench,
    under_way: &mut Vec<(u64, Ask, End)>,
    now: u64,
) {
    under_way.retain(|(at, ask, end)| {
        if *at > now {
            return true;
        }
        // Told a little late, as it is in life.
        let late = ms(now - at);
        let end = End { since: end.since + late, age: end.age + late, ..end.clone() };
        runtime.block_on(bench.limiter.settle(ask, &end)).unwrap();
        false
    });
}
