//! Prompts that are longer than a model's window: they go to a step whose window holds them.

use std::sync::Arc;

use super::Engine;
use super::work::Work;
use crate::domain::route::Step;

impl Engine {
    /// What prompt and answer may have together, when some step that may serve the job is known to
    /// hold it: narrower steps are then passed over. Otherwise nobody is, for it is an estimate.
    pub(super) fn tokens_held(&self, work: &Work, steps: &[&Step]) -> Option<u64> {
        let tokens = work.input_tokens.saturating_add(work.prompt.max_output_tokens.into());
        let holds = |step: &&&Step| self.window(step).is_some_and(|window| window >= tokens);
        let left = steps.iter().filter(|step| !work.progress.unservable.contains(&step.name()));
        left.clone().any(|step| self.is_narrower(step, tokens)).then_some(())?;
        left.clone().find(holds).map(|_| tokens)
    }

    /// Whether a step is known not to hold so many tokens.
    pub(super) fn is_narrower(&self, step: &Step, tokens: u64) -> bool {
        self.window(step).is_some_and(|window| window < tokens)
    }

    /// A step said that the prompt is too long. The same model says so everywhere, and so does every
    /// one whose window is not larger.
    pub(super) fn too_long_for(&self, work: &mut Work, step: &Step) {
        let window = self.window(step);
        let route = Arc::clone(&work.route);
        let steps = self.steps(&route, &work.wish());
        let as_narrow = steps.into_iter().filter(|other| {
            let same = (&other.provider, &other.model) == (&step.provider, &step.model);
            same || window.is_some_and(|window| self.is_narrower(other, window + 1))
        });
        let names: Vec<String> = as_narrow.map(Step::name).collect();
        let progress = &mut work.progress;
        for name in names {
            if !progress.unservable.contains(&name) {
                progress.unservable.push(name);
            }
        }
        progress.too_long_for = progress.too_long_for.max(Some(window.unwrap_or(0)));
    }

    fn window(&self, step: &Step) -> Option<u64> {
        self.catalog.target(step)?.window
    }
}
