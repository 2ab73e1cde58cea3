//! In which order a job wants the steps of its route.

use super::choice::{Partition, ProviderChoice, Sort, SortBy};
use super::route::{Route, Step};
use super::speed::Pace;

/// What is known of a step now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Known {
    /// What a thousand tokens either way cost.
    pub price: Option<f64>,
    /// How fast it is.
    pub pace: Pace,
}

/// The part of jobs for which a step that is not known well goes first, so that it becomes known.
const CURIOUS: f64 = 0.03;

/// The steps a job may use, in the order it wants them. `lot` is what chance has dealt the job:
/// the same lot always leads to the same order. Without one, weights do not count. Steps that do
/// not fit what is asked are left out before all else.
///
/// As OpenRouter has it, `order` or `sort` turn drawing by weight off; `order` goes before `sort`,
/// and what is preferred orders, but leaves nothing out.
pub fn walk<'a>(
    route: &'a Route,
    (choice, lot): (Option<&ProviderChoice>, Option<u64>),
    known: impl Fn(&Step) -> Known,
    fits: impl Fn(&Step) -> bool,
) -> Vec<&'a Step> {
    let mut steps: Vec<&Step> = route.steps.iter().filter(|step| fits(step)).collect();
    let none = ProviderChoice::default();
    let choice = choice.unwrap_or(&none);
    steps.retain(|step| {
        (choice.only.is_empty() || named(&choice.only, step)) && !named(&choice.ignore, step)
    });
    if let Some(sort) = choice.sort.or(route.rules.sort) {
        sorted(&mut steps, sort, lot, &known);
    } else if let Some(lot) = lot.filter(|_| choice.order.is_empty()) {
        draw(route, &mut steps, lot);
    }
    prefer(&mut steps, choice, &known);
    let rank = |step: &Step| choice.order.iter().position(|name| is(name, step));
    steps.sort_by_key(|step| rank(step).unwrap_or(usize::MAX));
    if choice.allow_fallbacks == Some(false) {
        if choice.order.is_empty() {
            steps.truncate(1);
        } else {
            steps.retain(|step| rank(step).is_some());
        }
    }
    steps
}

/// Whether chance has a say in the order.
pub fn by_chance(route: &Route, choice: Option<&ProviderChoice>) -> bool {
    let sorted = route.rules.sort.is_some() || choice.is_some_and(|choice| choice.sort.is_some());
    sorted || route.rules.of_steps.values().any(|terms| terms.weight.is_some())
}

/// Whether a name means a step: its provider, or its account.
pub fn is(name: &str, step: &Step) -> bool {
    name.eq_ignore_ascii_case(&step.provider) || name == step.account
}

fn named(names: &[String], step: &Step) -> bool {
    names.iter().any(|name| is(name, step))
}

/// Neighbours that have a weight are drawn from: one is the first, the others follow it in drawn
/// order, each with a chance by its weight among those left.
fn draw(route: &Route, steps: &mut [&Step], lot: u64) {
    let weight = |step: &Step| route.terms(step).weight;
    for rank in steps.chunk_by_mut(|a, b| weight(a).is_some() && weight(b).is_some()) {
        // The least of exponential variates with these rates: each is the first by its weight.
        let key = |step: &Step| {
            let rate = f64::from(weight(step).unwrap_or(1));
            if rate > 0.0 { -share(lot, &step.name()).ln() / rate } else { f64::MAX }
        };
        rank.sort_by(|a, b| key(a).total_cmp(&key(b)));
    }
}

/// The best first. What is not known well comes last, and first for a few jobs.
fn sorted(steps: &mut Vec<&Step>, sort: Sort, lot: Option<u64>, known: &impl Fn(&Step) -> Known) {
    if sort.partition == Partition::Model {
        let all = std::mem::take(steps);
        for step in &all {
            if steps.iter().any(|before| before.model == step.model) {
                continue;
            }
            let mut alike: Vec<&Step> =
                all.iter().filter(|other| other.model == step.model).copied().collect();
            sorted(&mut alike, Sort::all(sort.by), lot, known);
            steps.extend(alike);
        }
        return;
    }
    // The time to the first token tells how long somebody waits; where not all steps are
    // asked by stream, it is the whole answer that can be compared.
    let streamed = steps.iter().map(|step| known(step).pace);
    let streamed = streamed.filter(|pace| pace.latency.is_some()).all(|p| p.first_token.is_some());
    let rank = |step: &Step| {
        let Known { price, pace } = known(step);
        match sort.by {
            SortBy::Price => price,
            SortBy::Latency if streamed => pace.first_token.map(|spread| spread.median()),
            SortBy::Latency => pace.latency.map(|spread| spread.median()),
            SortBy::Throughput => pace.throughput.map(|spread| -spread.median()),
        }
    };
    let curious = sort.by != SortBy::Price && lot.is_some_and(|lot| share(lot, "") < CURIOUS);
    let unknown = if curious { f64::MIN } else { f64::MAX };
    let ranked = |step: &Step| rank(step).unwrap_or(unknown);
    steps.sort_by(|a, b| ranked(a).total_cmp(&ranked(b)));
}

/// Steps known to be slower than preferred go behind the others.
fn prefer(steps: &mut [&Step], choice: &ProviderChoice, known: &impl Fn(&Step) -> Known) {
    if let Some(most) = &choice.preferred_max_latency {
        steps.sort_by_key(|step| {
            let pace = known(step).pace;
            let seen = pace.first_token.or(pace.latency);
            seen.is_some_and(|seen| !most.hold(&seen, |seen, most| seen <= most))
        });
    }
    if let Some(least) = &choice.preferred_min_throughput {
        steps.sort_by_key(|step| {
            let seen = known(step).pace.throughput;
            seen.is_some_and(|seen| !least.hold(&seen, |seen, least| seen >= least))
        });
    }
}

/// A share above 0 and up to 1 that lot and name lead to, the same each time.
fn share(lot: u64, name: &str) -> f64 {
    let mixed = name.bytes().fold(mix(lot), |state, byte| mix(state ^ u64::from(byte)));
    #[expect(clippy::cast_precision_loss, reason = "53 bits are what a double holds")]
    let share = ((mix(mixed) >> 11) + 1) as f64 / (1_u64 << 53) as f64;
    share
}

/// `SplitMix64`'s step.
const fn mix(state: u64) -> u64 {
    let z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
