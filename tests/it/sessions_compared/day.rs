//! A working day of five developers with coding agents: when they call, and with what.
//!
//! Each developer works on their own project, so nobody shares a prefix with anybody else. A
//! conversation begins with 24,000 tokens of tools, instructions and opened files and grows by
//! about 1,500 with every call until it is left; most calls follow the answer before within seconds
//! to minutes, as an agent works, and somewhat less than a quarter comes after a pause that outlasts
//! the cache. How many do is fixed, when is chance.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use spillway::domain::prompt::{Message, Prompt, Role};

/// Developers.
pub(super) const DEVELOPERS: usize = 5;
/// Calls of each: 400 together.
pub(super) const CALLS: usize = 80;
/// Calls of one conversation.
const CONVERSATION: usize = 22;
/// Of these, so many of each developer come after a pause that outlasts the cache.
const PAUSES: [usize; DEVELOPERS] = [19; DEVELOPERS];

/// One developer's day.
pub(super) struct Day {
    chance: StdRng,
    /// The day is the same however often somebody must come back.
    late: StdRng,
    developer: usize,
    calls: usize,
    /// After which calls there is a pause.
    pauses: Vec<bool>,
    conversation: Vec<Message>,
    begun: usize,
}

impl Day {
    pub(super) fn new(developer: usize, seed: u64) -> Self {
        let seed = seed * 1_000 + u64::try_from(developer).unwrap();
        let mut chance = StdRng::seed_from_u64(seed);
        let mut pauses: Vec<bool> = (1..CALLS).map(|call| call <= PAUSES[developer]).collect();
        pauses.shuffle(&mut chance);
        let (late, conversation) = (StdRng::seed_from_u64(seed), Vec::new());
        Self { chance, late, developer, calls: 0, pauses, conversation, begun: 0 }
    }

    /// How long after the answer before the next call comes; `None` when the day is over.
    pub(super) fn pause(&mut self) -> Option<Duration> {
        self.calls += 1;
        if self.calls > CALLS {
            return None;
        }
        let even: f64 = self.chance.random();
        let seconds = if self.calls == 1 {
            600.0 * even
        } else if self.pauses[self.calls - 2] {
            // Reading, a meeting, lunch: five and a half minutes and more, seventeen in the mean.
            330.0 - 700.0 * (1.0 - even).ln()
        } else {
            // The agent's next step, or the developer's: eight seconds to four minutes.
            8.0 + 232.0 * even * even
        };
        Some(Duration::from_secs_f64(seconds))
    }

    /// What the calls are known by.
    pub(super) fn session(&self) -> String {
        format!("developer {}", self.developer)
    }

    /// How much later than told somebody comes back.
    pub(super) fn late(&mut self) -> Duration {
        Duration::from_secs_f64(30.0 * self.late.random::<f64>())
    }

    /// What is asked next.
    pub(super) fn prompt(&mut self) -> Prompt {
        if self.conversation.len() / 2 >= CONVERSATION || self.conversation.is_empty() {
            self.begun += 1;
            let opening = format!("files of task {} of {}", self.begun, self.developer);
            self.conversation = vec![Message::user(filled(&opening, 4_000))];
        } else {
            let step = self.conversation.len();
            self.say(Role::Assistant, &format!("answer {step}"), 470);
            let more = 300 + self.chance.random_range(0..1_460);
            self.say(Role::User, &format!("result {step}"), more);
        }
        let system = filled(&format!("tools and project of developer {}", self.developer), 20_000);
        Prompt {
            system: Some(system.into()),
            messages: self.conversation.clone(),
            max_output_tokens: 1_000,
            ..Prompt::default()
        }
    }

    fn say(&mut self, role: Role, what: &str, tokens: usize) {
        self.conversation.push(Message::new(role, filled(what, tokens)));
    }
}

/// A text of so many tokens that begins so.
fn filled(text: &str, tokens: usize) -> String {
    format!("{text}{}", "-".repeat((tokens * 4).saturating_sub(text.len())))
}
