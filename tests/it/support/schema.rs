//! Every result a test sees is held to its schema.

use std::sync::LazyLock;

use serde_json::Value;
use spillway::domain::schema::Schema;

fn compiled(text: &str) -> Schema {
    Schema::compile(serde_json::from_str(text).unwrap()).unwrap()
}

/// A result has the one shape.
pub(crate) fn check_result(result: &Value) {
    static RESULT: LazyLock<Schema> =
        LazyLock::new(|| compiled(include_str!("../../../schemas/result.json")));
    let violations = RESULT.violations(result);
    assert!(violations.is_empty(), "{violations:#?} in {result:#}");
}
