//! What drains the queue: one turn of it, into a sink.

use std::cell::RefCell;
use std::io::{self, IoSlice};

use super::{Fifo, Front};
use crate::error::Close;
use crate::output::producers::More;
use crate::user_code;

/// How many producers and hooks one turn calls. They are the user's code, and no count of bytes
/// bounds what they cost: 65,536 hooks that queue each other took 69 ms.
const CALLS: usize = 64;

/// A chunk of fewer bytes than this is short, if more was asked for. A producer that answers twice in
/// a row with a short chunk is not asked again in this turn. One short chunk alone is often the last.
const SHORT: usize = 512;

/// Drains the queue into the sink: at most `budget` bytes, and not past what blocks. It asks
/// producers and calls hooks at most 64 times, and asks no more after an empty chunk or two short ones.
///
/// # Errors
/// When the sink or a producer fails.
pub fn pump(
    fifo: &RefCell<Fifo>,
    sink: &mut impl Sink,
    mut budget: usize,
) -> Result<Pumped, PumpError> {
    let mut calls = CALLS;
    let mut was_short = false;
    loop {
        if budget == 0 {
            return Ok(Pumped::Spent);
        }
        // User code may have closed the channel.
        if !sink.is_open() {
            return Ok(Pumped::Drained);
        }
        let front = fifo.borrow_mut().front(budget, calls > 0);
        match front {
            Front::Send => {
                let outcome = fifo.borrow().send_front(sink, budget);
                match outcome {
                    Ok((sent, offered)) => {
                        let spent = fifo.borrow_mut().advance(sent);
                        user_code::drop_each(spent);
                        budget -= sent;
                        // A short write means a full buffer: trying again only costs a call.
                        if sent < offered || offered == 0 {
                            return Ok(Pumped::Blocked);
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        return Ok(Pumped::Blocked);
                    }
                    Err(error) => return Err(PumpError::Sink(error)),
                }
            }
            Front::Ask(producer, wanted) => {
                calls -= 1;
                // If it panics, its destructor may do so too.
                let (producer, answer) =
                    user_code::with(producer, |producer| match producer.more(wanted) {
                        // What a source that does not block says when it has nothing for now.
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            Ok(More::Pending)
                        }
                        answer => answer,
                    });
                let more = match answer {
                    Ok(more) => more,
                    Err(error) => {
                        fifo.borrow_mut().give_up();
                        user_code::discard(producer);
                        return Err(PumpError::Producer(error));
                    }
                };
                let is_short =
                    matches!(&more, More::Chunk(chunk) if chunk.len() < wanted.min(SHORT));
                let is_empty = matches!(&more, More::Chunk(chunk) if chunk.is_empty());
                if is_empty || (is_short && was_short) {
                    calls = 0;
                }
                was_short = is_short;
                let spent = fifo.borrow_mut().answer(producer, more);
                spent.drop_each();
            }
            Front::Run(hook) => {
                calls -= 1;
                hook();
            }
            Front::NoCalls => return Ok(Pumped::Spent),
            Front::ShutdownWrite => sink.shutdown_write().map_err(PumpError::Sink)?,
            Front::Close(why) => return Ok(Pumped::Closed(why)),
            Front::Parked => return Ok(Pumped::Parked),
            Front::Drained => return Ok(Pumped::Drained),
        }
    }
}

/// Where the bytes go.
pub trait Sink {
    /// Hands over as much as is taken at once.
    ///
    /// # Errors
    /// `WouldBlock` when that is nothing; any other ends the sink.
    fn send(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize>;
    /// Ends the sending side.
    ///
    /// # Errors
    /// As `send`.
    fn shutdown_write(&mut self) -> io::Result<()>;
    /// Whether it still takes anything: user code may have closed it between two sends.
    fn is_open(&self) -> bool;
}

/// Why [`pump`] came back.
#[derive(Debug)]
pub enum Pumped {
    /// Nothing is left.
    Drained,
    /// The sink takes no more for now.
    Blocked,
    /// The budget of bytes or of calls is used up, and something may be left.
    Spent,
    /// A producer has nothing for now.
    Parked,
    /// The queued close has been reached.
    Closed(Close),
}

/// What stopped [`pump`] for good.
#[derive(Debug)]
pub enum PumpError {
    /// The sink failed.
    Sink(io::Error),
    /// A producer failed.
    Producer(io::Error),
}
