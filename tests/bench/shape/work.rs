//! The jobs of a run, and limits under which a chosen axis binds.

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::arrivals::count;

/// What a provider counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Axis {
    /// Calls.
    Requests,
    /// Tokens sent.
    InputTokens,
    /// Tokens received.
    OutputTokens,
}

impl Axis {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Requests, Self::InputTokens, Self::OutputTokens];

    /// Its name in settings.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::InputTokens => "input_tokens",
            Self::OutputTokens => "output_tokens",
        }
    }
}

/// Jobs in one request.
const IN_A_GROUP: usize = 100;

/// What the other axes have beyond what the binding one lets through.
const ROOM: f64 = 1.6;

/// The shortest and the longest prompt, in tokens.
const INPUT: (f64, f64) = (50.0, 2_000.0);

/// The shortest and the longest answer, in tokens.
pub(crate) const OUTPUT: [u32; 2] = [20, 400];

/// One job.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// Its workflow.
    pub(crate) workflow: String,
    /// Its lane.
    pub(crate) lane: &'static str,
    /// Tokens of its prompt.
    pub(crate) input_tokens: usize,
}

impl Job {
    /// A small background job.
    pub(crate) fn small(workflow: String) -> Self {
        Self { workflow, lane: "standard", input_tokens: 50 }
    }

    /// The job as it is submitted. Its results are posted to `callback`, where there is one.
    pub(crate) fn body(&self, callback: Option<&str>) -> Value {
        json!({
            "task": "work", "input": text(self.input_tokens), "workflow": self.workflow,
            "lane": self.lane, "callback_url": callback,
        })
    }
}

/// Jobs whose prompts are of very different lengths, short ones being more frequent, of several
/// workflows. The same every time.
pub(crate) fn varied(jobs: usize, workflows: usize) -> Vec<Job> {
    let job = |number| Job {
        workflow: format!("workflow-{}", number % workflows),
        lane: "standard",
        input_tokens: input_tokens(number),
    };
    (0..jobs).map(job).collect()
}

/// The tokens of the prompt with this number: evenly distributed by their logarithm.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "50 to 2,000")]
pub(crate) fn input_tokens(number: usize) -> usize {
    (INPUT.0 * (INPUT.1 / INPUT.0).powf(share(number))).round() as usize
}

/// The tokens of the average answer.
pub(crate) fn usual_output() -> f64 {
    f64::midpoint(OUTPUT[0].into(), OUTPUT[1].into())
}

/// A prompt of so many tokens, as Spillway and the scripted provider guess them.
pub(crate) fn text(tokens: usize) -> String {
    let sentence = "The invoice was charged twice and the customer asks for her money back. ";
    sentence.chars().cycle().take((tokens * 4).saturating_sub(16).max(1)).collect()
}

/// Between zero and one, by this number: `SplitMix64`.
pub(crate) fn share(number: usize) -> f64 {
    let mut mixed = u64::try_from(number)
        .unwrap_or_default()
        .wrapping_add(1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let high = u32::try_from((mixed ^ (mixed >> 31)) >> 32).unwrap_or_default();
    f64::from(high) / f64::from(u32::MAX)
}

/// The requests that submit these jobs.
pub(crate) fn groups(jobs: &[Job], callback: Option<&str>) -> Vec<Value> {
    let group = |jobs: &[Job]| {
        let jobs: Vec<Value> = jobs.iter().map(|job| job.body(callback)).collect();
        json!({ "jobs": jobs })
    };
    jobs.chunks(IN_A_GROUP).map(group).collect()
}

/// What a provider lets through in a minute.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    per_minute: [f64; 3],
}

impl Limits {
    /// Lets through so many of these jobs a second by one axis; the others have room.
    pub(crate) fn binding(axis: Axis, jobs: &[Job], per_second: f64, factor: f64) -> Self {
        let number = count(jobs.len()).max(1.0);
        let sent: f64 = jobs.iter().map(|job| count(job.input_tokens)).sum::<f64>() * factor;
        let each = [1.0, sent / number, usual_output()];
        let mut per_minute = each.map(|units| units * per_second * 60.0);
        for (other, units) in Axis::ALL.into_iter().zip(&mut per_minute) {
            let room = if other == axis { 1.0 } else { ROOM };
            *units = (*units * room).round();
        }
        Self { per_minute }
    }

    /// These, so many times as high.
    pub(crate) fn times(self, factor: f64) -> Self {
        Self { per_minute: self.per_minute.map(|units| (units * factor).round()) }
    }

    /// Units a second on an axis.
    pub(crate) fn per_second(self, axis: Axis) -> f64 {
        let [requests, input, output] = self.per_minute;
        let units = match axis {
            Axis::Requests => requests,
            Axis::InputTokens => input,
            Axis::OutputTokens => output,
        };
        units / 60.0
    }

    /// As settings write them: `requests = "8000/min"`.
    pub(crate) fn settings(self) -> Vec<(&'static str, String)> {
        let each = Axis::ALL.into_iter().zip(self.per_minute);
        each.map(|(axis, units)| (axis.name(), format!("{units:.0}/min"))).collect()
    }

    /// As an account's limits.
    pub(crate) fn toml(self) -> String {
        let lines =
            self.settings().into_iter().map(|(name, rate)| format!("{name} = \"{rate}\"\n"));
        lines.collect()
    }
}
