//! The random numbers of a run, all derived from its seed.

use std::cell::Cell;

/// splitmix64.
pub(crate) struct Rng(Cell<u64>);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Rng(Cell::new(seed ^ 0x5eed))
    }

    pub(crate) fn next(&self) -> u64 {
        self.0.set(self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        let mut z = self.0.get();
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// True once in `times`.
    pub(crate) fn one_in(&self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn pick<'a, T>(&self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len()))
    }

    /// Bytes with frequent lines, dots, carriage returns and terminators.
    pub(crate) fn input(&self) -> Vec<u8> {
        const PARTS: [&[u8]; 12] = [
            b"a",
            b"bc",
            b"\r\n",
            b"\r\n",
            b"\r",
            b"\n",
            b".",
            b"\r\n.\r\n",
            b"abab",
            b"ab",
            b"..",
            b"\r\n\r\n",
        ];
        let mut data = Vec::new();
        for _ in 0..self.below(12) + 1 {
            if self.one_in(12) {
                // Sometimes longer than the record limit or the budget of a turn.
                let length = self.below(if self.one_in(8) { 6000 } else { 60 });
                data.extend(std::iter::repeat_n(b'x', length));
            }
            data.extend_from_slice(self.pick(&PARTS).copied().unwrap_or(b""));
        }
        data
    }

    /// Bytes to send. All runs of them differ, so that none can be mistaken for another.
    pub(crate) fn output(&self) -> Vec<u8> {
        let length = match self.below(20) {
            0 => self.below(20_000),
            1..4 => self.below(4_000) + 3_000,
            _ => self.below(40),
        };
        let mut data = Vec::with_capacity(length + 8);
        while data.len() < length {
            data.extend_from_slice(&self.next().to_le_bytes());
        }
        data.truncate(length);
        data
    }
}
