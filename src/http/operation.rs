//! How an endpoint is described: what the OpenAPI document is made of.

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::Value;

type MakeSchema = fn(&mut SchemaGenerator) -> Value;

/// How an endpoint is described.
pub(crate) struct Operation {
    pub(super) summary: &'static str,
    pub(super) description: &'static str,
    pub(super) parameters: Vec<(&'static str, &'static str, &'static str)>,
    pub(super) body: Option<&'static str>,
    pub(super) dialect: Option<&'static str>,
    pub(super) answers: Vec<(u16, &'static str, Option<MakeSchema>)>,
    pub(super) needs_key: bool,
}

impl Operation {
    pub(super) fn new(summary: &'static str, description: &'static str) -> Self {
        Self {
            summary,
            description,
            parameters: Vec::new(),
            body: None,
            dialect: None,
            answers: Vec::new(),
            needs_key: true,
        }
    }

    /// The body is described by this file under `schemas/`.
    pub(super) fn body(mut self, schema: &'static str) -> Self {
        self.body = Some(schema);
        self
    }

    /// The body is an object that is documented elsewhere.
    pub(super) const fn dialect(mut self, what: &'static str) -> Self {
        self.dialect = Some(what);
        self
    }

    pub(super) fn header(mut self, name: &'static str, what: &'static str) -> Self {
        self.parameters.push(("header", name, what));
        self
    }

    pub(super) fn query(mut self, name: &'static str, what: &'static str) -> Self {
        self.parameters.push(("query", name, what));
        self
    }

    pub(super) fn answer<T: JsonSchema>(mut self, status: u16, what: &'static str) -> Self {
        self.answers.push((status, what, Some(|maker| maker.subschema_for::<T>().to_value())));
        self
    }

    pub(super) fn text(mut self, status: u16, what: &'static str) -> Self {
        self.answers.push((status, what, None));
        self
    }

    /// Needs no key.
    pub(super) const fn open(mut self) -> Self {
        self.needs_key = false;
        self
    }
}
