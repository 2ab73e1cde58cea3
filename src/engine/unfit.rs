//! An answer that does not fit its task's output schema.

use serde::{Deserialize, Serialize};

use crate::domain::schema::Violation;

/// Violations told in one sentence.
const TOLD: usize = 5;

/// An answer that does not fit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Unfit {
    /// What the model wrote.
    pub(super) text: String,
    /// In which ways it does not fit.
    pub(super) violations: Vec<Violation>,
    /// Whether it is JSON at all.
    pub(super) is_json: bool,
    /// Whether it ended at its cap.
    pub(super) cut: bool,
    /// Whether the provider broke it off: no fault of the model's.
    #[serde(default)]
    pub(super) broken: bool,
}

/// A repair turn that is to be taken.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Repair {
    /// The step that gave the answer.
    pub(super) step: String,
    /// The answer.
    pub(super) unfit: Unfit,
}

impl Unfit {
    /// What is wrong with the answer as a whole.
    pub(super) fn whole(detail: &str) -> Self {
        let violation = Violation { pointer: "#".to_owned(), detail: detail.to_owned() };
        Self { violations: vec![violation], ..Self::default() }
    }

    /// In a sentence, for people.
    pub(super) fn told(&self) -> String {
        let cut = if self.cut { "It was cut at its output cap. " } else { "" };
        let told = lines(&self.violations, TOLD).join("; ");
        format!("The answer does not fit what the task promises. {cut}{told}")
    }

    /// Whether it is nearer to what was asked for.
    pub(super) fn is_better_than(&self, other: &Self) -> bool {
        let rank = |unfit: &Self| (!unfit.is_json, unfit.violations.len());
        rank(self) < rank(other)
    }
}

/// One line each, and how many more there are.
pub(super) fn lines(violations: &[Violation], most: usize) -> Vec<String> {
    let mut told: Vec<String> =
        violations.iter().take(most).map(|v| format!("{}: {}", v.pointer, v.detail)).collect();
    if violations.len() > most {
        told.push(format!("and {} more", violations.len() - most));
    }
    told
}
