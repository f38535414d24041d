//! The output queue against a model: whatever is queued, by whomever, and however little the sink takes
//! at a time, the same comes out in the same order.
//!
//! `random.rs` runs this with acts made by proptest, and the fuzzer with acts decoded from bytes.

// Public in the fuzzers' package, where this is a module of the library.
#![allow(unreachable_pub)]

mod act;
mod harness;
mod naive;
mod user_code;

use std::io::{self, ErrorKind, IoSlice};
use std::rc::Rc;

use asynchat::internals::{PumpError, Pumped, Sink, pump};

pub use act::{Act, Answer, Reply, Takes};
use harness::Harness;
use naive::Entry;

const MAX_TURNS: usize = 100_000;

/// Does these acts with a queue, and then lets it drain. The sink takes what `takes` says, over and over.
pub fn check(high_water: usize, takes: Vec<Takes>, acts: &[Act]) {
    let harness = Harness::new(high_water);
    let mut sink = Socket {
        harness: Rc::clone(&harness),
        takes,
        writes: 0,
        was_short: false,
    };
    for act in acts {
        match act {
            Act::Pump(budget) => {
                if !pump_once(&harness, &mut sink, *budget) {
                    return harness.end();
                }
            }
            act => harness.act(act),
        }
    }
    // Each turn makes progress, because everything in the queue is finite.
    sink.takes = vec![Takes::Bytes(30_000)];
    for _ in 0..MAX_TURNS {
        if harness.model.borrow().is_empty() || !pump_once(&harness, &mut sink, 65_536) {
            return harness.end();
        }
        harness.act(&Act::Resume);
    }
    panic!("the queue does not drain");
}

/// Pumps once and checks the outcome. Returns whether the queue can still be pumped.
fn pump_once(harness: &Rc<Harness>, sink: &mut Socket, budget: usize) -> bool {
    harness.begin_turn();
    sink.was_short = false;
    let outcome = pump(&harness.fifo, sink, budget);
    if let Ok(Pumped::Closed(_)) = outcome {
        let next = harness.model.borrow_mut().entries.pop_front();
        assert_eq!(next, Some(Entry::Close));
    }
    harness.check();
    let spent = harness.spent.get();
    let excess = spent.saturating_sub(budget);
    assert!(excess <= budget / 16, "{spent} of a budget of {budget}");
    let mut model = harness.model.borrow_mut();
    let is_actionable = harness.fifo.borrow().is_actionable();
    match outcome {
        // User code has closed the sink. The queue was not touched since.
        Ok(Pumped::Drained) if !harness.open.get() => return false,
        Ok(Pumped::Drained) => {
            assert!(model.is_empty() && !is_actionable, "left: {model:?}");
        }
        Ok(Pumped::Closed(_)) => {
            assert!(model.is_empty(), "left: {model:?}");
            assert!(harness.fifo.borrow().is_closed());
            return false;
        }
        Ok(Pumped::Blocked) => assert!(sink.was_short),
        Ok(Pumped::Spent) => assert!(spent >= budget || !harness.may_call()),
        Ok(Pumped::StartTls) => panic!("none was queued"),
        Ok(Pumped::Pending) => {
            assert!(model.pending && !is_actionable);
            assert!(matches!(model.entries.front(), Some(Entry::Producer(_))));
        }
        Err(PumpError::Producer(_)) => {
            assert!(model.failed.take().is_some());
            assert!(harness.fifo.borrow().is_cut());
            return false;
        }
        Err(PumpError::Sink(error)) => {
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
            return false;
        }
    }
    assert!(model.failed.is_none(), "the error of a producer was lost");
    harness.open.get()
}

/// A sink that takes what a script says.
struct Socket {
    harness: Rc<Harness>,
    takes: Vec<Takes>,
    writes: usize,
    was_short: bool,
}

impl Sink for Socket {
    fn send_gathered(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        assert!(self.harness.open.get(), "a write to a closed sink");
        assert!(parts.iter().all(|part| !part.is_empty()), "an empty part");
        let mut offered = Vec::new();
        parts
            .iter()
            .for_each(|part| offered.extend_from_slice(part));
        assert!(!offered.is_empty(), "a write of nothing");
        let takes = match self.takes.len() {
            0 => Takes::All,
            len => self.takes[self.writes % len],
        };
        self.writes += 1;
        let taken = match takes {
            Takes::All => offered.len(),
            Takes::Bytes(n) => n.min(offered.len()),
            Takes::Nothing => {
                self.was_short = true;
                return Err(ErrorKind::WouldBlock.into());
            }
            Takes::Breaks => return Err(ErrorKind::BrokenPipe.into()),
        };
        self.was_short |= taken < offered.len();
        self.harness.spend(taken);
        self.harness.model.borrow_mut().sent(&offered, taken);
        Ok(taken)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        assert!(self.harness.open.get(), "a shutdown of a closed sink");
        let next = self.harness.model.borrow_mut().entries.pop_front();
        assert_eq!(next, Some(Entry::ShutdownWrite));
        Ok(())
    }

    fn is_open(&self) -> bool {
        self.harness.open.get()
    }
}
