//! Each kind of limit: every axis, a day's amount, a ramp.

use std::sync::Arc;
use std::time::Duration;

use rstest::rstest;
use spillway::domain::limits::{CachedInput, Cost, LimitSettings, Pool};
use spillway::domain::units::{Growth, Rate, TimeOfDay};
use spillway::limiter::{Ask, Turn};

use super::{Bench, Kind, ask, ms};

fn pool(settings: &LimitSettings) -> Arc<Pool> {
    Arc::new(settings.pool("acme"))
}

#[rstest]
#[tokio::test]
async fn every_axis_binds(
    #[values(Kind::Local, Kind::Redis)] kind: Kind,
    #[values("r", "i", "o", "t")] axis: &str,
) {
    let bench = Bench::new(kind).await;
    let rate = |key, text| Rate::parse(if key == axis { text } else { "100000000/min" });
    let pool = pool(&LimitSettings {
        requests: rate("r", "600/min"),
        input_tokens: rate("i", "60000/min"),
        output_tokens: rate("o", "12000/min"),
        tokens: rate("t", "72000/min"),
        ..LimitSettings::default()
    });
    for asked in 0..300 {
        let call = Ask { cost: Cost::call(100, 20), ..ask(&asked.to_string(), &[&pool]) };
        if bench.wait(&call).await.is_none() {
            bench.pass(ms(50));
        }
    }
    let at = pool.buckets.iter().position(|bucket| bucket.key() == axis).unwrap();
    for (index, level) in bench.stands(&pool).await.buckets.iter().enumerate() {
        assert_eq!(level.units >= level.burst * 0.8, index == at, "{axis} {index} {level:?}");
    }
}

#[rstest]
#[tokio::test]
async fn a_days_amount_comes_back_evenly_or_at_its_time(
    #[values(Kind::Local, Kind::Redis)] kind: Kind,
    #[values(None, Some("08:00"))] resets: Option<&str>,
) {
    let bench = Bench::new(kind).await;
    let pool = pool(&LimitSettings {
        requests_per_day: Some(4),
        day_resets: resets.and_then(TimeOfDay::parse),
        ..LimitSettings::default()
    });
    for id in ["a", "b", "c", "d"] {
        bench.granted(&ask(id, &[&pool])).await;
    }
    // The clock shows midnight; one call comes back in six hours, all of them at eight.
    let hours = if resets.is_some() { 8 } else { 6 };
    bench.pass(Duration::from_secs(hours * 3_600 - 2));
    let patient = Ask { horizon: ms(1_999), ..ask("e", &[&pool]) };
    assert_eq!(bench.wait(&patient).await, None);
    bench.pass(ms(1_999));
    // Nothing is taken ahead of a reset: it would count before and leave after.
    assert_eq!(bench.wait(&patient).await.is_some(), resets.is_none());
    bench.pass(ms(1));
    if resets.is_some() {
        for id in ["e", "f", "g", "h"] {
            bench.granted(&ask(id, &[&pool])).await;
        }
    }
    assert_eq!(bench.wait(&ask("i", &[&pool])).await, None);
}

#[rstest]
#[tokio::test]
async fn a_ramp_never_grows_faster_than_the_provider_bears_also_after_pauses(
    #[values(Kind::Local, Kind::Redis)] kind: Kind,
) {
    let bench = Bench::new(kind).await;
    let pool = pool(&LimitSettings {
        requests: Rate::parse("1200/min"),
        ramp: Growth::parse("2x/10s from 10%"),
        ..LimitSettings::default()
    });
    let (mut now, mut left) = (0.0, Vec::<f64>::new());
    for (busy, idle) in [(60.0, 3.0), (20.0, 1.0), (30.0, 20.0), (60.0, 0.0)] {
        let until = now + busy;
        while now < until {
            let call = ask(&left.len().to_string(), &[&pool]);
            let wait = match bench.take(&call).await {
                Turn::Granted { wait, .. } => {
                    left.push(now + wait.as_secs_f64());
                    bench.settle(&call).await;
                    wait
                }
                Turn::NotBefore { wait, .. } => wait,
            };
            bench.pass(wait);
            now += wait.as_secs_f64();
        }
        bench.pass(Duration::from_secs_f64(idle));
        now += idle;
    }
    let within = |from: f64, to: f64| left.iter().filter(|at| **at > from && **at <= to).count();
    for at in &left {
        let (before, recent) = (within(at - 20.0, at - 10.0), within(at - 10.0, *at));
        let allowed = 2 * before.max(20);
        assert!(recent <= allowed, "{recent} after {before} at {at}");
    }
    let end = within(now - 10.0, now);
    assert!(end > 180, "only {end} in the last ten seconds");
}

#[rstest]
#[tokio::test]
async fn cached_input_counts_or_not(
    #[values(Kind::Local, Kind::Redis)] kind: Kind,
    #[values(CachedInput::Free, CachedInput::Counted)] cached_input: CachedInput,
) {
    let bench = Bench::new(kind).await;
    let pool = pool(&LimitSettings {
        input_tokens: Rate::parse("600000/min"),
        cached_input: Some(cached_input),
        ..LimitSettings::default()
    });
    let cost = Cost { cached: 300.0, ..Cost::call(500, 0) };
    bench.granted(&Ask { cost, ..ask("a", &[&pool]) }).await;
    let counted = if cached_input == CachedInput::Free { 200.0 } else { 500.0 };
    assert!((bench.level(&pool).await - counted).abs() < 1e-9);
}
