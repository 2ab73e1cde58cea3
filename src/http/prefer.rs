//! What a caller prefers (RFC 7240), and how long it waits.

use std::time::Duration;

use actix_web::HttpRequest;

use super::settings::Settings;

/// What a caller prefers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Preference {
    /// Hold the request up to this long.
    pub(super) wait: Option<Duration>,
    /// Refuse what is not known.
    pub(super) strict: bool,
}

impl Preference {
    /// What a request's `Prefer` headers say. What we do not know is ignored, never an error.
    pub(super) fn of(request: &HttpRequest, settings: &Settings) -> Self {
        let values = request.headers().get_all("prefer").filter_map(|value| value.to_str().ok());
        Self::parse(values, settings.max_wait.0)
    }

    fn parse<'a>(values: impl Iterator<Item = &'a str>, longest: Duration) -> Self {
        let mut preference = Self::default();
        for item in values.flat_map(|value| value.split([',', ';'])) {
            let (name, value) = item.split_once('=').unwrap_or((item, ""));
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "wait" => {
                    let seconds = value.parse().ok().map(Duration::from_secs);
                    preference.wait = seconds.map(|time| time.min(longest));
                }
                "handling" => preference.strict = value.eq_ignore_ascii_case("strict"),
                _ => {}
            }
        }
        preference
    }

    /// The `Preference-Applied` header.
    pub(super) fn applied(self) -> Option<String> {
        let wait = self.wait.map(|time| format!("wait={}", time.as_secs()));
        let strict = self.strict.then(|| "handling=strict".to_owned());
        let all: Vec<String> = wait.into_iter().chain(strict).collect();
        (!all.is_empty()).then(|| all.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preferences_are_read_and_the_unknown_is_ignored() {
        let parse =
            |text: &'static str| Preference::parse(std::iter::once(text), Duration::from_secs(60));
        let both = parse("respond-async, wait=10; foo, handling=strict");
        assert_eq!(both, Preference { wait: Some(Duration::from_secs(10)), strict: true });
        assert_eq!(parse("wait=900").wait, Some(Duration::from_secs(60)));
        assert_eq!(parse("wait=soon, lenient"), Preference::default());
    }
}
