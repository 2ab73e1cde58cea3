//! Nothing lets in more than it may, and whoever comes back when told finds room.

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::*;
use crate::domain::units::Span;

const SECOND: i64 = 1_000_000;

/// When, and what.
type Admitted = Vec<(i64, Units)>;

fn settings(text: &str) -> Settings {
    toml::from_str(text).unwrap()
}

fn units(input: u64, output: u64) -> Units {
    Units { input, output }
}

/// Each call comes after a pause; one that is refused comes back when told, and is let in.
fn run(settings: &Settings, calls: &[(u32, u16, u16)]) -> Result<Admitted, TestCaseError> {
    let (mut limits, mut now, mut admitted) = (Limits::new(settings), SECOND, Vec::new());
    for (pause, input, output) in calls {
        now += i64::from(*pause);
        let units = units(u64::from(*input), u64::from(*output));
        if let Some(limited) = limits.take(units, now) {
            let wait = limited.wait.expect("no call is too large here");
            prop_assert_eq!(wait.as_micros() % 1_000, 0);
            now += micros(wait);
            prop_assert_eq!(limits.take(units, now), None, "after {:?}", wait);
        }
        admitted.push((now, units));
    }
    Ok(admitted)
}

/// What was let in from one moment to another, both included.
fn sum(admitted: &Admitted, axis: Axis, from: i64, to: i64) -> u64 {
    let within = admitted.iter().filter(|(at, _)| (from..=to).contains(at));
    within.map(|(_, units)| units.of(axis)).sum()
}

fn no_window_holds_more(
    admitted: &Admitted,
    axis: Axis,
    rate: &str,
    length: &str,
) -> Result<(), TestCaseError> {
    let (rate, length) = (Rate::parse(rate).unwrap(), Span::parse(length).unwrap().0);
    let most = units_in(rate, length);
    for (at, _) in admitted {
        let seen = sum(admitted, axis, at - micros(length), *at);
        prop_assert!(seen <= most, "{seen} {axis:?} up to {at}, not {most}");
    }
    Ok(())
}

/// In any stretch of time at most what the bucket holds and what the rate brings.
fn no_stretch_holds_more(
    admitted: &Admitted,
    axis: Axis,
    rate: &str,
    size: f64,
) -> Result<(), TestCaseError> {
    let rate = Rate::parse(rate).unwrap().per_second() / 1e6;
    for (index, (from, _)) in admitted.iter().enumerate() {
        let mut seen = 0.0;
        for (to, units) in &admitted[index..] {
            seen += float(units.of(axis));
            let allowed = size + rate * float((to - from).unsigned_abs());
            prop_assert!(seen <= allowed + 1e-6, "{seen} {axis:?} from {from} to {to}");
        }
    }
    Ok(())
}

