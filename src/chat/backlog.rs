//! Input that has been received and not parsed.

use crate::output::fifo::SLACK;

/// Input that waits: more than the turn's budget of records, or more than a session that is paused or
/// over its high-water mark can take.
#[derive(Default)]
pub(super) struct Backlog {
    data: Vec<u8>,
    /// How much of it is parsed.
    parsed: usize,
}

impl Backlog {
    pub(super) fn new(data: Vec<u8>) -> Self {
        Backlog { data, parsed: 0 }
    }

    /// What is not parsed.
    pub(super) fn unparsed(&self) -> &[u8] {
        self.data.get(self.parsed..).unwrap_or_default()
    }

    pub(super) fn len(&self) -> usize {
        self.data.len() - self.parsed
    }

    /// All but the last `left` bytes have been parsed.
    pub(super) fn parsed_down_to(&mut self, left: usize) {
        self.parsed = self.data.len().saturating_sub(left);
    }

    /// Puts bytes before those that are not parsed.
    pub(super) fn put_in_front(&mut self, bytes: &[u8]) {
        self.data.splice(..self.parsed, bytes.iter().copied());
        self.parsed = 0;
    }

    /// Frees the memory of what is parsed, because the rest may stay long.
    pub(super) fn trim(&mut self) {
        if self.parsed > SLACK {
            self.data.drain(..self.parsed);
            self.data.shrink_to_fit();
            self.parsed = 0;
        }
    }
}
