//! A task's contract: its answer fits its schema, or the job says that none did.
//!
//! An answer that does not fit is followed by one repair turn at the same step; then by the task's
//! `escalate_to` route, walked from its first step with a repair turn of its own; without such a
//! route by the next step of the same one. The other steps of a route come last because they are
//! there for providers in trouble: they are of one strength, and what one of them cannot say the
//! next rarely can. An answer cut at its cap would be cut again: it gets no repair turn.

use std::sync::Arc;

use serde_json::Value;

use super::Engine;
use super::next::Next;
use super::unfit::{Repair, Unfit, lines};
use super::work::Work;
use crate::domain::completion::{Completion, Finish};
use crate::domain::lenient::readings;
use crate::domain::prompt::{Message, Prompt, Role};
use crate::domain::route::{Route, Step};
use crate::domain::schema::{Schema, Violation};
use crate::telemetry::metrics;

/// What an answer is worth.
pub(super) enum Judged {
    /// Usable, with its data when the task has an output schema.
    Good(Option<Value>),
    /// The model or a filter declined.
    Refused(String),
    /// It does not fit the task's output schema.
    Unfit(Unfit),
}

/// Violations told to the model, which is to mend all of them.
const TOLD_TO_MODEL: usize = 30;

/// Judges an answer.
pub(super) fn judge(work: &Work, answer: &Completion) -> Judged {
    if matches!(answer.finish, Finish::Refusal | Finish::ContentFilter) {
        let said = if answer.text.is_empty() { "no reason was given" } else { &answer.text };
        return Judged::Refused(format!("The model declined: {said}"));
    }
    if answer.finish == Finish::Error {
        let unfit = Unfit::whole("The provider broke off the answer.");
        return Judged::Unfit(Unfit { broken: true, ..unfit });
    }
    match &work.task.output {
        Some(schema) if answer.tool_calls.is_empty() || !offers_tools(&work.prompt) => {
            match read(schema, answer) {
                Ok(data) => Judged::Good(Some(data)),
                Err(unfit) => Judged::Unfit(unfit),
            }
        }
        _ if is_nothing(answer) => Judged::Unfit(Unfit::whole("The answer is empty.")),
        _ => Judged::Good(None),
    }
}

/// Whether the model may ask for tools instead of answering.
fn offers_tools(prompt: &Prompt) -> bool {
    let own = prompt.native.as_ref().map(|native| &native.body);
    let offered = |name: &str| own.is_some_and(|body| body.contains_key(name));
    !prompt.tools.is_empty() || offered("tools") || offered("functions")
}

fn is_nothing(answer: &Completion) -> bool {
    answer.text.is_empty() && answer.tool_calls.is_empty() && answer.images.is_empty()
}

/// The answer as data: of its readings the first that fits, or in what the nearest one does not.
fn read(schema: &Schema, answer: &Completion) -> Result<Value, Unfit> {
    let cut = matches!(answer.finish, Finish::Length | Finish::ContextFull);
    let mut nearest: Option<Vec<Violation>> = None;
    for value in readings(&answer.text, cut) {
        let violations = schema.violations(&value);
        if violations.is_empty() {
            return Ok(value);
        }
        if nearest.as_ref().is_none_or(|known| violations.len() < known.len()) {
            nearest = Some(violations);
        }
    }
    let is_json = nearest.is_some();
    let violations = nearest.unwrap_or_else(|| {
        let nothing = answer.text.trim().is_empty();
        Unfit::whole(if nothing { "The answer is empty." } else { "The answer is not JSON." })
            .violations
    });
    Err(Unfit { text: answer.text.clone(), violations, is_json, cut, broken: false })
}

/// The prompt of a repair turn: the model's own answer, and what is wrong with it.
fn repairing(plain: &Prompt, unfit: &Unfit) -> Prompt {
    let wrong = lines(&unfit.violations, TOLD_TO_MODEL).join("\n- ");
    let asked = format!(
        "Your answer does not fit the JSON Schema it must fit:\n- {wrong}\n\nAnswer again with the \
         corrected JSON only: the whole document, no explanation, no code fence."
    );
    let mut messages = plain.messages.clone();
    messages.push(Message::new(Role::Assistant, unfit.text.clone()));
    messages.push(Message::user(asked));
    Prompt { messages, native: None, ..plain.clone() }
}

impl Work {
    /// The step whose answer is to be repaired, when one is.
    pub(super) fn repairing(&self) -> Option<&str> {
        self.progress.repair.as_ref().map(|repair| repair.step.as_str())
    }

    /// Makes the prompt what the next call sends.
    pub(super) fn word(&mut self) {
        if let Some(plain) = self.plain.take() {
            self.prompt = plain;
        }
        if let Some(repair) = &self.progress.repair {
            let worded = repairing(&self.prompt, &repair.unfit);
            self.plain = Some(std::mem::replace(&mut self.prompt, worded));
        }
        self.input_tokens = u64::from(self.prompt.estimated_input_tokens());
    }

    fn set_repair(&mut self, repair: Option<Repair>) {
        if repair.is_some() || self.progress.repair.is_some() {
            self.progress.repair = repair;
            self.word();
        }
    }
}

