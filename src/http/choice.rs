//! The `provider` object of a request: OpenRouter's, of which not every field means something here.

use serde_json::{Map, Value};

use crate::domain::choice::{FIELDS, ProviderChoice};

/// The longest list of names, and the longest name.
const LONGEST_LIST: usize = 16;
const LONGEST_NAME: usize = 64;

/// A choice, and what of it was ignored; or what is wrong with it.
pub(super) fn read(
    mut fields: Map<String, Value>,
) -> Result<(ProviderChoice, Vec<String>), String> {
    fields.retain(|_, value| !value.is_null());
    let unknown: Vec<String> =
        fields.keys().filter(|name| !FIELDS.contains(&name.as_str())).cloned().collect();
    for name in &unknown {
        fields.shift_remove(name);
    }
    let choice: ProviderChoice =
        serde_json::from_value(Value::Object(fields)).map_err(|fault| fault.to_string())?;
    let lists = [&choice.order, &choice.only, &choice.ignore];
    let long = |list: &&Vec<String>| {
        list.len() > LONGEST_LIST || list.iter().any(|name| name.len() > LONGEST_NAME)
    };
    if lists.iter().any(long) {
        return Err(format!("may name {LONGEST_LIST} providers in a list at the most"));
    }
    let told = unknown.iter().take(LONGEST_LIST).map(|name| {
        let shown: String = name.chars().take(LONGEST_NAME).collect();
        format!("`provider.{shown}` is not known and was ignored")
    });
    Ok((choice, told.collect()))
}

/// What is told of names that nobody here has.
pub(super) fn unknown(names: Vec<String>) -> impl Iterator<Item = String> {
    names.into_iter().map(|name| {
        format!("`provider` names `{name}`, which is no provider and no account of the settings")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(value: &Value) -> Result<(ProviderChoice, Vec<String>), String> {
        read(value.as_object().unwrap().clone())
    }

    #[test]
    fn what_means_nothing_here_is_told_and_the_rest_counts() {
        let body =
            json!({ "only": ["groq"], "order": null, "data_collection": "deny", "zdr": true });
        let (choice, warnings) = told(&body).unwrap();
        assert_eq!((choice.only, choice.order.len()), (vec!["groq".to_owned()], 0));
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(told(&json!({ "order": "groq" })).is_err());
        assert!(told(&json!({ "only": vec!["a"; 17] })).is_err());
    }
}
