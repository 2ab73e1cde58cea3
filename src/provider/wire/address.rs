//! Where an account is asked, and how its key is shown.

use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::provider::settings::AccountSettings;

/// How a key is shown to a provider.
pub(in crate::provider) enum Auth {
    /// `Authorization: Bearer …`.
    Bearer,
    /// A header of the provider's own.
    Header(HeaderName),
}

impl Auth {
    pub(super) fn header(self, key: &SecretString) -> Result<(HeaderName, HeaderValue), String> {
        let key = key.expose_secret().trim();
        let (name, value) = match self {
            Self::Bearer => (AUTHORIZATION, HeaderValue::try_from(format!("Bearer {key}"))),
            Self::Header(name) => (name, HeaderValue::try_from(key)),
        };
        // The fault itself would repeat the key.
        let mut value = value.map_err(|_bad| {
            "the API key has characters that an HTTP header cannot carry".to_owned()
        })?;
        value.set_sensitive(true);
        Ok((name, value))
    }
}

/// The address up to and with the version. People copy addresses with and without it.
pub(super) fn base(account: &AccountSettings, version: &str) -> Result<String, String> {
    let given = account.base_url.as_deref().or(account.vendor.default_base_url());
    let given = given.ok_or_else(|| format!("`{}` needs a base_url", account.vendor.as_str()))?;
    let url = Url::parse(given).map_err(|fault| format!("base_url `{given}`: {fault}"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(format!("base_url `{given}` is not an http or https address"));
    }
    if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
        return Err("base_url takes no user, no query and no fragment".to_owned());
    }
    let base = given.trim_end_matches('/');
    let last = base.rsplit('/').next().unwrap_or_default();
    let mut letters = last.chars();
    let versioned =
        letters.next() == Some('v') && letters.next().is_some_and(|c| c.is_ascii_digit());
    Ok(if versioned { base.to_owned() } else { format!("{base}/{version}") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::settings::Vendor;

    fn at(vendor: Vendor, base_url: Option<&str>) -> Result<String, String> {
        let base_url = base_url.map(str::to_owned);
        let account = AccountSettings { vendor, base_url, api_key: None, api: None };
        base(&account, "v1")
    }

    #[test]
    fn an_address_may_end_in_the_version() {
        for (given, read) in [
            ("http://h", "http://h/v1"),
            ("http://h/", "http://h/v1"),
            ("http://h/v1/", "http://h/v1"),
            ("https://h/api/paas/v4", "https://h/api/paas/v4"),
            ("https://h/vault", "https://h/vault/v1"),
        ] {
            assert_eq!(at(Vendor::OpenAiCompatible, Some(given)).as_deref(), Ok(read));
        }
        let own = at(Vendor::Groq, None);
        assert_eq!(own.as_deref(), Ok("https://api.groq.com/openai/v1"));
        for bad in ["h", "ftp://h", "http://u:p@h", "http://h?x=1", "http://h#x"] {
            assert!(at(Vendor::Groq, Some(bad)).is_err(), "{bad}");
        }
        assert!(at(Vendor::OpenAiCompatible, None).is_err());
    }
}
