//! What is said in a message: text and images.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Value, json};

/// What an image is taken to cost, in bytes of text: about 1,500 tokens, what the larger ones take
/// at OpenAI and Anthropic. Settled afterwards by what the provider reports.
pub(super) const IMAGE_BYTES: usize = 6_000;

/// Text and images, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Content(pub Vec<Part>);

/// A piece of what is said.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// What it is.
    pub piece: Piece,
    /// The caller's own mark that the prompt up to here is to be cached, as they wrote it.
    pub cache: Option<Value>,
}

/// Text or an image.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// Text.
    Text(String),
    /// An image.
    Image(Image),
}

/// An image: its data, or where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Image {
    /// Such as `image/png`; `null` for one that is only referred to.
    pub media_type: Option<String>,
    /// Its bytes in Base64; `null` for one that is only referred to.
    pub data: Option<String>,
    /// Where it is; `null` for one whose data is here.
    pub url: Option<String>,
}

impl Piece {
    /// About how large it is, in bytes of text.
    pub const fn estimated_bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Image(_) => IMAGE_BYTES,
        }
    }
}

impl Image {
    /// Reads an address, which may be a `data:` one.
    pub fn at(url: &str) -> Self {
        let inline = url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,"));
        match inline {
            Some((kind, data)) => {
                Self { media_type: Some(kind.to_owned()), data: Some(data.to_owned()), url: None }
            }
            None => Self { media_type: None, data: None, url: Some(url.to_owned()) },
        }
    }

    /// Its address: where it is, or a `data:` one.
    pub fn address(&self) -> String {
        match (&self.url, &self.data) {
            (Some(url), _) => url.clone(),
            (None, data) => format!(
                "data:{};base64,{}",
                self.media_type.as_deref().unwrap_or("image/png"),
                data.as_deref().unwrap_or_default()
            ),
        }
    }
}

impl Content {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|part| matches!(&part.piece, Piece::Text(text) if text.is_empty()))
    }

    /// The text alone.
    pub fn text(&self) -> Cow<'_, str> {
        let mut texts = self.texts();
        match (texts.next(), texts.next()) {
            (None, _) => Cow::Borrowed(""),
            (Some(only), None) => Cow::Borrowed(only),
            (Some(_), Some(_)) => Cow::Owned(self.texts().collect::<Vec<_>>().join("\n")),
        }
    }

    /// The text when it is nothing but one text without a mark: providers take that as a string.
    pub fn plain(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Part { piece: Piece::Text(text), cache: None }] => Some(text),
            _ => None,
        }
    }

    /// Each text.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match &part.piece {
            Piece::Text(text) => Some(text.as_str()),
            Piece::Image(_) => None,
        })
    }

    /// Each image.
    pub fn images(&self) -> impl Iterator<Item = &Image> {
        self.0.iter().filter_map(|part| match &part.piece {
            Piece::Image(image) => Some(image),
            Piece::Text(_) => None,
        })
    }

    /// About how large it is, in bytes of text.
    pub fn estimated_bytes(&self) -> usize {
        self.0.iter().map(|part| part.piece.estimated_bytes()).sum()
    }

    /// The same with more behind it.
    #[must_use]
    pub fn and(mut self, more: Self) -> Self {
        self.0.extend(more.0);
        self
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Self(vec![Part { piece: Piece::Text(text), cache: None }])
    }
}

impl From<&str> for Content {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl Serialize for Content {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if let Some(text) = self.plain() {
            return to.serialize_str(text);
        }
        let parts = self.0.iter().map(|part| match &part.piece {
            Piece::Text(text) => json!({ "type": "text", "text": text }),
            Piece::Image(image) => {
                json!({ "type": "image_url", "image_url": { "url": image.address() } })
            }
        });
        to.collect_seq(parts)
    }
}

/// A text, nothing, or a list of parts as OpenAI or Anthropic write them.
impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Value::deserialize(from)? {
            Value::Null => Ok(Self::default()),
            Value::String(text) => Ok(text.into()),
            Value::Array(parts) => parts
                .iter()
                .map(part)
                .collect::<Result<_, _>>()
                .map(Self)
                .map_err(de::Error::custom),
            _ => Err(de::Error::custom("content is a text or a list of parts")),
        }
    }
}

/// One part as OpenAI or Anthropic write it.
pub fn part(part: &Value) -> Result<Part, String> {
    let text = |place: &str| part.pointer(place).and_then(Value::as_str);
    let cache = part.get("cache_control").filter(|mark| !mark.is_null()).cloned();
    let kind = part.as_str().map_or_else(|| text("/type").unwrap_or_default(), |_| "text");
    let image = || {
        if let Some(url) = text("/image_url/url").or_else(|| text("/image_url")) {
            return Some(Image::at(url));
        }
        if let Some(url) = text("/source/url") {
            return Some(Image::at(url));
        }
        let (media_type, data) = (text("/source/media_type"), text("/source/data")?);
        Some(Image {
            media_type: media_type.map(str::to_owned),
            data: Some(data.to_owned()),
            url: None,
        })
    };
    let piece = match kind {
        "text" | "input_text" | "output_text" => {
            let text = part.as_str().or_else(|| text("/text"));
            Piece::Text(text.ok_or("a part of type `text` needs `text`")?.to_owned())
        }
        "image" | "image_url" | "input_image" => {
            Piece::Image(image().ok_or("a part with an image needs `image_url.url` or `source`")?)
        }
        other => return Err(format!("a part of type `{other}` is not known: text or image_url")),
    };
    Ok(Part { piece, cache })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: Value) -> Result<Content, String> {
        serde_json::from_value(value).map_err(|fault| fault.to_string())
    }

    #[test]
    fn content_is_read_in_both_ways_of_writing_it() {
        assert_eq!(read(json!("Hi")), Ok("Hi".into()));
        assert_eq!(read(json!(null)), Ok(Content::default()));
        let png = Image {
            media_type: Some("image/png".to_owned()),
            data: Some("QUJD".to_owned()),
            url: None,
        };
        for image in [
            json!({ "type": "image_url", "image_url": { "url": "data:image/png;base64,QUJD" } }),
            json!({ "type": "image",
                    "source": { "type": "base64", "media_type": "image/png", "data": "QUJD" } }),
        ] {
            let both = read(json!([{ "type": "text", "text": "See" }, image])).unwrap();
            assert_eq!((both.text().as_ref(), both.images().next()), ("See", Some(&png)));
        }
        let far =
            read(json!([{ "type": "image", "source": { "type": "url", "url": "https://a/b" } }]));
        assert_eq!(far.unwrap().images().next().unwrap().address(), "https://a/b");
        for bad in [json!(7), json!([{ "type": "image" }]), json!([{ "type": "video" }])] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_mark_is_kept_and_keeps_a_text_from_being_plain() {
        let mark = json!({ "type": "ephemeral" });
        let marked = read(json!([{ "type": "text", "text": "a", "cache_control": mark }])).unwrap();
        assert_eq!((marked.plain(), marked.0.first().unwrap().cache.as_ref()), (None, Some(&mark)));
        let written = serde_json::to_value(read(json!(["a", "b"])).unwrap()).unwrap();
        assert_eq!(written.pointer("/1/text"), Some(&json!("b")));
    }
}
