//! What a caller says in headers: how a call is to be served, and what is passed on with it.

use std::time::Duration;

use actix_web::HttpRequest;

use super::super::State;
use super::super::problem::{Kind, Problem};
use super::asked::Asked;
use crate::domain::prompt::Dialect;
use crate::engine::live::Call;
use crate::engine::named::Named;

/// Names the conversation.
pub(super) const SESSION: &str = "Spillway-Session";
/// Names the caller's automation.
pub(super) const WORKFLOW: &str = "Spillway-Workflow";
/// The longest to wait for a turn, in seconds.
pub(super) const MAX_WAIT: &str = "Spillway-Max-Wait";
/// The most all attempts together may cost.
pub(super) const MAX_COST: &str = "Spillway-Max-Cost-Usd";

/// The longest name of a session or workflow.
const LONGEST_NAME: usize = 512;

/// Headers of the callers' dialects that are passed on. Others are about the caller's own account
/// or program.
const PASSED_ON: [&str; 3] = ["anthropic-beta", "anthropic-version", "openai-beta"];

/// How a call is to be served, by its headers. What a header says counts before what the request
/// says.
pub(super) fn call(
    state: &State,
    request: &HttpRequest,
    caller: String,
    (named, asked): (Named, Asked),
) -> Result<Call, Problem> {
    let most = state.engine.live().max_wait.0;
    let wait = number(request, MAX_WAIT)?;
    let max_wait = match wait.map(Duration::try_from_secs_f64) {
        None => most,
        Some(Ok(wait)) => wait.min(most),
        Some(Err(_too_long)) => most,
    };
    Ok(Call {
        caller,
        named,
        prompt: asked.prompt,
        max_wait,
        workflow: name(request, WORKFLOW)?,
        session: name(request, SESSION)?.or(asked.session),
        provider: asked.provider,
        max_cost_usd: most_cost(number(request, MAX_COST)?, MAX_COST)?,
        metadata: None,
        traceparent: header(request, "traceparent").filter(|text| text.len() <= 64),
    })
}

fn header(request: &HttpRequest, name: &str) -> Option<String> {
    let text = request.headers().get(name)?.to_str().ok()?.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

fn name(request: &HttpRequest, header_name: &str) -> Result<Option<String>, Problem> {
    let name = header(request, header_name);
    if name.as_ref().is_some_and(|name| name.len() > LONGEST_NAME) {
        let detail = format!("`{header_name}` may have {LONGEST_NAME} characters at the most.");
        return Err(Problem::new(Kind::InvalidRequest, detail));
    }
    Ok(name)
}

fn number(request: &HttpRequest, header_name: &str) -> Result<Option<f64>, Problem> {
    let Some(text) = header(request, header_name) else { return Ok(None) };
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
    let wrong = || format!("`{header_name}` must be a number of at least 0.");
    number.map(Some).ok_or_else(|| Problem::new(Kind::InvalidRequest, wrong()))
}

/// The most a call may cost: nothing at all is no limit that could be kept.
pub(super) fn most_cost(given: Option<f64>, name: &str) -> Result<Option<f64>, Problem> {
    if given.is_some_and(|cost| cost <= 0.0) {
        let detail = format!("`{name}` must be more than 0.");
        return Err(Problem::new(Kind::InvalidRequest, detail));
    }
    Ok(given)
}

/// The headers of a dialect that go along with the caller's own request, such as `anthropic-beta`.
pub(super) fn passed_on(request: &HttpRequest, dialect: Dialect) -> Vec<(String, String)> {
    let start = match dialect {
        Dialect::OpenAi => "openai-",
        Dialect::Anthropic => "anthropic-",
    };
    let headers = request.headers().iter().filter_map(|(name, value)| {
        let name = name.as_str();
        let wanted = name.starts_with(start) && PASSED_ON.contains(&name);
        wanted.then(|| Some((name.to_owned(), value.to_str().ok()?.to_owned())))?
    });
    headers.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    #[test]
    fn only_the_dialects_own_headers_are_passed_on() {
        let request = TestRequest::default()
            .insert_header(("anthropic-beta", "a,b"))
            .insert_header(("anthropic-version", "2023-06-01"))
            .insert_header(("x-api-key", "secret"))
            .insert_header(("openai-organization", "org"))
            .insert_header(("openai-beta", "c"))
            .to_http_request();
        let told = |dialect| passed_on(&request, dialect);
        let mut ours = told(Dialect::Anthropic);
        ours.sort();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(ours, [pair("anthropic-beta", "a,b"), pair("anthropic-version", "2023-06-01")]);
        assert_eq!(told(Dialect::OpenAi), [("openai-beta".to_owned(), "c".to_owned())]);
    }

    #[test]
    fn a_call_that_may_cost_nothing_is_refused() {
        assert!(most_cost(Some(0.0), MAX_COST).is_err());
        assert!(most_cost(Some(-1.0), MAX_COST).is_err());
        assert_eq!(most_cost(Some(0.5), MAX_COST).ok(), Some(Some(0.5)));
        assert_eq!(most_cost(None, MAX_COST).ok(), Some(None));
    }

    #[test]
    fn numbers_must_be_numbers() {
        for (text, number) in [
            ("1.5", Some(Some(1.5))),
            ("0", Some(Some(0.0))),
            ("", Some(None)),
            ("soon", None),
            ("-1", None),
            ("inf", None),
        ] {
            let request = TestRequest::default().insert_header((MAX_WAIT, text)).to_http_request();
            assert_eq!(super::number(&request, MAX_WAIT).ok(), number, "{text}");
        }
    }
}
