//! A producer of multi-line replies, which makes the lines while they are sent.

use std::io;
use std::rc::Rc;

use asynchat::{More, Producer};
use bytes::BytesMut;

use super::super::article::Article;

/// The budget of one call of the producer, in units of about 0.1 microseconds. So a query that finds
/// nothing in a large group returns to the loop after about 100 microseconds.
pub const CALL_BUDGET: usize = 1024;

/// A multi-line block: dot-stuffed lines and the final dot line. The block is never in memory as a
/// whole. Each call examines entries until [`CALL_BUDGET`] is spent. If that makes no line, the call
/// returns an empty chunk.
pub struct Rows<F> {
    step: F,
    ready: BytesMut,
    row: Vec<u8>,
    ended: bool,
}

impl<F: FnMut(&mut Vec<u8>) -> Option<usize>> Rows<F> {
    /// `step` examines the next entry. It appends the entry's line without the CRLF, or nothing if the
    /// entry has no line, and returns the cost. It returns `None` at the end.
    pub fn new(step: F) -> Rows<F> {
        Rows {
            step,
            ready: BytesMut::new(),
            row: Vec::new(),
            ended: false,
        }
    }

    fn next_entry(&mut self) -> usize {
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
        while !self.ended && spent < CALL_BUDGET && self.ready.len() < budget {
            spent += self.next_entry();
        }
        if self.ended && self.ready.is_empty() {
            return Ok(More::Done);
        }
        let size = budget.min(self.ready.len());
        Ok(More::Chunk(self.ready.split_to(size).freeze()))
    }
}

/// A step for [`Rows`] that writes a line for each article. `write` returns the cost of the line.
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

    /// The whole output, and the largest number of entries that one call has examined.
    fn drain(
        mut step: impl FnMut(usize, &mut Vec<u8>) -> usize,
        budget: usize,
    ) -> (Vec<u8>, usize) {
        let examined = Cell::new(0);
        let mut next = 0;
        let mut rows = Rows::new(|row: &mut Vec<u8>| {
            if next == ENTRIES {
                return None;
            }
            next += 1;
            examined.set(examined.get() + 1);
            Some(step(next, row))
        });
        let (mut all, mut most) = (Vec::new(), 0);
        while let More::Chunk(chunk) = rows.more(budget).unwrap() {
            all.extend_from_slice(&chunk);
            most = most.max(examined.take());
        }
        (all, most)
    }

    #[test]
    fn a_call_examines_a_bounded_number_of_entries_when_none_has_a_line() {
        let (all, most) = drain(|_, _| 1, 65_536);
        assert_eq!(all, b".\r\n");
        assert_eq!(most, CALL_BUDGET);
        let (all, most) = drain(|_, _| 64, 65_536);
        assert_eq!(all, b".\r\n");
        assert_eq!(most, CALL_BUDGET / 64);
    }

    #[test]
    fn a_call_examines_a_bounded_number_of_entries_when_few_have_a_line() {
        let step = |n: usize, row: &mut Vec<u8>| {
            if n.is_multiple_of(10_000) {
                row.extend_from_slice(n.to_string().as_bytes());
            }
            0
        };
        let (all, most) = drain(step, 65_536);
        assert!(all.starts_with(b"10000\r\n20000\r\n") && all.ends_with(b"\r\n100000\r\n.\r\n"));
        assert_eq!(most, CALL_BUDGET);
    }

    #[test]
    fn chunks_respect_the_budget_and_dots_are_doubled() {
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
