//! JSON as models write it: in a code fence, with words around it, with trailing commas, single
//! quotes, comments, Python's words, or without its last bracket. What is read so is held to its
//! schema strictly; nothing is added to make it fit.

use jsonrepair_rs::jsonrepair;
use serde_json::{Deserializer, Value};

/// Longer texts are read as they are or not at all.
const LONGEST_MENDED: usize = 256 << 10;

/// The most documents looked for in one text.
const MOST: usize = 8;

/// What a text may be meant to say, the most literal reading first. Of an answer that was `cut` no
/// missing end is made up.
pub fn readings(text: &str, cut: bool) -> Vec<Value> {
    let whole = text.trim();
    let fenced = fenced(whole);
    let mut found: Vec<Value> = Vec::new();
    let strict = [Some(whole), fenced];
    for value in strict.into_iter().flatten().filter_map(|text| serde_json::from_str(text).ok()) {
        add(&mut found, value);
    }
    if found.is_empty() {
        let fenced = fenced.filter(|_| !cut).and_then(mended);
        for value in fenced.into_iter().chain(within(whole, cut)) {
            add(&mut found, value);
        }
    }
    found
}

fn add(found: &mut Vec<Value>, value: Value) {
    if !found.contains(&value) {
        found.push(value);
    }
}

/// The inside of the first code fence.
fn fenced(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("```")?;
    let inside = rest.split_once("```").map_or(rest, |(inside, _)| inside);
    // The opening line may name a language.
    let named = |first: &str| first.trim().chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let inside = match inside.split_once('\n') {
        Some((first, rest)) if named(first) => rest,
        _ => inside,
    };
    Some(inside.trim())
}

/// Objects and lists that stand among words, one after another: those that are JSON, then those
/// that almost are.
fn within(text: &str, cut: bool) -> Vec<Value> {
    let (mut rest, mut exact, mut almost) = (text, Vec::new(), Vec::new());
    for _ in 0..MOST {
        let Some(opening) = from_opening(rest) else { break };
        let next = if let Some((value, end)) = first_of(opening) {
            exact.push(value);
            end
        } else if cut {
            // What stands inside of an unfinished document is a part of it only.
            break;
        } else if let Some(end) = balanced(opening) {
            almost.extend(opening.get(..end).and_then(mended));
            end
        } else {
            almost.extend(closed(opening).and_then(mended).or_else(|| mended(opening)));
            break;
        };
        rest = opening.get(next..).unwrap_or_default();
    }
    exact.append(&mut almost);
    exact
}

/// Where the bracket that a text begins with is closed, words in double quotes left out.
fn balanced(text: &str) -> Option<usize> {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '{' | '[' if !quoted => depth += 1,
            '}' | ']' if !quoted => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Some(at + c.len_utf8());
                }
            }
            _ => {}
        }
    }
    None
}

/// The document a text begins with, and where that ends.
fn first_of(text: &str) -> Option<(Value, usize)> {
    let mut documents = Deserializer::from_str(text).into_iter::<Value>();
    let value = documents.next()?.ok()?;
    Some((value, documents.byte_offset()))
}

/// From the first bracket on.
fn from_opening(text: &str) -> Option<&str> {
    text.get(text.find(['{', '['])?..)
}

/// From the first bracket to the last one that may close it.
fn closed(text: &str) -> Option<&str> {
    let from = from_opening(text)?;
    let closing = if from.starts_with('{') { '}' } else { ']' };
    from.get(..=from.rfind(closing)?)
}

/// What almost is JSON. A text that does not begin like an object or a list would become one that
/// says so in quotes.
fn mended(text: &str) -> Option<Value> {
    if text.len() > LONGEST_MENDED || !text.starts_with(['{', '[']) {
        return None;
    }
    serde_json::from_str(&jsonrepair(text).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_models_write_around_and_into_json_is_read() {
        let expected = json!({ "tags": ["a"], "ok": true, "n": null });
        for text in [
            r#"{"tags":["a"],"ok":true,"n":null}"#,
            "```json\n{\"tags\":[\"a\"],\"ok\":true,\"n\":null}\n```",
            "```{\"tags\":[\"a\"],\"ok\":true,\"n\":null}```",
            "Here you go:\n```json\n{\"tags\":[\"a\"],\"ok\":true,\"n\":null}\n```\nAnything else?",
            "Sure! {\"tags\":[\"a\"],\"ok\":true,\"n\":null} Hope {this} helps.",
            r#"{"tags":["a",],"ok":true,"n":null,}"#,
            "{'tags': ['a'], 'ok': True, 'n': None}",
            "{tags: [\"a\"], ok: true, /* none */ n: null} // done",
            "{\"tags\":[\"a\"],\"ok\":true,\"n\":null",
            "\u{feff}{\"tags\":[\"a\"],\"ok\":true,\"n\":null}",
        ] {
            assert_eq!(readings(text, false).first(), Some(&expected), "{text}");
        }
    }

    #[test]
    fn of_several_documents_all_are_told() {
        let found = readings("As in [1]: {\"tags\":[]}", false);
        assert_eq!(found, [json!([1]), json!({ "tags": [] })]);
        let found = readings("For {you}, as in [1]: {'tags': []}.", false);
        assert!(found.contains(&json!({ "tags": [] })), "{found:?}");
    }

    #[test]
    fn prose_is_no_document_and_a_cut_answer_gets_no_end() {
        assert!(readings("Of course! In short: nothing.", false).is_empty());
        assert!(readings("", false).is_empty());
        assert!(readings("{\"tags\":[\"a\"", true).is_empty());
        assert!(readings("{\"tags\":[\"a\"], \"x\":", true).is_empty());
        assert_eq!(readings("{\"tags\":[\"a\"]", false), [json!({ "tags": ["a"] })]);
    }

    #[test]
    fn no_text_takes_long_or_too_deep() {
        for text in ["[".repeat(200_000), "{\"a\":".repeat(50_000), "\"'` ".repeat(100_000)] {
            drop(readings(&text, false));
        }
    }
}
