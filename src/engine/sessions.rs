//! Sessions stay where their prompt is cached. Steps of a route that name the same model at several
//! accounts, one after another, are a group: within it, whoever has the longest beginning of the
//! prompt comes first, and a conversation nobody knows goes where there is room.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::Engine;
use super::catalog::Target;
use super::load::{Outlook, free_tenths};
use super::tie::{Tie, alike};
use super::warm::Leader;
use super::work::Work;
use crate::domain::completion::Usage;
use crate::domain::job::Lane;
use crate::domain::route::Step;
use crate::limiter::Obstacle;
use crate::memory::Known;
use crate::telemetry::metrics;

/// How long what was looked up holds.
const FRESH: Duration = Duration::from_secs(1);

/// Of a limit's burst, in tenths: an account with more than this free has room.
const ROOM: u64 = 5;

/// The longest that anybody waits for another to write what both begin with.
const LONGEST_HOLD: Duration = Duration::from_secs(15);

/// How soon to look again whether that has happened.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Where a call's prompt is cached, and for how long still.
#[derive(Default)]
pub(super) struct Homes {
    cached: HashMap<String, (u64, Duration)>,
}

impl Homes {
    /// How many of its tokens a step has cached.
    pub(super) fn cached(&self, step: &str) -> u64 {
        self.cached.get(step).map_or(0, |(tokens, _)| *tokens)
    }

    /// Whether any step has some of it cached.
    pub(super) fn any(&self) -> bool {
        !self.cached.is_empty()
    }
}

