//! An answer in time: what comes when, and where it breaks off.

use std::collections::VecDeque;
use std::time::Duration;

use futures::{Stream, stream};

use super::model::{Call, HANG};
use super::script::Script;

/// A part, and how long it takes to come after the one before.
pub(super) struct Beat<T> {
    pub(super) pause: Duration,
    /// `None`: from here on nothing comes.
    pub(super) part: Option<T>,
    /// Whether the answer begins with it.
    pub(super) begins: bool,
}

impl<T> Script<T> {
    /// Its parts in time, at the pace of the call.
    pub(super) fn timed(self, call: &Call) -> VecDeque<Beat<T>> {
        let (mut pause, mut beats) = (Duration::ZERO, VecDeque::new());
        let early = u32::try_from(self.early.len()).unwrap_or(u32::MAX);
        let tokens = u32::try_from(self.tokens.len().saturating_sub(1)).unwrap_or(u32::MAX);
        let waiting = call.first() / early.saturating_add(1);
        let each = call.latency().saturating_sub(call.first()) / tokens.max(1);
        for part in self.early {
            beats.push_back(Beat { pause, part: Some(part), begins: false });
            pause = waiting;
        }
        let said = waiting.saturating_mul(early.saturating_sub(1));
        pause = call.first().saturating_sub(said);
        let mut begins = true;
        for part in self.tokens {
            beats.push_back(Beat { pause, part: Some(part), begins });
            (pause, begins) = (each, false);
        }
        // What comes after the last word takes no time of its own.
        let after = if begins { pause } else { Duration::ZERO };
        for (index, part) in self.tail.into_iter().enumerate() {
            let pause = if index == 0 { after } else { Duration::ZERO };
            beats.push_back(Beat { pause, part: Some(part), begins: begins && index == 0 });
        }
        beats
    }
}

/// From here on nothing comes, for as long as anybody waits.
pub(super) fn without_end<T>(mut beats: VecDeque<Beat<T>>) -> VecDeque<Beat<T>> {
    beats.push_back(Beat { pause: HANG, part: None, begins: false });
    beats
}

/// The parts one after the other, each in its time. While it is held the call is under way.
pub(super) fn play<T: Send + 'static>(
    call: Call,
    beats: VecDeque<Beat<T>>,
) -> impl Stream<Item = T> + Send + 'static {
    stream::unfold((call, beats), async |(mut call, mut beats)| {
        let beat = beats.pop_front()?;
        if !beat.pause.is_zero() {
            tokio::time::sleep(beat.pause).await;
        }
        if beat.begins {
            call.begin();
        }
        Some((beat.part?, (call, beats)))
    })
}
