//! What a caller asks to be told, out of a body's fields.

use std::sync::LazyLock;

use serde_json::Value;

use crate::domain::job::Callback;
use crate::domain::result::Status;
use crate::engine::subscriptions::Asked;
use crate::http::nested::Fields;
use crate::http::problem::Problem;
use crate::http::reader::{Form, LONGEST_NAME, Manner, Reader, schema};
use crate::subscriptions::JobFilter;

/// The longest list of names.
const LONGEST_LIST: usize = 100;

static SCHEMA: LazyLock<Value> =
    LazyLock::new(|| schema(include_str!("../../../schemas/subscription.json")));

static FORM: LazyLock<Form> = LazyLock::new(|| Form {
    fields: &["url", "name", "statuses", "tasks", "workflows", "callback"],
    aliases: &[
        ("callback_url", "url"),
        ("target_url", "url"),
        ("targetUrl", "url"),
        ("hookUrl", "url"),
        ("webhook_url", "url"),
        ("webhookUrl", "url"),
    ],
    schema: &SCHEMA,
});

/// What the fields are described as.
pub(in crate::http) fn described() -> Value {
    SCHEMA.clone()
}

/// What is asked for, and what is to be told of fields that mean nothing.
pub(super) fn asked(fields: Fields, manner: Manner) -> Result<(Asked, Vec<String>), Problem> {
    let mut reader = Reader::new(&FORM, fields, manner);
    let asked = Asked {
        name: reader.name("name"),
        callback: reader.subscriber(),
        filter: JobFilter {
            statuses: reader.statuses(),
            tasks: reader.names("tasks"),
            workflows: reader.names("workflows"),
        },
    };
    Ok((asked, reader.finish()?))
}

impl Reader {
    fn subscriber(&mut self) -> Callback {
        let url = self.text("url");
        if url.is_none() {
            self.fault("url", "is missing: where are events to be posted?".to_owned());
        }
        // A fault that is told; nothing is made of it.
        self.callback(Some(url.unwrap_or_default())).unwrap_or_else(|| Callback::to(String::new()))
    }

    fn statuses(&mut self) -> Vec<Status> {
        let final_ones = || Status::ALL.into_iter().filter(|status| status.is_final());
        let (mut statuses, mut wrong) = (Vec::new(), false);
        for name in self.names("statuses") {
            match final_ones().find(|status| status.as_str() == name.to_lowercase()) {
                Some(status) if !statuses.contains(&status) => statuses.push(status),
                Some(_) => {}
                None => wrong = true,
            }
        }
        if wrong {
            let names: Vec<&str> = final_ones().map(Status::as_str).collect();
            self.fault("statuses", format!("is a list of {}", names.join(", ")));
        }
        statuses
    }

    fn names(&mut self, name: &str) -> Vec<String> {
        let list: Vec<String> = self.object(name).unwrap_or_default();
        if list.len() > LONGEST_LIST || list.iter().any(|one| one.chars().count() > LONGEST_NAME) {
            self.fault(name, format!("is a list of up to {LONGEST_LIST} names"));
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::job::CallbackBody;
    use crate::domain::units::Span;
    use crate::http::reader::LONGEST_NAME;

    const STRICT: Manner = Manner { strict: true, is_form: false };

    fn read(text: &str) -> Result<(Asked, Vec<String>), Problem> {
        asked(serde_json::from_str(text).unwrap(), Manner::default())
    }

    #[test]
    fn values_are_taken_as_platforms_write_them() {
        let (asked, warnings) = read(
            r#"{"url":"https://a.example/x?y=1","name":"","statuses":"[\"failed\",\"Expired\"]",
                "tasks":"tag, plan","workflows":[17,"w"],"events":["job"],
                "callback":"{\"body\":\"bare\",\"min_delay\":\"250ms\"}"}"#,
        )
        .unwrap();
        assert_eq!(asked.callback.url, "https://a.example/x?y=1");
        assert!(asked.callback.body == CallbackBody::Bare && asked.name.is_none());
        assert_eq!(asked.callback.min_delay, Some(Span::millis(250)));
        assert_eq!(asked.filter.statuses, [Status::Failed, Status::Expired]);
        assert_eq!(asked.filter.tasks, ["tag", "plan"]);
        assert_eq!(asked.filter.workflows, ["17", "w"]);
        assert_eq!(warnings, ["`events` is not known and was ignored"]);
    }

    #[test]
    fn every_fault_is_told_at_once() {
        let long = "x".repeat(LONGEST_NAME + 1);
        let problem = read(&format!(
            r#"{{"name":"{long}","statuses":["running"],"tasks":{{}},"workflows":["{long}"],
                "callback":{{"success_statuses":[7]}}}}"#
        ));
        let told = format!("{:?}", problem.map(|_| ()).unwrap_err());
        for name in ["url", "name", "statuses", "tasks", "workflows", "callback"] {
            assert!(told.contains(&format!("#/{name}")), "{name}: {told}");
        }
        let strict =
            asked(serde_json::from_str(r#"{"url":"https://a.example","x":1}"#).unwrap(), STRICT);
        assert!(strict.is_err());
    }
}