impl Engine {
    /// Where a call's prompt is cached, and the steps in the order that follows from it.
    pub(super) async fn at_home<'a>(
        &self,
        work: &Work,
        mut steps: Vec<&'a Step>,
    ) -> (Vec<&'a Step>, Homes) {
        let tie = &work.tie;
        if !tie.has_choice() {
            return (steps, Homes::default());
        }
        let keys = tie.keys();
        let places: Vec<String> = work.route.steps.iter().map(Step::name).collect();
        let known = self.known(tie, &keys, &places).await;
        let homes = self.homes(tie, &known, &keys, &places);
        let outlook = self.load.outlook();
        for group in steps.chunk_by_mut(|a, b| alike(a, b)) {
            if group.len() > 1 {
                let at = Group { tie, known: &known, keys: &keys, places: &places, homes: &homes };
                self.arrange(group, &at, &outlook);
            }
        }
        (steps, homes)
    }

    /// What all replicas know of these keys. Without it a call goes where there is room.
    async fn known(&self, tie: &Tie, keys: &[String], places: &[String]) -> Arc<Known> {
        let now = self.clock.now();
        let looked = tie.looked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((at, known)) = looked
            && (now - at).to_std().unwrap_or_default() < FRESH
        {
            return known;
        }
        let known = Arc::new(self.bindings.look(keys, places).await.unwrap_or_else(|fault| {
            metrics::store_error("bindings");
            tracing::warn!(%fault, "where a session is cached could not be looked up");
            Known::default()
        }));
        let fresh = Some((now, Arc::clone(&known)));
        *tie.looked.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        known
    }

    fn homes(&self, tie: &Tie, known: &Known, keys: &[String], places: &[String]) -> Homes {
        let mut cached: HashMap<String, (u64, Duration)> = HashMap::new();
        let now = self.clock.now();
        for (key, bound) in keys.iter().zip(&known.bound) {
            let tokens = tie.prefix(key).map_or(0, |prefix| prefix.tokens);
            for bound in bound {
                let home = cached.entry(bound.place.clone()).or_default();
                if tokens >= home.0 {
                    *home = (tokens, bound.left.max(home.1));
                }
            }
        }
        // What was seen here a moment ago may not have come around yet.
        for prefix in &tie.prefixes {
            for place in places {
                if self.warmth.is_warm(&prefix.digest, place, now) {
                    let home = cached.entry(place.clone()).or_default();
                    *home = (home.0.max(prefix.tokens), home.1.max(Duration::from_secs(1)));
                }
            }
        }
        Homes { cached }
    }

    /// Orders steps of the same model at several accounts.
    fn arrange(&self, group: &mut [&Step], at: &Group<'_>, outlook: &Outlook) {
        let home = group.iter().map(|step| (self.bound_at(at, step), step.name())).max();
        let home = home.filter(|(how, _)| *how > Closeness::default()).map(|(_, name)| name);
        let org = |step: &Step| self.catalog.target(step).map(|t| t.org_gate().to_owned());
        let home_org = group.iter().find(|step| Some(step.name()) == home).and_then(|s| org(s));
        let mut ranked: Vec<(Rank, &Step)> = group
            .iter()
            .map(|step| {
                let name = step.name();
                let near = match (&home, &home_org) {
                    (Some(home), _) if *home == name => 0,
                    // Accounts of one org share its cache.
                    (_, Some(_)) if org(step) == home_org => 1,
                    _ => 2,
                };
                (Rank { near, ..self.room_at(at, step, outlook) }, *step)
            })
            .collect();
        ranked.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (place, (_, step)) in group.iter_mut().zip(ranked) {
            *place = step;
        }
    }

    /// How a step is tied to the conversation itself.
    fn bound_at(&self, at: &Group<'_>, step: &Step) -> Closeness {
        let name = step.name();
        let mut how = Closeness::default();
        for (key, bound) in at.keys.iter().zip(&at.known.bound) {
            let own = at.tie.prefix(key).is_none_or(|prefix| !prefix.shared);
            for bound in bound.iter().filter(|bound| own && bound.place == name) {
                let tokens = at.tie.prefix(key).map_or(0, |prefix| prefix.tokens);
                let named =
                    if at.tie.session.as_ref() == Some(key) { bound.left } else { Duration::ZERO };
                how.session = how.session.max(named);
                (how.tokens, how.left) = (how.tokens, how.left).max((tokens, bound.left));
            }
        }
        let now = self.clock.now();
        let own = at.tie.prefixes.iter().filter(|prefix| !prefix.shared).map(|p| &p.digest);
        for key in own.chain(&at.tie.session) {
            let led = self.warmth.leader(key, &name).is_some();
            how.led |= led || self.warmth.is_warm(key, &name, now);
        }
        how
    }

    /// How much room there is at a step.
    fn room_at(&self, at: &Group<'_>, step: &Step, outlook: &Outlook) -> Rank {
        let name = step.name();
        let now = self.clock.now();
        let target = self.catalog.target(step);
        let free = target.as_ref().map_or(0, |target| free_tenths(target, outlook));
        let bound = at.places.iter().position(|place| *place == name);
        let bound = bound.and_then(|index| at.known.sessions.get(index)).copied().unwrap_or(0);
        let cached = at.homes.cached(&name);
        let whole = at.tie.prefixes.last().map_or(0, |prefix| prefix.tokens);
        let mostly = at.tie.session.is_none() && cached * 2 >= whole.max(1);
        Rank {
            near: 0,
            shut: target.is_some_and(|target| outlook.open_at(&target) > now),
            crowd: ROOM.saturating_sub(free),
            elsewhere: !mostly,
            sessions: bound + self.warmth.led_to(&name),
            lacks: cached == 0,
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a share of 2^32"
            )]
            chance: (self.chance.share() * f64::from(u32::MAX)) as u32,
        }
    }

    /// How long it pays to wait for a step that has the prompt cached rather than to send it
    /// anew to another: while waiting costs less than the reading saves, and it stays cached.
    pub(super) fn worth_waiting(
        &self,
        work: &Work,
        target: &Target,
        homes: &Homes,
        by: &Obstacle,
    ) -> Duration {
        let step = target.step.name();
        let Some((tokens, left)) = homes.cached.get(&step).copied() else {
            return Duration::ZERO;
        };
        // An account whose key is refused and a step that keeps failing cannot serve.
        if matches!(by, Obstacle::Gate(gate) if !target.limit_gates().contains(&gate.as_str())) {
            return Duration::ZERO;
        }
        let saves = self.miss_costs(&target.step, tokens).unwrap_or(0.0);
        let worth = self.time_worth(work.job.lane, saves);
        let worth = worth.saturating_sub(work.tie.waited(self.clock.now()));
        worth.min(left).min(work.tie.may_wait.unwrap_or(Duration::MAX))
    }

    /// How long to wait for another call that writes at this step what this one begins with.
    /// `None` when there is none, or when that does not pay.
    pub(super) fn held_back(&self, work: &Work, step: &Step) -> Option<Duration> {
        let tie = &work.tie;
        let (name, now) = (step.name(), self.clock.now());
        let (prefix, leader) = tie.prefixes.iter().rev().find_map(|prefix| {
            let leader = self.warmth.leader(&prefix.digest, &name)?;
            let others = leader.job != work.job.id.as_str();
            (others && !leader.begun).then_some((prefix, leader))
        })?;
        if self.warmth.is_warm(&prefix.digest, &name, now) {
            return None;
        }
        let saves = self.miss_costs(step, prefix.tokens)?;
        let worth = self.time_worth(work.job.lane, saves).min(LONGEST_HOLD);
        let worth = worth.min(tie.may_wait.unwrap_or(Duration::MAX));
        let held = (now - leader.since).to_std().unwrap_or_default();
        let pace = self.paces.of(&name);
        let usual = pace.first_token.or(pace.latency).map(|usual| usual.median());
        let usual = usual.and_then(|usual| Duration::try_from_secs_f64(usual).ok());
        let pays = held < worth && usual.is_none_or(|usual| usual.saturating_sub(held) < worth);
        pays.then(|| LOOK_AGAIN.min(worth.saturating_sub(held)).max(Duration::from_millis(1)))
    }

    /// From now on this call writes what it begins with, as far as nobody has.
    pub(super) fn lead(&self, work: &mut Work, target: &Target) {
        let (now, place) = (self.clock.now(), target.step.name());
        let tie = &work.tie;
        let cold = |key: &String| !self.warmth.is_warm(key, &place, now);
        let bond = tie.bond(&place, target.writes(&work.prompt));
        let keys = bond.keys.into_iter().filter(cold).collect::<Vec<_>>();
        if keys.is_empty() {
            return;
        }
        let leader = Leader { job: work.job.id.to_string(), since: now, begun: false };
        work.tie.lead = Some(self.warmth.lead(keys, &place, &leader));
    }

    /// A call was answered: its prompt is cached there, and whoever goes on with it finds it.
    pub(super) fn bind(&self, work: &Work, target: &Target) {
        let tie = &work.tie;
        if tie.is_loose() {
            return;
        }
        let bond = tie.bond(&target.step.name(), target.writes(&work.prompt));
        self.warmth.warmed(&bond.keys, &bond.place, self.clock.now(), tie.time);
        if !tie.has_choice() {
            return;
        }
        let (bindings, lead) = (Arc::clone(&self.bindings), tie.lead.clone());
        self.lifecycle.spawn(async move {
            if let Err(fault) = bindings.bind(&bond).await {
                metrics::store_error("bindings");
                tracing::warn!(%fault, "a session could not be bound to its account");
            }
            drop(lead);
        });
    }

    /// Counts what was read from caches and what that saved.
    pub(super) fn saved(&self, step: &Step, usage: Option<&Usage>) {
        let Some(usage) = usage else { return };
        let names = (step.provider.as_str(), step.model.as_str());
        let saved = self.catalog.prices().saved(names, usage, self.clock.now());
        let (read, written) = (usage.cached_input_tokens, usage.cache_write_tokens);
        if let Some(saved) = saved.filter(|_| read + written > 0) {
            metrics::cache_saved(&step.account, &step.model, saved);
        }
        let ratio = self.warmth.hit_ratio(&step.account, usage.input_tokens, read);
        metrics::cache_hit_ratio(&step.account, ratio);
    }

    /// What it costs, in USD, to send so many tokens anew that are cached; `None` when no price is
    /// known.
    fn miss_costs(&self, step: &Step, tokens: u64) -> Option<f64> {
        let names = (step.provider.as_str(), step.model.as_str());
        self.catalog.prices().miss(names, tokens, self.clock.now())
    }

    /// How long somebody in this lane would rather wait than spend so much.
    fn time_worth(&self, lane: Lane, usd: f64) -> Duration {
        let hour = self.settings.sessions.hour_usd.of(lane);
        Duration::try_from_secs_f64((usd / hour * 3_600.0).max(0.0)).unwrap_or(Duration::MAX)
    }
}

/// What is known of a call's group of steps.
struct Group<'a> {
    tie: &'a Tie,
    known: &'a Known,
    keys: &'a [String],
    places: &'a [String],
    homes: &'a Homes,
}

/// How a step is tied to a conversation: the more, the nearer.
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Closeness {
    /// For how long still the named session is bound to it: the last one to answer first.
    session: Duration,
    /// The longest beginning it has.
    tokens: u64,
    /// For how long still.
    left: Duration,
    /// A call of the same conversation is under way there, or was a moment ago.
    led: bool,
}

/// Where a conversation goes: the least first.
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    near: u8,
    shut: bool,
    crowd: u64,
    elsewhere: bool,
    sessions: u64,
    lacks: bool,
    chance: u32,
}
