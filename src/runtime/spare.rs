//! A buffer that has grown already, for whoever needs one next: an idle connection keeps none.

use std::cell::Cell;

/// One that has grown beyond this is freed rather than kept for the next.
const MOST: usize = 2 * 1024 * 1024;

#[derive(Default)]
pub(crate) struct Spare(Cell<Vec<u8>>);

impl Spare {
    /// An empty buffer that has grown already, or one that has not.
    pub(crate) fn lend(&self) -> Vec<u8> {
        self.0.take()
    }

    pub(crate) fn take_back(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let kept = self.0.take();
        let better = buffer.capacity() > kept.capacity() && buffer.capacity() <= MOST;
        self.0.set(if better { buffer } else { kept });
    }
}
