//! Orders as a job wants them.

use std::collections::HashMap;
use std::time::Duration;

use super::super::choice::{Cutoffs, EachCutoff};
use super::super::route::{Rules, Terms};
use super::super::speed::{Histogram, Spread, bucket_of};
use super::*;

fn step(text: &str) -> Step {
    let (provider, model) = text.split_once('/').unwrap_or((text, "m"));
    Step {
        account: format!("{provider}-main"),
        provider: provider.to_owned(),
        model: model.to_owned(),
    }
}

fn route(steps: &[(&str, Option<u32>)]) -> Route {
    let terms = |weight| Terms { weight, ..Terms::default() };
    let of_steps = steps.iter().map(|(name, weight)| (step(name), terms(*weight))).collect();
    Route {
        name: "r".to_owned(),
        steps: steps.iter().map(|(name, _)| step(name)).collect(),
        patience: [Duration::ZERO; 3],
        rules: Rules { of_steps, ..Rules::default() },
    }
}

fn plain(names: &[&str]) -> Route {
    let steps: Vec<_> = names.iter().map(|name| (*name, None)).collect();
    route(&steps)
}

fn names(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

fn spread(value: f64) -> Option<Spread> {
    let mut seen = Histogram::default();
    seen.add(bucket_of(value), 10);
    seen.spread()
}

fn order_of(
    route: &Route,
    choice: &ProviderChoice,
    lot: Option<u64>,
    known: &HashMap<&str, Known>,
) -> String {
    let known = |step: &Step| known.get(step.provider.as_str()).copied().unwrap_or_default();
    let walked = walk(route, (Some(choice), lot), known, |step| step.model != "unfit");
    walked.iter().map(|step| step.provider.as_str()).collect::<Vec<_>>().join(" ")
}

fn walked(choice: &ProviderChoice) -> String {
    order_of(&plain(&["a", "b", "c"]), choice, Some(1), &HashMap::new())
}

#[test]
fn a_job_may_reorder_and_narrow_its_route() {
    let order = ProviderChoice { order: names("C b-main"), ..Default::default() };
    assert_eq!(walked(&order), "c b a");
    let only = ProviderChoice { only: names("b c"), ignore: names("c"), ..Default::default() };
    assert_eq!(walked(&only), "b");
    assert_eq!(walked(&ProviderChoice::default()), "a b c");
}

#[test]
fn without_fallbacks_only_those_in_order_serve_else_only_the_first() {
    let strict = ProviderChoice { allow_fallbacks: Some(false), ..Default::default() };
    assert_eq!(walked(&strict), "a");
    let order = ProviderChoice { order: names("c x b"), ..strict.clone() };
    assert_eq!(walked(&order), "c b");
    let nobody = ProviderChoice { order: names("x"), ..strict };
    assert_eq!(walked(&nobody), "");
}

#[test]
fn what_does_not_fit_is_no_first_step_either() {
    let strict = ProviderChoice { allow_fallbacks: Some(false), ..Default::default() };
    let route = plain(&["a/unfit", "b", "c"]);
    assert_eq!(order_of(&route, &strict, None, &HashMap::new()), "b");
}

#[test]
fn the_first_is_drawn_by_weight_and_the_others_follow() {
    let route = route(&[("a", Some(6)), ("b", Some(3)), ("c", Some(1)), ("d", None), ("e", None)]);
    let none = ProviderChoice::default();
    let mut firsts: HashMap<char, u32> = HashMap::new();
    let mut seconds: HashMap<char, u32> = HashMap::new();
    for lot in 0..10_000 {
        let order = order_of(&route, &none, Some(lot), &HashMap::new());
        assert_eq!(
            order,
            order_of(&route, &none, Some(lot), &HashMap::new()),
            "the same each time"
        );
        assert!(order.ends_with("d e"), "{order}");
        let mut letters = order.chars().filter(|letter| *letter != ' ');
        *firsts.entry(letters.next().unwrap()).or_default() += 1;
        if order.starts_with('a') {
            *seconds.entry(letters.next().unwrap()).or_default() += 1;
        }
    }
    for (letter, expected) in [('a', 6_000), ('b', 3_000), ('c', 1_000)] {
        assert!(firsts[&letter].abs_diff(expected) < 200, "{firsts:?}");
    }
    let share = f64::from(seconds[&'b']) / f64::from(firsts[&'a']);
    assert!((share - 0.75).abs() < 0.03, "{share}");
    let ordered = ProviderChoice { order: names("b"), ..none };
    assert_eq!(order_of(&route, &ordered, Some(7), &HashMap::new()), "b a c d e");
    assert_eq!(order_of(&route, &ProviderChoice::default(), None, &HashMap::new()), "a b c d e");
}

#[test]
fn steps_are_sorted_by_what_is_known_of_them() {
    let priced = |price, latency, throughput| Known {
        price,
        pace: Pace { latency, throughput, ..Pace::default() },
    };
    let known = HashMap::from([
        ("a", priced(Some(3.0), spread(1.0), spread(50.0))),
        ("b", priced(Some(1.0), spread(3.0), spread(90.0))),
        ("c", priced(None, None, None)),
        ("d", priced(Some(2.0), spread(0.5), spread(10.0))),
    ]);
    let route = plain(&["a", "b", "c", "d"]);
    let by = |by| {
        let choice = ProviderChoice { sort: Some(Sort::all(by)), ..Default::default() };
        order_of(&route, &choice, Some(1), &known)
    };
    assert_eq!(by(SortBy::Price), "b d a c");
    assert_eq!(by(SortBy::Latency), "d a b c");
    assert_eq!(by(SortBy::Throughput), "b a d c");
    let own = Route {
        rules: Rules { sort: Some(Sort::all(SortBy::Price)), ..Rules::default() },
        ..route.clone()
    };
    assert_eq!(order_of(&own, &ProviderChoice::default(), None, &known), "b d a c");
    let both = ProviderChoice { order: names("a"), ..Default::default() };
    assert_eq!(order_of(&own, &both, None, &known), "a b d c", "`order` goes before `sort`");
}

#[test]
fn what_is_not_known_is_tried_now_and_then() {
    let fast = Known { pace: Pace { latency: spread(0.1), ..Pace::default() }, price: None };
    let known = HashMap::from([("a", fast)]);
    let sort = Some(Sort::all(SortBy::Latency));
    let choice = ProviderChoice { sort, ..Default::default() };
    let route = plain(&["a", "b"]);
    let tried = (0..10_000).filter(|lot| order_of(&route, &choice, Some(*lot), &known) == "b a");
    let tried = tried.count();
    assert!((200..400).contains(&tried), "{tried}");
}

#[test]
fn models_keep_their_order_when_sorting_is_within_each() {
    let route = plain(&["a/big", "b/small", "c/big", "d/small"]);
    let of = |price| Known { price: Some(price), ..Known::default() };
    let known = HashMap::from([("a", of(4.0)), ("b", of(2.0)), ("c", of(3.0)), ("d", of(1.0))]);
    let sort = |partition| {
        let sort = Some(Sort { by: SortBy::Price, partition });
        order_of(&route, &ProviderChoice { sort, ..Default::default() }, None, &known)
    };
    assert_eq!(sort(Partition::Model), "c a d b");
    assert_eq!(sort(Partition::None), "d b c a");
}

#[test]
fn the_first_token_counts_where_all_are_streamed() {
    let of = |first, whole| Known {
        pace: Pace { first_token: first, latency: spread(whole), ..Pace::default() },
        price: None,
    };
    let choice = ProviderChoice { sort: Some(Sort::all(SortBy::Latency)), ..Default::default() };
    let route = plain(&["a", "b"]);
    let streamed = HashMap::from([("a", of(spread(0.5), 1.0)), ("b", of(spread(0.1), 9.0))]);
    assert_eq!(order_of(&route, &choice, None, &streamed), "b a");
    let mixed = HashMap::from([("a", of(None, 1.0)), ("b", of(spread(0.1), 9.0))]);
    assert_eq!(order_of(&route, &choice, None, &mixed), "a b");
}

#[test]
fn the_slow_go_behind_but_are_not_left_out() {
    let of = |latency, throughput| Known {
        pace: Pace { latency: spread(latency), throughput: spread(throughput), first_token: None },
        price: None,
    };
    let known = HashMap::from([("a", of(5.0, 80.0)), ("b", of(1.0, 10.0))]);
    let route = plain(&["a", "b", "c"]);
    let order = |choice: &ProviderChoice| order_of(&route, choice, None, &known);
    let quick = Some(Cutoffs::Median(2.0));
    assert_eq!(
        order(&ProviderChoice { preferred_max_latency: quick, ..Default::default() }),
        "b c a"
    );
    let each = EachCutoff { p50: Some(9.0), p99: Some(4.0), ..EachCutoff::default() };
    let each = Some(Cutoffs::Each(each));
    assert_eq!(
        order(&ProviderChoice { preferred_max_latency: each, ..Default::default() }),
        "b c a"
    );
    let much = Some(Cutoffs::Median(50.0));
    let much = ProviderChoice { preferred_min_throughput: much, ..Default::default() };
    assert_eq!(order(&much), "a c b");
}
