//! The bytes of a stream taken apart into its messages: server-sent events, or lines of JSON.
//!
//! The libraries for server-sent events give the fields of a message and not its bytes, which are
//! needed to pass it on as it came; so the framing is our own.

use bytes::{Buf, Bytes, BytesMut};

/// How the messages of a stream stand apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Server-sent events: blank lines between them.
    Events,
    /// A JSON document a line.
    Lines,
}

/// One message of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::provider) struct Frame {
    /// The event's name; empty when it has none.
    pub name: String,
    /// What it says.
    pub data: Bytes,
    /// As it came, with the end of line or the blank line behind it.
    pub raw: Bytes,
    /// The stream was over before it was: what it says may be cut.
    pub is_last: bool,
}

/// Takes a stream apart, however its bytes are cut.
#[derive(Debug)]
pub(super) struct Framer {
    kind: Kind,
    /// What is not taken yet: begins with a message.
    buffer: BytesMut,
    /// Where the line begins that was not read to its end yet.
    line: usize,
    /// How much of that line was looked at.
    seen: usize,
}

impl Framer {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, buffer: BytesMut::new(), line: 0, seen: 0 }
    }

    /// More of the stream.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// How much waits for the rest of its message.
    pub(super) fn waiting(&self) -> usize {
        self.buffer.len()
    }

    /// The next message that is whole.
    pub(super) fn next(&mut self) -> Option<Frame> {
        loop {
            let (length, ends) = self.line_end()?;
            let blank = length == 0;
            self.line += length + ends;
            self.seen = 0;
            if (self.kind == Kind::Lines) || blank {
                let frame = self.take(false);
                if frame.is_some() {
                    return frame;
                }
            }
        }
    }

    /// What is left when the stream is over. Some servers end without the last blank line.
    pub(super) fn last(&mut self) -> Option<Frame> {
        self.line = self.buffer.len();
        self.take(true)
    }

    /// The length of the line under way and of its end, once that is there.
    fn line_end(&mut self) -> Option<(usize, usize)> {
        let line = self.buffer.get(self.line..)?;
        let rest = line.get(self.seen..)?;
        let Some(at) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
            self.seen = line.len();
            return None;
        };
        let length = self.seen + at;
        self.seen = length;
        match (line.get(length), line.get(length + 1)) {
            (Some(b'\n'), _) => Some((length, 1)),
            // Whether a line feed follows is not known yet.
            (_, None) => None,
            (_, Some(b'\n')) => Some((length, 2)),
            (_, Some(_)) => Some((length, 1)),
        }
    }

    /// Takes what has been read out of the buffer; `None` for what says nothing, such as comments.
    fn take(&mut self, is_last: bool) -> Option<Frame> {
        let mut raw = self.buffer.split_to(self.line).freeze();
        (self.line, self.seen) = (0, 0);
        if raw.starts_with(b"\xEF\xBB\xBF") {
            raw.advance(3);
        }
        let (name, data) = match self.kind {
            Kind::Events => fields(&raw),
            Kind::Lines => (String::new(), raw.slice_ref(raw.trim_ascii())),
        };
        if is_last && self.kind == Kind::Events {
            raw = [raw.trim_ascii_end(), b"\n\n"].concat().into();
        }
        (!data.is_empty()).then_some(Frame { name, data, raw, is_last })
    }
}

/// The name and the data of an event.
fn fields(raw: &Bytes) -> (String, Bytes) {
    let (mut name, mut data) = (String::new(), Bytes::new());
    for line in raw.split(|byte| matches!(byte, b'\n' | b'\r')) {
        let (field, value) = match line.iter().position(|byte| *byte == b':') {
            Some(at) => (line.get(..at), line.get(at + 1..)),
            None => (Some(line), None),
        };
        let value = value.unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            Some(b"event") => name = String::from_utf8_lossy(value).into_owned(),
            Some(b"data") if data.is_empty() => data = raw.slice_ref(value),
            Some(b"data") => data = [&data, b"\n".as_slice(), value].concat().into(),
            _ => {}
        }
    }
    (name, data.slice_ref(data.trim_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STREAM: &str = "\u{feff}: hello\n\nevent: a\r\ndata: 1 \r\n\r\ndata:{\"x\":\ndata: 2}\n\n\n\
                          : PROCESSING\n\nid: 7\nretry: 10\n\nevent: ping\n\ndata\n\n\
                          event: b\rdata: 3\r\rstrange: 4\ndata: [DONE]";

    /// The messages of a stream that comes in these pieces.
    fn taken(kind: Kind, pieces: &[&[u8]]) -> Vec<(String, String, String)> {
        let (mut framer, mut messages) = (Framer::new(kind), Vec::new());
        for piece in pieces {
            framer.push(piece);
            messages.extend(std::iter::from_fn(|| framer.next()));
        }
        messages.extend(framer.last());
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        messages.into_iter().map(|m| (m.name, text(&m.data), text(&m.raw))).collect()
    }

    #[test]
    fn events_stand_between_blank_lines() {
        let frames = taken(Kind::Events, &[STREAM.as_bytes()]);
        let of =
            |name: &str, data: &str, raw: &str| (name.to_owned(), data.to_owned(), raw.to_owned());
        assert_eq!(
            frames,
            [
                of("a", "1", "event: a\r\ndata: 1 \r\n\r\n"),
                of("", "{\"x\":\n2}", "data:{\"x\":\ndata: 2}\n\n"),
                of("b", "3", "event: b\rdata: 3\r\r"),
                of("", "[DONE]", "strange: 4\ndata: [DONE]\n\n"),
            ]
        );
    }

    #[test]
    fn lines_stand_alone() {
        let lines = taken(Kind::Lines, &[b"{\"a\":1}\n\r\n {\"b\":2} \r\n{\"c\":3}"]);
        let data: Vec<&str> = lines.iter().map(|(_, data, _)| data.as_str()).collect();
        assert_eq!(data, ["{\"a\":1}", "{\"b\":2}", "{\"c\":3}"]);
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_the_bytes_are_cut(
            cuts in proptest::collection::vec(0..STREAM.len(), 0..8),
        ) {
            let mut cuts = cuts;
            cuts.extend([0, STREAM.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts
                .windows(2)
                .map(|pair| &STREAM.as_bytes()[pair[0]..pair[1]])
                .collect();
            for kind in [Kind::Events, Kind::Lines] {
                prop_assert_eq!(taken(kind, &pieces), taken(kind, &[STREAM.as_bytes()]));
            }
        }
    }
}
