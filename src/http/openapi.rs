//! The OpenAPI document, made from the table of endpoints and the types they answer with.

use std::collections::BTreeMap;

use actix_web::HttpResponse;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::live::dialect_at;
use super::operation::Operation;
use super::problem::Kind;
use super::reader::schema;
use super::{Endpoint, endpoints, submission, subscriptions};

pub(super) fn serve_doc() -> Operation {
    Operation::new("This document", "Needs no key.").open().text(200, "OpenAPI 3.1")
}

pub(super) async fn serve() -> HttpResponse {
    HttpResponse::Ok().json(document())
}

/// Ends a piece of a path that may have slashes.
const ANY: &str = ":.+}";

/// The document.
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
    });
    let mut maker = settings.into_generator();
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for endpoint in endpoints() {
        let method = endpoint.method.as_str().to_lowercase();
        let path = endpoint.path.replace(ANY, "}");
        paths.entry(path).or_default().insert(method, operation(&endpoint, &mut maker));
    }
    let mut schemas: Map<String, Value> = maker.take_definitions(true).into_iter().collect();
    schemas.insert("Submission".to_owned(), submission::described());
    schemas.insert("Group".to_owned(), schema(include_str!("../../schemas/group.json")));
    schemas.insert("Chat".to_owned(), schema(include_str!("../../schemas/chat.json")));
    schemas.insert("Subscription".to_owned(), subscriptions::described());
    schemas.insert("Problem".to_owned(), problem());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Spillway",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Takes bursts of language-model jobs, runs them at the rate the \
                            providers bear, and posts each result to its callback.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer" },
                "apiKey": { "type": "apiKey", "in": "header", "name": "X-Api-Key" },
            },
        },
    })
}

fn operation(endpoint: &Endpoint, maker: &mut SchemaGenerator) -> Value {
    let doc = &endpoint.doc;
    let in_path = endpoint.path.split_once('{').and_then(|(_, rest)| rest.split(['}', ':']).next());
    let in_path = in_path.map(
        |name| json!({ "in": "path", "name": name, "required": true, "schema": { "type": "string" } }),
    );
    let told = doc.parameters.iter().map(|(place, name, what)| {
        json!({ "in": place, "name": name, "description": what, "schema": { "type": "string" } })
    });
    let mut answers: Map<String, Value> = doc
        .answers
        .iter()
        .map(|(status, what, make)| {
            let answer = match make {
                Some(make) => json!({
                    "description": what,
                    "content": { "application/json": { "schema": make(maker) } },
                }),
                None => json!({ "description": what }),
            };
            (status.to_string(), answer)
        })
        .collect();
    answers.insert("default".to_owned(), fault(endpoint.path));
    let mut operation = Map::new();
    let mut set = |name: &str, value: Value| operation.insert(name.to_owned(), value);
    set("operationId", json!(operation_id(endpoint)));
    set("summary", json!(doc.summary));
    set("description", json!(doc.description));
    set("parameters", json!(in_path.into_iter().chain(told).collect::<Vec<_>>()));
    set("responses", json!(answers));
    if doc.needs_key {
        set("security", json!([{ "bearer": [] }, { "apiKey": [] }]));
    }
    if let Some(body) = doc.body {
        set("requestBody", request_body(body));
    }
    if let Some(what) = doc.dialect {
        let schema = json!({ "type": "object", "description": what });
        let content = json!({ "application/json": { "schema": schema } });
        set("requestBody", json!({ "required": true, "content": content }));
    }
    Value::Object(operation)
}

/// How errors at a path look.
fn fault(path: &str) -> Value {
    if dialect_at(path).is_some() {
        return json!({
            "description": "An error, in the dialect's own form",
            "content": { "application/json": { "schema": { "type": "object" } } },
        });
    }
    let problem = json!({ "$ref": "#/components/schemas/Problem" });
    json!({
        "description": "A problem (RFC 9457)",
        "content": { "application/problem+json": { "schema": problem } },
    })
}

fn request_body(schema: &str) -> Value {
    let name = match schema {
        "group" => "Group",
        "chat" => "Chat",
        "subscription" => "Subscription",
        _ => "Submission",
    };
    let schema = json!({ "$ref": format!("#/components/schemas/{name}") });
    if name == "Chat" {
        return json!({ "required": true, "content": { "application/json": { "schema": schema } } });
    }
    json!({
        "required": true,
        "content": {
            "application/json": { "schema": schema },
            "application/x-www-form-urlencoded": { "schema": schema },
            "multipart/form-data": { "schema": schema },
        },
    })
}

fn operation_id(endpoint: &Endpoint) -> String {
    let path = endpoint.path.replace(ANY, "}");
    let path: Vec<&str> = path
        .split(['/', '{', '}', '.'])
        .filter(|piece| !piece.is_empty() && *piece != "v1")
        .collect();
    format!("{}_{}", endpoint.method.as_str().to_lowercase(), path.join("_"))
}

/// Every problem a caller can get, by its stable code.
fn problem() -> Value {
    let rows: Vec<_> = Kind::ALL.iter().map(|kind| kind.row()).collect();
    let codes: Vec<&str> = rows.iter().map(|(_, code, _)| *code).collect();
    let told: Vec<String> = rows
        .iter()
        .map(|(status, code, title)| format!("- `{code}` ({}): {title}", status.as_u16()))
        .collect();
    json!({
        "type": "object",
        "description": format!("What went wrong. Codes are stable:\n{}", told.join("\n")),
        "required": ["type", "title", "status", "code", "detail"],
        "properties": {
            "type": { "type": "string" },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "code": { "type": "string", "enum": codes },
            "detail": { "type": "string", "description": "What to do, for a person." },
            "errors": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["pointer", "detail"],
                    "properties": {
                        "pointer": { "type": "string", "description": "JSON Pointer of the place." },
                        "detail": { "type": "string" },
                    },
                },
            },
        },
    })
}
