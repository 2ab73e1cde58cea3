//! What a hook's settings say in Jinja: texts made of an event, and values taken out of it as they
//! are.

use minijinja::{Environment, ErrorKind, UndefinedBehavior};
use serde::Serialize;
use serde_json::{Map, Value};

/// What a template sees.
const SEEN: [&str; 3] = ["body", "headers", "query"];

/// What a template is held against before any event came.
#[derive(Serialize)]
struct Nothing {
    body: Map<String, Value>,
    headers: Map<String, Value>,
    query: Map<String, Value>,
}

/// A text with places to fill in, or a single expression, which keeps the kind of its value.
#[derive(Clone, Debug)]
pub(super) struct Template {
    source: String,
    is_expression: bool,
}

impl Template {
    /// Reads `{{ body.tags }}` as an expression and everything else as a text.
    pub(super) fn parse(source: &str) -> Result<Self, String> {
        if let Some(inner) = within_braces(source)
            && environment().compile_expression(inner).is_ok()
        {
            return Self::expression(inner);
        }
        let environment = environment();
        let template = environment.template_from_named_str("template", source).map_err(told)?;
        refuse_unknown(template.undeclared_variables(false))?;
        refuse_broken(template.render(nothing()))?;
        Ok(Self { source: source.to_owned(), is_expression: false })
    }

    /// Reads an expression, such as the condition of a hook. It may stand in braces.
    pub(super) fn expression(source: &str) -> Result<Self, String> {
        let inner = within_braces(source).unwrap_or(source).trim();
        if has_marks(inner) {
            return Err("it has braces or `%}` inside".to_owned());
        }
        let environment = environment();
        let expression = environment.compile_expression(inner).map_err(told)?;
        refuse_unknown(expression.undeclared_variables(false))?;
        refuse_broken(expression.eval(nothing()))?;
        Ok(Self { source: inner.to_owned(), is_expression: true })
    }

    /// Whether it says the same whatever comes.
    pub(super) fn fixed(&self) -> Option<&str> {
        let is_fixed =
            !self.is_expression && !self.source.contains("{{") && !self.source.contains("{%");
        is_fixed.then_some(self.source.as_str())
    }

    /// Its value; `None` where there is none.
    pub(super) fn value(&self, scene: &minijinja::Value) -> Result<Option<Value>, String> {
        let found = self.eval(scene)?;
        if found.is_undefined() || found.is_none() {
            return Ok(None);
        }
        serde_json::to_value(&found).map(Some).map_err(|fault| fault.to_string())
    }

    /// Its value as a text; `None` where there is none or an empty one.
    pub(super) fn text(&self, scene: &minijinja::Value) -> Result<Option<String>, String> {
        let found = self.eval(scene)?;
        if found.is_undefined() || found.is_none() {
            return Ok(None);
        }
        let text = found.to_string();
        let text = text.trim();
        Ok((!text.is_empty()).then(|| text.to_owned()))
    }

    /// Whether its value is one that counts as true.
    pub(super) fn holds(&self, scene: &minijinja::Value) -> Result<bool, String> {
        Ok(self.eval(scene)?.is_true())
    }

    fn eval(&self, scene: &minijinja::Value) -> Result<minijinja::Value, String> {
        let environment = environment();
        if self.is_expression {
            let expression = environment.compile_expression(&self.source).map_err(told)?;
            return expression.eval(scene).map_err(told);
        }
        let text = environment.render_str(&self.source, scene).map_err(told)?;
        Ok(minijinja::Value::from(text))
    }
}

/// A tree of literals and templates: `input`, `metadata`.
#[derive(Clone, Debug)]
pub(super) enum Tree {
    Literal(Value),
    Template(Template),
    List(Vec<Tree>),
    Table(Vec<(String, Tree)>),
}

impl Tree {
    /// Reads a tree; each fault is told with its place below `key`.
    pub(super) fn parse(key: &str, value: &Value, told: &mut dyn FnMut(String, String)) -> Self {
        match value {
            Value::String(text) => match Template::parse(text) {
                Ok(template) => Self::Template(template),
                Err(fault) => {
                    told(key.to_owned(), fault);
                    Self::Literal(Value::Null)
                }
            },
            Value::Array(items) => {
                let each = |(index, item)| Self::parse(&format!("{key}[{index}]"), item, told);
                Self::List(items.iter().enumerate().map(each).collect())
            }
            Value::Object(table) => {
                let mut entries = Vec::with_capacity(table.len());
                for (name, value) in table {
                    entries
                        .push((name.clone(), Self::parse(&format!("{key}.{name}"), value, told)));
                }
                Self::Table(entries)
            }
            literal => Self::Literal(literal.clone()),
        }
    }

    /// What it comes to; places without a value are left out.
    pub(super) fn value(&self, scene: &minijinja::Value) -> Result<Option<Value>, String> {
        match self {
            Self::Literal(value) => Ok(Some(value.clone())),
            Self::Template(template) => template.value(scene),
            Self::List(items) => {
                let values = items.iter().filter_map(|item| item.value(scene).transpose());
                values.collect::<Result<Vec<Value>, _>>().map(|values| Some(Value::Array(values)))
            }
            Self::Table(entries) => {
                let mut table = Map::new();
                for (name, item) in entries {
                    if let Some(value) = item.value(scene)? {
                        table.insert(name.clone(), value);
                    }
                }
                Ok(Some(Value::Object(table)))
            }
        }
    }
}

