//! What drains the queue: one turn of it, into a sink.

use std::cell::RefCell;
use std::io::{self, IoSlice};

use super::{Fifo, Front};
use crate::contain;
use crate::error::Close;
use crate::producer::More;

/// Drains the queue into the sink: at most `budget` bytes, and not past what blocks.
///
/// # Errors
/// When the sink or a producer fails.
pub fn pump(
    fifo: &RefCell<Fifo>,
    sink: &mut impl Sink,
    mut budget: usize,
) -> Result<Pumped, PumpError> {
    loop {
        if budget == 0 {
            return Ok(Pumped::Spent);
        }
        // User code may have closed the channel.
        if !sink.is_open() {
            return Ok(Pumped::Drained);
        }
        let front = fifo.borrow_mut().front(budget);
        match front {
            Front::Send => {
                let outcome = fifo.borrow().send_front(sink, budget);
                match outcome {
                    Ok((sent, offered)) => {
                        let spent = fifo.borrow_mut().advance(sent);
                        contain::drop_each(spent);
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
                // If it panics, its destructor may do so too.
                let (producer, answer) =
                    contain::with(producer, |producer| match producer.more(wanted) {
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
                        contain::discard(producer);
                        return Err(PumpError::Producer(error));
                    }
                };
                // An answer of nothing counts as a byte: a producer that gives no other must not
                // hold the loop for ever.
                match &more {
                    More::Chunk(chunk) if !chunk.is_empty() => {}
                    _ => budget -= 1,
                }
                let spent = fifo.borrow_mut().answer(producer, more);
                spent.drop_each();
            }
            // So does a hook, which may queue the next one.
            Front::Run(hook) => {
                hook();
                budget -= 1;
            }
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
    /// The budget is used up, and something may be left.
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
