//! Which keys have changed, for clients that keep copies of values.

use super::text::Text;

/// The keys that have changed since the last look.
#[derive(Default)]
pub struct Touched {
    pub keys: Vec<Text>,
    /// Those whose time was over. The client that has found that has not changed them.
    pub expired: Vec<Text>,
    /// All keys were removed.
    pub all: bool,
}

impl Touched {
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.expired.is_empty() && !self.all
    }

    /// A command may change one key many times, one after another.
    pub fn add(&mut self, key: &[u8]) {
        if self.keys.last().is_none_or(|last| last.as_bytes() != key) {
            self.keys.push(key.into());
        }
    }

    /// The key that was added last is over.
    pub fn note_expired(&mut self) {
        self.expired.extend(self.keys.pop());
    }

    pub fn append(&mut self, mut other: Touched) {
        self.keys.append(&mut other.keys);
        self.expired.append(&mut other.expired);
        self.all |= other.all;
    }
}
