//! Replies of many lines, made while they are sent.

use std::io;
use std::rc::Rc;

use asynchat::{More, Producer};
use bytes::BytesMut;

use super::super::article::Article;

/// What one call of the producer may cost, in units of about 0.1 microseconds. A query that
/// finds nothing in a large group thus returns to the loop after some 100 microseconds.
pub const EFFORT: usize = 1024;

/// A multi-line block: dot-stuffed lines, and a line with a dot at the end. An overview of a
/// million articles is never in memory, and no call looks at more entries than [`EFFORT`]
/// allows: a call in which no line was made returns an empty chunk.
pub struct Rows<F> {
    step: F,
    ready: BytesMut,
    row: Vec<u8>,
    ended: bool,
}

impl<F: FnMut(&mut Vec<u8>) -> Option<usize>> Rows<F> {
    /// `step` looks at the next entry: it appends the entry's line, without the CRLF, or
    /// nothing when there is no line for it, and returns what that has cost. `None` is the end.
    pub fn new(step: F) -> Rows<F> {
        Rows {
            step,
            ready: BytesMut::new(),
            row: Vec::new(),
            ended: false,
        }
    }

    fn look_at_one(&mut self) -> usize {
        self.row.clear();
        let Some(cost) = (self.step)(&mut self.row) else {
            self.ended = true;
            self.ready.extend_from_slice(b".\r\n");
            return 0;
        };
        if !self.row.is_empty() {
            if self.row.starts_with(b".") {
                self.ready.extend_from_slice(b".");
            }
            self.row.extend_from_slice(b"\r\n");
            self.ready.extend_from_slice(&self.row);
        }
        cost.max(1)
    }
}

impl<F: FnMut(&mut Vec<u8>) -> Option<usize>> Producer for Rows<F> {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        let mut spent = 0;
        while !self.ended && spent < EFFORT && self.ready.len() < budget {
            spent += self.look_at_one();
        }
        if self.ended && self.ready.is_empty() {
            return Ok(More::Done);
        }
        let size = budget.min(self.ready.len());
        Ok(More::Chunk(self.ready.split_to(size).freeze()))
    }
}

/// A step for [`Rows`]: a line for each article. `write` returns what the line has cost.
pub fn of_articles(
    mut articles: impl Iterator<Item = (u64, Rc<Article>)>,
    mut write: impl FnMut(&mut Vec<u8>, u64, &Article) -> usize,
) -> impl FnMut(&mut Vec<u8>) -> Option<usize> {
    move |row| {
        let (number, article) = articles.next()?;
        Some(write(row, number, &article))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const ENTRIES: usize = 100_000;

    /// All that comes, and the most entries that one call has looked at.
    fn drain(
        mut step: impl FnMut(usize, &mut Vec<u8>) -> usize,
        budget: usize,
    ) -> (Vec<u8>, usize) {
        let looked_at = Cell::new(0);
        let mut next = 0;
        let mut rows = Rows::new(|row: &mut Vec<u8>| {
            if next == ENTRIES {
                return None;
            }
            next += 1;
            looked_at.set(looked_at.get() + 1);
            Some(step(next, row))
        });
        let (mut all, mut most) = (Vec::new(), 0);
        while let More::Chunk(chunk) = rows.more(budget).unwrap() {
            all.extend_from_slice(&chunk);
            most = most.max(looked_at.take());
        }
        (all, most)
    }

    #[test]
    fn a_call_looks_at_a_bounded_number_of_entries_when_none_has_a_line() {
        let (all, most) = drain(|_, _| 1, 65_536);
        assert_eq!(all, b".\r\n");
        assert_eq!(most, EFFORT);
        let (all, most) = drain(|_, _| 64, 65_536);
        assert_eq!(all, b".\r\n");
        assert_eq!(most, EFFORT / 64);
    }

    #[test]
    fn lines_few_and_far_between_do_not_make_a_call_longer() {
        let step = |n: usize, row: &mut Vec<u8>| {
            if n.is_multiple_of(10_000) {
                row.extend_from_slice(n.to_string().as_bytes());
            }
            0
        };
        let (all, most) = drain(step, 65_536);
        assert!(all.starts_with(b"10000\r\n20000\r\n") && all.ends_with(b"\r\n100000\r\n.\r\n"));
        assert_eq!(most, EFFORT);
    }

    #[test]
    fn the_budget_is_kept_and_dots_are_doubled() {
        let step = |_, row: &mut Vec<u8>| {
            row.extend_from_slice(b".x");
            1
        };
        let (all, most) = drain(step, 7);
        assert_eq!(
            all,
            [b"..x\r\n".repeat(ENTRIES), b".\r\n".to_vec()].concat()
        );
        assert!(most <= 2, "{most}");
    }
}
