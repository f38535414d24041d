//! The output queue: from pushes to gathered writes.

use std::cell::RefCell;
use std::io::{self, IoSlice};

use asynchat::internals::{Fifo, Item, Pumped, Sink, pump};
use asynchat::{More, Producer};
use bytes::Bytes;
use divan::Bencher;
use divan::counter::BytesCount;

/// The default of `Limits`.
const HIGH_WATER: usize = 64 * 1024;

/// How many bytes one iteration queues.
const TOTAL: usize = 64 * 1024;

/// Replies of one line, each of two pushes, as in the echo example.
#[divan::bench]
fn reply_lines(bencher: Bencher<'_, '_>) {
    drain(bencher, |fifo| {
        for _ in 0..TOTAL / 32 {
            fifo.push_slice(&[b'x'; 30]);
            fifo.push_slice(b"\r\n");
        }
    });
}

/// Replies that are too large to be copied.
#[divan::bench]
fn large_bytes(bencher: Bencher<'_, '_>) {
    let reply = Bytes::from(vec![b'x'; TOTAL / 8]);
    drain(bencher, |fifo| {
        for _ in 0..8 {
            fifo.push_bytes(&reply);
        }
    });
}

/// A producer with chunks of this size. Small chunks are copied together, large ones are not.
#[divan::bench(args = [64, 1024, 16 * 1024])]
fn producer(bencher: Bencher<'_, '_>, chunk: usize) {
    let chunk = Bytes::from(vec![b'x'; chunk]);
    drain(bencher, |fifo| {
        let producer = Repeated {
            left: TOTAL / chunk.len(),
            chunk: chunk.clone(),
        };
        fifo.push(Item::Producer(Box::new(producer)));
    });
}

/// Many producers of one chunk each, with status lines between them, like replies to pipelined requests for
/// articles.
#[divan::bench]
fn lines_and_producers(bencher: Bencher<'_, '_>) {
    let chunk = Bytes::from(vec![b'x'; 2048 - 32]);
    drain(bencher, |fifo| {
        for _ in 0..TOTAL / 2048 {
            fifo.push_slice(&[b'x'; 32]);
            let producer = Repeated {
                left: 1,
                chunk: chunk.clone(),
            };
            fifo.push(Item::Producer(Box::new(producer)));
        }
    });
}

/// A producer that repeats one chunk.
struct Repeated {
    left: usize,
    chunk: Bytes,
}

impl Producer for Repeated {
    fn more(&mut self, _: usize) -> io::Result<More> {
        if self.left == 0 {
            return Ok(More::Done);
        }
        self.left -= 1;
        Ok(More::Chunk(self.chunk.clone()))
    }
}

/// Times filling the queue with `TOTAL` bytes and draining it.
fn drain(bencher: Bencher<'_, '_>, fill: impl Fn(&mut Fifo)) {
    let fifo = RefCell::new(Fifo::new(HIGH_WATER));
    bencher.counter(BytesCount::new(TOTAL)).bench_local(|| {
        fill(&mut fifo.borrow_mut());
        let mut sink = Discard(0);
        // `pump` also has a budget of producer calls, so it may return before the queue is empty.
        let mut outcome = pump(&fifo, &mut sink, 2 * TOTAL);
        while matches!(outcome, Ok(Pumped::Spent)) {
            outcome = pump(&fifo, &mut sink, 2 * TOTAL);
        }
        assert!(matches!(outcome, Ok(Pumped::Drained)) && sink.0 == TOTAL);
    });
}

/// A socket that accepts everything. It counts the bytes.
struct Discard(usize);

impl Sink for Discard {
    fn send_gathered(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let sent = divan::black_box(parts).iter().map(|part| part.len()).sum();
        self.0 += sent;
        Ok(sent)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn is_open(&self) -> bool {
        true
    }
}
