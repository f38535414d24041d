//! Drains the queue into a sink, for one turn.

use std::cell::RefCell;
use std::io::{self, IoSlice};

use super::Fifo;
use super::drain::{PumpStep, Used};
use crate::error::Close;
use crate::output::producers::{More, Producer};
use crate::user_code;

/// How many producers and hooks one turn calls. They are user code, and no count of bytes bounds what
/// they cost: 65,536 hooks that queued each other took 69 ms.
const CALLS: usize = 64;

/// A chunk of fewer bytes is short, if more was asked for.
const SHORT: usize = 512;

/// Sends at most `budget` bytes of the queue, or up to a sixteenth more if that empties it, and stops when the sink
/// would block. In one turn it calls at most 64 producers and hooks, and none after an empty chunk or two short ones in
/// a row.
///
/// # Errors
/// When the sink or a producer fails.
#[inline(never)] // The turn of each type of session calls it.
pub fn pump(
    fifo: &RefCell<Fifo>,
    sink: &mut impl Sink,
    mut budget: usize,
) -> Result<Pumped, PumpError> {
    let mut calls = Calls::new();
    // User code, or the caller's, may have closed the sink.
    while budget > 0 && sink.is_open() {
        let step = fifo.borrow_mut().step(sink, budget, calls.left > 0);
        match step {
            Ok(None) => {
                let mut used = Used::None;
                let sent = match fifo.borrow_mut().send(sink, budget, &mut used) {
                    Ok(sent) => sent,
                    Err(error) => return blocked_or_failed(error),
                };
                budget = budget.saturating_sub(sent.bytes);
                used.drop_each();
                // The sink is full: another write would only cost a system call.
                if sent.is_short {
                    return Ok(Pumped::Blocked);
                }
                if sent.is_last {
                    return Ok(Pumped::Drained);
                }
            }
            Ok(Some(PumpStep::Ask(producer, wanted))) => {
                let (producer, answer) = ask(producer, wanted);
                let more = match answer {
                    Ok(more) => more,
                    Err(error) => {
                        fifo.borrow_mut().cut_at_producer();
                        user_code::discard(producer);
                        return Err(PumpError::Producer(error));
                    }
                };
                calls.count_answer(&more, wanted);
                let used = fifo.borrow_mut().answer(producer, more);
                used.drop_each();
            }
            Ok(Some(PumpStep::Call(hook))) => {
                calls.left -= 1;
                hook();
            }
            Ok(Some(PumpStep::ShutdownWrite)) => sink.shutdown_write().map_err(PumpError::Sink)?,
            Ok(Some(PumpStep::StartTls)) => return Ok(Pumped::StartTls),
            Ok(Some(PumpStep::Close(why))) => return Ok(Pumped::Closed(why)),
            Ok(Some(PumpStep::Pending)) => return Ok(Pumped::Pending),
            Ok(Some(PumpStep::NoCalls)) => return Ok(Pumped::Spent),
            Ok(Some(PumpStep::Drained)) => return Ok(Pumped::Drained),
            Err(error) => return blocked_or_failed(error),
        }
    }
    Ok(match budget {
        0 => Pumped::Spent,
        _ => Pumped::Drained,
    })
}

fn blocked_or_failed(error: io::Error) -> Result<Pumped, PumpError> {
    match error.kind() {
        io::ErrorKind::WouldBlock => Ok(Pumped::Blocked),
        _ => Err(PumpError::Sink(error)),
    }
}

/// Asks a producer. If it panics, it is dropped before the panic goes on, because its destructor may
/// panic too.
fn ask(producer: Box<dyn Producer>, wanted: usize) -> (Box<dyn Producer>, io::Result<More>) {
    user_code::with(producer, |producer| match producer.more(wanted) {
        // This is how a source that does not block says that it has nothing for now.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(More::Pending),
        answer => answer,
    })
}

/// The calls of user code that are left to a turn.
struct Calls {
    left: usize,
    /// The last answer was a short chunk. One alone does not end the asking: it is often a producer's
    /// last.
    was_short: bool,
}

impl Calls {
    fn new() -> Self {
        Calls {
            left: CALLS,
            was_short: false,
        }
    }

    fn count_answer(&mut self, more: &More, wanted: usize) {
        self.left -= 1;
        let len = match more {
            More::Chunk(chunk) => Some(chunk.len()),
            More::Pending | More::Done => None,
        };
        let is_short = len.is_some_and(|len| len < wanted.min(SHORT));
        if len == Some(0) || (is_short && self.was_short) {
            self.left = 0;
        }
        self.was_short = is_short;
    }
}

/// Where the bytes go.
pub trait Sink {
    /// Takes as much of `data` as it can without blocking. Returns how many bytes.
    ///
    /// # Errors
    /// `WouldBlock` if it can take nothing now. After any other error it takes nothing more.
    fn send(&mut self, data: &[u8]) -> io::Result<usize> {
        self.send_gathered(&[IoSlice::new(data)])
    }

    /// Takes as much of these parts as it can without blocking, in their order. Returns how many bytes.
    ///
    /// # Errors
    /// As [`send`](Sink::send).
    fn send_gathered(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Whether it takes a little more than a budget in one write.
    fn takes_excess(&self) -> bool {
        true
    }

    /// Passes on what it has taken and holds. By default it holds nothing.
    ///
    /// # Errors
    /// `WouldBlock` if it still holds something. After any other error it takes nothing more.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// The output has reached its end, and `is_whole` unless bytes are missing. Otherwise as
    /// [`flush`](Sink::flush).
    ///
    /// # Errors
    /// As [`flush`](Sink::flush).
    fn finish(&mut self, is_whole: bool) -> io::Result<()> {
        let _ = is_whole;
        Ok(())
    }

    /// Ends the sending side.
    ///
    /// # Errors
    /// After any error it takes nothing more.
    fn shutdown_write(&mut self) -> io::Result<()>;

    /// Whether it still takes bytes. User code may close it between two writes.
    fn is_open(&self) -> bool;
}

/// Why [`pump`] returned.
#[derive(Debug)]
pub enum Pumped {
    /// The queue is empty, or the sink was closed.
    Drained,
    /// The sink takes no more for now.
    Blocked,
    /// The budget of bytes or of calls is spent. The queue may hold more.
    Spent,
    /// The first producer has nothing for now.
    Pending,
    /// The pump has reached the beginning of TLS.
    StartTls,
    /// The pump has reached the close.
    Closed(Close),
}

/// What ended [`pump`] for good.
#[derive(Debug)]
pub enum PumpError {
    /// The sink failed.
    Sink(io::Error),
    /// A producer failed.
    Producer(io::Error),
}