impl Engine {
    /// What follows an answer that does not fit.
    pub(super) fn unfit(&self, work: &mut Work, step: &Step, unfit: Unfit) -> Next {
        work.progress.failures += 1;
        if work.task.output.is_none() || unfit.broken {
            return Next::Step;
        }
        let says_something = !unfit.text.trim().is_empty();
        let best = work.progress.unfit.as_ref();
        if says_something && best.is_none_or(|best| unfit.is_better_than(best)) {
            work.progress.unfit = Some(unfit.clone());
        }
        if says_something && !unfit.cut && !work.progress.repaired {
            work.progress.repaired = true;
            metrics::repaired(&work.task.name);
            work.set_repair(Some(Repair { step: step.name(), unfit }));
            return Next::Again;
        }
        self.beyond(work, step.name())
    }

    /// This step is done with: escalates, or goes on to the next one.
    fn beyond(&self, work: &mut Work, step: String) -> Next {
        work.set_repair(None);
        if !work.progress.unservable.contains(&step) {
            work.progress.unservable.push(step);
        }
        self.onward(work)
    }

    /// To the escalation route, or else to the next step.
    pub(super) fn onward(&self, work: &Work) -> Next {
        if self.escalation(work).is_some() { Next::Escalate } else { Next::Step }
    }

    /// Gives up a repair turn that cannot be had.
    pub(super) fn without_repair(&self, work: &mut Work) -> Next {
        match work.progress.repair.take() {
            Some(repair) => {
                work.word();
                self.beyond(work, repair.step)
            }
            None => Next::Step,
        }
    }

    /// Has the work walk its task's escalation route from now on, when there is one.
    pub(super) fn escalate(&self, work: &mut Work) {
        let Some(route) = self.escalation(work) else { return };
        metrics::escalated(&work.task.name);
        tracing::info!(job.id = %work.job.id, task = work.task.name, route = route.name, "escalated");
        work.progress.escalated = true;
        work.progress.repaired = false;
        let lot = self.lot(&route, work.job.provider.as_ref());
        work.progress.lot = lot.or(work.progress.lot);
        work.route = route;
    }

    /// The task's escalation route, as far as it leads anywhere else.
    fn escalation(&self, work: &Work) -> Option<Arc<Route>> {
        let route = self.catalog.route(work.task.escalate_to.as_ref()?)?;
        let open = |step: &&Step| !work.progress.unservable.contains(&step.name());
        let leads_on = !work.progress.escalated
            && route.name != work.route.name
            && self.steps(route, &work.wish()).iter().any(open);
        leads_on.then(|| Arc::clone(route))
    }

    /// Takes up again what a job that was put back has begun: its escalation and its repair.
    pub(super) fn resume(&self, work: &mut Work) {
        if work.progress.escalated {
            let named = work.task.escalate_to.as_ref().and_then(|name| self.catalog.route(name));
            match named {
                Some(route) => work.route = Arc::clone(route),
                None => work.progress.escalated = false,
            }
        }
        if work.progress.repair.is_some() {
            work.word();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Schema {
        Schema::compile(json!({
            "type": "object", "required": ["tags"], "additionalProperties": false,
            "properties": { "tags": { "type": "array", "items": { "type": "string" } } },
        }))
        .unwrap()
    }

    fn answer(text: &str, finish: Finish) -> Completion {
        Completion { text: text.to_owned(), finish, ..Completion::default() }
    }

    #[test]
    fn an_answer_is_read_leniently_and_held_strictly() {
        let read = |text: &str| read(&schema(), &answer(text, Finish::Stop));
        for text in ["{\"tags\":[]}", "```json\n{\"tags\":[],}\n```", "See [1]. {'tags': []} Bye!"]
        {
            assert_eq!(read(text), Ok(json!({ "tags": [] })), "{text}");
        }
        let unfit = read("{\"tags\":[1, 2]}").unwrap_err();
        assert_eq!((unfit.violations.len(), unfit.is_json), (2, true));
        assert!(unfit.told().contains("#/tags/0"), "{}", unfit.told());
        assert!(read("{}").is_err(), "no default is made up");
        assert!(read("{\"tags\":\"a\"}").is_err(), "nothing is turned into a list");
        let prose = read("Sure! Here you go").unwrap_err();
        assert!(prose.told().contains("not JSON") && unfit.is_better_than(&prose));
        assert!(!prose.is_better_than(&unfit));
    }

    #[test]
    fn what_was_cut_is_not_completed() {
        let text = "{\"tags\":[\"a\"";
        assert!(read(&schema(), &answer(text, Finish::Stop)).is_ok());
        let unfit = read(&schema(), &answer(text, Finish::Length)).unwrap_err();
        assert!(unfit.cut && unfit.told().contains("cap"));
    }

    #[test]
    fn a_repair_turn_tells_the_model_what_is_wrong() {
        let plain = Prompt { messages: vec![Message::user("Tag this.")], ..Prompt::default() };
        let unfit = read(&schema(), &answer("{\"tags\":[1]}", Finish::Stop)).unwrap_err();
        let prompt = repairing(&plain, &unfit);
        assert_eq!(prompt.messages.len(), 3);
        assert_eq!(prompt.messages[1].role, Role::Assistant);
        assert_eq!(prompt.messages[1].content.text(), "{\"tags\":[1]}");
        assert!(prompt.messages[2].content.text().contains("#/tags/0: 1 is not of type"));
        assert!(prompt.estimated_input_tokens() > plain.estimated_input_tokens());
    }
}