fn nothing_grows_faster(
    admitted: &Admitted,
    axis: Axis,
    rate: &str,
    growth: &str,
) -> Result<(), TestCaseError> {
    let (rate, growth) = (Rate::parse(rate).unwrap(), Growth::parse(growth).unwrap());
    let per = micros(growth.per);
    let floor = growth.from * rate.per_second() * growth.per.as_secs_f64();
    for (index, (at, units)) in admitted.iter().enumerate() {
        let until_now = admitted[..=index].to_vec();
        let recent = sum(&until_now, axis, at - per, *at);
        let before = sum(&until_now, axis, at - 2 * per, at - per - 1);
        let most = growth.factor * float(before).max(floor);
        // What takes nothing grows nothing, although what was let in before may have shrunk since.
        let alone = recent == units.of(axis) || units.of(axis) == 0;
        prop_assert!(alone || float(recent) <= most + 1e-6, "{recent} at {at}, not {most}");
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_bucket_on_each_axis(
        calls in prop::collection::vec((0u32..400_000, 0u16..100, 0u16..20), 1..80),
    ) {
        let admitted = run(&settings("
            requests = \"600/min\"\ninput_tokens = \"6000/min\"\noutput_tokens = \"1200/min\"
            tokens = \"7200/min\"\nrequests_per_day = 50\ntokens_per_day = 3000
        "), &calls)?;
        no_stretch_holds_more(&admitted, Axis::Requests, "600/min", 10.0)?;
        no_stretch_holds_more(&admitted, Axis::InputTokens, "6000/min", 100.0)?;
        no_stretch_holds_more(&admitted, Axis::OutputTokens, "1200/min", 20.0)?;
        no_stretch_holds_more(&admitted, Axis::Tokens, "7200/min", 120.0)?;
        no_stretch_holds_more(&admitted, Axis::Requests, "50/day", 50.0)?;
        no_stretch_holds_more(&admitted, Axis::Tokens, "3000/day", 3_000.0)?;
    }

    #[test]
    fn a_window_on_each_axis(
        calls in prop::collection::vec((0u32..3_000_000, 0u16..1_000, 0u16..500), 1..80),
    ) {
        let admitted = run(&settings("
            requests = \"50/min\"\ninput_tokens = \"20000/min\"\noutput_tokens = \"9000/min\"
            tokens = \"25000/min\"\nwindow = \"1m\"
        "), &calls)?;
        no_window_holds_more(&admitted, Axis::Requests, "50/min", "1m")?;
        no_window_holds_more(&admitted, Axis::InputTokens, "20000/min", "1m")?;
        no_window_holds_more(&admitted, Axis::OutputTokens, "9000/min", "1m")?;
        no_window_holds_more(&admitted, Axis::Tokens, "25000/min", "1m")?;
    }

    #[test]
    fn growth_in_windows_and_in_buckets(
        calls in prop::collection::vec((0u32..1_500_000, 0u16..40, 0u16..40), 1..80),
        window in prop::bool::ANY,
    ) {
        let mut settings = settings("
            requests = \"300/min\"\ntokens = \"6000/min\"\nramp = \"2x/5s from 5%\"
        ");
        settings.window = window.then_some(Span::secs(20));
        let admitted = run(&settings, &calls)?;
        nothing_grows_faster(&admitted, Axis::Requests, "300/min", "2x/5s from 5%")?;
        nothing_grows_faster(&admitted, Axis::Tokens, "6000/min", "2x/5s from 5%")?;
        if window {
            no_window_holds_more(&admitted, Axis::Tokens, "6000/min", "20s")?;
        } else {
            no_stretch_holds_more(&admitted, Axis::Tokens, "6000/min", 100.0)?;
        }
    }
}

#[test]
fn a_days_amount_may_come_at_once_and_comes_back_evenly() {
    let mut limits = Limits::new(&settings("requests_per_day = 1000"));
    for _ in 0..1_000 {
        assert_eq!(limits.take(units(1, 1), SECOND), None);
    }
    let limited = limits.take(units(1, 1), SECOND).unwrap();
    assert_eq!(limited.short, Short::Rate(Axis::Requests, Period::Day));
    assert_eq!((limited.limit, limited.wait), (Some(1_000), Some(Duration::from_millis(86_400))));
    let told = limits.told(SECOND);
    assert_eq!((told[0].remaining, told[0].reset), (Some(0.0), Some(Period::Day.length())));
}

#[test]
fn tokens_count_both_ways() {
    let mut limits = Limits::new(&settings("tokens = \"6000/min\""));
    assert_eq!(limits.take(units(60, 40), SECOND), None);
    let limited = limits.take(units(1, 1), SECOND).unwrap();
    assert_eq!(limited.short, Short::Rate(Axis::Tokens, Period::Minute));
    assert_eq!(limited.wait, Some(Duration::from_millis(20)));
}

#[test]
fn what_no_window_holds_is_never_let_in() {
    let mut limits = Limits::new(&settings("input_tokens = \"600/min\"\nwindow = \"1m\""));
    let limited = limits.take(units(601, 0), SECOND).unwrap();
    assert_eq!(limited.short, Short::TooLarge(Axis::InputTokens, Period::Minute, 601));
    assert_eq!(limited.wait, None);
    assert_eq!(limits.take(units(600, 0), SECOND), None);
    let told = limits.told(2 * SECOND);
    assert_eq!(told[0].remaining, Some(0.0));
    assert_eq!(told[0].reset, Some(Duration::from_micros(59_000_001)));
    let limited = limits.take(units(1, 0), 2 * SECOND).unwrap();
    assert_eq!(limited.wait, Some(Duration::from_millis(59_001)));
}

#[test]
fn use_grows_as_far_as_it_may_and_falls_back_when_idle() {
    let mut limits = Limits::new(&settings("requests = \"6000/min\"\nramp = \"2x/10s\""));
    // In each 10 s whatever is let in of one call every 5 ms.
    let mut seen = Vec::new();
    let mut now = SECOND;
    for _ in 0..6 {
        let mut admitted = 0;
        for _ in 0..2_000 {
            admitted += u64::from(limits.take(units(1, 1), now).is_none());
            now += 5_000;
        }
        seen.push(admitted);
    }
    assert!(seen[0] <= 200 && seen[0] > 190, "{seen:?}");
    assert!(seen.windows(2).all(|two| two[1] <= 2 * two[0] + 1), "{seen:?}");
    assert!(seen[5] > 900, "{seen:?}");
    now += 30 * SECOND;
    let burst = (0..300).filter(|n| limits.take(units(1, 1), now + n * 10_000).is_none()).count();
    assert_eq!(burst, 200);
}

#[test]
fn both_ends_of_a_window_belong_to_it() {
    let mut limits = Limits::new(&settings("requests = \"2/min\"\nwindow = \"1m\""));
    let start = 7 * SECOND;
    for at in [start, start + 1] {
        assert_eq!(limits.take(units(1, 1), at), None);
    }
    let end = start + 60 * SECOND;
    let limited = limits.take(units(1, 1), end).unwrap();
    assert_eq!(limited.wait, Some(Duration::from_millis(1)));
    assert_eq!(limits.take(units(1, 1), end + 1), None);
    assert!(limits.take(units(1, 1), end + 1).is_some());
    assert_eq!(limits.take(units(1, 1), end + 2), None);
}
