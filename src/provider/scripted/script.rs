//! The parts of a streamed answer, before it is known when each of them comes.

/// A stream's parts.
pub(super) struct Script<T> {
    /// What comes while the answer is waited for.
    pub(super) early: Vec<T>,
    /// The answer, token by token.
    pub(super) tokens: Vec<T>,
    /// What ends it.
    pub(super) tail: Vec<T>,
}

impl<T> Script<T> {
    /// The same parts in another form, taken in order.
    pub(super) fn map<U>(self, mut form: impl FnMut(T) -> U) -> Script<U> {
        let mut all = |parts: Vec<T>| parts.into_iter().map(&mut form).collect();
        Script { early: all(self.early), tokens: all(self.tokens), tail: all(self.tail) }
    }

    /// Without the parts that say nothing.
    pub(super) fn spoken(mut self, says: impl Fn(&T) -> bool) -> Self {
        self.early.retain(&says);
        self.tokens.retain(&says);
        self.tail.retain(&says);
        self
    }

    /// Only the first half of the answer.
    pub(super) fn halved(mut self) -> Self {
        self.tokens.truncate(self.tokens.len().div_ceil(2));
        self.tail.clear();
        self
    }

    /// Nothing of the answer.
    pub(super) fn unsaid(mut self) -> Self {
        self.tokens.clear();
        self.tail.clear();
        self
    }

    /// With this at its end.
    pub(super) fn with(mut self, last: T) -> Self {
        self.tail.push(last);
        self
    }
}