/// The one expression a text consists of.
fn within_braces(source: &str) -> Option<&str> {
    let inner = source.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    let inner = inner.trim_matches('-').trim();
    (!has_marks(inner)).then_some(inner)
}

/// Where one expression ends and another may begin: minijinja's parser of single ones must not see it.
fn has_marks(text: &str) -> bool {
    ["{{", "}}", "{%", "%}"].iter().any(|mark| text.contains(mark))
}

/// Senders leave out what they have not: that is no fault.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment
}

fn nothing() -> Nothing {
    Nothing { body: Map::new(), headers: Map::new(), query: Map::new() }
}

fn refuse_unknown(names: impl IntoIterator<Item = String>) -> Result<(), String> {
    let environment = environment();
    let known = |name: &String| {
        SEEN.contains(&name.as_str()) || environment.globals().any(|(global, _)| global == name)
    };
    let mut unknown: Vec<String> = names.into_iter().filter(|name| !known(name)).collect();
    unknown.sort();
    match unknown.first() {
        Some(name) => {
            Err(format!("`{name}` is not known here: it may use `body`, `headers` and `query`"))
        }
        None => Ok(()),
    }
}

/// A filter, test or function nobody has shows only when it is used.
fn refuse_broken<T>(tried: Result<T, minijinja::Error>) -> Result<(), String> {
    use ErrorKind::{UnknownFilter, UnknownFunction, UnknownMethod, UnknownTest};
    match tried {
        Err(fault)
            if matches!(
                fault.kind(),
                UnknownFilter | UnknownFunction | UnknownMethod | UnknownTest
            ) =>
        {
            Err(told(fault))
        }
        _ => Ok(()),
    }
}

/// A fault with its line, without the file's name that nobody knows.
#[expect(clippy::needless_pass_by_value, reason = "it is handed to `map_err`")]
fn told(fault: minijinja::Error) -> String {
    let what = fault.detail().map_or_else(|| fault.kind().to_string(), str::to_owned);
    let line = fault.line().filter(|line| *line > 1).map(|line| format!(", line {line}"));
    format!("{what}{}", line.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn scene() -> minijinja::Value {
        minijinja::Value::from_serialize(json!({
            "body": { "n": 5, "list": [1, "b"], "o": { "x": null }, "t": "a b" },
            "headers": { "x-a": "1" }, "query": {},
        }))
    }

    #[test]
    fn an_expression_keeps_its_kind_and_what_is_not_there_is_absent() {
        let value = |source: &str| Template::parse(source).unwrap().value(&scene()).unwrap();
        assert_eq!(value("{{ body.n }}"), Some(json!(5)));
        assert_eq!(value("{{ body.list }}"), Some(json!([1, "b"])));
        assert_eq!(value("{{ body.n }} of {{ body.m.q }}"), Some(json!("5 of ")));
        assert_eq!(value("{{ body.gone.deep }}"), None);
        assert_eq!(value("{{ body.o.x }}"), None);
        assert_eq!(value("{{ headers['x-a'] }}"), Some(json!("1")));
        assert_eq!(value("{{ body.t | urlencode }}"), Some(json!("a%20b")));
        assert_eq!(value("{{ body.n }}{{ body.n }}"), Some(json!("55")));
        assert_eq!(value("plain"), Some(json!("plain")));
        let text = |source: &str| Template::parse(source).unwrap().text(&scene()).unwrap();
        assert_eq!((text(" {{ body.gone }} "), text("{{ body.n }}")), (None, Some("5".to_owned())));
        assert!(
            Template::expression("body.n > 4 and not body.gone").unwrap().holds(&scene()).unwrap()
        );
        assert!(!Template::expression("{{ body.type == 'x' }}").unwrap().holds(&scene()).unwrap());
    }

    #[test]
    fn a_tree_leaves_out_what_is_not_there() {
        let source =
            json!({ "a": "{{ body.n }}", "b": "{{ body.gone }}", "c": [1, "{{ body.t }}"] });
        let tree = Tree::parse("input", &source, &mut |key, fault| panic!("{key}: {fault}"));
        assert_eq!(tree.value(&scene()).unwrap(), Some(json!({ "a": 5, "c": [1, "a b"] })));
    }

    #[test]
    fn faults_are_told_before_any_event_came() {
        for (source, word) in [
            ("{{ body.x", "unexpected end"),
            ("{{ bdy.x }}", "`bdy` is not known here"),
            ("{{ body.x | shout }}", "shout"),
            ("{% if body %}x", "unexpected end"),
            ("a\n{{ body.x | }} b", "line 2"),
        ] {
            let fault = Template::parse(source).unwrap_err();
            assert!(fault.contains(word), "{source}: {fault}");
        }
        for source in ["body.type = 'x'", "body.a }} and {{ body.b", "body.a %}", "", "{{ }}"] {
            assert!(Template::expression(source).is_err(), "{source}");
        }
        assert!(Template::parse("{{ range(3) }}").is_ok());
    }
}
